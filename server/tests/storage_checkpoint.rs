//! Checkpoints and snapshots: the state that comes back is the one that was frozen, or there is a
//! refusal that says what is wrong, where, and what to do.

mod storage_support;
#[path = "storage_support/world.rs"]
mod world;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use quorate_server::replica::checkpoint::{
    CheckpointDone, CheckpointError, CheckpointStore, Checkpointer, MemoryCheckpoints, SledCheckpoints,
    WorkMode, check_reaches, load_state,
};
use quorate_server::replica::files::{DiskFiles, Fault, MemoryFiles};
use quorate_server::replica::snapshot_store::{Received, SnapshotReceiver, SnapshotStore, open_or_rebuild};
use quorate_server::replica::storage::Disk;
use storage_support::{Dice, block_on, id};
use world::{World, stored};

fn place() -> &'static Path {
    Path::new("the store under test")
}

fn checkpoint(
    store: Arc<dyn CheckpointStore>,
    world: &Arc<World>,
) -> Result<CheckpointDone, CheckpointError> {
    let checkpointer = Checkpointer::start(store, WorkMode::Inline).expect("no thread to start");
    block_on(checkpointer.checkpoint(world.clone())).map(|done| done.expect("something to write"))
}

/// Writes checkpoints of a changing world, small and large, and loads each again.
fn checkpoints_come_back(open: impl Fn() -> Arc<dyn CheckpointStore>) {
    let world = Arc::new(World::new());
    let mut previous = None;
    for commands in [0, 1, 200, 3, 1500, 20, 400] {
        world.change(commands);
        let expected = (world.meta(), world.records());
        let store = open();
        let done = checkpoint(store.clone(), &world).expect("durable");
        assert_eq!((&done.meta, &done.previous), (&expected.0, &previous));
        drop(store);

        let store = open();
        assert!(stored(store.as_ref()) == expected.1, "the records are the frozen state's");
        let (state, meta) = load_state(store.as_ref(), place(), 0).expect("whole").expect("there");
        assert_eq!((state.digest(), meta), (expected.0.digest, expected.0.clone()));
        assert!(state.all_records().eq(expected.1));
        assert_eq!(state.recompute_digest(), state.digest());
        previous = Some(done.meta);
    }
}

#[test]
fn checkpoints_in_sled_come_back() {
    let directory = tempfile::tempdir().expect("a directory");
    checkpoints_come_back(|| Arc::new(SledCheckpoints::open(directory.path()).expect("opened")));
}

#[test]
fn checkpoints_too_large_for_one_batch_come_back() {
    let directory = tempfile::tempdir().expect("a directory");
    let open = || SledCheckpoints::open_sized(directory.path(), 64 << 10, 64 << 10).expect("opened");
    checkpoints_come_back(|| Arc::new(open()));
    let left = std::fs::read_dir(directory.path()).expect("a directory").count();
    assert_eq!(left, 2, "a checkpoint, CURRENT, and no runs");
}

#[test]
fn checkpoints_in_memory_come_back() {
    let store = MemoryCheckpoints::new();
    checkpoints_come_back(|| Arc::new(store.clone()));
}

#[test]
fn large_values_stay_in_the_synced_file() {
    let directory = tempfile::tempdir().expect("a directory");
    let world = Arc::new(World::new());
    world.grow(60, 900_000);
    let store = Arc::new(SledCheckpoints::open(directory.path()).expect("opened"));
    checkpoint(store, &world).expect("durable");
    let current = std::fs::read_to_string(directory.path().join("CURRENT")).expect("readable");
    let blobs = directory.path().join(current.split(' ').next().expect("a name")).join("blobs");
    assert_eq!(std::fs::read_dir(blobs).expect("a directory").count(), 0, "sled never syncs blobs");
}

#[test]
fn a_failed_checkpoint_leaves_the_old_one() {
    let store = MemoryCheckpoints::new();
    let world = Arc::new(World::new());
    world.change(50);
    let first = checkpoint(Arc::new(store.clone()), &world).expect("durable");
    let before = stored(&store);
    world.change(100);
    store.fail_next_commit();
    assert!(checkpoint(Arc::new(store.clone()), &world).is_err());
    assert_eq!(store.meta().expect("known"), Some(first.meta));
    assert!(stored(&store) == before);
}

