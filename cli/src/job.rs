//! A job, in a shell's sense: a command with all that it has started, the signals that reach it, and
//! its terminal.
//!
//! The command gets a process group of its own, so that what it has started can be ended with it.
//! A terminal gives keys and Ctrl-C to one group, the foreground. Where that is ours, it is lent to
//! the command and taken back at the end. Where our output goes down a pipe, whoever reads there may
//! want the keys as well (a pager): then it is lent when the command asks for it.
//!
//! Deliberately absent: what leaves the group (a daemon, the jobs of an interactive shell) is not
//! followed.

pub use of_this_system::{Job, Signals};

#[cfg(unix)]
mod of_this_system {
    use std::io::IsTerminal;
    use std::os::unix::process::ExitStatusExt;
    use std::process::ExitStatus;

    use nix::sys::signal::{SigSet, SigmaskHow};
    use rustix::io::Errno;
    use rustix::process::{
        Pid, Signal as Kind, WaitId, WaitIdOptions, getpgrp, getpid, getsid, kill_process,
        kill_process_group, test_kill_process_group, waitid,
    };
    use rustix::termios::{tcgetpgrp, tcsetpgrp};
    use tokio::process::Child;
    use tokio::signal::unix::{self, SignalKind};

    use crate::failure::Outcome;

    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub enum Signal {
        Hangup,
        Interrupt,
        Terminate,
        Suspend,
        Resume,
        /// A child of ours has stopped, gone on or ended.
        Child,
    }

    /// Those that others send to us.
    pub struct Signals {
        hangup: Option<unix::Signal>,
        interrupt: unix::Signal,
        terminate: unix::Signal,
        suspend: Option<unix::Signal>,
        resume: Option<unix::Signal>,
        child: Option<unix::Signal>,
    }

    impl Signals {
        /// Those by which somebody wants us to end.
        pub fn new() -> Outcome<Signals> {
            Ok(Signals {
                hangup: if is_hangup_ignored() { None } else { Some(unix::signal(SignalKind::hangup())?) },
                interrupt: unix::signal(SignalKind::interrupt())?,
                terminate: unix::signal(SignalKind::terminate())?,
                suspend: None,
                resume: None,
                child: None,
            })
        }

        /// Those that concern a job too.
        pub fn of_a_job() -> Outcome<Signals> {
            let listen = |kind: Kind| unix::signal(SignalKind::from_raw(kind.as_raw()));
            let mut signals = Signals::new()?;
            signals.resume = Some(listen(Kind::CONT)?);
            signals.child = Some(unix::signal(SignalKind::child())?);
            // Where the foreground is ours, Ctrl-Z stops us, and the command must not go on alone.
            // Nor must a pager that asks for keys in vain stop us: to have listened once prevents it.
            if !is_lent_at_once() {
                signals.suspend = Some(listen(Kind::TSTP)?);
                drop(listen(Kind::TTIN)?);
            }
            Ok(signals)
        }

        /// # Cancel safety
        /// No signal is missed, but those of a kind that come together count as one.
        pub async fn next(&mut self) -> Signal {
            tokio::select! {
                () = heard(&mut self.hangup) => Signal::Hangup,
                _ = self.interrupt.recv() => Signal::Interrupt,
                _ = self.terminate.recv() => Signal::Terminate,
                () = heard(&mut self.suspend) => Signal::Suspend,
                () = heard(&mut self.resume) => Signal::Resume,
                () = heard(&mut self.child) => Signal::Child,
            }
        }
    }

    async fn heard(signal: &mut Option<unix::Signal>) {
        match signal {
            Some(signal) => {
                signal.recv().await;
            }
            None => std::future::pending().await,
        }
    }

