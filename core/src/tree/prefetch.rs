//! Looks at nodes ahead of their use, many at a time.
//!
//! In a large tree a node is where no cache has it, and whoever looks one up waits for memory several
//! times in a row: for the index, for the node, for its name. Here many lookups take each of these
//! steps together, so that the processor waits for several of them at once. Nothing is changed and
//! nothing is answered; a path that is not there costs no more than one that is.

use std::hint::black_box;

use super::node::{NO_SLOT, Slot};
use super::{ROOT, Tree};

/// A smaller tree is in the caches anyway.
const NODES_MIN: u64 = 1 << 15;
/// So many nodes are looked at before the first is used: more would drive each other out again.
const TOGETHER: usize = 512;

/// What a cache takes from memory at once.
const LINE: usize = 64;

/// One lookup under way.
struct Walker<'a> {
    /// The parent, and then the node found below it.
    at: Slot,
    /// Where the search below it has come to.
    candidate: Slot,
    tag: u8,
    /// The names yet to come.
    rest: &'a str,
}

impl Tree {
    /// Looks at the nodes on the way to each of these paths, and at what they hold.
    pub fn prefetch(&self, paths: &[&str]) {
        if self.count < NODES_MIN || paths.len() < 2 {
            return;
        }
        for paths in paths.chunks(TOGETHER) {
            let below_root = paths.iter().filter_map(|path| path.strip_prefix('/'));
            let start = |rest| Walker { at: ROOT, candidate: NO_SLOT, tag: 0, rest };
            let mut walkers: Vec<Walker<'_>> = below_root.map(start).collect();
            while !walkers.is_empty() {
                self.descend(&mut walkers);
                walkers.retain(|walker| walker.at != NO_SLOT && !walker.rest.is_empty());
            }
        }
    }

    /// One level down for all of them. Each loop loads what the next one needs, and none of its own
    /// turns waits for another. The name itself is not compared: a wrong node costs time, no more.
    fn descend(&self, walkers: &mut [Walker<'_>]) {
        for walker in &mut *walkers {
            let (name, rest) = walker.rest.split_once('/').unwrap_or((walker.rest, ""));
            (walker.candidate, walker.tag) = self.index.bucket_of(walker.at, name.as_bytes());
            walker.rest = rest;
        }
        let mut seen = 0;
        loop {
            for walker in walkers.iter().filter(|walker| walker.candidate != NO_SLOT) {
                let node = &self.slab[walker.candidate];
                seen ^= node.czxid.0 as u32 ^ node.next;
            }
            let mut is_all_found = true;
            for walker in walkers.iter_mut().filter(|walker| walker.candidate != NO_SLOT) {
                let node = &self.slab[walker.candidate];
                if node.tag != walker.tag || node.parent != walker.at {
                    walker.candidate = node.next;
                    is_all_found = false;
                }
            }
            if is_all_found {
                break;
            }
        }
        for walker in &mut *walkers {
            walker.at = walker.candidate;
        }
        for walker in walkers.iter().filter(|walker| walker.at != NO_SLOT) {
            let text = self.slab[walker.at].text();
            for byte in text.iter().step_by(LINE).chain(text.last()) {
                seen ^= u32::from(*byte);
            }
        }
        black_box(seen);
    }
}

#[cfg(test)]
mod tests {
    use super::super::NewNode;
    use super::super::node::Kind;
    use super::*;
    use crate::id::{Timestamp, Zxid};

    #[test]
    fn what_is_looked_at_is_what_a_lookup_finds() {
        let mut tree = Tree::new(3);
        let mut paths = vec!["no".to_owned(), String::new(), "/".into(), "/0/".into(), "//x".into()];
        for number in 0..NODES_MIN + 100 {
            let slot = tree.take_slot();
            let (parent, name) = match number {
                0 => (NO_SLOT, String::new()),
                1..=100 => (ROOT, number.to_string()),
                _ => (1 + (number % 100) as Slot, number.to_string()),
            };
            let (kind, data) = (Kind::Persistent, Some(&b"value"[..]));
            let (zxid, time) = (Zxid(1), Timestamp(1));
            tree.insert(slot, &NewNode { parent, name: &name, kind, acl: 0, data, zxid, time });
            paths.push(tree.path(slot));
            paths.push(format!("{}/absent", tree.path(slot)));
        }
        let paths: Vec<&str> = paths.iter().map(String::as_str).collect();
        tree.prefetch(&paths);
        for path in paths {
            let mut walker = [Walker {
                at: ROOT,
                candidate: NO_SLOT,
                tag: 0,
                rest: path.strip_prefix('/').unwrap_or_default(),
            }];
            while walker[0].at != NO_SLOT && !walker[0].rest.is_empty() {
                tree.descend(&mut walker);
            }
            if let Some(found) = tree.lookup(path) {
                assert_eq!(walker[0].at, found, "{path}");
            }
        }
    }
}
