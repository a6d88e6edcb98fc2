//! A session's requests in the order sent, between a door and the coordinator.
//!
//! Bounded by count: when it is full the door stops reading from its socket, so a client that
//! sends faster than it is served is slowed down, not refused.

use quorate_core::acl::Identity;
use quorate_core::command::Operation;
use quorate_core::error::Error;
use quorate_core::id::{WriteNumber, Zxid};
use quorate_core::request::{Consistency, ReadRequest, WatchKind};
use tokio::sync::mpsc;

/// Requests that may wait before the door stops reading.
const REQUESTS_MAX: usize = 4096;

/// One request of a connected session.
#[derive(Debug)]
pub enum Incoming {
    /// A numbered write.
    Write {
        /// Dense per session; a door whose clients know no numbers counts for them.
        number: WriteNumber,
        /// The client holds all replies up to here.
        acknowledged: WriteNumber,
        /// What to do.
        operation: Operation,
    },
    /// A read, or a change of this connection's watches.
    Read {
        /// Comes back with the reply.
        xid: u64,
        /// What to read.
        request: ReadRequest,
        /// How fresh.
        consistency: Consistency,
    },
    /// Watches that the client had on another connection, which told it everything up to `since`
    /// (ZooKeeper's setWatches): each fires at once, or is left again.
    Rearm {
        /// Comes back with the answer.
        xid: u64,
        /// What the client has seen.
        since: Zxid,
        /// Kinds and paths.
        watches: Vec<(WatchKind, String)>,
    },
    /// The client is alive and wants to know that the leader knows it.
    Heartbeat {
        /// Comes back with the answer.
        sequence: u64,
    },
    /// The connection proved another identity; later requests carry it.
    Identified {
        /// Comes back with the answer.
        xid: u64,
        /// Who.
        identity: Identity,
    },
    /// A request that the door could not understand, answered in its turn.
    Refused {
        /// Comes back with the answer.
        xid: u64,
        /// Why.
        error: Error,
    },
}

/// The door's end.
pub type InboxSender = mpsc::Sender<Incoming>;
/// The coordinator's end.
pub type InboxReceiver = mpsc::Receiver<Incoming>;

/// Makes a connection's inbox.
pub fn inbox() -> (InboxSender, InboxReceiver) {
    mpsc::channel(REQUESTS_MAX)
}
