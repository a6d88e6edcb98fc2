//! A cluster of real processes: starts members, hurts them, heals them, and cleans up.
//!
//! - [`Cluster`]: what tests and nemeses hold; its `Drop` kills what it started;
//! - [`Member`]: one process and its files;
//! - [`Binaries`]: which programs; [`PortBlock`]: which ports;
//! - guard: makes sure that nothing outlives a harness that was itself killed;
//! - [`Network`]: a network of the members' own, for faults on it; [`Faults`]: clocks and fsyncs that
//!   misbehave;
//! - [`admin`]: questions to members.
//!
//! It knows processes and signals, not what the members are for: that is workloads/ and nemesis/.

pub mod admin;
mod binaries;
pub mod disk;
mod faults;
mod guard;
mod member;
pub mod network;
mod ports;

use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Output, Stdio};
use std::time::{Duration, Instant};

use rustix::process::Signal;
use tempfile::TempDir;

pub use binaries::Binaries;
pub use faults::Faults;
pub use member::Member;
use network::Hosts;
pub use network::{Network, Weather};
pub use ports::PortBlock;

pub(crate) use guard::Guard;

/// Names a folder where data and logs of clusters are kept that would else be temporary.
const KEEP: &str = "QUORATE_JEPSEN_KEEP";
/// How long members may take to become ready. Debug builds on a busy machine are slow.
const READY_PATIENCE: Duration = Duration::from_secs(60);
/// How long a killed process may take to disappear.
const KILL_PATIENCE: Duration = Duration::from_secs(10);
/// Pause between two questions whether something has come about.
const ASK_AGAIN: Duration = Duration::from_millis(20);

/// Why the fixture could not do something.
#[derive(Debug, thiserror::Error)]
pub enum ClusterError {
    /// The programs were neither found nor built.
    #[error("binaries: {0}")]
    Binaries(String),
    /// No ports.
    #[error("ports: {0}")]
    Ports(String),
    /// The kernel did not give us a network, or a fault needs one that this cluster does not have.
    #[error("network: {0}")]
    Network(String),
    /// A fault needs what this machine, or this cluster, does not have.
    #[error("not possible here: {0}")]
    Impossible(String),
    /// A file or folder could not be made or removed.
    #[error("{path}: {source}")]
    Files {
        /// Which.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// A process could not be started.
    #[error("{program}: {source}")]
    Spawn {
        /// Which.
        program: String,
        /// Why.
        source: std::io::Error,
    },
    /// A signal could not be sent.
    #[error("member {member}: signal: {reason}")]
    Signal {
        /// To whom.
        member: u64,
        /// Why.
        reason: String,
    },
    /// The member's process has ended already.
    #[error("member {member} does not run")]
    NotRunning {
        /// Which.
        member: u64,
    },
    /// The process did not end in time.
    #[error("member {member} still runs after {patience:?}")]
    StillRuns {
        /// Which.
        member: u64,
        /// How long was waited.
        patience: Duration,
    },
    /// What was waited for did not come about.
    #[error("not in {patience:?}: {what}; {detail}")]
    TooLate {
        /// What was waited for.
        what: String,
        /// How long.
        patience: Duration,
        /// What was seen last.
        detail: String,
    },
}

/// How to start a cluster.
#[derive(Clone, Debug)]
pub struct Options {
    /// How many founders.
    pub members: u64,
    /// Further flags of `quorated serve`, such as `--checkpoint-log-mb 1`.
    pub flags: Vec<String>,
    /// Keep data and logs here instead of in a temporary folder that is removed at the end.
    pub folder: Option<PathBuf>,
    /// A network of the members' own, for network faults.
    pub network: bool,
    /// Load what makes clocks and fsyncs misbehave into the members.
    pub faults: bool,
    /// A disk of the members' own of so many megabytes each, for filling it up.
    pub disk_mb: Option<u64>,
    /// With a door for ZooKeeper's clients.
    pub zookeeper: bool,
}

impl Options {
    /// So many founders, everything else as configured by default.
    pub fn members(members: u64) -> Options {
        Options {
            members,
            flags: Vec::new(),
            folder: None,
            network: false,
            faults: false,
            disk_mb: None,
            zookeeper: false,
        }
    }

