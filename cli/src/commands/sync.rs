//! `quorate sync`: a quorum barrier.

use clap::Args;
use quorate_proto::v1;

use crate::api::Call;
use crate::context::Context;
use crate::failure::Outcome;
use crate::output::json::DoneJson;

/// Wait for a quorum; reads after it see everything committed before.
#[derive(Args, Debug)]
pub struct SyncArguments {
    /// Echoed, even if no such node exists.
    #[arg(default_value = "/")]
    path: String,
}

pub async fn run(arguments: SyncArguments, context: &mut Context) -> Outcome {
    let request = v1::SyncRequest { path: arguments.path };
    let answer = context
        .api
        .znodes(Call::Read, "", async |client| client.sync(request.clone()).await)
        .await?
        .into_inner();
    context.api.saw(answer.zxid);
    let document = DoneJson { path: answer.path, zxid: answer.zxid, count: None };
    context.output.show(&document, |_| format!("in step with zxid {}", document.zxid))
}
