//! `quorate cluster status`: the members, as each of them sees itself.
//!
//! Any member that answers names the others; then all are asked, shortly, so that one look shows
//! who runs, who leads and who lags. It needs no quorum.

use std::time::Duration;

use clap::Args;
use futures_util::future::join_all;
use quorate_proto::v1;
use quorate_proto::v1::cluster_client::ClusterClient;
use serde::Serialize;

use super::role;
use crate::api::{Call, endpoint};
use crate::context::Context;
use crate::failure::Outcome;
use crate::output::human::{duration, size};
use crate::output::json::hex;
use crate::output::style::Style;
use crate::output::table::{Cell, Table};

/// A member that runs answers within this.
const PATIENCE: Duration = Duration::from_secs(2);

/// Show the members: who runs, who leads, how far each has come.
#[derive(Args, Debug)]
pub struct StatusArguments {}

#[derive(Debug, Serialize)]
struct StatusJson {
    cluster_id: String,
    leader: Option<u64>,
    term: u64,
    zxid: u64,
    rules_version: u32,
    has_quorum: bool,
    members: Vec<MemberStatusJson>,
    counts: CountsJson,
}

#[derive(Debug, Serialize)]
struct MemberStatusJson {
    id: u64,
    role: &'static str,
    is_leader: bool,
    is_up: bool,
    peer: String,
    client: String,
    #[serde(flatten)]
    own: Option<OwnJson>,
}

/// What a member says of itself.
#[derive(Debug, Serialize)]
struct OwnJson {
    term: u64,
    last_log_index: u64,
    committed_index: u64,
    applied_index: u64,
    checkpoint_index: u64,
    zxid: u64,
    digest: String,
    version: String,
    uptime_ms: u64,
    connections: u64,
    watches: u64,
}

#[derive(Debug, Serialize)]
struct CountsJson {
    znodes: u64,
    data_bytes: u64,
    sessions: u64,
    ephemerals: u64,
    change_log_bytes: u64,
    request_ids: u64,
}

pub async fn run(_arguments: StatusArguments, context: &mut Context) -> Outcome {
    let request = v1::StatusRequest {};
    let first =
        context.api.cluster(Call::Read, async |client| client.status(request).await).await?.into_inner();
    let own = join_all(first.members.iter().map(|member| ask(member, &first))).await;
    let document = document(&first, own);
    context.output.show(&document, |style| picture(style, &document))
}

/// What a member says of itself; `None` if it does not answer.
async fn ask(member: &v1::Member, first: &v1::StatusResponse) -> Option<v1::StatusResponse> {
    if member.id == first.member_id {
        return Some(first.clone());
    }
    let answer = tokio::time::timeout(PATIENCE, async {
        let channel = endpoint(&member.client_address).ok()?.connect().await.ok()?;
        Some(ClusterClient::new(channel).status(v1::StatusRequest {}).await.ok()?.into_inner())
    });
    // An address may lead elsewhere by now.
    answer.await.ok()?.filter(|own| own.member_id == member.id && own.cluster_id == first.cluster_id)
}

fn document(first: &v1::StatusResponse, own: Vec<Option<v1::StatusResponse>>) -> StatusJson {
    // The newest word on who leads.
    let newest =
        own.iter().flatten().max_by_key(|status| (status.term, status.leader_id.is_some())).unwrap_or(first);
    let leader = newest.leader_id;
    let members: Vec<MemberStatusJson> = first
        .members
        .iter()
        .zip(own.iter())
        .map(|(member, own)| MemberStatusJson {
            id: member.id,
            role: role(member),
            is_leader: leader == Some(member.id) && own.is_some(),
            is_up: own.is_some(),
            peer: member.peer_address.clone(),
            client: member.client_address.clone(),
            own: own.as_ref().map(own_json),
        })
        .collect();
    let voters = members.iter().filter(|member| member.role == "voter");
    let up = voters.clone().filter(|member| member.is_up).count();
    let has_quorum = leader.is_some() && up > voters.count() / 2;
    let counts = newest.counts.unwrap_or_default();
    StatusJson {
        cluster_id: first.cluster_id.clone(),
        leader,
        term: newest.term,
        zxid: own.iter().flatten().map(|status| status.zxid).max().unwrap_or(first.zxid),
        rules_version: newest.rules_version,
        has_quorum,
        members,
        counts: CountsJson {
            znodes: counts.znodes,
            data_bytes: counts.data_bytes,
            sessions: counts.sessions,
            ephemerals: counts.ephemerals,
            change_log_bytes: counts.change_log_bytes,
            request_ids: counts.request_ids,
        },
    }
}