    /// On a network of their own, with clocks and fsyncs that can be made to misbehave.
    pub fn hurtable(mut self) -> Options {
        (self.network, self.faults) = (true, true);
        self
    }

    /// With a small disk each.
    pub fn disk_mb(mut self, megabytes: u64) -> Options {
        self.disk_mb = Some(megabytes);
        self
    }

    /// With a further flag and its value.
    pub fn flag(mut self, name: &str, value: impl ToString) -> Options {
        self.flags.extend([name.to_owned(), value.to_string()]);
        self
    }

    /// With data and logs kept in `folder`.
    pub fn folder(mut self, folder: impl Into<PathBuf>) -> Options {
        self.folder = Some(folder.into());
        self
    }
}

/// Real members on loopback. Dropping it kills them.
#[derive(Debug)]
pub struct Cluster {
    members: Vec<Member>,
    flags: Vec<String>,
    founders: String,
    binaries: Binaries,
    folder: PathBuf,
    ports: PortBlock,
    /// How many of its members' ports have been given away.
    slots: u16,
    /// The highest id that a member has had.
    highest: u64,
    /// Before the guard: it looks after what is left.
    network: Option<Network>,
    library: Option<PathBuf>,
    disk_mb: Option<u64>,
    zookeeper: bool,
    guard: Guard,
    _temporary: Option<TempDir>,
}

impl Cluster {
    /// Starts the founders and waits until all are ready.
    ///
    /// # Errors
    /// [`ClusterError`]; the members' last lines of log are in its text.
    pub async fn start(options: Options) -> Result<Cluster, ClusterError> {
        let mut cluster = Cluster::prepare(options)?;
        for id in cluster.ids() {
            cluster.launch(id)?;
        }
        cluster.wait_all_ready().await?;
        Ok(cluster)
    }

    /// Chooses ports and folders; starts nothing.
    ///
    /// # Errors
    /// [`ClusterError`].
    pub fn prepare(options: Options) -> Result<Cluster, ClusterError> {
        let binaries = Binaries::find()?;
        let ports = PortBlock::take()?;
        let kept = std::env::var_os(KEEP).map(|folder| {
            let folder = PathBuf::from(folder).join(format!("cluster-{}", ports.member(0).0));
            eprintln!("data and logs stay in {}", folder.display());
            folder
        });
        let (folder, temporary) = match options.folder.or(kept) {
            Some(folder) => (folder, None),
            None => {
                let temporary = tempfile::Builder::new()
                    .prefix("quorate-jepsen-")
                    .tempdir()
                    .map_err(|source| ClusterError::Files { path: std::env::temp_dir(), source })?;
                (temporary.path().to_owned(), Some(temporary))
            }
        };
        std::fs::create_dir_all(&folder)
            .map_err(|source| ClusterError::Files { path: folder.clone(), source })?;
        disk::sweep(ports.first());
        let network = match options.network {
            true => Some(Network::create(ports.first(), ports.number())?),
            false => None,
        };
        let library = match options.faults {
            true if !Faults::are_possible() => {
                return Err(ClusterError::Impossible("there was no C compiler".into()));
            }
            true => Some(Faults::install(&folder)?),
            false => None,
        };
        let guard = Guard::start(temporary.as_ref().map(TempDir::path))?;
        let mut cluster = Cluster {
            members: Vec::new(),
            flags: options.flags,
            founders: String::new(),
            binaries,
            folder,
            ports,
            slots: 0,
            highest: 0,
            network,
            library,
            disk_mb: options.disk_mb,
            zookeeper: options.zookeeper,
            guard,
            _temporary: temporary,
        };
        for id in 1..=options.members {
            cluster.add_slot(id, false)?;
        }
        let addresses: Vec<String> = cluster
            .members
            .iter()
            .map(|member| format!("{}={}/{}", member.id, member.peer, member.client))
            .collect();
        cluster.founders = addresses.join(",");
        Ok(cluster)
    }

