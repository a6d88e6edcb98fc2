//! One process at a time: the lock on a data directory, `<data-dir>/LOCK`.
//!
//! Whose disk it is, and whether it may vote, is [`super::founding`]'s question; what it holds is
//! opened by [`super::storage`].

use std::fs::{self, TryLockError};
use std::io::{self, Read, Write};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

/// The lock file's name.
pub const LOCK: &str = "LOCK";

/// Why a data directory cannot be taken.
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
}

impl DataDirError {
    fn io(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> DataDirError {
        let path = path.to_path_buf();
        move |source| DataDirError::Io { action, path, source }
    }
}

/// Keeps other processes out of a data directory until dropped, or until the process ends.
#[derive(Debug)]
pub struct DataDirLock {
    _file: fs::File,
}

/// Takes the directory for this process; makes it if it is not there, for this user alone.
pub fn lock_data_dir(path: &Path) -> Result<DataDirLock, DataDirError> {
    make(path).map_err(DataDirError::io("create", path))?;
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

/// Passwords of sessions and what ACLs protect lie in it. A directory that is there stays as its owner
/// made it, and those above are made as usual.
fn make(path: &Path) -> io::Result<()> {
    if let Some(above) = path.parent() {
        fs::create_dir_all(above)?;
    }
    fs::DirBuilder::new().recursive(true).mode(0o700).create(path)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn a_new_directory_is_its_users_alone_and_one_that_stands_is_left_as_it_is() {
        let mode = |path: &Path| fs::metadata(path).expect("there").permissions().mode() & 0o777;
        let directory = tempfile::tempdir().expect("a directory");
        let (above, standing) = (directory.path().join("above"), directory.path().join("standing"));
        let new = above.join("data");
        drop(lock_data_dir(&new).expect("free"));
        assert_eq!(mode(&new), 0o700);
        assert_ne!(mode(&above), 0o700);
        fs::create_dir(&standing).expect("made");
        fs::set_permissions(&standing, fs::Permissions::from_mode(0o750)).expect("set");
        drop(lock_data_dir(&standing).expect("free"));
        assert_eq!(mode(&standing), 0o750);
    }

    #[test]
    fn only_one_process_has_the_directory() {
        let directory = tempfile::tempdir().expect("a directory");
        let held = lock_data_dir(directory.path()).expect("free");
        let error = lock_data_dir(directory.path()).expect_err("held").to_string();
        assert!(error.contains(&format!("process {}", std::process::id())), "{error}");
        drop(held);
        drop(lock_data_dir(directory.path()).expect("free again"));
    }
}
