//! A counter: each increment counts once, and a read shows at least what was known before it.
//!
//! - no two increments come to the same value, and one that began after another was known comes to a
//!   greater one;
//! - a read shows at least every value that was known before it began, and no more than there were
//!   increments begun before it ended.

use std::collections::BTreeMap;

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
        // Where increments began that may have happened.
        let mut begins: Vec<usize> = Vec::new();
        // (end, value) of everything that told a value, in the order of ends.
        let mut known: Vec<(usize, u64)> = Vec::new();
        let (mut increments, mut reads) = (0, 0);
        for pair in &pairs {
            let is_increment = matches!(pair.invoke.operation, Operation::Increment { .. });
            if is_increment && pair.kind() != Kind::Fail {
                begins.push(pair.begin);
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
        known.sort_unstable();
        // The greatest value known up to each place.
        let mut greatest = Vec::with_capacity(known.len());
        for (_, value) in &known {
            greatest.push(greatest.last().copied().unwrap_or(0).max(*value));
        }
        for pair in pairs.iter().filter(|pair| pair.kind() == Kind::Ok) {
            let (Some(completion), Some(end)) = (pair.completion, pair.end) else { continue };
            let (value, least) = match completion.operation {
                Operation::Increment { value: Some(value) } => (value, 1),
                Operation::ReadCounter { value: Some(value) } => (value, 0),
                _ => continue,
            };
            let before = known.partition_point(|(other, _)| *other < pair.begin);
            let floor = before.checked_sub(1).map_or(0, |place| greatest[place]);
            if value < floor + least {
                let what = format!("{value}, though {floor} was known before");
                anomalies.push(Anomaly::new(what, [known[before - 1].0, pair.begin, end]));
            }
            let possible = begins.partition_point(|begin| *begin < end) as u64;
            if value > possible {
                let what = format!("{value}, though only {possible} increments had begun");
                anomalies.push(Anomaly::new(what, [pair.begin, end]));
            }
        }
        if anomalies.is_empty() && (increments == 0 || reads == 0) {
            return Verdict::Unknown { reason: format!("{increments} increments and {reads} reads") };
        }
        Verdict::of(anomalies, format!("{increments} increments, {reads} reads"))
    }
}
