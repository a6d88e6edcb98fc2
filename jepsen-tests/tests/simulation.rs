//! The simulation's short form: seeds that must pass, and what makes a seed worth anything.

use std::path::PathBuf;
use std::time::Duration;

use jepsen_tests::simulation::runner::{Batch, Summary, run};

/// Seeds that failed once, with the time for which they inflicted faults. Each is in the track
/// record of README.md.
const FAILED_ONCE: &[(u64, u64)] = &[(14, 20_000), (54, 20_000), (1266, 20_000)];

/// A few dozen seeds, short: their time on two busy cores stays below two minutes in a debug build.
const SEEDS: std::ops::Range<u64> = 0..24;

fn batch(seeds: impl IntoIterator<Item = u64>, time: Duration) -> Batch {
    Batch {
        program: PathBuf::from(env!("CARGO_BIN_EXE_jepsen-tests")),
        seeds: seeds.into_iter().collect(),
        jobs: 2,
        time,
        twice: false,
        fail_fast: false,
        bug: None,
    }
}

fn assert_passed(batch: &Batch, summary: &Summary) {
    assert!(summary.failures.is_empty(), "{:#?}", summary.failures);
    assert_eq!(summary.outcomes.len(), batch.seeds.len());
}

#[test]
fn short_seeds_pass_and_inflict_faults() {
    let batch = batch(SEEDS, Duration::from_secs(4));
    let summary = run(&batch);
    assert_passed(&batch, &summary);
    let faults: u64 = summary.outcomes.iter().flat_map(|outcome| outcome.faults.0.values()).sum();
    assert!(faults > summary.outcomes.len() as u64, "these seeds inflict next to nothing: {faults}");
    for checker in ["linearizable", "sequence", "set", "fencing", "watch"] {
        let judged =
            summary.outcomes.iter().filter(|outcome| outcome.judged.iter().any(|name| name == checker));
        assert!(judged.count() > 0, "{checker} had nothing to judge in any seed");
    }
}

#[test]
fn seeds_that_failed_once_pass() {
    for (seed, time_ms) in FAILED_ONCE {
        let batch = batch([*seed], Duration::from_millis(*time_ms));
        assert_passed(&batch, &run(&batch));
    }
}

#[test]
fn the_same_seed_gives_the_same_trace_in_two_processes_and_another_seed_another() {
    let mut batch = batch([5, 6], Duration::from_secs(3));
    batch.twice = true;
    let summary = run(&batch);
    assert_passed(&batch, &summary);
    assert_ne!(summary.outcomes[0].hash, summary.outcomes[1].hash);
}

#[test]
fn a_seed_whose_process_says_nothing_has_failed() {
    let mut batch = batch([1], Duration::from_secs(1));
    batch.program = PathBuf::from("/bin/false");
    let summary = run(&batch);
    assert_eq!((summary.outcomes.len(), summary.failures.len()), (0, 1), "{summary:?}");
}
