//! The frozen view: every record dirtied since the last freeze, as it was at this one.
//!
//! Taking it moves the lists of dirty records aside and writes down the two small records that
//! change with every command. From then on a record that is about to change, and that the view
//! still has to give, leaves its old value with the view (`journal.rs` sees to it); all others are
//! read from the live state when their turn comes. So the view costs O(1) to take and memory only
//! for what is rewritten while it lives.

use std::collections::{BTreeMap, VecDeque};
use std::ops::{Bound, Range};
use std::sync::Arc;

use bytes::Bytes;

use super::journal::Dirty;
use super::records::{encode_acl, encode_node, encode_settings};
use super::{Digest, State};
use crate::acl::AclEntry;
use crate::acl_table::AclId;
use crate::change_log::Block;
use crate::command::RequestId;
use crate::id::SessionId;
use crate::record::{RecordId, RecordWrite};
use crate::tree::node::{Mark, Slot};
use crate::tree::slab::SlotSet;

/// A view that has not been read to its end.
#[derive(Debug)]
pub(super) struct Frozen {
    digest: u128,
    meta: Option<Bytes>,
    settings: Option<Bytes>,
    pub acls: Unmarked<AclId, Arc<[AclEntry]>>,
    pub nodes: Nodes,
    pub data: Unmarked<Slot, Bytes>,
    pub sessions: Marked<SessionId, Box<[u8]>>,
    pub requests: Marked<RequestId, Box<[u8]>>,
    /// Stored change blocks that were gone at the freeze and are yet to be told.
    blocks_gone: Range<u64>,
    /// Change blocks yet to be given.
    blocks: Range<u64>,
    /// The length of the last block: it may have grown since.
    tail_length: usize,
    blocks_saved: BTreeMap<u64, Block>,
    /// As it was at the freeze, for when the view is abandoned.
    blocks_dirty: (u64, Range<u64>),
    /// The rest of a record that did not fit the last chunk.
    pending: VecDeque<RecordWrite>,
}

/// A value saved for the view; `None`: no record was there.
type Saved<Value> = Option<Value>;
type SavedNode = Saved<Box<[u8]>>;

/// Records that carry the view's mark until they are given: their ids and old values.
#[derive(Debug)]
pub(super) struct Marked<Id, Value> {
    /// With the number of parts that may be stored already.
    ids: Vec<(Id, u16)>,
    given: usize,
    saved: BTreeMap<Id, Saved<Value>>,
}

impl<Id: Ord + Clone, Value> Marked<Id, Value> {
    fn new(ids: Vec<(Id, u16)>) -> Marked<Id, Value> {
        Marked { ids, given: 0, saved: BTreeMap::new() }
    }

    /// Keeps the value of a record that is about to change; its mark says that it was not given yet.
    pub fn save(&mut self, id: Id, value: impl FnOnce() -> Saved<Value>) {
        self.saved.entry(id).or_insert_with(value);
    }

    /// The next record to give: its id, how many parts may be stored, and its value if saved.
    fn next(&mut self) -> Option<(Id, u16, Option<Saved<Value>>)> {
        let (id, parts) = self.ids.get(self.given)?.clone();
        self.given += 1;
        let saved = self.saved.remove(&id);
        Some((id, parts, saved))
    }
}

/// The same for nodes: there may be many, and a node's record never has a second part.
#[derive(Debug)]
pub(super) struct Nodes {
    ids: SlotSet,
    next: Slot,
    saved: BTreeMap<Slot, SavedNode>,
}

impl Nodes {
    /// See [`Marked::save`].
    pub fn save(&mut self, slot: Slot, value: impl FnOnce() -> SavedNode) {
        self.saved.entry(slot).or_insert_with(value);
    }

    /// See [`Marked::next`].
    fn next(&mut self) -> Option<(Slot, Option<SavedNode>)> {
        let slot = self.ids.next(self.next)?;
        self.next = slot + 1;
        Some((slot, self.saved.remove(&slot)))
    }
}

/// Records that carry no mark; they are few.
#[derive(Debug)]
pub(super) struct Unmarked<Id, Value> {
    /// With the number of parts that may be stored already.
    ids: BTreeMap<Id, u16>,
    given: Option<Id>,
    saved: BTreeMap<Id, Saved<Value>>,
}

impl<Id: Ord + Clone, Value> Unmarked<Id, Value> {
    fn new(ids: BTreeMap<Id, u16>) -> Unmarked<Id, Value> {
        Unmarked { ids, given: None, saved: BTreeMap::new() }
    }

    /// Keeps the value of a record about to change, if the view still has to give it.
    pub fn save(&mut self, id: Id, value: impl FnOnce() -> Saved<Value>) {
        let is_given = self.given.as_ref().is_some_and(|given| id <= *given);
        if !is_given && self.ids.contains_key(&id) {
            self.saved.entry(id).or_insert_with(value);
        }
    }