    /// Whether who started us has protected us from hangups (`nohup`), and with us what we start: to
    /// listen would undo it. Only Linux says so to a program without unsafe code.
    fn is_hangup_ignored() -> bool {
        let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
        let ignored = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
        let ignored = ignored.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok());
        ignored.is_some_and(|mask| mask & (1 << (Kind::HUP.as_raw() - 1)) != 0)
    }

    /// Dropping it takes the terminal back, and leaves the command alone.
    pub struct Job {
        /// The command's process id, and its group's.
        group: Pid,
        terminal: Option<Terminal>,
    }

    impl Job {
        /// The job of a command started just now in a group of its own; `None` if it has been waited
        /// for.
        pub fn of(child: &Child) -> Option<Job> {
            let group = child.id().and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw)?;
            let mut job = Job { group, terminal: Terminal::of_stdin() };
            if is_lent_at_once() {
                job.lend_terminal();
            }
            Some(job)
        }

        /// Passes a signal on, or does for the job what a shell does.
        pub fn hear(&mut self, signal: Signal) {
            match signal {
                Signal::Hangup => self.send(Kind::HUP),
                Signal::Interrupt => self.send(Kind::INT),
                Signal::Terminate => self.send(Kind::TERM),
                // As the system has it for who does not listen: nobody could let us go on.
                Signal::Suspend if has_no_shell() => {}
                Signal::Suspend => {
                    self.send(Kind::TSTP);
                    // It returns when somebody lets us go on.
                    let _ = kill_process(getpid(), Kind::STOP);
                    self.resume();
                }
                Signal::Resume => self.resume(),
                Signal::Child => self.follow(),
            }
        }

        /// Asks all of it to end.
        pub fn terminate(&self) {
            self.send(Kind::TERM);
            // What is stopped hears it when it goes on.
            self.send(Kind::CONT);
        }

        /// Ends all of it.
        pub fn kill(&self) {
            self.send(Kind::KILL);
        }

        /// Takes the terminal back from a command that has ended. A Ctrl-C that ended it was meant for
        /// whoever started us, too: a script that goes on with its next line could not be interrupted.
        pub fn ended(&mut self, status: ExitStatus) {
            let Some(terminal) = &mut self.terminal else { return };
            let was_lent = terminal.is_lent;
            terminal.take_back();
            if was_lent && status.signal() == Some(Kind::INT.as_raw()) {
                // We listen, and have nothing left to do.
                let _ = kill_process_group(getpgrp(), Kind::INT);
            }
        }

        /// Whether nothing of it is left. What has ended is left until its parent has heard of it.
        pub fn is_gone(&self) -> bool {
            test_kill_process_group(self.group) == Err(Errno::SRCH)
        }

        fn send(&self, kind: Kind) {
            // It may have ended: then there is nobody left to tell. The id names nobody else as long
            // as anything is left of the group.
            let _ = kill_process_group(self.group, kind);
        }

        /// Gives the terminal to the job if it is ours to give. False: it is not the job's.
        fn lend_terminal(&mut self) -> bool {
            let group = self.group;
            self.terminal.as_mut().is_some_and(|terminal| terminal.lend(group))
        }

        /// After a stop of ours: who let us go on has decided in whose hands the terminal is.
        fn resume(&mut self) {
            if let Some(terminal) = &mut self.terminal {
                terminal.is_lent = terminal.foreground() == Some(self.group);
            }
            if is_lent_at_once() {
                self.lend_terminal();
            }
            self.send(Kind::CONT);
        }

        /// If the terminal has stopped the command, we stop too, so that the shell above us hears of
        /// it; the command goes on with us.
        fn follow(&mut self) {
            if self.terminal.is_none() {
                return;
            }
            let Some(why) = self.stopped_by() else { return };
            let asks_for_terminal = why == Kind::TTIN.as_raw() || why == Kind::TTOU.as_raw();
            if asks_for_terminal && self.lend_terminal() {
                self.send(Kind::CONT);
                return;
            }
            if has_no_shell() {
                if !asks_for_terminal {
                    self.send(Kind::CONT);
                }
                return;
            }
            if let Some(terminal) = &mut self.terminal {
                terminal.take_back();
            }
            // As the terminal would have done it: with all of our pipeline. It returns when somebody
            // lets us go on.
            let _ = kill_process_group(getpgrp(), Kind::STOP);
            self.resume();
        }

        /// What has stopped the command since this was asked last. It does not reap the command.
        fn stopped_by(&self) -> Option<i32> {
            let options = WaitIdOptions::STOPPED | WaitIdOptions::NOHANG;
            waitid(WaitId::Pid(self.group), options).ok().flatten()?.stopping_signal()
        }
    }

    /// Whether nobody above us could let us go on after a stop.
    fn has_no_shell() -> bool {
        getsid(None) == Ok(getpgrp())
    }

    /// Whether nobody but the command can want the keys.
    fn is_lent_at_once() -> bool {
        std::io::stdin().is_terminal() && std::io::stdout().is_terminal()
    }

    /// The terminal that controls us.
    ///
    /// - While it exists, this thread may speak to the terminal from the background: SIGTTOU, which
    ///   would stop us, is blocked. Hence it is made after the command was started, and dropped on
    ///   the thread that made it.
    struct Terminal {
        own_group: Pid,
        is_lent: bool,
        mask_before: SigSet,
    }

    impl Terminal {
        fn of_stdin() -> Option<Terminal> {
            tcgetpgrp(std::io::stdin()).ok()?;
            let mut blocked = SigSet::empty();
            blocked.add(nix::sys::signal::Signal::SIGTTOU);
            let mask_before = blocked.thread_swap_mask(SigmaskHow::SIG_BLOCK).ok()?;
            Some(Terminal { own_group: getpgrp(), is_lent: false, mask_before })
        }

        fn foreground(&self) -> Option<Pid> {
            tcgetpgrp(std::io::stdin()).ok()
        }

        /// Makes `group` the foreground if we are it. True: it is the foreground.
        fn lend(&mut self, group: Pid) -> bool {
            let foreground = self.foreground();
            if foreground == Some(self.own_group) {
                self.is_lent = tcsetpgrp(std::io::stdin(), group).is_ok();
                return self.is_lent;
            }
            foreground == Some(group)
        }

        fn take_back(&mut self) {
            if self.is_lent {
                // A terminal that is gone belongs to nobody.
                let _ = tcsetpgrp(std::io::stdin(), self.own_group);
                self.is_lent = false;
            }
        }
    }

    impl Drop for Terminal {
        fn drop(&mut self) {
            self.take_back();
            // It was this thread's mask before.
            let _ = self.mask_before.thread_set_mask();
        }
    }
}

#[cfg(not(unix))]
mod of_this_system {
    //! Where there are no signals: Ctrl-C, which reaches the command by itself, and ending a process.

    use tokio::process::Child;

    use crate::failure::Outcome;

    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub enum Signal {
        Interrupt,
    }

    pub struct Signals;

    impl Signals {
        pub fn new() -> Outcome<Signals> {
            Ok(Signals)
        }

        pub fn of_a_job() -> Outcome<Signals> {
            Ok(Signals)
        }

        pub async fn next(&mut self) -> Signal {
            if tokio::signal::ctrl_c().await.is_err() {
                std::future::pending::<()>().await;
            }
            Signal::Interrupt
        }
    }

    /// Nothing softer than the end of the command is known here, and that is left to the caller.
    pub struct Job;

    impl Job {
        pub fn of(_child: &Child) -> Option<Job> {
            Some(Job)
        }

        pub fn hear(&mut self, _signal: Signal) {}

        pub fn ended(&mut self, _status: std::process::ExitStatus) {}

        pub fn terminate(&self) {}

        pub fn kill(&self) {}

        pub fn is_gone(&self) -> bool {
            true
        }
    }
}
