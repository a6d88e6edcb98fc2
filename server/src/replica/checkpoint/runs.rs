//! The changes of checkpoints too large to be one batch: sorted runs in files, merged as they are
//! read or applied.
//!
//! The state gives its changed records in no particular order, and the stored blocks want them
//! sorted, or each block would be rewritten again and again. So what gathers in memory is sorted
//! and written to a run file at intervals. Runs with higher numbers are later. Which of them count
//! is the manifest's word ([`super::manifest`]); a crash while they are applied only means to apply
//! them again.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::collections::binary_heap::PeekMut;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use quorate_core::record::RecordWrite;

use super::database::sync_directory;
use super::error::CheckpointError;
use crate::replica::files::{self, DiskFiles, File, Files};
use quorate_core::record_file::{
    self, CHUNK_HEADER, ChunkWriter, HEADER, Kind, Piece, PieceError, PieceReader,
};

/// A run's chunks are small, since a merge holds one of every run.
const CHUNK: usize = 64 << 10;

/// The name of a run file.
pub fn file_name(number: u32) -> String {
    format!("checkpoint-run-{number:04}.qrun")
}

/// Writes sorted changes, durably; the directory is synced by the caller, once for all runs.
pub fn write(directory: &Path, number: u32, changes: &[RecordWrite]) -> Result<(), CheckpointError> {
    write_run(directory, number, |run| changes.iter().try_for_each(|change| run.push(change)))
}

/// Makes one run of several, durably, directory included.
pub fn merge(directory: &Path, runs: &Range<u32>, number: u32) -> Result<(), CheckpointError> {
    let mut merge = Merge::open(directory, runs)?;
    write_run(directory, number, |merged| {
        while let Some(change) = merge.next()? {
            merged.push(&change)?;
        }
        Ok(())
    })?;
    sync_directory(directory)
}

/// Writes what `fill` puts into a run, durably; one that fails gives back its room.
fn write_run(
    directory: &Path,
    number: u32,
    fill: impl FnOnce(&mut RunWriter) -> Result<(), CheckpointError>,
) -> Result<(), CheckpointError> {
    let written = RunWriter::create(directory, number).and_then(|mut run| {
        fill(&mut run)?;
        run.finish()
    });
    if written.is_err()
        && let Err(error) = DiskFiles.remove(&directory.join(file_name(number)))
    {
        // It is removed at the next open at the latest.
        tracing::warn!(number, %error, "an unfinished run could not be removed");
    }
    written
}

/// A run being written.
struct RunWriter {
    path: PathBuf,
    file: Arc<dyn File>,
    offset: u64,
    writer: ChunkWriter,
}

impl RunWriter {
    /// Begins a run, over whatever a crash may have left under its name.
    fn create(directory: &Path, number: u32) -> Result<RunWriter, CheckpointError> {
        let path = directory.join(file_name(number));
        match DiskFiles.remove(&path) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                return Err(CheckpointError::io("remove", &path)(error));
            }
            _ => {}
        }
        let file = DiskFiles.create(&path).map_err(CheckpointError::io("create", &path))?;
        let mut run = RunWriter { path, file, offset: 0, writer: ChunkWriter::new(CHUNK) };
        run.put(&record_file::encode_header(Kind::Run, &number.to_le_bytes()))?;
        Ok(run)
    }

    fn put(&mut self, bytes: &[u8]) -> Result<(), CheckpointError> {
        self.file.write_at(self.offset, bytes).map_err(CheckpointError::io("write", &self.path))?;
        self.offset += bytes.len() as u64;
        Ok(())
    }

    /// Adds a change; keys arrive in order.
    fn push(&mut self, change: &RecordWrite) -> Result<(), CheckpointError> {
        match self.writer.push(&change.key, change.value.as_deref()) {
            Some(chunk) => self.put(&chunk),
            None => Ok(()),
        }
    }

    fn finish(mut self) -> Result<(), CheckpointError> {
        let (last, footer) = std::mem::replace(&mut self.writer, ChunkWriter::new(0)).finish();
        self.put(&last.unwrap_or_default())?;
        self.put(&footer)?;
        self.file.sync().map_err(CheckpointError::io("sync", &self.path))
    }
}

/// The bytes of these runs.
pub fn bytes(directory: &Path, runs: &Range<u32>) -> Result<u64, CheckpointError> {
    let length = |number| {
        let path = directory.join(file_name(number));
        let length = DiskFiles.open(&path).and_then(|file| file.length());
        length.map_err(CheckpointError::io("open", &path))
    };
    runs.clone().map(length).sum()
}

/// Removes whatever run files there are but these.
pub fn remove_all_but(directory: &Path, kept: &Range<u32>) -> Result<(), CheckpointError> {
    let kept: Vec<String> = kept.clone().map(file_name).collect();
    let names = DiskFiles.list(directory).map_err(CheckpointError::io("list", directory))?;
    for name in names.iter().filter(|name| name.ends_with(".qrun") && !kept.contains(name)) {
        let path = directory.join(name);
        DiskFiles.remove(&path).map_err(CheckpointError::io("remove", &path))?;
    }
    Ok(())
}

/// One run, read from front to back.
struct Run {
    path: PathBuf,
    file: Arc<dyn File>,
    offset: u64,
    reader: PieceReader,
    chunk: Bytes,
    position: usize,
    next: Option<RecordWrite>,
}

