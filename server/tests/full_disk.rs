//! A checkpoint for which there is no room: the error says so, and the room that it took comes back,
//! although the member runs on. The room is that of a process whose files may not grow beyond a size.

use std::process::Command;
use std::time::{Duration, Instant};

use quorate_server::replica::checkpoint::{CheckpointError, CheckpointStore, SledCheckpoints};

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
    let directory = tempfile::tempdir().expect("a directory");
    // The kernel ends a process whose file outgrows the limit, unless that signal is ignored.
    let limited = format!("trap '' XFSZ; ulimit -f {}; exec \"$0\" --nocapture --exact \"$1\"", ROOM_KB * 2);
    let status = Command::new("sh")
        .args(["-c", &limited])
        .arg(std::env::current_exe().expect("this program"))
        .arg("a_checkpoint_without_room_gives_back_what_it_took")
        .env(DIRECTORY, directory.path())
        .status();
    assert!(status.expect("a shell").success());
}

fn without_room(directory: &std::path::Path) {
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
