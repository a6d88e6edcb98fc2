//! Sequential creates: every acknowledged one is there with its number, none is there twice, numbers
//! are unique and grow with time.
//!
//! A create is named by its tag, which is the node's data: a retry that took effect a second time
//! shows as a second node with the same tag. One of unknown outcome that a listing shows has happened:
//! its number is judged as if it had been told, and it must not be gone later.

use std::collections::{BTreeMap, BTreeSet};

use super::known::{Greatest, note};
use super::{Anomaly, Checker, Verdict};
use crate::history::{History, Kind, Operation};

/// See the file's comment.
#[derive(Clone, Copy, Debug)]
pub struct Sequence;

/// One create.
struct Attempt {
    kind: Kind,
    begin: usize,
    /// Where it was acknowledged.
    acknowledged: Option<usize>,
    /// Where it was known first: acknowledged or listed.
    known: Option<usize>,
    /// What it was told or, of unknown outcome, is listed as.
    number: Option<u64>,
}

/// One listing.
struct Listing<'a> {
    begin: usize,
    end: usize,
    nodes: &'a [(u64, u64)],
}

impl Checker for Sequence {
    fn name(&self) -> &'static str {
        "sequence"
    }

    fn check(&self, history: &History) -> Verdict {
        let mut attempts: BTreeMap<u64, Attempt> = BTreeMap::new();
        let mut listings = Vec::new();
        let mut anomalies = Vec::new();
        for pair in history.pairs() {
            let is_ok = pair.kind() == Kind::Ok;
            match (&pair.invoke.operation, pair.completion.map(|completion| &completion.operation)) {
                (Operation::Sequence { tag, .. }, completion) => {
                    let acknowledged = pair.end.filter(|_| is_ok);
                    let number = match completion {
                        Some(Operation::Sequence { number, .. }) if is_ok => *number,
                        _ => None,
                    };
                    if let (Some(end), None) = (acknowledged, number) {
                        let what = format!("create {tag} was acknowledged without a number");
                        anomalies.push(Anomaly::new(what, [pair.begin, end]));
                    }
                    let (kind, begin) = (pair.kind(), pair.begin);
                    attempts.insert(*tag, Attempt { kind, begin, acknowledged, known: acknowledged, number });
                }
                (_, Some(Operation::ReadSequence { nodes: Some(nodes) })) if is_ok => {
                    listings.extend(pair.end.map(|end| Listing { begin: pair.begin, end, nodes }));
                }
                _ => {}
            }
        }
        let acknowledged = attempts.values().filter_map(|attempt| attempt.acknowledged);
        let (told, last) = (acknowledged.clone().count(), acknowledged.max());
        for listing in &listings {
            for (number, tag) in listing.nodes {
                let Some(attempt) = attempts.get_mut(tag) else { continue };
                note(&mut attempt.known, listing.end);
                attempt.number = attempt.number.or(Some(*number));
            }
        }
        anomalies.extend(given_twice(&attempts));
        anomalies.extend(out_of_order(&attempts));
        for listing in &listings {
            anomalies.extend(listing.strange(&attempts));
            anomalies.extend(listing.lost(&attempts));
        }
        if anomalies.is_empty() {
            if told == 0 {
                return Verdict::Unknown { reason: "no create was acknowledged".into() };
            }
            if listings.last().map(|listing| listing.begin) < last {
                return Verdict::Unknown { reason: "the nodes were not listed after the last create".into() };
            }
        }
        let unknown = attempts.values().filter(|attempt| attempt.kind == Kind::Info).count();
        Verdict::of(anomalies, format!("{told} acknowledged creates, {unknown} of unknown outcome"))
    }
}

impl Listing<'_> {
    /// What is there and should not be, or not so.
    fn strange(&self, attempts: &BTreeMap<u64, Attempt>) -> Vec<Anomaly> {
        let mut anomalies = Vec::new();
        let mut by_tag: BTreeMap<u64, u64> = BTreeMap::new();
        let mut by_number: BTreeMap<u64, u64> = BTreeMap::new();
        for (number, tag) in self.nodes {
            let attempt = attempts.get(tag);
            let mut anomaly = |what: String| {
                let begin = attempt.map(|attempt| attempt.begin);
                anomalies.push(Anomaly::new(what, begin.into_iter().chain([self.end]).collect::<Vec<_>>()));
            };
            if let Some(first) = by_tag.insert(*tag, *number) {
                anomaly(format!("create {tag} was applied twice, as numbers {first} and {number}"));
            } else if let Some(other) = by_number.insert(*number, *tag) {
                anomaly(format!("number {number} is there twice, of creates {other} and {tag}"));
            }
            match attempt {
                None => anomaly(format!("nobody created {tag}")),
                Some(Attempt { kind: Kind::Fail, .. }) => {
                    anomaly(format!("create {tag} was refused and is there"));
                }
                Some(Attempt { begin, .. }) if *begin > self.end => {
                    anomaly(format!("create {tag} is there before it was asked for"));
                }
                Some(Attempt { number: Some(told), .. }) if told != number => {
                    anomaly(format!("create {tag} was told number {told} and is there as {number}"));
                }
                Some(_) => {}
            }
        }
        anomalies
    }

    /// What was known before it began, and is not there.
    fn lost(&self, attempts: &BTreeMap<u64, Attempt>) -> Vec<Anomaly> {
        let present: BTreeSet<u64> = self.nodes.iter().map(|(_, tag)| *tag).collect();
        let mut anomalies = Vec::new();
        for (tag, attempt) in attempts.iter().filter(|(tag, _)| !present.contains(tag)) {
            let Some(known) = attempt.known.filter(|known| *known < self.begin) else { continue };
            let how = if attempt.acknowledged == Some(known) { "acknowledged" } else { "listed" };
            let number = attempt.number.map(|number| number.to_string()).unwrap_or_default();
            let what = format!("number {number} was {how} and is lost (create {tag})");
            anomalies.push(Anomaly::new(what, [attempt.begin, known, self.end]));
        }
        anomalies
    }
}

/// No two creates have one number.
fn given_twice(attempts: &BTreeMap<u64, Attempt>) -> Vec<Anomaly> {
    let mut by_number: BTreeMap<u64, usize> = BTreeMap::new();
    let mut anomalies = Vec::new();
    for attempt in attempts.values() {
        let (Some(number), Some(end)) = (attempt.number, attempt.acknowledged) else { continue };
        if let Some(other) = by_number.insert(number, end) {
            anomalies.push(Anomaly::new(format!("number {number} was given twice"), [other, end]));
        }
    }
    anomalies
}

/// A create that began after another was known must have a greater number.
fn out_of_order(attempts: &BTreeMap<u64, Attempt>) -> Vec<Anomaly> {
    let known = |attempt: &Attempt| Some((attempt.known?, attempt.number?));
    let greatest = Greatest::of(attempts.values().filter_map(known));
    let mut anomalies = Vec::new();
    for attempt in attempts.values() {
        let Some((end, number)) = known(attempt) else { continue };
        if let Some((other, before)) = greatest.before(attempt.begin)
            && other > number
        {
            anomalies.push(Anomaly::new(
                format!("number {number} was given after {other} had been acknowledged or listed"),
                [before, attempt.begin, end],
            ));
        }
    }
    anomalies
}
