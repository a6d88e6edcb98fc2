//! `quorate cluster add`: a new member, without a vote at first.

use clap::Args;
use quorate_proto::v1;

use super::{Addresses, MemberJson, MembershipJson, settings_of, start_steps};
use crate::api::Call;
use crate::context::Context;
use crate::failure::Outcome;
use crate::values::parse_member_id;

/// Add a member, as a learner: it receives the log and has no vote.
#[derive(Args, Debug)]
pub struct AddArguments {
    /// A fresh id; ids are never reused.
    #[arg(value_parser = parse_member_id)]
    id: u64,
    #[command(flatten)]
    addresses: Addresses,
}

pub async fn run(arguments: AddArguments, context: &mut Context) -> Outcome {
    let AddArguments { id, addresses } = arguments;
    let request = v1::AddLearnerRequest {
        id,
        peer_address: addresses.peer.clone(),
        client_address: addresses.client.clone(),
    };
    let answer = context
        .api
        .cluster(Call::Write, async |client| client.add_learner(request.clone()).await)
        .await?
        .into_inner();
    let members: Vec<MemberJson> = answer.members.iter().map(Into::into).collect();
    let mut next = start_steps();
    next.push(format!("When cluster status shows it as up, give it a vote: quorate cluster promote {id}"));
    let settings = Some(settings_of(id, &addresses, &members));
    MembershipJson { members, settings, next }.show(context)
}
