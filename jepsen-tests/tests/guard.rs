//! Members do not outlive a harness that was killed before it could clean up.

use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use jepsen_tests::cluster::Binaries;

const PATIENCE: Duration = Duration::from_secs(60);

/// The processes whose parent this is and that serve.
fn members_of(parent: u32) -> Vec<u32> {
    let processes = std::fs::read_dir("/proc").expect("Linux").flatten();
    let ids = processes.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    ids.filter(|id| {
        let read = |file| std::fs::read_to_string(format!("/proc/{id}/{file}")).unwrap_or_default();
        read("status").lines().any(|line| line == format!("PPid:\t{parent}"))
            && read("cmdline").split('\0').any(|word| word == "serve")
    })
    .collect()
}

/// Whether a process lives and serves; its number may have passed to another.
fn serves(id: &u32) -> bool {
    let words = std::fs::read_to_string(format!("/proc/{id}/cmdline")).unwrap_or_default();
    words.split('\0').any(|word| word == "serve")
}

fn wait_for(what: &str, mut holds: impl FnMut() -> bool) {
    let started = Instant::now();
    while !holds() {
        assert!(started.elapsed() < PATIENCE, "not in {PATIENCE:?}: {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn members_end_with_a_harness_that_was_killed() {
    // Built here, if at all: a build would take longer than our patience.
    Binaries::find().expect("the programs");
    let mut harness = Command::new(env!("CARGO_BIN_EXE_jepsen-tests"))
        .args(["scenario", "failover", "--times", "1000"])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("starts");
    let mut members = Vec::new();
    wait_for("three members run", || {
        members = members_of(harness.id());
        members.len() == 3
    });
    harness.kill().expect("SIGKILL");
    harness.wait().expect("ends");
    wait_for("the members have ended", || !members.iter().any(serves));
}
