//! Tells operators what is watched: the counts, and all watches by watcher or by path.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::{WatcherId, Watches};
use crate::request::{WatchId, WatchKind};

/// How much is watched.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct WatchCounts {
    /// Watches.
    pub watches: usize,
    /// Paths that have any.
    pub paths: usize,
    /// Connections that have any.
    pub watchers: usize,
}

impl Watches {
    /// The counts (`wchs`).
    pub fn counts(&self) -> WatchCounts {
        WatchCounts { watches: self.count, paths: self.paths.len(), watchers: self.watchers.len() }
    }

    /// How many watches a connection has.
    pub fn count_of(&self, watcher: WatcherId) -> usize {
        self.watchers.get(&watcher).map_or(0, |watches| watches.len())
    }

    /// A connection's watches, sorted. Exists watches are listed as data watches: they share one list.
    pub fn paths_of(&self, watcher: WatcherId) -> Vec<(String, WatchKind, WatchId)> {
        let watches = self.watchers.get(&watcher).into_iter().flatten();
        let mut list: Vec<_> = watches.map(|watch| (watch.path.to_string(), watch.kind, watch.id)).collect();
        list.sort_unstable();
        list
    }

    /// The watched paths of every connection, sorted, each path once (`wchc`).
    pub fn by_watcher(&self) -> Vec<(WatcherId, Vec<Arc<str>>)> {
        let mut list: Vec<_> = self
            .watchers
            .iter()
            .map(|(watcher, watches)| {
                let paths: BTreeSet<&Arc<str>> = watches.iter().map(|watch| &watch.path).collect();
                (*watcher, paths.into_iter().cloned().collect())
            })
            .collect();
        list.sort_unstable_by_key(|(watcher, _)| *watcher);
        list
    }

    /// The connections that watch each path, sorted, each connection once (`wchp`).
    pub fn by_path(&self) -> Vec<(Arc<str>, Vec<WatcherId>)> {
        let mut list: Vec<_> = self
            .paths
            .iter()
            .map(|(path, entry)| {
                let watchers: BTreeSet<WatcherId> =
                    entry.lists.iter().flat_map(|list| list.keys().map(|(watcher, _)| *watcher)).collect();
                (path.clone(), watchers.into_iter().collect())
            })
            .collect();
        list.sort_unstable_by(|(one, _), (other, _)| one.cmp(other));
        list
    }
}
