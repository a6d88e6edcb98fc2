//! `quorate cluster`: the members. One subcommand a file; here is what they share.

mod add;
mod digest;
mod promote;
mod remove;
mod replace;
mod status;
mod transfer;

use std::time::Duration;

use clap::{Args, Subcommand};
use quorate_proto::v1;
use serde::Serialize;

use crate::context::Context;
use crate::failure::Outcome;
use crate::output::style::Style;
use crate::output::table::{Cell, Table};
use crate::values::parse_address;

/// Look at the members, and change them.
#[derive(Args, Debug)]
pub struct ClusterArguments {
    #[command(subcommand)]
    command: ClusterCommand,
}

#[derive(Debug, Subcommand)]
enum ClusterCommand {
    Status(status::StatusArguments),
    Add(add::AddArguments),
    Promote(promote::PromoteArguments),
    Remove(remove::RemoveArguments),
    Replace(replace::ReplaceArguments),
    Transfer(transfer::TransferArguments),
    Digest(digest::DigestArguments),
}

pub async fn run(arguments: ClusterArguments, context: &mut Context) -> Outcome {
    match arguments.command {
        ClusterCommand::Status(arguments) => status::run(arguments, context).await,
        ClusterCommand::Add(arguments) => add::run(arguments, context).await,
        ClusterCommand::Promote(arguments) => promote::run(arguments, context).await,
        ClusterCommand::Remove(arguments) => remove::run(arguments, context).await,
        ClusterCommand::Replace(arguments) => replace::run(arguments, context).await,
        ClusterCommand::Transfer(arguments) => transfer::run(arguments, context).await,
        ClusterCommand::Digest(arguments) => digest::run(arguments, context).await,
    }
}

/// How long the cluster may wait for a learner to catch up before it gives it a vote.
const CATCHING_UP_MAX: Duration = Duration::from_secs(160);

/// Where a new member is reached.
#[derive(Args, Debug)]
struct Addresses {
    /// Where its peers reach it.
    #[arg(long, value_name = "HOST:PORT", value_parser = parse_address)]
    peer: String,
    /// Where clients reach it.
    #[arg(long, value_name = "HOST:PORT", value_parser = parse_address)]
    client: String,
}

#[derive(Clone, Debug, Serialize)]
struct MemberJson {
    id: u64,
    role: &'static str,
    peer: String,
    client: String,
}

impl From<&v1::Member> for MemberJson {
    fn from(member: &v1::Member) -> MemberJson {
        MemberJson {
            id: member.id,
            role: role(member),
            peer: member.peer_address.clone(),
            client: member.client_address.clone(),
        }
    }
}

/// The membership after a change, and what is left for people to do.
#[derive(Debug, Serialize)]
struct MembershipJson {
    members: Vec<MemberJson>,
    /// Settings for the new member's quorate.toml, if there is one to start.
    #[serde(skip_serializing_if = "Option::is_none")]
    settings: Option<String>,
    next: Vec<String>,
}

impl MembershipJson {
    fn show(&self, context: &Context) -> Outcome {
        context.output.show(self, |style| {
            let mut text = members_table(style, &self.members);
            if !self.next.is_empty() {
                let steps = steps_text(&self.next, self.settings.as_deref());
                text.push_str(&format!("\n{}\n{steps}", style.bold("Next:")));
            }
            text
        })
    }
}

fn members_table(style: &Style, members: &[MemberJson]) -> String {
    let mut table = Table::new(&["ID", "ROLE", "PEERS", "CLIENTS"]);
    for member in members {
        table.row(vec![
            Cell::number(member.id),
            Cell::text(member.role),
            Cell::text(&member.peer),
            Cell::text(&member.client),
        ]);
    }
    table.render(style)
}

fn role(member: &v1::Member) -> &'static str {
    match member.role() {
        v1::MemberRole::Voter => "voter",
        v1::MemberRole::Learner => "learner",
        v1::MemberRole::Unspecified => "unknown",
    }
}

/// The settings with which a new member finds the running ones.
fn settings_of(id: u64, addresses: &Addresses, members: &[MemberJson]) -> String {
    let running: Vec<String> = members
        .iter()
        .filter(|member| member.id != id)
        .map(|member| format!("{}={}/{}", member.id, member.peer, member.client))
        .collect();
    format!(
        "member_id = {id}\njoin = true\ninitial_cluster = \"{}\"\npeer_listen = \"{}\"\nclient_listen = \"{}\"\n\
         data_dir = \"/var/lib/quorate\"  # empty",
        running.join(","),
        addresses.peer,
        addresses.client,
    )
}

/// What to do on a new member's machine.
fn start_steps() -> Vec<String> {
    vec![
        "On the new machine, write quorate.toml (the cluster_name must be that of the other members):".into(),
        "Start it: quorated serve --config quorate.toml".into(),
    ]
}

/// Steps as people read them; the settings belong to the first one.
fn steps_text(steps: &[String], settings: Option<&str>) -> String {
    let mut text = String::new();
    for (index, step) in steps.iter().enumerate() {
        text.push_str(&format!("{}. {step}\n", index + 1));
        if let (0, Some(settings)) = (index, settings) {
            let lines: String = settings.lines().map(|line| format!("     {line}\n")).collect();
            text.push_str(&format!("\n{lines}\n"));
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_new_member_is_told_of_the_running_ones_alone() {
        let member =
            |id: u64| MemberJson { id, role: "voter", peer: format!("p{id}:1"), client: format!("c{id}:2") };
        let addresses = Addresses { peer: "p4:1".into(), client: "c4:2".into() };
        let settings = settings_of(4, &addresses, &[member(1), member(2), member(4)]);
        assert!(settings.starts_with("member_id = 4\njoin = true\n"), "{settings}");
        assert!(settings.contains("initial_cluster = \"1=p1:1/c1:2,2=p2:1/c2:2\"\n"), "{settings}");
        assert!(settings.contains("peer_listen = \"p4:1\"\nclient_listen = \"c4:2\"\n"), "{settings}");
    }

    #[test]
    fn a_membership_has_its_promised_shape() {
        let members = vec![MemberJson { id: 1, role: "voter", peer: "p:1".into(), client: "c:2".into() }];
        let document = MembershipJson { members, settings: None, next: vec!["rest".into()] };
        assert_eq!(
            serde_json::to_string(&document).expect("serializes"),
            r#"{"members":[{"id":1,"role":"voter","peer":"p:1","client":"c:2"}],"next":["rest"]}"#
        );
    }
}
