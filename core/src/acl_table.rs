//! ACLs interned: a node holds four bytes, equal lists are kept once.
//!
//! Ids are part of records, so they are the lowest unused; an id goes when its last user (a node
//! or a change in the log) goes.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::acl::AclEntry;

/// An interned list.
pub(crate) type AclId = u32;

#[derive(Debug, Default)]
pub(crate) struct AclTable {
    entries: Vec<Option<Interned>>,
    unused: BTreeSet<AclId>,
    by_list: BTreeMap<Arc<[AclEntry]>, AclId>,
    /// Most creates repeat the list of the one before.
    latest: AclId,
}

#[derive(Debug)]
struct Interned {
    list: Arc<[AclEntry]>,
    users: u64,
}

impl AclTable {
    /// The list of an id in use.
    pub fn list(&self, id: AclId) -> &Arc<[AclEntry]> {
        &self.entry(id).list
    }

    /// Whether the id is in use.
    pub fn contains(&self, id: AclId) -> bool {
        matches!(self.entries.get(id as usize), Some(Some(_)))
    }

    /// All ids in use, lowest first.
    pub fn ids(&self) -> impl Iterator<Item = AclId> + '_ {
        (0..self.entries.len() as AclId).filter(|id| self.contains(*id))
    }

    /// One more user of this list. True if the list is new.
    pub fn acquire(&mut self, list: &[AclEntry]) -> (AclId, bool) {
        if let Some(Some(latest)) = self.entries.get_mut(self.latest as usize)
            && *latest.list == *list
        {
            latest.users += 1;
            return (self.latest, false);
        }
        if let Some(id) = self.by_list.get(list) {
            self.latest = *id;
            self.retain(self.latest);
            return (self.latest, false);
        }
        let id = self.unused.pop_first().unwrap_or(self.entries.len() as AclId);
        self.put(id, list.into());
        self.retain(id);
        self.latest = id;
        (id, true)
    }

    /// One more user of an id in use.
    pub fn retain(&mut self, id: AclId) {
        self.entry_mut(id).users += 1;
    }

    /// One user less. True if that was the last: then [`AclTable::remove`] it.
    pub fn release(&mut self, id: AclId) -> bool {
        let entry = self.entry_mut(id);
        entry.users -= 1;
        entry.users == 0
    }

    /// Removes an id without users.
    pub fn remove(&mut self, id: AclId) {
        if let Some(entry) = self.entries[id as usize].take() {
            self.by_list.remove(&entry.list);
            self.unused.insert(id);
        }
    }

    /// Puts a list at an id (loading). False if either is there already.
    pub fn load(&mut self, id: AclId, list: Vec<AclEntry>) -> bool {
        if self.contains(id) || self.by_list.contains_key(list.as_slice()) {
            return false;
        }
        for unused in self.entries.len() as AclId..id {
            self.unused.insert(unused);
        }
        self.unused.remove(&id);
        self.put(id, list.into());
        true
    }

    /// An id that nobody uses, if there is one (loading).
    pub fn find_unused(&self) -> Option<AclId> {
        self.ids().find(|id| self.entry(*id).users == 0)
    }

    fn put(&mut self, id: AclId, list: Arc<[AclEntry]>) {
        if self.entries.len() <= id as usize {
            self.entries.resize_with(id as usize + 1, || None);
        }
        self.by_list.insert(Arc::clone(&list), id);
        self.entries[id as usize] = Some(Interned { list, users: 0 });
    }

    fn entry(&self, id: AclId) -> &Interned {
        self.entries[id as usize].as_ref().expect("ids are held only while in use")
    }

    fn entry_mut(&mut self, id: AclId) -> &mut Interned {
        self.entries[id as usize].as_mut().expect("ids are held only while in use")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::acl::Permissions;

    fn list(id: &str) -> Vec<AclEntry> {
        vec![AclEntry { permissions: Permissions::ALL, scheme: "digest".into(), id: id.into() }]
    }

    #[test]
    fn equal_lists_share_an_id_and_the_lowest_unused_is_reused() {
        let mut table = AclTable::default();
        let ids: Vec<_> = ["a", "b", "a", "c"].map(|name| table.acquire(&list(name))).into();
        assert_eq!(ids, [(0, true), (1, true), (0, false), (2, true)]);
        assert!(!table.release(0));
        assert!(table.release(0));
        table.remove(0);
        assert_eq!(table.acquire(&list("d")), (0, true));
        assert_eq!(table.acquire(&list("a")), (3, true));
        assert_eq!(table.ids().collect::<Vec<_>>(), [0, 1, 2, 3]);
    }

    #[test]
    fn a_loaded_table_gives_the_same_ids() {
        let mut table = AclTable::default();
        assert!(table.load(2, list("c")) && table.load(5, list("f")));
        assert!(!table.load(2, list("x")) && !table.load(7, list("c")));
        let ids: Vec<_> = ["c", "p", "q", "r", "s", "t"].map(|name| table.acquire(&list(name)).0).into();
        assert_eq!(ids, [2, 0, 1, 3, 4, 6]);
        assert_eq!(table.find_unused(), Some(5));
    }
}