    /// See [`Marked::next`].
    fn next(&mut self) -> Option<(Id, u16, Option<Saved<Value>>)> {
        let (id, parts) = match &self.given {
            None => self.ids.first_key_value()?,
            Some(given) => self.ids.range((Bound::Excluded(given), Bound::Unbounded)).next()?,
        };
        let (id, parts) = (id.clone(), *parts);
        self.given = Some(id.clone());
        let saved = self.saved.remove(&id);
        Some((id, parts, saved))
    }
}

impl State {
    /// Freezes a view of every record dirtied since the last freeze, as of now. An earlier view
    /// that was not read to its end is abandoned; its records are in the new one.
    pub fn freeze(&mut self) {
        self.abandon_frozen();
        let (mut meta, mut settings) = (Vec::new(), Vec::new());
        self.encode_meta(&mut meta);
        encode_settings(&self.settings, &mut settings);
        let numbers = self.changes.numbers();
        let next = Dirty {
            blocks_from: numbers.end.saturating_sub(1),
            blocks_stored: numbers.clone(),
            ..Dirty::default()
        };
        let dirty = std::mem::replace(&mut self.journal.dirty, next);
        let stored = dirty.blocks_stored.clone();
        let last = self.changes.block(numbers.end.saturating_sub(1));
        self.journal.frozen = Some(Box::new(Frozen {
            digest: self.journal.digest,
            meta: Some(meta.into()),
            settings: Some(settings.into()),
            acls: Unmarked::new(dirty.acls),
            nodes: Nodes { ids: dirty.nodes, next: 0, saved: BTreeMap::new() },
            data: Unmarked::new(dirty.data),
            sessions: Marked::new(dirty.sessions),
            requests: Marked::new(dirty.requests),
            blocks_gone: stored.start..numbers.start.clamp(stored.start, stored.end.max(stored.start)),
            blocks: dirty.blocks_from.max(numbers.start)..numbers.end,
            tail_length: last.map_or(0, |block| block.bytes().len()),
            blocks_saved: BTreeMap::new(),
            blocks_dirty: (dirty.blocks_from, stored),
            pending: VecDeque::new(),
        }));
        self.journal.mark = self.journal.mark.other();
    }

    /// The digest of the state that the view shows.
    pub fn frozen_digest(&self) -> Option<Digest> {
        self.journal.frozen.as_ref().map(|frozen| Digest(frozen.digest))
    }

    /// The next records of the frozen view: about `max_bytes` of them, at least one. Empty: all
    /// were given, and the view is gone.
    pub fn frozen_chunk(&mut self, max_bytes: usize) -> Vec<RecordWrite> {
        let Some(mut frozen) = self.journal.frozen.take() else { return Vec::new() };
        let (mut chunk, mut bytes) = (Vec::new(), 0);
        while bytes < max_bytes || chunk.is_empty() {
            if frozen.pending.is_empty() && !self.give_next(&mut frozen) {
                break;
            }
            if let Some(write) = frozen.pending.pop_front() {
                bytes += write.key.len() + write.value.as_ref().map_or(0, Bytes::len);
                chunk.push(write);
            }
        }
        if !chunk.is_empty() {
            self.journal.frozen = Some(frozen);
        }
        chunk
    }

    /// Drops the frozen view; all its records, given or not, are dirty again. For a checkpoint
    /// that did not become durable.
    pub fn abandon_frozen(&mut self) {
        let Some(frozen) = self.journal.frozen.take() else { return };
        let mark = self.journal.mark;
        for slot in frozen.nodes.ids.iter() {
            let node = self.tree.node_mut(slot);
            if node.mark() != mark {
                node.set_mark(mark);
                self.journal.dirty.nodes.insert(slot);
            }
        }
        let dirty = &mut self.journal.dirty;
        for (slot, parts) in frozen.data.ids {
            let entry = dirty.data.entry(slot).or_insert(parts);
            *entry = parts.max(*entry);
        }
        for (acl, parts) in frozen.acls.ids {
            let entry = dirty.acls.entry(acl).or_insert(parts);
            *entry = parts.max(*entry);
        }
        for (id, _) in &frozen.sessions.ids {
            if let Some(session) = self.sessions.get_mut(id) {
                session.mark = mark;
            }
        }
        for (id, _) in &frozen.requests.ids {
            if let Some(entry) = self.requests.get_mut(id) {
                entry.mark = mark;
            }
        }
        merge(&mut dirty.sessions, frozen.sessions.ids);
        merge(&mut dirty.requests, frozen.requests.ids);
        let (from, stored) = frozen.blocks_dirty;
        dirty.blocks_from = dirty.blocks_from.min(from);
        dirty.blocks_stored.start = dirty.blocks_stored.start.min(stored.start);
    }

