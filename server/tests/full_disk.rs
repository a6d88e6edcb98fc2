//! A checkpoint for which there is no room: the error says so, and the room that it took comes back,
//! although the member runs on. Where only its upkeep has no room, it is durable all the same. The room
//! is that of a process whose files may not grow beyond a size.

mod storage_support;

use std::ops::ControlFlow;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use quorate_core::id::Zxid;
use quorate_core::record::RecordWrite;
use quorate_core::state::Digest;
use quorate_server::replica::checkpoint::{
    CheckpointError, CheckpointMeta, CheckpointStore, SledCheckpoints,
};
use quorate_server::replica::types::StoredMembership;
use storage_support::id;

/// Names the directory to a process of our own that is short of room.
const DIRECTORY: &str = "QUORATE_TEST_FULL_DISK";
/// Kilobytes that a file may have there: more than an empty checkpoint needs.
const ROOM_KB: u64 = 32 << 10;
const PATIENCE: Duration = Duration::from_secs(30);

#[test]
fn a_checkpoint_without_room_gives_back_what_it_took() {
    if let Some(directory) = std::env::var_os(DIRECTORY) {
        return without_room(directory.as_ref());
    }
    run_short_of_room("a_checkpoint_without_room_gives_back_what_it_took");
}

/// Its runs cannot be applied, and not be made one: each of them has room, all together have none.
#[test]
fn a_checkpoint_without_room_for_its_upkeep_is_durable() {
    if let Some(directory) = std::env::var_os(DIRECTORY) {
        return without_room_for_upkeep(directory.as_ref());
    }
    run_short_of_room("a_checkpoint_without_room_for_its_upkeep_is_durable");
}

fn run_short_of_room(test: &str) {
    let directory = tempfile::tempdir().expect("a directory");
    // The kernel ends a process whose file outgrows the limit, unless that signal is ignored.
    let limited = format!("trap '' XFSZ; ulimit -f {}; exec \"$0\" --nocapture --exact \"$1\"", ROOM_KB * 2);
    let status = Command::new("sh")
        .args(["-c", &limited])
        .arg(std::env::current_exe().expect("this program"))
        .arg(test)
        .env(DIRECTORY, directory.path())
        .status();
    assert!(status.expect("a shell").success());
}

fn without_room_for_upkeep(directory: &Path) {
    const RECORDS: u32 = 7000;
    let mut store = SledCheckpoints::open(directory).expect("opens");
    // Each is some four runs of eight megabytes; more than twelve are made one.
    for round in 1..=5_u8 {
        let ticket = store.begin().expect("begun");
        for part in 0..RECORDS / 100 {
            let record = |number: u32| RecordWrite {
                key: [&[1][..], &number.to_be_bytes()].concat().into(),
                value: Some(vec![round; 5000].into()),
            };
            store
                .stage(ticket, (part * 100..(part + 1) * 100).map(record).collect())
                .expect("room for a run");
        }
        let meta = meta(round.into());
        store.commit(ticket, &meta).expect("durable without being applied");
        if round == 3 {
            drop(store);
            store = SledCheckpoints::open(directory).expect("opens");
        }
        assert_eq!(store.meta().expect("known"), Some(meta));
    }
    let mut found = 0;
    let visited = store.visit(&mut |_, value| {
        found += u32::from(value.iter().all(|byte| *byte == 5));
        ControlFlow::Continue(())
    });
    visited.expect("whole");
    assert_eq!(found, RECORDS);
    let names =
        std::fs::read_dir(directory).expect("a directory").map(|entry| entry.expect("readable").path());
    let (runs, others): (Vec<_>, Vec<_>) = names.partition(|path| path.extension().is_some());
    let halves = runs.iter().filter(|run| run.metadata().expect("there").len() > 12 << 20);
    assert_eq!(
        (halves.count(), others.len()),
        (0, 3),
        "no half run, no half checkpoint: {runs:?} {others:?}"
    );
}

fn meta(index: u64) -> CheckpointMeta {
    CheckpointMeta {
        applied: id(1, index),
        membership: StoredMembership::default(),
        zxid: Zxid(index),
        digest: Digest(index.into()),
    }
}

fn without_room(directory: &Path) {
    let store = SledCheckpoints::open(directory).expect("opens");
    for _ in 0..3 {
        let mut replacement = store.begin_replacement().expect("room for an empty one");
        let refusal = (0..u64::MAX).find_map(|number| {
            let key = [&[1][..], &number.to_be_bytes()].concat();
            replacement.add(&key, &[number as u8; 4000]).err()
        });
        assert!(matches!(refusal, Some(CheckpointError::Io { .. })), "not the system's word: {refusal:?}");
        drop(replacement);
        let given_up = Instant::now();
        // sled's own threads let go of the file a moment later.
        while let Some(file) = removed_but_open() {
            assert!(given_up.elapsed() < PATIENCE, "{file} is still open");
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

/// A file of a checkpoint that has no name any more, but takes its room.
fn removed_but_open() -> Option<String> {
    let files = std::fs::read_dir("/proc/self/fd").expect("Linux").filter_map(Result::ok);
    let mut names = files.filter_map(|file| std::fs::read_link(file.path()).ok());
    names
        .find(|name| name.to_string_lossy().ends_with("/db (deleted)"))
        .map(|name| name.display().to_string())
}
