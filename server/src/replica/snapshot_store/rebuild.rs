//! Opening a member's checkpoint, and rebuilding it where that is safe.
//!
//! A damaged checkpoint is no loss while everything that it stood for can be had again: from a
//! whole snapshot file and the log behind it, or from a log that was never purged. Then it is set
//! aside, kept for examination, and the member goes on. Otherwise the error stands: a member never
//! starts from nothing over a purged log.

use std::path::Path;
use std::sync::Arc;

use quorate_core::state::State;

use super::{SnapshotReceiver, SnapshotStore};
use crate::replica::checkpoint::{
    CheckpointError, CheckpointMeta, CheckpointStore, SledCheckpoints, check_reaches, load_state,
};
use crate::replica::types::LogId;

/// Opens the durable checkpoint in a directory.
pub type OpenCheckpoints =
    Arc<dyn Fn(&Path) -> Result<Arc<dyn CheckpointStore>, CheckpointError> + Send + Sync>;

/// A checkpoint that was opened, and the state that it is; `None` before the first.
pub struct OpenedCheckpoint {
    /// The store.
    pub store: Arc<dyn CheckpointStore>,
    /// The state, and what it stands for.
    pub loaded: Option<(State, CheckpointMeta)>,
}

/// Opens the checkpoint in `directory` and loads it, for a log that was purged up to `log_purged`.
/// For `index_seed` see [`State::with_index_seed`].
///
/// # Errors
///
/// `Damaged` or `DamagedFile` if it cannot be read, or does not reach as far as the log was purged,
/// and nothing else makes up for it.
pub fn open_or_rebuild(
    checkpoints: &OpenCheckpoints,
    directory: &Path,
    snapshots: &SnapshotStore,
    log_purged: Option<LogId>,
    index_seed: u64,
) -> Result<OpenedCheckpoint, CheckpointError> {
    let error = match open(checkpoints, directory, log_purged, index_seed) {
        Ok(opened) => return Ok(opened),
        Err(error @ (CheckpointError::Damaged { .. } | CheckpointError::DamagedFile { .. })) => error,
        Err(error) => return Err(error),
    };
    let file =
        snapshots.newest()?.filter(|file| check_reaches(Some(&file.meta), log_purged, directory).is_ok());
    if file.is_none() && log_purged.is_some() {
        return Err(error);
    }
    let aside = SledCheckpoints::set_aside(directory)?;
    tracing::error!(kept = %aside.display(), "set a damaged checkpoint aside: {error}");
    let store = checkpoints(directory)?;
    let Some(file) = file else {
        tracing::warn!("the whole log is there: the state is rebuilt from it");
        return Ok(OpenedCheckpoint { store, loaded: None });
    };
    tracing::warn!(file = %file.path.display(), "the state is rebuilt from a snapshot file and the log behind it");
    let mut reader = snapshots.reader(&file.path)?;
    let header = reader.next_piece()?.unwrap_or_default();
    let mut receiver = SnapshotReceiver::begin(store.as_ref(), &header, &file.path, index_seed)?;
    while let Some(piece) = reader.next_piece()? {
        receiver.piece(piece)?;
    }
    let loaded = receiver.finish()?.install()?;
    Ok(OpenedCheckpoint { store, loaded: Some(loaded) })
}

fn open(
    checkpoints: &OpenCheckpoints,
    directory: &Path,
    log_purged: Option<LogId>,
    index_seed: u64,
) -> Result<OpenedCheckpoint, CheckpointError> {
    let store = checkpoints(directory)?;
    let loaded = load_state(store.as_ref(), directory, index_seed)?;
    check_reaches(loaded.as_ref().map(|(_, meta)| meta), log_purged, directory)?;
    Ok(OpenedCheckpoint { store, loaded })
}
