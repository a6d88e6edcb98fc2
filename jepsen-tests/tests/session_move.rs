//! A session outlives the member that it was opened through.

use jepsen_tests::run_local;
use jepsen_tests::scenarios::{Failure, session_move};

#[test]
fn a_session_goes_on_through_another_member() -> Result<(), Failure> {
    let measured = run_local(session_move::run())?;
    println!("{measured}");
    Ok(())
}
