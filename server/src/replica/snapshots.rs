//! The durable checkpoint, as Raft's snapshot.
//!
//! ```text
//!   state machine ── freeze at exact index X ──▶ local state keeps the view while writes go on
//!        │
//!        ▼
//!   checkpoint thread: drains the view in slices, one atomic batch into sled, synced: X is durable
//!        │
//!        ▼
//!   the log is purged up to the checkpoint *before*, but for peers that are sent a snapshot
//! ```
//! Raft's "snapshot" is the checkpoint. Only a peer that the log can no longer serve makes it a
//! file: built by the same thread, so the checkpoint stands still meanwhile, and streamed in
//! verified pieces. The receiver pours them into a new checkpoint beside its own and switches.

use std::io;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use futures_util::{Stream, StreamExt};
use openraft::async_runtime::watch::WatchReceiver;
use quorate_core::record::RecordWrite;
use quorate_core::state::State;
use tokio::time::{Duration, Instant, sleep};

use super::Inner;
use super::checkpoint::{CheckpointError, CheckpointMeta, CheckpointStore, Checkpointer, FrozenSource};
use super::log_holds::{Log, LogHolds, Sending};
use super::log_store::LogReader;
use super::peers::{Inbound, PeerError};
use super::proposer::DiskRoom;
use super::snapshot_store::{Received, SnapshotReceiver, SnapshotStore};
use super::types::{SnapshotMeta, TypeConfig};
use crate::config::Checkpoints;
use crate::local_state::LocalState;

/// How often it is looked at whether a checkpoint is due.
const LOOK: Duration = Duration::from_millis(500);
/// A checkpoint that takes so long is told to the operator, again after each such time.
const LONG: Duration = Duration::from_secs(60);

/// The log that is kept for a member which installs a snapshot grows by no more than what makes so many
/// checkpoints due.
const HELD_MAX: u64 = 16;

/// What openraft holds for a snapshot.
pub enum SnapshotHandle {
    /// This member's own durable checkpoint.
    Checkpoint,
    /// A peer's, received whole and durable beside our own.
    Received(Box<Received>),
}

impl std::fmt::Debug for SnapshotHandle {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            SnapshotHandle::Checkpoint => "Checkpoint",
            SnapshotHandle::Received(_) => "Received",
        })
    }
}

/// A snapshot as openraft wants it.
pub type Snapshot = openraft::type_config::alias::SnapshotOf<TypeConfig, SnapshotHandle>;

/// Pieces of a snapshot file, in order; an error is the last of them.
pub type Pieces = Pin<Box<dyn Stream<Item = Result<Bytes, CheckpointError>> + Send>>;

/// A snapshot file on its way out.
pub struct Export {
    /// The log index it stands at.
    pub applied_index: u64,
    /// The last transaction in it.
    pub zxid: u64,
    /// The digest of its content.
    pub digest: u128,
    /// The file, in order.
    pub chunks: Pieces,
}

/// The checkpoints of one member.
pub struct Snapshots {
    checkpointer: Checkpointer,
    files: SnapshotStore,
    log: LogReader,
    local: Arc<LocalState>,
    rules: Checkpoints,
    holds: Arc<LogHolds>,
    /// What the view that is frozen now stands for, until it has been written.
    frozen: Mutex<Option<CheckpointMeta>>,
    /// The durable checkpoint.
    durable: Mutex<Option<CheckpointMeta>>,
}

impl std::fmt::Debug for Snapshots {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Snapshots").field("durable_index", &self.durable_index()).finish_non_exhaustive()
    }
}

impl Snapshots {
    /// Around what was opened.
    pub fn new(
        checkpointer: Checkpointer,
        files: SnapshotStore,
        log: LogReader,
        local: Arc<LocalState>,
        rules: Checkpoints,
        durable: Option<CheckpointMeta>,
    ) -> Snapshots {
        Snapshots {
            checkpointer,
            files,
            log,
            local,
            rules,
            holds: Arc::new(LogHolds::new(rules.log_bytes.saturating_mul(HELD_MAX))),
            frozen: Mutex::new(None),
            durable: Mutex::new(durable),
        }
    }