#[test]
fn a_crash_voids_what_was_being_written() {
    let store = MemoryCheckpoints::new();
    let ticket = store.begin().expect("begun");
    let meta = World::new().meta();
    let mut replacement = store.begin_replacement().expect("begun");
    replacement.seal(&meta).expect("whole");
    store.crash();
    assert!(matches!(store.stage(ticket, Vec::new()), Err(CheckpointError::Superseded)));
    assert!(matches!(store.commit(ticket, &meta), Err(CheckpointError::Superseded)));
    assert!(matches!(replacement.finish(), Err(CheckpointError::Superseded)));
    assert_eq!(store.meta().expect("known"), None);
}

#[test]
fn a_checkpoint_that_the_log_cannot_continue_is_refused() {
    let meta = World::new().meta();
    check_reaches(None, None, place()).expect("nothing was purged");
    check_reaches(Some(&meta), Some(meta.applied), place()).expect("the log goes on right behind it");
    let later = Some(id(1, meta.applied.index + 1));
    for found in [None, Some(&meta)] {
        let error = check_reaches(found, later, place()).expect_err("a gap").to_string();
        assert!(error.contains("purged") && error.contains("quorate cluster replace"), "{error}");
    }
}

fn sled_with(world: &Arc<World>, directory: &Path) -> Arc<SledCheckpoints> {
    let store = Arc::new(SledCheckpoints::open(directory).expect("opened"));
    checkpoint(store.clone(), world).expect("durable");
    store
}

fn snapshots(directory: &Path) -> SnapshotStore {
    SnapshotStore::open(Arc::new(DiskFiles), directory.join("snapshots")).expect("opened")
}

/// Every piece of a snapshot of this world.
fn pieces_of(world: &Arc<World>) -> Vec<Bytes> {
    let store = MemoryCheckpoints::new();
    checkpoint(Arc::new(store.clone()), world).expect("durable");
    let files = SnapshotStore::open(Arc::new(MemoryFiles::new()), "/snapshots").expect("opened");
    let file = files.build(&store).expect("built");
    let mut reader = files.reader(&file.path).expect("whole");
    std::iter::from_fn(|| reader.next_piece().expect("whole")).collect()
}

fn receive(store: &dyn CheckpointStore, pieces: &[Bytes]) -> Result<Received, CheckpointError> {
    let mut receiver = SnapshotReceiver::begin(store, &pieces[0], Path::new("a peer"), 0)?;
    for piece in &pieces[1..] {
        receiver.piece(piece.clone())?;
    }
    receiver.finish()
}

#[test]
fn a_snapshot_brings_a_peer_to_the_same_state() {
    let (ours, theirs) = (tempfile::tempdir().expect("made"), tempfile::tempdir().expect("made"));
    let world = Arc::new(World::new());
    world.change(3000);
    world.grow(2, 1_000_000);
    let expected = (world.meta(), world.records());
    let store = sled_with(&world, ours.path());
    let files = snapshots(ours.path());
    let file = files.build(store.as_ref()).expect("built");
    assert_eq!(file.meta, expected.0);
    assert_eq!(files.build(store.as_ref()).expect("there already"), file);
    assert_eq!(files.newest().expect("readable"), Some(file.clone()));

    // The peer has a state of its own, which goes.
    let other = Arc::new(World::new());
    other.change(700);
    let peer = sled_with(&other, theirs.path());
    let ticket = peer.begin().expect("begun");
    let mut reader = files.reader(&file.path).expect("whole");
    let pieces: Vec<Bytes> = std::iter::from_fn(|| reader.next_piece().expect("whole")).collect();
    assert!(pieces.len() > 3, "{} pieces", pieces.len());
    let received = receive(peer.as_ref(), &pieces).expect("whole");
    let (state, meta) = received.install().expect("current");
    assert_eq!((state.digest(), &meta), (expected.0.digest, &expected.0));
    assert!(state.all_records().eq(expected.1.iter().cloned()));
    assert!(stored(peer.as_ref()) == expected.1);
    // A checkpoint that was being written meanwhile is of the state that is gone.
    assert!(matches!(peer.commit(ticket, &other.meta()), Err(CheckpointError::Superseded)));
    drop(peer);
    let peer = SledCheckpoints::open(theirs.path()).expect("opened");
    assert_eq!(peer.meta().expect("known"), Some(expected.0));
    assert!(stored(&peer) == expected.1);
    assert!(!theirs.path().join("checkpoint-0000000001").exists(), "the old one is gone");
}

