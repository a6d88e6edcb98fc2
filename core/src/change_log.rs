//! The changes kept for resuming watches: encoded, in blocks, bounded by bytes.
//!
//! A block is a record; it grows until it is full and leaves as a whole. Where blocks begin
//! depends only on the changes themselves, so all members cut them alike. ACLs are named by their
//! interned ids, which the log keeps in use.

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::Bytes;

use crate::acl_table::{AclId, AclTable};
use crate::change::{Change, ChangeKind, Value};
use crate::codec::{DecodeError, Integers, Reader, put_bytes, put_u64};
use crate::id::{Position, SessionId, Timestamp, Zxid};
use crate::path::PATH_BYTES_MAX;
use crate::record::PART_BYTES;
use crate::znode::Stat;

/// A block that has reached this size takes no more changes.
const BLOCK_BYTES: usize = 16 * 1024;
/// No value above this is kept, whatever the setting says: a block, its last change included, must fit one
/// part of a record.
pub(crate) const VALUE_BYTES_MAX: usize = 7 * 1024;
/// A change's encoding beside its path and value is below this.
const HEAD_BYTES_MAX: usize = 512;
const _: () = assert!(BLOCK_BYTES + VALUE_BYTES_MAX + PATH_BYTES_MAX + HEAD_BYTES_MAX <= PART_BYTES);

/// Changes that stand and go together.
#[derive(Debug, Default)]
pub(crate) struct Block {
    bytes: Vec<u8>,
    count: u32,
    last: Position,
    /// Sum of the changes' hashes, as the digest has them.
    pub hash: u128,
    /// ACLs in use here, and how often.
    acls: Vec<(AclId, u64)>,
}

impl Block {
    /// The changes, encoded one after the other.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// ACLs in use here, and how often.
    pub fn acls(&self) -> &[(AclId, u64)] {
        &self.acls
    }

    fn add(&mut self, encoded: &[u8], hash: u128, position: Position, acls: [AclId; 2]) {
        self.bytes.extend_from_slice(encoded);
        self.hash = self.hash.wrapping_add(hash);
        self.count += 1;
        self.last = position;
        for acl in acls {
            match self.acls.iter_mut().find(|(id, _)| *id == acl) {
                Some((_, uses)) => *uses += 1,
                None => self.acls.push((acl, 1)),
            }
        }
    }
}

/// All blocks, oldest first.
#[derive(Debug, Default)]
pub(crate) struct ChangeLog {
    blocks: VecDeque<Block>,
    /// The number of the first block; numbers grow by one and are never reused.
    first: u64,
    bytes: u64,
    count: u64,
    /// The last change that is no longer kept.
    pub floor: Position,
}

impl ChangeLog {
    /// An empty log whose next block gets this number.
    pub fn starting_at(first: u64, floor: Position) -> ChangeLog {
        ChangeLog { first, floor, ..ChangeLog::default() }
    }

    /// Bytes of all blocks.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// How many changes are kept.
    pub fn count(&self) -> u64 {
        self.count
    }

    /// Numbers of the blocks that there are.
    pub fn numbers(&self) -> std::ops::Range<u64> {
        self.first..self.first + self.blocks.len() as u64
    }

    /// A block by its number.
    pub fn block(&self, number: u64) -> Option<&Block> {
        self.blocks.get(usize::try_from(number.checked_sub(self.first)?).ok()?)
    }

    /// Whether the next change begins a new block.
    pub fn is_at_block_end(&self) -> bool {
        self.blocks.back().is_none_or(|block| block.bytes.len() >= BLOCK_BYTES)
    }

    /// Adds the encoding of the newest change.
    pub fn append(&mut self, encoded: &[u8], hash: u128, position: Position, acls: [AclId; 2]) {
        let is_at_block_end = self.is_at_block_end();
        match self.blocks.back_mut() {
            Some(block) if !is_at_block_end => {
                block.add(encoded, hash, position, acls);
            }
            full => {
                if let Some(block) = full {
                    block.bytes.shrink_to_fit();
                }
                let mut block = Block { bytes: Vec::with_capacity(BLOCK_BYTES + 256), ..Block::default() };
                block.add(encoded, hash, position, acls);
                self.blocks.push_back(block);
            }
        }
        self.bytes += encoded.len() as u64;
        self.count += 1;
    }

