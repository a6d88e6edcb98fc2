//! The members' processes: started, stopped, killed, wiped.

use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;
use std::time::{Duration, Instant};

use rustix::process::Signal;

use super::{ASK_AGAIN, Cluster, ClusterError, Member, disk};

/// How long a killed process may take to disappear.
const KILL_PATIENCE: Duration = Duration::from_secs(10);

impl Cluster {
    /// Starts a member's process and does not wait for anything.
    ///
    /// # Errors
    /// [`ClusterError::Spawn`].
    pub fn launch(&mut self, id: u64) -> Result<(), ClusterError> {
        let member = self.member(id);
        let mut arguments: Vec<String> = [
            ("serve", None),
            ("--member-id", Some(id.to_string())),
            ("--data-dir", Some(member.data_dir.display().to_string())),
            ("--initial-cluster", Some(self.known_to(member))),
            ("--client-listen", Some(member.listens[0].clone())),
            ("--client-advertise", Some(member.client.clone())),
            ("--peer-listen", Some(member.listens[1].clone())),
            ("--peer-advertise", Some(member.peer.clone())),
            ("--http-listen", Some(member.http.clone())),
            // Test machines may be small; what happens on a full disk has a test of its own.
            ("--disk-reserve-mb", Some("16".into())),
        ]
        .into_iter()
        .flat_map(|(name, value)| [Some(name.to_owned()), value])
        .flatten()
        .collect();
        if self.zookeeper {
            arguments.extend(["--zookeeper-listen".into(), member.listens[2].clone()]);
        }
        if member.join {
            arguments.extend(["--join".into(), "true".into()]);
        }
        arguments.extend(self.flags.iter().cloned());
        let program = self.binaries.quorated.clone();
        let pid = self.member_mut(id).spawn(&program, &arguments)?;
        if let Some(network) = &self.network {
            network.runs(id, pid);
        }
        self.guard.add(pid)
    }

    /// The members that a member is told of: the founders all of them; one that joins, as the command
    /// line advises, those that are there.
    fn known_to(&self, member: &Member) -> String {
        if !member.join {
            return self.founders.clone();
        }
        let others = self.members.iter().filter(|other| other.id != member.id);
        let addresses: Vec<String> =
            others.map(|other| format!("{}={}/{}", other.id, other.peer, other.client)).collect();
        addresses.join(",")
    }

    /// Starts a member's process and waits until it is ready.
    ///
    /// # Errors
    /// [`ClusterError`].
    pub async fn restart(&mut self, id: u64) -> Result<(), ClusterError> {
        self.launch(id)?;
        self.wait_ready(id).await
    }

