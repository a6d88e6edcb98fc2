//! One member: a real `quorated serve` process, its addresses, its folder, its log file.

use std::fs::File;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};

use rustix::process::{Pid, Signal, kill_process};

use super::{ClusterError, Faults};

/// One member of a [`super::Cluster`].
#[derive(Debug)]
pub struct Member {
    /// Its id.
    pub id: u64,
    /// Where its clients connect.
    pub client: String,
    /// Where its peers connect.
    pub peer: String,
    /// Where metrics and health are.
    pub http: String,
    /// Where ZooKeeper's clients connect, if they may.
    pub zookeeper: String,
    /// Its data.
    pub data_dir: PathBuf,
    /// What it logged, all its lives.
    pub log: PathBuf,
    /// Whether it joined a running cluster.
    pub join: bool,
    /// Where it listens itself: clients, peers, ZooKeeper's clients.
    pub(super) listens: [String; 3],
    pub(super) namespace: Option<String>,
    pub(super) library: Option<PathBuf>,
    pub(super) faults: Option<Faults>,
    pub(super) child: Option<Child>,
    pub(super) paused: bool,
}

impl Member {
    /// Its process, if one runs.
    pub fn pid(&self) -> Option<u32> {
        self.child.as_ref().map(Child::id)
    }

    /// Whether its process runs and is not stopped.
    pub fn is_running(&self) -> bool {
        self.child.is_some() && !self.paused
    }

    pub(super) fn spawn(&mut self, program: &Path, arguments: &[String]) -> Result<u32, ClusterError> {
        assert!(self.child.is_none(), "member {} runs already", self.id);
        let failed = |source| ClusterError::Spawn { program: program.display().to_string(), source };
        let log = File::options().create(true).append(true).open(&self.log).map_err(failed)?;
        let mut command = match &self.namespace {
            // It becomes the member: the process that is started is the one that is killed.
            Some(namespace) => {
                let mut command = Command::new("nsenter");
                command.arg(format!("--net=/run/netns/{namespace}")).arg(program);
                command
            }
            None => Command::new(program),
        };
        if let (Some(library), Some(faults)) = (&self.library, &self.faults) {
            command.env("LD_PRELOAD", library).env("QUORATE_FAULTS", faults.page());
        }
        let child = command
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(log.try_clone().map_err(failed)?)
            .stderr(log)
            .env("NO_COLOR", "1")
            .process_group(0)
            .spawn()
            .map_err(failed)?;
        let pid = child.id();
        self.child = Some(child);
        self.paused = false;
        Ok(pid)
    }

    pub(super) fn signal(&self, signal: Signal) -> Result<(), ClusterError> {
        let Some(pid) = self.pid().and_then(|pid| Pid::from_raw(pid as i32)) else { return Ok(()) };
        kill_process(pid, signal)
            .map_err(|error| ClusterError::Signal { member: self.id, reason: error.to_string() })
    }

    /// How the process ended, if it has; then it is forgotten.
    pub(super) fn try_wait(&mut self) -> Result<Option<ExitStatus>, ClusterError> {
        let id = self.id;
        let Some(child) = &mut self.child else { return Err(ClusterError::NotRunning { member: id }) };
        let status = child
            .try_wait()
            .map_err(|error| ClusterError::Signal { member: id, reason: error.to_string() })?;
        if status.is_some() {
            self.child = None;
            self.paused = false;
        }
        Ok(status)
    }

    /// The last lines of its log, for messages.
    pub fn log_tail(&self, lines: usize) -> String {
        let text = std::fs::read_to_string(&self.log).unwrap_or_default();
        let all: Vec<&str> = text.lines().collect();
        all[all.len().saturating_sub(lines)..].join("\n")
    }

    /// Resident memory, in KiB.
    pub fn resident_kib(&self) -> Option<u64> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.pid()?)).ok()?;
        let line = status.lines().find(|line| line.starts_with("VmRSS:"))?;
        line.split_whitespace().nth(1)?.parse().ok()
    }
}
