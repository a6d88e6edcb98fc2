//! One seed, from an empty cluster to its verdict.

use std::io::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use quorate_server::replica::storage::SegmentSizes;
use serde::{Deserialize, Serialize};
use tokio::sync::{Notify, watch};
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout};

use super::chaos::{Chaos, Faults, Spare};
use super::client::{Asker, Client};
use super::clock::Clock;
use super::host::{Host, Setup, Shared};
use super::invariants::Inspector;
use super::life::Node;
use super::network::Network;
use super::trace::Trace;
use super::verdicts::{Diary, Verdicts};
use super::watcher::Watcher;
use super::workload::{Slot, prepare, probe};
use crate::checkers::{
    Checker, Verdict, fencing, judge, linearizable, sequence, set, watch as watch_checker,
};
use crate::history::Process;

/// Clients' addresses begin here.
const CLIENTS: Node = 100;
/// How long the cluster may take to be founded and to take its first writes.
const FOUNDED: Duration = Duration::from_secs(60);
/// How long it may take to heal once nothing goes wrong any more.
const HEALED: Duration = Duration::from_secs(60);

/// The longest pause between two operations of a quiet client.
const QUIET: Duration = Duration::from_secs(20);

/// How a seed ended.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Outcome {
    /// The seed.
    pub seed: u64,
    /// Of the trace, in hexadecimal.
    pub hash: String,
    /// Events in it.
    pub events: u64,
    /// Simulated milliseconds.
    pub simulated_ms: u64,
    /// Log entries applied, all members together.
    pub applies: u64,
    /// Disk operations, all members together.
    pub disk_operations: u64,
    /// Operations of clients.
    pub operations: u64,
    /// What was inflicted.
    pub faults: Faults,
    /// Which checkers found something to judge.
    pub judged: Vec<String>,
    /// What was wrong.
    pub violations: Vec<String>,
    /// The trace's last lines, if something was wrong.
    pub last: Vec<String>,
}

/// Runs one seed in this process, which must not have run another: see [`simulated_entropy`].
///
/// # Panics
/// If the process' randomness cannot be seeded: then no seed would mean anything.
pub fn run(seed: u64, faults_for: Duration, trace_file: Option<Box<dyn Write + Send>>) -> Outcome {
    assert!(simulated_entropy::is_in_force(), "this process' randomness does not follow a seed");
    simulated_entropy::seed(seed);
    let simulating = std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .start_paused(true)
            .build()
            .expect("a runtime without I/O needs nothing from the system");
        runtime.block_on(simulate(seed, faults_for, trace_file))
    });
    simulating.join().expect("a panic has ended the process already")
}

async fn simulate(seed: u64, faults_for: Duration, trace_file: Option<Box<dyn Write + Send>>) -> Outcome {
    let started = Instant::now();
    let trace = Trace::begin(trace_file);
    let verdicts = Verdicts::new(trace.clone());
    let mut random = fastrand::Rng::with_seed(seed);
    let network = Network::new(random.fork(), trace.clone());
    let inspector = Inspector::new(verdicts.clone(), trace.clone());
    let shared =
        Shared { network: network.clone(), inspector: inspector.clone(), verdicts: verdicts.clone() };
    let setup = draw_setup(&mut random);
    trace.note(format_args!("{setup:?}"));
    let tripped = Arc::new(Notify::new());
    let hosts = (1..=setup.members).map(|node| {
        let clock = Clock::new(started, random.fork());
        Host::new(setup.config(node, false), &setup, shared.clone(), clock, random.fork(), tripped.clone())
    });
    let hosts = hosts.collect();
    let diary = Diary::new(trace.clone());
    let mut traffic = Traffic::draw(&mut random, &shared, &diary);
    let spare = Spare { setup: setup.clone(), shared: shared.clone(), started };
    let mut chaos = Chaos::new(hosts, spare, traffic.nodes.clone(), tripped, random.fork());
    let story = async {
        tell(&mut chaos, &mut traffic, &shared, faults_for).await;
    };
    tokio::select! {
        biased;
        () = verdicts.any() => {}
        () = story => {}
    }
    let history = diary.history();
    let mut judged = Vec::new();
    if verdicts.found().is_empty() {
        let checkers: [Box<dyn Checker>; 5] = [
            Box::new(linearizable::Linearizable { initial: (0, 0) }),
            Box::new(sequence::Sequence),
            Box::new(set::Set),
            Box::new(fencing::Fencing),
            Box::new(watch_checker::Watch),
        ];
        for finding in judge(&checkers, &history) {
            match finding.verdict {
                Verdict::Valid { .. } => judged.push(finding.checker),
                Verdict::Unknown { .. } => {}
                Verdict::Invalid { anomalies } => {
                    for anomaly in anomalies {
                        verdicts.violated(&finding.checker, anomaly.what);
                    }
                }
            }
        }
    }
    let violations = verdicts.found();
    let (hash, events) = trace.hash();
    Outcome {
        seed,
        hash: format!("{hash:032x}"),
        events,
        simulated_ms: started.elapsed().as_millis() as u64,
        applies: inspector.applies(),
        disk_operations: chaos.hosts.iter().map(Host::operations).sum(),
        operations: history.pairs().len() as u64,
        faults: chaos.faults.clone(),
        judged,
        last: if violations.is_empty() { Vec::new() } else { trace.last() },
        violations,
    }
}