    /// Freezes the local state for a checkpoint at `meta`; false if one is being written, or there
    /// is nothing to write. Called where nothing applies meanwhile.
    pub fn freeze(&self, meta: &SnapshotMeta) -> bool {
        let mut frozen = lock(&self.frozen);
        let Some(applied) = meta.last_log_id.filter(|_| frozen.is_none()) else { return false };
        *frozen = Some(self.local.with_state_mut(|state| {
            state.freeze();
            CheckpointMeta {
                applied,
                membership: meta.last_membership.clone(),
                zxid: state.zxid(),
                digest: state.digest(),
            }
        }));
        true
    }

    /// Writes the frozen view; returns once it is durable.
    pub async fn write_frozen(self: &Arc<Self>) -> io::Result<()> {
        let done = match self.checkpointer.checkpoint(self.clone()).await {
            Ok(done) => done,
            // A snapshot was installed meanwhile: that is the checkpoint now.
            Err(CheckpointError::Superseded) => None,
            Err(error) => return Err(io::Error::other(error)),
        };
        let mut frozen = lock(&self.frozen);
        // What is frozen now may be another view, if a snapshot was installed meanwhile.
        if let Some(done) = done
            && frozen.as_ref() == Some(&done.meta)
        {
            *frozen = None;
            *lock(&self.durable) = Some(done.meta);
        }
        Ok(())
    }

    /// Makes a received snapshot this member's own: the durable checkpoint first; the state that it
    /// is, which the caller puts in the old one's place before anything is applied or frozen.
    pub async fn install(&self, snapshot: SnapshotHandle) -> io::Result<State> {
        let SnapshotHandle::Received(received) = snapshot else {
            return Err(io::Error::other("a snapshot to install was not received from a peer"));
        };
        // Before the switch: a view of the old state must not be written into the new checkpoint.
        *lock(&self.frozen) = None;
        let installed = self.checkpointer.run(move |_| received.install()).await;
        let (state, meta) = installed.and_then(|installed| installed).map_err(io::Error::other)?;
        *lock(&self.durable) = Some(meta);
        Ok(state)
    }

    /// The durable checkpoint, for openraft.
    pub fn current(&self) -> Option<Snapshot> {
        let durable = lock(&self.durable);
        durable
            .as_ref()
            .map(|meta| Snapshot { meta: meta.snapshot_meta(), snapshot: SnapshotHandle::Checkpoint })
    }

    /// Up to where the checkpoint is durable.
    pub fn durable_index(&self) -> u64 {
        lock(&self.durable).as_ref().map_or(0, |meta| meta.applied.index)
    }

    /// Bytes of the log on disk.
    pub fn log_bytes(&self) -> u64 {
        self.log.figures().disk_bytes
    }

    /// Up to where the log is gone.
    pub fn purged_index(&self) -> u64 {
        self.log.figures().purged.map_or(0, |id| id.index)
    }

    /// The durable checkpoint as a file's pieces, and the hold on the log behind it for this peer.
    pub async fn open_for_peer(&self, peer: u64) -> Result<(SnapshotMeta, Pieces, Sending), String> {
        let (meta, pieces) = self.open_file().await.map_err(|error| error.to_string())?;
        let sending = self.holds.begin(peer, meta.applied.index, self.log.figures().bytes_written);
        Ok((meta.snapshot_meta(), pieces, sending))
    }

    /// The durable checkpoint as a file's pieces, for an operator.
    pub async fn export(&self) -> Result<Export, String> {
        let (meta, chunks) = self.open_file().await.map_err(|error| error.to_string())?;
        Ok(Export { applied_index: meta.applied.index, zxid: meta.zxid.0, digest: meta.digest.0, chunks })
    }

    async fn open_file(&self) -> Result<(CheckpointMeta, Pieces), CheckpointError> {
        let files = self.files.clone();
        let built = self.checkpointer.run(move |store| {
            let file = files.build(store)?;
            let reader = files.reader(&file.path)?;
            Ok::<_, CheckpointError>((file.meta, reader))
        });
        let (meta, reader) = built.await??;
        let pieces = futures_util::stream::unfold(Some(reader), |reader| async move {
            let mut reader = reader?;
            match reader.next_piece() {
                Ok(Some(piece)) => Some((Ok(piece), Some(reader))),
                Ok(None) => None,
                Err(error) => {
                    tracing::error!(%error, "a snapshot file cannot be read to its end");
                    Some((Err(error), None))
                }
            }
        });
        Ok((meta, Box::pin(pieces)))
    }

