//! Workloads: what is asked of a cluster, one a file.
//!
//! - steady ones run for a while against a cluster that stays up: set, create, get, mixed,
//!   fan_out, churn, lock, unary;
//! - hard ones kill members or fill the tree, and get a cluster of their own: failover, growth
//!   (commit cost, then memory), restart; tree fills it;
//! - closed_loop: sessions that keep a number of requests in flight; figures: what comes out.

mod churn;
mod closed_loop;
mod create;
mod failover;
mod fan_out;
mod figures;
mod get;
mod growth;
mod lock;
mod memory;
mod mixed;
mod restart;
mod set;
mod tree;
mod unary;

use std::time::{Duration, Instant};

use bytes::Bytes;
use clap::ValueEnum;

use crate::cluster::Cluster;
use crate::cluster::processes::cpu_micros;
use crate::failure::Outcome;
use crate::targets::{Connection, Freshness, Protocol};

pub use figures::{Figures, Meter, histogram};

/// Servers are at rest when they use less than a tenth of one processor for so long.
const SETTLE_LOOK: Duration = Duration::from_secs(1);
/// Longer is not waited for that.
const SETTLE_PATIENCE: Duration = Duration::from_secs(60);

/// What to run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, ValueEnum)]
pub enum Workload {
    /// Set one of 100 nodes a session: 8 sessions, 32 in flight each.
    Set,
    /// The same, one session and one in flight.
    SetOne,
    /// Create persistent nodes: 8 × 32.
    Create,
    /// Read from the asked member: 8 × 32.
    Get,
    /// Read linearizably: 8 × 32.
    GetLinearizable,
    /// Nine reads to one set: 64 × 4.
    Mixed,
    /// One writer, 1,000 watchers on connections of their own.
    FanOut,
    /// Connect, create an ephemeral node, leave: 16 at a time.
    Churn,
    /// One lock, 16 contenders.
    Lock,
    /// Unary gRPC creations: 8 × 8. ZooKeeper's protocol has none.
    Unary,
    /// kill -9 of the leader under load: until the next write is acknowledged.
    Failover,
    /// Cost of a set in a tree of 1,000 and of `--nodes` nodes, and memory.
    Growth,
    /// kill -9 of a follower with `--nodes` nodes: until it serves the last write.
    Restart,
}

impl Workload {
    /// Whether it needs a cluster of its own.
    pub fn is_hard(self) -> bool {
        matches!(self, Workload::Failover | Workload::Growth | Workload::Restart)
    }

    /// Whether this target has what the workload asks for.
    pub fn suits(self, protocol: Protocol) -> bool {
        self != Workload::Unary || protocol.has_unary_calls()
    }

    /// Sessions and requests in flight each, where they are not set otherwise.
    pub fn shape(self) -> (usize, usize) {
        match self {
            Workload::SetOne => (1, 1),
            Workload::Mixed => (64, 4),
            Workload::FanOut => (1000, 1),
            Workload::Churn | Workload::Lock => (16, 1),
            Workload::Unary => (8, 8),
            Workload::Failover => (6, 8),
            _ => (8, 32),
        }
    }
}

/// How a workload is run.
#[derive(Clone, Debug)]
pub struct Shape {
    /// Sessions.
    pub connections: usize,
    /// Requests that each keeps in flight.
    pub in_flight: usize,
    /// Bytes of a value.
    pub value_bytes: usize,
    /// How long; a tenth of it is warm-up.
    pub duration: Duration,
    /// Nodes of a grown tree.
    pub nodes: u64,
    /// How often a member is killed.
    pub kills: usize,
}

impl Shape {
    /// A value.
    pub fn value(&self) -> Bytes {
        Bytes::from(vec![b'x'; self.value_bytes])
    }
}

/// Whom a steady workload is run against.
#[derive(Clone, Debug)]
pub struct Subject {
    /// How it is spoken to.
    pub protocol: Protocol,
    /// Its members; session i goes to member i modulo their number.
    pub endpoints: Vec<String>,
    /// Their processes, for CPU time and memory; may be empty.
    pub pids: Vec<u32>,
}