    /// Takes out the oldest block if the log is larger than `bytes_max`.
    pub fn evict(&mut self, bytes_max: u64) -> Option<(u64, Block)> {
        if self.bytes <= bytes_max {
            return None;
        }
        let block = self.blocks.pop_front()?;
        let number = self.first;
        self.first += 1;
        self.bytes -= block.bytes.len() as u64;
        self.count -= u64::from(block.count);
        self.floor = block.last;
        Some((number, block))
    }

    /// Changes behind `position`, oldest first. The caller has compared it with the floor.
    pub fn since<'a>(&'a self, position: Position, acls: &'a AclTable) -> impl Iterator<Item = Change> + 'a {
        let start = self.blocks.partition_point(|block| block.last <= position);
        self.blocks
            .range(start..)
            .flat_map(|block| {
                let mut reader = Reader::new(&block.bytes, "change");
                std::iter::from_fn(move || (!reader.is_empty()).then(|| decode(&mut reader)))
            })
            .map(|decoded| decoded.expect("the log holds what was encoded or checked at load"))
            .filter(move |encoded| encoded.position > position)
            .map(|encoded| encoded.open(acls))
    }

    /// Adds a stored block, if it is one that follows.
    pub fn load(
        &mut self,
        number: u64,
        bytes: &[u8],
        mut hash: impl FnMut(&[u8]) -> u128,
        is_acl: impl Fn(AclId) -> bool,
    ) -> Result<(), DecodeError> {
        let mut reader = Reader::new(bytes, "change block");
        if number != self.numbers().end || bytes.is_empty() {
            return Err(reader.error());
        }
        let mut block = Block::default();
        let mut last = self.blocks.back().map_or(self.floor, |block| block.last);
        while !reader.is_empty() {
            let before = reader.rest();
            let change = decode(&mut reader)?;
            if change.position <= last {
                return Err(reader.error());
            }
            last = change.position;
            if !is_acl(change.acl) || !is_acl(change.parent_acl) {
                return Err(reader.error());
            }
            let encoded = &before[..before.len() - reader.rest().len()];
            block.add(encoded, hash(encoded), change.position, [change.acl, change.parent_acl]);
        }
        if block.bytes.len() < BLOCK_BYTES {
            block.bytes.reserve(BLOCK_BYTES + 256 - block.bytes.len());
        }
        self.bytes += block.bytes.len() as u64;
        self.count += u64::from(block.count);
        self.blocks.push_back(block);
        Ok(())
    }

    /// Every change's encoding, oldest first.
    pub fn encodings(&self) -> impl Iterator<Item = &[u8]> {
        self.blocks.iter().flat_map(|block| {
            let mut reader = Reader::new(&block.bytes, "change");
            std::iter::from_fn(move || {
                let before = reader.rest();
                if before.is_empty() {
                    return None;
                }
                decode(&mut reader).expect("the log holds what was encoded or checked at load");
                Some(&before[..before.len() - reader.rest().len()])
            })
        })
    }
}

/// Appends a change's encoding (docs/formats.md).
pub(crate) fn encode(change: &Change, acls: [AclId; 2], out: &mut Vec<u8>) {
    out.push(match change.kind {
        ChangeKind::Created => 0,
        ChangeKind::Deleted => 1,
        ChangeKind::DataChanged => 2,
    });
    put_u64(out, change.position.zxid.0);
    put_u64(out, u64::from(change.position.ordinal));
    put_bytes(out, change.path.as_bytes());
    put_stat(out, &change.stat, change.position.zxid);
    match &change.value {
        Value::Kept(None) => out.push(0),
        Value::Kept(Some(data)) => {
            out.push(1);
            put_bytes(out, data);
        }
        Value::NotKept => out.push(2),
    }
    for acl in acls {
        put_u64(out, acl.into());
    }
}

/// Transactions as distances back from the change's own, the second time as a distance from the
/// first: most of these are a byte or two.
fn put_stat(out: &mut Vec<u8>, stat: &Stat, zxid: Zxid) {
    let mut integers = Integers::<90>::new();
    for other in [stat.czxid, stat.mzxid, stat.pzxid] {
        integers.put_u64(zxid.0.wrapping_sub(other.0));
    }
    integers.put_i64(stat.ctime.0);
    integers.put_i64(stat.mtime.0.wrapping_sub(stat.ctime.0));
    for version in [stat.version, stat.cversion, stat.aversion] {
        integers.put_i64(version.into());
    }
    integers.put_u64(stat.ephemeral_owner.0);
    integers.put_i64(stat.data_length.into());
    integers.put_i64(stat.num_children.into());
    out.extend_from_slice(integers.as_slice());
}

