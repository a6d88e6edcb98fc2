//! Who on this member wants to hear of what: the local registry of watches.
//!
//! Local, not replicated: a watch belongs to one connection ([`WatcherId`]) and dies with it.
//! Whoever applies a command hands each [`crate::change::Change`] to [`Watches::trigger`]
//! (trigger.rs) before it answers the writer; whether a hearer may READ is judged at delivery,
//! by the list that comes with each event. A client that comes back asks the change log and
//! [`Watches::replay`] (replay.rs) for what it missed.
//!
//! Invariants:
//! - `paths` and `watchers` hold the same watches, seen from both sides, and no empty entries;
//! - data and exists watches are one list (SEMANTICS.md 45): [`WatchKind::Exists`] is kept as `Data`;
//! - nobody sees the hash maps' order: events go out by watcher, listings are sorted.
//!
//! Not here: limits. [`Watches::count_of`] lets the owner of connections set one.

mod listing;
mod replay;
#[cfg(test)]
mod tests;
mod trigger;

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use crate::error::{Error, ErrorKind};
use crate::request::{WatchId, WatchKind};

pub use listing::WatchCounts;
pub use replay::rearm;
pub use trigger::Deliver;

/// One connection, to its member.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct WatcherId(pub u64);

/// The watches of all of a member's connections.
#[derive(Debug, Default)]
pub struct Watches {
    paths: HashMap<Arc<str>, PathWatches>,
    watchers: HashMap<WatcherId, HashSet<Watch>>,
    /// How many watches there are.
    count: usize,
    /// How many of them are recursive: without any, no change looks at its ancestors.
    recursive: usize,
    /// Room for those who hear one event, kept from one trigger to the next.
    hearers: Vec<trigger::Hearer>,
}

/// A connection leaves no more watches than this. A further one is refused as
/// [`ErrorKind::TooLarge`] by whoever asks [`Watches::check_room`]: watches hold memory, and cost
/// whoever leaves them nothing.
pub const WATCHES_MAX: usize = 100_000;

/// One watch, as its watcher's side keeps it.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
struct Watch {
    path: Arc<str>,
    kind: WatchKind,
    id: WatchId,
}

/// The watches on one path, by kind, then watcher, then id.
#[derive(Debug)]
struct PathWatches {
    path: Arc<str>,
    lists: [List; LISTS.len()],
}

/// Watches of one kind on one path, each with whether it wants values.
type List = BTreeMap<(WatcherId, WatchId), bool>;

/// The kinds that have a list of their own.
const LISTS: [WatchKind; 4] =
    [WatchKind::Data, WatchKind::Child, WatchKind::Persistent, WatchKind::Recursive];

impl WatchKind {
    /// Whether a watch of this kind is gone once it has fired.
    pub fn is_one_shot(self) -> bool {
        !matches!(self, WatchKind::Persistent | WatchKind::Recursive)
    }

    /// The kind under which a watch of this kind is kept.
    fn list(self) -> WatchKind {
        match self {
            WatchKind::Exists => WatchKind::Data,
            kind => kind,
        }
    }
}

impl Watches {
    /// No watches.
    pub fn new() -> Watches {
        Watches::default()
    }

    /// Leaves a watch; returns whether it is new. The same watcher, id, path and kind again is the
    /// same watch, which then wants values if either registration does.
    pub fn add(
        &mut self,
        watcher: WatcherId,
        id: WatchId,
        path: &str,
        kind: WatchKind,
        with_value: bool,
    ) -> bool {
        let kind = kind.list();
        if !self.paths.contains_key(path) {
            let path: Arc<str> = path.into();
            self.paths.insert(path.clone(), PathWatches::new(path));
        }
        let entry = self.paths.get_mut(path).expect("inserted above if it was missing");
        let mut is_new = false;
        let wants_value = entry.list_mut(kind).entry((watcher, id)).or_insert_with(|| {
            is_new = true;
            false
        });
        *wants_value |= with_value;
        if is_new {
            let watch = Watch { path: entry.path.clone(), kind, id };
            self.watchers.entry(watcher).or_default().insert(watch);
            self.count += 1;
            self.recursive += usize::from(kind == WatchKind::Recursive);
        }
        is_new
    }

