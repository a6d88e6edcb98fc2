//! Finds a child by its parent and name at once: a hash table that grows one bucket at a time.
//!
//! Linear hashing: each insertion splits at most one bucket, so no insertion ever pays for a
//! rehash of the whole tree. Chains run through [`super::node::Node::next`]. The order in chains
//! depends on history; nothing but lookups of exact names ever sees it.

use xxhash_rust::xxh3::xxh3_64_with_seed;

use super::node::{NO_SLOT, Slot};
use super::slab::Slab;

/// Heads a block: the table grows by 16 KiB at a time.
const BLOCK: usize = 4096;
const MASK_FIRST: u32 = 15;

/// The table.
#[derive(Debug)]
pub(crate) struct NameIndex {
    heads: Vec<Box<[Slot]>>,
    /// Buckets below this have been split in this round.
    split: u32,
    /// The round began with this many buckets, less one.
    mask: u32,
    count: u32,
    seed: u64,
}

impl NameIndex {
    /// See [`NameIndex::new`].
    pub fn seed(&self) -> u64 {
        self.seed
    }

    /// An empty table. The seed changes no answer: it only makes colliding names hard to choose.
    pub fn new(seed: u64) -> NameIndex {
        let heads = vec![vec![NO_SLOT; BLOCK].into_boxed_slice()];
        NameIndex { heads, split: 0, mask: MASK_FIRST, count: 0, seed }
    }

    /// An empty table that takes `count` nodes without growing.
    pub fn with_room(seed: u64, count: u32) -> NameIndex {
        let buckets = count.max(MASK_FIRST + 1);
        let first = 1 << buckets.ilog2();
        let heads = vec![vec![NO_SLOT; BLOCK].into_boxed_slice(); (buckets as usize).div_ceil(BLOCK)];
        NameIndex { heads, split: buckets - first, mask: first - 1, count: 0, seed }
    }

    /// The child of `parent` with this name.
    pub fn find(&self, slab: &Slab, parent: Slot, name: &[u8]) -> Option<Slot> {
        self.find_hashed(slab, self.hash(parent, name), parent, name)
    }

    /// Adds a node unless one of that name is there; its parent and name are set.
    pub fn insert_if_new(&mut self, slab: &mut Slab, slot: Slot) -> bool {
        let node = &slab[slot];
        let hash = self.hash(node.parent, node.name_bytes());
        let is_new = self.find_hashed(slab, hash, node.parent, node.name_bytes()).is_none();
        if is_new {
            self.insert_hashed(slab, hash, slot);
        }
        is_new
    }

    /// Where the chain begins that has the child of `parent` with this name, if there is one, and the
    /// name's tag.
    pub fn bucket_of(&self, parent: Slot, name: &[u8]) -> (Slot, u8) {
        let hash = self.hash(parent, name);
        (*self.head(self.bucket(hash)), tag(hash))
    }

    fn find_hashed(&self, slab: &Slab, hash: u64, parent: Slot, name: &[u8]) -> Option<Slot> {
        let tag = tag(hash);
        let mut slot = *self.head(self.bucket(hash));
        while slot != NO_SLOT {
            let node = &slab[slot];
            if node.tag == tag && node.parent == parent && node.name_bytes() == name {
                return Some(slot);
            }
            slot = node.next;
        }
        None
    }

    /// Adds a node that is not there yet; its parent and name are set.
    pub fn insert(&mut self, slab: &mut Slab, slot: Slot) {
        self.insert_hashed(slab, self.hash(slab[slot].parent, slab[slot].name_bytes()), slot);
    }

    fn insert_hashed(&mut self, slab: &mut Slab, hash: u64, slot: Slot) {
        slab[slot].tag = tag(hash);
        self.push(slab, self.bucket(hash), slot);
        self.count += 1;
        if self.count > self.mask + self.split {
            self.split_one(slab);
        }
    }

    /// Removes a node that is there; its parent and name are still set.
    pub fn remove(&mut self, slab: &mut Slab, slot: Slot) {
        let bucket = self.bucket(self.hash(slab[slot].parent, slab[slot].name_bytes()));
        let next = slab[slot].next;
        let mut place = *self.head(bucket);
        if place == slot {
            *self.head_mut(bucket) = next;
        } else {
            while slab[place].next != slot {
                place = slab[place].next;
            }
            slab[place].next = next;
        }
        self.count -= 1;
    }

    fn split_one(&mut self, slab: &mut Slab) {
        let bucket = self.split;
        let added = self.mask + 1 + self.split;
        if added as usize == self.heads.len() * BLOCK {
            self.heads.push(vec![NO_SLOT; BLOCK].into_boxed_slice());
        }
        if self.split == self.mask {
            self.mask = self.mask * 2 + 1;
            self.split = 0;
        } else {
            self.split += 1;
        }
        let mut slot = std::mem::replace(self.head_mut(bucket), NO_SLOT);
        while slot != NO_SLOT {
            let next = slab[slot].next;
            let target = self.bucket(self.hash(slab[slot].parent, slab[slot].name_bytes()));
            debug_assert!(target == bucket || target == added);
            self.push(slab, target, slot);
            slot = next;
        }
    }

    fn push(&mut self, slab: &mut Slab, bucket: u32, slot: Slot) {
        slab[slot].next = std::mem::replace(self.head_mut(bucket), slot);
    }

    fn hash(&self, parent: Slot, name: &[u8]) -> u64 {
        let seed = self.seed ^ u64::from(parent).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        xxh3_64_with_seed(name, seed)
    }

    fn bucket(&self, hash: u64) -> u32 {
        let low = hash as u32;
        let bucket = low & self.mask;
        if bucket < self.split { low & (self.mask * 2 + 1) } else { bucket }
    }

    fn head(&self, bucket: u32) -> &Slot {
        &self.heads[bucket as usize / BLOCK][bucket as usize % BLOCK]
    }

    fn head_mut(&mut self, bucket: u32) -> &mut Slot {
        &mut self.heads[bucket as usize / BLOCK][bucket as usize % BLOCK]
    }
}

/// The byte of a name's hash that its node keeps: bits that choose no bucket.
fn tag(hash: u64) -> u8 {
    (hash >> 56) as u8
}

#[cfg(test)]
mod tests {
    use super::super::node::Kind;
    use super::*;

    #[test]
    fn every_name_is_found_through_growth_and_removal() {
        // The table with room is full in the middle of the second case, and grows from there.
        grow_and_shrink(NameIndex::new(5));
        grow_and_shrink(NameIndex::with_room(5, 9_001));
    }

    fn grow_and_shrink(mut index: NameIndex) {
        let mut slab = Slab::default();
        let name = |number: u32| format!("name-{number}");
        for number in 0..20_000u32 {
            let slot = slab.take_lowest();
            slab[slot].occupy(&name(number), Kind::Persistent);
            slab[slot].parent = number % 7;
            assert!(index.insert_if_new(&mut slab, slot));
            assert!(!index.insert_if_new(&mut slab, slot));
        }
        for number in (0..20_000u32).step_by(3) {
            index.remove(&mut slab, number);
        }
        for number in 0..20_000u32 {
            let found = index.find(&slab, number % 7, name(number).as_bytes());
            assert_eq!(found, (number % 3 != 0).then_some(number));
            assert_eq!(index.find(&slab, 7, name(number).as_bytes()), None);
        }
    }
}
