//! What the durable records are called and how their keys look (docs/formats.md, "Records").
//!
//! A record is a node, a session with its replies, a block of changes, …. Its key is a tag byte,
//! big-endian fields and a part number: a value above 32 KiB is cut into parts, each under
//! its own key, so that no stored value is large.

use bytes::Bytes;
use xxhash_rust::xxh3::xxh3_128_with_seed;

use crate::acl_table::AclId;
use crate::codec::{DecodeError, Reader};
use crate::command::RequestId;
use crate::id::{SessionId, Timestamp};
use crate::tree::node::Slot;

/// A stored value is cut into parts of this size.
pub(crate) const PART_BYTES: usize = 32 * 1024;

/// The longest key: tag, time, nonce, part.
const KEY_BYTES_MAX: usize = 1 + 8 + 16 + 2;

/// One stored record, or a part of one.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Record {
    /// Sorted keys are the canonical order.
    pub key: Bytes,
    /// At most 32 KiB.
    pub value: Bytes,
}

/// What a checkpoint does with one key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RecordWrite {
    /// The key.
    pub key: Bytes,
    /// The value to store; `None`: the record is gone.
    pub value: Option<Bytes>,
}

/// Names a whole record, all its parts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum RecordId {
    Meta,
    Settings,
    Acl(AclId),
    Node(Slot),
    Data(Slot),
    Session(SessionId),
    Request(RequestId),
    Changes(u64),
}

/// Marks what an element of the digest is, where that is not a whole record.
pub(crate) const ELEMENT_REPLY: u8 = 0x41;
/// See [`ELEMENT_REPLY`].
pub(crate) const ELEMENT_CHANGE: u8 = 0x42;

impl RecordId {
    fn tag(&self) -> u8 {
        match self {
            RecordId::Meta => 1,
            RecordId::Settings => 2,
            RecordId::Acl(_) => 3,
            RecordId::Node(_) => 4,
            RecordId::Data(_) => 5,
            RecordId::Session(_) => 6,
            RecordId::Request(_) => 7,
            RecordId::Changes(_) => 8,
        }
    }

    /// The key without the part number.
    pub fn put_prefix(&self, out: &mut Vec<u8>) {
        out.push(self.tag());
        match self {
            RecordId::Meta | RecordId::Settings => {}
            RecordId::Acl(number) | RecordId::Node(number) | RecordId::Data(number) => {
                out.extend_from_slice(&number.to_be_bytes());
            }
            RecordId::Session(SessionId(number)) | RecordId::Changes(number) => {
                out.extend_from_slice(&number.to_be_bytes());
            }
            RecordId::Request(RequestId { issued, nonce }) => {
                // The sign bit is flipped so that bytes sort like times.
                out.extend_from_slice(&(issued.0 ^ i64::MIN).to_be_bytes());
                out.extend_from_slice(nonce);
            }
        }
    }

    /// The key of a part.
    pub fn key(&self, part: u16) -> Bytes {
        let mut key = Vec::with_capacity(KEY_BYTES_MAX);
        self.put_prefix(&mut key);
        key.extend_from_slice(&part.to_be_bytes());
        key.into()
    }

    /// Takes a key apart.
    pub fn parse(key: &[u8]) -> Result<(RecordId, u16), DecodeError> {
        let mut reader = Reader::new(key, "record key");
        let tag = reader.u8()?;
        let id = match tag {
            1 => RecordId::Meta,
            2 => RecordId::Settings,
            3 => RecordId::Acl(u32::from_be_bytes(reader.array()?)),
            4 => RecordId::Node(u32::from_be_bytes(reader.array()?)),
            5 => RecordId::Data(u32::from_be_bytes(reader.array()?)),
            6 => RecordId::Session(SessionId(u64::from_be_bytes(reader.array()?))),
            7 => RecordId::Request(RequestId {
                issued: Timestamp(i64::from_be_bytes(reader.array()?) ^ i64::MIN),
                nonce: reader.array()?,
            }),
            8 => RecordId::Changes(u64::from_be_bytes(reader.array()?)),
            _ => return Err(reader.error()),
        };
        let part = u16::from_be_bytes(reader.array()?);
        reader.finish()?;
        Ok((id, part))
    }

    /// The parts of a value, in order. An empty value has one empty part.
    pub fn parts(&self, value: Bytes) -> impl Iterator<Item = Record> + use<> {
        let count = part_count(value.len());
        let keys: Vec<Bytes> = (0..count).map(|part| self.key(part)).collect();
        keys.into_iter().enumerate().map(move |(part, key)| {
            let start = part * PART_BYTES;
            let end = value.len().min(start + PART_BYTES);
            Record { key, value: value.slice(start..end) }
        })
    }
}

/// How many parts a value of this length has.
pub(crate) fn part_count(length: usize) -> u16 {
    length.div_ceil(PART_BYTES).max(1).try_into().expect("limits at admission keep values far below 3.7 GiB")
}

/// An element's hash: elements with different bytes have independent hashes, so sums tell them apart.
pub(crate) fn element_hash(bytes: &[u8]) -> u128 {
    // The key is fixed: it separates this sum from other uses of the hash, it is no secret.
    xxh3_128_with_seed(bytes, 0x5155_4f52_4154_4531)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ids() -> Vec<RecordId> {
        let request = |issued| RecordId::Request(RequestId { issued: Timestamp(issued), nonce: [7; 16] });
        vec![
            RecordId::Meta,
            RecordId::Settings,
            RecordId::Acl(3),
            RecordId::Node(0),
            RecordId::Node(256),
            RecordId::Data(9),
            RecordId::Session(SessionId(1)),
            request(-5),
            request(0),
            request(1 << 40),
            RecordId::Changes(12),
        ]
    }

    #[test]
    fn keys_sort_like_their_records_and_come_apart_again() {
        let keys: Vec<Bytes> = ids().iter().flat_map(|id| [id.key(0), id.key(1), id.key(300)]).collect();
        assert!(keys.is_sorted());
        for id in ids() {
            assert_eq!(RecordId::parse(&id.key(300)), Ok((id, 300)));
        }
        assert!(RecordId::parse(&[]).is_err() && RecordId::parse(&[9, 0, 0]).is_err());
        assert!(RecordId::parse(&[4, 0, 0, 0, 1, 0, 0, 0]).is_err());
    }

    #[test]
    fn a_large_value_is_cut_into_parts() {
        let value = Bytes::from(vec![5; PART_BYTES * 2 + 1]);
        let parts: Vec<Record> = RecordId::Data(1).parts(value).collect();
        assert_eq!(
            parts.iter().map(|part| part.value.len()).collect::<Vec<_>>(),
            [PART_BYTES, PART_BYTES, 1]
        );
        assert_eq!(RecordId::Data(1).parts(Bytes::new()).count(), 1);
    }
}
