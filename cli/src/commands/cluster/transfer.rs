//! `quorate cluster transfer`: another leader.

use clap::Args;
use quorate_proto::v1;
use serde::Serialize;

use crate::api::Call;
use crate::context::Context;
use crate::failure::Outcome;
use crate::values::parse_member_id;

/// Hand the leadership over.
#[derive(Args, Debug)]
pub struct TransferArguments {
    /// To this voter; without it to the one that is furthest ahead.
    #[arg(value_parser = parse_member_id)]
    to: Option<u64>,
}

#[derive(Debug, Serialize)]
struct TransferJson {
    leader: u64,
    term: u64,
}

pub async fn run(arguments: TransferArguments, context: &mut Context) -> Outcome {
    let request = v1::TransferLeaderRequest { to: arguments.to };
    let answer = context
        .api
        .cluster(Call::Write, async |client| client.transfer_leader(request).await)
        .await?
        .into_inner();
    let document = TransferJson { leader: answer.leader_id, term: answer.term };
    context.output.show(&document, |_| format!("member {} leads in term {}", document.leader, document.term))
}
