//! Whose disk this is: the identity file, and the rules for opening a data directory.
//!
//! ```text
//! <data-dir>/LOCK        held while a process uses the directory
//! <data-dir>/identity    cluster, member, format; written once, when the member is made
//! ```
//!
//! A member has promised things: votes it gave, entries it accepted. A directory without an identity
//! therefore never passes for one of a member that exists: its promises would be forgotten, and the
//! cluster could lose writes that it had acknowledged. What is in the directory besides is the
//! business of [`super::log_store`], [`super::checkpoint`] and [`super::snapshot_store`].

use std::fmt;
use std::fs::{self, TryLockError};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use super::files::{self, Files};

const IDENTITY: &str = "identity";
const LOCK: &str = "LOCK";
/// The format of a data directory that this release reads and writes.
pub const FORMAT: u32 = 1;

/// Whose disk this is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Identity {
    /// The cluster's id.
    pub cluster: u128,
    /// The member's id.
    pub member: u64,
}

/// What the caller knows about the member before the directory is opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expected {
    /// It is being made: it founds a cluster or joins one under a new id.
    New,
    /// It took part before, or its configuration cannot tell.
    Existing,
}

/// A data directory, as it was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Found {
    /// Empty, for a new member. [`write_identity`] follows once its log and checkpoint exist.
    Fresh,
    /// That of the member asked for.
    Existing(Identity),
}

/// Why a data directory must not be used.
#[derive(Debug, thiserror::Error)]
pub enum DataDirError {
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
    /// Another process has it.
    #[error(
        "{} is in use by {holder}: stop that one first, or give this member a data directory of its own",
        path.display()
    )]
    Locked {
        /// The directory.
        path: PathBuf,
        /// Who, as far as the lock file tells.
        holder: String,
    },
    /// A member that exists has nothing on its disk.
    #[error(
        "{} is empty, but member {member} has taken part in a cluster: it cannot vote without what it has promised. \
         If the right disk is only not mounted, mount it. If it is lost, bring the member back under a new id: \
         `quorate cluster replace {member} --with <new id>`",
        path.display()
    )]
    Lost {
        /// The directory.
        path: PathBuf,
        /// The member.
        member: u64,
    },
    /// There is data, but nothing says whose.
    #[error(
        "{} holds {found}, but its identity file is missing: restore the file from a copy of this directory. Without \
         it the directory cannot be used, for nothing says which member's promises these are",
        path.display()
    )]
    NoIdentity {
        /// The directory.
        path: PathBuf,
        /// What is there.
        found: String,
    },
    /// A new member was given a used directory.
    #[error(
        "{} belongs to {found} already: choose an empty data directory for the new member, or start the member that \
         it belongs to",
        path.display()
    )]
    Used {
        /// The directory.
        path: PathBuf,
        /// Whose it is.
        found: Identity,
    },
    /// It is another member's.
    #[error("{} belongs to {found}, not to member {expected}: check `member` and `data_dir`", path.display())]
    WrongMember {
        /// The directory.
        path: PathBuf,
        /// Whose it is.
        found: Identity,
        /// Whose it should be.
        expected: u64,
    },
    /// It is of another cluster.
    #[error("{} belongs to {found}, but the cluster here is {expected:032x}: check `data_dir`", path.display())]
    WrongCluster {
        /// The directory.
        path: PathBuf,
        /// Whose it is.
        found: Identity,
        /// The cluster that was asked for.
        expected: u128,
    },
    /// Written by a newer release.
    #[error(
        "{} has format {version}, and this release reads format {FORMAT}: start the release that wrote it, or a newer one",
        path.display()
    )]
    UnknownFormat {
        /// The identity file.
        path: PathBuf,
        /// The format found.
        version: u32,
    },
    /// The identity file is not what was written.
    #[error(
        "{} is damaged: {what}. Restore it from a copy of this directory; it changes never after the member was made",
        path.display()
    )]
    Damaged {
        /// The identity file.
        path: PathBuf,
        /// What is wrong.
        what: &'static str,
    },
}

impl DataDirError {
    fn io(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> DataDirError {
        let path = path.to_path_buf();
        move |source| DataDirError::Io { action, path, source }
    }
}

impl fmt::Display for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "member {} of cluster {:032x}", self.member, self.cluster)
    }
}

/// Keeps other processes out of a data directory until dropped, or until the process ends.
#[derive(Debug)]
pub struct DataDirLock {
    _file: fs::File,
}

