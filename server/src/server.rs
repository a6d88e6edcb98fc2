//! Wiring: builds every room of a member, opens every door, and takes it all down in order.
//!
//! The only file that knows all rooms. Next room: frontends/.

use std::future::Future;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use quorate_core::error::{Error, ErrorKind};
use tokio::net::TcpListener;
use tokio::sync::{oneshot, watch};

use crate::config::{Config, ConfigError, Settings};
use crate::coordinator::Coordinator;
use crate::coordinator::expiry::Deadlines;
use crate::environment::Environment;
use crate::frontends::{grpc, http, zookeeper};
use crate::local_state::{ApplyObserver, LocalState};
use crate::logging;
use crate::metrics::Metrics;
use crate::replica::data_dir::lock_data_dir;
use crate::replica::founding::{self, Founded};
use crate::replica::peer_listener::{PeerSwitch, peer_server};
use crate::replica::peer_transport::GrpcTransport;
use crate::replica::peers::PeerTransport;
use crate::replica::storage::{self, Disk, StorageError};
use crate::replica::{self, Replica, Wiring};
use crate::tasks::TaskGuard;
use crate::tls::{self, TlsError};
use crate::zoo_cfg;

/// How long clients get to notice that this member stops.
const DRAIN: Duration = Duration::from_millis(300);
/// Memory that is free goes back to the system this often.
const GIVE_BACK: Duration = Duration::from_secs(5);
/// How long the process waits for what still runs on threads: a name that no server knows is looked up
/// for longer than anybody who stops a member waits.
const LEFT_BEHIND: Duration = Duration::from_secs(3);

