//! A command run while something is held: started, told of signals, ended if what was held is lost.
//!
//! Signals go to all that it has started, and on a terminal it has the keys and Ctrl-C: that is the
//! next room, [`Job`].

use std::future::Future;
use std::process::ExitStatus;
use std::time::Duration;

use tokio::process::{Child, Command};

use crate::arguments::Format;
use crate::failure::{Failure, Outcome, UNAVAILABLE};
use crate::job::{Job, Signals};
use crate::output::Output;

/// Between asking a command to end and ending it.
const GRACE: Duration = Duration::from_secs(5);

/// How often to look whether what the command has started is gone too: nobody tells us.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// Runs `command` with `environment` until it ends, or until `lost` says why it must not go on.
///
/// # Errors
/// The command's own status, silently; exit code 5 if `lost` came first; 126 or 127 if it cannot be
/// started, as shells have it.
pub async fn run(
    output: &Output,
    command: &[String],
    environment: &[(&str, String)],
    lost: impl Future<Output = String>,
) -> Outcome {
    let (program, arguments) = command.split_first().ok_or_else(|| Failure::usage("no command to run"))?;
    let mut starting = Command::new(program);
    starting.args(arguments).kill_on_drop(true);
    starting.envs(environment.iter().map(|(name, value)| (name, value)));
    #[cfg(unix)]
    starting.process_group(0);
    let mut signals = Signals::of_a_job()?;
    let mut child = match starting.spawn() {
        Ok(child) => child,
        Err(error) => {
            output.warn(&format!("cannot run {program}: {error}"));
            let is_absent = error.kind() == std::io::ErrorKind::NotFound;
            return Err(Failure::Silent(if is_absent { 127 } else { 126 }));
        }
    };
    let mut job = Job::of(&child).ok_or_else(|| Failure::other(format!("{program} has no process id")))?;
    tokio::pin!(lost);
    let why = loop {
        tokio::select! {
            // What must not go on is stopped first.
            biased;
            why = &mut lost => break why,
            status = child.wait() => {
                let status = status?;
                job.ended(status);
                return outcome(status);
            }
            signal = signals.next() => job.hear(signal),
        }
    };
    // People hear of it before the end, which may take its time; JSON readers hear one document.
    if output.format == Format::Table {
        output.warn(&format!("{why}; ending {program}"));
    }
    end(&mut child, &job).await?;
    match output.format {
        Format::Table => Err(Failure::Silent(UNAVAILABLE)),
        Format::Json => Err(Failure::unavailable(format!("{why}; {program} was ended"))),
    }
}

/// Ends the command and what it has started, whichever of them ends first.
async fn end(child: &mut Child, job: &Job) -> Outcome {
    job.terminate();
    let ended = async {
        child.wait().await?;
        while !job.is_gone() {
            tokio::time::sleep(LOOK_EVERY).await;
        }
        Ok(())
    };
    if let Ok(ended) = tokio::time::timeout(GRACE, ended).await {
        return ended;
    }
    job.kill();
    // Where there are no groups this is what ends it; elsewhere it may have ended already.
    let _ = child.start_kill();
    match tokio::time::timeout(GRACE, child.wait()).await {
        Ok(ended) => ended.map(|_| ()).map_err(Failure::from),
        // Another user's, perhaps.
        Err(_) => Err(Failure::unavailable("what was held is lost, and the command could not be ended")),
    }
}

fn outcome(status: ExitStatus) -> Outcome {
    if status.success() {
        return Ok(());
    }
    #[cfg(unix)]
    if let Some(signal) = std::os::unix::process::ExitStatusExt::signal(&status) {
        return Err(Failure::Silent(u8::try_from(128 + signal).unwrap_or(u8::MAX)));
    }
    Err(Failure::Silent(status.code().and_then(|code| u8::try_from(code).ok()).unwrap_or(1)))
}

/// Waits for `work`, unless somebody wants us to end before: then it is dropped.
///
/// # Errors
/// Exit code 130, silently, as shells have it after Ctrl-C.
pub async fn unless_stopped<T>(work: impl Future<Output = T>) -> Outcome<T> {
    tokio::select! {
        done = work => Ok(done),
        stopped = stop_signal() => stopped.and(Err(Failure::Silent(130))),
    }
}

/// Waits until somebody wants us to end.
pub async fn stop_signal() -> Outcome {
    let mut signals = Signals::new()?;
    signals.next().await;
    Ok(())
}

#[cfg(all(test, unix))]
mod tests {
    use std::io::Write;
    use std::path::Path;

    use super::*;

    fn shell(script: &str) -> Vec<String> {
        ["sh", "-c", script].map(Into::into).to_vec()
    }

    async fn run_shell(script: &str, environment: &[(&str, String)]) -> Outcome {
        run(&Output::new(Format::Table), &shell(script), environment, std::future::pending()).await
    }

    #[tokio::test]
    async fn the_status_of_the_command_is_ours() {
        assert!(run_shell("exit 0", &[]).await.is_ok());
        let code = async |script: &str| run_shell(script, &[]).await.expect_err(script).exit_code();
        assert_eq!(code("exit 7").await, 7);
        assert_eq!(code("kill -9 $$").await, 137);
        assert!(run_shell("test \"$TOKEN\" = 12", &[("TOKEN", "12".into())]).await.is_ok());
    }

    #[tokio::test]
    async fn an_absent_command_is_127() {
        let command = ["/no/such/command".to_string()];
        let failure = run(&Output::new(Format::Table), &command, &[], std::future::pending()).await;
        assert_eq!(failure.expect_err("absent").exit_code(), 127);
    }