/// Takes the directory for this process; makes it if it is not there.
pub fn lock_data_dir(path: &Path) -> Result<DataDirLock, DataDirError> {
    fs::create_dir_all(path).map_err(DataDirError::io("create", path))?;
    let lock = path.join(LOCK);
    let mut file = fs::OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .open(&lock)
        .map_err(DataDirError::io("open", &lock))?;
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            let mut holder = String::new();
            // Only for the message: the lock itself is the kernel's.
            let known = file.read_to_string(&mut holder).is_ok() && !holder.trim().is_empty();
            let holder = if known { holder.trim().to_string() } else { "another process".to_string() };
            return Err(DataDirError::Locked { path: path.to_path_buf(), holder });
        }
        Err(TryLockError::Error(source)) => return Err(DataDirError::io("lock", &lock)(source)),
    }
    file.set_len(0)
        .and_then(|()| write!(file, "process {}", std::process::id()))
        .map_err(DataDirError::io("write", &lock))?;
    Ok(DataDirLock { _file: file })
}

/// Looks at a data directory for a member; see [`DataDirError`] for what is refused.
pub fn open_data_dir(
    files: &dyn Files,
    path: &Path,
    member: u64,
    cluster: Option<u128>,
    expected: Expected,
) -> Result<Found, DataDirError> {
    let names = match files.list(path) {
        Ok(names) => names,
        Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
        Err(error) => return Err(DataDirError::io("list", path)(error)),
    };
    let identity = match names.iter().any(|name| name == IDENTITY) {
        true => Some(read_identity(files, path)?),
        false => None,
    };
    match (identity, expected) {
        (Some(found), Expected::New) => Err(DataDirError::Used { path: path.to_path_buf(), found }),
        (Some(found), Expected::Existing) => {
            if found.member != member {
                return Err(DataDirError::WrongMember { path: path.to_path_buf(), found, expected: member });
            }
            match cluster {
                Some(expected) if expected != found.cluster => {
                    Err(DataDirError::WrongCluster { path: path.to_path_buf(), found, expected })
                }
                _ => Ok(Found::Existing(found)),
            }
        }
        (None, _) => match names.iter().find(|name| is_data(name)) {
            Some(found) => {
                Err(DataDirError::NoIdentity { path: path.to_path_buf(), found: format!("\"{found}\"") })
            }
            None if expected == Expected::New => Ok(Found::Fresh),
            None => Err(DataDirError::Lost { path: path.to_path_buf(), member }),
        },
    }
}

/// Makes the member: from here on an empty log means a lost one. Log and checkpoint exist already.
pub fn write_identity(files: &dyn Files, path: &Path, identity: &Identity) -> Result<(), DataDirError> {
    let file = path.join(IDENTITY);
    let text = show(identity);
    files::replace_whole(files, &file, text.as_bytes()).map_err(DataDirError::io("write", &file))?;
    // The directory itself may be new as well.
    match path.parent().filter(|parent| !parent.as_os_str().is_empty()) {
        Some(parent) => files.sync_directory(parent).map_err(DataDirError::io("sync", parent)),
        None => Ok(()),
    }
}

fn read_identity(files: &dyn Files, path: &Path) -> Result<Identity, DataDirError> {
    let file = path.join(IDENTITY);
    let bytes = files::read_whole(files, &file).map_err(DataDirError::io("read", &file))?;
    parse(&bytes).map_err(|error| match error {
        ParseError::Damaged(what) => DataDirError::Damaged { path: file, what },
        ParseError::Version(version) => DataDirError::UnknownFormat { path: file, version },
    })
}

/// Whether a name in the directory is a member's data rather than, say, `lost+found`.
fn is_data(name: &str) -> bool {
    matches!(name, "log" | "checkpoint" | "snapshots")
}

fn show(identity: &Identity) -> String {
    let body =
        format!("quorate identity {FORMAT}\ncluster {:032x}\nmember {}\n", identity.cluster, identity.member);
    format!("{body}sum {:08x}\n", crc32fast::hash(body.as_bytes()))
}

