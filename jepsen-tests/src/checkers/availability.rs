//! Availability: after each fault something succeeds again, in time.
//!
//! Reported: how long nothing succeeded after each fault began, and after it was healed. Judged: only
//! the time after healing and before the next fault. A majority's loss rightly stops everything, and
//! what a dead client's session holds is rightly held until its timeout, which a new leader counts anew.

use std::time::Duration;

use super::{Anomaly, Checker, Verdict};
use crate::history::{Entry, History, JUDGE, Kind, NEMESIS, Operation};

/// See the file's comment.
#[derive(Clone, Copy, Debug)]
pub struct Availability {
    /// How long after healing, without a new fault, nothing may succeed.
    pub recovery_max: Duration,
}

/// Operations that succeeded, (begin, end) in microseconds, in the order of their beginnings. Those
/// that began before a given time prove nothing about it: their answers may have been on their way.
fn successes(history: &History) -> Vec<(u64, u64)> {
    let mut successes: Vec<(u64, u64)> = history
        .pairs()
        .iter()
        .filter(|pair| pair.kind() == Kind::Ok && pair.invoke.process < NEMESIS)
        .filter(|pair| pair.invoke.kind == Kind::Invoke)
        .filter_map(|pair| Some((pair.invoke.time_us, pair.completion?.time_us)))
        .collect();
    successes.sort_unstable();
    successes
}

/// When the first success came of an operation that began at or after this time.
fn first_from(successes: &[(u64, u64)], from: u64) -> Option<u64> {
    let behind = successes.partition_point(|(begin, _)| *begin < from);
    successes[behind..].iter().map(|(_, end)| *end).min()
}

/// For each fault, how long it took from its beginning to the next success.
pub fn outages(history: &History) -> Vec<Duration> {
    let successes = successes(history);
    let begins = history.entries.iter().filter_map(|entry| match entry.operation {
        Operation::Fault { healed: false, .. } => Some(entry.time_us),
        _ => None,
    });
    begins.filter_map(|begin| Some(Duration::from_micros(first_from(&successes, begin)? - begin))).collect()
}

impl Checker for Availability {
    fn name(&self) -> &'static str {
        "availability"
    }

    fn check(&self, history: &History) -> Verdict {
        let limit = self.recovery_max.as_micros() as u64;
        let successes = successes(history);
        if successes.is_empty() {
            return Verdict::Invalid { anomalies: vec![Anomaly::new("nothing ever succeeded", [])] };
        }
        let work_end = history
            .entries
            .iter()
            .filter(|entry| entry.process < NEMESIS && entry.process != JUDGE && entry.kind == Kind::Invoke)
            .map(|entry| entry.time_us)
            .max()
            .unwrap_or(0);
        let mut anomalies = Vec::new();
        let mut recoveries = Vec::new();
        let outages: Vec<u64> = outages(history).iter().map(|time| time.as_micros() as u64).collect();
        for (index, entry) in history.entries.iter().enumerate() {
            let Operation::Fault { nemesis, healed, .. } = &entry.operation else { continue };
            let next = first_from(&successes, entry.time_us);
            if !healed {
                continue;
            }
            let fault = |entry: &Entry| matches!(entry.operation, Operation::Fault { healed: false, .. });
            let next_fault = history.entries[index..].iter().find(|entry| fault(entry));
            let calm_end = next_fault.map_or(work_end, |entry| entry.time_us);
            recoveries.extend(next.map(|next| next - entry.time_us));
            let waited = next.unwrap_or(u64::MAX).min(calm_end).saturating_sub(entry.time_us);
            if waited > limit {
                anomalies.push(Anomaly::new(
                    format!("nothing succeeded for {} ms after {nemesis} was healed", waited / 1000),
                    [index],
                ));
            }
        }
        let show = |name: &str, mut times: Vec<u64>| {
            times.sort_unstable();
            match (times.get(times.len() / 2), times.last()) {
                (Some(median), Some(worst)) => {
                    format!("; {name}: median {} ms, worst {} ms", median / 1000, worst / 1000)
                }
                _ => String::new(),
            }
        };
        let none = if history.faults().is_empty() { "; no faults" } else { "" };
        let summary = format!(
            "{} successes{none}{}{}",
            successes.len(),
            show("from a fault to the next success", outages),
            show("from healing to the next success", recoveries)
        );
        Verdict::of(anomalies, summary)
    }
}
