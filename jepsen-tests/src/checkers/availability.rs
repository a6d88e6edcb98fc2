//! Availability: after each fault something succeeds again, in time.
//!
//! Reported: how long nothing succeeded after each fault began, and after it was healed. Judged: only
//! the time after healing and before the next fault. A majority's loss rightly stops everything, and
//! what a dead client's session holds is rightly held until its timeout, which a new leader counts anew.
//! The judged time ends when the workers are told to stop, whether they still ask or wait in vain. A
//! run of a minute that leaves less than the limit behind its last fault could not be judged: unknown.

use std::time::Duration;

use super::{Anomaly, Checker, Verdict};
use crate::history::{Entry, History, JUDGE, Kind, NEMESIS, Operation};

/// A run of this length or more must end with enough time without faults to judge by.
const LONG: Duration = Duration::from_secs(60);

/// See the file's comment.
#[derive(Clone, Copy, Debug)]
pub struct Availability {
    /// How long after healing, without a new fault, nothing may succeed.
    pub recovery_max: Duration,
}

/// Operations that succeeded, (begin, end) in microseconds, in the order of their beginnings. Those
/// that began before a given time prove nothing about it: their answers may have been on their way. Nor
/// does falling silent: a client does that without the cluster.
fn successes(history: &History) -> Vec<(u64, u64)> {
    let mut successes: Vec<(u64, u64)> = history
        .pairs()
        .iter()
        .filter(|pair| pair.kind() == Kind::Ok && pair.invoke.process < NEMESIS)
        .filter(|pair| pair.invoke.kind == Kind::Invoke)
        .filter(|pair| !matches!(pair.invoke.operation, Operation::EndSession { closes: false, .. }))
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

/// When the last operation of the workload was begun.
fn last_invocation(history: &History) -> u64 {
    let asked = history
        .entries
        .iter()
        .filter(|entry| entry.process < NEMESIS && entry.process != JUDGE && entry.kind == Kind::Invoke);
    asked.map(|entry| entry.time_us).max().unwrap_or(0)
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
        let stop = history.entries.iter().find(|entry| entry.operation == Operation::Stop);
        let stop = stop.map(|entry| entry.time_us);
        // Histories of before have no stop: the last that was asked.
        let work_end = stop.unwrap_or_else(|| last_invocation(history));
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
        // The last fault's end, if it has one.
        let healed = history.entries.iter().rev().find_map(|entry| match entry.operation {
            Operation::Fault { healed, .. } => Some(healed.then_some(entry.time_us)),
            _ => None,
        });
        let is_judged =
            healed.is_none_or(|healed| healed.is_some_and(|healed| work_end.saturating_sub(healed) >= limit));
        let is_long = stop.is_some_and(|stop| stop >= LONG.as_micros() as u64);
        if anomalies.is_empty() && is_long && !is_judged {
            let reason = format!("less than {:?} without faults at the end", self.recovery_max);
            return Verdict::Unknown { reason };
        }
        Verdict::of(anomalies, summary)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CHECKER: Availability = Availability { recovery_max: Duration::from_secs(10) };

    fn entry(second: u64, process: u32, kind: Kind, operation: Operation) -> Entry {
        Entry { time_us: second * 1_000_000, process, kind, operation, zxid: None, error: None }
    }

    fn fault(second: u64, healed: bool) -> Entry {
        let operation = Operation::Fault { nemesis: "kill-one".into(), healed, members: vec![1] };
        entry(second, NEMESIS, Kind::Info, operation)
    }

    /// An operation that is answered within its second.
    fn success(second: u64) -> [Entry; 2] {
        [Kind::Invoke, Kind::Ok].map(|kind| entry(second, 1, kind, Operation::Add { element: second }))
    }

    /// A fault from second 20 to `healed`, with successes before it and in these seconds.
    fn run(healed: u64, answered: &[u64], stop: Option<u64>) -> History {
        let mut entries: Vec<Entry> = success(1).into();
        entries.extend([fault(20, false), fault(healed, true)]);
        entries.extend(answered.iter().flat_map(|second| success(*second)));
        entries.extend(stop.map(|stop| entry(stop, NEMESIS, Kind::Info, Operation::Stop)));
        entries.sort_by_key(|entry| entry.time_us);
        History { entries }
    }

    #[test]
    fn workers_that_wait_in_vain_do_not_shorten_the_judged_time() {
        let dead = run(45, &[], Some(60));
        assert!(matches!(CHECKER.check(&dead), Verdict::Invalid { .. }));
        // A success behind the stop is the last read's, which came too late.
        let late = run(45, &[58], Some(60));
        assert!(matches!(CHECKER.check(&late), Verdict::Invalid { .. }));
        assert!(CHECKER.check(&run(45, &[46, 59], Some(60))).is_valid());
    }

    #[test]
    fn a_history_without_a_stop_is_judged_up_to_its_last_invocation() {
        assert!(CHECKER.check(&run(45, &[], None)).is_valid());
        assert!(matches!(CHECKER.check(&run(45, &[58], None)), Verdict::Invalid { .. }));
    }

    #[test]
    fn a_run_of_a_minute_without_time_behind_its_last_fault_is_not_judged() {
        assert!(matches!(CHECKER.check(&run(55, &[56], Some(61))), Verdict::Unknown { .. }));
        assert!(CHECKER.check(&run(50, &[51], Some(61))).is_valid());
        let mut never_healed = run(45, &[46], Some(61));
        never_healed.entries.retain(|entry| entry.time_us != 45_000_000);
        assert!(matches!(CHECKER.check(&never_healed), Verdict::Unknown { .. }));
        // Short runs, and those without faults, have their verdict.
        assert!(CHECKER.check(&run(25, &[26], Some(30))).is_valid());
        let calm = History { entries: success(1).into() };
        assert!(CHECKER.check(&calm).is_valid());
    }
}
