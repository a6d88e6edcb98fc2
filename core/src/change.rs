//! What a transaction changed, and the events that watchers see of it.
//!
//! Apply returns [`Change`]s in order; the state keeps them (bounded) for resuming watches;
//! [`crate::watches`] turns them into [`WatchEvent`]s.

use std::sync::Arc;

use bytes::Bytes;

use crate::acl::AclEntry;
use crate::id::Position;
use crate::request::WatchId;
use crate::znode::Stat;

/// What happened to a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ChangeKind {
    /// It was created.
    Created,
    /// It was deleted.
    Deleted,
    /// Its data was set.
    DataChanged,
}

/// One node's change, as the change log keeps it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// The transaction and the change's number in it.
    pub position: Position,
    /// What happened.
    pub kind: ChangeKind,
    /// The node.
    pub path: Arc<str>,
    /// After the change; before it for a deletion.
    pub stat: Stat,
    /// The data after the change, if small enough to keep.
    pub value: Value,
    /// The node's ACL in force (before a deletion): who may hear of it.
    pub acl: Arc<[AclEntry]>,
    /// The parent's ACL: who may hear that the parent's children changed.
    pub parent_acl: Arc<[AclEntry]>,
}

/// A value beside an event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Value {
    /// The data (null is not empty).
    Kept(Option<Bytes>),
    /// Too large to keep: read the node.
    NotKept,
}

/// The four event types of ZooKeeper.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum EventKind {
    /// The node was created.
    NodeCreated,
    /// The node was deleted.
    NodeDeleted,
    /// The node's data was set.
    NodeDataChanged,
    /// A child of the node was created or deleted.
    NodeChildrenChanged,
}

/// What an event says: shared by all connections that hear of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EventBody {
    /// The transaction and the change's number in it.
    pub position: Position,
    /// What happened.
    pub kind: EventKind,
    /// The watched node that it happened to (the parent, for children changed).
    pub path: Arc<str>,
    /// The changed node's Stat; the changed *child's* for children changed.
    pub stat: Stat,
    /// The changed node's data.
    pub value: Value,
}

/// One event for one connection: one per trigger, however many of its watches match.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WatchEvent {
    /// What it says.
    pub body: Arc<EventBody>,
    /// Whether a matching watch asked for the value; doors leave it out otherwise.
    pub with_value: bool,
    /// The connection's watches that matched, sorted.
    pub watches: Vec<WatchId>,
}
