//! Opening what a member has on its disk, and starting Raft on it.
//!
//! ```text
//!   <data-dir>/LOCK            one process at a time (data_dir)
//!   <data-dir>/founding        may this disk vote (birth_file)
//!   <data-dir>/log/            the Raft log (log_store)
//!   <data-dir>/checkpoint/     the durable state (checkpoint)
//!   <data-dir>/snapshots/      the checkpoint as a file, for lagging peers (snapshot_store)
//! ```

use std::sync::Arc;

use openraft::SnapshotPolicy;
use quorate_core::breaks::{Break, is_broken};
use quorate_core::state::State;

use super::QuorateRaft;
use super::checkpoint::{CheckpointError, CheckpointMeta, Checkpointer, SledCheckpoints, WorkMode};
use super::data_dir::DataDirError;
use super::files::{DiskFiles, Files, TEMPORARY_ENDING};
use super::founding::{self, FoundingError};
use super::log_store::{Begin, LogError, LogOptions, LogStore, WriterMode};
use super::network::PeerNetworkFactory;
use super::peers::PeerTransport;
use super::snapshot_store::{OpenCheckpoints, OpenedCheckpoint, SnapshotStore, open_or_rebuild};
use super::snapshots::Snapshots;
use super::state_machine::StateMachine;
use super::types::StoredMembership;
use crate::config::Config;
use crate::local_state::LocalState;
use crate::metrics::Metrics;

