//! Maglev hashing (Eisenbud et al. 2016): a table in which members take turns choosing slots.
//!
//! Look-ups cost one memory access; a change of members moves slightly more than it must. Weights
//! are turns: a member of twice the weight chooses twice as often.

use std::sync::Arc;

use xxhash_rust::xxh64::xxh64;

use super::{Member, Named, Placement, sorted};

/// Slots for up to 650 members; prime, as the permutations need.
const SLOTS_SMALL: u64 = 65_537;
/// Slots for more: a hundred for each of 6,500.
const SLOTS_LARGE: u64 = 655_373;

/// A Maglev table. Immutable: share it behind an `Arc`.
#[derive(Clone, Debug)]
pub struct Maglev {
    members: Arc<[Member]>,
    slots: Vec<u32>,
}

impl Maglev {
    /// Builds a table; the order of the members does not matter.
    pub fn new(members: impl IntoIterator<Item = Member>) -> Maglev {
        let members = sorted(members);
        if members.is_empty() {
            return Maglev { members, slots: Vec::new() };
        }
        let count = if members.len() * 100 < SLOTS_SMALL as usize { SLOTS_SMALL } else { SLOTS_LARGE };
        let mut slots = vec![u32::MAX; count as usize];
        let mut turns: Vec<Turn> = members.iter().map(|member| Turn::new(member, count)).collect();
        let heaviest = members.iter().map(|member| u64::from(member.weight)).max().unwrap_or(1);
        let mut left = count;
        'rounds: loop {
            for (index, (member, turn)) in members.iter().zip(&mut turns).enumerate() {
                turn.credit += u64::from(member.weight);
                if turn.credit < heaviest {
                    continue;
                }
                turn.credit -= heaviest;
                turn.take(&mut slots, index as u32);
                left -= 1;
                if left == 0 {
                    break 'rounds;
                }
            }
        }
        Maglev { members, slots }
    }

    /// How many slots the table has.
    pub fn slots(&self) -> usize {
        self.slots.len()
    }

    fn slot(&self, hash: u64) -> usize {
        (hash % self.slots.len() as u64) as usize
    }
}

/// A member's walk through its own permutation of the slots.
struct Turn {
    next: u64,
    skip: u64,
    credit: u64,
}

impl Turn {
    fn new(member: &Member, slots: u64) -> Turn {
        let next = xxh64(member.key.as_bytes(), 0) % slots;
        let skip = xxh64(member.key.as_bytes(), 1) % (slots - 1) + 1;
        Turn { next, skip, credit: 0 }
    }

    /// Takes the next free slot. There must be one.
    fn take(&mut self, slots: &mut [u32], member: u32) {
        loop {
            let slot = self.next as usize;
            self.next = (self.next + self.skip) % slots.len() as u64;
            if slots[slot] == u32::MAX {
                slots[slot] = member;
                return;
            }
        }
    }
}

impl Placement for Maglev {
    fn members(&self) -> &[Member] {
        &self.members
    }

    fn owner(&self, hash: u64) -> Option<usize> {
        if self.slots.is_empty() {
            return None;
        }
        Some(self.slots[self.slot(hash)] as usize)
    }

    fn walk(&self, hash: u64) -> Box<dyn Iterator<Item = usize> + '_> {
        if self.slots.is_empty() {
            return Box::new(std::iter::empty());
        }
        let start = self.slot(hash);
        let mut slots = self.slots[start..].iter().chain(&self.slots[..start]);
        let mut named = Named::none_of(self.members.len());
        Box::new(std::iter::from_fn(move || {
            if named.left == 0 {
                return None;
            }
            slots.find(|owner| named.is_new(**owner as usize)).map(|owner| *owner as usize)
        }))
    }
}