fn own_json(own: &v1::StatusResponse) -> OwnJson {
    let counts = own.counts.unwrap_or_default();
    OwnJson {
        term: own.term,
        last_log_index: own.last_log_index,
        committed_index: own.committed_index,
        applied_index: own.applied_index,
        checkpoint_index: own.checkpoint_index,
        zxid: own.zxid,
        digest: hex(&own.digest),
        version: own.version.clone(),
        uptime_ms: own.uptime_ms,
        connections: counts.connections,
        watches: counts.watches,
    }
}

fn picture(style: &Style, document: &StatusJson) -> String {
    let mut table = Table::new(&[
        "ID",
        "ROLE",
        "STATE",
        "CLIENTS",
        "PEERS",
        "APPLIED",
        "LAG",
        "CONNECTIONS",
        "WATCHES",
        "UPTIME",
        "VERSION",
    ]);
    let applied = |member: &MemberStatusJson| member.own.as_ref().map(|own| own.applied_index);
    let furthest = document.members.iter().filter_map(applied).max().unwrap_or_default();
    for member in &document.members {
        let role = if member.is_leader { "leader" } else { member.role };
        let role =
            Cell::text(role).painted(if member.is_leader { Style::bold } else { |_, text| text.into() });
        let state = match member.is_up {
            true => Cell::text("up").painted(Style::good),
            false => Cell::text("no answer").painted(Style::bad),
        };
        let mut row =
            vec![Cell::number(member.id), role, state, Cell::text(&member.client), Cell::text(&member.peer)];
        match &member.own {
            Some(own) => row.extend([
                Cell::number(own.applied_index),
                Cell::number(furthest - own.applied_index),
                Cell::number(own.connections),
                Cell::number(own.watches),
                Cell::number(duration(own.uptime_ms)),
                Cell::text(&own.version),
            ]),
            None => row.extend((0..6).map(|_| Cell::number("-").painted(Style::dim))),
        }
        table.row(row);
    }
    let quorum = match (document.has_quorum, document.leader) {
        (true, Some(leader)) => {
            Cell::text(format!("member {leader} leads in term {}", document.term)).painted(Style::good)
        }
        (false, Some(leader)) => {
            let text =
                format!("member {leader} leads in term {}, but few members answer here", document.term);
            Cell::text(text).painted(Style::warn)
        }
        (_, None) => {
            Cell::text("no leader: writes and linearizable reads wait for a quorum").painted(Style::bad)
        }
    };
    let counts = &document.counts;
    let facts = [
        ("cluster", Cell::text(&document.cluster_id)),
        ("quorum", quorum),
        ("transaction", Cell::text(document.zxid.to_string())),
        ("znodes", Cell::text(format!("{} ({} of data)", counts.znodes, size(counts.data_bytes)))),
        ("sessions", Cell::text(format!("{} ({} ephemeral nodes)", counts.sessions, counts.ephemerals))),
        ("change log", Cell::text(size(counts.change_log_bytes))),
    ];
    format!("{}\n{}", table.render(style), Table::facts(style, &facts))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(id: u64, leader: Option<u64>, term: u64, applied: u64) -> v1::StatusResponse {
        let member = |id: u64| v1::Member {
            id,
            role: v1::MemberRole::Voter.into(),
            client_address: format!("c{id}:1"),
            peer_address: format!("p{id}:1"),
            matched_index: None,
        };
        v1::StatusResponse {
            cluster_id: "c".into(),
            member_id: id,
            members: (1..=3).map(member).collect(),
            leader_id: leader,
            term,
            applied_index: applied,
            zxid: applied,
            ..v1::StatusResponse::default()
        }
    }

    #[test]
    fn the_newest_term_says_who_leads() {
        let (old, new) = (status(1, Some(1), 4, 10), status(2, Some(2), 5, 12));
        let document = document(&old, vec![Some(old.clone()), Some(new), None]);
        assert_eq!((document.leader, document.term, document.zxid), (Some(2), 5, 12));
        assert!(document.has_quorum);
        let text = picture(&Style::plain(), &document);
        assert!(text.contains("no answer") && text.contains("member 2 leads in term 5"), "{text}");
    }

    #[test]
    fn one_of_three_is_no_quorum() {
        let alone = status(1, None, 4, 10);
        let document = document(&alone, vec![Some(alone.clone()), None, None]);
        assert!(!document.has_quorum);
        let json = serde_json::to_value(&document).expect("serializes");
        assert_eq!(json["members"][1]["is_up"], false);
        assert_eq!(json["members"][0]["applied_index"], 10);
        assert!(json["members"][1].get("applied_index").is_none());
    }
}
