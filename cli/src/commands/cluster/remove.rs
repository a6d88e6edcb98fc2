//! `quorate cluster remove`: a member goes, and its id with it.

use clap::Args;
use quorate_proto::v1;

use super::{MemberJson, MembershipJson};
use crate::api::Call;
use crate::context::Context;
use crate::failure::Outcome;
use crate::values::parse_member_id;

/// Take a member out of the cluster. Its id can never return.
#[derive(Args, Debug)]
pub struct RemoveArguments {
    /// The member.
    #[arg(value_parser = parse_member_id)]
    id: u64,
}

pub async fn run(arguments: RemoveArguments, context: &mut Context) -> Outcome {
    let id = arguments.id;
    let request = v1::RemoveMemberRequest { id };
    let answer = context
        .api
        .cluster(Call::Write, async |client| client.remove_member(request).await)
        .await?
        .into_inner();
    let members: Vec<MemberJson> = answer.members.iter().map(Into::into).collect();
    let next = vec![format!("Stop quorated on the machine of member {id} and delete its data directory.")];
    MembershipJson { members, settings: None, next }.show(context)
}
