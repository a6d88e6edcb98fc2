//! The members' processes: started, stopped, killed, wiped.

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

    /// SIGKILL, and waits until the process is gone. Harmless if it does not run.
    ///
    /// # Errors
    /// [`ClusterError`].
    pub fn kill(&mut self, id: u64) -> Result<(), ClusterError> {
        let member = self.member_mut(id);
        if member.child.is_none() {
            return Ok(());
        }
        member.signal(Signal::KILL)?;
        let started = Instant::now();
        // Without the runtime: Drop does the same, and it takes milliseconds.
        while self.has_ended(id)?.is_none() {
            if started.elapsed() > KILL_PATIENCE {
                return Err(ClusterError::StillRuns { member: id, patience: KILL_PATIENCE });
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        Ok(())
    }

    /// SIGTERM; returns how the process ended.
    ///
    /// # Errors
    /// [`ClusterError::StillRuns`] if it does not end in time.
    pub async fn terminate(&mut self, id: u64, patience: Duration) -> Result<ExitStatus, ClusterError> {
        self.member(id).signal(Signal::TERM)?;
        self.reap(id, patience).await
    }

    /// Waits for a process that ends by itself.
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

    /// Whether a member's process has ended by itself.
    ///
    /// # Errors
    /// [`ClusterError`].
    pub fn has_stopped(&mut self, id: u64) -> Result<bool, ClusterError> {
        Ok(self.member(id).pid().is_none() || self.has_ended(id)?.is_some())
    }

    /// How a member's process ended, if it has. Asking again is [`ClusterError::NotRunning`].
    pub(super) fn has_ended(&mut self, id: u64) -> Result<Option<ExitStatus>, ClusterError> {
        let member = self.member_mut(id);
        let pid = member.pid();
        let status = member.try_wait()?;
        if let (Some(pid), Some(_)) = (pid, status) {
            self.guard.forget(pid)?;
        }
        Ok(status)
    }

    /// SIGSTOP: the process stands still, its connections stay open.
    ///
    /// # Errors
    /// [`ClusterError::Signal`].
    pub fn pause(&mut self, id: u64) -> Result<(), ClusterError> {
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
