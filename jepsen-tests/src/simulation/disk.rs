//! A simulated member's disk: what it holds survives the member, what was not synced does not.
//!
//! The production log, snapshot and founding files run over [`MemoryFiles`], the checkpoint over
//! [`MemoryCheckpoints`]. Around both stands the life of the process that uses them: a process that
//! has crashed reaches neither, and a [`Tripwire`] makes it crash at any one of its own operations.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use quorate_core::record::RecordWrite;
use quorate_server::replica::checkpoint::{
    CheckpointError, CheckpointMeta, CheckpointStore, MemoryCheckpoints, Replacement, Ticket, Visitor,
    WorkMode,
};
use quorate_server::replica::files::{Fault, File, Files, MemoryFiles};
use quorate_server::replica::log_store::{Pace, WriterMode};
use quorate_server::replica::storage::{Disk, SegmentSizes};
use tokio::sync::Notify;

use super::life::Life;

/// What outlives a process.
#[derive(Clone, Default)]
pub struct Platter {
    files: MemoryFiles,
    checkpoints: MemoryCheckpoints,
}

/// Crashes its process at an operation of the disk.
#[derive(Debug)]
pub struct Tripwire {
    life: Life,
    /// Told when the wire has been tripped.
    tripped: Arc<Notify>,
    /// Operations until then; 0 is never.
    countdown: AtomicU64,
    /// Whether the operation that trips it still takes effect.
    takes_effect: Mutex<bool>,
    operations: AtomicU64,
}

impl Tripwire {
    /// A wire that is not set.
    pub fn new(life: Life, tripped: Arc<Notify>) -> Tripwire {
        Tripwire {
            life,
            tripped,
            countdown: AtomicU64::new(0),
            takes_effect: Mutex::new(false),
            operations: AtomicU64::new(0),
        }
    }

    /// Sets it: the process crashes at its `operations`th operation from now.
    pub fn set(&self, operations: u64, takes_effect: bool) {
        *self.takes_effect.lock().unwrap_or_else(PoisonError::into_inner) = takes_effect;
        self.countdown.store(operations, Ordering::Relaxed);
    }

    /// How many operations there were.
    pub fn operations(&self) -> u64 {
        self.operations.load(Ordering::Relaxed)
    }

    /// Does something to the disk, unless the process crashes first.
    fn pass<T, E>(&self, dead: impl Fn() -> E, act: impl FnOnce() -> Result<T, E>) -> Result<T, E> {
        if !self.life.is_alive() {
            return Err(dead());
        }
        self.operations.fetch_add(1, Ordering::Relaxed);
        let left = self.countdown.load(Ordering::Relaxed);
        self.countdown.store(left.saturating_sub(1), Ordering::Relaxed);
        if left != 1 {
            return act();
        }
        if *self.takes_effect.lock().unwrap_or_else(PoisonError::into_inner) {
            drop(act());
        }
        self.life.end();
        self.tripped.notify_one();
        Err(dead())
    }

    fn pass_io<T>(&self, act: impl FnOnce() -> io::Result<T>) -> io::Result<T> {
        self.pass(|| io::Error::other("the simulated process has crashed"), act)
    }

    fn pass_checkpoint<T>(
        &self,
        act: impl FnOnce() -> Result<T, CheckpointError>,
    ) -> Result<T, CheckpointError> {
        self.pass(|| CheckpointError::Stopped, act)
    }

    /// Reading changes nothing, but the dead do not read.
    fn check(&self) -> io::Result<()> {
        if self.life.is_alive() {
            return Ok(());
        }
        Err(io::Error::other("the simulated process has crashed"))
    }
}

impl Platter {
    /// The disk as one life of a process sees it. What goes to the log takes time, at most `slowest`
    /// but for one group in thirty, which takes ten times as long; `random` draws how much.
    pub fn mount(
        &self,
        wire: &Arc<Tripwire>,
        segments: SegmentSizes,
        slowest: Duration,
        random: fastrand::Rng,
    ) -> Disk {
        let life = wire.life.clone();
        let random = Mutex::new(random);
        let slowest = slowest.as_micros() as u64;
        let pace = Pace {
            spawn: Arc::new(move |task| life.spawn(task)),
            pause: Arc::new(move || {
                let mut random = random.lock().unwrap_or_else(PoisonError::into_inner);
                let factor = if random.u32(..30) == 0 { 10 } else { 1 };
                Duration::from_micros(random.u64(..=slowest) * factor)
            }),
        };
        let checkpoints = LivingCheckpoints { store: self.checkpoints.clone(), wire: wire.clone() };
        let checkpoints: Arc<dyn CheckpointStore> = Arc::new(checkpoints);
        Disk {
            files: Arc::new(LivingFiles { files: self.files.clone(), wire: wire.clone() }),
            checkpoints: Arc::new(move |_| Ok(checkpoints.clone())),
            writer: WriterMode::Task(pace),
            work: WorkMode::Inline,
            segments: Some(segments),
        }
    }

    /// The power has gone: what was not synced is lost, except sectors that the dice spare.
    pub fn crash(&self, survives: impl FnMut() -> bool) {
        self.files.crash(survives);
        self.checkpoints.crash();
    }

    /// The next operation of the fault's kind fails, once.
    pub fn inject(&self, fault: Fault) {
        self.files.inject(fault);
    }
}

struct LivingFiles {
    files: MemoryFiles,
    wire: Arc<Tripwire>,
}

impl LivingFiles {
    fn wrap(&self, file: Arc<dyn File>) -> Arc<dyn File> {
        Arc::new(LivingFile { file, wire: self.wire.clone() })
    }
}

