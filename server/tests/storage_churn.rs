//! Checkpoints that replace each other entirely, on a machine with no processor to spare, come to an end.
//! sled frees and cuts its file behind such changes, and could wait for itself while it did. A file of
//! its own, because it takes the processors from whatever runs beside it.

mod storage_support;

use std::hint::spin_loop;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;
use std::time::Duration;

use quorate_core::id::Zxid;
use quorate_core::record::RecordWrite;
use quorate_core::state::Digest;
use quorate_server::replica::checkpoint::{CheckpointMeta, CheckpointStore, SledCheckpoints};
use quorate_server::replica::types::StoredMembership;
use storage_support::id;

const CHECKPOINTS: u32 = 100;
/// Records of a checkpoint, and the bytes of each: blocks of a change log under a high load.
const RECORDS: u32 = 2000;
const RECORD: usize = 16_000;
/// A checkpoint takes a second at most; this is a stand-still.
const STUCK: Duration = Duration::from_secs(60);

#[test]
fn checkpoints_that_leave_nothing_of_the_one_before_come_to_an_end() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().to_path_buf();
    let is_over = Arc::new(AtomicBool::new(false));
    for _ in 0..3 * std::thread::available_parallelism().map_or(2, usize::from) {
        let is_over = is_over.clone();
        std::thread::spawn(move || {
            while !is_over.load(Ordering::Relaxed) {
                spin_loop();
            }
        });
    }
    let (done, ends) = mpsc::channel();
    std::thread::spawn(move || {
        let store = SledCheckpoints::open(&path).expect("opens");
        for round in 1..=CHECKPOINTS {
            checkpoint(&store, round);
            store.rest();
            done.send(()).expect("somebody counts");
        }
    });
    for round in 1..=CHECKPOINTS {
        let ended = ends.recv_timeout(STUCK);
        assert!(ended.is_ok(), "checkpoint {round} did not end");
    }
    is_over.store(true, Ordering::Relaxed);
}

/// Every record of the round before is removed, as many new ones take their place.
fn checkpoint(store: &SledCheckpoints, round: u32) {
    let record = |round: u32, number: u32, value: Option<Vec<u8>>| RecordWrite {
        key: [&[1][..], &round.to_be_bytes(), &number.to_be_bytes()].concat().into(),
        value: value.map(Into::into),
    };
    let ticket = store.begin().expect("begun");
    let gone = (0..RECORDS).map(|number| record(round - 1, number, None));
    let new = (0..RECORDS).map(|number| record(round, number, Some(vec![round as u8; RECORD])));
    store.stage(ticket, gone.chain(new).collect()).expect("staged");
    let meta = CheckpointMeta {
        applied: id(1, round.into()),
        membership: StoredMembership::default(),
        zxid: Zxid(round.into()),
        digest: Digest(round.into()),
    };
    store.commit(ticket, &meta).expect("durable");
}
