//! One sled directory: blocks of records under one tree, and how they get onto the disk for sure.
//!
//! ```text
//! key 0x00 'm'     the checkpoint's meta
//! other keys       blocks (see blocks.rs); the core's record keys start at 0x01
//! ```
//!
//! sled's flush does not reach the disk's platters on Linux (it stops at `sync_file_range`), so
//! every commit ends with an fdatasync of its file by ourselves. Values are small and segments
//! large, so that sled never moves a page out into a blob file, which it would not sync either;
//! should there be one nonetheless, it is synced too.
//!
//! sled writes over a segment of its file once what was in it has been written elsewhere, and takes its
//! own flush for proof of that. So whatever must outlive a power loss is changed by one batch at a time,
//! each synced before the next: until a batch is written whole, sled takes none of it for proof. Before
//! an open the file is synced too, for sled then trusts what a killed process has left in the page cache.
//!
//! sled 0.34 can wait for itself. Its seven threads write buffers, and each of them then wants the
//! lock on the list of segments; whoever holds that lock may be waiting for the file to be cut short,
//! which is a task for the same threads. With seven buffers on their way nobody is left for it. So
//! sled gets no flusher thread, which makes any number of them while it collects garbage (a page
//! that is replaced collects some too), and who writes waits for sled after [`UNDRAINED_MAX`].

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use super::blocks::{self, BlockWrite};
use super::error::CheckpointError;
use super::meta::{self, CheckpointMeta, MetaError};
use super::panics;
use crate::replica::files::{DiskFiles, Files};
use quorate_core::record_file::PieceError;

/// sled's page cache: pages are only needed while a checkpoint is written or loaded.
const CACHE: u64 = 16 << 20;
/// A page holds at most 17 blocks, for a moment, each with one record's part or change block of at
/// most some 48 KiB and 4 KiB of others; a quarter of a segment must hold a page. sled has up to
/// three segments in memory.
const SEGMENT: usize = 4 << 20;

/// After so many bytes of blocks sled is waited for: they fill a segment or two, pages and garbage that
/// are written again with them included. Each batch is waited for: it ends a buffer or two by itself.
const UNDRAINED_MAX: usize = 2 << 20;

/// The threads of a sled that was closed a moment ago may hold its lock a little longer.
const LOCK_TRIES: u32 = 200;
const LOCK_WAIT: Duration = Duration::from_millis(25);

/// What the name of a file ends with that sled has not written whole.
const HALF_WRITTEN: &str = ".generating";

/// How a system's error begins where sled repeats it.
const SYSTEMS_WORD: &str = "Os { code:";

const META: &[u8] = &[0, b'm'];
/// Everything above this key is a block.
const BELOW_BLOCKS: &[u8] = &[0, 0xff, 0xff];

/// A sled directory, open.
pub struct Database {
    path: PathBuf,
    /// There until it is dropped.
    tree: Option<sled::Db>,
    /// Bytes written since sled was last waited for.
    undrained: AtomicUsize,
    /// sled has panicked.
    is_broken: AtomicBool,
}

impl Drop for Database {
    /// sled syncs its file when it goes, and panics if that fails: a member that stops because its
    /// disk failed would end by that instead of by its own message. Whoever cannot sync leaves it. If
    /// sled itself could not write, it goes without a sync, and must go: an open file takes its room
    /// on a full disk even when it has been removed. One that has panicked is not touched again.
    fn drop(&mut self) {
        let is_broken = self.is_broken.load(Ordering::Relaxed);
        if is_broken || (self.drain().is_ok() && self.sync_files().is_err()) {
            std::mem::forget(self.tree.take());
        }
    }
}

/// A block and its key.
pub type Block = (sled::IVec, sled::IVec);

impl Database {
    /// Opens a directory, or makes it.
    pub fn open(path: &Path) -> Result<Database, CheckpointError> {
        remove_half_written(path)?;
        let is_new = !Database::exists(path);
        if !is_new {
            sync_file(&path.join("db")).inspect_err(|_| distrust_cache(path))?;
        }
        let config =
            sled::Config::new().path(path).cache_capacity(CACHE).segment_size(SEGMENT).flush_every_ms(None);
        for _ in 0..LOCK_TRIES {
            match guarded(path, || config.open())? {
                Ok(tree) => {
                    if is_new {
                        // sled does not, and refuses a directory where it was lost.
                        sync_file(&path.join("conf"))?;
                    }
                    return Ok(Database {
                        path: path.to_path_buf(),
                        tree: Some(tree),
                        undrained: AtomicUsize::new(0),
                        is_broken: AtomicBool::new(false),
                    });
                }
                Err(error) if !is_locked(&error) => return Err(sled_error(path, error)),
                Err(_) => std::thread::sleep(LOCK_WAIT),
            }
        }
        let source = io::Error::new(io::ErrorKind::WouldBlock, "another process has it open");
        Err(CheckpointError::io("open", path)(source))
    }

