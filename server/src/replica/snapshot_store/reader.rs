//! Reading a snapshot file piece by piece.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;

use crate::replica::checkpoint::{CheckpointError, CheckpointMeta, MetaError, piece_error};
use crate::replica::files::{self, File, Files};
use quorate_core::record_file::{self, CHUNK_HEADER, HEADER, Kind, PieceReader};

/// Gives a file's pieces in order: header, chunks, footer. Each is verified before it is given, so
/// a peer is never sent damage. The file may be removed meanwhile: it is read to its end.
pub struct SnapshotReader {
    path: PathBuf,
    file: Arc<dyn File>,
    meta: CheckpointMeta,
    header: Option<Bytes>,
    offset: u64,
    length: u64,
    pieces: PieceReader,
}

impl SnapshotReader {
    pub(super) fn open(files: &dyn Files, path: &Path) -> Result<SnapshotReader, CheckpointError> {
        let file = files.open(path).map_err(CheckpointError::io("open", path))?;
        let length = file.length().map_err(CheckpointError::io("measure", path))?;
        let damage = |error| piece_error(path, 0, error);
        let start = read(file.as_ref(), path, 0, HEADER, length)?;
        let header_length = HEADER + record_file::meta_length(&start).map_err(damage)?;
        let header = read(file.as_ref(), path, 0, header_length, length)?;
        let meta = decode_meta(&header, path)?;
        Ok(SnapshotReader {
            path: path.to_path_buf(),
            file,
            meta,
            header: Some(header),
            offset: header_length as u64,
            length,
            pieces: PieceReader::default(),
        })
    }

    /// What the snapshot stands for.
    pub fn meta(&self) -> &CheckpointMeta {
        &self.meta
    }

    /// The next piece; `None` behind the footer.
    ///
    /// # Errors
    ///
    /// `DamagedFile` with the offset of the piece that is not what was written.
    pub fn next_piece(&mut self) -> Result<Option<Bytes>, CheckpointError> {
        if let Some(header) = self.header.take() {
            return Ok(Some(header));
        }
        let damage = |error| piece_error(&self.path, self.offset, error);
        if self.pieces.is_done() {
            if self.offset != self.length {
                let what = "bytes follow the footer";
                return Err(CheckpointError::damaged_file(&self.path, self.offset, what));
            }
            return Ok(None);
        }
        let start = read(self.file.as_ref(), &self.path, self.offset, CHUNK_HEADER, self.length)?;
        let length = PieceReader::piece_length(&start).map_err(damage)?;
        let piece = read(self.file.as_ref(), &self.path, self.offset, length, self.length)?;
        self.pieces.accept(piece.clone()).map_err(damage)?;
        self.offset += length as u64;
        Ok(Some(piece))
    }
}

/// The meta in a header piece, which came from `path`.
pub(super) fn decode_meta(header: &[u8], path: &Path) -> Result<CheckpointMeta, CheckpointError> {
    let bytes =
        record_file::decode_header(header, Kind::Snapshot).map_err(|error| piece_error(path, 0, error))?;
    CheckpointMeta::decode(bytes).map_err(|error| match error {
        MetaError::Damaged(what) => CheckpointError::damaged_file(path, HEADER as u64, what),
        MetaError::Version(version) => {
            CheckpointError::UnknownFormat { path: path.to_path_buf(), version, known: record_file::VERSION }
        }
    })
}

fn read(
    file: &dyn File,
    path: &Path,
    offset: u64,
    count: usize,
    length: u64,
) -> Result<Bytes, CheckpointError> {
    if offset + count as u64 > length {
        let what = format!("the file ends at {length}, in the middle of a piece");
        return Err(CheckpointError::damaged_file(path, offset, what));
    }
    let bytes = files::read_exactly(file, offset, count).map_err(CheckpointError::io("read", path))?;
    Ok(bytes.into())
}