enum ParseError {
    Damaged(&'static str),
    Version(u32),
}

fn parse(bytes: &[u8]) -> Result<Identity, ParseError> {
    let damaged = ParseError::Damaged;
    let text = std::str::from_utf8(bytes).map_err(|_| damaged("it is not text"))?;
    let (body, sum) = text.split_at(text.rfind("sum ").ok_or(damaged("its last line is missing"))?);
    let expected = format!("sum {:08x}\n", crc32fast::hash(body.as_bytes()));
    if sum != expected {
        return Err(damaged("its checksum does not match"));
    }
    let mut lines = body.lines();
    let mut field = |name| lines.next()?.strip_prefix(name)?.strip_prefix(' ');
    let version = field("quorate identity").and_then(|v| v.parse().ok()).ok_or(damaged("its first line"))?;
    if version != FORMAT {
        return Err(ParseError::Version(version));
    }
    let cluster = field("cluster").and_then(|v| u128::from_str_radix(v, 16).ok());
    let member = field("member").and_then(|v| v.parse().ok());
    match (cluster, member) {
        (Some(cluster), Some(member)) => Ok(Identity { cluster, member }),
        _ => Err(damaged("a line is missing")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::replica::files::{DiskFiles, MemoryFiles};

    const IDENTITY_7: Identity = Identity { cluster: 0xabc, member: 7 };

    fn made() -> MemoryFiles {
        let files = MemoryFiles::new();
        files.create_directory(Path::new("/data")).expect("a directory");
        write_identity(&files, Path::new("/data"), &IDENTITY_7).expect("written");
        files
    }

    fn open(files: &MemoryFiles, member: u64, expected: Expected) -> Result<Found, DataDirError> {
        open_data_dir(files, Path::new("/data"), member, Some(0xabc), expected)
    }

    #[test]
    fn a_directory_is_opened_only_by_its_member() {
        let files = made();
        assert_eq!(open(&files, 7, Expected::Existing).expect("its member"), Found::Existing(IDENTITY_7));
        assert!(matches!(open(&files, 8, Expected::Existing), Err(DataDirError::WrongMember { .. })));
        assert!(matches!(open(&files, 7, Expected::New), Err(DataDirError::Used { .. })));
        let other = open_data_dir(&files, Path::new("/data"), 7, Some(1), Expected::Existing);
        assert!(matches!(other, Err(DataDirError::WrongCluster { .. })));
    }

    #[test]
    fn an_empty_directory_is_fresh_only_for_a_new_member() {
        let files = MemoryFiles::new();
        assert_eq!(open(&files, 7, Expected::New).expect("fresh"), Found::Fresh);
        let error = open(&files, 7, Expected::Existing).expect_err("lost").to_string();
        assert!(error.contains("quorate cluster replace 7"), "{error}");
    }

    #[test]
    fn data_without_an_identity_is_nobodys() {
        let files = MemoryFiles::new();
        files.create_directory(Path::new("/data/log")).expect("a directory");
        for expected in [Expected::New, Expected::Existing] {
            assert!(matches!(open(&files, 7, expected), Err(DataDirError::NoIdentity { .. })));
        }
    }

    #[test]
    fn the_identity_survives_a_crash_right_after_it_was_written() {
        let files = made();
        files.crash(|| false);
        assert_eq!(open(&files, 7, Expected::Existing).expect("durable"), Found::Existing(IDENTITY_7));
    }

    #[test]
    fn every_damaged_or_missing_byte_is_noticed() {
        let text = show(&IDENTITY_7).into_bytes();
        let file = Path::new("/data/identity");
        for bit in 0..text.len() * 8 {
            let files = made();
            let mut bad = text.clone();
            bad[bit / 8] ^= 1 << (bit % 8);
            files.overwrite(file, bad);
            let error = open(&files, 7, Expected::Existing).expect_err("damaged");
            assert!(matches!(error, DataDirError::Damaged { .. }), "bit {bit}: {error}");
        }
        for length in 0..text.len() {
            let files = made();
            files.overwrite(file, text[..length].to_vec());
            assert!(open(&files, 7, Expected::Existing).is_err(), "length {length}");
        }
    }

    #[test]
    fn a_newer_format_is_named_as_such() {
        let files = made();
        let body = "quorate identity 2\nnew things\n";
        let text = format!("{body}sum {:08x}\n", crc32fast::hash(body.as_bytes()));
        files.overwrite(Path::new("/data/identity"), text.into_bytes());
        let error = open(&files, 7, Expected::Existing).expect_err("newer");
        assert!(matches!(error, DataDirError::UnknownFormat { version: 2, .. }), "{error}");
    }

    #[test]
    fn only_one_process_has_the_directory() {
        let directory = tempfile::tempdir().expect("a directory");
        let held = lock_data_dir(directory.path()).expect("free");
        let error = lock_data_dir(directory.path()).expect_err("held").to_string();
        assert!(error.contains(&format!("process {}", std::process::id())), "{error}");
        drop(held);
        drop(lock_data_dir(directory.path()).expect("free again"));
        let found = open_data_dir(&DiskFiles, directory.path(), 1, None, Expected::New);
        assert_eq!(found.expect("the lock file is no data"), Found::Fresh);
    }
}
