//! The tree from stored records: nodes first, in any order of parents and children, links last.

use bytes::Bytes;
use xxhash_rust::xxh3::xxh3_128;

use super::index::NameIndex;
use super::node::{DataPlace, INLINE_DATA_MAX, Kind, NO_SLOT, Slot};
use super::{Large, ROOT, Tree};
use crate::codec::{DecodeError, Reader};
use crate::id::{SessionId, Timestamp, Zxid};

/// No stored node is taken from beyond this place: a corrupt key must not grow the slab to its end.
const SLOT_LOADED_MAX: Slot = 1 << 28;

impl Tree {
    /// Puts a stored node at its place, without its links and without large data. Returns its ACL.
    pub fn load_node(&mut self, slot: Slot, value: &[u8]) -> Result<u32, DecodeError> {
        let mut reader = Reader::new(value, "node record");
        let parent = u32::from_le_bytes(reader.array()?);
        let acl = u32::from_le_bytes(reader.array()?);
        let mut long = || reader.array().map(u64::from_le_bytes);
        let (czxid, mzxid, pzxid) = (Zxid(long()?), Zxid(long()?), Zxid(long()?));
        let (ctime, mtime) = (Timestamp(long()? as i64), Timestamp(long()? as i64));
        let extra = long()?;
        let mut int = || reader.array().map(i32::from_le_bytes);
        let (version, aversion, creates) = (int()?, int()?, int()?);
        let [kind, place] = reader.array()?;
        let name_length = u16::from_le_bytes(reader.array()?);
        let name = reader.take(name_length.into())?;
        let name = std::str::from_utf8(name).map_err(|_| reader.error())?;
        let is_name = !name.is_empty() && !name.contains('/') && name.len() < crate::path::PATH_BYTES_MAX;
        if slot > SLOT_LOADED_MAX || is_name == (slot == ROOT) || (parent == NO_SLOT) != (slot == ROOT) {
            return Err(reader.error());
        }
        let kind = match (kind, extra) {
            (0, 0) => Kind::Persistent,
            (1, owner) => Kind::Ephemeral(SessionId(owner)),
            (2, 0) => Kind::Container,
            (3, ttl_ms) => Kind::Ttl(ttl_ms as i64),
            _ => return Err(reader.error()),
        };
        if !self.slab.take(slot) {
            return Err(reader.error());
        }
        let node = &mut self.slab[slot];
        node.occupy(name, kind);
        (node.parent, node.acl) = (parent, acl);
        (node.czxid, node.mzxid, node.pzxid) = (czxid, mzxid, pzxid);
        (node.ctime, node.mtime) = (ctime, mtime);
        (node.version, node.aversion, node.creates) = (version, aversion, creates);
        match place {
            0 => {}
            1 => {
                let data = reader.take(reader.rest().len())?;
                if data.len() > INLINE_DATA_MAX {
                    return Err(reader.error());
                }
                node.put_inline(data);
                self.data_bytes += data.len() as u64;
            }
            2 => {
                let length = u64::from_le_bytes(reader.array()?);
                let hash = u128::from_le_bytes(reader.array()?);
                let length = usize::try_from(length).map_err(|_| reader.error())?;
                node.put_elsewhere(DataPlace::Large);
                self.large_awaited.insert(slot, (length, hash));
            }
            _ => return Err(reader.error()),
        }
        if matches!(kind, Kind::Container | Kind::Ttl(_)) {
            self.expirable.insert(slot);
        }
        self.count += 1;
        reader.finish()?;
        Ok(acl)
    }

    /// Gives a stored node its large data.
    pub fn load_data(&mut self, slot: Slot, data: Bytes) -> Result<(), &'static str> {
        let large = Large { hash: xxh3_128(&data), data };
        if self.large_awaited.remove(&slot) != Some((large.data.len(), large.hash)) {
            return Err("a node's data is not what the node says");
        }
        self.data_bytes += large.data.len() as u64;
        self.large.insert(slot, large);
        Ok(())
    }

    /// Links all stored nodes to their parents; they must make one tree.
    pub fn link_all(&mut self) -> Result<(), &'static str> {
        if !self.large_awaited.is_empty() {
            return Err("a node's data is missing");
        }
        let count = u32::try_from(self.count).map_err(|_| "there are more nodes than places")?;
        self.index = NameIndex::with_room(self.index.seed(), count);
        for slot in 0..self.slab.length() {
            let Some(node) = self.slab.get(slot) else { continue };
            if node.parent == NO_SLOT {
                continue;
            }
            let parent = node.parent;
            if self.slab.get(parent).is_none() {
                return Err("a node's parent is missing");
            }
            if !self.index.insert_if_new(&mut self.slab, slot) {
                return Err("a node is there twice");
            }
            self.link_child(parent, slot);
        }
        // A ring of nodes below each other hangs on nothing.
        if self.slab.get(ROOT).is_none() || self.descendants(ROOT).count() as u64 + 1 != self.count {
            return Err("a node is not below the root");
        }
        Ok(())
    }
}
