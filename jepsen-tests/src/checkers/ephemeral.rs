//! Ephemeral nodes live exactly as long as their sessions.
//!
//! - a node is in every read that begins after its creation is known and ends before its session was
//!   heard of for the last time (an answer in a session proves that it lived when it was asked);
//! - a node is in no read that begins after its session's close was acknowledged;
//! - none of a session that ended, by closing or by silence, [`LAST_PATIENCE`] before the last read is in it;
//!   what ended later is not judged: then there is no verdict;
//! - no read shows a node that nobody made.

use std::collections::BTreeMap;
use std::time::Duration;

use super::known::note;
use super::{Anomaly, Checker, Verdict};
use crate::history::{History, Kind, Operation};

/// How long the nodes of a session may stay that has ended: some timeouts, as elections restart them.
pub const LAST_PATIENCE: Duration = Duration::from_secs(40);

/// See the file's comment.
#[derive(Clone, Copy, Debug)]
pub struct Ephemeral;

/// One node.
struct Node {
    session: u64,
    begin: usize,
    /// Where its creation was known first: acknowledged or read.
    made: Option<usize>,
    /// Whether it may be there at all.
    is_refused: bool,
}

/// One session.
#[derive(Default)]
struct Session {
    /// Where the last request began that was answered in it.
    alive: usize,
    /// Where its close was acknowledged.
    closed: Option<usize>,
    /// Where its end, of either kind, was begun.
    ended: Option<usize>,
}

impl Checker for Ephemeral {
    fn name(&self) -> &'static str {
        "ephemeral"
    }

    fn check(&self, history: &History) -> Verdict {
        let pairs = history.pairs();
        let mut nodes: BTreeMap<u64, Node> = BTreeMap::new();
        let mut sessions: BTreeMap<u64, Session> = BTreeMap::new();
        let mut reads = Vec::new();
        for pair in &pairs {
            let is_ok = pair.kind() == Kind::Ok;
            match &pair.completion.unwrap_or(pair.invoke).operation {
                Operation::CreateEphemeral { name, session } => {
                    let made = pair.end.filter(|_| is_ok);
                    let is_refused = pair.kind() == Kind::Fail;
                    nodes.insert(*name, Node { session: *session, begin: pair.begin, made, is_refused });
                    let session = sessions.entry(*session).or_default();
                    session.alive = session.alive.max(if is_ok { pair.begin } else { 0 });
                }
                Operation::ReadEphemerals { session, names: Some(names) } if is_ok => {
                    let session = sessions.entry(*session).or_default();
                    session.alive = session.alive.max(pair.begin);
                    reads.extend(pair.end.map(|end| (pair.begin, end, names)));
                }
                Operation::EndSession { session, closes } => {
                    let session = sessions.entry(*session).or_default();
                    session.ended = Some(pair.begin);
                    session.closed = pair.end.filter(|_| is_ok && *closes);
                }
                _ => {}
            }
        }
        for (_, end, names) in &reads {
            for name in *names {
                if let Some(node) = nodes.get_mut(name) {
                    note(&mut node.made, *end);
                }
            }
        }
        let mut anomalies = Vec::new();
        for (begin, end, names) in &reads {
            for (name, node) in &nodes {
                let session = &sessions[&node.session];
                let is_there = names.contains(name);
                if let Some(made) = node.made
                    && made < *begin
                    && *end < session.alive
                    && !is_there
                {
                    let what = format!("node {name} is gone, though its session lived");
                    anomalies.push(Anomaly::new(what, [made, *begin, *end, session.alive]));
                }
                if let Some(closed) = session.closed
                    && closed < *begin
                    && is_there
                {
                    let what = format!("node {name} is there, though its session was closed");
                    anomalies.push(Anomaly::new(what, [closed, *begin, *end]));
                }
                if is_there && (node.is_refused || node.begin > *end) {
                    let what = format!("node {name} is there, though it was refused or not made yet");
                    anomalies.push(Anomaly::new(what, [node.begin, *begin, *end]));
                }
            }
            for name in names.iter().filter(|name| !nodes.contains_key(name)) {
                anomalies.push(Anomaly::new(format!("nobody made node {name}"), [*begin, *end]));
            }
        }
        let Some((begin, end, last)) = reads.last() else {
            return Verdict::Unknown { reason: "the nodes were never read".into() };
        };
        let time = |place: usize| Duration::from_micros(history.entries[place].time_us);
        let mut unjudged = None;
        for (name, node) in nodes.iter().filter(|(_, node)| node.made.is_some()) {
            let Some(ended) = sessions[&node.session].ended else { continue };
            let is_there = last.contains(name);
            if ended > *begin || is_there && time(*begin).saturating_sub(time(ended)) < LAST_PATIENCE {
                unjudged = Some(name);
            } else if is_there {
                let what = format!("node {name} is there at the end, though its session has ended");
                anomalies.push(Anomaly::new(what, [ended, *begin, *end]));
            }
        }
        let made = nodes.values().filter(|node| node.made.is_some()).count();
        if anomalies.is_empty() {
            if made == 0 {
                return Verdict::Unknown { reason: "no node was made".into() };
            }
            if let Some(name) = unjudged {
                let reason =
                    format!("the nodes were not read long enough after the end of node {name}'s session");
                return Verdict::Unknown { reason };
            }
        }
        Verdict::of(anomalies, format!("{made} nodes of {} sessions, {} reads", sessions.len(), reads.len()))
    }
}