    /// Whether a directory holds what sled left there. Opening one without would begin an empty one.
    pub fn exists(path: &Path) -> bool {
        let length = |name| std::fs::metadata(path.join(name)).map_or(0, |metadata| metadata.len());
        length("db") > 0 && length("conf") > 0
    }

    /// The checkpoint's meta.
    pub fn meta(&self) -> Result<Option<CheckpointMeta>, CheckpointError> {
        self.get(META)?.map(|bytes| self.decode_meta(&bytes)).transpose()
    }

    /// Makes blocks and meta visible in one step, durably.
    pub fn commit(&self, writes: Vec<BlockWrite>, meta: &CheckpointMeta) -> Result<(), CheckpointError> {
        let mut batch = batch_of(writes);
        batch.insert(META, meta.encode());
        self.run(|tree| tree.apply_batch(batch))?;
        self.sync()
    }

    /// Writes one block of a checkpoint that is not current yet; not durable.
    pub fn write(&self, write: BlockWrite) -> Result<(), CheckpointError> {
        let bytes = write.value.as_ref().map_or(0, Vec::len);
        self.run(|tree| match write.value {
            Some(value) => tree.insert(write.key, value).map(drop),
            None => tree.remove(write.key).map(drop),
        })?;
        if self.undrained.fetch_add(bytes, Ordering::Relaxed) + bytes >= UNDRAINED_MAX {
            return self.drain();
        }
        Ok(())
    }

    /// The block that a record with this key is in, if there is one: the last at or below it.
    pub fn block_for(&self, key: &[u8]) -> Result<Option<Block>, CheckpointError> {
        // The smallest key above `key`.
        let mut above = key.to_vec();
        above.push(0);
        let found = self.run(|tree| tree.get_lt(&above))?;
        Ok(found.filter(|(key, _)| &key[..] > BELOW_BLOCKS))
    }

    /// The first block above a key.
    pub fn block_above(&self, key: &[u8]) -> Result<Option<Block>, CheckpointError> {
        // One look-up a block rather than an iterator: sled's cache notices only look-ups, and
        // lets go of pages only when it has noticed enough of them.
        self.run(|tree| tree.get_gt(key))
    }

    /// The first block of all.
    pub fn first_block(&self) -> Result<Option<Block>, CheckpointError> {
        self.block_above(BELOW_BLOCKS)
    }

    /// Says what is wrong with a block.
    pub fn block_error(&self, error: PieceError) -> CheckpointError {
        match error {
            PieceError::Damaged(what) => self.damaged(what),
            PieceError::Version(version) => self.damaged(format!("a block of format {version}")),
        }
    }

    /// The records of a block, in order.
    pub fn open_block<'a>(
        &self,
        block: &'a Block,
    ) -> Result<impl Iterator<Item = blocks::RecordResult<'a>>, CheckpointError> {
        blocks::open(&block.0, &block.1).map_err(|error| self.block_error(error))
    }

    /// An error that names this directory.
    pub fn damaged(&self, what: impl Into<String>) -> CheckpointError {
        CheckpointError::damaged(&self.path, what)
    }

    /// Waits until what was written has left sled's buffers.
    fn drain(&self) -> Result<(), CheckpointError> {
        self.undrained.store(0, Ordering::Relaxed);
        self.run(|tree| tree.flush().map(drop))
    }

    /// Makes everything written so far durable, the disk's own cache included.
    pub fn sync(&self) -> Result<(), CheckpointError> {
        self.drain()?;
        self.sync_files()
    }

    fn sync_files(&self) -> Result<(), CheckpointError> {
        let synced = self.sync_blobs().and_then(|()| sync_file(&self.path.join("db")));
        synced.and_then(|()| sync_directory(&self.path)).inspect_err(|_| distrust_cache(&self.path))
    }

    fn sync_blobs(&self) -> Result<(), CheckpointError> {
        let directory = self.path.join("blobs");
        let names = match std::fs::read_dir(&directory) {
            Ok(names) => names,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(error) => return Err(CheckpointError::io("list", &directory)(error)),
        };
        let mut any = false;
        for entry in names {
            let path = entry.map_err(CheckpointError::io("list", &directory))?.path();
            match File::open(&path).and_then(|blob| blob.sync_all()) {
                Ok(()) => any = true,
                // sled removes blobs in the background.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(CheckpointError::io("sync", &path)(error)),
            }
        }
        if any { sync_directory(&directory) } else { Ok(()) }
    }

    fn get(&self, key: &[u8]) -> Result<Option<sled::IVec>, CheckpointError> {
        self.run(|tree| tree.get(key))
    }

    fn decode_meta(&self, bytes: &[u8]) -> Result<CheckpointMeta, CheckpointError> {
        CheckpointMeta::decode(bytes).map_err(|error| match error {
            MetaError::Damaged(what) => self.damaged(format!("its description is not whole: {what}")),
            MetaError::Version(version) => {
                CheckpointError::UnknownFormat { path: self.path.clone(), version, known: meta::VERSION }
            }
        })
    }

    fn run<T>(&self, work: impl FnOnce(&sled::Db) -> sled::Result<T>) -> Result<T, CheckpointError> {
        let tree = self.tree.as_ref().expect("only dropping takes it");
        let done = guarded(&self.path, || work(tree));
        let done = done.inspect_err(|_| self.is_broken.store(true, Ordering::Relaxed))?;
        done.map_err(|error| sled_error(&self.path, error)).inspect_err(|error| {
            if matches!(error, CheckpointError::Io { .. }) {
                distrust_cache(&self.path);
            }
        })
    }
}

