//! What a member finds when it starts: a first start that was cut short is made again, and a directory
//! that has lost what it held never passes for a fresh one.

mod storage_support;
#[allow(dead_code, reason = "these tests need no more of it than its checkpoint")]
#[path = "storage_support/world.rs"]
mod world;

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use quorate_server::config::{Config, Settings};
use quorate_server::environment::Environment;
use quorate_server::metrics::Metrics;
use quorate_server::replica::checkpoint::{Checkpointer, MemoryCheckpoints, WorkMode};
use quorate_server::replica::files::{DiskFiles, File, Files, MemoryFiles};
use quorate_server::replica::log_store::WriterMode;
use quorate_server::replica::restore::restore;
use quorate_server::replica::snapshot_store::SnapshotStore;
use quorate_server::replica::storage::{self, Disk, Opened, SegmentSizes, StorageError};
use storage_support::{Dice, block_on, id};
use world::World;

fn config(directory: &Path) -> Config {
    let settings = Settings {
        member_id: Some(1),
        data_dir: Some(directory.into()),
        client_listen: Some("1:7400".into()),
        peer_listen: Some("1:7401".into()),
        http_listen: Some("1:7480".into()),
        ..Settings::default()
    };
    settings.into_config().expect("complete")
}

fn disk(files: impl Files) -> Disk {
    Disk {
        files: Arc::new(files),
        checkpoints: Arc::new(|_| Ok(Arc::new(MemoryCheckpoints::new()))),
        writer: WriterMode::Inline,
        work: WorkMode::Inline,
        // More than is written at once.
        segments: Some(SegmentSizes { segment_bytes: 1 << 20, growth_bytes: 128 << 10 }),
    }
}

fn start(disk: &Disk, directory: &Path, is_new: bool) -> Result<Opened, StorageError> {
    storage::open(&config(directory), disk, is_new, &Metrics::new(), 0)
}

/// A disk whose process dies before one of its operations.
#[derive(Clone)]
struct Mortal {
    files: MemoryFiles,
    left: Arc<AtomicU64>,
    /// Names are durable at once, before what is written to their files.
    are_names_first: bool,
}

struct MortalFile(Arc<dyn File>, Mortal);

impl Mortal {
    fn live(&self) -> io::Result<()> {
        let left = self.left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1));
        left.map(drop).map_err(|_| io::Error::other("killed"))
    }

    fn named(&self, path: &Path) -> io::Result<()> {
        match path.parent() {
            Some(directory) if self.are_names_first => self.files.sync_directory(directory),
            _ => Ok(()),
        }
    }
}

impl Files for Mortal {
    fn create_directory(&self, path: &Path) -> io::Result<()> {
        self.live()?;
        self.files.create_directory(path)
    }

    fn list(&self, directory: &Path) -> io::Result<Vec<String>> {
        self.files.list(directory)
    }

    fn create(&self, path: &Path) -> io::Result<Arc<dyn File>> {
        self.live()?;
        let file = self.files.create(path)?;
        self.named(path)?;
        Ok(Arc::new(MortalFile(file, self.clone())))
    }

    fn open(&self, path: &Path) -> io::Result<Arc<dyn File>> {
        Ok(Arc::new(MortalFile(self.files.open(path)?, self.clone())))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.live()?;
        self.files.rename(from, to)?;
        self.named(to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        self.live()?;
        self.files.remove(path)?;
        self.named(path)
    }

    fn remove_directory(&self, path: &Path) -> io::Result<()> {
        self.live()?;
        self.files.remove_directory(path)
    }

    fn sync_directory(&self, path: &Path) -> io::Result<()> {
        self.live()?;
        self.files.sync_directory(path)
    }
}

impl File for MortalFile {
    fn length(&self) -> io::Result<u64> {
        self.0.length()
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
        self.0.read_at(offset, buffer)
    }

    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.1.live()?;
        self.0.write_at(offset, bytes)
    }

    fn sync(&self) -> io::Result<()> {
        self.1.live()?;
        self.0.sync()
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    Killed,
    PowerLost,
    PowerLostButNames,
}

#[test]
fn a_first_start_that_was_cut_short_anywhere_is_made_again() {
    let directory = Path::new("/data");
    let mut dice = Dice(1);
    for end in [End::Killed, End::PowerLost, End::PowerLostButNames] {
        for operations in 0.. {
            let files = MemoryFiles::new();
            let left = Arc::new(AtomicU64::new(operations));
            let are_names_first = end == End::PowerLostButNames;
            let mortal = Mortal { files: files.clone(), left, are_names_first };
            let is_whole = start(&disk(mortal), directory, true).is_ok();
            if end != End::Killed {
                files.crash(|| dice.below(2) == 0);
            }
            // The founding may be noted, or not yet.
            for is_new in [true, true, false] {
                start(&disk(files.clone()), directory, is_new)
                    .unwrap_or_else(|error| panic!("{end:?} after {operations} operations: {error}"));
            }
            if is_whole {
                assert!(operations > 8, "{operations} operations make no log");
                break;
            }
        }
    }
}

#[test]
fn a_first_segment_that_has_lost_its_bytes_is_refused_by_a_first_start_too() {
    let directory = Path::new("/data");
    let files = MemoryFiles::new();
    start(&disk(files.clone()), directory, true).map(drop).expect("fresh");
    let segment = directory.join("log/log-0000000000000001.seg");
    let length = files.contents(&segment).expect("it has its name").len();
    for bytes in [Vec::new(), vec![0; 64], vec![0; length]] {
        files.overwrite(&segment, bytes);
        assert!(start(&disk(files.clone()), directory, true).is_err());
    }
}

#[test]
fn a_restored_member_whose_checkpoint_is_damaged_does_not_start_empty() {
    let scratch = tempfile::tempdir().expect("made");
    let world = Arc::new(World::new());
    world.change(300);
    let store = MemoryCheckpoints::new();
    let checkpointer = Checkpointer::start(Arc::new(store.clone()), WorkMode::Inline).expect("no thread");
    block_on(checkpointer.checkpoint(world.clone())).expect("durable");
    let files = SnapshotStore::open(Arc::new(DiskFiles), scratch.path().join("snapshots")).expect("opened");
    let snapshot = files.build(&store).expect("built").path;

    let home = scratch.path().join("home");
    let restored = restore(&config(&home), &snapshot, &Environment::system()).expect("whole");
    let opened = start(&Disk::machine(), &home, false).expect("whole");
    assert_eq!((opened.state.counts().znodes, opened.applied_index), (restored.znodes, 1));
    drop(opened);

    let checkpoints = std::fs::read_dir(home.join("checkpoint")).expect("a directory");
    let databases = checkpoints.map(|entry| entry.expect("readable").path().join("db"));
    let databases: Vec<_> = databases.filter(|path| path.exists()).collect();
    assert_eq!(databases.len(), 1, "{databases:?}");
    std::fs::write(&databases[0], "").expect("written");
    let Err(error) = start(&Disk::machine(), &home, false) else { panic!("it starts with an empty state") };
    assert!(error.to_string().contains("home"), "{error}");
}
