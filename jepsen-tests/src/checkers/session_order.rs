//! A session's guarantees: requests take effect in the order in which they were sent, a read sees the
//! session's own writes, and nothing that a session is told is older than what it was told before.
//!
//! A process' next session stands behind all that the one before was told: its opening is a transaction
//! that the member has applied. What was acknowledged once is never forgotten: only a write of unknown
//! outcome explains another number.
//!
//! A read may have no answer (it was overtaken while its connection was lost); a write of a pipeline
//! that was answered always has one.

use std::collections::{BTreeMap, BTreeSet};

use super::{Anomaly, Checker, Verdict};
use crate::history::{History, Kind, Operation, Process};

/// See the file's comment.
#[derive(Clone, Copy, Debug)]
pub struct SessionOrder;

impl Checker for SessionOrder {
    fn name(&self) -> &'static str {
        "session-order"
    }

    fn check(&self, history: &History) -> Verdict {
        let mut anomalies = Vec::new();
        // The last transaction that a session was told of.
        let mut reached: BTreeMap<u64, (u64, usize)> = BTreeMap::new();
        // The number that a process' node has by all that it was told.
        let mut written: BTreeMap<Process, u64> = BTreeMap::new();
        // Numbers whose outcome a process was not told: each may still take effect, once. A client that
        // was cut off takes its session for over before the members do, and goes on in another.
        let mut late: BTreeMap<(Process, u64), BTreeSet<u64>> = BTreeMap::new();
        let (mut judged, mut overtaken) = (0, 0);
        for pair in history.pairs() {
            let entry = pair.completion.unwrap_or(pair.invoke);
            let Operation::Pipeline { session, sent, told } = &entry.operation else { continue };
            let process = pair.invoke.process;
            let (Kind::Ok, Some(told), Some(end)) = (pair.kind(), told, pair.end) else {
                // Each part of it may have happened, or may still.
                late.entry((process, *session)).or_default().extend(sent.iter().flatten());
                continue;
            };
            let mut last = written.get(&process).copied().unwrap_or(0);
            let (mut before, mut place) = reached.get(session).copied().unwrap_or((0, pair.begin));
            if sent.len() != told.len() {
                let what = format!("{} requests had {} answers", sent.len(), told.len());
                anomalies.push(Anomaly::new(what, [pair.begin, end]));
            }
            for (number, answer) in sent.iter().zip(told) {
                let Some((zxid, read)) = answer else {
                    match number {
                        Some(number) => {
                            let what = format!("process {process} heard nothing of its write of {number}");
                            anomalies.push(Anomaly::new(what, [pair.begin, end]));
                            late.entry((process, *session)).or_default().insert(*number);
                        }
                        None => overtaken += 1,
                    }
                    continue;
                };
                judged += 1;
                let (word, is_late) = match number {
                    Some(_) => ("write", *zxid <= before),
                    None => ("read", *zxid < before),
                };
                if is_late {
                    let what = format!("session {session:x}: a {word} at zxid {zxid} behind one at {before}");
                    anomalies.push(Anomaly::new(what, [place, pair.begin, end]));
                }
                (before, place) = (before.max(*zxid), end);
                let mut own = late.range_mut((process, 0)..=(process, u64::MAX)).map(|(_, late)| late);
                if let Some(seen) = read
                    && let Some(late) = own.find(|late| late.contains(seen))
                {
                    // It has taken effect, and with it all that its session had sent before.
                    late.retain(|number| number > seen);
                    last = *seen;
                }
                match (number, read) {
                    (Some(number), _) => last = *number,
                    (None, Some(seen)) if *seen != last => {
                        let what = format!("process {process} wrote {last} and then read {seen}");
                        anomalies.push(Anomaly::new(what, [pair.begin, end]));
                    }
                    _ => {}
                }
            }
            written.insert(process, last);
            reached.insert(*session, (before, place));
        }
        if anomalies.is_empty() && judged == 0 {
            return Verdict::Unknown { reason: "no pipeline was answered".into() };
        }
        let facts = format!("{judged} requests in {} sessions, {overtaken} reads overtaken", reached.len());
        Verdict::of(anomalies, facts)
    }
}
