//! What every change passes through: the digest, the list of dirty records, the frozen view.
//!
//! Before a record changes, its `touch` hook takes its old hash out of the digest (once a
//! transaction), hands its old value to a frozen view that still needs it (once a view), and notes
//! it as dirty (once a generation; a freeze begins a new one). [`State::settle`] adds the new
//! hashes when the command is done.

use std::collections::BTreeMap;
use std::ops::Range;

use super::frozen::Frozen;
use super::records::{encode_node, encode_settings};
use super::{Digest, State};
use crate::acl::AclEntry;
use crate::acl_table::AclId;
use crate::change::Change;
use crate::change_log;
use crate::command::RequestId;
use crate::id::SessionId;
use crate::record::{ELEMENT_CHANGE, RecordId, element_hash, part_count};
use crate::reply::WriteReply;
use crate::request_table::request_element;
use crate::sessions::Session;
use crate::tree::node::{DataPlace, INLINE_DATA_MAX, Mark, Slot};
use crate::tree::slab::SlotSet;

/// The state's own book-keeping about itself; nothing in it is part of a record.
#[derive(Debug)]
pub(super) struct Journal {
    pub digest: u128,
    /// This generation's mark on dirty nodes, sessions and request ids. The frozen view's is the other.
    pub mark: Mark,
    pub dirty: Dirty,
    pub frozen: Option<Box<Frozen>>,
    /// Nodes whose hashes are not in the digest until the command is done.
    touched: Vec<Slot>,
    meta_hash: u128,
    settings_hash: u128,
    pub scratch: Vec<u8>,
    /// Lent to transactions.
    pub change_acls: Vec<[AclId; 2]>,
}

/// Records to write at the next checkpoint; with a count where stored parts may have to go.
#[derive(Debug, Default)]
pub(super) struct Dirty {
    pub nodes: SlotSet,
    pub data: BTreeMap<Slot, u16>,
    pub acls: BTreeMap<AclId, u16>,
    pub sessions: Vec<(SessionId, u16)>,
    pub requests: Vec<(RequestId, u16)>,
    /// Change blocks from here on are dirty.
    pub blocks_from: u64,
    /// Change blocks that the last checkpoint stored.
    pub blocks_stored: Range<u64>,
}

impl Default for Journal {
    fn default() -> Journal {
        Journal {
            digest: 0,
            mark: Mark::Even,
            dirty: Dirty::default(),
            frozen: None,
            touched: Vec::new(),
            meta_hash: 0,
            settings_hash: 0,
            scratch: Vec::with_capacity(4096),
            change_acls: Vec::new(),
        }
    }
}

impl Mark {
    /// The other generation's mark.
    pub(super) fn other(self) -> Mark {
        if self == Mark::Even { Mark::Odd } else { Mark::Even }
    }
}

impl Journal {
    /// A digest of nothing; records are yet to come.
    pub fn start(&mut self) {
        self.settings_hash = 0;
        self.meta_hash = 0;
        self.digest = 0;
    }

    fn add(&mut self, hash: u128) {
        self.digest = self.digest.wrapping_add(hash);
    }

    fn subtract(&mut self, hash: u128) {
        self.digest = self.digest.wrapping_sub(hash);
    }
}

impl State {
    /// The digest of content, kept up to date with every change.
    pub fn digest(&self) -> Digest {
        Digest(self.journal.digest)
    }

    /// Call before a node's record changes, appears or goes.
    pub(super) fn touch_node(&mut self, slot: Slot) {
        let node = self.tree.node(slot);
        let mark = node.mark();
        let is_noted = mark == self.journal.mark;
        if node.is_touched() && is_noted {
            return;
        }
        let mut scratch = std::mem::take(&mut self.journal.scratch);
        scratch.clear();
        RecordId::Node(slot).put_prefix(&mut scratch);
        let prefix = scratch.len();
        let is_there = encode_node(&self.tree, slot, &mut scratch);
        if !node.is_touched() {
            self.journal.touched.push(slot);
            if is_there {
                self.journal.subtract(element_hash(&scratch));
            }
        }
        if !is_noted {
            self.journal.dirty.nodes.insert(slot);
            if mark != Mark::Clean
                && let Some(frozen) = &mut self.journal.frozen
            {
                frozen.nodes.save(slot, || is_there.then(|| scratch[prefix..].into()));
            }
        }
        self.journal.scratch = scratch;
        let mark = self.journal.mark;
        let node = self.tree.node_mut(slot);
        node.set_touched(true);
        node.set_mark(mark);
    }

