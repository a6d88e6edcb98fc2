//! Many services, many who follow them, and a rolling restart that nobody notices.

use jepsen_tests::run_local;
use jepsen_tests::scenarios::Failure;
use jepsen_tests::scenarios::many_services::{Size, run};

#[test]
fn a_rolling_restart_loses_no_instance_and_invents_none() -> Result<(), Failure> {
    let measured =
        run_local(run(Size { instances: 600, services: 30, followers: 120, audience: 60, changes: 10 }))?;
    println!("{measured}");
    Ok(())
}
