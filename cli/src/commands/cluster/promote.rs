//! `quorate cluster promote`: a vote for a learner.

use clap::Args;
use quorate_proto::v1;

use super::{CATCHING_UP_MAX, MemberJson, MembershipJson};
use crate::api::Call;
use crate::context::Context;
use crate::failure::Outcome;
use crate::values::parse_member_id;

/// Give a learner that has caught up a vote.
#[derive(Args, Debug)]
pub struct PromoteArguments {
    /// The learner.
    #[arg(value_parser = parse_member_id)]
    id: u64,
}

pub async fn run(arguments: PromoteArguments, context: &mut Context) -> Outcome {
    context.api.allow(CATCHING_UP_MAX);
    let request = v1::PromoteRequest { id: arguments.id };
    let answer =
        context.api.cluster(Call::Write, async |client| client.promote(request).await).await?.into_inner();
    let members: Vec<MemberJson> = answer.members.iter().map(Into::into).collect();
    let clients: Vec<&str> = members.iter().map(|member| member.client.as_str()).collect();
    let mut next = vec![
        format!(
            "Nothing on the machine of member {}: it keeps join = true, which matters only for its first start.",
            arguments.id
        ),
        format!("Tell clients of it: --endpoints {}", clients.join(",")),
    ];
    let voters = members.iter().filter(|member| member.role == "voter").count();
    if voters.is_multiple_of(2) {
        next.push(format!(
            "{voters} voters survive no more failures than {}: add or remove one.",
            voters - 1
        ));
    }
    MembershipJson { members, settings: None, next }.show(context)
}
