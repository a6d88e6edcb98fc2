//! Clusters: three members of one server as real processes on loopback, in a temporary folder.
//!
//! - [`Cluster`]: starts, kills and restarts members; its `Drop` kills what it started;
//! - how each server is started: quorate, zookeeper, etcd, one a file;
//! - guard: nothing outlives a bench that was itself killed; ports: where they listen;
//! - processes: what the kernel tells of them.
//!
//! It knows processes, not workloads.

mod etcd;
mod guard;
mod ports;
pub mod processes;
mod quorate;
mod zookeeper;

use std::fs::File;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use bytes::Bytes;
use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use crate::failure::Outcome;
use crate::targets::{Connection, Freshness, Protocol, within};

use guard::Guard;

/// Members of every cluster: the smallest that survives one.
pub const MEMBERS: usize = 3;

/// How long a cluster may take to serve its first write, or a member to serve again.
const READY_PATIENCE: Duration = Duration::from_secs(120);
/// Between two questions whether something has come about.
const ASK_AGAIN: Duration = Duration::from_millis(20);
/// For one such question.
const ANSWER_PATIENCE: Duration = Duration::from_secs(5);

/// How one member is started.
struct Plan {
    program: PathBuf,
    arguments: Vec<String>,
    endpoint: String,
}

struct Member {
    plan: Plan,
    log: PathBuf,
    child: Option<Child>,
}

/// Where the programs are that do not come from Debian's packages.
#[derive(Clone, Debug)]
pub struct Programs {
    /// The server of this project.
    pub quorated: PathBuf,
}

impl Programs {
    /// `quorated` as named by the environment (QUORATED), or beside this executable.
    pub fn find() -> Outcome<Programs> {
        let quorated = match std::env::var_os("QUORATED") {
            Some(path) => PathBuf::from(path),
            None => std::env::current_exe()?.with_file_name("quorated"),
        };
        if !quorated.is_file() {
            return Err(format!(
                "{} is missing: `cargo build --release -p quorate-server`, or set QUORATED",
                quorated.display()
            )
            .into());
        }
        Ok(Programs { quorated })
    }
}

/// Three members that run. Dropping it kills them and removes their data.
pub struct Cluster {
    protocol: Protocol,
    members: Vec<Member>,
    guard: Guard,
    folder: TempDir,
    _ports: ports::PortBlock,
}

impl Cluster {
    /// Starts three members and waits until a write succeeds.
    ///
    /// # Errors
    /// A program is missing, or the cluster does not come up; says where and how it ended.
    pub async fn start(protocol: Protocol, programs: &Programs) -> Outcome<Cluster> {
        let ports = ports::PortBlock::take()?;
        let folder = tempfile::Builder::new().prefix("quorate-bench-").tempdir()?;
        let plans = match protocol {
            Protocol::Quorate => quorate::plan(&programs.quorated, folder.path(), &ports),
            Protocol::QuorateZookeeper => quorate::plan_with_door(&programs.quorated, folder.path(), &ports),
            Protocol::Zookeeper => zookeeper::plan(folder.path(), &ports)?,
            Protocol::Etcd => etcd::plan(folder.path(), &ports),
        };
        let guard = Guard::start(folder.path())?;
        let mut cluster = Cluster { protocol, members: Vec::new(), guard, folder, _ports: ports };
        for (index, plan) in plans.into_iter().enumerate() {
            let log = cluster.folder.path().join(format!("{}.log", index + 1));
            cluster.members.push(Member { plan, log, child: None });
            cluster.launch(index)?;
        }
        for index in 0..MEMBERS {
            if let Err(error) = cluster.wait_ready(index).await {
                return Err(format!("{error}\n{}", cluster.log_tails()).into());
            }
        }
        Ok(cluster)
    }

    /// Which server this is.
    pub fn protocol(&self) -> Protocol {
        self.protocol
    }

    /// Where each member's clients connect.
    pub fn endpoints(&self) -> Vec<String> {
        self.members.iter().map(|member| member.plan.endpoint.clone()).collect()
    }

    /// One member's.
    pub fn endpoint(&self, index: usize) -> &str {
        &self.members[index].plan.endpoint
    }

    /// The members' processes.
    pub fn pids(&self) -> Vec<u32> {
        self.members.iter().filter_map(|member| member.child.as_ref()).map(Child::id).collect()
    }

    /// A session through member `index` (modulo their number).
    pub async fn connect(&self, index: usize) -> Outcome<Box<dyn Connection>> {
        self.protocol.connect(&[self.endpoint(index % MEMBERS).to_owned()]).await
    }

