//! A leader falls silent without its connections breaking: what followers asked of it, and what they
//! had for it, goes to the next one as soon as that one leads.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use jepsen_tests::simulation::clock::Clock;
use jepsen_tests::simulation::host::{Host, Setup, Shared};
use jepsen_tests::simulation::invariants::Inspector;
use jepsen_tests::simulation::network::Network;
use jepsen_tests::simulation::trace::Trace;
use jepsen_tests::simulation::verdicts::Verdicts;
use quorate_core::acl::AclEntry;
use quorate_core::command::{Create, Operation, RequestId};
use quorate_core::id::MemberId;
use quorate_core::znode::CreateMode;
use quorate_server::coordinator::Coordinator;
use quorate_server::environment::World;
use quorate_server::replica::Replica;
use quorate_server::replica::storage::SegmentSizes;
use tokio::sync::Notify;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};

/// A connection is given up after 4 s, an answer after 2 s; an election takes less than one.
const SOON: Duration = Duration::from_millis(1_500);

struct Cluster {
    hosts: Vec<Host>,
    network: Network,
    clock: Clock,
}

impl Cluster {
    async fn start() -> Cluster {
        let mut random = fastrand::Rng::with_seed(1);
        let trace = Trace::begin(None);
        let verdicts = Verdicts::new(trace.clone());
        let network = Network::new(random.fork(), trace.clone());
        let shared =
            Shared { network: network.clone(), inspector: Inspector::new(verdicts.clone(), trace), verdicts };
        let setup = Setup {
            members: 3,
            checkpoint_bytes: 1 << 20,
            checkpoint_interval: Duration::from_secs(60),
            segments: SegmentSizes { segment_bytes: 1 << 20, growth_bytes: 1 << 16 },
            disk_slowest: Duration::from_millis(1),
        };
        let clock = Clock::new(Instant::now(), random.fork());
        let hosts = (1..=setup.members).map(|node| {
            let (shared, tripped) = (shared.clone(), Arc::new(Notify::new()));
            Host::new(setup.config(node, false), &setup, shared, clock.clone(), random.fork(), tripped)
        });
        let mut hosts: Vec<Host> = hosts.collect();
        hosts.iter_mut().for_each(Host::start);
        while !hosts.iter().all(Host::is_open) || !hosts.iter().any(Host::leads) {
            sleep(Duration::from_millis(10)).await;
        }
        Cluster { hosts, network, clock }
    }

    fn follower(&self) -> (Coordinator, Replica) {
        let follower = self.hosts.iter().find(|host| !host.leads()).expect("one of three leads");
        let rooms = follower.with_rooms(|rooms| (rooms.coordinator.clone(), rooms.replica.clone()));
        rooms.expect("it is open")
    }

    /// Nothing reaches the leader any more, nor comes from it; no connection breaks.
    fn freeze_leader(&self) -> MemberId {
        let leader = self.hosts.iter().find(|host| host.leads()).expect("one of three leads").node;
        for other in self.hosts.iter().map(|host| host.node).filter(|node| *node != leader) {
            self.network.cut(leader, other);
            self.network.cut(other, leader);
        }
        MemberId(leader)
    }

    /// Writes through a follower, each safe to be proposed again.
    fn write(&self, writes: &mut JoinSet<()>, coordinator: &Coordinator, number: u128) {
        let (coordinator, issued) = (coordinator.clone(), self.clock.wall_clock());
        let request = RequestId { issued, nonce: number.to_be_bytes() };
        let create = Create {
            path: format!("/{number}"),
            data: Some(Bytes::from_static(b"x")),
            acl: AclEntry::open(),
            mode: CreateMode::Persistent,
        };
        writes.spawn(async move {
            let written = coordinator.write(Vec::new(), Operation::Create(create), Some(request)).await;
            written.expect("it is proposed until it is answered").result.expect("nobody else creates it");
        });
    }
}

#[tokio::test(start_paused = true)]
async fn reads_and_heartbeats_at_a_follower_wait_no_longer_than_the_election() {
    let cluster = Cluster::start().await;
    let (_, replica) = cluster.follower();
    replica.read_barrier().await.expect("there is a leader");
    cluster.freeze_leader();
    let asked = Instant::now();
    let read = replica.read_barrier();
    let touch = async {
        replica.touch(Vec::new()).await.expect_err("the frozen leader says nothing");
        asked.elapsed()
    };
    let (read, touched_after) = tokio::join!(read, touch);
    read.expect("another leader");
    assert!(touched_after < SOON, "{touched_after:?}");
    assert!(asked.elapsed() < SOON, "{:?}", asked.elapsed());
}

#[tokio::test(start_paused = true)]
async fn a_full_way_to_a_frozen_leader_delays_no_writes_to_the_next_one() {
    let cluster = Cluster::start().await;
    let (coordinator, replica) = cluster.follower();
    replica.read_barrier().await.expect("there is a leader");
    let frozen = cluster.freeze_leader();
    let mut writes = JoinSet::new();
    for number in 0..120 {
        cluster.write(&mut writes, &coordinator, number);
        for _ in 0..20 {
            tokio::task::yield_now().await; // each goes in a message of its own
        }
    }
    let mut leadership = replica.leadership();
    let next = leadership.wait_for(|known| known.leader.is_some_and(|leader| leader != frozen));
    timeout(SOON, next).await.expect("an election").expect("the member lives");
    let all = async {
        while let Some(written) = writes.join_next().await {
            written.expect("no write fails")
        }
    };
    timeout(Duration::from_millis(500), all).await.expect("all writes go to the new leader at once");
}
