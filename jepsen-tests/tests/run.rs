//! A short run through the whole harness, and what a seed decides.

use std::time::Duration;

use jepsen_tests::history::History;
use jepsen_tests::nemesis::Schedule;
use jepsen_tests::run::{HISTORY_FILE, Plan, RunError, load, run};
use jepsen_tests::run_local;
use jepsen_tests::workloads::Door;

#[test]
fn a_short_run_under_kills_is_judged_valid_and_kept() -> Result<(), RunError> {
    let folder = tempfile::tempdir()?;
    let folder = folder.path().join("run");
    let plan = Plan {
        workload: "register".into(),
        nemesis: vec!["kill-leader".into()],
        members: 3,
        time_ms: 10_000,
        seed: 2,
        workers: 4,
        rate: 200,
        door: Door::Grpc,
    };
    let outcome = run_local(run(&plan, &folder))?;
    assert!(outcome.is_valid(), "{outcome:#?}");
    assert_eq!(load(&folder)?, outcome);
    let history = History::read(&folder.join(HISTORY_FILE))?;
    assert!(!history.faults().is_empty(), "the seed inflicts nothing in this time");
    let page = std::fs::read_to_string(folder.join("report.html"))?;
    assert!(page.contains("register under kill-leader") && page.contains("<polyline"), "{page}");
    assert!(page.contains("--seed 2"), "the page does not say how to repeat the run");

    let again = run_local(run(&plan, &folder)).expect_err("a used folder is refused");
    assert!(matches!(again, RunError::Used(_)), "{again}");
    Ok(())
}

#[test]
fn an_unknown_name_is_refused_by_name() {
    let plan = Plan {
        workload: "regster".into(),
        nemesis: Vec::new(),
        members: 3,
        time_ms: 1,
        seed: 0,
        workers: 1,
        rate: 1,
        door: Door::Grpc,
    };
    let error = run_local(run(&plan, std::path::Path::new("nowhere"))).expect_err("no such workload");
    assert!(error.to_string().contains("regster"), "{error}");
}

#[test]
fn the_same_seed_gives_the_same_faults_and_all_end_in_time() {
    let length = Duration::from_secs(60);
    for seed in 0..100 {
        let schedule = Schedule::draw(seed, length, 3);
        assert_eq!(schedule, Schedule::draw(seed, length, 3));
        assert!(schedule.faults.len() >= 5, "{schedule:?}");
        let total: Duration = schedule.faults.iter().map(|(pause, lasts, _)| *pause + *lasts).sum();
        assert!(total < length && schedule.faults.iter().all(|(_, _, which)| *which < 3), "{schedule:?}");
    }
    assert_ne!(Schedule::draw(1, length, 3), Schedule::draw(2, length, 3));
}
