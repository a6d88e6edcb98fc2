//! Who hears of a change: one long list of watches, looked through for every event.

use std::collections::{BTreeMap, BTreeSet};

use quorate_core::change::{Change, ChangeKind, EventKind};
use quorate_core::request::WatchKind;

use super::parent_of;

/// A watch: watcher, id, path, kind.
pub type Watch = (u64, u64, String, WatchKind);

/// What one connection hears: watcher, event, path, its watches, whether the value is wanted.
pub type Heard = (u64, EventKind, String, Vec<u64>, bool);

/// All watches, with whether they want values.
#[derive(Clone, Debug, Default)]
pub struct NaiveWatches {
    pub watches: BTreeMap<Watch, bool>,
}

impl NaiveWatches {
    pub fn add(&mut self, watcher: u64, id: u64, path: &str, kind: WatchKind, with_value: bool) -> bool {
        let watch = (watcher, id, path.to_owned(), listed(kind));
        let is_new = !self.watches.contains_key(&watch);
        *self.watches.entry(watch).or_default() |= with_value;
        is_new
    }

    /// Whether there was anything to remove.
    pub fn remove(&mut self, watcher: u64, id: Option<u64>, path: &str, kind: Option<WatchKind>) -> bool {
        let before = self.watches.len();
        self.watches.retain(|watch, _| {
            let is_meant = watch.0 == watcher
                && watch.2 == path
                && id.is_none_or(|id| watch.1 == id)
                && kind.is_none_or(|kind| watch.3 == listed(kind));
            !is_meant
        });
        self.watches.len() < before
    }

    pub fn contains(&self, watcher: u64, path: &str, kind: Option<WatchKind>) -> bool {
        self.watches.keys().any(|watch| {
            watch.0 == watcher && watch.2 == path && kind.is_none_or(|kind| watch.3 == listed(kind))
        })
    }

    pub fn remove_watcher(&mut self, watcher: u64) {
        self.watches.retain(|watch, _| watch.0 != watcher);
    }

    pub fn trigger(&mut self, change: &Change) -> Vec<Heard> {
        let mut heard = Vec::new();
        for (event, path) in events(change) {
            let matching: Vec<(Watch, bool)> = self
                .watches
                .iter()
                .filter(|(watch, _)| hears(watch.3, &watch.2, event, &path))
                .map(|(watch, with_value)| (watch.clone(), *with_value))
                .collect();
            let watchers: BTreeSet<u64> = matching.iter().map(|(watch, _)| watch.0).collect();
            for watcher in watchers {
                let mine = || matching.iter().filter(|(watch, _)| watch.0 == watcher);
                let ids: BTreeSet<u64> = mine().map(|(watch, _)| watch.1).collect();
                let with_value = mine().any(|(_, with_value)| *with_value);
                heard.push((watcher, event, path.clone(), ids.into_iter().collect(), with_value));
            }
            for (watch, _) in matching {
                if matches!(watch.3, WatchKind::Data | WatchKind::Child) {
                    self.watches.remove(&watch);
                }
            }
        }
        heard
    }
}

/// The events of a change, in order.
pub fn events(change: &Change) -> Vec<(EventKind, String)> {
    let path = change.path.to_string();
    let parent = parent_of(&path).to_owned();
    match change.kind {
        ChangeKind::Created => {
            vec![(EventKind::NodeCreated, path), (EventKind::NodeChildrenChanged, parent)]
        }
        ChangeKind::Deleted => {
            vec![(EventKind::NodeDeleted, path), (EventKind::NodeChildrenChanged, parent)]
        }
        ChangeKind::DataChanged => vec![(EventKind::NodeDataChanged, path)],
    }
}

/// Whether a watch hears an event.
pub fn hears(kind: WatchKind, watched: &str, event: EventKind, path: &str) -> bool {
    use EventKind::*;
    let is_below = watched == "/" || path.starts_with(&format!("{watched}/"));
    match kind {
        WatchKind::Data | WatchKind::Exists => watched == path && event != NodeChildrenChanged,
        WatchKind::Child => watched == path && matches!(event, NodeDeleted | NodeChildrenChanged),
        WatchKind::Persistent => watched == path,
        WatchKind::Recursive => (watched == path || is_below) && event != NodeChildrenChanged,
    }
}

/// Data and exists watches share one list.
fn listed(kind: WatchKind) -> WatchKind {
    if kind == WatchKind::Exists { WatchKind::Data } else { kind }
}
