//! A retry that took effect twice: nodes that only one client touches behave as if nobody retried.
//!
//! - a create of a fresh name is not refused because the node exists, and one is acknowledged only of a
//!   node that is not there; a set or delete only of one that is;
//! - a set or delete of a node that was created is not refused because it is gone, unless a delete is
//!   of unknown outcome;
//! - versions grow by one with every set: by at most one more for each of unknown outcome;
//! - at the end a node is there if it was created and not deleted, and else is not, unless its create or
//!   its delete is of unknown outcome.

use std::collections::{BTreeMap, BTreeSet};

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
        // Where the last act ended, and what was there at the end: from where to where it was read.
        let mut acted = 0;
        let mut last: Option<(usize, usize, BTreeSet<u64>)> = None;
        for pair in history.pairs() {
            let entry = pair.completion.unwrap_or(pair.invoke);
            let end = pair.end.unwrap_or(pair.begin);
            if let (Kind::Ok, Operation::ReadSet { elements: Some(there) }) = (pair.kind(), &entry.operation)
            {
                last = Some((pair.begin, end, there.iter().copied().collect()));
            }
            let Operation::Own { node: number, act, version } = entry.operation else { continue };
            let node = nodes.entry(number).or_default();
            acted = acted.max(end);
            let mut anomaly = |what: String| {
                anomalies.push(Anomaly::new(format!("node {number}: {what}"), [node.last, pair.begin, end]));
            };
            match (pair.kind(), act) {
                (Kind::Ok, Act::Create) => {
                    if node.created && !node.is_unknown {
                        anomaly("created, though it was there".into());
                    }
                    (node.created, node.version, node.unknown) = (true, 0, 0);
                }
                (Kind::Ok, Act::Set | Act::Delete) if !node.created && !node.is_unknown => {
                    anomaly(format!("{act:?} acknowledged, though it was not there"));
                }
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
        let last = last.filter(|(begin, _, _)| *begin > acted);
        if let Some((begin, end, there)) = &last {
            for (number, node) in nodes.iter().filter(|(_, node)| !node.is_unknown) {
                let what = match (node.created, there.contains(number)) {
                    (true, false) => "was created, not deleted, and is gone at the end",
                    (false, true) => "is there at the end, though it was deleted or never created",
                    _ => continue,
                };
                anomalies.push(Anomaly::new(format!("node {number}: {what}"), [node.last, *begin, *end]));
            }
            for number in there.iter().filter(|number| !nodes.contains_key(number)) {
                anomalies.push(Anomaly::new(format!("nobody made node {number}"), [*begin, *end]));
            }
        }
        if anomalies.is_empty() {
            if judged == 0 {
                return Verdict::Unknown { reason: "nothing was acknowledged".into() };
            }
            if last.is_none() {
                return Verdict::Unknown { reason: "the nodes were not read at the end".into() };
            }
        }
        Verdict::of(anomalies, format!("{judged} acknowledged writes on {} nodes", nodes.len()))
    }
}