    /// Whether a connection may leave so many more.
    ///
    /// # Errors
    /// [`ErrorKind::TooLarge`] beyond [`WATCHES_MAX`].
    pub fn check_room(&self, watcher: WatcherId, more: usize) -> Result<(), Error> {
        let left = self.watchers.get(&watcher).map_or(0, HashSet::len);
        if left + more > WATCHES_MAX {
            let detail = format!("the connection's watches: {left} and {more} more, at most {WATCHES_MAX}");
            return Err(Error::new(ErrorKind::TooLarge, detail));
        }
        Ok(())
    }

    /// Removes a connection's watches on a path: of one kind or of any, one or all that match.
    /// Removing a persistent watch leaves the one-shot ones.
    ///
    /// # Errors
    /// [`ErrorKind::NoWatcher`] if none matches.
    pub fn remove(
        &mut self,
        watcher: WatcherId,
        id: Option<WatchId>,
        path: &str,
        kind: Option<WatchKind>,
    ) -> Result<(), Error> {
        let mut removed = 0;
        for list in LISTS.into_iter().filter(|list| kind.is_none_or(|kind| kind.list() == *list)) {
            let ids = match id {
                Some(id) => vec![id],
                None => self.ids_on(watcher, path, list).collect(),
            };
            for id in ids {
                removed += usize::from(self.remove_one(watcher, id, path, list));
            }
        }
        match removed {
            0 => Err(Error::new(ErrorKind::NoWatcher, crate::path::excerpt(path))),
            _ => Ok(()),
        }
    }

    /// Whether a connection has a watch on a path, of one kind or of any.
    pub fn contains(&self, watcher: WatcherId, path: &str, kind: Option<WatchKind>) -> bool {
        LISTS
            .into_iter()
            .filter(|list| kind.is_none_or(|kind| kind.list() == *list))
            .any(|list| self.ids_on(watcher, path, list).next().is_some())
    }

    /// Removes all watches of a connection.
    pub fn remove_watcher(&mut self, watcher: WatcherId) {
        for watch in self.watchers.remove(&watcher).into_iter().flatten() {
            self.forget_on_path(watcher, &watch);
        }
    }

    fn ids_on(&self, watcher: WatcherId, path: &str, list: WatchKind) -> impl Iterator<Item = WatchId> {
        let all = (watcher, WatchId(0))..=(watcher, WatchId(u64::MAX));
        let list = self.paths.get(path).map(|entry| entry.list(list));
        list.into_iter().flat_map(move |list| list.range(all.clone())).map(|((_, id), _)| *id)
    }

    fn remove_one(&mut self, watcher: WatcherId, id: WatchId, path: &str, kind: WatchKind) -> bool {
        let Some(entry) = self.paths.get(path) else { return false };
        let watch = Watch { path: entry.path.clone(), kind, id };
        let is_known = self.forget_on_watcher(watcher, &watch);
        if is_known {
            self.forget_on_path(watcher, &watch);
        }
        is_known
    }

    /// Takes a watch off its watcher's side; returns whether it was there.
    fn forget_on_watcher(&mut self, watcher: WatcherId, watch: &Watch) -> bool {
        let Some(watches) = self.watchers.get_mut(&watcher) else { return false };
        let was_there = watches.remove(watch);
        if watches.is_empty() {
            self.watchers.remove(&watcher);
        }
        was_there
    }

    /// Takes a watch off its path's side and out of the counts.
    fn forget_on_path(&mut self, watcher: WatcherId, watch: &Watch) {
        let entry = self.paths.get_mut(&watch.path).expect("both sides hold the same watches");
        entry.list_mut(watch.kind).remove(&(watcher, watch.id));
        if entry.is_empty() {
            self.paths.remove(&watch.path);
        }
        self.count -= 1;
        self.recursive -= usize::from(watch.kind == WatchKind::Recursive);
    }
}

impl PathWatches {
    fn new(path: Arc<str>) -> PathWatches {
        PathWatches { path, lists: Default::default() }
    }

    fn list(&self, kind: WatchKind) -> &List {
        &self.lists[place(kind)]
    }

    fn list_mut(&mut self, kind: WatchKind) -> &mut List {
        &mut self.lists[place(kind)]
    }

    fn is_empty(&self) -> bool {
        self.lists.iter().all(List::is_empty)
    }
}

/// Where a kind's list stands in [`LISTS`].
fn place(kind: WatchKind) -> usize {
    match kind {
        WatchKind::Data | WatchKind::Exists => 0,
        WatchKind::Child => 1,
        WatchKind::Persistent => 2,
        WatchKind::Recursive => 3,
    }
}
