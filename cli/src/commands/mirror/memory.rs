//! A tree in memory, in place of a cluster's, for tests. It refuses what both sides refuse: to delete
//! what has children, and children of a session's node.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use quorate::{AclEntry, Permissions};

use super::side::Node;

/// See the file's comment. Clones are the same tree.
#[derive(Clone, Debug)]
pub(super) struct Memory {
    nodes: Arc<Mutex<BTreeMap<String, Node>>>,
}

impl Memory {
    /// The root, and empty nodes.
    pub fn new(paths: &[&str]) -> Memory {
        let tree = Memory { nodes: Arc::default() };
        for path in ["/"].iter().chain(paths) {
            tree.put(path);
        }
        tree
    }

    /// Makes an empty node.
    pub fn put(&self, path: &str) {
        self.nodes().insert(path.to_owned(), empty(false));
    }

    /// Makes a session's nodes.
    pub fn hold(&self, paths: &[&str]) {
        self.nodes().extend(paths.iter().map(|path| ((*path).to_owned(), empty(true))));
    }

    pub fn paths(&self) -> Vec<String> {
        self.nodes().keys().cloned().collect()
    }

    pub fn read(&self, path: &str) -> Option<Node> {
        let nodes = self.nodes();
        let mut node = nodes.get(path)?.clone();
        node.children = nodes.keys().filter_map(|below| name_below(path, below)).collect();
        Some(node)
    }

    pub fn create(&self, path: &str, node: &Node) -> bool {
        let parent = path.rsplit_once('/').map(|(parent, _)| if parent.is_empty() { "/" } else { parent });
        let mut nodes = self.nodes();
        if parent.and_then(|parent| nodes.get(parent)).is_none_or(|parent| parent.is_ephemeral) {
            return false;
        }
        nodes.entry(path.to_owned()).or_insert_with(|| node.clone());
        true
    }

    pub fn change(&self, path: &str, change: impl FnOnce(&mut Node)) {
        change(self.nodes().get_mut(path).expect("it is there"));
    }

    pub fn delete(&self, path: &str) -> bool {
        let mut nodes = self.nodes();
        !nodes.keys().any(|below| name_below(path, below).is_some()) && nodes.remove(path).is_some()
    }

    fn nodes(&self) -> MutexGuard<'_, BTreeMap<String, Node>> {
        self.nodes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn empty(is_ephemeral: bool) -> Node {
    let acl = vec![AclEntry { permissions: Permissions::ALL, scheme: "world".into(), id: "anyone".into() }];
    Node { data: "".into(), acl, children: Vec::new(), is_ephemeral }
}

/// The name of `below` if it is a child of `path`.
fn name_below(path: &str, below: &str) -> Option<String> {
    let name = below.strip_prefix(path.trim_end_matches('/'))?.strip_prefix('/')?;
    (!name.is_empty() && !name.contains('/')).then(|| name.to_owned())
}
