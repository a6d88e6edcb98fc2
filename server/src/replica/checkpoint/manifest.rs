//! MANIFEST: the sorted runs that stand over a checkpoint's blocks, and what they lead to.
//!
//! Replacing this file decides a large checkpoint. It names the directory of the blocks too: what a
//! crash leaves behind when another one became current means nothing. Next room: [`super::runs`].

use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};

use super::CheckpointMeta;
use super::database::sync_directory;
use super::error::CheckpointError;
use super::meta::MetaError;
use crate::replica::files::{self, DiskFiles, Files};

/// The file's name.
pub const NAME: &str = "MANIFEST";
/// The format that this code reads and writes.
const VERSION: u32 = 1;

/// What the file says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Manifest {
    /// The number of the checkpoint whose blocks are below the runs.
    pub checkpoint: u64,
    /// The numbers of the runs that stand over them.
    pub runs: Range<u32>,
    /// What blocks and runs together stand for.
    pub meta: CheckpointMeta,
}

impl Manifest {
    /// The directory's manifest, if it has one.
    pub fn read(directory: &Path) -> Result<Option<Manifest>, CheckpointError> {
        let path = path_in(directory);
        match files::read_whole(&DiskFiles, &path) {
            Ok(bytes) => Manifest::decode(&path, &bytes).map(Some),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(CheckpointError::io("read", &path)(error)),
        }
    }

    /// Replaces it, durably and at once.
    pub fn write(&self, directory: &Path) -> Result<(), CheckpointError> {
        let path = path_in(directory);
        let mut bytes = VERSION.to_le_bytes().to_vec();
        bytes.extend_from_slice(&self.checkpoint.to_le_bytes());
        bytes.extend_from_slice(&self.runs.start.to_le_bytes());
        bytes.extend_from_slice(&self.runs.end.to_le_bytes());
        bytes.extend_from_slice(&self.meta.encode());
        let crc = crc32fast::hash(&bytes);
        bytes.extend_from_slice(&crc.to_le_bytes());
        files::replace_whole(&DiskFiles, &path, &bytes).map_err(CheckpointError::io("write", &path))
    }

    /// Removes it, durably.
    pub fn remove(directory: &Path) -> Result<(), CheckpointError> {
        let path = path_in(directory);
        match DiskFiles.remove(&path) {
            Ok(()) => sync_directory(directory),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            Err(error) => Err(CheckpointError::io("remove", &path)(error)),
        }
    }

    fn decode(path: &Path, bytes: &[u8]) -> Result<Manifest, CheckpointError> {
        let damaged = |what: &str| CheckpointError::damaged_file(path, 0, what);
        let (content, crc) = bytes.split_last_chunk::<4>().ok_or_else(|| damaged("it is cut short"))?;
        if crc32fast::hash(content).to_le_bytes() != *crc {
            return Err(damaged("its checksum does not match"));
        }
        let (version, content) =
            content.split_first_chunk::<4>().ok_or_else(|| damaged("it is cut short"))?;
        let unknown =
            |version| CheckpointError::UnknownFormat { path: path.to_path_buf(), version, known: VERSION };
        match u32::from_le_bytes(*version) {
            VERSION => {}
            version => return Err(unknown(version)),
        }
        let (numbers, meta) = content.split_first_chunk::<16>().ok_or_else(|| damaged("it is cut short"))?;
        let number = |at: usize| u32::from_le_bytes(std::array::from_fn(|byte| numbers[at + byte]));
        let meta = CheckpointMeta::decode(meta).map_err(|error| match error {
            MetaError::Damaged(what) => damaged(what),
            MetaError::Version(version) => unknown(version),
        })?;
        Ok(Manifest {
            checkpoint: u64::from_le_bytes(std::array::from_fn(|byte| numbers[byte])),
            runs: number(8)..number(12),
            meta,
        })
    }
}

fn path_in(directory: &Path) -> PathBuf {
    directory.join(NAME)
}

#[cfg(test)]
mod tests {
    use openraft::vote::RaftLeaderId;
    use quorate_core::id::Zxid;
    use quorate_core::state::Digest;

    use super::*;
    use crate::replica::types::{LeaderId, LogId, StoredMembership};

    #[test]
    fn what_was_written_is_read_and_a_flipped_bit_or_a_cut_is_refused() {
        let directory = tempfile::tempdir().expect("a directory");
        assert_eq!(Manifest::read(directory.path()).expect("readable"), None);
        let applied = LogId { leader_id: LeaderId::new(3, 1).to_committed(), index: 77 };
        let meta = CheckpointMeta {
            applied,
            membership: StoredMembership::default(),
            zxid: Zxid(9),
            digest: Digest(5),
        };
        let manifest = Manifest { checkpoint: 2, runs: 7..19, meta };
        manifest.write(directory.path()).expect("written");
        assert_eq!(Manifest::read(directory.path()).expect("readable"), Some(manifest));

        let path = path_in(directory.path());
        let whole = std::fs::read(&path).expect("there");
        for bit in 0..whole.len() * 8 {
            let mut bad = whole.clone();
            bad[bit / 8] ^= 1 << (bit % 8);
            std::fs::write(&path, &bad).expect("written");
            assert!(Manifest::read(directory.path()).is_err(), "bit {bit}");
        }
        for length in 0..whole.len() {
            std::fs::write(&path, &whole[..length]).expect("written");
            assert!(Manifest::read(directory.path()).is_err(), "{length} bytes");
        }
        Manifest::remove(directory.path()).expect("removed");
        assert_eq!(Manifest::read(directory.path()).expect("readable"), None);
    }
}
