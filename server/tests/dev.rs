//! `quorated dev` as its own process: what keeps its members from starting is said, at once.

use std::net::TcpListener;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// The longest that a test waits for anything.
const PATIENCE: Duration = Duration::from_secs(60);

/// A process that is killed when dropped.
struct Dev(Child);

impl Drop for Dev {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Runs it until it ends by itself: whether with success, and what it said on stderr.
fn run(arguments: &[&str]) -> (bool, String) {
    let said = tempfile::NamedTempFile::new().expect("a file");
    let mut command = Command::new(env!("CARGO_BIN_EXE_quorated"));
    command.arg("dev").args(arguments).stdin(Stdio::null()).stdout(Stdio::null());
    command.stderr(said.reopen().expect("the same file"));
    let mut dev = Dev(command.spawn().expect("starts"));
    let started = Instant::now();
    loop {
        if let Some(status) = dev.0.try_wait().expect("our child") {
            return (status.success(), std::fs::read_to_string(said.path()).expect("text"));
        }
        assert!(started.elapsed() < PATIENCE, "not in {PATIENCE:?}: it ends");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// A listener on a port that can be the second member's, as all others of two members are free.
fn second_client_port() -> (TcpListener, u16) {
    for _ in 0..100 {
        let taken = TcpListener::bind("127.0.0.1:0").expect("a port");
        let second = taken.local_addr().expect("an address").port();
        let first = second - 10;
        let others = [first, first + 1, first + 80, second + 1].map(Some);
        let mut others = others.into_iter().chain([second.checked_add(80)]);
        let is_free =
            |port: Option<u16>| port.is_some_and(|port| TcpListener::bind(("127.0.0.1", port)).is_ok());
        if others.all(is_free) {
            return (taken, second);
        }
    }
    panic!("no free ports")
}

#[test]
fn a_port_of_any_member_that_is_taken_ends_it_with_an_error_that_names_it() {
    let (_taken, second) = second_client_port();
    let base = (second - 10).to_string();
    let (succeeded, said) = run(&["--members", "2", "--port", &base]);
    assert!(!succeeded);
    assert!(said.contains("client_listen") && said.contains(&format!("127.0.0.1:{second}")), "{said}");
}

#[test]
fn so_many_members_that_their_ports_would_meet_are_refused() {
    let (succeeded, said) = run(&["--members", "9"]);
    assert!(!succeeded);
    assert!(said.contains("1..=8"), "{said}");
}