impl Files for LivingFiles {
    fn create_directory(&self, path: &Path) -> io::Result<()> {
        self.wire.pass_io(|| self.files.create_directory(path))
    }

    fn list(&self, directory: &Path) -> io::Result<Vec<String>> {
        self.wire.check()?;
        self.files.list(directory)
    }

    fn create(&self, path: &Path) -> io::Result<Arc<dyn File>> {
        self.wire.pass_io(|| self.files.create(path)).map(|file| self.wrap(file))
    }

    fn open(&self, path: &Path) -> io::Result<Arc<dyn File>> {
        self.wire.check()?;
        self.files.open(path).map(|file| self.wrap(file))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.wire.pass_io(|| self.files.rename(from, to))
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        self.wire.pass_io(|| self.files.remove(path))
    }

    fn remove_directory(&self, path: &Path) -> io::Result<()> {
        self.wire.pass_io(|| self.files.remove_directory(path))
    }

    fn sync_directory(&self, path: &Path) -> io::Result<()> {
        self.wire.pass_io(|| self.files.sync_directory(path))
    }
}

struct LivingFile {
    file: Arc<dyn File>,
    wire: Arc<Tripwire>,
}

impl File for LivingFile {
    fn length(&self) -> io::Result<u64> {
        self.wire.check()?;
        self.file.length()
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
        self.wire.check()?;
        self.file.read_at(offset, buffer)
    }

    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.wire.pass_io(|| self.file.write_at(offset, bytes))
    }

    fn sync(&self) -> io::Result<()> {
        self.wire.pass_io(|| self.file.sync())
    }
}

struct LivingCheckpoints {
    store: MemoryCheckpoints,
    wire: Arc<Tripwire>,
}

impl LivingCheckpoints {
    fn check(&self) -> Result<(), CheckpointError> {
        self.wire.check().map_err(|_| CheckpointError::Stopped)
    }
}

impl CheckpointStore for LivingCheckpoints {
    fn meta(&self) -> Result<Option<CheckpointMeta>, CheckpointError> {
        self.check()?;
        self.store.meta()
    }

    fn begin(&self) -> Result<Ticket, CheckpointError> {
        self.wire.pass_checkpoint(|| self.store.begin())
    }

    fn stage(&self, ticket: Ticket, writes: Vec<RecordWrite>) -> Result<(), CheckpointError> {
        self.wire.pass_checkpoint(|| self.store.stage(ticket, writes))
    }

    fn commit(&self, ticket: Ticket, meta: &CheckpointMeta) -> Result<(), CheckpointError> {
        self.wire.pass_checkpoint(|| self.store.commit(ticket, meta))
    }

    fn visit(&self, visitor: Visitor<'_>) -> Result<(), CheckpointError> {
        self.check()?;
        self.store.visit(visitor)
    }

    fn begin_replacement(&self) -> Result<Box<dyn Replacement>, CheckpointError> {
        let begun = self.wire.pass_checkpoint(|| self.store.begin_replacement())?;
        Ok(Box::new(LivingReplacement { begun, wire: self.wire.clone() }))
    }
}

struct LivingReplacement {
    begun: Box<dyn Replacement>,
    wire: Arc<Tripwire>,
}

impl Replacement for LivingReplacement {
    fn add(&mut self, key: &[u8], value: &[u8]) -> Result<(), CheckpointError> {
        self.begun.add(key, value)
    }

    fn seal(&mut self, meta: &CheckpointMeta) -> Result<(), CheckpointError> {
        let LivingReplacement { begun, wire } = self;
        wire.pass_checkpoint(|| begun.seal(meta))
    }

    fn finish(self: Box<Self>) -> Result<(), CheckpointError> {
        let LivingReplacement { begun, wire } = *self;
        wire.pass_checkpoint(|| begun.finish())
    }
}

/// Where a member's files are.
pub fn data_dir(member: u64) -> PathBuf {
    PathBuf::from(format!("/member-{member}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mounted() -> (Platter, Arc<Tripwire>, Disk, Life) {
        let platter = Platter::default();
        let life = Life::begin(1);
        let wire = Arc::new(Tripwire::new(life.clone(), Arc::default()));
        let segments = SegmentSizes { segment_bytes: 1 << 16, growth_bytes: 1 << 12 };
        let disk = platter.mount(&wire, segments, Duration::ZERO, fastrand::Rng::with_seed(1));
        (platter, wire, disk, life)
    }

    #[test]
    fn a_process_that_crashed_reaches_its_disk_no_more() {
        let (_, _, disk, life) = mounted();
        disk.files.create_directory(Path::new("/d")).expect("alive");
        let file = disk.files.create(Path::new("/d/f")).expect("alive");
        life.end();
        assert!(file.write_at(0, b"x").is_err());
        assert!(disk.files.create(Path::new("/d/g")).is_err());
        assert!(disk.files.open(Path::new("/d/f")).is_err());
    }

    #[test]
    fn the_wire_crashes_the_process_at_the_operation_it_was_set_to() {
        for takes_effect in [false, true] {
            let (platter, wire, disk, life) = mounted();
            disk.files.create_directory(Path::new("/d")).expect("alive");
            wire.set(2, takes_effect);
            let file = disk.files.create(Path::new("/d/f")).expect("the first operation");
            assert!(file.write_at(0, b"x").is_err() && !life.is_alive());
            let seen = platter.files.contents(Path::new("/d/f")).unwrap_or_default();
            assert_eq!(seen, if takes_effect { b"x".to_vec() } else { Vec::new() });
        }
    }
}
