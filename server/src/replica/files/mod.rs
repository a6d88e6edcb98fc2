//! The seam between this room and a disk: the few file operations that durability is built from.
//!
//! The log, the snapshot files and the identity file touch a disk through [`Files`] only. A member
//! uses [`DiskFiles`]; the simulator uses [`MemoryFiles`], which forgets what was not synced and
//! fails when told to, so that the production code above this line runs unchanged under it.
//! sled is not behind this seam: it is simulated one level up, at
//! [`CheckpointStore`](super::checkpoint::CheckpointStore).

mod disk;
mod memory;

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

pub use disk::DiskFiles;
pub use memory::{Fault, MemoryFiles};

/// A file system, as far as durability needs one.
///
/// # The implementer's duty
///
/// - What [`File::sync`] returned `Ok` for survives a crash of the machine.
/// - A created, renamed or removed name survives a crash once [`Files::sync_directory`] returned.
/// - [`Files::rename`] replaces its target in one step: a crash leaves the old file or the new one.
/// - An error is returned, never swallowed and never retried: the caller stops the member.
pub trait Files: Send + Sync + 'static {
    /// Creates the directory and its missing parents. An existing one is fine.
    fn create_directory(&self, path: &Path) -> io::Result<()>;
    /// The names in a directory, sorted; an error of kind `NotFound` if there is no such directory.
    fn list(&self, directory: &Path) -> io::Result<Vec<String>>;
    /// Creates a file for reading and writing; an error of kind `AlreadyExists` if there is one.
    fn create(&self, path: &Path) -> io::Result<Arc<dyn File>>;
    /// Opens an existing file for reading and writing.
    fn open(&self, path: &Path) -> io::Result<Arc<dyn File>>;
    /// Gives a file a new name, replacing what had that name.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;
    /// Removes a file.
    fn remove(&self, path: &Path) -> io::Result<()>;
    /// Removes a directory and everything in it. A missing one is fine.
    fn remove_directory(&self, path: &Path) -> io::Result<()>;
    /// Makes the names in a directory durable.
    fn sync_directory(&self, path: &Path) -> io::Result<()>;
}

/// An open file. Reads and writes carry their offset: there is no cursor to share.
pub trait File: Send + Sync {
    /// How many bytes the file has.
    fn length(&self) -> io::Result<u64>;
    /// Reads at `offset` until `buffer` is full or the file ends; tells how many bytes it read.
    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<usize>;
    /// Writes all of `bytes` at `offset`, growing the file as needed.
    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()>;
    /// Makes everything written so far durable.
    fn sync(&self) -> io::Result<()>;
}

/// Reads exactly `length` bytes at `offset`, or fails with `UnexpectedEof`.
pub fn read_exactly(file: &dyn File, offset: u64, length: usize) -> io::Result<Vec<u8>> {
    let mut buffer = vec![0; length];
    let read = file.read_at(offset, &mut buffer)?;
    if read < length {
        return Err(io::Error::new(
            io::ErrorKind::UnexpectedEof,
            format!("{length} bytes expected at offset {offset}, {read} found"),
        ));
    }
    Ok(buffer)
}

/// Reads a whole small file that [`replace_whole`] has written. What it says, and that it is missing,
/// stays so: whoever replaced it may have been killed before the new name was durable, so the
/// directory is synced first.
pub fn read_whole(files: &dyn Files, path: &Path) -> io::Result<Vec<u8>> {
    files.sync_directory(&parent(path)?)?;
    let file = files.open(path)?;
    let length = usize::try_from(file.length()?).map_err(|_| io::Error::from(io::ErrorKind::FileTooLarge))?;
    read_exactly(file.as_ref(), 0, length)
}

/// Replaces a small file so that a crash leaves the old content or the new, whole and durable:
/// a temporary file beside it, synced, renamed over it, the directory synced.
pub fn replace_whole(files: &dyn Files, path: &Path, bytes: &[u8]) -> io::Result<()> {
    let directory = parent(path)?;
    let temporary = temporary_name(path);
    match files.remove(&temporary) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let file = files.create(&temporary)?;
    file.write_at(0, bytes)?;
    file.sync()?;
    files.rename(&temporary, path)?;
    files.sync_directory(&directory)
}

/// The name that a file has until it is whole. Leftovers with this ending are removed at open.
pub fn temporary_name(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(TEMPORARY_ENDING);
    PathBuf::from(name)
}

/// What the name of an unfinished file ends with.
pub const TEMPORARY_ENDING: &str = ".tmp";

fn parent(path: &Path) -> io::Result<PathBuf> {
    path.parent()
        .map(Path::to_path_buf)
        .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, "a path without a parent directory"))
}
