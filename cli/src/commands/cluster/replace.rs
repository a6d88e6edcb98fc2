//! `quorate cluster replace`: a successor, under a new id, for a member that has lost its disk.

use clap::Args;
use quorate_proto::v1;

use super::{Addresses, CATCHING_UP_MAX, MemberJson, MembershipJson, settings_of, start_steps, steps_text};
use crate::api::Call;
use crate::arguments::Format;
use crate::context::Context;
use crate::failure::{Failure, Outcome, UNAVAILABLE};
use crate::values::parse_member_id;

/// Replace a member that has lost its disk. The successor needs a new id: the old one has voted.
#[derive(Args, Debug)]
pub struct ReplaceArguments {
    /// The one that is lost.
    #[arg(value_parser = parse_member_id)]
    old: u64,
    /// A fresh id for its successor; ids are never reused.
    #[arg(value_parser = parse_member_id)]
    new: u64,
    #[command(flatten)]
    addresses: Addresses,
}

pub async fn run(arguments: ReplaceArguments, context: &mut Context) -> Outcome {
    let ReplaceArguments { old, new, addresses } = arguments;
    let known = members(context).await?;
    let staying: Vec<MemberJson> = known.into_iter().filter(|member| member.id != old).collect();
    let settings = settings_of(new, &addresses, &staying);
    // The cluster waits for the successor: who is to start it must hear of it before.
    if context.output.format == Format::Table {
        let steps = steps_text(&start_steps(), Some(&settings));
        context.output.text(&format!("If it does not run yet, start member {new} now:\n{steps}"))?;
        context.output.note(&format!("waiting until member {new} has caught up…"));
    }
    context.api.allow(CATCHING_UP_MAX);
    let request = v1::ReplaceMemberRequest {
        old_id: old,
        new_id: new,
        peer_address: addresses.peer.clone(),
        client_address: addresses.client.clone(),
    };
    let answer = context
        .api
        .cluster(Call::LongWrite, async |client| client.replace_member(request.clone()).await)
        .await;
    let answer = match answer {
        Ok(answer) => answer.into_inner(),
        Err(failure) => return Err(explained(context, failure, new).await),
    };
    let members = answer.members.iter().map(Into::into).collect();
    let next =
        vec![format!("Never start member {old} again, and delete what is left of its data directory.")];
    let settings = Some(settings).filter(|_| context.output.format == Format::Json);
    MembershipJson { members, settings, next }.show(context)
}

/// The members as the cluster knows them.
async fn members(context: &mut Context) -> Outcome<Vec<MemberJson>> {
    let request = v1::StatusRequest {};
    let status =
        context.api.cluster(Call::Read, async |client| client.status(request).await).await?.into_inner();
    Ok(status.members.iter().map(Into::into).collect())
}

/// A replacement may stop half-way, with the successor as a learner: then says how it goes on.
async fn explained(context: &mut Context, failure: Failure, new: u64) -> Failure {
    let is_added = members(context).await.is_ok_and(|members| members.iter().any(|member| member.id == new));
    if failure.exit_code() != UNAVAILABLE || !is_added {
        return failure;
    }
    Failure::unavailable(format!("member {new} is in the cluster, but has not caught up: {failure}"))
        .with_hint(format!("start it; when cluster status shows it as up: quorate cluster promote {new}"))
}