    /// Call before a node's data becomes `data`, if either may be large.
    pub(super) fn touch_data(&mut self, slot: Slot, data: Option<&[u8]>) {
        let node = self.tree.node(slot);
        let was_large = !node.is_vacant() && node.data_place() == DataPlace::Large;
        if !was_large && data.is_none_or(|data| data.len() <= INLINE_DATA_MAX) {
            return;
        }
        let old = self.tree.large(slot);
        let parts = old.map_or(0, |old| part_count(old.data.len()));
        self.journal.dirty.data.entry(slot).or_insert(parts);
        if let Some(frozen) = &mut self.journal.frozen {
            frozen.data.save(slot, || old.map(|old| old.data.clone()));
        }
    }

    /// One more user of this ACL.
    pub(super) fn acquire_acl(&mut self, list: &[AclEntry]) -> AclId {
        let (id, is_new) = self.acls.acquire(list);
        if is_new {
            self.journal.dirty.acls.entry(id).or_insert(0);
            if let Some(frozen) = &mut self.journal.frozen {
                frozen.acls.save(id, || None);
            }
            let hash = self.acl_element(id);
            self.journal.add(hash);
        }
        id
    }

    /// One user less of an ACL; it goes with its last.
    pub(super) fn release_acl(&mut self, id: AclId) {
        if !self.acls.release(id) {
            return;
        }
        let hash = self.acl_element(id);
        self.journal.subtract(hash);
        let list = self.acls.list(id);
        let parts = super::records::acl_parts(list);
        self.journal.dirty.acls.entry(id).or_insert(parts);
        if let Some(frozen) = &mut self.journal.frozen {
            frozen.acls.save(id, || Some(list.clone()));
        }
        self.acls.remove(id);
    }

    /// Adds a session just opened.
    pub(super) fn add_session(&mut self, id: SessionId, mut session: Session) {
        session.rehash(id, &mut self.journal.scratch);
        session.mark = self.journal.mark;
        self.journal.dirty.sessions.push((id, 0));
        self.journal.add(session.hash());
        self.sessions.insert(id, session);
    }

    /// Changes a session, if it is (still) there.
    pub(super) fn edit_session(&mut self, id: SessionId, edit: impl FnOnce(&mut Session, &mut Vec<u8>)) {
        self.note_session(id);
        if let Some(session) = self.sessions.get_mut(&id) {
            let old = session.hash();
            edit(session, &mut self.journal.scratch);
            session.rehash(id, &mut self.journal.scratch);
            let new = session.hash();
            self.journal.subtract(old);
            self.journal.add(new);
        }
    }

    /// Removes a session whose ephemerals have gone.
    pub(super) fn remove_session(&mut self, id: SessionId) {
        self.note_session(id);
        if let Some(session) = self.sessions.remove(&id) {
            debug_assert!(session.ephemerals.is_empty());
            self.journal.subtract(session.hash());
        }
    }

    /// Remembers a request id's answer.
    pub(super) fn remember_request(&mut self, id: &RequestId, reply: &WriteReply) {
        let mut encoded = Vec::with_capacity(128);
        reply.encode(&mut encoded);
        let hash = request_element(id, &encoded, &mut self.journal.scratch);
        self.journal.add(hash);
        self.journal.dirty.requests.push((id.clone(), 0));
        self.requests.insert(id.clone(), encoded.into(), self.journal.mark);
    }

