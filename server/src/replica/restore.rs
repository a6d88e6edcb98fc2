//! Restoring a snapshot file: the beginning of a *new* cluster of one member, offline.
//!
//! The data directory must not exist or be empty. What is written is what a founder has after its
//! first checkpoint: a birth, a log purged up to there, and the state as a durable checkpoint whose
//! membership is this member alone. More members are added to it as to any running cluster.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use futures_util::FutureExt;
use openraft::storage::RaftLogStorage;
use openraft::vote::RaftLeaderId;
use quorate_core::state::State;

use super::birth_file::{self, BirthRecord};
use super::checkpoint::{CheckpointMeta, CheckpointStore, SledCheckpoints};
use super::data_dir::lock_data_dir;
use super::files::DiskFiles;
use super::founding::{self, FoundingError};
use super::log_store::{Begin, LogError, LogOptions, LogStore, WriterMode};
use super::snapshot_store::{SnapshotReceiver, SnapshotStore};
use super::storage::StorageError;
use super::types::{CommittedLeaderId, LogId, Membership, StoredMembership};
use crate::config::Config;
use crate::environment::Environment;

/// What was restored.
#[derive(Clone, Copy, Debug)]
pub struct Restored {
    /// Znodes in it.
    pub znodes: u64,
    /// The first transaction counter of the new cluster.
    pub zxid: u64,
}

/// Makes a data directory out of a snapshot file.
///
/// # Errors
/// Names the file and the offset if the snapshot is damaged; nothing is left behind that would start.
pub fn restore(
    config: &Config,
    snapshot: &Path,
    environment: &Environment,
) -> Result<Restored, StorageError> {
    let _lock = lock_data_dir(&config.data_dir)?;
    founding::check_empty(&DiskFiles, &config.data_dir)?;
    let state = read(config, snapshot)?;
    let restored = Restored { znodes: state.counts().znodes, zxid: state.zxid().0 };
    let member = config.member.0;
    let nodes = BTreeMap::from([(member, config.advertise.clone())]);
    let membership = Membership::new(vec![[member].into()], nodes)
        .map_err(|error| StorageError::RaftConfig(error.to_string()))?;
    let leader: CommittedLeaderId = super::types::LeaderId::new(1, member).to_committed();
    let applied = LogId { leader_id: leader, index: 1 };
    let meta = CheckpointMeta {
        applied,
        membership: StoredMembership::new(Some(applied), membership),
        zxid: state.zxid(),
        digest: state.digest(),
    };
    let store = SledCheckpoints::open(&config.data_dir.join("checkpoint"))?;
    let mut replacement = store.begin_replacement()?;
    for record in state.all_records() {
        replacement.add(&record.key, &record.value)?;
    }
    replacement.seal(&meta)?;
    replacement.finish()?;
    begin_log(config.data_dir.join("log"), applied)?;
    // Last: without this file the directory does not start.
    let birth = u128::from_le_bytes(environment.entropy());
    let record = BirthRecord {
        cluster: founding::cluster_id(&config.cluster_name),
        id: member,
        birth,
        births: BTreeMap::from([(member, birth)]),
        is_member: true,
    };
    birth_file::write(&DiskFiles, &config.data_dir, &record).map_err(FoundingError::from)?;
    Ok(restored)
}

/// Begins the log behind the checkpoint, durably: were the checkpoint damaged later, a log that was never
/// purged would pass for all there ever was.
fn begin_log(directory: PathBuf, applied: LogId) -> Result<(), StorageError> {
    let options = LogOptions { writer: WriterMode::Inline, ..LogOptions::new(&directory) };
    let (mut log, _) = LogStore::open(options, Begin::New)?;
    let purged = async {
        log.purge(applied).await?;
        log.flush().await
    };
    let purged = purged.now_or_never().expect("an inline writer does not wait");
    Ok(purged.map_err(|source| LogError::Io { action: "purge", path: directory, source })?)
}

/// Reads and verifies the snapshot, by way of a checkpoint that is thrown away.
fn read(config: &Config, snapshot: &Path) -> Result<State, StorageError> {
    let scratch = config.data_dir.join("restoring");
    let outcome = (|| {
        let files = SnapshotStore::open(Arc::new(DiskFiles), scratch.join("snapshots"))?;
        let store = SledCheckpoints::open(&scratch.join("checkpoint"))?;
        let mut reader = files.reader(snapshot)?;
        let mut receiver: Option<SnapshotReceiver> = None;
        while let Some(piece) = reader.next_piece()? {
            match &mut receiver {
                None => receiver = Some(SnapshotReceiver::begin(&store, &piece, snapshot, 0)?),
                Some(receiver) => receiver.piece(piece)?,
            }
        }
        let Some(receiver) = receiver else {
            return Err(StorageError::Raft(format!("{}: an empty file is no snapshot", snapshot.display())));
        };
        let (state, _) = receiver.finish()?.install()?;
        state.into_restored().map_err(|error| StorageError::Raft(error.to_string()))
    })();
    if let Err(error) = std::fs::remove_dir_all(&scratch) {
        tracing::warn!(%error, directory = %scratch.display(), "a temporary directory stays");
    }
    outcome
}
