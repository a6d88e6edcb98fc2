//! A lagging member installs a snapshot under its clients: no reply or event lost.

use jepsen_tests::run_local;
use jepsen_tests::scenarios::{Failure, lagging_member};

#[test]
fn clients_of_a_member_that_installs_a_snapshot_lose_nothing() -> Result<(), Failure> {
    let measured = run_local(lagging_member::run())?;
    println!("{measured}");
    Ok(())
}