    /// Puts the next record of the view into `pending`; false if there is none.
    fn give_next(&mut self, frozen: &mut Frozen) -> bool {
        if let Some(meta) = frozen.meta.take() {
            frozen.give(RecordId::Meta, 0, Some(meta));
        } else if let Some(settings) = frozen.settings.take() {
            frozen.give(RecordId::Settings, 0, Some(settings));
        } else if let Some((id, parts, saved)) = frozen.acls.next() {
            let live = || self.acls.contains(id).then(|| self.acls.list(id).clone());
            let list = saved.unwrap_or_else(live);
            frozen.give(RecordId::Acl(id), parts, list.map(|list| encode_acl(&list).into()));
        } else if let Some((slot, saved)) = frozen.nodes.next() {
            let value = match saved {
                Some(saved) => saved.map(Bytes::from),
                None => {
                    self.clean_node(slot);
                    let mut value = Vec::with_capacity(128);
                    encode_node(&self.tree, slot, &mut value).then(|| value.into())
                }
            };
            frozen.give(RecordId::Node(slot), 1, value);
        } else if let Some((slot, parts, saved)) = frozen.data.next() {
            let live = || self.tree.large(slot).map(|large| large.data.clone());
            frozen.give(RecordId::Data(slot), parts, saved.unwrap_or_else(live));
        } else if let Some((id, parts, saved)) = frozen.sessions.next() {
            let value = saved.unwrap_or_else(|| self.clean_session(id));
            frozen.give(RecordId::Session(id), parts, value.map(Bytes::from));
        } else if let Some((id, parts, saved)) = frozen.requests.next() {
            let value = saved.unwrap_or_else(|| self.clean_request(&id));
            frozen.give(RecordId::Request(id), parts, value.map(Bytes::from));
        } else if let Some(number) = frozen.blocks_gone.next() {
            frozen.give(RecordId::Changes(number), 1, None);
        } else if let Some(number) = frozen.blocks.next() {
            let saved = frozen.blocks_saved.remove(&number);
            let is_tail = frozen.blocks.is_empty();
            let value = saved.as_ref().or_else(|| self.changes.block(number)).map(|block| {
                let length = if is_tail { frozen.tail_length } else { block.bytes().len() };
                Bytes::copy_from_slice(&block.bytes()[..length])
            });
            frozen.give(RecordId::Changes(number), 0, value);
        } else {
            return false;
        }
        true
    }

    /// A node given from the live state needs no saving any more.
    fn clean_node(&mut self, slot: Slot) {
        let generation = self.journal.mark;
        let node = self.tree.node_mut(slot);
        if node.mark() != generation {
            node.set_mark(Mark::Clean);
        }
    }

    fn clean_session(&mut self, id: SessionId) -> Option<Box<[u8]>> {
        let generation = self.journal.mark;
        let session = self.sessions.get_mut(&id)?;
        if session.mark != generation {
            session.mark = Mark::Clean;
        }
        let mut value = Vec::with_capacity(session.encoded_length_max());
        session.encode(&mut value);
        Some(value.into())
    }

    fn clean_request(&mut self, id: &RequestId) -> Option<Box<[u8]>> {
        let generation = self.journal.mark;
        let entry = self.requests.get_mut(id)?;
        if entry.mark != generation {
            entry.mark = Mark::Clean;
        }
        Some(entry.reply.clone())
    }
}

/// Adds ids that are dirty again; each once, as a view gives a record from the live state only once.
fn merge<Id: Ord>(dirty: &mut Vec<(Id, u16)>, again: Vec<(Id, u16)>) {
    let mut merged = BTreeMap::new();
    for (id, parts) in dirty.drain(..).chain(again) {
        let entry = merged.entry(id).or_insert(parts);
        *entry = parts.max(*entry);
    }
    dirty.extend(merged);
}

impl Frozen {
    /// Keeps a change block that is leaving the log, if the view still has to give it.
    pub fn save_block(&mut self, number: u64, block: Block) {
        if self.blocks.contains(&number) {
            self.blocks_saved.insert(number, block);
        }
    }

    fn give(&mut self, id: RecordId, parts_stored: u16, value: Option<Bytes>) {
        let mut given = 0;
        for record in value.into_iter().flat_map(|value| id.parts(value)) {
            self.pending.push_back(RecordWrite { key: record.key, value: Some(record.value) });
            given += 1;
        }
        // One deletion at least, so that a record that is gone is always told.
        let stored = if given == 0 { parts_stored.max(1) } else { parts_stored };
        for part in given..stored {
            self.pending.push_back(RecordWrite { key: id.key(part), value: None });
        }
    }
}
