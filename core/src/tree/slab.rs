//! Where nodes live: chunks that never move, and the lowest free place first.
//!
//! The choice of place is part of the state (records are keyed by it), so it depends on nothing
//! but which places are taken: a reloaded state chooses the same ones.

use std::ops::{Index, IndexMut};

use super::node::{NO_SLOT, Node, Slot};

/// Nodes a chunk: growing costs one allocation of 48 KiB, never a copy of what is there.
const CHUNK: usize = 512;

/// All places, taken or vacant.
#[derive(Debug, Default)]
pub(crate) struct Slab {
    chunks: Vec<Box<[Node]>>,
    /// Every place below this has been taken at some time.
    length: u32,
    free: FreeSlots,
}

impl Slab {
    /// Takes the lowest vacant place. The caller occupies it.
    pub fn take_lowest(&mut self) -> Slot {
        match self.free.lowest() {
            Some(slot) => {
                self.free.remove(slot);
                slot
            }
            None => {
                let slot = self.length;
                assert!(slot < NO_SLOT, "the slab is full: 2^32 - 1 nodes");
                self.grow_to(slot + 1);
                self.free.remove(slot);
                slot
            }
        }
    }

    /// Takes a certain vacant place (loading, undoing). False if it is taken.
    pub fn take(&mut self, slot: Slot) -> bool {
        if slot >= self.length {
            self.grow_to(slot + 1);
        }
        if !self[slot].is_vacant() {
            return false;
        }
        self.free.remove(slot);
        true
    }

    /// Gives a place back. The caller has vacated it.
    pub fn give_back(&mut self, slot: Slot) {
        debug_assert!(self[slot].is_vacant());
        self.free.insert(slot);
    }

    /// The node at this place, if any.
    pub fn get(&self, slot: Slot) -> Option<&Node> {
        if slot >= self.length {
            return None;
        }
        let node = &self[slot];
        (!node.is_vacant()).then_some(node)
    }

    /// The taken places, lowest first.
    pub fn occupied(&self) -> impl Iterator<Item = Slot> + '_ {
        (0..self.length).filter(|slot| !self[*slot].is_vacant())
    }

    /// How many places there are, taken or vacant.
    pub fn length(&self) -> u32 {
        self.length
    }

    /// New places are free until taken.
    fn grow_to(&mut self, length: u32) {
        while self.chunks.len() * CHUNK < length as usize {
            self.chunks.push((0..CHUNK).map(|_| Node::vacant()).collect());
        }
        for slot in self.length..length {
            self.free.insert(slot);
        }
        self.length = length;
    }
}

impl Index<Slot> for Slab {
    type Output = Node;

    fn index(&self, slot: Slot) -> &Node {
        &self.chunks[slot as usize / CHUNK][slot as usize % CHUNK]
    }
}

impl IndexMut<Slot> for Slab {
    fn index_mut(&mut self, slot: Slot) -> &mut Node {
        &mut self.chunks[slot as usize / CHUNK][slot as usize % CHUNK]
    }
}

/// A set of free places as bitmaps over bitmaps: the lowest is found in one word a level.
///
/// Level 0 has a bit a place; a bit of level n + 1 says that the word below it is not zero.
#[derive(Debug, Default)]
struct FreeSlots {
    levels: Vec<Vec<u64>>,
}

impl FreeSlots {
    fn lowest(&self) -> Option<Slot> {
        let mut word = 0usize;
        for level in self.levels.iter().rev() {
            let bits = *level.get(word)?;
            if bits == 0 {
                return None;
            }
            word = word * 64 + bits.trailing_zeros() as usize;
        }
        (!self.levels.is_empty()).then_some(word as Slot)
    }

    fn insert(&mut self, slot: Slot) {
        let mut place = slot as usize;
        let mut level = 0;
        loop {
            if self.levels.len() == level {
                self.add_level();
            }
            let words = &mut self.levels[level];
            if words.len() <= place / 64 {
                words.resize(place / 64 + 1, 0);
            }
            words[place / 64] |= 1 << (place % 64);
            place /= 64;
            level += 1;
            if level == self.levels.len() && place == 0 {
                return;
            }
        }
    }

    fn remove(&mut self, slot: Slot) {
        let mut place = slot as usize;
        for level in &mut self.levels {
            let Some(word) = level.get_mut(place / 64) else { return };
            *word &= !(1 << (place % 64));
            if *word != 0 {
                return;
            }
            place /= 64;
        }
    }

    /// The new top summarises the level below it, which had a single word until now.
    fn add_level(&mut self) {
        let summary = match self.levels.last() {
            None => 0,
            Some(below) => below
                .iter()
                .take(64)
                .enumerate()
                .fold(0, |bits, (place, word)| if *word == 0 { bits } else { bits | 1 << place }),
        };
        self.levels.push(vec![summary]);
    }
}

/// A set of places, a bit each, walked lowest first.
#[derive(Debug, Default)]
pub(crate) struct SlotSet {
    words: Vec<u64>,
}

impl SlotSet {
    /// Adds a place.
    pub fn insert(&mut self, slot: Slot) {
        let word = slot as usize / 64;
        if word >= self.words.len() {
            self.words.resize(word + 1, 0);
        }
        self.words[word] |= 1 << (slot % 64);
    }

    /// The first place at or behind `from`.
    pub fn next(&self, from: Slot) -> Option<Slot> {
        let mut word = from as usize / 64;
        let mut bits = self.words.get(word)? & (u64::MAX << (from % 64));
        while bits == 0 {
            word += 1;
            bits = *self.words.get(word)?;
        }
        Some((word * 64) as Slot + bits.trailing_zeros())
    }

    /// All places, lowest first.
    pub fn iter(&self) -> impl Iterator<Item = Slot> {
        let mut from = 0;
        std::iter::from_fn(move || {
            let slot = self.next(from)?;
            from = slot + 1;
            Some(slot)
        })
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn the_lowest_free_place_is_found_like_in_a_sorted_set() {
        let (mut fast, mut model) = (FreeSlots::default(), BTreeSet::new());
        let mut random = 1u64;
        for step in 0..200_000u32 {
            random = random.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            let bound = if step % 1000 == 0 { 300_000 } else { 5_000 };
            let slot = ((random >> 33) % bound) as Slot;
            if random & 1 << 20 == 0 {
                fast.insert(slot);
                model.insert(slot);
            } else {
                fast.remove(slot);
                model.remove(&slot);
            }
            assert_eq!(fast.lowest(), model.first().copied());
        }
    }

    #[test]
    fn a_set_of_places_is_walked_in_order() {
        let mut set = SlotSet::default();
        assert_eq!(set.next(0), None);
        for slot in [700, 0, 63, 64, 700, 5] {
            set.insert(slot);
        }
        assert_eq!(set.iter().collect::<Vec<_>>(), [0, 5, 63, 64, 700]);
        assert_eq!((set.next(6), set.next(701)), (Some(63), None));
    }

    #[test]
    fn a_taken_place_is_not_given_twice() {
        let mut slab = Slab::default();
        assert!(slab.take(3));
        slab[3].occupy("three", super::super::node::Kind::Persistent);
        assert!(!slab.take(3));
        let mut taken = Vec::new();
        for _ in 0..4 {
            let slot = slab.take_lowest();
            slab[slot].occupy("x", super::super::node::Kind::Persistent);
            taken.push(slot);
        }
        assert_eq!(taken, [0, 1, 2, 4]);
    }
}