    /// Starts a member's process; when it had been started is returned.
    pub fn launch(&mut self, index: usize) -> Outcome<Instant> {
        let member = &mut self.members[index];
        let log = File::options().create(true).append(true).open(&member.log)?;
        let started = Instant::now();
        let child = Command::new(&member.plan.program)
            .args(&member.plan.arguments)
            .current_dir(self.folder.path())
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .env("NO_COLOR", "1")
            .process_group(0)
            .spawn()
            .map_err(|error| {
                format!("{}: {error} (bench/install-peers.sh installs peers)", member.plan.program.display())
            })?;
        self.guard.add(child.id())?;
        member.child = Some(child);
        Ok(started)
    }

    /// SIGKILL without waiting; when it was sent is returned. [`Cluster::kill`] must follow.
    pub fn signal_kill(&self, index: usize) -> Outcome<Instant> {
        let sent = Instant::now();
        let child = self.members[index].child.as_ref();
        if let Some(pid) = child.and_then(|child| Pid::from_raw(child.id().cast_signed())) {
            kill_process(pid, Signal::KILL)?;
        }
        Ok(sent)
    }

    /// SIGKILL, and waits until the process is gone.
    pub fn kill(&mut self, index: usize) -> Outcome<()> {
        self.signal_kill(index)?;
        if let Some(mut child) = self.members[index].child.take() {
            child.wait()?;
            self.guard.forget(child.id())?;
        }
        Ok(())
    }

    /// Waits until a write through this member is acknowledged.
    pub async fn wait_ready(&self, index: usize) -> Outcome<()> {
        let started = Instant::now();
        let path = format!("/ready-{}", fastrand::u64(..));
        let mut failure = String::from("nothing was tried");
        while started.elapsed() < READY_PATIENCE {
            let attempt = within(ANSWER_PATIENCE, "a first write", async {
                let connection = self.connect(index).await?;
                // It may exist from an attempt whose answer was lost.
                let created = connection.create(&path, &Bytes::new()).await;
                let read = connection.get(&path, Freshness::Local).await;
                connection.close().await?;
                read.map(drop).or(created)
            });
            match attempt.await {
                Ok(()) => return Ok(()),
                Err(error) => failure = error.to_string(),
            }
            tokio::time::sleep(ASK_AGAIN).await;
        }
        Err(format!("{} {} is not ready: {failure}", self.protocol.name(), self.endpoint(index)).into())
    }

    /// The leader's index, waiting for one.
    pub async fn leader(&self) -> Outcome<usize> {
        let started = Instant::now();
        while started.elapsed() < READY_PATIENCE {
            for (index, member) in self.members.iter().enumerate() {
                if member.child.is_none() {
                    continue;
                }
                let leads = async {
                    match self.protocol {
                        Protocol::Quorate => quorate::leads(self.endpoint(index)).await,
                        Protocol::QuorateZookeeper | Protocol::Zookeeper => {
                            zookeeper::leads(self.endpoint(index)).await
                        }
                        Protocol::Etcd => etcd::leads(self.endpoint(index)).await,
                    }
                };
                if let Ok(true) = within(ANSWER_PATIENCE, "a status", leads).await {
                    return Ok(index);
                }
            }
            tokio::time::sleep(ASK_AGAIN).await;
        }
        Err(format!("{}: no leader", self.protocol.name()).into())
    }

    /// MiB of live objects a member, for a server whose resident memory says little about that.
    pub fn live_heap_mib(&self) -> Option<f64> {
        match self.protocol {
            Protocol::Zookeeper => zookeeper::live_heap_mib(&self.pids()),
            Protocol::Quorate | Protocol::QuorateZookeeper | Protocol::Etcd => None,
        }
    }

    /// The server's version and how it was started, for reports.
    pub fn description(protocol: Protocol, programs: &Programs) -> (String, String) {
        match protocol {
            Protocol::Quorate => quorate::description(&programs.quorated, ""),
            Protocol::QuorateZookeeper => quorate::description(&programs.quorated, quorate::DOOR),
            Protocol::Zookeeper => zookeeper::description(),
            Protocol::Etcd => etcd::description(),
        }
    }

    /// The ends of the members' logs, for messages.
    pub fn log_tails(&self) -> String {
        let tail = |path: &Path| {
            let text = std::fs::read_to_string(path).unwrap_or_default();
            let lines: Vec<&str> = text.lines().collect();
            format!("--- {}\n{}\n", path.display(), lines[lines.len().saturating_sub(12)..].join("\n"))
        };
        self.members.iter().map(|member| tail(&member.log)).collect()
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        for index in 0..self.members.len() {
            if let Err(error) = self.kill(index) {
                eprintln!("{} member {}: {error}", self.protocol.name(), index + 1);
            }
        }
    }
}

/// The installed version of a Debian package.
fn package_version(package: &str) -> String {
    let asked = Command::new("dpkg-query").args(["-W", "-f", "${Version}", package]).output();
    match asked {
        Ok(output) if output.status.success() => {
            format!("{package} {} (Debian)", String::from_utf8_lossy(&output.stdout))
        }
        _ => format!("{package}, version unknown"),
    }
}
