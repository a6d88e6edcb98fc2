//! A member with a deleted data directory: refused, replaced, and its old id never votes.

use jepsen_tests::run_local;
use jepsen_tests::scenarios::{Failure, lost_disk};

#[test]
fn a_lost_disk_is_refused_and_replaced() -> Result<(), Failure> {
    let measured = run_local(lost_disk::run())?;
    println!("{measured}");
    Ok(())
}
