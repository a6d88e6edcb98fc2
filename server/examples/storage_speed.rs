//! How fast the log takes entries, and how fast and small a checkpoint of a million nodes is.
//!
//! ```text
//! cargo run --release -p quorate-server --example storage_speed -- log [directory]
//! cargo run --release -p quorate-server --example storage_speed -- checkpoint [directory] [nodes]
//! ```
//!
//! Figures depend on the disk; the directory should be on the one that matters.

use std::path::{Path, PathBuf};
use std::process::Command as Process;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use bytes::Bytes;
use openraft::storage::{IOFlushed, RaftLogStorage};
use openraft::type_config::TypeConfigExt;
use openraft::vote::RaftLeaderIdExt;
use quorate_core::acl::AclEntry;
use quorate_core::command::{Command, Create, Operation, Origin, Stamp};
use quorate_core::id::{MemberId, Timestamp};
use quorate_core::record::RecordWrite;
use quorate_core::state::State;
use quorate_core::znode::CreateMode;
use quorate_server::replica::checkpoint::{
    CheckpointMeta, CheckpointStore, Checkpointer, FrozenSource, SledCheckpoints, WorkMode, load_state,
};
use quorate_server::replica::files::DiskFiles;
use quorate_server::replica::log_store::{Begin, LogOptions, LogStore};
use quorate_server::replica::snapshot_store::SnapshotStore;
use quorate_server::replica::types::{
    Entry, EntryPayload, LeaderId, LogId, Payload, StoredMembership, TypeConfig,
};

#[global_allocator]
static ALLOCATOR: quorate_allocator::MiMalloc = quorate_allocator::MiMalloc;

const RUN: Duration = Duration::from_secs(2);

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let word = |position: usize| arguments.get(position).map(String::as_str);
    let directory = word(1).map_or_else(std::env::temp_dir, PathBuf::from).join("quorate-storage-speed");
    let nodes = word(2).map_or(1_000_000, |nodes| nodes.parse().expect("a number of nodes"));
    match word(0) {
        Some("log") => log(&directory),
        Some("checkpoint") => {
            remove(&directory);
            // Loading is measured in a process that holds nothing else.
            for step in ["write", "load", "load"] {
                let program = std::env::current_exe().expect("a running program has a path");
                let status = Process::new(program)
                    .args([step, word(1).unwrap_or("/tmp"), &nodes.to_string()])
                    .status();
                assert!(status.expect("the program can run itself").success());
            }
            remove(&directory);
        }
        Some("write") => write(&directory, nodes),
        Some("load") => load(&directory),
        _ => eprintln!("say \"log\" or \"checkpoint\""),
    }
}

fn remove(directory: &Path) {
    match std::fs::remove_dir_all(directory) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => panic!("{error}"),
        _ => {}
    }
}

fn id(index: u64) -> LogId {
    LogId::new(LeaderId::new_committed(1, 1), index)
}

/// Appends of one entry each, so many in flight at a time: the writer gathers them into groups.
fn log(directory: &Path) {
    let payload = Payload(Bytes::from(vec![7; 256]));
    println!("in flight   entries/s   p50 µs   p99 µs");
    for in_flight in [1, 16, 64, 256] {
        remove(directory);
        std::fs::create_dir_all(directory).expect("a directory");
        let (mut log, _) = LogStore::open(LogOptions::new(directory.join("log")), Begin::New).expect("a log");
        let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
        let mut waits = Vec::new();
        let begun = Instant::now();
        runtime.block_on(async {
            let mut waiting = std::collections::VecDeque::new();
            let mut index = 0;
            while begun.elapsed() < RUN {
                while waiting.len() < in_flight {
                    let entry = Entry { log_id: id(index), payload: EntryPayload::Normal(payload.clone()) };
                    let (sender, answer) = TypeConfig::oneshot();
                    log.append([entry], IOFlushed::signal(sender)).await.expect("accepted");
                    waiting.push_back((Instant::now(), answer));
                    index += 1;
                }
                let (since, answer) = waiting.pop_front().expect("some are waiting");
                answer.await.expect("told").expect("durable");
                waits.push(since.elapsed());
                // Purging is part of a log's life.
                if index % 200_000 == 0 {
                    log.purge(id(index - 100_000)).await.expect("accepted");
                }
            }
        });
        let rate = waits.len() as f64 / begun.elapsed().as_secs_f64();
        waits.sort_unstable();
        let at = |share: f64| waits[((waits.len() - 1) as f64 * share) as usize].as_micros();
        println!("{in_flight:>9} {rate:>11.0} {:>8} {:>8}", at(0.5), at(0.99));
    }
    remove(directory);
}

struct Source(Mutex<(State, u64)>);

