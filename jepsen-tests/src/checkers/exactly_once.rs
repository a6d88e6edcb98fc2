//! A retry that took effect twice: nodes that only one client touches behave as if nobody retried.
//!
//! - a create of a fresh name is not refused because the node exists;
//! - a set or delete of a node that was created is not refused because it is gone, unless a delete is
//!   of unknown outcome;
//! - versions grow by one with every set: by at most one more for each of unknown outcome.

use std::collections::BTreeMap;

use super::{Anomaly, Checker, Verdict};
use crate::history::{Act, History, Kind, Operation};

/// See the file's comment.
#[derive(Clone, Copy, Debug)]
pub struct ExactlyOnce;

/// What is known of one node.
#[derive(Default)]
struct Node {
    created: bool,
    /// A create or delete of unknown outcome: nothing more can be said.
    is_unknown: bool,
    version: i32,
    /// Sets of unknown outcome since the version was known.
    unknown: i32,
    last: usize,
}

impl Checker for ExactlyOnce {
    fn name(&self) -> &'static str {
        "exactly-once"
    }

    fn check(&self, history: &History) -> Verdict {
        let mut anomalies = Vec::new();
        let mut nodes: BTreeMap<u64, Node> = BTreeMap::new();
        let mut judged = 0;
        for pair in history.pairs() {
            let entry = pair.completion.unwrap_or(pair.invoke);
            let Operation::Own { node: number, act, version } = entry.operation else { continue };
            let node = nodes.entry(number).or_default();
            let end = pair.end.unwrap_or(pair.begin);
            let mut anomaly = |what: String| {
                anomalies.push(Anomaly::new(format!("node {number}: {what}"), [node.last, pair.begin, end]));
            };
            match (pair.kind(), act) {
                (Kind::Ok, Act::Create) => node.created = true,
                (Kind::Ok, Act::Set) => {
                    if let (Some(version), false) = (version, node.is_unknown) {
                        let least = node.version + 1;
                        if !(least..=least + node.unknown).contains(&version) {
                            anomaly(format!("version {version} after {}", node.version));
                        }
                        (node.version, node.unknown) = (version, 0);
                    }
                }
                (Kind::Ok, Act::Delete) => node.created = false,
                (Kind::Info, Act::Set) => node.unknown += 1,
                (Kind::Info | Kind::Invoke, _) => node.is_unknown = true,
                (Kind::Fail, _) => {
                    let why = entry.error.as_deref().unwrap_or_default();
                    // What was never sent was not refused by anybody.
                    let was_there = act == Act::Create && why.contains("NodeExists");
                    let was_gone = act != Act::Create && node.created && why.contains("NoNode");
                    if (was_there || was_gone) && !node.is_unknown {
                        anomaly(format!("{act:?} refused: {why}"));
                    }
                }
            }
            judged += usize::from(pair.kind() == Kind::Ok);
            node.last = end;
        }
        if anomalies.is_empty() && judged == 0 {
            return Verdict::Unknown { reason: "nothing was acknowledged".into() };
        }
        Verdict::of(anomalies, format!("{judged} acknowledged writes on {} nodes", nodes.len()))
    }
}