fn draw_setup(random: &mut fastrand::Rng) -> Setup {
    Setup {
        members: if random.u32(..3) == 0 { 5 } else { 3 },
        checkpoint_bytes: 1 << random.u32(12..18),
        checkpoint_interval: Duration::from_millis(random.u64(1_000..20_000)),
        segments: SegmentSizes {
            segment_bytes: 1 << random.u32(12..17),
            growth_bytes: 1 << random.u32(11..14),
        },
        // From a disk that is hardly noticed to one that is slower than the network.
        disk_slowest: Duration::from_micros(1 << random.u32(6..16)),
    }
}

/// Clients and what they do.
struct Traffic {
    nodes: Vec<Node>,
    clients: JoinSet<()>,
    slots: Vec<Slot>,
    stop: watch::Sender<bool>,
    last_change: Arc<AtomicU64>,
    told_last: watch::Sender<Option<u64>>,
    judges: Vec<Slot>,
}

impl Traffic {
    fn draw(random: &mut fastrand::Rng, shared: &Shared, diary: &Diary) -> Traffic {
        let (stop, stopped) = watch::channel(false);
        let (told_last, last) = watch::channel(None);
        let last_change = Arc::new(AtomicU64::new(0));
        let mut traffic = Traffic {
            nodes: Vec::new(),
            clients: JoinSet::new(),
            slots: Vec::new(),
            stop,
            last_change: last_change.clone(),
            told_last,
            judges: Vec::new(),
        };
        let pause_max = Duration::from_millis(random.u64(20..400));
        let count = random.u64(3..=5);
        // It hardly ever asks for anything: heartbeats are all that its session lives by.
        let quiet = random.u64(..count);
        for client in 0..=count {
            let node = CLIENTS + client;
            let first_process = (client as Process) * 10;
            let is_watching = client < 2;
            let watcher = is_watching.then(|| Watcher::new(first_process + 9, diary.clone(), last.clone()));
            let (client_task, asker) = Client::new(node, shared.clone(), random.fork(), watcher);
            traffic.nodes.push(node);
            traffic.clients.spawn(client_task.run());
            let slot = |process: Process, asker: Asker, random: fastrand::Rng| Slot {
                process,
                asker,
                random,
                diary: diary.clone(),
                verdicts: shared.verdicts.clone(),
                stop: stopped.clone(),
                last_change: last_change.clone(),
                seen: Arc::default(),
                pause_max: if client == quiet { QUIET } else { pause_max },
            };
            if client == count {
                // Prepares the tree and judges at the end.
                traffic.judges.push(slot(first_process, asker, random.fork()));
                continue;
            }
            for index in 0..random.u32(1..=3) {
                traffic.slots.push(slot(first_process + index, asker.clone(), random.fork()));
            }
        }
        traffic
    }
}

