//! Short runs under faults of the network, the disk and the log files, judged like long ones.

use jepsen_tests::cluster::network::namespaces;
use jepsen_tests::run::{Plan, RunError, run};
use jepsen_tests::run_local;
use jepsen_tests::workloads::Door;

fn is_valid(workload: &str, nemesis: &str) -> Result<(), RunError> {
    let folder = tempfile::tempdir()?;
    let plan = Plan {
        workload: workload.into(),
        nemesis: vec![nemesis.into()],
        members: 3,
        time_ms: 12_000,
        seed: 3,
        workers: 4,
        rate: 150,
        door: Door::Grpc,
    };
    let outcome = run_local(run(&plan, &folder.path().join("run")))?;
    assert!(outcome.is_valid() && outcome.faults > 0, "{}: {outcome:#?}", plan.command());
    Ok(())
}

#[test]
fn lists_stay_strictly_serializable_while_leaders_are_isolated() -> Result<(), RunError> {
    match namespaces::are_possible() {
        Ok(()) => is_valid("append", "isolate-leader"),
        Err(why) => {
            eprintln!("not run: no namespaces here ({why})");
            Ok(())
        }
    }
}

#[test]
fn a_member_whose_fsync_fails_stops_by_its_own_message() -> Result<(), RunError> {
    is_valid("register", "failing-fsync")
}

#[test]
fn a_damaged_log_is_refused_and_its_member_replaced() -> Result<(), RunError> {
    is_valid("exactly-once", "bit-rot")
}
