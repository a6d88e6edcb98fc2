//! `quorate set`: a node's data.

use clap::Args;
use quorate_core::znode::Stat;
use quorate_proto::v1;

use crate::api::{Api, Call};
use crate::context::Context;
use crate::failure::Outcome;
use crate::output::json::{DataJson, NodeJson};
use crate::values::DataArgument;

/// Set a node's data.
#[derive(Args, Debug)]
pub struct SetArguments {
    /// The node.
    path: String,
    /// The data; - reads the standard input, @FILE a file.
    #[arg(allow_negative_numbers = true)]
    data: DataArgument,
    /// Only if the node has this version; -1 is any.
    #[arg(long, allow_negative_numbers = true, value_parser = clap::value_parser!(i32).range(-1..))]
    pub version: Option<i32>,
}

pub async fn run(arguments: SetArguments, context: &mut Context) -> Outcome {
    let SetArguments { path, data, version } = arguments;
    let request = v1::SetRequest {
        path: path.clone(),
        data: Some(data.read()?),
        version,
        request_id: Api::request_id()?,
        credentials: context.api.credentials(),
    };
    let answer = context
        .api
        .znodes(Call::NamedWrite, &path, async |client| client.set(request.clone()).await)
        .await?
        .into_inner();
    context.api.saw(answer.zxid);
    let stat = answer.stat.map(Stat::from).unwrap_or_default();
    let document =
        NodeJson { path, zxid: answer.zxid, data: DataJson::default(), stat: Some((&stat).into()) };
    context.output.show(&document, |_| format!("{} has version {}", document.path, stat.version))
}