    /// Gives a new member ports, a folder and what else this cluster's members have; it is started
    /// by [`Cluster::launch`].
    ///
    /// # Errors
    /// [`ClusterError`]: no namespace, disk or page could be made.
    pub fn add_slot(&mut self, id: u64, join: bool) -> Result<&Member, ClusterError> {
        // Members of clusters that were replaced again and again have addresses of their own; on
        // loopback there is a slot for each of the first ten.
        let loopback = || Hosts { told: "127.0.0.1".into(), own: "127.0.0.1".into(), is_alone: false };
        let hosts = self.network.as_ref().map_or_else(loopback, |network| network.hosts_of(id));
        let (client, peer, http, zookeeper) = match hosts.is_alone {
            true => (7400, 7401, 7480, 2181),
            false => {
                self.slots += 1;
                self.ports.member(self.slots - 1)
            }
        };
        let namespace = match &mut self.network {
            Some(network) => network.attach(id, &[client, peer, zookeeper])?,
            None => None,
        };
        if let Some(name) = &namespace {
            self.guard.namespace(name)?;
        }
        let faults = match &self.library {
            Some(_) => Some(Faults::create(self.folder.join(format!("member-{id}.faults")))?),
            None => None,
        };
        let data_dir = self.folder.join(format!("member-{id}"));
        if let Some(megabytes) = self.disk_mb {
            self.guard.mount(&data_dir)?;
            disk::mount(self.ports.first(), id, &data_dir, megabytes)?;
        }
        self.highest = self.highest.max(id);
        self.members.push(Member {
            id,
            client: format!("{}:{client}", hosts.told),
            peer: format!("{}:{peer}", hosts.told),
            http: format!("{}:{http}", hosts.own),
            zookeeper: format!("{}:{zookeeper}", hosts.told),
            listens: [client, peer, zookeeper].map(|port| format!("{}:{port}", hosts.own)),
            data_dir,
            log: self.folder.join(format!("member-{id}.log")),
            join,
            namespace,
            library: self.library.clone(),
            faults,
            child: None,
            paused: false,
        });
        Ok(self.member(id))
    }

    /// Replaces a dead member whose disk is lost or of no more use: an empty disk at the same address
    /// and a new id, by the operator's command.
    ///
    /// # Errors
    /// [`ClusterError`], with what the command said last.
    pub async fn replace(&mut self, old: u64) -> Result<u64, ClusterError> {
        self.kill(old)?;
        self.wipe(old)?;
        let new = self.new_id();
        let place = self.members.iter().position(|member| member.id == old);
        let mut member = self.members.remove(place.ok_or(ClusterError::NotRunning { member: old })?);
        member.id = new;
        member.join = true;
        let (peer, client) = (member.peer.clone(), member.client.clone());
        self.members.push(member);
        if let Some(network) = &mut self.network {
            network.replaced(old, new);
        }
        self.launch(new)?;
        let (old, text) = (old.to_string(), new.to_string());
        self.command(&["replace", &old, &text, "--peer", &peer, "--client", &client]).await?;
        self.wait_ready(new).await?;
        Ok(new)
    }

    /// Starts a new member and gives it a vote, by the operator's commands.
    ///
    /// # Errors
    /// [`ClusterError`], with what a command said last.
    pub async fn join(&mut self) -> Result<u64, ClusterError> {
        let id = self.new_id();
        let member = self.add_slot(id, true)?;
        let (peer, client) = (member.peer.clone(), member.client.clone());
        let text = id.to_string();
        self.launch(id)?;
        self.command(&["add", &text, "--peer", &peer, "--client", &client]).await?;
        self.command(&["promote", &text]).await?;
        self.wait_ready(id).await?;
        Ok(id)
    }

    /// Takes a member out of the cluster for good, by the operator's command.
    ///
    /// # Errors
    /// [`ClusterError`], with what the command said last.
    pub async fn take_out(&mut self, id: u64) -> Result<(), ClusterError> {
        self.command(&["remove", &id.to_string()]).await?;
        self.retire(id)
    }

