//! Watches: between its start and its end a watcher hears of every change once, in order.
//!
//! - positions (zxid, ordinal) grow from event to event;
//! - every acknowledged change behind the watcher's start has its event, with its number;
//! - no event without a change that was attempted, none of one that was refused;
//! - a change has one transaction, whoever heard of it;
//! - what one watcher heard, every other heard that was told of later events: so a change of unknown
//!   outcome happened for all watchers or for none;
//! - a watcher that was told of a gap is judged from there on.

use std::collections::{BTreeMap, BTreeSet};

use super::{Anomaly, Checker, Verdict};
use crate::history::{History, Kind, Operation, Process};

/// See the file's comment.
#[derive(Clone, Copy, Debug)]
pub struct Watch;

/// By transaction and node: the number and the entry that tells it.
type Events = BTreeMap<(u64, u32), (u64, usize)>;

/// What one watcher heard.
#[derive(Default)]
struct Heard {
    since: Option<(u64, usize)>,
    last: Option<(u64, u32, usize)>,
    events: Events,
    gaps: usize,
    caught: bool,
}

impl Checker for Watch {
    fn name(&self) -> &'static str {
        "watch"
    }

    fn check(&self, history: &History) -> Verdict {
        let mut anomalies = Vec::new();
        let mut watchers: BTreeMap<Process, Heard> = BTreeMap::new();
        let mut changes = Events::new();
        let mut attempted: BTreeSet<(u32, u64)> = BTreeSet::new();
        let mut refused: BTreeMap<(u32, u64), usize> = BTreeMap::new();
        for pair in history.pairs() {
            if let Operation::Change { node, number } = pair.invoke.operation {
                attempted.insert((node, number));
                if pair.kind() == Kind::Fail {
                    refused.insert((node, number), pair.begin);
                }
                let (Kind::Ok, Some(completion), Some(end)) = (pair.kind(), pair.completion, pair.end) else {
                    continue;
                };
                let Some(zxid) = completion.zxid else {
                    let what = format!("change {number} of node {node} was acknowledged without a zxid");
                    anomalies.push(Anomaly::new(what, [pair.begin, end]));
                    continue;
                };
                if let Some((other, earlier)) = changes.insert((zxid, node), (number, end)) {
                    let what = format!("changes {other} and {number} of node {node} are both at zxid {zxid}");
                    anomalies.push(Anomaly::new(what, [earlier, end]));
                }
            }
        }
        // Where each change took effect, and the entry that tells it.
        let mut places: BTreeMap<(u32, u64), (u64, usize)> =
            changes.iter().map(|((zxid, node), (number, end))| ((*node, *number), (*zxid, *end))).collect();
        let mut all_heard = Events::new();
        for (index, entry) in history.entries.iter().enumerate() {
            if entry.kind == Kind::Invoke {
                continue;
            }
            let heard = watchers.entry(entry.process).or_default();
            match entry.operation {
                Operation::Watch { since: Some(since) } => heard.since = Some((since, index)),
                Operation::Caught => heard.caught = true,
                Operation::Gap => {
                    heard.gaps += 1;
                    let zxid = entry.zxid.unwrap_or(0);
                    heard.since = Some((zxid, index));
                    heard.last = None;
                    // What was heard before the gap is judged by the order alone.
                    heard.events.clear();
                }
                Operation::Event { node, number, ordinal } => {
                    let zxid = entry.zxid.unwrap_or(0);
                    anomalies.extend(heard.event(zxid, ordinal, index));
                    heard.events.insert((zxid, node), (number, index));
                    all_heard.entry((zxid, node)).or_insert((number, index));
                    let (place, told) = *places.entry((node, number)).or_insert((zxid, index));
                    if place != zxid {
                        anomalies.push(Anomaly::new(
                            format!(
                                "watcher {} heard of change {number} of node {node} at zxid {zxid}, which took effect at {place}",
                                entry.process
                            ),
                            [told, index],
                        ));
                    }
                    if !attempted.contains(&(node, number)) {
                        anomalies.push(Anomaly::new(
                            format!(
                                "watcher {} heard of change {number} of node {node}, which nobody made",
                                entry.process
                            ),
                            [index],
                        ));
                    }
                    if let Some(begin) = refused.get(&(node, number)) {
                        anomalies.push(Anomaly::new(
                            format!(
                                "watcher {} heard of change {number} of node {node}, which was refused",
                                entry.process
                            ),
                            [*begin, index],
                        ));
                    }
                }
                _ => {}
            }
        }
        watchers.retain(|_, heard| heard.since.is_some());
        let mut events = 0;
        for (process, heard) in &watchers {
            events += heard.events.len();
            let (since, started) = heard.since.unwrap_or_default();
            // Of what is not acknowledged, others' events tell, as far as this watcher has come.
            let reached = heard.events.keys().next_back().map_or(since, |(zxid, _)| *zxid);
            let behind = (since.saturating_add(1), 0)..;
            let told = all_heard.range(behind.clone()).take_while(|((zxid, _), _)| *zxid <= reached);
            let told = told.filter(|(place, _)| !changes.contains_key(place));
            for ((zxid, node), (number, end)) in changes.range(behind).chain(told) {
                match heard.events.get(&(*zxid, *node)) {
                    Some((heard_number, _)) if heard_number == number => {}
                    Some((other, index)) => anomalies.push(Anomaly::new(
                        format!(
                            "watcher {process} heard of change {other} of node {node} at zxid {zxid}, which made change {number}"
                        ),
                        [*end, *index],
                    )),
                    None => anomalies.push(Anomaly::new(
                        format!("watcher {process} never heard of change {number} of node {node} (zxid {zxid})"),
                        [started, *end],
                    )),
                }
            }
        }
        if anomalies.is_empty() {
            if events == 0 || changes.is_empty() {
                return Verdict::Unknown { reason: "no watcher heard of any change".into() };
            }
            if let Some((process, _)) = watchers.iter().find(|(_, heard)| !heard.caught) {
                return Verdict::Unknown { reason: format!("watcher {process} did not hear to the end") };
            }
        }
        let gaps: usize = watchers.values().map(|heard| heard.gaps).sum();
        Verdict::of(
            anomalies,
            format!(
                "{} changes, {} watchers, {events} events, {gaps} gaps told",
                changes.len(),
                watchers.len()
            ),
        )
    }
}

impl Heard {
    /// Judges an event's place behind the one before.
    fn event(&mut self, zxid: u64, ordinal: u32, index: usize) -> Option<Anomaly> {
        let before = self.last.replace((zxid, ordinal, index));
        if let Some((since, started)) = self.since
            && zxid <= since
        {
            return Some(Anomaly::new(
                format!("an event of zxid {zxid} came although the watch began behind {since}"),
                [started, index],
            ));
        }
        let (last, last_ordinal, at) = before?;
        let what = match (last, last_ordinal).cmp(&(zxid, ordinal)) {
            std::cmp::Ordering::Less => return None,
            std::cmp::Ordering::Equal => "was repeated",
            std::cmp::Ordering::Greater => "came out of order",
        };
        Some(Anomaly::new(
            format!("the event at {zxid}.{ordinal} {what} (after {last}.{last_ordinal})"),
            [at, index],
        ))
    }
}
