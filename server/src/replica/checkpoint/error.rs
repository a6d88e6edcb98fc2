//! What can be wrong with a checkpoint or a snapshot file, said so that an operator knows what to do.

use std::io;
use std::path::{Path, PathBuf};

/// What to do about a checkpoint that cannot be trusted, once nothing could make up for it.
const ADVICE: &str = "The member stays down: its log does not reach back to the beginning or to a whole snapshot \
    file, so the state cannot be rebuilt here. Keep the directory for examination, and bring the member back under a \
    new id with `quorate cluster replace` while the other members have a quorum";

/// Why a checkpoint cannot be read or written. Local to this member: never a reply to a client.
#[derive(Debug, thiserror::Error)]
pub enum CheckpointError {
    /// The operating system refused something.
    #[error("cannot {action} {}: {source}", path.display())]
    Io {
        /// What was attempted.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// What it said.
        source: io::Error,
    },
    /// The stored state is not what was written.
    #[error("the checkpoint in {} is damaged: {what}. {ADVICE}", directory.display())]
    Damaged {
        /// The checkpoint's directory.
        directory: PathBuf,
        /// What is wrong.
        what: String,
    },
    /// A file of records is not what was written.
    #[error("{} is damaged at offset {offset}: {what}. Nothing was taken from it", path.display())]
    DamagedFile {
        /// The file, or what stands for it while it arrives from a peer.
        path: PathBuf,
        /// Where the first wrong part starts.
        offset: u64,
        /// What is wrong there.
        what: String,
    },
    /// Written by a newer release.
    #[error(
        "{} has format {version}, and this release reads format {known}: start the release that wrote it, or a newer one",
        path.display()
    )]
    UnknownFormat {
        /// Where.
        path: PathBuf,
        /// The format found.
        version: u32,
        /// The format known.
        known: u32,
    },
    /// A snapshot was installed meanwhile: what was being written or read is no longer of use.
    #[error("a snapshot replaced the checkpoint meanwhile")]
    Superseded,
    /// There is no checkpoint to make a snapshot from.
    #[error("no checkpoint was made yet")]
    Empty,
    /// The checkpoint thread ended: the member is stopping.
    #[error("the member is stopping")]
    Stopped,
}

impl CheckpointError {
    pub(crate) fn io(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> CheckpointError {
        let path = path.to_path_buf();
        move |source| CheckpointError::Io { action, path, source }
    }

    /// Whether there was no room for what was to be written: harmless where it need not be written.
    pub(super) fn is_lack_of_room(&self) -> bool {
        use io::ErrorKind::{FileTooLarge, QuotaExceeded, StorageFull};
        let CheckpointError::Io { source, .. } = self else { return false };
        matches!(source.kind(), StorageFull | QuotaExceeded | FileTooLarge)
    }

    pub(crate) fn damaged(directory: &Path, what: impl Into<String>) -> CheckpointError {
        CheckpointError::Damaged { directory: directory.to_path_buf(), what: what.into() }
    }

    pub(crate) fn damaged_file(path: &Path, offset: u64, what: impl Into<String>) -> CheckpointError {
        CheckpointError::DamagedFile { path: path.to_path_buf(), offset, what: what.into() }
    }
}

/// openraft's storage traits speak `io::Error`; ours keeps its sentence inside.
impl From<CheckpointError> for io::Error {
    fn from(error: CheckpointError) -> io::Error {
        let kind = match &error {
            CheckpointError::Io { source, .. } => source.kind(),
            CheckpointError::Damaged { .. } | CheckpointError::DamagedFile { .. } => {
                io::ErrorKind::InvalidData
            }
            _ => io::ErrorKind::Other,
        };
        io::Error::new(kind, error)
    }
}
