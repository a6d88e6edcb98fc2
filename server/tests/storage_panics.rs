//! A panic ends the process, though release builds unwind; where sled panics over damage, the checkpoint
//! is rebuilt nonetheless. Each case is a process of its own: the hook is a process's.

mod storage_support;
#[allow(dead_code)] // this test uses a part of it
#[path = "storage_support/world.rs"]
mod world;

use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus};
use std::sync::Arc;

use quorate_server::replica::checkpoint::{
    Checkpointer, SledCheckpoints, WorkMode, abort_on_panic, load_state,
};
use quorate_server::replica::files::DiskFiles;
use quorate_server::replica::snapshot_store::{SnapshotStore, open_or_rebuild};
use quorate_server::replica::storage::Disk;
use storage_support::{Dice, block_on, id};
use world::World;

const DIRECTORY: &str = "QUORATE_PANIC_DIRECTORY";
const ABORTED: i32 = 6;
/// sled's, as a checkpoint has them.
const SEGMENT: usize = 4 << 20;

fn run(child: &str, directory: &Path) -> ExitStatus {
    Command::new(std::env::current_exe().expect("this program"))
        .args(["--exact", child, "--ignored", "--nocapture", "--quiet"])
        .env(DIRECTORY, directory)
        .status()
        .expect("a child")
}

fn directory() -> PathBuf {
    PathBuf::from(std::env::var_os(DIRECTORY).expect("run by the parent"))
}

#[test]
#[ignore = "a child of `a_panic_ends_the_process_even_if_it_would_be_caught`"]
fn child_panics() {
    abort_on_panic();
    let thread = std::thread::spawn(|| panic!("as it should"));
    assert!(thread.join().is_err());
}

#[test]
fn a_panic_ends_the_process_even_if_it_would_be_caught() {
    assert_eq!(run("child_panics", Path::new("")).signal(), Some(ABORTED));
}

#[test]
#[ignore = "a child of `a_checkpoint_that_makes_sled_panic_is_rebuilt`"]
fn child_rebuilds() {
    abort_on_panic();
    let home = directory().join("home");
    let error = SledCheckpoints::open(&home).and_then(|store| load_state(&store, &home, 0).map(drop));
    let error = error.expect_err("damaged").to_string();
    assert!(error.contains("gave up on it") && error.contains("quorate cluster replace"), "{error}");
    let none = SnapshotStore::open(Arc::new(DiskFiles), directory().join("snapshots")).expect("opened");
    let opened = open_or_rebuild(&Disk::machine().checkpoints, &home, &none, None, 0).expect("rebuilt");
    assert!(opened.loaded.is_none(), "from the whole log");
}

/// Every segment of sled's log is there twice, which it asserts is never so.
#[test]
fn a_checkpoint_that_makes_sled_panic_is_rebuilt() {
    let directory = tempfile::tempdir().expect("made");
    let home = directory.path().join("home");
    let world = Arc::new(World::new());
    world.grow(12, 900_000);
    let store = Arc::new(SledCheckpoints::open(&home).expect("opened"));
    let checkpointer = Checkpointer::start(store, WorkMode::Inline).expect("no thread to start");
    block_on(checkpointer.checkpoint(world)).expect("durable").expect("something to write");
    drop(checkpointer);
    let current = std::fs::read_to_string(home.join("CURRENT")).expect("readable");
    let log = home.join(current.split(' ').next().expect("a name")).join("db");
    let mut segments = std::fs::read(&log).expect("readable");
    segments.resize(segments.len().next_multiple_of(SEGMENT), 0);
    std::fs::write(&log, [&segments[..], &segments].concat()).expect("written");
    assert!(run("child_rebuilds", directory.path()).success());
    assert!(home.join("damaged-1").exists(), "it was set aside");
}