/// The whole story: founded, worked on under faults, mended, judged.
async fn tell(chaos: &mut Chaos, traffic: &mut Traffic, shared: &Shared, faults_for: Duration) {
    let verdicts = &shared.verdicts;
    chaos.start_all_soon(Duration::from_secs(3));
    let judge = traffic.judges.pop().expect("the last client judges");
    {
        let founded = prepare(&judge.asker);
        tokio::select! {
            biased;
            () = founded => {}
            () = chaos.run(FOUNDED, false) => {
                verdicts.violated("founding", "no write went through");
                return;
            }
        }
    }
    if !each_member_serves(chaos, verdicts).await {
        return;
    }
    let mut working = JoinSet::new();
    for slot in traffic.slots.drain(..) {
        working.spawn(slot.run());
    }
    chaos.run(faults_for, true).await;
    chaos.mend();
    traffic.stop.send_replace(true);
    let stuck = "an operation is not answered although nothing goes wrong any more";
    if !within(chaos, async { while working.join_next().await.is_some() {} }).await {
        verdicts.violated("healing", stuck);
        return;
    }
    let mut judge = judge;
    let finished = within(chaos, async {
        judge.touch().await;
        judge.read_all().await;
        traffic.told_last.send_replace(Some(traffic.last_change.load(Ordering::Relaxed)));
        drop(judge);
        while traffic.clients.join_next().await.is_some() {}
    });
    if !finished.await {
        verdicts
            .violated("healing", "a client does not come to its end although nothing goes wrong any more");
        return;
    }
    let deadline = Instant::now() + HEALED;
    let is_healed = |chaos: &Chaos| {
        chaos.is_replaced()
            && !chaos.is_between_members()
            && is_converged(&chaos.hosts, shared.inspector.highest_index())
    };
    while !is_healed(chaos) {
        if Instant::now() >= deadline {
            let applied: Vec<u64> = chaos.hosts.iter().map(Host::applied).collect();
            let (replaced, between) = (chaos.is_replaced(), chaos.is_between_members());
            verdicts.violated(
                "healing",
                format_args!(
                    "the members do not converge: {applied:?}, lost disk replaced: {replaced}, \
                     between two sets of members: {between}"
                ),
            );
            return;
        }
        chaos.run(Duration::from_millis(100), false).await;
    }
    if !each_member_serves(chaos, verdicts).await {
        return;
    }
    for host in &chaos.hosts {
        if !host.digest_is_true() {
            verdicts.violated(
                "agreement",
                format_args!("the records of member {} give another digest", host.node),
            );
        }
        let agreed = host.with_rooms(|rooms| rooms.replica.agreed_members().0).unwrap_or_default();
        let is_lost = |id| chaos.hosts.iter().any(|other| other.node == id && other.is_lost());
        for member in agreed.iter().filter(|member| is_lost(member.id.0)) {
            verdicts.violated(
                "members",
                format_args!(
                    "{} is one for member {}, though its replacement was done",
                    member.id, host.node
                ),
            );
        }
    }
}

/// Whether a write goes through every single member: clients would go round one that is stuck.
async fn each_member_serves(chaos: &mut Chaos, verdicts: &Verdicts) -> bool {
    let deadline = Instant::now() + HEALED;
    for index in 0..chaos.hosts.len() {
        if chaos.hosts[index].is_lost() {
            continue;
        }
        let node = chaos.hosts[index].node;
        let coordinator = loop {
            match chaos.hosts[index].with_rooms(|rooms| rooms.coordinator.clone()) {
                Some(coordinator) => break coordinator,
                None if Instant::now() >= deadline => {
                    verdicts.violated("healing", format_args!("member {node} does not open"));
                    return false;
                }
                None => chaos.run(Duration::from_millis(100), false).await,
            }
        };
        if !within(chaos, probe(coordinator)).await {
            verdicts.violated("healing", format_args!("no write goes through member {node}"));
            return false;
        }
    }
    true
}

/// Runs something to its end, while the cluster goes on, for as long as healing may take.
async fn within(chaos: &mut Chaos, work: impl Future<Output = ()>) -> bool {
    tokio::select! {
        biased;
        done = timeout(HEALED, work) => done.is_ok(),
        () = chaos.run(2 * HEALED, false) => false,
    }
}

fn is_converged(hosts: &[Host], highest: u64) -> bool {
    hosts.iter().filter(|host| !host.is_lost()).all(|host| host.is_open() && host.applied() == highest)
}