    /// Forgets the oldest request id if it is older than the window.
    pub(super) fn forget_oldest_request(&mut self) -> bool {
        let Some((id, entry)) = self.requests.evict() else { return false };
        let hash = request_element(&id, &entry.reply, &mut self.journal.scratch);
        self.journal.subtract(hash);
        if entry.mark != self.journal.mark {
            self.journal.dirty.requests.push((id.clone(), part_count(entry.reply.len())));
            if entry.mark != Mark::Clean
                && let Some(frozen) = &mut self.journal.frozen
            {
                frozen.requests.save(id, || Some(entry.reply));
            }
        }
        true
    }

    /// Files a change in the change log. A long transaction trims it as it goes, only between two
    /// blocks, so that they begin where they would if it were trimmed at the end.
    pub(super) fn log_change(&mut self, change: &Change, acls: [AclId; 2]) {
        if self.changes.is_at_block_end() {
            self.trim_change_log();
        }
        let scratch = &mut self.journal.scratch;
        scratch.clear();
        scratch.push(ELEMENT_CHANGE);
        change_log::encode(change, acls, scratch);
        let hash = element_hash(scratch);
        self.changes.append(&scratch[1..], hash, change.position, acls);
        self.journal.add(hash);
        for acl in acls {
            self.acls.retain(acl);
        }
    }

    /// Drops the oldest changes while there are too many bytes of them.
    pub(super) fn trim_change_log(&mut self) {
        while let Some((number, block)) = self.changes.evict(self.settings.change_log_bytes) {
            self.journal.subtract(block.hash);
            for (acl, uses) in block.acls() {
                for _ in 0..*uses {
                    self.release_acl(*acl);
                }
            }
            if let Some(frozen) = &mut self.journal.frozen {
                frozen.save_block(number, block);
            }
        }
    }

    /// Ends a command: whatever was touched is in the digest again.
    pub(super) fn settle(&mut self) {
        let mut scratch = std::mem::take(&mut self.journal.scratch);
        let mut touched = std::mem::take(&mut self.journal.touched);
        for slot in touched.drain(..) {
            scratch.clear();
            RecordId::Node(slot).put_prefix(&mut scratch);
            if encode_node(&self.tree, slot, &mut scratch) {
                self.journal.add(element_hash(&scratch));
            }
            self.tree.node_mut(slot).set_touched(false);
        }
        self.journal.touched = touched;
        scratch.clear();
        RecordId::Meta.put_prefix(&mut scratch);
        self.encode_meta(&mut scratch);
        let hash = element_hash(&scratch);
        let old = std::mem::replace(&mut self.journal.meta_hash, hash);
        self.journal.subtract(old);
        self.journal.add(hash);
        self.journal.scratch = scratch;
        if self.journal.settings_hash == 0 {
            self.rehash_settings();
        }
    }

    /// Call after the settings have changed.
    pub(super) fn rehash_settings(&mut self) {
        let scratch = &mut self.journal.scratch;
        scratch.clear();
        RecordId::Settings.put_prefix(scratch);
        encode_settings(&self.settings, scratch);
        let hash = element_hash(scratch);
        let old = std::mem::replace(&mut self.journal.settings_hash, hash);
        self.journal.subtract(old);
        self.journal.add(hash);
    }

    /// After loading: everything is stored as it is, so nothing is dirty.
    pub(super) fn start_clean(&mut self) {
        let numbers = self.changes.numbers();
        self.journal.dirty.blocks_from = numbers.end.saturating_sub(1);
        self.journal.dirty.blocks_stored = numbers;
        self.journal.start();
        self.settle();
        self.journal.digest = self.recompute_digest().0;
    }

    fn note_session(&mut self, id: SessionId) {
        let Some(session) = self.sessions.get_mut(&id) else { return };
        if session.mark == self.journal.mark {
            return;
        }
        let encode = |session: &Session| {
            let mut value = Vec::with_capacity(session.encoded_length_max());
            session.encode(&mut value);
            value
        };
        let parts = match session.encoded_length_max() {
            length if part_count(length) == 1 => 1,
            _ => part_count(encode(session).len()),
        };
        self.journal.dirty.sessions.push((id, parts));
        if session.mark != Mark::Clean
            && let Some(frozen) = &mut self.journal.frozen
        {
            frozen.sessions.save(id, || Some(encode(session).into()));
        }
        session.mark = self.journal.mark;
    }
}