impl Run {
    fn open(directory: &Path, number: u32) -> Result<Run, CheckpointError> {
        let path = directory.join(file_name(number));
        let file = DiskFiles.open(&path).map_err(CheckpointError::io("open", &path))?;
        let read = |length| {
            files::read_exactly(file.as_ref(), 0, length).map_err(CheckpointError::io("read", &path))
        };
        let damage = |error| piece_error(&path, 0, error);
        let length = HEADER + record_file::meta_length(&read(HEADER)?).map_err(damage)?;
        let header = read(length)?;
        let meta = record_file::decode_header(&header, Kind::Run).map_err(damage)?;
        if meta != number.to_le_bytes() {
            return Err(CheckpointError::damaged_file(&path, 0, "it is another run"));
        }
        let mut run = Run {
            path,
            file,
            offset: length as u64,
            reader: PieceReader::default(),
            chunk: Bytes::new(),
            position: 0,
            next: None,
        };
        run.advance()?;
        Ok(run)
    }

    /// Moves `next` to the next change, `None` behind the last.
    fn advance(&mut self) -> Result<(), CheckpointError> {
        while self.position >= self.chunk.len() {
            if self.reader.is_done() {
                self.next = None;
                return Ok(());
            }
            self.read_piece()?;
        }
        let damage = |error| piece_error(&self.path, self.offset, error);
        let record = record_file::records(&self.chunk[self.position..]).next();
        let (key, value) = record.expect("bytes are left").map_err(damage)?;
        self.position += 5 + key.len() + value.map_or(0, <[u8]>::len);
        let value = value.map(|value| self.chunk.slice_ref(value));
        self.next = Some(RecordWrite { key: self.chunk.slice_ref(key), value });
        Ok(())
    }

    fn read_piece(&mut self) -> Result<(), CheckpointError> {
        let damage = |error| piece_error(&self.path, self.offset, error);
        let mut start = [0; CHUNK_HEADER];
        let read =
            self.file.read_at(self.offset, &mut start).map_err(CheckpointError::io("read", &self.path))?;
        let length = PieceReader::piece_length(&start[..read]).map_err(damage)?;
        let bytes = files::read_exactly(self.file.as_ref(), self.offset, length)
            .map_err(CheckpointError::io("read", &self.path))?;
        let piece = self.reader.accept(bytes.into()).map_err(damage)?;
        self.offset += length as u64;
        self.position = 0;
        self.chunk = match piece {
            Piece::Chunk(body) => body,
            Piece::Footer => Bytes::new(),
        };
        Ok(())
    }
}

/// All runs as one sorted sequence. Of several changes to a key the latest counts.
pub struct Merge {
    runs: Vec<Run>,
    /// The next key of each run that is not at its end; of several runs with one key the latest first.
    heads: BinaryHeap<Reverse<(Bytes, Reverse<usize>)>>,
}

impl Merge {
    /// Opens these runs.
    pub fn open(directory: &Path, runs: &Range<u32>) -> Result<Merge, CheckpointError> {
        let runs: Vec<Run> =
            runs.clone().map(|number| Run::open(directory, number)).collect::<Result<_, _>>()?;
        let head =
            |(place, run): (usize, &Run)| Some(Reverse((run.next.as_ref()?.key.clone(), Reverse(place))));
        let heads = runs.iter().enumerate().filter_map(head).collect();
        Ok(Merge { runs, heads })
    }

    /// The next change's key.
    pub fn peek(&self) -> Option<&Bytes> {
        self.heads.peek().map(|Reverse((key, _))| key)
    }

    /// The next change.
    pub fn next(&mut self) -> Result<Option<RecordWrite>, CheckpointError> {
        let Some(latest) = self.pop()? else { return Ok(None) };
        while self.peek() == Some(&latest.key) {
            self.pop()?;
        }
        Ok(Some(latest))
    }

    fn pop(&mut self) -> Result<Option<RecordWrite>, CheckpointError> {
        let Some(mut head) = self.heads.peek_mut() else { return Ok(None) };
        let Reverse((_, Reverse(place))) = &*head;
        let place = *place;
        let run = &mut self.runs[place];
        let change = run.next.take();
        run.advance()?;
        match &run.next {
            Some(next) => *head = Reverse((next.key.clone(), Reverse(place))),
            None => drop(PeekMut::pop(head)),
        }
        Ok(change)
    }
}

pub(crate) fn piece_error(path: &Path, offset: u64, error: PieceError) -> CheckpointError {
    match error {
        PieceError::Damaged(what) => CheckpointError::damaged_file(path, offset, what),
        PieceError::Version(version) => {
            CheckpointError::UnknownFormat { path: path.to_path_buf(), version, known: record_file::VERSION }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write_of(key: u8, value: Option<u8>) -> RecordWrite {
        RecordWrite { key: vec![key].into(), value: value.map(|value| vec![value].into()) }
    }

    #[test]
    fn a_merge_is_sorted_and_the_latest_change_of_a_key_counts() {
        let directory = tempfile::tempdir().expect("a directory");
        let runs = [
            vec![write_of(1, Some(1)), write_of(3, Some(1)), write_of(9, Some(1))],
            vec![write_of(2, Some(2)), write_of(3, None)],
            vec![],
        ];
        for (number, changes) in runs.iter().enumerate() {
            write(directory.path(), number as u32, changes).expect("written");
        }
        let all = |runs: Range<u32>| {
            let mut merge = Merge::open(directory.path(), &runs).expect("whole");
            let mut merged = Vec::new();
            while let Some(change) = merge.next().expect("whole") {
                merged.push(change);
            }
            merged
        };
        let expected = [write_of(1, Some(1)), write_of(2, Some(2)), write_of(3, None), write_of(9, Some(1))];
        assert_eq!(all(0..3), expected);
        merge(directory.path(), &(0..3), 3).expect("merged");
        assert_eq!(all(3..4), expected, "what is gone stays gone");
        remove_all_but(directory.path(), &(3..4)).expect("removed");
        assert_eq!(all(3..4), expected);
        assert!(Merge::open(directory.path(), &(0..1)).is_err());
    }
}
