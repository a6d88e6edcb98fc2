//! One transaction under way: what it may read, what it changed, how to take it back.
//!
//! Single operations check everything before they change anything, so only a multi keeps an undo
//! list.

use std::sync::Arc;

use bytes::Bytes;

use super::State;
use crate::acl::Identity;
use crate::acl_table::AclId;
use crate::change::{Change, ChangeKind, Value};
use crate::change_log::VALUE_BYTES_MAX;
use crate::command::Create;
use crate::id::{Position, SessionId, Timestamp, Zxid};
use crate::tree::node::{Kind, Slot};
use crate::tree::{NewNode, Removed};
use crate::znode::Stat;

/// A transaction under way.
pub(super) struct Transaction<'a> {
    pub zxid: Zxid,
    pub time: Timestamp,
    pub identities: &'a [Identity],
    /// The session whose numbered write this is.
    pub session: Option<SessionId>,
    pub changes: Vec<Change>,
    /// For each change the node's and its parent's ACL.
    pub change_acls: Vec<[AclId; 2]>,
    /// ACLs of nodes that went; released at the end, so that changes can name them.
    pub released_acls: Vec<AclId>,
    /// Kept by a multi only.
    pub undo: Option<Vec<Undo>>,
    pub ended_session: Option<SessionId>,
    /// Nodes counted to fill the statistics of quotas.
    pub counted: u64,
}

/// One step back.
pub(super) enum Undo {
    Created { slot: Slot, parent_pzxid: Zxid },
    Removed { removed: Removed, parent: Slot, parent_pzxid: Zxid },
    Data { slot: Slot, data: Option<Bytes>, mzxid: Zxid, mtime: Timestamp, version: i32 },
}

impl Transaction<'_> {
    fn note_undo(&mut self, undo: impl FnOnce() -> Undo) {
        if let Some(list) = &mut self.undo {
            list.push(undo());
        }
    }
}

impl State {
    /// Creates a node; all checks have passed. `path` is the node's final path.
    pub(super) fn insert_node(
        &mut self,
        transaction: &mut Transaction<'_>,
        parent: Slot,
        path: &str,
        acl: &[crate::acl::AclEntry],
        create: &Create,
    ) -> Slot {
        let kind = match (create.mode.ttl_ms(), transaction.session) {
            (Some(ttl_ms), _) => Kind::Ttl(ttl_ms),
            (None, Some(session)) if create.mode.is_ephemeral() => Kind::Ephemeral(session),
            (None, _) if create.mode == crate::znode::CreateMode::Container => Kind::Container,
            (None, _) => Kind::Persistent,
        };
        self.touch_node(parent);
        let slot = self.tree.take_slot();
        self.touch_node(slot);
        let data = create.data.as_deref();
        self.touch_data(slot, data);
        let acl = self.acquire_acl(acl);
        let name = crate::path::last_name(path);
        let (zxid, time) = (transaction.zxid, transaction.time);
        self.tree.insert(slot, &NewNode { parent, name, kind, acl, data, zxid, time });
        let node = self.tree.node_mut(parent);
        let parent_pzxid = std::mem::replace(&mut node.pzxid, zxid);
        node.creates = node.creates.wrapping_add(1);
        self.own(kind, slot);
        transaction.note_undo(|| Undo::Created { slot, parent_pzxid });
        self.count_quota(transaction, path, 1, data.map_or(0, <[u8]>::len) as i64);
        // The statistics of a quota are not their creator's to say.
        let value = match self.fill_quota_stats(transaction, path, slot) {
            true => self.value_to_keep(self.tree.data(slot).as_ref()),
            false => self.value_to_keep(create.data.as_ref()),
        };
        self.note_change(transaction, ChangeKind::Created, slot, path, value);
        slot
    }

    /// Removes a childless node; all checks have passed.
    pub(super) fn remove_node(&mut self, transaction: &mut Transaction<'_>, slot: Slot, path: &str) {
        let parent = self.tree.node(slot).parent;
        self.touch_node(parent);
        self.touch_node(slot);
        self.touch_data(slot, None);
        self.note_change(transaction, ChangeKind::Deleted, slot, path, Value::Kept(None));
        let data_length = self.tree.data_length(slot) as i64;
        let removed = self.tree.remove(slot);
        self.disown(removed.kind(), slot);
        let node = self.tree.node_mut(parent);
        let parent_pzxid = std::mem::replace(&mut node.pzxid, transaction.zxid);
        transaction.released_acls.push(removed.acl());
        transaction.note_undo(|| Undo::Removed { removed, parent, parent_pzxid });
        self.count_quota(transaction, path, -1, -data_length);
    }

