//! Turns one change into events for those who watch, and consumes the one-shot watches.
//!
//! ```text
//! change        event, heard on the node                                   then, heard on the parent
//! created       NodeCreated      data, persistent, recursive (from here up)  NodeChildrenChanged  child, persistent
//! deleted       NodeDeleted      the same and child                          NodeChildrenChanged  child, persistent
//! data changed  NodeDataChanged  data, persistent, recursive (from here up)  -
//! ```
//! That is ZooKeeper's order. Each event reaches a connection once, however many of its watches
//! match (SEMANTICS.md 44–51); it names them all.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use super::{Watch, WatcherId, Watches};
use crate::acl::AclEntry;
use crate::change::{Change, ChangeKind, EventBody, EventKind, Value, WatchEvent};
use crate::path;
use crate::request::{WatchId, WatchKind};
use crate::znode::Stat;

/// Hands an event to one connection, with the list that must let the hearer READ.
pub type Deliver<'a> = dyn FnMut(WatcherId, WatchEvent, &Arc<[AclEntry]>) + 'a;

/// A watch that matched.
#[derive(Clone, Copy, Debug)]
pub(super) struct Hearer {
    watcher: WatcherId,
    id: WatchId,
    with_value: bool,
}

/// One event of a change, before anybody is known to hear it.
pub(super) struct Trigger<'a> {
    pub event: EventKind,
    /// Where it is heard.
    pub path: &'a str,
    /// Which watches on that path hear it; recursive ones on ancestors do too if they are among them.
    pub heard_by: &'static [WatchKind],
    /// Who must be able to READ.
    pub acl: &'a Arc<[AclEntry]>,
}

impl Watches {
    /// Delivers all events of one change, in ZooKeeper's order, one per connection and event, by
    /// watcher. One-shot watches that match are gone afterwards, heard or not. The list that comes
    /// with an event says who may READ it (SEMANTICS.md 53): the one who delivers must ask it.
    pub fn trigger(&mut self, change: &Change, deliver: &mut Deliver<'_>) {
        if self.count == 0 {
            return;
        }
        for trigger in triggers(change) {
            self.gather(&trigger);
            if !self.hearers.is_empty() {
                self.tell(&trigger, change, deliver);
            }
        }
    }

    /// Puts all watches that match into `hearers`, and the one-shot ones out of the registry.
    fn gather(&mut self, trigger: &Trigger<'_>) {
        if let Some(entry) = self.paths.get_mut(trigger.path) {
            let path = entry.path.clone();
            for kind in trigger.heard_by.iter().copied() {
                let from = self.hearers.len();
                self.hearers.extend(entry.list(kind).iter().map(hearer));
                if kind.is_one_shot() {
                    entry.list_mut(kind).clear();
                    consume(&mut self.watchers, &path, kind, &self.hearers[from..]);
                    self.count -= self.hearers.len() - from;
                }
            }
            if entry.is_empty() {
                self.paths.remove(&path);
            }
        }
        if self.recursive > 0 && trigger.heard_by.contains(&WatchKind::Recursive) {
            for ancestor in ancestors(trigger.path) {
                let list = self.paths.get(ancestor).map(|entry| entry.list(WatchKind::Recursive));
                self.hearers.extend(list.into_iter().flatten().map(hearer));
            }
        }
    }

    /// Delivers one event to all hearers, each connection once.
    fn tell(&mut self, trigger: &Trigger<'_>, change: &Change, deliver: &mut Deliver<'_>) {
        let mut hearers = std::mem::take(&mut self.hearers);
        hearers.sort_unstable_by_key(|hearer| (hearer.watcher, hearer.id));
        let body = Arc::new(body(trigger, change));
        for group in hearers.chunk_by(|one, other| one.watcher == other.watcher) {
            let mut watches: Vec<WatchId> = group.iter().map(|hearer| hearer.id).collect();
            watches.dedup();
            let with_value = group.iter().any(|hearer| hearer.with_value);
            let event = WatchEvent { body: body.clone(), with_value, watches };
            deliver(group[0].watcher, event, trigger.acl);
        }
        hearers.clear();
        self.hearers = hearers;
    }
}

/// The events of a change, in order.
pub(super) fn triggers(change: &Change) -> impl Iterator<Item = Trigger<'_>> {
    use WatchKind::{Child, Data, Persistent, Recursive};
    let (event, heard_by): (_, &'static [WatchKind]) = match change.kind {
        ChangeKind::Created => (EventKind::NodeCreated, &[Data, Persistent, Recursive]),
        ChangeKind::Deleted => (EventKind::NodeDeleted, &[Data, Child, Persistent, Recursive]),
        ChangeKind::DataChanged => (EventKind::NodeDataChanged, &[Data, Persistent, Recursive]),
    };
    let on_node = Trigger { event, path: &change.path, heard_by, acl: &change.acl };
    let parent = match change.kind {
        ChangeKind::DataChanged => None,
        ChangeKind::Created | ChangeKind::Deleted => ancestors(&change.path).next(),
    };
    let on_parent = parent.map(|path| {
        let event = EventKind::NodeChildrenChanged;
        Trigger { event, path, heard_by: &[Child, Persistent], acl: &change.parent_acl }
    });
    std::iter::once(on_node).chain(on_parent)
}

/// What an event says. Who hears that children changed may READ the parent, not necessarily the
/// child: so the child's value is left out, and its Stat is all zero unless both have the same list.
pub(super) fn body(trigger: &Trigger<'_>, change: &Change) -> EventBody {
    let is_own = trigger.event != EventKind::NodeChildrenChanged;
    let same_readers = || Arc::ptr_eq(&change.acl, &change.parent_acl) || change.acl == change.parent_acl;
    EventBody {
        position: change.position,
        kind: trigger.event,
        path: if is_own { change.path.clone() } else { trigger.path.into() },
        stat: if is_own || same_readers() { change.stat } else { Stat::default() },
        value: if is_own { change.value.clone() } else { Value::NotKept },
    }
}

/// The paths above this one, nearest first; none above the root.
pub(super) fn ancestors(path: &str) -> impl Iterator<Item = &str> {
    let above = |path: &str| match path::split_last(path) {
        Ok(("", "")) | Err(_) => None,
        Ok((parent, _)) => Some(parent.len()),
    };
    let mut rest = path;
    std::iter::from_fn(move || {
        let length = above(rest)?;
        rest = if length == 0 { &rest[..1] } else { &rest[..length] };
        Some(rest)
    })
}

fn hearer((&(watcher, id), &with_value): (&(WatcherId, WatchId), &bool)) -> Hearer {
    Hearer { watcher, id, with_value }
}

/// Takes one-shot watches that have fired off their watchers' side.
fn consume(
    watchers: &mut HashMap<WatcherId, HashSet<Watch>>,
    path: &Arc<str>,
    kind: WatchKind,
    fired: &[Hearer],
) {
    for hearer in fired {
        let watches = watchers.get_mut(&hearer.watcher).expect("both sides hold the same watches");
        watches.remove(&Watch { path: path.clone(), kind, id: hearer.id });
        if watches.is_empty() {
            watchers.remove(&hearer.watcher);
        }
    }
}
