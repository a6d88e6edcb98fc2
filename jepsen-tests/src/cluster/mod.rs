//! A cluster of real processes: starts members, hurts them, heals them, and cleans up.
//!
//! - [`Cluster`]: what tests and nemeses hold; its `Drop` kills what it started. processes.rs starts and
//!   kills, operator.rs changes the members by command, waiting.rs waits for what is to come about;
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
mod error;
mod faults;
mod guard;
mod member;
pub mod network;
mod operator;
mod options;
mod ports;
mod processes;
mod waiting;

use std::path::{Path, PathBuf};
use std::time::Duration;

use tempfile::TempDir;

pub use binaries::Binaries;
pub use error::ClusterError;
pub use faults::Faults;
pub use member::Member;
use network::Hosts;
pub use network::{Network, Weather};
pub use options::Options;
pub use ports::PortBlock;

pub(crate) use guard::Guard;

/// Names a folder where data and logs of clusters are kept that would else be temporary.
const KEEP: &str = "QUORATE_JEPSEN_KEEP";
/// How long members may take to become ready. Debug builds on a busy machine are slow.
const READY_PATIENCE: Duration = Duration::from_secs(60);
/// Pause between two questions whether something has come about.
const ASK_AGAIN: Duration = Duration::from_millis(20);

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
    /// Who ended unasked, or otherwise than asked, and how; in the order in which it was noticed.
    ended: Vec<String>,
    /// Ids and logs of those who are members no more.
    retired: Vec<(u64, PathBuf)>,
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
        let guard = Guard::start(Some(&folder), temporary.is_some())?;
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
            ended: Vec::new(),
            retired: Vec::new(),
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