#[test]
fn a_newer_snapshot_file_replaces_the_older_and_leftovers_go() {
    let directory = tempfile::tempdir().expect("made");
    let world = Arc::new(World::new());
    world.change(100);
    let store = sled_with(&world, directory.path());
    let files = snapshots(directory.path());
    let first = files.build(store.as_ref()).expect("built");
    world.change(100);
    checkpoint(store.clone(), &world).expect("durable");
    let second = files.build(store.as_ref()).expect("built");
    assert!(!first.path.exists() && second.path.exists());

    let leftover = directory.path().join("snapshots/snapshot-9.qsnap.tmp");
    std::fs::write(&leftover, b"half").expect("written");
    let files = snapshots(directory.path());
    assert!(!leftover.exists());
    assert_eq!(files.newest().expect("readable"), Some(second));
    let empty = MemoryCheckpoints::new();
    assert!(matches!(files.build(&empty), Err(CheckpointError::Empty)));
}

#[test]
fn a_failed_write_of_a_snapshot_file_leaves_the_old_one() {
    let (files, store) = (MemoryFiles::new(), MemoryCheckpoints::new());
    let world = Arc::new(World::new());
    world.change(100);
    checkpoint(Arc::new(store.clone()), &world).expect("durable");
    let snapshots = SnapshotStore::open(Arc::new(files.clone()), "/snapshots").expect("opened");
    let first = snapshots.build(&store).expect("built");
    world.change(100);
    checkpoint(Arc::new(store.clone()), &world).expect("durable");
    for fault in [Fault::WriteFails, Fault::SyncFails] {
        files.inject(fault);
        assert!(snapshots.build(&store).is_err(), "{fault:?}");
        assert_eq!(snapshots.newest().expect("readable"), Some(first.clone()));
        let again = SnapshotStore::open(Arc::new(files.clone()), "/snapshots").expect("opened");
        assert_eq!(again.newest().expect("readable"), Some(first.clone()));
    }
    let second = snapshots.build(&store).expect("built");
    files.crash(|| false);
    let again = SnapshotStore::open(Arc::new(files), "/snapshots").expect("opened");
    assert_eq!(again.newest().expect("readable"), Some(second), "what was built is durable");
}

/// A small snapshot file, damaged: the reader refuses it with name and offset, a peer takes
/// nothing from it.
#[test]
fn every_truncation_and_flipped_bit_of_a_snapshot_is_refused() {
    let (files, store) = (MemoryFiles::new(), MemoryCheckpoints::new());
    let world = Arc::new(World::new());
    world.grow(10, 20);
    checkpoint(Arc::new(store.clone()), &world).expect("durable");
    let snapshots = SnapshotStore::open(Arc::new(files.clone()), "/snapshots").expect("opened");
    let path = snapshots.build(&store).expect("built").path;
    let good = files.contents(&path).expect("a file");
    let read = |bytes: Vec<u8>, what: &str| {
        files.overwrite(&path, bytes);
        let read = snapshots.reader(&path).and_then(|mut reader| {
            while reader.next_piece()?.is_some() {}
            Ok(())
        });
        let error = read.expect_err(what);
        let text = error.to_string();
        assert!(text.contains(".qsnap"), "{what}: {text}");
        assert!(
            text.contains("offset") || matches!(error, CheckpointError::UnknownFormat { .. }),
            "{what}: {text}"
        );
        assert_eq!(snapshots.newest().expect("passed over"), None, "{what}");
    };
    for length in 0..good.len() {
        read(good[..length].to_vec(), &format!("cut to {length}"));
    }
    for bit in 0..good.len() * 8 {
        let mut bad = good.clone();
        bad[bit / 8] ^= 1 << (bit % 8);
        read(bad, &format!("bit {bit}"));
    }
    let mut longer = good.clone();
    longer.push(0);
    read(longer, "a byte more");
}

