//! kill -9 of the leader under load: nothing lost, nothing twice, writes resume.

use jepsen_tests::run_local;
use jepsen_tests::scenarios::{Failure, failover};

#[test]
fn the_leader_dies_three_times_under_load() -> Result<(), Failure> {
    let measured = run_local(failover::run(3))?;
    println!("{measured}");
    Ok(())
}
