//! Ctrl-C while the shell runs a script, on the real binary.
#![cfg(unix)]

use std::io::{Read, Write};
use std::net::TcpListener;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

/// A shell, and where its script is written.
fn shell(options: &[&str]) -> (Child, ChildStdin) {
    let mut shell = Command::new(env!("CARGO_BIN_EXE_quorate"))
        .args(options)
        .arg("shell")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the binary runs");
    let script = shell.stdin.take().expect("piped");
    (shell, script)
}

fn interrupt(shell: &Child) {
    let id = i32::try_from(shell.id()).ok().and_then(Pid::from_raw).expect("an id");
    kill_process(id, Signal::INT).expect("it runs");
}

#[test]
fn an_interrupted_script_ends_with_130_and_does_not_go_on() {
    // It takes calls and never answers, so that the first line is under way for as long as we like.
    let silent = TcpListener::bind("127.0.0.1:0").expect("a port");
    let endpoint = silent.local_addr().expect("bound").to_string();
    let (shell, mut script) = shell(&["--endpoints", &endpoint, "--timeout", "20s"]);
    script.write_all(b"get /a\nhelp\n").expect("it reads");
    drop(script);
    let connection = silent.accept().expect("the first line is run");
    std::thread::sleep(Duration::from_millis(300));
    let begun = Instant::now();
    interrupt(&shell);
    let output = shell.wait_with_output().expect("it ends");
    drop(connection);
    assert_eq!(output.status.code(), Some(130), "{output:?}");
    assert!(output.stdout.is_empty(), "the second line was not run: {output:?}");
    assert!(begun.elapsed() < Duration::from_secs(10), "it ended at once");
}

#[test]
fn a_script_that_is_interrupted_between_two_lines_ends_with_130() {
    let (mut shell, mut script) = shell(&[]);
    script.write_all(b"help\n").expect("it reads");
    // The first line's output: from then on it waits for the next line.
    let mut first = [0];
    shell.stdout.as_mut().expect("piped").read_exact(&mut first).expect("help");
    interrupt(&shell);
    let status = shell.wait().expect("it ends, though more lines could come");
    assert_eq!(status.code(), Some(130));
    drop(script);
}