impl Subject {
    async fn connect(&self, index: usize) -> Outcome<Box<dyn Connection>> {
        let endpoint = self.endpoints[index % self.endpoints.len()].clone();
        self.protocol.connect(&[endpoint]).await
    }

    /// Waits until the servers have done what an earlier workload left them to do (bounded).
    async fn settle(&self) {
        let until = Instant::now() + SETTLE_PATIENCE;
        while !self.pids.is_empty() && Instant::now() < until {
            let before = cpu_micros(&self.pids);
            tokio::time::sleep(SETTLE_LOOK).await;
            let used = Duration::from_micros(cpu_micros(&self.pids).saturating_sub(before));
            if used < SETTLE_LOOK / 10 {
                return;
            }
        }
    }

    async fn connect_all(&self, count: usize) -> Outcome<Vec<Box<dyn Connection>>> {
        let mut connections = Vec::new();
        for index in 0..count {
            connections.push(self.connect(index).await?);
        }
        Ok(connections)
    }
}

/// Runs a steady workload, once the servers are at rest.
pub async fn run_steady(workload: Workload, subject: &Subject, shape: &Shape) -> Outcome<Vec<Figures>> {
    subject.settle().await;
    match workload {
        Workload::Set => set::run("set", subject, shape).await,
        Workload::SetOne => set::run("set, 1 in flight", subject, shape).await,
        Workload::Create => create::run(subject, shape).await,
        Workload::Get => get::run(subject, shape, Freshness::Local).await,
        Workload::GetLinearizable => get::run(subject, shape, Freshness::Linearizable).await,
        Workload::Mixed => mixed::run(subject, shape).await,
        Workload::FanOut => fan_out::run(subject, shape).await,
        Workload::Churn => churn::run(subject, shape).await,
        Workload::Lock => lock::run(subject, shape).await,
        Workload::Unary => unary::run(subject, shape).await,
        Workload::Failover | Workload::Growth | Workload::Restart => {
            Err("this workload kills members or fills the tree: use `compare`".into())
        }
    }
}

/// Runs hard workloads, in their order, on one cluster: growth leaves restart its tree.
pub async fn run_hard(workload: Workload, cluster: &mut Cluster, shape: &Shape) -> Outcome<Vec<Figures>> {
    match workload {
        Workload::Failover => failover::run(cluster, shape).await,
        Workload::Growth => {
            let mut figures = growth::run(cluster, shape).await?;
            figures.extend(memory::run(cluster, shape).await);
            Ok(figures)
        }
        Workload::Restart => restart::run(cluster, shape).await,
        steady => Err(format!("{steady:?} needs no cluster of its own").into()),
    }
}

/// Creates a node's missing ancestors and the node itself.
async fn ensure(connection: &dyn Connection, path: &str) {
    let ends = path.match_indices('/').map(|(end, _)| end).skip(1).chain([path.len()]);
    for end in ends {
        // It may exist from an earlier round; whatever else is wrong, the workload will say.
        let _ = connection.create(&path[..end], &Bytes::new()).await;
    }
}

/// Creates 100 nodes below `path`.
async fn ensure_hundred(connection: &dyn Connection, path: &str, value: &Bytes) {
    ensure(connection, path).await;
    let creations = (0..100).map(|node| connection.create(&format!("{path}/{node}"), value));
    // As above.
    let _ = futures_util::future::join_all(creations).await;
}

/// Paths of the 100 nodes a session of some workload.
fn hundred(root: &str, sessions: usize) -> Vec<Vec<String>> {
    (0..sessions).map(|session| (0..100).map(|node| format!("{root}/{session}/{node}")).collect()).collect()
}

/// Names that no earlier run on the same cluster has used.
fn unique() -> String {
    format!("{:016x}", fastrand::u64(..))
}
