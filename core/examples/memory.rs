//! How much memory a million znodes take, beyond their path segments and data.
//!
//! `cargo run --release -p quorate-core --example memory [nodes]`: each shape runs in a process of
//! its own and reports the resident memory that its nodes added. The bound is 150 bytes a node.

use std::process::Command as Process;

use bytes::Bytes;
use quorate_core::acl::AclEntry;
use quorate_core::command::{Command, Create, Operation, Origin, Stamp};
use quorate_core::id::{AttachEpoch, MemberId, SessionId, Timestamp, WriteNumber};
use quorate_core::settings::Setting;
use quorate_core::state::{Answer, State};
use quorate_core::znode::CreateMode;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const SHAPES: [&str; 6] = ["one-parent", "one-parent-shuffled", "spread", "pairs", "chains", "ephemerals"];
const DATA_BYTES: usize = 100;

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.as_slice() {
        [shape, nodes] => measure(shape, nodes.parse().expect("the second argument is a number")),
        _ => {
            let nodes = arguments.first().map_or("1000000", String::as_str);
            let program = std::env::current_exe().expect("a running program has a path");
            for shape in SHAPES {
                let status = Process::new(&program).args([shape, nodes]).status();
                assert!(status.expect("the program can run itself").success());
            }
        }
    }
}

fn measure(shape: &str, nodes: u32) {
    let mut state = State::new();
    let house = |state: &mut State, operation| {
        state.apply(&Stamp::default(), &Command { origin: Origin::House, identities: vec![], operation })
    };
    house(&mut state, Operation::Set(Setting::ChangeLogBytes(1 << 20)));
    // A session owns 100,000 ephemerals at most, so there are many, taking turns.
    let sessions = u64::from(nodes) / 50_000 + 1;
    for _ in 0..sessions {
        let open = Operation::OpenSession { timeout_ms: 4000, member: MemberId(1) };
        let call = Origin::Call { member: MemberId(1), ticket: 0, request: None };
        state.apply(&Stamp::default(), &Command { origin: call, identities: vec![], operation: open });
    }
    let mut turn = 0;
    let mut create = |state: &mut State, path: String, mode, data: &[u8]| {
        let number = turn / sessions + 1;
        let origin = Origin::Session {
            session: SessionId(turn % sessions + 1),
            epoch: AttachEpoch(1),
            number: WriteNumber(number),
            acknowledged: WriteNumber(number - 1),
        };
        turn += 1;
        let data = Some(Bytes::copy_from_slice(data));
        let operation = Operation::Create(Create { path, data, acl: AclEntry::open(), mode });
        let stamp = Stamp { time: Timestamp(1_700_000_000_000 + turn as i64), entropy: [0; 16] };
        let applied = state.apply(&stamp, &Command { origin, identities: vec![], operation });
        assert!(matches!(applied.answer, Answer::Reply(reply) if reply.result.is_ok()));
    };
    // The log of changes and everything else that does not grow with the tree is full before the count begins.
    create(&mut state, "/top".into(), CreateMode::Persistent, b"");
    for warm_up in 0..30_000 {
        create(&mut state, format!("/top/w{warm_up}"), CreateMode::Persistent, &[0; DATA_BYTES]);
    }
    let (before, nodes_before) = (resident_bytes(), state.counts().znodes);
    let mut names_bytes = 0u64;
    let mut last_chain = String::new();
    for number in 0..nodes {
        let (path, mode) = match shape {
            "one-parent" => (format!("/top/n{number:010}"), CreateMode::Persistent),
            "one-parent-shuffled" => {
                let shuffled = number.wrapping_mul(2_654_435_761);
                (format!("/top/n{shuffled:010}"), CreateMode::Persistent)
            }
            "ephemerals" => (format!("/top/n{number:010}"), CreateMode::Ephemeral),
            "spread" => match number % 11 {
                0 => (format!("/s{:08}", number / 11), CreateMode::Persistent),
                child => (format!("/s{:08}/c{child:08}", number / 11), CreateMode::Persistent),
            },
            "pairs" => match number % 3 {
                0 => (format!("/s{:08}", number / 3), CreateMode::Persistent),
                child => (format!("/s{:08}/c{child:08}", number / 3), CreateMode::Persistent),
            },
            "chains" => {
                if number % 8 == 0 {
                    last_chain = format!("/c{:08}", number / 8);
                } else {
                    last_chain.push_str("/below");
                }
                (last_chain.clone(), CreateMode::Persistent)
            }
            other => panic!("unknown shape {other}"),
        };
        names_bytes += (path.len() - path.rfind('/').map_or(0, |slash| slash + 1)) as u64;
        create(&mut state, path, mode, &[7; DATA_BYTES]);
    }
    let added = state.counts().znodes - nodes_before;
    assert_eq!(added, u64::from(nodes));
    let grown = resident_bytes() - before;
    let payload = names_bytes + added * DATA_BYTES as u64;
    println!(
        "{shape:20} {added} nodes: {:6.1} MiB resident, {:5.1} bytes a node beyond {:5.1} of name and data",
        grown as f64 / 1048576.0,
        (grown as f64 - payload as f64) / added as f64,
        payload as f64 / added as f64,
    );
}

fn resident_bytes() -> u64 {
    let statm = std::fs::read_to_string("/proc/self/statm").expect("Linux tells the resident size");
    let pages: u64 = statm.split(' ').nth(1).and_then(|pages| pages.parse().ok()).expect("the second field");
    pages * 4096
}
