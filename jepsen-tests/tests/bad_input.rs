//! Whatever a client sends, the member lives and its memory comes back.

use jepsen_tests::run_local;
use jepsen_tests::scenarios::{Failure, bad_input};

#[test]
fn bad_input_is_refused_and_leaves_nothing_behind() -> Result<(), Failure> {
    let measured = run_local(bad_input::run(1_000))?;
    println!("{measured}");
    Ok(())
}
