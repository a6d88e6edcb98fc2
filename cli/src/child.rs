//! A command run while something is held: started, told of signals, ended if what was held is lost.
//!
//! On a terminal the command shares our process group, so that it reads keys and hears Ctrl-C by
//! itself. Elsewhere it gets a group of its own, and signals go to all that it has started.

use std::future::Future;
use std::io::IsTerminal;
use std::process::ExitStatus;
use std::time::Duration;

use tokio::process::{Child, Command};

use crate::arguments::Format;
use crate::failure::{Failure, Outcome, UNAVAILABLE};
use crate::output::Output;

/// Between asking a command to end and ending it.
const GRACE: Duration = Duration::from_secs(5);

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
    let is_grouped = !std::io::stdin().is_terminal();
    let mut starting = Command::new(program);
    starting.args(arguments).kill_on_drop(true);
    starting.envs(environment.iter().map(|(name, value)| (name, value)));
    #[cfg(unix)]
    if is_grouped {
        starting.process_group(0);
    }
    let mut signals = signals::Signals::new()?;
    let mut child = match starting.spawn() {
        Ok(child) => child,
        Err(error) => {
            output.warn(&format!("cannot run {program}: {error}"));
            let is_absent = error.kind() == std::io::ErrorKind::NotFound;
            return Err(Failure::Silent(if is_absent { 127 } else { 126 }));
        }
    };
    tokio::pin!(lost);
    let why = loop {
        tokio::select! {
            // What must not go on is stopped first.
            biased;
            why = &mut lost => break why,
            status = child.wait() => return outcome(status?),
            signal = signals.next() => if is_grouped || !signal.reaches_the_terminal_group() {
                signals::send(&child, is_grouped, signal);
            },
        }
    };
    // People hear of it before the end, which may take its time; JSON readers hear one document.
    if output.format == Format::Table {
        output.warn(&format!("{why}; ending {program}"));
    }
    end(&mut child, is_grouped).await?;
    match output.format {
        Format::Table => Err(Failure::Silent(UNAVAILABLE)),
        Format::Json => Err(Failure::unavailable(format!("{why}; {program} was ended"))),
    }
}

async fn end(child: &mut Child, is_grouped: bool) -> Outcome {
    signals::send(child, is_grouped, signals::Signal::Terminate);
    if tokio::time::timeout(GRACE, child.wait()).await.is_err() {
        signals::send(child, is_grouped, signals::Signal::Kill);
        child.kill().await?;
    }
    Ok(())
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
    let mut signals = signals::Signals::new()?;
    signals.next().await;
    Ok(())
}

#[cfg(unix)]
mod signals {
    //! Signals, to us and to the command.

    use rustix::process::{Pid, kill_process, kill_process_group};
    use tokio::process::Child;
    use tokio::signal::unix::{self, SignalKind};

    use crate::failure::Outcome;

    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub enum Signal {
        Hangup,
        Interrupt,
        Terminate,
        Kill,
    }

    impl Signal {
        /// Whether a terminal sends it to the whole group, the command included.
        pub fn reaches_the_terminal_group(self) -> bool {
            matches!(self, Signal::Hangup | Signal::Interrupt)
        }
    }

    /// Those that others send to us.
    pub struct Signals {
        hangup: unix::Signal,
        interrupt: unix::Signal,
        terminate: unix::Signal,
    }

    impl Signals {
        pub fn new() -> Outcome<Signals> {
            Ok(Signals {
                hangup: unix::signal(SignalKind::hangup())?,
                interrupt: unix::signal(SignalKind::interrupt())?,
                terminate: unix::signal(SignalKind::terminate())?,
            })
        }

        pub async fn next(&mut self) -> Signal {
            tokio::select! {
                _ = self.hangup.recv() => Signal::Hangup,
                _ = self.interrupt.recv() => Signal::Interrupt,
                _ = self.terminate.recv() => Signal::Terminate,
            }
        }
    }

    pub fn send(child: &Child, is_grouped: bool, signal: Signal) {
        let pid = child.id().and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw);
        // Without an id it has ended already.
        let Some(pid) = pid else { return };
        let signal = match signal {
            Signal::Hangup => rustix::process::Signal::HUP,
            Signal::Interrupt => rustix::process::Signal::INT,
            Signal::Terminate => rustix::process::Signal::TERM,
            Signal::Kill => rustix::process::Signal::KILL,
        };
        // It may end at this moment: then there is nobody left to tell.
        let _ = if is_grouped { kill_process_group(pid, signal) } else { kill_process(pid, signal) };
    }
}

#[cfg(not(unix))]
mod signals {
    //! Where there are no signals: Ctrl-C, and ending a process.

    use tokio::process::Child;

    use crate::failure::Outcome;

    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub enum Signal {
        Interrupt,
        Terminate,
        Kill,
    }

    impl Signal {
        pub fn reaches_the_terminal_group(self) -> bool {
            matches!(self, Signal::Interrupt)
        }
    }

    pub struct Signals;

    impl Signals {
        pub fn new() -> Outcome<Signals> {
            Ok(Signals)
        }

        pub async fn next(&mut self) -> Signal {
            if tokio::signal::ctrl_c().await.is_err() {
                std::future::pending::<()>().await;
            }
            Signal::Interrupt
        }
    }

    /// Nothing softer than the end is known here, and that is left to the caller.
    pub fn send(_child: &Child, _is_grouped: bool, _signal: Signal) {}
}

#[cfg(all(test, unix))]
mod tests {
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
}
