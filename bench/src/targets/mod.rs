//! Targets: three protocols behind one trait, so that every workload is written once.
//!
//! - [`Connection`]: a client's session with what the workloads ask of it;
//! - [`Protocol`]: which client drives it; one a file: quorate, unary, zookeeper, etcd.
//!
//! A target knows no server process (cluster/) and no workload (workloads/). ZooKeeper's client may
//! be pointed at any server that speaks its protocol.

mod etcd;
mod quorate;
mod unary;
mod zookeeper;

use std::time::Duration;

use bytes::Bytes;
use clap::ValueEnum;
use futures_util::future::BoxFuture;
use futures_util::stream::BoxStream;

use crate::failure::{Failure, Outcome};

pub use etcd::status as etcd_status;

/// The answer to a request that is on its way, or goes when this is first polled.
pub type Answer<T> = BoxFuture<'static, Outcome<T>>;

/// One message for each change of a watched node.
pub type Changes = BoxStream<'static, Outcome<()>>;

/// How long a connection may take to come about.
const CONNECT_PATIENCE: Duration = Duration::from_secs(15);

/// How fresh a read must be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Freshness {
    /// From the member that is asked: Quorate's session reads, ZooKeeper's plain reads, etcd's
    /// serializable ones. Quorate and ZooKeeper show a session its own writes; etcd does not.
    Local,
    /// As new as everything acknowledged before: ZooKeeper's by a sync before the read.
    Linearizable,
}

/// A client's session with one cluster.
///
/// Implementers queue a request when its method is called if [`Connection::answers_in_order`];
/// otherwise it may wait for the first poll.
pub trait Connection: Send + Sync {
    /// Whether answers come in the order of the requests, so that awaiting the oldest is enough.
    fn answers_in_order(&self) -> bool;

    /// Creates a persistent node; fails if it exists.
    fn create(&self, path: &str, value: &Bytes) -> Answer<()>;

    /// Creates many persistent nodes in one transaction.
    fn create_many(&self, paths: &[String], value: &Bytes) -> Answer<()>;

    /// Creates a node that goes with this connection's session.
    fn create_ephemeral(&self, path: &str, value: &Bytes) -> Answer<()>;

    /// Sets an existing node's data.
    fn set(&self, path: &str, value: &Bytes) -> Answer<()>;

    /// Reads a node's data.
    fn get(&self, path: &str, freshness: Freshness) -> Answer<Bytes>;

    /// Leaves a lasting watch on a node; the answer comes when it stands.
    fn watch(&self, path: &str) -> Answer<Changes>;

    /// Waits for a lock, with the client's own recipe or the server's own service.
    fn lock(&self, path: &str) -> Answer<Box<dyn Held>>;

    /// Ends the session; ephemeral nodes are gone when this is answered.
    fn close(self: Box<Self>) -> Answer<()>;
}

/// A lock that is held.
pub trait Held: Send {
    /// Gives it up. Answered when the request is on its way or done, as the client does it.
    fn release(self: Box<Self>) -> Answer<()>;
}

/// How a cluster is spoken to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, ValueEnum)]
pub enum Protocol {
    /// Quorate's session stream, through its SDK.
    Quorate,
    /// Quorate's ZooKeeper door, through the same client as a real ZooKeeper.
    QuorateZookeeper,
    /// ZooKeeper's wire protocol.
    Zookeeper,
    /// etcd's v3 gRPC API.
    Etcd,
}

impl Protocol {
    /// As it is written in tables and files.
    pub fn name(self) -> &'static str {
        match self {
            Protocol::Quorate => "quorate",
            Protocol::QuorateZookeeper => "quorate-zookeeper",
            Protocol::Zookeeper => "zookeeper",
            Protocol::Etcd => "etcd",
        }
    }

    /// Opens a session through the first of `endpoints`; the others are for when that one dies.
    pub async fn connect(self, endpoints: &[String]) -> Outcome<Box<dyn Connection>> {
        let connect = async {
            match self {
                Protocol::Quorate => quorate::connect(endpoints).await,
                Protocol::QuorateZookeeper | Protocol::Zookeeper => zookeeper::connect(endpoints).await,
                Protocol::Etcd => etcd::connect(endpoints).await,
            }
        };
        within(CONNECT_PATIENCE, "a connection", connect).await
    }

    /// Whether it has calls without a session.
    pub fn has_unary_calls(self) -> bool {
        matches!(self, Protocol::Quorate | Protocol::Etcd)
    }

    /// Opens a connection for unary calls without a session: Quorate's Znodes service. For etcd
    /// this is the only kind; ZooKeeper has none.
    pub async fn connect_unary(self, endpoints: &[String]) -> Outcome<Box<dyn Connection>> {
        match self {
            Protocol::Quorate => within(CONNECT_PATIENCE, "a connection", unary::connect(endpoints)).await,
            Protocol::Etcd => self.connect(endpoints).await,
            Protocol::QuorateZookeeper | Protocol::Zookeeper => {
                Err("ZooKeeper's protocol has no unary calls".into())
            }
        }
    }
}

/// Ends a wait that takes too long.
pub async fn within<T>(limit: Duration, what: &str, wait: impl Future<Output = Outcome<T>>) -> Outcome<T> {
    match tokio::time::timeout(limit, wait).await {
        Ok(outcome) => outcome,
        Err(_) => Err(format!("{what}: not in {limit:?}").into()),
    }
}

/// What a target cannot do.
fn unsupported<T>(what: &'static str) -> Answer<T> {
    Box::pin(async move { Err(Failure::from(format!("{what} is not a call of this target"))) })
}