#[test]
fn a_peer_takes_a_snapshot_whole_or_not_at_all() {
    let world = Arc::new(World::new());
    world.change(2000);
    world.grow(3, 900_000);
    let pieces = pieces_of(&world);
    let directory = tempfile::tempdir().expect("made");
    let own = Arc::new(World::new());
    own.change(50);
    let expected = (own.meta(), own.records());
    let store = sled_with(&own, directory.path());
    let mut dice = Dice(3);
    for round in 0..30 {
        let mut bad = pieces.clone();
        let which = dice.below(bad.len() as u64) as usize;
        match round % 3 {
            0 => drop(bad.remove(which.max(1))),
            1 => bad.truncate(which.max(1)),
            _ => {
                let mut bytes = bad[which].to_vec();
                let bit = dice.below(bytes.len() as u64 * 8) as usize;
                bytes[bit / 8] ^= 1 << (bit % 8);
                bad[which] = bytes.into();
            }
        }
        assert!(receive(store.as_ref(), &bad).is_err(), "round {round}");
    }
    assert_eq!(store.meta().expect("known"), Some(expected.0));
    assert!(stored(store.as_ref()) == expected.1);
    drop(store);
    let left: Vec<_> = std::fs::read_dir(directory.path()).expect("a directory").collect();
    assert_eq!(left.len(), 2, "no trace of them: {left:?}");
}

/// Raft may have no use for a snapshot by the time that it has arrived: a leader of the past sent it,
/// and this member is far ahead of it.
#[test]
fn a_snapshot_that_is_not_installed_leaves_the_checkpoint_as_it_was() {
    let (past, world) = (Arc::new(World::new()), Arc::new(World::new()));
    past.change(300);
    let late = pieces_of(&past);
    let directory = tempfile::tempdir().expect("made");
    world.change(800);
    let store = sled_with(&world, directory.path());
    let before = (store.meta().expect("known"), stored(store.as_ref()));
    let received = receive(store.as_ref(), &late).expect("whole");
    assert!((store.meta().expect("known"), stored(store.as_ref())) == before, "it is not current yet");
    // Life goes on meanwhile, and the next checkpoint holds only what has changed since the last.
    world.change(10);
    let done = checkpoint(store.clone(), &world).expect("not superseded");
    let expected = done.meta.clone();
    drop(received);
    drop(store);
    let store = SledCheckpoints::open(directory.path()).expect("opened");
    let (_, meta) = load_state(&store, place(), 0).expect("whole").expect("there");
    assert_eq!(meta, expected);
    let left = std::fs::read_dir(directory.path()).expect("a directory").count();
    assert_eq!(left, 2, "a checkpoint, CURRENT, and nothing of the other");
}

/// Two leaders may send at once; the one that is installed last stands, whichever was begun first.
#[test]
fn two_snapshots_on_their_way_do_not_meet() {
    let (past, world) = (Arc::new(World::new()), Arc::new(World::new()));
    past.change(100);
    world.change(200);
    let (older, newer) = (pieces_of(&past), pieces_of(&world));
    let directory = tempfile::tempdir().expect("made");
    let store = sled_with(&Arc::new(World::new()), directory.path());
    let last = receive(store.as_ref(), &newer).expect("whole");
    receive(store.as_ref(), &older).and_then(Received::install).expect("current");
    let (_, meta) = last.install().expect("current");
    drop(store);
    let store = SledCheckpoints::open(directory.path()).expect("opened");
    assert_eq!(store.meta().expect("known"), Some(meta));
    load_state(&store, place(), 0).expect("whole").expect("there");
}

/// sled writes a small file beside its log at every open; a crash, or a full disk, leaves it half.
#[test]
fn a_half_written_file_of_sleds_own_is_no_damage() {
    let world = Arc::new(World::new());
    world.change(300);
    let directory = tempfile::tempdir().expect("made");
    let expected = (world.meta(), world.records());
    drop(sled_with(&world, directory.path()));
    for half in [&b""[..], &[7; 100]] {
        let leftover = directory.path().join("checkpoint-0000000001/snap.7FFFFFFFFFFFFFFF.generating");
        std::fs::write(&leftover, half).expect("written");
        let store = SledCheckpoints::open(directory.path()).expect("opened");
        assert!(!leftover.exists());
        assert_eq!(store.meta().expect("known"), Some(expected.0.clone()));
        assert!(stored(&store) == expected.1);
    }
}

fn copy_tree(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).expect("made");
    for entry in std::fs::read_dir(from).expect("a directory") {
        let path = entry.expect("readable").path();
        let target = to.join(path.file_name().expect("a name"));
        if path.is_dir() {
            copy_tree(&path, &target);
        } else {
            std::fs::copy(&path, target).expect("copied");
        }
    }
}

