//! Whole states for peers that the log can no longer bring up to date.
//!
//! A snapshot file is a checkpoint's records, sorted, in chunks that are each verified on their own
//! ([`quorate_core::record_file`] has the format). It is built from the durable checkpoint by
//! the checkpoint thread ([`SnapshotStore::build`]), read piece by piece for a peer
//! ([`SnapshotReader`]), and on the peer poured into a new checkpoint ([`SnapshotReceiver`]) that
//! becomes current in one step. How the pieces travel is [`super::network`]'s business.
//!
//! # Invariants
//!
//! - A file under its final name is whole: it was synced, read back and verified before the rename.
//! - The newest whole file is kept until a newer one is; unfinished ones go at open.
//! - A receiver that fails or is dropped leaves the old checkpoint as it was.

mod reader;
mod rebuild;
mod receiver;

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

pub use reader::SnapshotReader;
pub use rebuild::{OpenCheckpoints, OpenedCheckpoint, open_or_rebuild};
pub use receiver::{Received, SnapshotReceiver};

use super::checkpoint::{CheckpointError, CheckpointMeta, CheckpointStore, try_visit};
use super::files::{self, Files, TEMPORARY_ENDING};
use quorate_core::record_file::{self, ChunkWriter, Kind};

/// A chunk has about this many bytes.
const CHUNK: usize = 1 << 20;
const ENDING: &str = ".qsnap";

/// The snapshot files of one member.
#[derive(Clone)]
pub struct SnapshotStore {
    directory: PathBuf,
    files: Arc<dyn Files>,
}

/// A whole snapshot file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SnapshotFile {
    /// Where it is.
    pub path: PathBuf,
    /// What it stands for.
    pub meta: CheckpointMeta,
}

impl SnapshotStore {
    /// Opens the directory, or makes it, and removes unfinished files.
    pub fn open(
        files: Arc<dyn Files>,
        directory: impl Into<PathBuf>,
    ) -> Result<SnapshotStore, CheckpointError> {
        let directory = directory.into();
        files.create_directory(&directory).map_err(CheckpointError::io("create", &directory))?;
        let store = SnapshotStore { directory, files };
        for name in store.names()? {
            if name.ends_with(TEMPORARY_ENDING) {
                store.remove(&store.directory.join(name))?;
            }
        }
        Ok(store)
    }

    /// Writes the durable checkpoint to a file, unless that was done already; older files are
    /// removed once the new one is verified. Only for the checkpoint thread: the checkpoint must
    /// not change meanwhile.
    pub fn build(&self, checkpoints: &dyn CheckpointStore) -> Result<SnapshotFile, CheckpointError> {
        let meta = checkpoints.meta()?.ok_or(CheckpointError::Empty)?;
        let path = self.directory.join(file_name(meta.applied.index));
        if self.has(&path)? {
            match self.verify(&path) {
                Ok(found) if found == meta => return Ok(SnapshotFile { path, meta }),
                // Not the same, or not whole any more: it is written again, over it.
                Ok(_) | Err(CheckpointError::DamagedFile { .. }) => {}
                Err(error) => return Err(error),
            }
        }
        let temporary = files::temporary_name(&path);
        if let Err(error) = self.write_whole(checkpoints, &meta, &temporary) {
            // What it took is given back: the next one may have another name.
            if let Err(left) = self.remove_if_there(&temporary) {
                tracing::warn!("an unfinished snapshot stays: {left}");
            }
            return Err(error);
        }
        self.files.rename(&temporary, &path).map_err(CheckpointError::io("rename", &temporary))?;
        self.files.sync_directory(&self.directory).map_err(CheckpointError::io("sync", &self.directory))?;
        for name in self.names()?.iter().filter(|name| name.ends_with(ENDING)) {
            let other = self.directory.join(name);
            if other != path {
                self.remove(&other)?;
            }
        }
        Ok(SnapshotFile { path, meta })
    }

    /// The newest whole file. Files that are not whole are passed over, with a line in the log.
    pub fn newest(&self) -> Result<Option<SnapshotFile>, CheckpointError> {
        for name in self.names()?.iter().rev().filter(|name| name.ends_with(ENDING)) {
            let path = self.directory.join(name);
            match self.verify(&path) {
                Ok(meta) => return Ok(Some(SnapshotFile { path, meta })),
                Err(error @ CheckpointError::DamagedFile { .. }) => tracing::warn!("passed over: {error}"),
                Err(error) => return Err(error),
            }
        }
        Ok(None)
    }

    /// Opens a file for reading.
    pub fn reader(&self, path: &Path) -> Result<SnapshotReader, CheckpointError> {
        SnapshotReader::open(self.files.as_ref(), path)
    }

    /// Reads a whole file, verifying each piece.
    fn verify(&self, path: &Path) -> Result<CheckpointMeta, CheckpointError> {
        let mut reader = self.reader(path)?;
        while reader.next_piece()?.is_some() {}
        Ok(reader.meta().clone())
    }

    fn has(&self, path: &Path) -> Result<bool, CheckpointError> {
        let wanted = path.file_name().and_then(|name| name.to_str());
        Ok(self.names()?.iter().any(|name| Some(name.as_str()) == wanted))
    }

    fn remove_if_there(&self, path: &Path) -> Result<(), CheckpointError> {
        if self.has(path)? { self.remove(path) } else { Ok(()) }
    }

    /// Writes the checkpoint, and reads it back before it replaces anything: a file that cannot be read
    /// helps nobody.
    fn write_whole(
        &self,
        checkpoints: &dyn CheckpointStore,
        meta: &CheckpointMeta,
        path: &Path,
    ) -> Result<(), CheckpointError> {
        self.write(checkpoints, meta, path)?;
        if checkpoints.meta()?.as_ref() != Some(meta) {
            return Err(CheckpointError::Superseded);
        }
        self.verify(path).map(drop)
    }

    fn write(
        &self,
        checkpoints: &dyn CheckpointStore,
        meta: &CheckpointMeta,
        path: &Path,
    ) -> Result<(), CheckpointError> {
        self.remove_if_there(path)?;
        let file = self.files.create(path).map_err(CheckpointError::io("create", path))?;
        let mut offset = 0;
        let mut put = |bytes: &[u8]| {
            file.write_at(offset, bytes)?;
            offset += bytes.len() as u64;
            Ok::<(), io::Error>(())
        };
        put(&record_file::encode_header(Kind::Snapshot, &meta.encode()))
            .map_err(CheckpointError::io("write", path))?;
        let mut writer = ChunkWriter::new(CHUNK);
        try_visit(checkpoints, |key, value| match writer.push(key, Some(value)) {
            Some(chunk) => put(&chunk).map_err(CheckpointError::io("write", path)),
            None => Ok(()),
        })?;
        let (last, footer) = writer.finish();
        let ended = last.map_or(Ok(()), |chunk| put(&chunk)).and_then(|()| put(&footer));
        ended.and_then(|()| file.sync()).map_err(CheckpointError::io("write", path))
    }

    fn names(&self) -> Result<Vec<String>, CheckpointError> {
        self.files.list(&self.directory).map_err(CheckpointError::io("list", &self.directory))
    }

    fn remove(&self, path: &Path) -> Result<(), CheckpointError> {
        self.files.remove(path).map_err(CheckpointError::io("remove", path))
    }
}

fn file_name(index: u64) -> String {
    format!("snapshot-{index:020}{ENDING}")
}
