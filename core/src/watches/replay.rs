//! What a watch missed: from the change log, or, where only Stats are at hand, from the node as it is.
//!
//! Both are pure questions; the registry is not touched. Whoever asks registers the watch
//! afterwards, in the same step, unless it was a one-shot watch and has fired.

use std::sync::Arc;

use super::Watches;
use super::trigger::{ancestors, body, triggers};
use crate::acl::AclEntry;
use crate::change::{Change, EventKind, WatchEvent};
use crate::id::Zxid;
use crate::request::{WatchId, WatchKind};
use crate::znode::Stat;

impl Watches {
    /// The events that this watch would have got from `change`: at most one today. A one-shot watch
    /// is gone with the first; the caller stops there and does not register it.
    ///
    /// A watch hears at most one event of a change, and an event's position is its change's. So a
    /// client that remembers a position *for each watch* (the last one heard, or a later one that
    /// the member said it delivered through) resumes with nothing lost and nothing repeated.
    pub fn replay(
        id: WatchId,
        path: &str,
        kind: WatchKind,
        with_value: bool,
        change: &Change,
    ) -> Vec<(WatchEvent, Arc<[AclEntry]>)> {
        let list = kind.list();
        triggers(change)
            .filter(|trigger| trigger.heard_by.contains(&list))
            .filter(|trigger| {
                trigger.path == path
                    || list == WatchKind::Recursive && ancestors(trigger.path).any(|above| above == path)
            })
            .map(|trigger| {
                let body = Arc::new(body(&trigger, change));
                (WatchEvent { body, with_value, watches: vec![id] }, trigger.acl.clone())
            })
            .collect()
    }
}

/// What a client that knew a node up to `since` is told at once when it leaves a watch again
/// (ZooKeeper's setWatches, SEMANTICS.md 49); `None`: nothing, the watch is armed again.
///
/// `stat` is the node's now, `None` if it is missing. Unlike [`Watches::replay`] this needs no
/// change log, and tells less: one event, whatever happened in between.
pub fn rearm(kind: WatchKind, stat: Option<&Stat>, since: Zxid) -> Option<EventKind> {
    match (kind, stat) {
        (WatchKind::Persistent | WatchKind::Recursive, _) => None,
        (WatchKind::Exists, stat) => stat.map(|_| EventKind::NodeCreated),
        (WatchKind::Data | WatchKind::Child, None) => Some(EventKind::NodeDeleted),
        (WatchKind::Data, Some(stat)) => (stat.mzxid > since).then_some(EventKind::NodeDataChanged),
        (WatchKind::Child, Some(stat)) => (stat.pzxid > since).then_some(EventKind::NodeChildrenChanged),
    }
}
