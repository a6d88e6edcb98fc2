//! A counter: each increment counts once, and a read shows at least what was known before it.
//!
//! - no two increments come to the same value, and one that began after another was known comes to a
//!   greater one;
//! - a read shows at least every value that was known before it began, and what is told is no more than
//!   there were increments that may have come to it: begun before, and not known to have come to more.

use std::collections::BTreeMap;

use super::known::Greatest;
use super::{Anomaly, Checker, Verdict};
use crate::history::{History, Kind, Operation};

/// See the file's comment.
#[derive(Clone, Copy, Debug)]
pub struct Counter;

impl Checker for Counter {
    fn name(&self) -> &'static str {
        "counter"
    }

    fn check(&self, history: &History) -> Verdict {
        let pairs = history.pairs();
        let mut anomalies = Vec::new();
        let mut values: BTreeMap<u64, usize> = BTreeMap::new();
        // Where increments began that may have happened, and what they came to, if that is known.
        let mut begun: Vec<(usize, Option<u64>)> = Vec::new();
        // (end, value) of everything that told a value.
        let mut known: Vec<(usize, u64)> = Vec::new();
        let (mut increments, mut reads) = (0, 0);
        for pair in &pairs {
            let is_increment = matches!(pair.invoke.operation, Operation::Increment { .. });
            if is_increment && pair.kind() != Kind::Fail {
                let told = match pair.completion.map(|completion| &completion.operation) {
                    Some(Operation::Increment { value }) if pair.kind() == Kind::Ok => *value,
                    _ => None,
                };
                begun.push((pair.begin, told));
            }
            let (Kind::Ok, Some(completion), Some(end)) = (pair.kind(), pair.completion, pair.end) else {
                continue;
            };
            match completion.operation {
                Operation::Increment { value: Some(value) } => {
                    increments += 1;
                    if let Some(other) = values.insert(value, end) {
                        let what = format!("two increments came to {value}");
                        anomalies.push(Anomaly::new(what, [other, pair.begin, end]));
                    }
                    known.push((end, value));
                }
                Operation::ReadCounter { value: Some(value) } => {
                    reads += 1;
                    known.push((end, value));
                }
                _ => {}
            }
        }
        let known = Greatest::of(known);
        let mut answers: Vec<_> = pairs.iter().filter(|pair| pair.kind() == Kind::Ok).collect();
        answers.sort_unstable_by_key(|pair| pair.end);
        let mut possible = Possible::default();
        let mut begun = begun.into_iter().peekable();
        for pair in answers {
            let (Some(completion), Some(end)) = (pair.completion, pair.end) else { continue };
            while let Some((_, told)) = begun.next_if(|(begin, _)| *begin < end) {
                possible.begins(told);
            }
            let (value, least) = match completion.operation {
                Operation::Increment { value: Some(value) } => (value, 1),
                Operation::ReadCounter { value: Some(value) } => (value, 0),
                _ => continue,
            };
            // Nothing told is zero: what an increment comes to is more.
            let (floor, told) = known.before(pair.begin).unwrap_or((0, pair.begin));
            if value < floor.saturating_add(least) {
                let what = format!("{value}, though {floor} was known before");
                anomalies.push(Anomaly::new(what, [told, pair.begin, end]));
            }
            let possible = possible.up_to(value);
            if value > possible {
                let what = format!("{value}, though only {possible} increments can have come to it");
                anomalies.push(Anomaly::new(what, [pair.begin, end]));
            }
        }
        if anomalies.is_empty() && (increments == 0 || reads == 0) {
            return Verdict::Unknown { reason: format!("{increments} increments and {reads} reads") };
        }
        Verdict::of(anomalies, format!("{increments} increments, {reads} reads"))
    }
}

/// The increments begun so far.
#[derive(Default)]
struct Possible {
    /// What those came to that know it, in order. It grows with time, so each comes near the end.
    told: Vec<u64>,
    others: usize,
}

impl Possible {
    fn begins(&mut self, told: Option<u64>) {
        match told {
            Some(value) => {
                let place = self.told.partition_point(|other| *other < value);
                self.told.insert(place, value);
            }
            None => self.others += 1,
        }
    }

    /// How many may have happened when the counter was at this value.
    fn up_to(&self, value: u64) -> u64 {
        (self.others + self.told.partition_point(|other| *other <= value)) as u64
    }
}
