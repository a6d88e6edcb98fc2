//! Neighbouring records share a stored value: a *block*.
//!
//! sled keeps 16 values a page whatever their size, and costs some 10 µs for each: one value a
//! record made a million records take seconds to load. A block of a few kilobytes has a dozen
//! records; the pages are then what a page should be, and a load takes a tenth of the time.
//! (Much larger blocks would be faster still, but sled's cache cannot let go of large pages.)
//!
//! - A block's key is at most its first record's key, and above every record of the block before.
//! - Records are sorted within a block; no block is empty.
//! - Changing a record rewrites its block; a block that has grown too large is split.

use quorate_core::record::RecordWrite;

use quorate_core::record_file::{self, PieceError};

/// A block that is newly made is closed at this size.
const FILL: usize = 3 << 10;
/// A block above this is split.
const SPLIT: usize = 4 << 10;

/// One change to the stored blocks.
#[derive(Debug, PartialEq, Eq)]
pub struct BlockWrite {
    /// The block's key.
    pub key: Vec<u8>,
    /// Its new bytes; `None`: the block is gone.
    pub value: Option<Vec<u8>>,
}

/// Makes blocks of records that arrive in order.
pub struct BlockBuilder {
    target: usize,
    key: Vec<u8>,
    bytes: Vec<u8>,
}

impl Default for BlockBuilder {
    fn default() -> BlockBuilder {
        BlockBuilder::new(FILL)
    }
}

impl BlockBuilder {
    /// Blocks are closed once they have `target` bytes, or before a record that would more than fill them.
    fn new(target: usize) -> BlockBuilder {
        BlockBuilder { target, key: Vec::new(), bytes: Vec::new() }
    }

    /// Adds a record; gives the block before it if that is full.
    pub fn push(&mut self, key: &[u8], value: &[u8]) -> Option<BlockWrite> {
        let full = self.bytes.len() >= self.target || self.bytes.len() + value.len() > SPLIT;
        let complete = if full { self.finish() } else { None };
        if self.bytes.is_empty() {
            self.key = key.to_vec();
            // Room for the checksum.
            self.bytes.extend_from_slice(&[0; 4]);
        }
        record_file::put_record(&mut self.bytes, key, Some(value));
        complete
    }

    /// The last block.
    pub fn finish(&mut self) -> Option<BlockWrite> {
        if self.bytes.is_empty() {
            return None;
        }
        let (key, mut bytes) = (std::mem::take(&mut self.key), std::mem::take(&mut self.bytes));
        let crc = checksum(&key, &bytes[4..]);
        bytes[..4].copy_from_slice(&crc.to_le_bytes());
        Some(BlockWrite { key, value: Some(bytes) })
    }
}

/// A record's key and value, or why the rest of its block cannot be read.
pub type RecordResult<'a> = Result<(&'a [u8], &'a [u8]), PieceError>;

/// The records of a stored block, verified.
pub fn open<'a>(key: &[u8], block: &'a [u8]) -> Result<impl Iterator<Item = RecordResult<'a>>, PieceError> {
    let Some((crc, body)) = block.split_first_chunk::<4>() else {
        return Err(PieceError::Damaged("a block is cut short".into()));
    };
    if checksum(key, body).to_le_bytes() != *crc {
        return Err(PieceError::Damaged("a block's checksum does not match".into()));
    }
    Ok(record_file::records(body).map(|record| {
        let (key, value) = record?;
        value
            .map(|value| (key, value))
            .ok_or_else(|| PieceError::Damaged("a block has a deletion in it".into()))
    }))
}

/// Applies changes, sorted, to one block: what to store instead of it. `block` is `None` if the
/// changes come before the first block; `key` is then the first change's own.
pub fn update(
    key: &[u8],
    block: Option<&[u8]>,
    changes: &[RecordWrite],
) -> Result<Vec<BlockWrite>, PieceError> {
    let mut merged: Vec<(&[u8], &[u8])> = Vec::new();
    let mut changes = changes.iter().peekable();
    if let Some(block) = block {
        for record in open(key, block)? {
            let (old_key, old_value) = record?;
            while let Some(change) = changes.next_if(|change| change.key < old_key) {
                merged.extend(change.value.as_ref().map(|value| (&change.key[..], &value[..])));
            }
            match changes.next_if(|change| change.key == old_key) {
                Some(change) => {
                    merged.extend(change.value.as_ref().map(|value| (&change.key[..], &value[..])))
                }
                None => merged.push((old_key, old_value)),
            }
        }
    }
    merged.extend(changes.filter_map(|change| Some((&change.key[..], &change.value.as_ref()?[..]))));

    let mut out = Vec::new();
    let total: usize = merged.iter().map(|(key, value)| key.len() + value.len() + 5).sum();
    // Split evenly, so that no sliver is left over to live as a block of its own.
    let target = if total <= SPLIT { usize::MAX } else { total / total.div_ceil(FILL) };
    let mut builder = BlockBuilder::new(target);
    for (key, value) in merged {
        out.extend(builder.push(key, value));
    }
    out.extend(builder.finish());
    if block.is_some() {
        keep_key(key, &mut out);
    }
    Ok(out)
}