    #[tokio::test]
    async fn what_is_lost_ends_the_command_and_what_it_started() {
        let directory = tempfile::tempdir().expect("a directory");
        let mark = directory.path().join("mark");
        let script = format!("trap 'touch {}; exit 0' TERM; sleep 600 & wait", mark.display());
        let lost = async {
            tokio::time::sleep(Duration::from_millis(300)).await;
            "the lock is lost".to_string()
        };
        let failure = run(&Output::new(Format::Table), &shell(&script), &[], lost).await.expect_err("lost");
        assert_eq!(failure.exit_code(), 5);
        assert!(mark.exists(), "the command was asked before it was ended");
    }

    /// Whether the process whose id the file has runs on. One that nobody has reaped does not.
    #[cfg(target_os = "linux")]
    fn runs(file: &Path) -> bool {
        let id = std::fs::read_to_string(file).expect("it has written its id");
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", id.trim())).unwrap_or_default();
        // Its state stands behind its name, which may hold anything.
        stat.rsplit_once(')').is_some_and(|(_, state)| !state.trim_start().starts_with('Z'))
    }

    /// Is lost as soon as there is something in the file.
    #[cfg(target_os = "linux")]
    async fn lost_after(file: &Path) -> String {
        while std::fs::read(file).unwrap_or_default().is_empty() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        "the lock is lost".to_string()
    }

    #[cfg(target_os = "linux")]
    #[tokio::test]
    async fn what_outlives_the_command_is_ended_too() {
        let directory = tempfile::tempdir().expect("a directory");
        let id = directory.path().join("id");
        let worker = format!("trap '' TERM; echo $$ > {}; while :; do sleep 1; done", id.display());
        let script = format!("sh -c \"{}\" & wait", worker.replace('$', "\\$"));
        let begun = std::time::Instant::now();
        let lost = lost_after(&id);
        let failure = run(&Output::new(Format::Table), &shell(&script), &[], lost).await.expect_err("lost");
        assert_eq!(failure.exit_code(), 5);
        assert!(begun.elapsed() >= GRACE, "it was given time");
        // The kernel needs a moment for it.
        tokio::time::sleep(Duration::from_millis(200)).await;
        assert!(!runs(&id), "nothing goes on unlocked");
    }

    /// Runs itself again where hangups are ignored: there is the second half.
    #[cfg(target_os = "linux")]
    #[tokio::test]
    async fn what_ignores_hangups_is_not_ended_by_one() {
        const AGAIN: &str = "QUORATE_TEST_IGNORES_HANGUPS";
        if std::env::var_os(AGAIN).is_some() {
            // The command hangs up on us, who would pass it on.
            return run_shell("kill -HUP $PPID; sleep 0.5", &[]).await.expect("it goes on to its end");
        }
        let name = "child::tests::what_ignores_hangups_is_not_ended_by_one";
        let itself = std::env::current_exe().expect("a file");
        let script = format!("trap '' HUP; exec '{}' --exact {name}", itself.display());
        let output = std::process::Command::new("sh").args(["-c", &script]).env(AGAIN, "1").output();
        let output = output.expect("sh runs");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
    }

    /// Runs itself again on a terminal of its own, where the second half is.
    #[cfg(target_os = "linux")]
    #[tokio::test]
    async fn on_a_terminal_the_command_has_the_keys_and_ends_with_what_it_started() {
        const DIRECTORY: &str = "QUORATE_TEST_DIRECTORY";
        let name = "child::tests::on_a_terminal_the_command_has_the_keys_and_ends_with_what_it_started";
        if let Some(directory) = std::env::var_os(DIRECTORY) {
            return on_a_terminal(Path::new(&directory)).await;
        }
        let directory = tempfile::tempdir().expect("a directory");
        let itself = std::env::current_exe().expect("a file");
        let mut script = std::process::Command::new("script")
            .args(["-qec", &format!("{} --exact {name} --nocapture", itself.display()), "/dev/null"])
            .env(DIRECTORY, directory.path())
            .stdin(std::process::Stdio::piped())
            .stdout(std::process::Stdio::piped())
            .spawn()
            .expect("script (of util-linux) makes a terminal");
        // Kept open: its end would be the terminal's.
        let mut keys = script.stdin.take().expect("piped");
        let ready = directory.path().join("ready");
        let begun = std::time::Instant::now();
        while !ready.exists() && begun.elapsed() < Duration::from_secs(20) {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        keys.write_all(b"typed\n").expect("the terminal is there");
        let output = script.wait_with_output().expect("it ends");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
        assert!(directory.path().join("done").exists(), "{}", String::from_utf8_lossy(&output.stdout));
        drop(keys);
    }

    #[cfg(target_os = "linux")]
    async fn on_a_terminal(directory: &Path) {
        use rustix::process::getpgrp;
        use rustix::termios::tcgetpgrp;

        std::env::set_current_dir(directory).expect("it is there");
        assert_eq!(tcgetpgrp(std::io::stdin()), Ok(getpgrp()), "we begin in the foreground");
        let script = "touch ready; read line; test \"$line\" = typed || exit 3
            sh -c 'echo $$ > id; exec sleep 600'; touch went-on";
        let lost = lost_after(Path::new("id"));
        let failure = run(&Output::new(Format::Table), &shell(script), &[], lost).await.expect_err("lost");
        assert_eq!(failure.exit_code(), 5);
        assert!(!runs(Path::new("id")), "the step under way has ended");
        assert!(!Path::new("went-on").exists(), "no step came after it");
        assert_eq!(tcgetpgrp(std::io::stdin()), Ok(getpgrp()), "the terminal is ours again");
        std::fs::write("done", "").expect("written");
    }
}