impl Source {
    fn create(&self, from: u64, count: u64) {
        let mut inner = self.0.lock().expect("not poisoned");
        for number in from..from + count {
            inner.1 += 1;
            let path = format!("/n{number:010}");
            let data = Some(Bytes::from(vec![number as u8; 100]));
            let operation =
                Operation::Create(Create { path, data, acl: AclEntry::open(), mode: CreateMode::Persistent });
            let ticket = inner.1;
            let origin = Origin::Call { member: MemberId(1), ticket, request: None };
            let stamp = Stamp { time: Timestamp(1_700_000_000_000 + number as i64), entropy: [0; 16] };
            inner.0.apply(&stamp, &Command { origin, identities: vec![], operation });
        }
    }

    fn set(&self, nodes: u64, count: u64) {
        let mut inner = self.0.lock().expect("not poisoned");
        for step in 0..count {
            inner.1 += 1;
            let number = step.wrapping_mul(2_654_435_761) % nodes;
            let data = Some(Bytes::from(vec![step as u8; 100]));
            let operation = Operation::SetData { path: format!("/n{number:010}"), data, version: -1 };
            let ticket = inner.1;
            let origin = Origin::Call { member: MemberId(1), ticket, request: None };
            let stamp = Stamp { time: Timestamp(1_800_000_000_000 + step as i64), entropy: [0; 16] };
            inner.0.apply(&stamp, &Command { origin, identities: vec![], operation });
        }
    }
}

impl FrozenSource for Source {
    fn begin(&self) -> Option<CheckpointMeta> {
        let mut inner = self.0.lock().expect("not poisoned");
        inner.0.freeze();
        Some(CheckpointMeta {
            applied: id(inner.1),
            membership: StoredMembership::default(),
            zxid: inner.0.zxid(),
            digest: inner.0.digest(),
        })
    }

    fn chunk(&self, bytes_max: usize) -> Vec<RecordWrite> {
        self.0.lock().expect("not poisoned").0.frozen_chunk(bytes_max)
    }

    fn abandon(&self) {
        self.0.lock().expect("not poisoned").0.abandon_frozen();
    }
}

fn write(directory: &Path, nodes: u64) {
    let source = Arc::new(Source(Mutex::new((State::new(), 0))));
    source.create(0, nodes);
    println!("state of {nodes} nodes: {}", memory());
    let store = Arc::new(SledCheckpoints::open(directory).expect("opened"));
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
    let checkpointer = Checkpointer::start(store.clone(), WorkMode::Thread).expect("a thread");
    let checkpoint = |what: &str| {
        let begun = Instant::now();
        runtime.block_on(checkpointer.checkpoint(source.clone())).expect("durable");
        println!("{what}: {:.2?}, {}", begun.elapsed(), memory());
    };
    checkpoint("first checkpoint, everything");
    source.set(nodes, 1000);
    checkpoint("checkpoint of 1,000 scattered changes");
    source.set(nodes, 100_000);
    checkpoint("checkpoint of 100,000 scattered changes");
    source.create(nodes, nodes / 10);
    checkpoint("checkpoint of a tenth more nodes");
    let files = SnapshotStore::open(Arc::new(DiskFiles), directory.join("snapshots")).expect("opened");
    let begun = Instant::now();
    let built = runtime.block_on(checkpointer.run(move |store| files.build(store)));
    let file = built.expect("done").expect("built");
    let length = std::fs::metadata(&file.path).expect("a file").len() >> 20;
    println!("snapshot file: {:.2?}, {length} MiB, {}", begun.elapsed(), memory());
    assert!(store.meta().expect("known").is_some());
}

fn load(directory: &Path) {
    let begun = Instant::now();
    let store = SledCheckpoints::open(directory).expect("opened");
    println!("open: {:.2?}, {}", begun.elapsed(), memory());
    let begun = Instant::now();
    let mut bytes = 0;
    store
        .visit(&mut |key, value| {
            bytes += key.len() + value.len();
            std::ops::ControlFlow::Continue(())
        })
        .expect("whole");
    println!("read all {} MiB of records: {:.2?}, {}", bytes >> 20, begun.elapsed(), memory());
    let begun = Instant::now();
    let (state, _) = load_state(&store, directory, 0).expect("whole").expect("there");
    println!("load {} nodes: {:.2?}, {}", state.counts().znodes, begun.elapsed(), memory());
}

/// Resident memory now, and at its highest.
fn memory() -> String {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mebibytes = |name| {
        let line = status.lines().find_map(|line| line.strip_prefix(name))?;
        Some(line.trim().trim_end_matches(" kB").parse::<u64>().ok()? >> 10)
    };
    let (now, peak) = (mebibytes("VmRSS:"), mebibytes("VmHWM:"));
    format!("resident {} MiB, at most {} MiB", now.unwrap_or(0), peak.unwrap_or(0))
}
