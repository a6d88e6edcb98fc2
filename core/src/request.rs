//! Reads and watches as doors ask for them. Writes are [`crate::command::Operation`]s.

use crate::id::{Position, Zxid};

/// How fresh a read must be.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Consistency {
    /// Sees every write acknowledged anywhere before it was sent.
    #[default]
    Linearizable,
    /// Sees the session's own writes and never an older view than it saw.
    Session,
    /// Sees at least this transaction.
    AtLeast(Zxid),
}

/// A read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ReadRequest {
    /// Data and Stat; may leave a data watch on success.
    Get {
        /// The node.
        path: String,
        /// Leave a one-shot data watch.
        watch: Option<WatchId>,
    },
    /// Stat; may leave a watch on a missing node too.
    Exists {
        /// The node.
        path: String,
        /// Leave a one-shot exists watch.
        watch: Option<WatchId>,
    },
    /// The ACL.
    GetAcl {
        /// The node.
        path: String,
    },
    /// Children in name order; may leave a child watch on success.
    List {
        /// The parent.
        path: String,
        /// Names after this one only.
        after: Option<String>,
        /// At most so many; 0 is all.
        limit: u32,
        /// With each child's Stat.
        with_stat: bool,
        /// With each child's data (those that the caller may READ).
        with_data: bool,
        /// Leave a one-shot child watch.
        watch: Option<WatchId>,
    },
    /// The session's own ephemerals whose path starts with a prefix.
    Ephemerals {
        /// "/" or blank is all.
        prefix: String,
    },
    /// How many nodes are below this one.
    CountDescendants {
        /// The top.
        path: String,
    },
    /// Gets and lists, with an error per operation.
    Multi(Vec<ReadRequest>),
    /// Who am I.
    WhoAmI,
    /// Later reads of this connection see everything committed before this.
    Sync {
        /// Echoed, even if missing.
        path: String,
    },
    /// Leave a watch.
    AddWatch {
        /// The door's name for it; events carry it.
        id: WatchId,
        /// The node (or the top of the subtree).
        path: String,
        /// Which events.
        kind: WatchKind,
        /// Replay what happened after this position first.
        since: Option<Position>,
        /// Events carry the value, where it was kept.
        with_value: bool,
    },
    /// Remove watches of this connection.
    RemoveWatch {
        /// Only this one, or all that match.
        id: Option<WatchId>,
        /// The node.
        path: String,
        /// Which; `None` is any.
        kind: Option<WatchKind>,
    },
    /// Whether such a watch exists.
    CheckWatch {
        /// The node.
        path: String,
        /// Which; `None` is any.
        kind: Option<WatchKind>,
    },
    /// All sessions (operators).
    Sessions,
}

/// A connection's own name for a watch. Doors that know no names use 0 for all.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct WatchId(pub u64);

/// Which events a watch gets.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum WatchKind {
    /// Once: data changed or node deleted. Shares one list with `Exists`.
    Data,
    /// Once: created, data changed or deleted.
    Exists,
    /// Once: children changed or node deleted.
    Child,
    /// Always: all four types, this node.
    Persistent,
    /// Always: created, deleted, data changed, this node and all below.
    Recursive,
}