    /// SIGKILL, and waits until the process is gone. Harmless if it does not run; if it had ended by
    /// itself, that is noted.
    ///
    /// # Errors
    /// [`ClusterError`].
    pub fn kill(&mut self, id: u64) -> Result<(), ClusterError> {
        self.notice_end(id)?;
        if self.member(id).child.is_none() {
            return Ok(());
        }
        self.member(id).signal(Signal::KILL)?;
        let started = Instant::now();
        // Without the runtime: Drop does the same, and it takes milliseconds.
        loop {
            if let Some(status) = self.has_ended(id)? {
                if status.signal() != Some(Signal::KILL.as_raw()) {
                    self.note_end(id, status);
                }
                return Ok(());
            }
            if started.elapsed() > KILL_PATIENCE {
                return Err(ClusterError::StillRuns { member: id, patience: KILL_PATIENCE });
            }
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    /// SIGTERM; returns how the process ended. Success is what is asked: anything else is noted.
    ///
    /// # Errors
    /// [`ClusterError::StillRuns`] if it does not end in time.
    pub async fn terminate(&mut self, id: u64, patience: Duration) -> Result<ExitStatus, ClusterError> {
        if let Some(status) = self.notice_end(id)? {
            return Ok(status);
        }
        self.member(id).signal(Signal::TERM)?;
        let status = self.reap(id, patience).await?;
        if !status.success() {
            self.ended.push(format!("member {id}, asked to stop, ended otherwise: {status}"));
        }
        Ok(status)
    }

    /// Waits for a process that must end by itself.
    ///
    /// # Errors
    /// [`ClusterError::StillRuns`] if it does not end in time.
    pub async fn reap(&mut self, id: u64, patience: Duration) -> Result<ExitStatus, ClusterError> {
        let started = Instant::now();
        loop {
            if let Some(status) = self.has_ended(id)? {
                return Ok(status);
            }
            if started.elapsed() > patience {
                return Err(ClusterError::StillRuns { member: id, patience });
            }
            tokio::time::sleep(ASK_AGAIN).await;
        }
    }

    /// Whether a member's process has ended by itself, as it may.
    ///
    /// # Errors
    /// [`ClusterError`].
    pub fn has_stopped(&mut self, id: u64) -> Result<bool, ClusterError> {
        Ok(self.member(id).pid().is_none() || self.has_ended(id)?.is_some())
    }

    /// Looks for members that have ended by themselves although nobody waits for it; notes how, and
    /// returns who.
    ///
    /// # Errors
    /// [`ClusterError`].
    pub fn notice_ends(&mut self) -> Result<Vec<u64>, ClusterError> {
        let mut ended = Vec::new();
        for id in self.ids() {
            if self.notice_end(id)?.is_some() {
                ended.push(id);
            }
        }
        Ok(ended)
    }

    /// Whether a member has ended by itself, and how, which is noted.
    pub(super) fn notice_end(&mut self, id: u64) -> Result<Option<ExitStatus>, ClusterError> {
        if self.member(id).child.is_none() {
            return Ok(None);
        }
        let status = self.has_ended(id)?;
        if let Some(status) = status {
            self.note_end(id, status);
        }
        Ok(status)
    }

    fn note_end(&mut self, id: u64, status: ExitStatus) {
        self.ended.push(format!("member {id} ended by itself: {status}"));
    }

    /// How a member's process ended, if it has. Asking again is [`ClusterError::NotRunning`].
    fn has_ended(&mut self, id: u64) -> Result<Option<ExitStatus>, ClusterError> {
        let member = self.member_mut(id);
        let pid = member.pid();
        let status = member.try_wait()?;
        if let (Some(pid), Some(_)) = (pid, status) {
            self.guard.forget(pid)?;
        }
        Ok(status)
    }

    /// SIGSTOP: the process stands still, its connections stay open. If it had ended by itself, that
    /// is noted.
    ///
    /// # Errors
    /// [`ClusterError::Signal`].
    pub fn pause(&mut self, id: u64) -> Result<(), ClusterError> {
        self.notice_end(id)?;
        let member = self.member_mut(id);
        member.signal(Signal::STOP)?;
        member.paused = member.child.is_some();
        Ok(())
    }

    /// SIGCONT.
    ///
    /// # Errors
    /// [`ClusterError::Signal`].
    pub fn resume(&mut self, id: u64) -> Result<(), ClusterError> {
        let member = self.member_mut(id);
        member.signal(Signal::CONT)?;
        member.paused = false;
        Ok(())
    }

    /// Removes a dead member's data.
    ///
    /// # Errors
    /// [`ClusterError::Files`].
    ///
    /// # Panics
    /// If the member runs.
    pub fn wipe(&mut self, id: u64) -> Result<(), ClusterError> {
        let member = self.member(id);
        assert!(member.child.is_none(), "member {id} runs");
        disk::empty(&member.data_dir)
            .map_err(|source| ClusterError::Files { path: member.data_dir.clone(), source })
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::super::{Binaries, Guard, PortBlock};
    use super::*;

    const PATIENCE: Duration = Duration::from_secs(20);

    /// A cluster of one member that is a shell with this script.
    fn shell(folder: &Path, script: &str) -> Result<Cluster, ClusterError> {
        let program = "/bin/sh".into();
        let mut cluster = Cluster {
            members: Vec::new(),
            flags: Vec::new(),
            founders: String::new(),
            binaries: Binaries { quorated: program, quorate: "/bin/false".into() },
            folder: folder.into(),
            ports: PortBlock::take()?,
            slots: 0,
            highest: 0,
            network: None,
            library: None,
            disk_mb: None,
            zookeeper: false,
            ended: Vec::new(),
            retired: Vec::new(),
            guard: Guard::start(None, false)?,
            _temporary: None,
        };
        cluster.add_slot(1, false)?;
        let program = cluster.binaries.quorated.clone();
        let pid = cluster.member_mut(1).spawn(&program, &["-c".into(), script.into()])?;
        cluster.guard.add(pid)?;
        Ok(cluster)
    }

    fn wait_until(is_so: impl Fn() -> bool) {
        let started = Instant::now();
        while !is_so() {
            assert!(started.elapsed() < PATIENCE, "not in {PATIENCE:?}");
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Waits until a member has ended, and does not ask how.
    fn wait_ended(cluster: &Cluster) {
        let stat = format!("/proc/{}/stat", cluster.member(1).pid().expect("started"));
        wait_until(|| std::fs::read_to_string(&stat).is_ok_and(|stat| stat.contains(") Z ")));
    }

    #[tokio::test]
    async fn a_member_that_ended_by_itself_is_told_whoever_hurts_it_next() -> Result<(), ClusterError> {
        let folder = tempfile::tempdir().expect("a temporary folder");
        for hurt in 0..4 {
            let mut cluster = shell(folder.path(), "exit 3")?;
            wait_ended(&cluster);
            match hurt {
                0 => cluster.kill(1)?,
                1 => cluster.pause(1)?,
                2 => drop(cluster.terminate(1, PATIENCE).await?),
                _ => assert_eq!(cluster.notice_ends()?, [1]),
            }
            assert_eq!(cluster.panics(), ["member 1 ended by itself: exit status: 3"], "{hurt}");
            assert!(cluster.running().is_empty());
        }
        Ok(())
    }

    #[tokio::test]
    async fn an_end_that_was_asked_for_is_told_only_if_it_failed() -> Result<(), ClusterError> {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let mut killed = shell(folder.path(), "exec sleep 100")?;
        killed.kill(1)?;
        assert_eq!(killed.panics(), [""; 0]);

        // What must end by itself, as one whose fsync fails, is waited for.
        let mut expected = shell(folder.path(), "exit 1")?;
        expected.reap(1, PATIENCE).await?;
        expected.kill(1)?;
        assert_eq!(expected.panics(), [""; 0]);

        for (status, told) in [(0, false), (4, true)] {
            let ready = folder.path().join(format!("ready-{status}"));
            let script =
                format!("trap 'exit {status}' TERM; : >{}; while :; do sleep 0.02; done", ready.display());
            let mut asked = shell(folder.path(), &script)?;
            wait_until(|| ready.exists());
            asked.terminate(1, PATIENCE).await?;
            assert_eq!(!asked.panics().is_empty(), told, "{:?}", asked.panics());
        }
        Ok(())
    }

    #[test]
    fn a_panic_of_a_member_that_is_none_any_more_is_told() -> Result<(), ClusterError> {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let mut cluster = shell(folder.path(), "echo thread panicked at a.rs; exec sleep 100")?;
        wait_until(|| !cluster.panics().is_empty());
        cluster.retire(1)?;
        assert!(cluster.ids().is_empty());
        assert_eq!(cluster.panics(), ["member 1: thread panicked at a.rs"]);
        Ok(())
    }
}
