//! Taking a snapshot in: from pieces to a new current checkpoint and a state in memory.

use std::path::{Path, PathBuf};

use bytes::Bytes;
use quorate_core::state::{State, StateLoader};

use super::reader;
use crate::replica::checkpoint::{
    CheckpointError, CheckpointMeta, CheckpointStore, Replacement, piece_error,
};
use quorate_core::record_file::{self, Piece, PieceReader};

/// Takes pieces in their order, as [`SnapshotReader`](super::SnapshotReader) gives them, and builds
/// checkpoint and state at once. Nothing is visible before [`Received::install`]; dropped before, it
/// leaves no trace.
pub struct SnapshotReceiver {
    /// Stands for the file in errors.
    source: PathBuf,
    meta: CheckpointMeta,
    offset: u64,
    pieces: PieceReader,
    replacement: Box<dyn Replacement>,
    loader: StateLoader,
}

/// A whole, verified and durable snapshot that is not the current checkpoint yet: Raft decides
/// whether it ever is. One that comes late, of a leader of the past, is dropped.
pub struct Received {
    /// What it stands for.
    pub meta: CheckpointMeta,
    state: State,
    replacement: Box<dyn Replacement>,
}

impl Received {
    /// Makes it the current checkpoint, durably; the state that it is takes the place of the one in
    /// memory before anything else is written.
    ///
    /// # Errors
    ///
    /// What the disk then holds is the old checkpoint or the new one; the member must stop.
    pub fn install(self) -> Result<(State, CheckpointMeta), CheckpointError> {
        self.replacement.finish()?;
        Ok((self.state, self.meta))
    }
}

impl SnapshotReceiver {
    /// Begins with the header piece. `source` names where it comes from, for people; for
    /// `index_seed` see [`State::with_index_seed`].
    pub fn begin(
        checkpoints: &dyn CheckpointStore,
        header: &[u8],
        source: &Path,
        index_seed: u64,
    ) -> Result<SnapshotReceiver, CheckpointError> {
        let meta = reader::decode_meta(header, source)?;
        Ok(SnapshotReceiver {
            source: source.to_path_buf(),
            meta,
            offset: header.len() as u64,
            pieces: PieceReader::default(),
            replacement: checkpoints.begin_replacement()?,
            loader: StateLoader::with_index_seed(index_seed),
        })
    }

    /// What the snapshot stands for.
    pub fn meta(&self) -> &CheckpointMeta {
        &self.meta
    }

    /// Takes the next piece.
    pub fn piece(&mut self, piece: Bytes) -> Result<(), CheckpointError> {
        let damage = |error| piece_error(&self.source, self.offset, error);
        let length = piece.len() as u64;
        if let Piece::Chunk(body) = self.pieces.accept(piece).map_err(damage)? {
            for record in record_file::records(&body) {
                let (key, value) = record.map_err(damage)?;
                let Some(value) = value else {
                    let what = "a snapshot has a deletion in it";
                    return Err(CheckpointError::damaged_file(&self.source, self.offset, what));
                };
                self.loader.push(key, value).map_err(|error| {
                    CheckpointError::damaged_file(&self.source, self.offset, error.to_string())
                })?;
                self.replacement.add(key, value)?;
            }
        }
        self.offset += length;
        Ok(())
    }

    /// Verifies the whole and makes it durable, beside the current checkpoint.
    ///
    /// # Errors
    ///
    /// `DamagedFile` if pieces are missing or the records are not the state that was promised. The
    /// old checkpoint is then as it was.
    pub fn finish(mut self) -> Result<Received, CheckpointError> {
        let damaged = |what: String| CheckpointError::damaged_file(&self.source, self.offset, what);
        if !self.pieces.is_done() {
            return Err(damaged("it ends without its footer".into()));
        }
        let state = self.loader.finish().map_err(|error| damaged(error.to_string()))?;
        crate::replica::checkpoint::check_state(&state, &self.meta).map_err(damaged)?;
        self.replacement.seal(&self.meta)?;
        Ok(Received { meta: self.meta, state, replacement: self.replacement })
    }
}
