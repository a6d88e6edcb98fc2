//! Values of records, and the state as records (docs/formats.md, "Records").

use bytes::Bytes;

use super::{Digest, State};
use crate::acl::AclEntry;
use crate::record::{ELEMENT_CHANGE, Record, RecordId, element_hash, part_count};
use crate::request_table::request_element;
use crate::settings::Settings;
use crate::tree::Tree;
use crate::tree::node::{DataPlace, NODE_HEAD_BYTES, Slot};

/// Version of the records' format: first in the meta record.
pub(super) const RECORDS_VERSION: u8 = 1;

const META_BYTES: usize = 1 + 6 * 8 + 4;

/// Appends a node's value; false (and nothing) if no node is there. Fixed places rather than
/// varints: every write encodes nodes several times over, for the digest.
pub(super) fn encode_node(tree: &Tree, slot: Slot, out: &mut Vec<u8>) -> bool {
    let Some(node) = tree.get(slot) else { return false };
    let (kind, extra) = node.kind_fields();
    let mut head = [0; NODE_HEAD_BYTES];
    let mut fields = FieldWriter { head: &mut head, at: 0 };
    fields.put(node.parent.to_le_bytes());
    fields.put(node.acl.to_le_bytes());
    fields.put(node.czxid.0.to_le_bytes());
    fields.put(node.mzxid.0.to_le_bytes());
    fields.put(node.pzxid.0.to_le_bytes());
    fields.put(node.ctime.0.to_le_bytes());
    fields.put(node.mtime.0.to_le_bytes());
    fields.put(extra.to_le_bytes());
    fields.put(node.version.to_le_bytes());
    fields.put(node.aversion.to_le_bytes());
    fields.put(node.creates.to_le_bytes());
    fields.put([kind, node.data_place() as u8]);
    fields.put(node.name_length().to_le_bytes());
    out.extend_from_slice(&head);
    out.extend_from_slice(node.text());
    if let Some(large) = tree.large(slot).filter(|_| node.data_place() == DataPlace::Large) {
        out.extend_from_slice(&(large.data.len() as u64).to_le_bytes());
        out.extend_from_slice(&large.hash.to_le_bytes());
    }
    true
}

/// Fills a record's fixed part from the front.
struct FieldWriter<'a> {
    head: &'a mut [u8],
    at: usize,
}

impl FieldWriter<'_> {
    #[inline(always)]
    fn put<const N: usize>(&mut self, field: [u8; N]) {
        self.head[self.at..self.at + N].copy_from_slice(&field);
        self.at += N;
    }
}

/// Appends the settings' value.
pub(super) fn encode_settings(settings: &Settings, out: &mut Vec<u8>) {
    out.extend(postcard::to_stdvec(settings).expect("settings have no unencodable part"));
}

/// An ACL's value.
pub(super) fn encode_acl(list: &[AclEntry]) -> Vec<u8> {
    postcard::to_stdvec(list).expect("an ACL has no unencodable part")
}

/// How many parts an ACL's record has.
pub(super) fn acl_parts(list: &[AclEntry]) -> u16 {
    part_count(encode_acl(list).len())
}

impl State {
    /// Every record, sorted by key. Equal states give equal bytes.
    pub fn all_records(&self) -> impl Iterator<Item = Record> + '_ {
        let mut meta = Vec::new();
        self.encode_meta(&mut meta);
        let mut settings = Vec::new();
        encode_settings(&self.settings, &mut settings);
        let heads = [(RecordId::Meta, Bytes::from(meta)), (RecordId::Settings, settings.into())];
        let acls = self.acls.ids().map(|id| (RecordId::Acl(id), encode_acl(self.acls.list(id)).into()));
        let nodes = self.tree.occupied().map(|slot| {
            let mut value = Vec::with_capacity(128);
            encode_node(&self.tree, slot, &mut value);
            (RecordId::Node(slot), value.into())
        });
        let data = self.tree.large_slots().map(|slot| {
            let data = self.tree.large(slot).map_or(Bytes::new(), |large| large.data.clone());
            (RecordId::Data(slot), data)
        });
        let sessions = self.sessions.iter().map(|(id, session)| {
            let mut value = Vec::with_capacity(session.encoded_length_max());
            session.encode(&mut value);
            (RecordId::Session(*id), value.into())
        });
        let requests = self
            .requests
            .iter()
            .map(|(id, entry)| (RecordId::Request(id.clone()), Bytes::copy_from_slice(&entry.reply)));
        let blocks = self.changes.numbers().filter_map(|number| {
            let block = self.changes.block(number)?;
            Some((RecordId::Changes(number), Bytes::copy_from_slice(block.bytes())))
        });
        heads
            .into_iter()
            .chain(acls)
            .chain(nodes)
            .chain(data)
            .chain(sessions)
            .chain(requests)
            .chain(blocks)
            .flat_map(|(id, value)| id.parts(value))
    }

    /// The digest, computed anew from everything that records hold.
    pub fn recompute_digest(&self) -> Digest {
        let mut digest = 0u128;
        let mut scratch = Vec::new();
        let mut add = |hash: u128| digest = digest.wrapping_add(hash);
        RecordId::Meta.put_prefix(&mut scratch);
        self.encode_meta(&mut scratch);
        add(element_hash(&scratch));
        scratch.clear();
        RecordId::Settings.put_prefix(&mut scratch);
        encode_settings(&self.settings, &mut scratch);
        add(element_hash(&scratch));
        for id in self.acls.ids() {
            add(self.acl_element(id));
        }
        for slot in self.tree.occupied() {
            scratch.clear();
            RecordId::Node(slot).put_prefix(&mut scratch);
            encode_node(&self.tree, slot, &mut scratch);
            add(element_hash(&scratch));
        }
        for (id, session) in &self.sessions {
            add(session.recompute_hash(*id));
        }
        for (id, entry) in self.requests.iter() {
            add(request_element(id, &entry.reply, &mut scratch));
        }
        for change in self.changes.encodings() {
            scratch.clear();
            scratch.push(ELEMENT_CHANGE);
            scratch.extend_from_slice(change);
            add(element_hash(&scratch));
        }
        Digest(digest)
    }

    /// Appends the meta record's value.
    pub(super) fn encode_meta(&self, out: &mut Vec<u8>) {
        let mut head = [0; META_BYTES];
        let mut fields = FieldWriter { head: &mut head, at: 0 };
        fields.put([RECORDS_VERSION]);
        fields.put(self.zxid.0.to_le_bytes());
        fields.put(self.time.0.to_le_bytes());
        fields.put(self.session_last.to_le_bytes());
        fields.put(self.requests.floor.0.to_le_bytes());
        fields.put(self.changes.numbers().end.to_le_bytes());
        fields.put(self.changes.floor.zxid.0.to_le_bytes());
        fields.put(self.changes.floor.ordinal.to_le_bytes());
        out.extend_from_slice(&head);
    }

    /// What an ACL adds to the digest.
    pub(super) fn acl_element(&self, id: crate::acl_table::AclId) -> u128 {
        let mut element = Vec::new();
        RecordId::Acl(id).put_prefix(&mut element);
        element.extend(encode_acl(self.acls.list(id)));
        element_hash(&element)
    }
}
