//! How often a property is tried: so often that all of the core's tests take less than a minute,
//! or as often as `PROPTEST_CASES` says.

use proptest::test_runner::Config;

/// The settings of a property that is tried `cases` times unless the environment says otherwise.
pub fn config(cases: u32) -> Config {
    let cases = match std::env::var_os("PROPTEST_CASES") {
        Some(_) => Config::default().cases,
        None => cases,
    };
    Config { cases, failure_persistence: None, ..Config::default() }
}