/// A crash at each step of an installation, played by copying the directory as it is then.
#[test]
fn a_crash_while_a_snapshot_is_installed_leaves_the_old_or_the_new_whole() {
    let (old_world, new_world) = (Arc::new(World::new()), Arc::new(World::new()));
    old_world.change(300);
    new_world.change(900);
    let pieces = pieces_of(&new_world);
    let directory = tempfile::tempdir().expect("made");
    let home = directory.path().join("home");
    let old = (Some(old_world.meta()), old_world.records());
    let store = sled_with(&old_world, &home);
    let image = |name: &str| {
        let copy = directory.path().join(name);
        copy_tree(&home, &copy);
        copy
    };
    let mut receiver = SnapshotReceiver::begin(store.as_ref(), &pieces[0], place(), 0).expect("begun");
    let begun = image("begun");
    for piece in &pieces[1..] {
        receiver.piece(piece.clone()).expect("whole");
    }
    let filled = image("filled");
    let received = receiver.finish().expect("whole");
    let sealed = image("sealed");
    let (state, meta) = received.install().expect("current");
    let new = (Some(meta), state.all_records().collect::<Vec<_>>());
    let finished = image("finished");
    drop(store);

    // CURRENT written under its temporary name, but not renamed.
    let named = image("named");
    copy_tree(&sealed, &named);
    std::fs::rename(finished.join("CURRENT"), named.join("CURRENT.tmp")).expect("renamed");
    // CURRENT names the new one, and the old one was not removed yet.
    let switched = directory.path().join("switched");
    copy_tree(&sealed, &switched);
    copy_tree(&home, &switched);
    std::fs::copy(home.join("CURRENT"), finished.join("CURRENT")).expect("copied");

    let found = |path: &PathBuf| {
        let store = SledCheckpoints::open(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        (store.meta().expect("known"), stored(&store))
    };
    for path in [&begun, &filled, &sealed, &named] {
        assert!(found(path) == old, "{} holds the old one", path.display());
        assert!(!path.join("checkpoint-0000000002").exists(), "the unfinished one is removed");
    }
    for path in [&switched, &finished, &home] {
        assert!(found(path) == new, "{} holds the new one", path.display());
        assert!(!path.join("checkpoint-0000000001").exists(), "the old one is removed");
    }
}

#[test]
fn a_lost_or_damaged_store_is_refused_never_taken_for_an_empty_one() {
    let world = Arc::new(World::new());
    world.change(400);
    let directory = tempfile::tempdir().expect("made");
    let home = directory.path().join("home");
    drop(sled_with(&world, &home));
    let refused = |name: &str, damage: &dyn Fn(&Path)| {
        let copy = directory.path().join(name);
        copy_tree(&home, &copy);
        damage(&copy);
        let opened = SledCheckpoints::open(&copy).and_then(|store| load_state(&store, &copy, 0));
        let Err(error) = opened else { panic!("{name}: it was opened") };
        assert!(error.to_string().contains(name), "{error}");
    };
    let database = "checkpoint-0000000001/db";
    refused("no-current", &|at| std::fs::remove_file(at.join("CURRENT")).expect("removed"));
    refused("bad-current", &|at| {
        std::fs::write(at.join("CURRENT"), "checkpoint-0000000001 0\n").expect("written")
    });
    refused("no-db", &|at| std::fs::remove_file(at.join(database)).expect("removed"));
    refused("empty-db", &|at| std::fs::write(at.join(database), "").expect("written"));
    refused("no-directory", &|at| {
        std::fs::remove_dir_all(at.join("checkpoint-0000000001")).expect("removed")
    });

    // Set aside on the operator's word, the directory begins anew and the old one is kept.
    let copy = directory.path().join("aside");
    copy_tree(&home, &copy);
    let kept = SledCheckpoints::set_aside(&copy).expect("moved");
    assert_eq!(SledCheckpoints::open(&copy).expect("fresh").meta().expect("known"), None);
    assert!(kept.join("checkpoint-0000000001/db").exists() && kept.join("CURRENT").exists());
}

/// A damaged checkpoint beside a snapshot file and a log: rebuilt if that gives the whole state.
#[test]
fn a_damaged_checkpoint_is_rebuilt_only_if_nothing_is_lost() {
    let world = Arc::new(World::new());
    world.change(300);
    let expected = (world.meta(), world.records());
    let directory = tempfile::tempdir().expect("made");
    let home = directory.path().join("home");
    let store = sled_with(&world, &home);
    let purged = Some(expected.0.applied);
    let beyond = Some(id(1, expected.0.applied.index + 1));
    let files = snapshots(directory.path());
    files.build(store.as_ref()).expect("built");
    drop(store);
    let none = snapshots(&directory.path().join("none"));
    let on_disk = Disk::machine().checkpoints;

    let opened = open_or_rebuild(&on_disk, &home, &none, purged, 0).expect("whole");
    assert_eq!(opened.loaded.map(|(_, meta)| meta), Some(expected.0.clone()));
    drop(opened.store);
    assert!(open_or_rebuild(&on_disk, &home, &files, beyond, 0).is_err(), "nothing reaches that far");

    let damage = || std::fs::write(home.join("checkpoint-0000000001/db"), "").expect("written");
    damage();
    let error = open_or_rebuild(&on_disk, &home, &none, purged, 0)
        .err()
        .expect("nothing makes up for it")
        .to_string();
    assert!(error.contains("home") && error.contains("quorate cluster replace"), "{error}");

    let opened = open_or_rebuild(&on_disk, &home, &files, purged, 0).expect("rebuilt from the file");
    assert!(opened.loaded.expect("a state").0.all_records().eq(expected.1.iter().cloned()));
    drop(opened.store);
    let again = open_or_rebuild(&on_disk, &home, &none, purged, 0).expect("durable");
    assert_eq!(again.loaded.map(|(_, meta)| meta), Some(expected.0));
    drop(again.store);

    std::fs::remove_file(home.join("CURRENT")).expect("removed");
    let opened = open_or_rebuild(&on_disk, &home, &none, None, 0).expect("the whole log is there");
    assert!(opened.loaded.is_none());
}

/// Flips bits of sled's file: the state comes back whole, or it is refused; never another state.
#[test]
fn flipped_bits_of_the_store_never_give_another_state() {
    let world = Arc::new(World::new());
    world.change(300);
    let directory = tempfile::tempdir().expect("made");
    let home = directory.path().join("home");
    let expected = (world.meta(), world.records());
    drop(sled_with(&world, &home));
    let file = home.join("checkpoint-0000000001/db");
    let good = std::fs::read(&file).expect("readable");
    let used = good.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1) as u64;
    let mut dice = Dice(11);
    let (mut whole, mut refused) = (0, 0);
    for round in 0..60 {
        let copy = directory.path().join(format!("copy-{round}"));
        copy_tree(&home, &copy);
        let mut bad = good.clone();
        let bit = dice.below(used * 8) as usize;
        bad[bit / 8] ^= 1 << (bit % 8);
        std::fs::write(copy.join("checkpoint-0000000001/db"), bad).expect("written");
        match SledCheckpoints::open(&copy).and_then(|store| load_state(&store, &copy, 0)) {
            Ok(Some((state, meta))) => {
                assert_eq!((&meta, state.digest()), (&expected.0, expected.0.digest), "bit {bit}");
                assert!(state.all_records().eq(expected.1.iter().cloned()), "bit {bit}");
                whole += 1;
            }
            // sled may have cut its own tail off: then there is no checkpoint, which the log, being
            // purged, does not continue.
            Ok(None) => {
                check_reaches(None, Some(id(1, 1)), &copy).expect_err("refused");
                refused += 1;
            }
            Err(error) => {
                assert!(error.to_string().contains("copy-"), "{error}");
                refused += 1;
            }
        }
        std::fs::remove_dir_all(copy).expect("removed");
    }
    println!("{whole} whole, {refused} refused");
    assert!(refused > 0);
}

#[test]
fn with_a_thread_of_its_own_the_work_is_the_same() {
    let directory = tempfile::tempdir().expect("made");
    let world = Arc::new(World::new());
    world.change(500);
    let store = Arc::new(SledCheckpoints::open(directory.path()).expect("opened"));
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
    let checkpointer = Checkpointer::start(store, WorkMode::Thread).expect("a thread");
    let expected = world.records();
    let files = snapshots(directory.path());
    runtime.block_on(async {
        let done = checkpointer.checkpoint(world.clone()).await.expect("durable").expect("something");
        let file = checkpointer.run(move |store| files.build(store)).await.expect("done").expect("built");
        assert_eq!(file.meta, done.meta);
    });
    drop(checkpointer);
    let store = SledCheckpoints::open(directory.path()).expect("the thread has let go of it");
    assert!(stored(&store) == expected);
}