/// Why a member does not start, or stopped by itself.
#[derive(Debug, thiserror::Error)]
pub enum ServerError {
    /// The configuration cannot be used.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// An address cannot be listened on.
    #[error("{key} = {address:?}: {source}")]
    Listen {
        /// The configuration's key.
        key: &'static str,
        /// The address.
        address: String,
        /// Why.
        source: std::io::Error,
    },
    /// A certificate cannot be used.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// The data directory cannot be used.
    #[error(transparent)]
    Storage(#[from] StorageError),
    /// The member may not take part.
    #[error(transparent)]
    Founding(#[from] founding::FoundingError),
    /// Raft stopped: a disk failed, or the log contradicts itself.
    #[error("the member has stopped: {0}")]
    Stopped(String),
    /// The async runtime cannot be made.
    #[error("runtime: {0}")]
    Runtime(std::io::Error),
    /// The temporary directory of `dev` cannot be made.
    #[error("temporary directory: {0}; name one with --data-dir")]
    Scratch(std::io::Error),
    /// Not enough ports above the base.
    #[error("--port {base}: the members' ports would pass 65535; choose a lower one")]
    DevPorts {
        /// The base.
        base: u16,
    },
}

/// Runs one member until SIGTERM or SIGINT.
pub fn run(
    config_path: Option<PathBuf>,
    zoo_cfg_path: Option<PathBuf>,
    settings: Settings,
) -> Result<(), ServerError> {
    let (settings, ignored) = match (config_path, zoo_cfg_path) {
        (Some(path), _) => (settings.or(Settings::read(&path)?), Vec::new()),
        (None, Some(path)) => zoo_cfg::read(&path, settings)?,
        (None, None) => (settings, Vec::new()),
    };
    let filter = format!("info,{}", replica::LOG_FILTER);
    logging::install(settings.log_json.unwrap_or(false), &filter);
    for key in ignored {
        tracing::warn!("zoo.cfg: {key} has no meaning here and is ignored");
    }
    let config = settings.into_config()?;
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(ServerError::Runtime)?;
    let outcome = runtime.block_on(async {
        let (ready, _) = oneshot::channel();
        serve(config, Environment::system(), stop_signal(), ready).await
    });
    runtime.shutdown_timeout(LEFT_BEHIND);
    outcome
}

/// Makes a data directory out of a snapshot file.
pub fn restore(snapshot: &Path, config_path: Option<PathBuf>, settings: Settings) -> Result<(), ServerError> {
    let settings = match config_path {
        Some(path) => settings.or(Settings::read(&path)?),
        None => settings,
    };
    logging::install(settings.log_json.unwrap_or(false), "warn");
    let config = settings.into_config()?;
    let restored = replica::restore::restore(&config, snapshot, &Environment::system())?;
    println!(
        "Restored {} znodes into {} for member {}; transactions go on from {}.",
        restored.znodes,
        config.data_dir.display(),
        config.member,
        restored.zxid
    );
    println!(
        "Start it: quorated serve --member-id {} --data-dir {} …",
        config.member,
        config.data_dir.display()
    );
    println!(
        "It is a new cluster of one member. Add others: quorate cluster add ID --peer H:P --client H:P, then promote."
    );
    Ok(())
}

/// Resolves at SIGTERM or SIGINT.
pub async fn stop_signal() {
    use tokio::signal::unix::{SignalKind, signal};
    match (signal(SignalKind::terminate()), signal(SignalKind::interrupt())) {
        (Ok(mut terminate), Ok(mut interrupt)) => {
            tokio::select! {
                _ = terminate.recv() => tracing::info!("SIGTERM: stopping"),
                _ = interrupt.recv() => tracing::info!("SIGINT: stopping"),
            }
        }
        (Err(error), _) | (_, Err(error)) => {
            tracing::error!(%error, "signals cannot be heard; kill -9 is the only way to stop this member");
            std::future::pending::<()>().await;
        }
    }
}

/// Runs one member until `shutdown` resolves. `ready` is told when it first has a quorum.
pub async fn serve(
    config: Config,
    environment: Environment,
    shutdown: impl Future<Output = ()>,
    ready: oneshot::Sender<()>,
) -> Result<(), ServerError> {
    tokio::pin!(shutdown);
    let clients = listen("client_listen", &config.client_listen).await?;
    let peers = listen("peer_listen", &config.peer_listen).await?;
    let pages = listen("http_listen", &config.http_listen).await?;
    let mut zookeeper_listeners = Vec::new();
    if let Some(address) = &config.zookeeper_listen {
        zookeeper_listeners.push((listen("zookeeper_listen", address).await?, None));
    }
    if let Some((address, files)) = &config.zookeeper_tls {
        let certificates = tls::load(files)?;
        zookeeper_listeners.push((listen("zookeeper_tls_listen", address).await?, Some(certificates)));
    }
    let metrics = Metrics::new();
    let _lock = lock_data_dir(&config.data_dir).map_err(StorageError::from)?;

    // Before the member waits for others: until then, who looks after it must not take it for dead.
    let (stopping, is_stopping) = watch::channel(false);
    let known = Arc::new(OnceLock::new());
    let pages_of =
        http::Door { metrics: metrics.clone(), coordinator: known.clone(), stopping: is_stopping.clone() };
    let http_door = TaskGuard::spawn("http door", http::serve(pages, pages_of));
    // The peer port answers as early: founders ask each other whether they are fresh.
    let ground = Ground {
        environment,
        transport: Arc::new(GrpcTransport::default()),
        switch: PeerSwitch::default(),
        disk: Disk::machine(),
        observer: None,
    };
    let answering = grpc::serve_peers(peers, peer_server(ground.switch.clone()));
    let peer_door = TaskGuard::spawn("peer door", answering);
    let founded = tokio::select! {
        founded = found(&config, &ground) => founded?,
        () = &mut shutdown => return Ok(()),
    };

    let rooms = open_rooms(&config, &ground, founded, metrics).await?;
    let Rooms { coordinator, replica, local, mut tasks } = rooms;
    known.get_or_init(|| coordinator.clone());
    let grpc = grpc::serve(clients, coordinator.clone(), config.super_digest.clone(), is_stopping);
    let door = zookeeper::Door::new(
        coordinator.clone(),
        config.super_digest.clone(),
        config.zookeeper_connections,
        config.zookeeper_reconfig,
    );
    for (listener, certificates) in zookeeper_listeners {
        let serving = zookeeper::serve(door.clone(), listener, certificates);
        tasks.push(TaskGuard::spawn("zookeeper door", serving));
    }
    let guard = coordinator.clone().run_disk_guard(config.data_dir.clone(), config.disk_reserve_bytes);
    tasks.push(TaskGuard::spawn("disk guard", guard));
    let targets = config.limits.check_targets.clone();
    let checks = coordinator.clone().run_checks(Arc::new(grpc::prober::NetworkProber::new(targets)));
    tasks.push(TaskGuard::spawn("health checks", checks));
    tasks.push(TaskGuard::spawn("grpc door", grpc));
    tasks.push(TaskGuard::spawn("ready", announce(replica.clone(), ready)));
    tasks.push(TaskGuard::spawn("memory", give_back_memory()));
    tracing::info!(
        member = %config.member,
        clients = %config.client_listen,
        peers = %config.peer_listen,
        http = %config.http_listen,
        "member runs"
    );

    let outcome = tokio::select! {
        () = &mut shutdown => Ok(()),
        reason = replica.failed() => Err(ServerError::Stopped(reason)),
    };
    stopping.send_replace(true);
    if outcome.is_ok() {
        replica.hand_over().await;
    }
    local.end_everything(&Error::new(ErrorKind::Unavailable, "this member is stopping; try another"));
    tokio::time::sleep(DRAIN).await;
    drop(tasks);
    drop((http_door, peer_door));
    replica.shut_down().await;
    tracing::info!(member = %config.member, "member stopped");
    outcome
}

/// What a member stands on: the machine, or the simulator.
pub struct Ground {
    /// Clock and randomness.
    pub environment: Environment,
    /// Carries messages to peers.
    pub transport: Arc<dyn PeerTransport>,
    /// Where peers' messages arrive.
    pub switch: PeerSwitch,
    /// What must not be lost.
    pub disk: Disk,
    /// Told of every apply.
    pub observer: Option<Arc<dyn ApplyObserver>>,
}

/// Everything of a member behind its doors.
pub struct Rooms {
    /// The face that doors see.
    pub coordinator: Coordinator,
    /// This member's part in the agreement.
    pub replica: Replica,
    /// Its copy of the state.
    pub local: Arc<LocalState>,
    /// Its tasks; they end when these are dropped.
    pub tasks: Vec<TaskGuard>,
}

/// What was needed for a moment (a large request, a checkpoint) is not kept for good.
async fn give_back_memory() {
    loop {
        tokio::time::sleep(GIVE_BACK).await;
        quorate_allocator::give_back();
    }
}

/// Whether this member may take part; waits until that is known.
pub async fn found(config: &Config, ground: &Ground) -> Result<Founded, ServerError> {
    let Ground { environment, transport, switch, disk, .. } = ground;
    let cluster = founding::cluster_id(&config.cluster_name);
    let files = disk.files.as_ref();
    Ok(founding::found_or_join(config, cluster, environment, transport.clone(), switch, files).await?)
}

/// Builds every room of a member on its disk, and lets it answer its peers: all of a member but its
/// doors. The simulator begins here.
pub async fn open_rooms(
    config: &Config,
    ground: &Ground,
    founded: Founded,
    metrics: Metrics,
) -> Result<Rooms, ServerError> {
    let Ground { environment, transport, switch, disk, observer } = ground;
    let cluster = founding::cluster_id(&config.cluster_name);
    let opened = storage::open(config, disk, founded.is_new, &metrics, environment.random_u64())?;
    let local = LocalState::new(config.member, opened.state, opened.applied_index);
    let local = Arc::new(local.observed_by(observer.clone()));
    let deadlines = Arc::new(Deadlines::default());
    let started = storage::start_raft(
        config,
        cluster,
        &founded,
        opened.stores,
        local.clone(),
        transport.clone(),
        &metrics,
    )
    .await?;
    let (replica, mut tasks) = Replica::start(Wiring {
        member: config.member,
        cluster,
        raft: started.raft,
        transport: transport.clone(),
        touches: deadlines.clone(),
        local: local.clone(),
        snapshots: started.snapshots,
        births: founded.births,
        lease: config.timing.election_max,
        environment: environment.clone(),
        metrics: metrics.clone(),
    });
    switch.set(Arc::new(replica.peer_service()));
    let coordinator = Coordinator::new(
        config.member,
        local.clone(),
        replica.clone(),
        config.limits.clone(),
        deadlines,
        metrics,
        environment.random_u64() >> 1,
    );
    tasks.push(TaskGuard::spawn("wakes", local.clone().run_wakes()));
    tasks.push(TaskGuard::spawn("heartbeats", coordinator.clone().run_heartbeats()));
    tasks.push(TaskGuard::spawn("resends", coordinator.clone().run_resends()));
    tasks.push(TaskGuard::spawn("expiry", coordinator.clone().run_expiry()));
    tasks.push(TaskGuard::spawn("digests", coordinator.clone().run_comparisons()));
    tasks.push(TaskGuard::spawn("directory", coordinator.clone().run_directory()));
    tasks.push(TaskGuard::spawn("reports", coordinator.clone().run_reports()));
    tasks.push(TaskGuard::spawn("published membership", coordinator.clone().run_publication()));
    Ok(Rooms { coordinator, replica, local, tasks })
}

async fn listen(key: &'static str, address: &str) -> Result<TcpListener, ServerError> {
    TcpListener::bind(address).await.map_err(|source| ServerError::Listen {
        key,
        address: address.to_owned(),
        source,
    })
}

/// Tells whoever waits that this member has a quorum.
async fn announce(replica: Replica, ready: oneshot::Sender<()>) {
    if replica.read_barrier().await.is_ok() && ready.send(()).is_err() {
        tracing::debug!("nobody waited for this member to be ready");
    }
}