    /// Receives a snapshot whole and makes it durable, beside the current checkpoint. It becomes the
    /// checkpoint when it is installed, and leaves no trace if Raft has no use for it: one of a past
    /// leader may arrive when this member is far ahead of it.
    pub async fn receive(&self, offered: SnapshotMeta, input: &mut Inbound) -> Result<Snapshot, String> {
        let header = next_piece(input).await?.ok_or("a snapshot without a header")?;
        let seed = self.local.with_state(State::index_seed);
        let begin =
            move |store: &dyn CheckpointStore| SnapshotReceiver::begin(store, &header, &source(), seed);
        let begun = self.checkpointer.run(begin);
        let mut receiver = begun.await.and_then(|begun| begun).map_err(|error| error.to_string())?;
        while let Some(piece) = next_piece(input).await? {
            let taken = self.checkpointer.run(move |_| receiver.piece(piece).map(|()| receiver));
            receiver = taken.await.and_then(|taken| taken).map_err(|error| error.to_string())?;
        }
        let finished = self.checkpointer.run(move |_| receiver.finish());
        let received = finished.await.and_then(|received| received).map_err(|error| error.to_string())?;
        let meta = received.meta.snapshot_meta();
        if meta.last_log_id < offered.last_log_id {
            return Err("the snapshot received is older than the one offered".into());
        }
        tracing::info!(index = received.meta.applied.index, "received a snapshot from the leader");
        Ok(Snapshot { meta, snapshot: SnapshotHandle::Received(Box::new(received)) })
    }
}

/// The frozen view, for the checkpoint thread: it takes the state's lock for a slice at a time.
impl FrozenSource for Snapshots {
    fn begin(&self) -> Option<CheckpointMeta> {
        lock(&self.frozen).clone()
    }

    fn chunk(&self, bytes_max: usize) -> Vec<RecordWrite> {
        self.local.with_state_mut(|state| state.frozen_chunk(bytes_max))
    }

    fn abandon(&self) {
        self.local.with_state_mut(State::abandon_frozen);
    }
}

async fn next_piece(input: &mut Inbound) -> Result<Option<Bytes>, String> {
    match input.next().await {
        None => Ok(None),
        Some(Ok(piece)) => Ok(Some(piece)),
        Some(Err(error @ (PeerError::Unreachable(_) | PeerError::Timeout(_) | PeerError::Refused(_)))) => {
            Err(error.to_string())
        }
    }
}

/// What a received snapshot is called in errors.
fn source() -> PathBuf {
    Path::new("snapshot from the leader").into()
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Has checkpoints written when they are due, and the log purged behind them, for as long as the
/// member lives.
pub(super) async fn run_checkpoints(inner: Arc<Inner>) {
    let snapshots = inner.snapshots.clone();
    let mut written = (snapshots.log.figures().bytes_written, Instant::now());
    // One checkpoint back: should the last one turn out damaged, the log still reaches to that.
    let (mut before, mut last) = (snapshots.purged_index(), snapshots.durable_index());
    let mut purged = before;
    let mut told = Duration::ZERO;
    loop {
        sleep(LOOK).await;
        let durable = snapshots.durable_index();
        if durable > last {
            (before, last) = (last, durable);
        }
        if *inner.disk_room.borrow() != DiskRoom::Enough {
            snapshots.holds.clear();
        }
        let appended = snapshots.log.figures().bytes_written;
        let limit = snapshots.holds.limit(Log { purgeable: before, appended, matched: &inner.matched() });
        if limit > purged {
            if inner.raft.trigger().purge_log(limit).await.is_err() {
                return;
            }
            purged = limit;
        }
        let applied = inner.local.progress_now().index;
        let is_due = appended.saturating_sub(written.0) >= snapshots.rules.log_bytes
            || (written.1.elapsed() >= snapshots.rules.interval && applied > durable);
        let is_under_way = lock(&snapshots.frozen).is_some();
        if is_due && !is_under_way {
            written = (appended, Instant::now());
            told = Duration::ZERO;
            if inner.raft.trigger().snapshot().await.is_err() {
                return;
            }
        }
        let took = written.1.elapsed();
        if is_under_way && took >= told + LONG {
            told = took;
            tracing::warn!(
                seconds = took.as_secs(),
                "a checkpoint is still being written, and the log is kept until it is durable: is the disk slow?"
            );
        }
        if inner.raft.metrics().borrow_watched().running_state.is_err() {
            return;
        }
    }
}
