//! One file of the log: its name, its header, appending to it.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::error::LogError;
use super::format::{SEGMENT_HEADER, SegmentHeader};
use crate::replica::files::{self, File, Files};

/// Files grow in whole pages. A segment of another length was cut by something else than us.
pub const PAGE: u64 = 4096;
/// Zeros are written at most this many at a time.
const ZEROS: usize = 64 << 10;

static ZERO_BYTES: [u8; ZEROS] = [0; ZEROS];

/// The file name of a segment.
pub fn file_name(number: u64) -> String {
    format!("log-{number:016}.seg")
}

/// The segment number in a file name, if it is one.
pub fn parse_file_name(name: &str) -> Option<u64> {
    let digits = name.strip_prefix("log-")?.strip_suffix(".seg")?;
    if digits.len() != 16 || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    digits.parse().ok()
}

/// A segment that is no longer, or not only, appended to: for reading and for deletion.
#[derive(Clone)]
pub struct Segment {
    /// Its number.
    pub number: u64,
    /// Where it is.
    pub path: PathBuf,
    /// Its bytes.
    pub file: Arc<dyn File>,
    /// Its length on the disk.
    pub length: u64,
    /// The highest index of an entry in it, removed ones included.
    pub highest_index: Option<u64>,
}

impl Segment {
    /// Makes what was written to it durable.
    pub fn sync(&self) -> Result<(), LogError> {
        self.file.sync().map_err(LogError::io("sync", &self.path))
    }
}

/// The segment at the end of the log.
pub struct ActiveSegment {
    /// What it shares with the others.
    pub segment: Segment,
    /// Where the next batch goes. Everything behind it is zeros.
    pub end: u64,
    /// The file grows in steps of this size.
    pub growth: u64,
}

impl ActiveSegment {
    /// Creates the file with its header and room for the first batches. Nothing is synced, and the
    /// file has a temporary name until [`ActiveSegment::publish`].
    pub fn create(
        files: &dyn Files,
        directory: &Path,
        header: SegmentHeader,
        growth: u64,
    ) -> Result<ActiveSegment, LogError> {
        let path = directory.join(file_name(header.number));
        let unfinished = files::temporary_name(&path);
        match files.remove(&unfinished) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(LogError::io("remove", &unfinished)(error));
            }
            // One that a crash had left, or none.
            _ => {}
        }
        let file = files.create(&unfinished).map_err(LogError::io("create", &unfinished))?;
        let segment = Segment { number: header.number, path, file, length: 0, highest_index: None };
        let mut active = ActiveSegment { segment, end: 0, growth };
        active.append(&header.encode()).map_err(LogError::io("write", &active.segment.path))?;
        debug_assert_eq!(active.end, SEGMENT_HEADER as u64);
        Ok(active)
    }

    /// Makes the segment durable with what was written to it, and only then gives it its name: whatever
    /// has a segment's name was whole once.
    pub fn publish(&self, files: &dyn Files, directory: &Path) -> Result<(), LogError> {
        let path = &self.segment.path;
        self.segment.sync()?;
        files.rename(&files::temporary_name(path), path).map_err(LogError::io("name", path))?;
        files.sync_directory(directory).map_err(LogError::io("sync", directory))
    }

    /// Writes bytes at the end. Nothing is synced.
    ///
    /// The zeros go first: the file's length is then always one that [`PAGE`] divides, and a torn
    /// write leaves zeros where its bytes are missing, which is how recovery tells it from damage.
    pub fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        let end = self.end + bytes.len() as u64;
        // Rounded here, so that no setting can break the rule about lengths.
        let growth = self.growth.next_multiple_of(PAGE).max(PAGE);
        let length =
            if end > self.segment.length { end.next_multiple_of(growth) } else { self.segment.length };
        while self.segment.length < length {
            let count = (length - self.segment.length).min(ZEROS as u64);
            self.segment.file.write_at(self.segment.length, &ZERO_BYTES[..count as usize])?;
            self.segment.length += count;
        }
        self.segment.file.write_at(self.end, bytes)?;
        self.end = end;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn file_names_sort_like_numbers_and_parse_back() {
        assert!(file_name(9) < file_name(10));
        assert_eq!(parse_file_name(&file_name(42)), Some(42));
        for other in ["log-42.seg", "log-0000000000000042.seg.tmp", "LOCK", "log-000000000000004x.seg"] {
            assert_eq!(parse_file_name(other), None, "{other}");
        }
    }
}