/// A change as it stands in the log.
struct Encoded<'a> {
    kind: ChangeKind,
    position: Position,
    path: &'a str,
    stat: Stat,
    /// Outer: kept; inner: null or not.
    value: Option<Option<&'a [u8]>>,
    acl: AclId,
    parent_acl: AclId,
}

impl Encoded<'_> {
    fn open(&self, acls: &AclTable) -> Change {
        Change {
            position: self.position,
            kind: self.kind,
            path: self.path.into(),
            stat: self.stat,
            value: match self.value {
                Some(data) => Value::Kept(data.map(Bytes::copy_from_slice)),
                None => Value::NotKept,
            },
            acl: Arc::clone(acls.list(self.acl)),
            parent_acl: Arc::clone(acls.list(self.parent_acl)),
        }
    }
}

fn decode<'a>(reader: &mut Reader<'a>) -> Result<Encoded<'a>, DecodeError> {
    let kind = match reader.u8()? {
        0 => ChangeKind::Created,
        1 => ChangeKind::Deleted,
        2 => ChangeKind::DataChanged,
        _ => return Err(reader.error()),
    };
    let position = Position { zxid: Zxid(reader.u64()?), ordinal: reader.u32()? };
    let path = reader.str()?;
    let mut before = || reader.u64().map(|distance| Zxid(position.zxid.0.wrapping_sub(distance)));
    let (czxid, mzxid, pzxid) = (before()?, before()?, before()?);
    let ctime = Timestamp(reader.i64()?);
    let mtime = Timestamp(ctime.0.wrapping_add(reader.i64()?));
    let stat = Stat {
        czxid,
        mzxid,
        pzxid,
        ctime,
        mtime,
        version: reader.i32()?,
        cversion: reader.i32()?,
        aversion: reader.i32()?,
        ephemeral_owner: SessionId(reader.u64()?),
        data_length: reader.i32()?,
        num_children: reader.i32()?,
    };
    let value = match reader.u8()? {
        0 => Some(None),
        1 => Some(Some(reader.bytes()?)),
        2 => None,
        _ => return Err(reader.error()),
    };
    let (acl, parent_acl) = (reader.u32()?, reader.u32()?);
    Ok(Encoded { kind, position, path, stat, value, acl, parent_acl })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::acl::AclEntry;

    fn change(zxid: u64, ordinal: u32) -> Change {
        let zxids = (Zxid(zxid), Zxid(zxid.saturating_sub(200)), Zxid(zxid + 1));
        let stat = Stat {
            czxid: zxids.1,
            mzxid: zxids.0,
            pzxid: zxids.2,
            ctime: Timestamp(-9),
            mtime: Timestamp(1 << 50),
            version: i32::MIN,
            cversion: -1,
            aversion: i32::MAX,
            ephemeral_owner: SessionId(u64::MAX),
            data_length: 3,
            num_children: 0,
        };
        let values = [Value::Kept(None), Value::NotKept, Value::Kept(Some("abc".into()))];
        Change {
            position: Position { zxid: Zxid(zxid), ordinal },
            kind: [ChangeKind::Created, ChangeKind::Deleted, ChangeKind::DataChanged][zxid as usize % 3],
            path: format!("/node-{zxid}").into(),
            stat,
            value: values[ordinal as usize % 3].clone(),
            acl: AclEntry::open().into(),
            parent_acl: AclEntry::open().into(),
        }
    }

    #[test]
    fn changes_come_back_as_they_were_from_any_position_that_is_kept() {
        let mut acls = AclTable::default();
        let (acl, _) = acls.acquire(&AclEntry::open());
        let (mut log, mut model) = (ChangeLog::default(), Vec::new());
        for number in 1..2_000u64 {
            let change = change(number / 3 + 1, (number % 3) as u32);
            let mut encoded = Vec::new();
            encode(&change, [acl, acl], &mut encoded);
            log.append(&encoded, 0, change.position, [acl, acl]);
            model.push(change);
            while log.evict(40_000).is_some() {}
        }
        assert!(log.bytes() <= 40_000 && log.floor > Position::default());
        let kept = model.iter().filter(|change| change.position > log.floor).count();
        assert_eq!(log.count(), kept as u64);
        for (place, from) in model.iter().enumerate() {
            if from.position >= log.floor {
                assert!(log.since(from.position, &acls).eq(model[place + 1..].iter().cloned()));
            }
        }
        assert_eq!(log.since(Position::after(Zxid(9_999)), &acls).count(), 0);
    }
}