/// The first block of an update keeps the key that the old one had; none left means that it goes.
fn keep_key(key: &[u8], out: &mut Vec<BlockWrite>) {
    let Some(block) = out.first_mut() else {
        out.push(BlockWrite { key: key.to_vec(), value: None });
        return;
    };
    if block.key != key {
        block.key = key.to_vec();
        if let Some(bytes) = &mut block.value {
            let crc = checksum(key, &bytes[4..]);
            bytes[..4].copy_from_slice(&crc.to_le_bytes());
        }
    }
}

fn checksum(key: &[u8], body: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&[key.len() as u8]);
    hasher.update(key);
    hasher.update(body);
    hasher.finalize()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use bytes::Bytes;

    use super::*;

    type Stored = BTreeMap<Vec<u8>, Vec<u8>>;

    fn apply(stored: &mut Stored, writes: Vec<BlockWrite>) {
        for write in writes {
            match write.value {
                Some(value) => stored.insert(write.key, value),
                None => stored.remove(&write.key),
            };
        }
    }

    fn change(stored: &mut Stored, changes: &[RecordWrite]) {
        let mut rest = changes;
        while let Some(first) = rest.first() {
            let floor = stored.range(..=first.key.to_vec()).next_back().map(|(k, v)| (k.clone(), v.clone()));
            let key = floor.as_ref().map_or(first.key.to_vec(), |(key, _)| key.clone());
            let after = (std::ops::Bound::Excluded(first.key.to_vec()), std::ops::Bound::Unbounded);
            let upper = stored.range(after).next().map(|(key, _)| key.clone());
            let count = rest.iter().take_while(|c| upper.as_ref().is_none_or(|u| c.key < u[..])).count();
            let block = floor.as_ref().map(|(_, value)| &value[..]);
            let writes = update(&key, block, &rest[..count]).expect("whole blocks");
            apply(stored, writes);
            rest = &rest[count..];
        }
    }

    fn contents(stored: &Stored) -> BTreeMap<Vec<u8>, Vec<u8>> {
        let mut all = BTreeMap::new();
        let mut last = Vec::new();
        for (key, block) in stored {
            let mut count = 0;
            for record in open(key, block).expect("whole") {
                let (record_key, value) = record.expect("whole");
                assert!(
                    record_key >= &key[..] && record_key > &last[..],
                    "sorted, and not below the block's key"
                );
                last = record_key.to_vec();
                all.insert(record_key.to_vec(), value.to_vec());
                count += 1;
            }
            assert!(count > 0, "no block is empty");
        }
        all
    }

    #[test]
    fn blocks_hold_what_a_map_would_through_random_changes() {
        let mut random = 12345_u64;
        let mut next = |below: u64| {
            random = random.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            (random >> 33) % below
        };
        let (mut stored, mut model) = (Stored::new(), BTreeMap::new());
        for _ in 0..300 {
            let mut changes = BTreeMap::new();
            for _ in 0..next(200) {
                let key = vec![1, next(4) as u8, next(256) as u8];
                let large = next(50) == 0;
                let value = (next(3) > 0)
                    .then(|| vec![next(256) as u8; next(if large { 60_000 } else { 300 }) as usize]);
                changes.insert(key, value);
            }
            let list: Vec<RecordWrite> = changes
                .iter()
                .map(|(key, value)| RecordWrite {
                    key: key.clone().into(),
                    value: value.clone().map(Bytes::from),
                })
                .collect();
            change(&mut stored, &list);
            for (key, value) in changes {
                match value {
                    Some(value) => model.insert(key, value),
                    None => model.remove(&key),
                };
            }
            assert_eq!(contents(&stored), model);
        }
    }

    #[test]
    fn blocks_neither_grow_large_nor_fall_apart() {
        let write = |number: u32, size: usize| RecordWrite {
            key: number.to_be_bytes().to_vec().into(),
            value: Some(vec![7; size].into()),
        };
        let mut stored = Stored::new();
        change(&mut stored, &(1..10_001).map(|number| write(number << 8, 200)).collect::<Vec<_>>());
        assert!(stored.len() < 10_000 / 12, "{} blocks", stored.len());
        for round in 0..20 {
            let sizes = (1..10_001).filter(|number| number % 7 == round % 7);
            change(&mut stored, &sizes.map(|n| write(n << 8, 150 + (n % 100) as usize)).collect::<Vec<_>>());
        }
        assert!(stored.len() < 10_000 / 8, "{} blocks", stored.len());
        assert!(stored.values().all(|block| block.len() <= SPLIT + 300));
    }

    #[test]
    fn a_block_under_another_key_or_with_a_flipped_bit_is_refused() {
        let mut builder = BlockBuilder::default();
        builder.push(b"a", b"1");
        let BlockWrite { key, value } = builder.finish().expect("a block");
        let value = value.expect("bytes");
        assert!(open(b"b", &value).is_err());
        for bit in 0..value.len() * 8 {
            let mut bad = value.clone();
            bad[bit / 8] ^= 1 << (bit % 8);
            assert!(open(&key, &bad).is_err(), "bit {bit}");
        }
    }
}
