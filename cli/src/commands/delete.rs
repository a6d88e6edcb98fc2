//! `quorate delete`: a node, or a whole subtree in one transaction.

use clap::Args;
use quorate_proto::v1;

use crate::api::{Api, Call};
use crate::context::Context;
use crate::failure::Outcome;
use crate::output::json::DoneJson;

/// Delete a node.
#[derive(Args, Debug)]
pub struct DeleteArguments {
    /// The node.
    path: String,
    /// Only if the node has this version; -1 is any.
    #[arg(long, allow_negative_numbers = true, value_parser = clap::value_parser!(i32).range(-1..))]
    version: Option<i32>,
    /// With everything below it, in one transaction.
    #[arg(short, long)]
    recursive: bool,
    /// Refuse to delete more nodes than this; 0 is the cluster's own limit of 10000.
    #[arg(long, requires = "recursive", default_value_t = 0)]
    limit: u32,
}

pub async fn run(arguments: DeleteArguments, context: &mut Context) -> Outcome {
    let DeleteArguments { path, version, recursive, limit } = arguments;
    let request = v1::DeleteRequest {
        path: path.clone(),
        version,
        recursive,
        limit,
        request_id: Api::request_id()?,
        credentials: context.api.credentials(),
    };
    let answer = context
        .api
        .znodes(Call::NamedWrite, &path, async |client| client.delete(request.clone()).await)
        .await?
        .into_inner();
    context.api.saw(answer.zxid);
    let document = DoneJson { path, zxid: answer.zxid, count: Some(answer.count) };
    context.output.show(&document, |_| match answer.count {
        1 => format!("deleted {}", document.path),
        count => format!("deleted {} ({count} nodes)", document.path),
    })
}
