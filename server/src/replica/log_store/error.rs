//! What can be wrong with a log on a disk, said so that an operator knows what to do.

use std::io;
use std::path::{Path, PathBuf};

/// What to do about a log that cannot be trusted: said with every refusal.
const ADVICE: &str = "The member stays down: starting without these entries could undo writes that were \
    acknowledged. Keep the directory for examination, and rejoin under a new id with \
    `quorate cluster replace` while the other members have a quorum; or restore this member's disk \
    from a copy taken while it was stopped";

/// Why a log cannot be opened or used. Local to this member: never a reply to a client.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
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
    /// Bytes that were once synced are not what was written.
    #[error("{} is damaged at offset {offset}: {what}. {ADVICE}", path.display())]
    Damaged {
        /// The segment.
        path: PathBuf,
        /// Where the first wrong batch or field starts.
        offset: u64,
        /// What is wrong there.
        what: String,
    },
    /// A segment that must exist does not.
    #[error("{} is missing: {what}. {ADVICE}", path.display())]
    Missing {
        /// The segment, or the log's directory.
        path: PathBuf,
        /// How we know that it was there.
        what: String,
    },
    /// Written by a newer release.
    #[error(
        "{} has log format {version}, and this release reads format {}: start the release that wrote it, or a newer one",
        path.display(), super::format::VERSION
    )]
    UnknownFormat {
        /// The segment.
        path: PathBuf,
        /// The format found.
        version: u32,
    },
    /// Segments were found where a new log was to begin.
    #[error(
        "{} holds a log already, but the member has no identity yet: this directory belongs to another \
         member or to an interrupted restore. Choose an empty data directory, or move this one aside",
        path.display()
    )]
    NotEmpty {
        /// The log's directory.
        path: PathBuf,
    },
}

impl LogError {
    pub(super) fn io(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> LogError {
        let path = path.to_path_buf();
        move |source| LogError::Io { action, path, source }
    }

    pub(super) fn damaged(path: &Path, offset: u64, what: impl Into<String>) -> LogError {
        LogError::Damaged { path: path.to_path_buf(), offset, what: what.into() }
    }
}

/// openraft's storage traits speak `io::Error`; ours keeps its sentence inside.
impl From<LogError> for io::Error {
    fn from(error: LogError) -> io::Error {
        let kind = match &error {
            LogError::Io { source, .. } => source.kind(),
            _ => io::ErrorKind::InvalidData,
        };
        io::Error::new(kind, error)
    }
}
