//! What applying a command costs: digest, change log, reply table and all.
//!
//! `cargo run --release -p quorate-core --example apply_speed [nodes]`: first the tree grows to that
//! many nodes, reporting as it goes (creates must not slow down), then single kinds of commands.

use std::time::Instant;

use bytes::Bytes;
use quorate_core::acl::AclEntry;
use quorate_core::command::{Command, Create, MultiOperation, Operation, Origin, Stamp};
use quorate_core::id::{AttachEpoch, MemberId, SessionId, Timestamp, WriteNumber};
use quorate_core::state::{Answer, State};
use quorate_core::znode::CreateMode;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const ROUND: u64 = 200_000;

/// A state with one session, and that session's commands.
struct Bench {
    state: State,
    number: u64,
    random: u64,
}

impl Bench {
    fn new() -> Bench {
        let mut state = State::new();
        let origin = Origin::Call { member: MemberId(1), ticket: 0, request: None };
        let operation = Operation::OpenSession { timeout_ms: 4000, member: MemberId(1) };
        state.apply(&Stamp::default(), &Command { origin, identities: vec![], operation });
        Bench { state, number: 0, random: 1 }
    }

    fn below(&mut self, bound: u64) -> u64 {
        self.random = self.random.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (self.random >> 33) % bound
    }

    fn command(&mut self, operation: Operation) -> Command {
        self.number += 1;
        let origin = Origin::Session {
            session: SessionId(1),
            epoch: AttachEpoch(1),
            number: WriteNumber(self.number),
            acknowledged: WriteNumber(self.number.saturating_sub(16)),
        };
        Command { origin, identities: vec![], operation }
    }

    fn create(&mut self, path: String) -> Command {
        let data = Some(Bytes::from(vec![1; 100]));
        let mode = CreateMode::Persistent;
        self.command(Operation::Create(Create { path, data, acl: AclEntry::open(), mode }))
    }

    /// Applies commands prepared beforehand and reports the time each took on average.
    fn run(&mut self, what: &str, commands: Vec<Command>) {
        let count = commands.len();
        let mut stamp = Stamp { time: Timestamp(1_700_000_000_000), entropy: [0; 16] };
        let mut worst = 0;
        let (start, start_cpu) = (Instant::now(), cpu_nanoseconds());
        for command in &commands {
            let began = Instant::now();
            stamp.time.0 += 1;
            let applied = self.state.apply(&stamp, command);
            let Answer::Reply(reply) = &applied.answer else { panic!("{applied:?}") };
            assert!(reply.result.is_ok(), "{reply:?}");
            worst = worst.max(began.elapsed().as_nanos());
        }
        let each = start.elapsed().as_nanos() as f64 / count as f64;
        let cpu = (cpu_nanoseconds() - start_cpu) as f64 / count as f64;
        println!("{what:48} {cpu:7.0} ns of CPU each ({each:.0} ns elapsed, worst {} µs)", worst / 1000);
    }
}

/// Time on a CPU, which other work on the machine does not add to.
fn cpu_nanoseconds() -> u64 {
    let statistics = std::fs::read_to_string("/proc/self/schedstat").expect("Linux keeps it");
    statistics.split(' ').next().and_then(|field| field.parse().ok()).expect("the first field")
}

fn main() {
    let nodes = std::env::args().nth(1).map_or(1_000_000, |nodes| nodes.parse().expect("a number"));
    let mut bench = Bench::new();
    let top = bench.create("/top".into());
    bench.run("create the parent", vec![top]);
    let mut made = 0;
    while made < nodes {
        let commands =
            (made..made + ROUND).map(|number| bench.create(format!("/top/n{number:010}"))).collect();
        made += ROUND;
        bench.run(&format!("create in name order, up to {made} children"), commands);
    }
    let commands = (0..ROUND)
        .map(|number| {
            let path = format!("/top/{:08x}{number}", bench.below(1 << 32));
            bench.create(path)
        })
        .collect();
    bench.run("create in random order among them", commands);
    let commands = (0..ROUND)
        .map(|_| {
            let path = format!("/top/n{:010}", bench.below(made));
            let data = Some(Bytes::from(vec![2; 100]));
            bench.command(Operation::SetData { path, data, version: -1 })
        })
        .collect();
    bench.run("set 100 bytes of a random one", commands);
    let commands = (0..ROUND)
        .map(|_| {
            let data = Some(Bytes::from(vec![2; 100]));
            bench.command(Operation::SetData { path: "/top/n0000000001".into(), data, version: -1 })
        })
        .collect();
    bench.run("set 100 bytes of the same one", commands);
    let commands = (0..ROUND / 10)
        .map(|_| {
            let operations = (0..10).map(|_| MultiOperation::SetData {
                path: format!("/top/n{:010}", bench.below(made)),
                data: Some(Bytes::from(vec![3; 100])),
                version: -1,
            });
            let operations = operations.collect();
            bench.command(Operation::Multi(operations))
        })
        .collect();
    bench.run("multi of ten sets", commands);
    let commands = (0..ROUND)
        .map(|number| {
            let path = format!("/top/n{:010}", number * (made / ROUND));
            bench.command(Operation::Delete { path, version: -1 })
        })
        .collect();
    bench.run("delete, spread over them", commands);
    let start = Instant::now();
    bench.state.freeze();
    println!("freeze {:?}", start.elapsed());
    let commands = (0..ROUND)
        .map(|_| {
            let spread = made / ROUND;
            let path = if spread > 1 {
                format!("/top/n{:010}", bench.below(ROUND) * spread + 1)
            } else {
                "/top".into()
            };
            let data = Some(Bytes::from(vec![4; 100]));
            bench.command(Operation::SetData { path, data, version: -1 })
        })
        .collect();
    bench.run("set with a frozen view to save for", commands);
    let start = Instant::now();
    let (mut records, mut bytes) = (0, 0);
    loop {
        let chunk = bench.state.frozen_chunk(1 << 20);
        if chunk.is_empty() {
            break;
        }
        records += chunk.len();
        bytes += chunk.iter().map(|write| write.value.as_ref().map_or(0, Bytes::len)).sum::<usize>();
    }
    println!("drained {records} records, {bytes} bytes in {:?}", start.elapsed());
    let start = Instant::now();
    assert_eq!(bench.state.recompute_digest(), bench.state.digest());
    println!("recomputed the digest in {:?}", start.elapsed());
}