    /// Sets a node's data; all checks have passed.
    pub(super) fn replace_data(
        &mut self,
        transaction: &mut Transaction<'_>,
        slot: Slot,
        path: &str,
        data: Option<&Bytes>,
    ) -> Stat {
        let growth = data.map_or(0, |data| data.len()) as i64 - self.tree.data_length(slot) as i64;
        self.write_data(transaction, slot, data.map(|data| &data[..]));
        let node = self.tree.node_mut(slot);
        (node.mzxid, node.mtime) = (transaction.zxid, transaction.time);
        node.version = next_version(node.version);
        self.count_quota(transaction, path, 0, growth);
        let value = self.value_to_keep(data);
        self.note_change(transaction, ChangeKind::DataChanged, slot, path, value)
    }

    /// Replaces data and nothing else.
    pub(super) fn write_data(&mut self, transaction: &mut Transaction<'_>, slot: Slot, data: Option<&[u8]>) {
        self.touch_node(slot);
        self.touch_data(slot, data);
        let (tree, node) = (&self.tree, self.tree.node(slot));
        let (mzxid, mtime, version) = (node.mzxid, node.mtime, node.version);
        transaction.note_undo(|| Undo::Data { slot, data: tree.data(slot), mzxid, mtime, version });
        self.tree.set_data(slot, data);
    }

    /// Takes back all that a multi changed.
    pub(super) fn roll_back(&mut self, transaction: &mut Transaction<'_>) {
        for undo in transaction.undo.take().into_iter().flatten().rev() {
            match undo {
                Undo::Created { slot, parent_pzxid } => {
                    let parent = self.tree.node(slot).parent;
                    let removed = self.tree.remove(slot);
                    self.disown(removed.kind(), slot);
                    self.release_acl(removed.acl());
                    let node = self.tree.node_mut(parent);
                    node.pzxid = parent_pzxid;
                    node.creates = node.creates.wrapping_sub(1);
                }
                Undo::Removed { removed, parent, parent_pzxid } => {
                    // Its ACL was never released, so it is simply used again.
                    transaction.released_acls.pop();
                    let (kind, slot) = (removed.kind(), removed.slot);
                    self.tree.restore(removed);
                    self.own(kind, slot);
                    self.tree.node_mut(parent).pzxid = parent_pzxid;
                }
                Undo::Data { slot, data, mzxid, mtime, version } => {
                    self.tree.set_data(slot, data.as_deref());
                    let node = self.tree.node_mut(slot);
                    (node.mzxid, node.mtime, node.version) = (mzxid, mtime, version);
                }
            }
        }
        transaction.changes.clear();
        transaction.change_acls.clear();
    }

    /// Counts the transaction and files its changes.
    pub(super) fn commit(&mut self, transaction: Transaction<'_>) -> Vec<Change> {
        let Transaction { zxid, changes, mut change_acls, released_acls, .. } = transaction;
        self.zxid = zxid;
        for (change, acls) in changes.iter().zip(&change_acls) {
            self.log_change(change, *acls);
        }
        change_acls.clear();
        self.journal.change_acls = change_acls;
        self.trim_change_log();
        for acl in released_acls {
            self.release_acl(acl);
        }
        changes
    }

    /// Notes a change of a node that is (still) there; returns the Stat that it carries.
    fn note_change(
        &mut self,
        transaction: &mut Transaction<'_>,
        kind: ChangeKind,
        slot: Slot,
        path: &str,
        value: Value,
    ) -> Stat {
        let stat = self.tree.stat(slot);
        let node = self.tree.node(slot);
        // The root has no parent; its own list guards what hangs on nothing.
        let parent = self.tree.get(node.parent).unwrap_or(node);
        let acls = [node.acl, parent.acl];
        let position = Position { zxid: transaction.zxid, ordinal: transaction.changes.len() as u32 };
        transaction.changes.push(Change {
            position,
            kind,
            path: path.into(),
            stat,
            value,
            acl: Arc::clone(self.acls.list(acls[0])),
            parent_acl: Arc::clone(self.acls.list(acls[1])),
        });
        transaction.change_acls.push(acls);
        stat
    }

    fn value_to_keep(&self, data: Option<&Bytes>) -> Value {
        let bytes_max = VALUE_BYTES_MAX.min(self.settings.change_value_bytes as usize);
        match data {
            Some(data) if data.len() > bytes_max => Value::NotKept,
            data => Value::Kept(data.cloned()),
        }
    }

    /// Notes a new ephemeral with its session.
    fn own(&mut self, kind: Kind, slot: Slot) {
        if let Kind::Ephemeral(owner) = kind {
            self.ephemerals += 1;
            if let Some(session) = self.sessions.get_mut(&owner) {
                session.ephemerals.insert(slot);
            }
        }
    }

    fn disown(&mut self, kind: Kind, slot: Slot) {
        if let Kind::Ephemeral(owner) = kind {
            self.ephemerals -= 1;
            if let Some(session) = self.sessions.get_mut(&owner) {
                session.ephemerals.remove(&slot);
            }
        }
    }
}

/// The version after this one; −1 means "any" to clients, so no node ever has it.
pub(super) fn next_version(version: i32) -> i32 {
    match version.wrapping_add(1) {
        -1 => 0,
        next => next,
    }
}
