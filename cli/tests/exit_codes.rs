//! The exit codes that need no cluster, on the real binary.

use std::process::{Command, Output};

fn quorate(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_quorate"))
        .args(arguments)
        .env_remove("QUORATE_ENDPOINTS")
        .output()
        .expect("the binary runs")
}

#[test]
fn a_word_that_is_no_command_is_a_usage_error() {
    let output = quorate(&["frobnicate"]);
    assert_eq!(output.status.code(), Some(2), "{output:?}");
    assert!(output.stdout.is_empty(), "{output:?}");
}

#[test]
fn no_member_at_the_endpoint_is_unavailable_and_says_where() {
    // Port 1 of loopback: nobody listens there, and the refusal comes at once.
    let output = quorate(&["--endpoints", "127.0.0.1:1", "--timeout", "2s", "get", "/a"]);
    assert_eq!(output.status.code(), Some(5), "{output:?}");
    assert!(String::from_utf8_lossy(&output.stderr).contains("127.0.0.1:1"), "{output:?}");
}
