//! kill -9 at random instants while writing: the member recovers each time.

use jepsen_tests::run_local;
use jepsen_tests::scenarios::{Failure, crash_recovery};

#[test]
fn a_member_recovers_from_five_random_kills() -> Result<(), Failure> {
    let measured = run_local(crash_recovery::run(5, 1))?;
    println!("{measured}");
    Ok(())
}
