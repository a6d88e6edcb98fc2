//! The tree of znodes: where they are, what is below them, what they hold. No rules.
//!
//! Rules (who may, which version, what is fired) are in [`crate::state`]'s files; this is the
//! shelf they work on. Invariants:
//! - a node's place ([`node::Slot`]) is the lowest that was vacant when it was created;
//! - every node but the root is in its parent's sorted children and in the name index;
//! - data above [`node::INLINE_DATA_MAX`] is in `large`, all other data beside the name.

mod children;
mod index;
mod load;
mod many_children;
pub(crate) mod node;
mod prefetch;
pub(crate) mod slab;

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use xxhash_rust::xxh3::xxh3_128;

use crate::id::{Timestamp, Zxid};
use crate::znode::Stat;
use children::Children;
pub(crate) use children::Walk;
use index::NameIndex;
use node::{DataPlace, INLINE_DATA_MAX, Kind, NO_SLOT, Node, Slot};
use slab::Slab;

/// `/`.
pub(crate) const ROOT: Slot = 0;

/// Data too large to stand beside its node's name.
#[derive(Clone, Debug)]
pub(crate) struct Large {
    /// The data, of its own allocation.
    pub data: Bytes,
    /// Its XXH3-128: stands for the data in the node's record, so that a change of the node's
    /// metadata never hashes the data again.
    pub hash: u128,
}

impl Large {
    /// Copies: what a command carries may be a view of a much larger buffer.
    pub fn new(data: &[u8]) -> Large {
        Large { data: Bytes::copy_from_slice(data), hash: xxh3_128(data) }
    }
}

/// What a new node is, besides its place.
pub(crate) struct NewNode<'a> {
    pub parent: Slot,
    pub name: &'a str,
    pub kind: Kind,
    pub acl: u32,
    pub data: Option<&'a [u8]>,
    pub zxid: Zxid,
    pub time: Timestamp,
}

/// A node taken out of the tree, whole: putting it back undoes the removal.
#[derive(Debug)]
pub(crate) struct Removed {
    pub slot: Slot,
    node: Node,
    large: Option<Large>,
}

impl Removed {
    /// Its interned ACL.
    pub fn acl(&self) -> u32 {
        self.node.acl
    }

    /// How long it lived.
    pub fn kind(&self) -> Kind {
        self.node.kind()
    }
}

/// The tree.
#[derive(Debug)]
pub(crate) struct Tree {
    slab: Slab,
    children: Children,
    index: NameIndex,
    large: BTreeMap<Slot, Large>,
    /// TTL and container nodes.
    expirable: BTreeSet<Slot>,
    count: u64,
    data_bytes: u64,
    /// Lengths and hashes of large data that is yet to be loaded.
    large_awaited: BTreeMap<Slot, (usize, u128)>,
}

impl Tree {
    /// What was given to [`Tree::new`].
    pub fn index_seed(&self) -> u64 {
        self.index.seed()
    }

    /// A tree without even a root.
    pub fn new(index_seed: u64) -> Tree {
        Tree {
            slab: Slab::default(),
            children: Children::default(),
            index: NameIndex::new(index_seed),
            large: BTreeMap::new(),
            expirable: BTreeSet::new(),
            count: 0,
            data_bytes: 0,
            large_awaited: BTreeMap::new(),
        }
    }

    /// How many nodes there are.
    pub fn count(&self) -> u64 {
        self.count
    }

    /// Bytes of data in all nodes.
    pub fn data_bytes(&self) -> u64 {
        self.data_bytes
    }

    /// A node that is there.
    pub fn node(&self, slot: Slot) -> &Node {
        &self.slab[slot]
    }

    /// A node that is there. Names, data and links are changed by the tree only.
    pub fn node_mut(&mut self, slot: Slot) -> &mut Node {
        &mut self.slab[slot]
    }

    /// A node, if one is there.
    pub fn get(&self, slot: Slot) -> Option<&Node> {
        self.slab.get(slot)
    }