    /// An operator's command, repeated for as long as the cluster is busy with its faults.
    async fn command(&self, arguments: &[&str]) -> Result<(), ClusterError> {
        let started = Instant::now();
        loop {
            let all = ["--timeout", "60s", "cluster"].iter().chain(arguments);
            let output = self.quorate(&all.copied().collect::<Vec<_>>()).await?;
            if output.status.success() {
                return Ok(());
            }
            if started.elapsed() > READY_PATIENCE {
                return Err(ClusterError::TooLate {
                    what: format!("quorate cluster {}", arguments.join(" ")),
                    patience: READY_PATIENCE,
                    detail: String::from_utf8_lossy(&output.stderr).into_owned(),
                });
            }
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    }

    /// An id that no member has or had.
    fn new_id(&mut self) -> u64 {
        self.highest += 1;
        self.highest
    }

    /// Whether a member's process has ended by itself.
    ///
    /// # Errors
    /// [`ClusterError`].
    pub fn has_stopped(&mut self, id: u64) -> Result<bool, ClusterError> {
        Ok(self.member(id).pid().is_none() || self.has_ended(id)?.is_some())
    }

    /// Forgets a member that is no longer one: it is not started again.
    ///
    /// # Errors
    /// [`ClusterError`]: it could not be killed.
    pub fn retire(&mut self, id: u64) -> Result<(), ClusterError> {
        self.kill(id)?;
        self.members.retain(|member| member.id != id);
        Ok(())
    }

    /// The members' own network.
    ///
    /// # Errors
    /// [`ClusterError::Network`] if they are on loopback.
    pub fn network(&self) -> Result<&Network, ClusterError> {
        self.network
            .as_ref()
            .ok_or_else(|| ClusterError::Network("the members are on loopback: nothing to cut".into()))
    }

    /// What connects the members, for people.
    pub fn wires(&self) -> &str {
        self.network.as_ref().map_or("loopback (none of the faults is the network's)", Network::about)
    }

    /// What a member's clocks and fsyncs do wrong.
    ///
    /// # Errors
    /// [`ClusterError::Impossible`] if this cluster's members have nothing loaded.
    pub fn faults(&mut self, id: u64) -> Result<&mut Faults, ClusterError> {
        let faults = self.member_mut(id).faults.as_mut();
        faults.ok_or_else(|| ClusterError::Impossible("members without the library for faults".into()))
    }

    /// Lets the network, and these members' clocks and fsyncs, do right again.
    ///
    /// # Errors
    /// [`ClusterError::Files`].
    pub fn calm(&mut self, members: &[u64]) -> Result<(), ClusterError> {
        if let Some(network) = &self.network {
            network.calm();
        }
        for id in members {
            if let Some(faults) = &mut self.member_mut(*id).faults {
                faults.calm()?;
            }
        }
        Ok(())
    }

    /// All ids, in the order of their slots.
    pub fn ids(&self) -> Vec<u64> {
        self.members.iter().map(|member| member.id).collect()
    }

    /// The ids of the members that run and are not stopped.
    pub fn running(&self) -> Vec<u64> {
        self.members.iter().filter(|member| member.is_running()).map(|member| member.id).collect()
    }

    /// One member.
    ///
    /// # Panics
    /// If there is none with this id.
    pub fn member(&self, id: u64) -> &Member {
        self.members.iter().find(|member| member.id == id).expect("a test names members that it has")
    }

    fn member_mut(&mut self, id: u64) -> &mut Member {
        self.members.iter_mut().find(|member| member.id == id).expect("a test names members that it has")
    }

    /// All members' client addresses.
    pub fn endpoints(&self) -> Vec<String> {
        self.members.iter().map(|member| member.client.clone()).collect()
    }

    /// All members' addresses for ZooKeeper's clients.
    pub fn zookeeper_endpoints(&self) -> Vec<String> {
        self.members.iter().map(|member| member.zookeeper.clone()).collect()
    }

    /// Where data and logs are.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

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

    /// Runs the command line against the members that run.
    ///
    /// # Errors
    /// [`ClusterError::Spawn`]; a refusal is in the output.
    pub async fn quorate(&self, arguments: &[&str]) -> Result<Output, ClusterError> {
        let program = self.binaries.quorate.clone();
        let running: Vec<&str> =
            self.members.iter().filter(|m| m.is_running()).map(|m| m.client.as_str()).collect();
        let mut command = Command::new(&program);
        command.args(["--endpoints", &running.join(",")]).args(arguments).stdin(Stdio::null());
        // On a thread of its own: clients of this runtime must go on with their heartbeats.
        let run = tokio::task::spawn_blocking(move || command.output());
        let output = run.await.unwrap_or_else(|error| Err(std::io::Error::other(error)));
        output.map_err(|source| ClusterError::Spawn { program: program.display().to_string(), source })
    }

    /// Waits until a member has a quorum.
    ///
    /// # Errors
    /// [`ClusterError::TooLate`], with the end of its log.
    pub async fn wait_ready(&mut self, id: u64) -> Result<(), ClusterError> {
        let started = Instant::now();
        loop {
            let detail = match admin::http_get(&self.member(id).http, "/readyz").await {
                Ok((200, _)) => return Ok(()),
                Ok((code, body)) => format!("{code} {body}"),
                Err(error) => error,
            };
            let has_ended = self.member(id).pid().is_none() || self.has_ended(id)?.is_some();
            if has_ended || started.elapsed() > READY_PATIENCE {
                let ended = if has_ended { ", its process has ended" } else { "" };
                let tail = self.member(id).log_tail(20);
                return Err(ClusterError::TooLate {
                    what: format!("member {id} is ready{ended}"),
                    patience: started.elapsed(),
                    detail: format!("{detail}\n{tail}"),
                });
            }
            tokio::time::sleep(ASK_AGAIN).await;
        }
    }

    /// Waits until every member that should run has a quorum.
    ///
    /// # Errors
    /// [`ClusterError::TooLate`].
    pub async fn wait_all_ready(&mut self) -> Result<(), ClusterError> {
        for id in self.running() {
            self.wait_ready(id).await?;
        }
        Ok(())
    }

    /// The leader that a running member other than `except` names and that runs, waiting for one.
    ///
    /// # Errors
    /// [`ClusterError::TooLate`].
    pub async fn leader_except(&self, except: Option<u64>) -> Result<u64, ClusterError> {
        let started = Instant::now();
        let mut detail = String::new();
        while started.elapsed() < READY_PATIENCE {
            // The highest term knows best: a stale member may still name a dead leader.
            let mut best: Option<(u64, u64)> = None;
            for id in self.running() {
                match admin::status(&self.member(id).client).await {
                    Ok(status) => {
                        if let Some(leader) = status.leader_id {
                            best = best.max(Some((status.term, leader)));
                        }
                    }
                    Err(error) => detail = error,
                }
            }
            if let Some((_, leader)) = best
                && Some(leader) != except
                && self.running().contains(&leader)
            {
                return Ok(leader);
            }
            tokio::time::sleep(ASK_AGAIN).await;
        }
        Err(ClusterError::TooLate { what: "a leader".into(), patience: READY_PATIENCE, detail })
    }

    /// The leader, waiting for one.
    ///
    /// # Errors
    /// [`ClusterError::TooLate`].
    pub async fn leader(&self) -> Result<u64, ClusterError> {
        self.leader_except(None).await
    }

    /// Waits until all running members' digests, recomputed from their records, agree.
    ///
    /// # Errors
    /// [`ClusterError::TooLate`] with the digests that differ.
    pub async fn wait_digests_agree(&self, patience: Duration) -> Result<u64, ClusterError> {
        let started = Instant::now();
        loop {
            let Some(id) = self.running().first().copied() else {
                return Err(ClusterError::NotRunning { member: 0 });
            };
            let detail = match admin::digest(&self.member(id).client).await {
                Ok(answer) if answer.agree => return Ok(answer.zxid),
                Ok(answer) => format!("{answer:?}"),
                Err(error) => error,
            };
            if started.elapsed() > patience {
                return Err(ClusterError::TooLate { what: "equal digests".into(), patience, detail });
            }
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    }

    /// The ends of all members' logs, for messages.
    pub fn log_tails(&self, lines: usize) -> String {
        let tails = self.members.iter().map(|m| format!("--- member {}\n{}\n", m.id, m.log_tail(lines)));
        tails.collect()
    }

    /// The lines of all members' logs that speak of a panic.
    pub fn panics(&self) -> Vec<String> {
        let mut found = Vec::new();
        for member in &self.members {
            let text = std::fs::read_to_string(&member.log).unwrap_or_default();
            let lines = text.lines().filter(|line| line.contains("panicked at"));
            found.extend(lines.map(|line| format!("member {}: {line}", member.id)));
        }
        found
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("{}", self.log_tails(15));
        }
        for id in self.ids() {
            if let Err(error) = self.kill(id) {
                eprintln!("{error}");
            }
        }
    }
}