/// Why a disk cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum StorageError {
    /// The log.
    #[error(transparent)]
    Log(#[from] LogError),
    /// The checkpoint or a snapshot file.
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
    /// The data directory cannot be taken.
    #[error(transparent)]
    DataDir(#[from] DataDirError),
    /// The checkpoint thread does not start.
    #[error("checkpoint thread: {0}")]
    Thread(std::io::Error),
    /// The founding file.
    #[error(transparent)]
    Founding(#[from] FoundingError),
    /// Raft's configuration contradicts itself.
    #[error("raft configuration: {0}")]
    RaftConfig(String),
    /// Raft does not start on what was found.
    #[error("raft does not start: {0}")]
    Raft(String),
}

/// Sizes of log segments.
#[derive(Clone, Copy, Debug)]
pub struct SegmentSizes {
    /// One is closed at this size.
    pub segment_bytes: u64,
    /// It grows ahead of its end in steps of this.
    pub growth_bytes: u64,
}

/// The disk under a member: the machine's, or the simulator's.
#[derive(Clone)]
pub struct Disk {
    /// Log, snapshot files, founding file.
    pub files: Arc<dyn Files>,
    /// The durable checkpoint.
    pub checkpoints: OpenCheckpoints,
    /// Who writes the log.
    pub writer: WriterMode,
    /// Who writes checkpoints.
    pub work: WorkMode,
    /// When a log segment is closed, and in what steps it grows; `None` is the log's own choice.
    pub segments: Option<SegmentSizes>,
}

impl Disk {
    /// The machine's.
    pub fn machine() -> Disk {
        Disk {
            files: Arc::new(DiskFiles),
            checkpoints: Arc::new(|place| Ok(Arc::new(SledCheckpoints::open(place)?))),
            writer: WriterMode::Thread,
            work: WorkMode::Thread,
            segments: None,
        }
    }
}

/// What was on the disk.
pub struct Opened {
    /// The state at the durable checkpoint.
    pub state: State,
    /// The log index it stands at.
    pub applied_index: u64,
    /// For [`start_raft`].
    pub stores: Stores,
}

/// The open files, on their way to Raft.
pub struct Stores {
    log: LogStore,
    checkpointer: Checkpointer,
    files: SnapshotStore,
    durable: Option<CheckpointMeta>,
    disk: Arc<dyn Files>,
}

/// Raft, running.
pub struct Started {
    /// Raft.
    pub raft: QuorateRaft,
    /// The durable checkpoint.
    pub snapshots: Arc<Snapshots>,
}

/// Opens the log and loads the checkpoint.
pub fn open(
    config: &Config,
    disk: &Disk,
    is_new: bool,
    metrics: &Metrics,
    index_seed: u64,
) -> Result<Opened, StorageError> {
    let directory = config.data_dir.join("log");
    // A founding that was interrupted may have begun its log already, and promised something in it; before
    // the first segment is durable, a crash leaves no file but one that has a temporary name.
    let is_whole = |name: &String| !name.ends_with(TEMPORARY_ENDING);
    let has_begun = disk.files.list(&directory).is_ok_and(|names| names.iter().any(is_whole));
    let begin = if is_new && !has_begun { Begin::New } else { Begin::Existing };
    let mut options = LogOptions::new(directory);
    options.files = disk.files.clone();
    options.writer = disk.writer.clone();
    options.sync_meter = Some(metrics.fsync.clone());
    if let Some(sizes) = disk.segments {
        options.segment_bytes = sizes.segment_bytes;
        options.growth_bytes = sizes.growth_bytes;
    }
    let (log, opened) = LogStore::open(options, begin)?;
    if let Some((file, offset)) = opened.cut {
        tracing::info!(file = %file.display(), offset, "cut a torn tail that was never acknowledged");
    }
    let place = config.data_dir.join("checkpoint");
    let files = SnapshotStore::open(disk.files.clone(), config.data_dir.join("snapshots"))?;
    let purged = log.reader().figures().purged;
    let OpenedCheckpoint { store, loaded } =
        open_or_rebuild(&disk.checkpoints, &place, &files, purged, index_seed)?;
    let (state, durable) = match loaded {
        Some((state, meta)) => (state, Some(meta)),
        None => (State::with_index_seed(index_seed), None),
    };
    let checkpointer = Checkpointer::start(store, disk.work).map_err(StorageError::Thread)?;
    let applied_index = durable.as_ref().map_or(0, |meta| meta.applied.index);
    let stores = Stores { log, checkpointer, files, durable, disk: disk.files.clone() };
    Ok(Opened { state, applied_index, stores })
}

/// Starts Raft; a founder with an empty log founds the cluster.
pub async fn start_raft(
    config: &Config,
    cluster: u128,
    founded: &founding::Founded,
    stores: Stores,
    local: Arc<LocalState>,
    transport: Arc<dyn PeerTransport>,
    metrics: &Metrics,
) -> Result<Started, StorageError> {
    let raft_config = raft_config(config)?;
    let Stores { mut log, checkpointer, files, durable, disk } = stores;
    if let Some(meta) = &durable {
        log.settle_behind(meta.applied).await.map_err(|error| StorageError::Raft(error.to_string()))?;
    }
    let (applied, membership) = match &durable {
        Some(meta) => (Some(meta.applied), meta.membership.clone()),
        None => (None, StoredMembership::default()),
    };
    let snapshots = Arc::new(Snapshots::new(
        checkpointer,
        files,
        log.reader(),
        local.clone(),
        config.checkpoints,
        durable,
    ));
    let network =
        PeerNetworkFactory { transport, snapshots: snapshots.clone(), cluster, member: config.member.0 };
    let machine = StateMachine::new(local, snapshots.clone(), metrics.clone(), applied, membership);
    let raft = QuorateRaft::new(config.member.0, Arc::new(raft_config), network, log, machine)
        .await
        .map_err(|fatal| StorageError::Raft(fatal.to_string()))?;
    if founded.is_new {
        // One founder founds, the others hear of it: no race for the first term.
        let founds = !config.join && config.founders.keys().next() == Some(&config.member.0);
        if founds && !raft.is_initialized().await.map_err(|fatal| StorageError::Raft(fatal.to_string()))? {
            raft.initialize(config.founders.clone())
                .await
                .map_err(|error| StorageError::Raft(error.to_string()))?;
        }
        founding::note_member(disk.as_ref(), &config.data_dir, &founded.births)?;
    }
    Ok(Started { raft, snapshots })
}

fn raft_config(config: &Config) -> Result<openraft::Config, StorageError> {
    let millis = |duration: std::time::Duration| u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
    let raft_config = openraft::Config {
        cluster_name: config.cluster_name.clone(),
        heartbeat_interval: millis(config.timing.heartbeat),
        election_timeout_min: millis(config.timing.election_min),
        election_timeout_max: millis(config.timing.election_max),
        // Only we know what is durable: checkpoints and purges are triggered by snapshots.rs.
        snapshot_policy: SnapshotPolicy::Never,
        max_in_snapshot_log_to_keep: u64::MAX,
        install_snapshot_timeout: 600_000,
        max_payload_entries: 256,
        enable_pre_vote: Some(true),
        // A leader sends entries while it still writes them. One that died may have lost entries that
        // others acknowledged; leading on in the same term it would put others in their place, under
        // the same ids. So it must be elected anew.
        enable_leader_restore: Some(is_broken(Break::RestartedLeaderLeadsOn)),
        backoff: "20ms 40ms 80ms ..500ms".into(),
        ..openraft::Config::default()
    };
    raft_config.validate().map_err(|error| StorageError::RaftConfig(error.to_string()))
}