    /// The taken places, lowest first.
    pub fn occupied(&self) -> impl Iterator<Item = Slot> + '_ {
        self.slab.occupied()
    }

    /// TTL and container nodes, by place.
    pub fn expirable(&self) -> impl Iterator<Item = Slot> + '_ {
        self.expirable.iter().copied()
    }

    /// Places of nodes with large data.
    pub fn large_slots(&self) -> impl Iterator<Item = Slot> + '_ {
        self.large.keys().copied()
    }

    /// The node at this exact path, unvalidated: a malformed path names no node. "" is the root too.
    pub fn lookup(&self, path: &str) -> Option<Slot> {
        if path.is_empty() || path == "/" {
            return Some(ROOT);
        }
        let mut slot = ROOT;
        for name in path.strip_prefix('/')?.split('/') {
            slot = self.index.find(&self.slab, slot, name.as_bytes())?;
        }
        Some(slot)
    }

    /// A child by name.
    pub fn child(&self, parent: Slot, name: &str) -> Option<Slot> {
        self.index.find(&self.slab, parent, name.as_bytes())
    }

    /// The whole path of a node.
    pub fn path(&self, slot: Slot) -> String {
        let mut names = Vec::with_capacity(16);
        let (mut at, mut length) = (slot, 0);
        while at != ROOT {
            let node = &self.slab[at];
            names.push(node.name());
            length += node.name_bytes().len() + 1;
            at = node.parent;
        }
        if names.is_empty() {
            return "/".into();
        }
        let mut path = String::with_capacity(length);
        for name in names.iter().rev() {
            path.push('/');
            path.push_str(name);
        }
        path
    }

    /// Bytes of the whole path of a node that is not the root.
    pub fn path_length(&self, slot: Slot) -> usize {
        let (mut at, mut length) = (slot, 0);
        while at != ROOT {
            let node = &self.slab[at];
            length += node.name_bytes().len() + 1;
            at = node.parent;
        }
        length
    }

    /// A node's children in name order, those behind `after` only.
    pub fn children(&self, parent: Slot, after: Option<&str>) -> Walk<'_> {
        self.children.after(&self.slab, self.slab[parent].children, after)
    }

    /// How many children a node has.
    pub fn children_count(&self, parent: Slot) -> u32 {
        self.children.count(self.slab[parent].children)
    }

    /// All nodes below one, each before its own children.
    pub fn descendants(&self, top: Slot) -> Descendants<'_> {
        Descendants { tree: self, walks: vec![self.children(top, None)] }
    }

    /// A node's metadata as clients see it.
    pub fn stat(&self, slot: Slot) -> Stat {
        let node = &self.slab[slot];
        let num_children = self.children_count(slot) as i32;
        Stat {
            czxid: node.czxid,
            mzxid: node.mzxid,
            pzxid: node.pzxid,
            ctime: node.ctime,
            mtime: node.mtime,
            version: node.version,
            cversion: node.creates.wrapping_mul(2).wrapping_sub(num_children),
            aversion: node.aversion,
            ephemeral_owner: node.ephemeral_owner(),
            data_length: self.data_length(slot) as i32,
            num_children,
        }
    }

    /// Bytes of a node's data.
    pub fn data_length(&self, slot: Slot) -> usize {
        let node = &self.slab[slot];
        match node.data_place() {
            DataPlace::Null => 0,
            DataPlace::Inline => node.inline_data().len(),
            DataPlace::Large => self.large(slot).map_or(0, |large| large.data.len()),
        }
    }

    /// A node's data in place.
    pub fn data_ref(&self, slot: Slot) -> Option<&[u8]> {
        let node = &self.slab[slot];
        match node.data_place() {
            DataPlace::Null => None,
            DataPlace::Inline => Some(node.inline_data()),
            DataPlace::Large => self.large(slot).map(|large| &large.data[..]),
        }
    }

    /// A node's data: large data is shared, small data copied.
    pub fn data(&self, slot: Slot) -> Option<Bytes> {
        let node = &self.slab[slot];
        match node.data_place() {
            DataPlace::Null => None,
            DataPlace::Inline => Some(Bytes::copy_from_slice(node.inline_data())),
            DataPlace::Large => self.large(slot).map(|large| large.data.clone()),
        }
    }

    /// A node's data if it is large.
    pub fn large(&self, slot: Slot) -> Option<&Large> {
        self.large.get(&slot)
    }

    /// The place that the next new node gets.
    pub fn take_slot(&mut self) -> Slot {
        self.slab.take_lowest()
    }

    /// Creates a node at a place just taken, as the newest child of its parent.
    pub fn insert(&mut self, slot: Slot, new: &NewNode<'_>) {
        let node = &mut self.slab[slot];
        let inline = new.data.filter(|data| data.len() <= INLINE_DATA_MAX);
        node.occupy_with(new.name, new.kind, inline);
        node.parent = new.parent;
        node.acl = new.acl;
        (node.czxid, node.mzxid, node.pzxid) = (new.zxid, new.zxid, new.zxid);
        (node.ctime, node.mtime) = (new.time, new.time);
        (node.version, node.aversion, node.creates) = (0, 0, 0);
        node.children = 0;
        if matches!(new.kind, Kind::Container | Kind::Ttl(_)) {
            self.expirable.insert(slot);
        }
        self.count += 1;
        match inline {
            Some(data) => self.data_bytes += data.len() as u64,
            None => self.set_data(slot, new.data),
        }
        self.link(slot);
    }

    /// Takes a childless node out.
    pub fn remove(&mut self, slot: Slot) -> Removed {
        self.unlink(slot);
        self.count -= 1;
        self.data_bytes -= self.data_length(slot) as u64;
        self.expirable.remove(&slot);
        let large = match self.slab[slot].data_place() {
            DataPlace::Large => self.large.remove(&slot),
            _ => None,
        };
        let node = self.slab[slot].take();
        self.slab.give_back(slot);
        Removed { slot, node, large }
    }

    /// Puts a node back where it was.
    pub fn restore(&mut self, removed: Removed) {
        let Removed { slot, mut node, large } = removed;
        let taken = self.slab.take(slot);
        debug_assert!(taken, "undo runs backwards, so the place is vacant again");
        node.children = 0;
        if matches!(node.kind(), Kind::Container | Kind::Ttl(_)) {
            self.expirable.insert(slot);
        }
        self.slab[slot].put_back(node);
        if let Some(large) = large {
            self.large.insert(slot, large);
        }
        self.count += 1;
        self.data_bytes += self.data_length(slot) as u64;
        self.link(slot);
    }

    /// Replaces a node's data and nothing else.
    pub fn set_data(&mut self, slot: Slot, data: Option<&[u8]>) {
        self.data_bytes -= self.data_length(slot) as u64;
        if self.slab[slot].data_place() == DataPlace::Large {
            self.large.remove(&slot);
        }
        match data {
            None => self.slab[slot].put_elsewhere(DataPlace::Null),
            Some(data) if data.len() <= INLINE_DATA_MAX => self.slab[slot].put_inline(data),
            Some(data) => {
                self.slab[slot].put_elsewhere(DataPlace::Large);
                self.large.insert(slot, Large::new(data));
            }
        }
        self.data_bytes += self.data_length(slot) as u64;
    }

    fn link(&mut self, slot: Slot) {
        let parent = self.slab[slot].parent;
        if parent != NO_SLOT {
            self.index.insert(&mut self.slab, slot);
            self.link_child(parent, slot);
        }
    }

    fn link_child(&mut self, parent: Slot, child: Slot) {
        let handle = self.slab[parent].children;
        self.slab[parent].children = self.children.insert(&self.slab, handle, child);
    }

    fn unlink(&mut self, slot: Slot) {
        let parent = self.slab[slot].parent;
        if parent != NO_SLOT {
            self.index.remove(&mut self.slab, slot);
            let handle = self.slab[parent].children;
            self.slab[parent].children = self.children.remove(&self.slab, handle, slot);
        }
    }
}

/// A walk over all nodes below one, each before its own children, siblings in name order.
pub(crate) struct Descendants<'a> {
    tree: &'a Tree,
    walks: Vec<Walk<'a>>,
}

impl Iterator for Descendants<'_> {
    type Item = Slot;

    fn next(&mut self) -> Option<Slot> {
        loop {
            match self.walks.last_mut()?.next() {
                Some(slot) => {
                    if self.tree.children_count(slot) > 0 {
                        self.walks.push(self.tree.children(slot, None));
                    }
                    return Some(slot);
                }
                None => {
                    self.walks.pop();
                }
            }
        }
    }
}