fn batch_of(writes: Vec<BlockWrite>) -> sled::Batch {
    let mut batch = sled::Batch::default();
    for write in writes {
        match write.value {
            Some(value) => batch.insert(write.key, value),
            None => batch.remove(write.key),
        }
    }
    batch
}

/// sled writes a small file beside its log whenever it opens, under another name until it is whole.
/// What a crash or a full disk left of one it would take for the newest, and refuse the directory;
/// it reads its log from the one before, so nothing is lost with it.
fn remove_half_written(path: &Path) -> Result<(), CheckpointError> {
    let names = match DiskFiles.list(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        listed => listed.map_err(CheckpointError::io("list", path))?,
    };
    for name in names.iter().filter(|name| name.starts_with("snap.") && name.ends_with(HALF_WRITTEN)) {
        let file = path.join(name);
        DiskFiles.remove(&file).map_err(CheckpointError::io("remove", &file))?;
    }
    Ok(())
}

/// sled asserts where it meets some kinds of damage; that becomes an error like any other.
fn guarded<T>(path: &Path, work: impl FnOnce() -> T) -> Result<T, CheckpointError> {
    panics::catch(work)
        .map_err(|text| CheckpointError::damaged(path, format!("the store gave up on it: {text}")))
}

/// sled words this one itself.
fn is_locked(error: &sled::Error) -> bool {
    matches!(error, sled::Error::Io(source) if source.to_string().contains("could not acquire lock"))
}

fn sled_error(path: &Path, error: sled::Error) -> CheckpointError {
    match error {
        // What sled finds malformed it reports as an I/O error without the system's code. What it was
        // told before it repeats in words, which show the code.
        sled::Error::Io(source)
            if source.raw_os_error().is_some() || source.to_string().starts_with(SYSTEMS_WORD) =>
        {
            CheckpointError::io("use", path)(source)
        }
        other => CheckpointError::damaged(path, other.to_string()),
    }
}

fn sync_file(path: &Path) -> Result<(), CheckpointError> {
    File::open(path).and_then(|file| file.sync_data()).map_err(CheckpointError::io("sync", path))
}

/// What could not be written to the disk the kernel keeps as if it had been. Lets go of it, so that the
/// next start, and the digest that it checks, see what the disk has. As far as that can be had: the
/// member stops anyway.
fn distrust_cache(path: &Path) {
    let names = DiskFiles.list(path).unwrap_or_default();
    for file in names.iter().filter_map(|name| File::open(path.join(name)).ok()) {
        #[cfg(target_os = "linux")]
        if let Err(error) = rustix::fs::fadvise(&file, 0, None, rustix::fs::Advice::DontNeed) {
            tracing::warn!(path = %path.display(), %error, "the kernel keeps what it could not write");
        }
        #[cfg(not(target_os = "linux"))]
        drop(file);
    }
}

/// Makes the names in a directory durable.
pub fn sync_directory(path: &Path) -> Result<(), CheckpointError> {
    File::open(path).and_then(|directory| directory.sync_all()).map_err(CheckpointError::io("sync", path))
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use std::io::IoSliceMut;

    use rustix::io::ReadWriteFlags;

    use super::*;

    /// Whether a file's first bytes can be had without the disk; `None` where the file system does not say.
    fn is_cached(path: &Path) -> Option<bool> {
        let (file, mut bytes) = (File::open(path).expect("there"), [0; 512]);
        match rustix::io::preadv2(&file, &mut [IoSliceMut::new(&mut bytes)], 0, ReadWriteFlags::NOWAIT) {
            Ok(_) => Some(true),
            Err(rustix::io::Errno::AGAIN) => Some(false),
            Err(_) => None,
        }
    }

    #[test]
    fn after_a_failed_sync_the_disk_is_read_and_not_the_cache() {
        const TMPFS: rustix::fs::FsWord = 0x0102_1994;
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("checkpoint");
        let database = Database::open(&path).expect("opens");
        database.sync().expect("durable");
        let file = path.join("db");
        let kind = rustix::fs::statfs(&path).expect("a file system").f_type;
        if kind == TMPFS || is_cached(&file) != Some(true) {
            return;
        }
        // A file that cannot be synced: it is not there.
        std::fs::rename(&file, path.join("elsewhere")).expect("renamed");
        database.sync().expect_err("nothing to sync");
        assert_eq!(is_cached(&path.join("elsewhere")), Some(false));
        std::fs::rename(path.join("elsewhere"), &file).expect("renamed");
    }
}
