//! A parent's children in name order: sorted lists of places, compared through the slab.
//!
//! A parent holds a 4-byte handle: none, a single child (no allocation at all: most trees are
//! mostly leaves and short chains), or the number of a list. A small list is one sorted vector, a
//! large one is many_children.rs's.

use super::many_children::{ManyChildren, ManyWalk};
use super::node::Slot;
use super::slab::Slab;

/// The most that a small list holds.
const SMALL_MAX: usize = 512;
/// Set in a handle that is itself the single child.
const SINGLE: u32 = 1 << 31;

/// All lists of all parents.
#[derive(Debug, Default)]
pub(crate) struct Children {
    lists: Vec<List>,
    /// Numbers of unused lists. Their order is of no consequence: handles never leave memory.
    unused: Vec<u32>,
}

#[derive(Debug)]
enum List {
    Small(Vec<Slot>),
    Large(Box<ManyChildren>),
}

enum Handle {
    None,
    Single(Slot),
    List(usize),
}

fn open(handle: u32) -> Handle {
    match handle {
        0 => Handle::None,
        single if single & SINGLE != 0 => Handle::Single(single & !SINGLE),
        list => Handle::List(list as usize - 1),
    }
}

impl Children {
    /// How many children the handle stands for.
    pub fn count(&self, handle: u32) -> u32 {
        match open(handle) {
            Handle::None => 0,
            Handle::Single(_) => 1,
            Handle::List(list) => match &self.lists[list] {
                List::Small(slots) => slots.len() as u32,
                List::Large(large) => large.count(),
            },
        }
    }

    /// Adds a child that is not there yet; returns the parent's new handle.
    pub fn insert(&mut self, slab: &Slab, handle: u32, child: Slot) -> u32 {
        match open(handle) {
            Handle::None if child & SINGLE == 0 => child | SINGLE,
            Handle::None => self.add_list(vec![child]),
            Handle::Single(other) => {
                let mut pair = vec![other, child];
                if slab[other].name_bytes() > slab[child].name_bytes() {
                    pair.swap(0, 1);
                }
                self.add_list(pair)
            }
            Handle::List(list) => {
                match &mut self.lists[list] {
                    List::Small(slots) if slots.len() < SMALL_MAX => {
                        let place = place_of(slab, slots, slab[child].name_bytes());
                        slots.insert(place, child);
                    }
                    List::Small(slots) => {
                        let mut large = ManyChildren::new(slab, std::mem::take(slots));
                        large.insert(slab, child);
                        self.lists[list] = List::Large(Box::new(large));
                    }
                    List::Large(large) => large.insert(slab, child),
                }
                handle
            }
        }
    }

    /// Removes a child that is there (and still has its name); returns the parent's new handle.
    pub fn remove(&mut self, slab: &Slab, handle: u32, child: Slot) -> u32 {
        let Handle::List(list) = open(handle) else { return 0 };
        let left = match &mut self.lists[list] {
            List::Small(slots) => {
                let place = place_of(slab, slots, slab[child].name_bytes());
                debug_assert_eq!(slots.get(place), Some(&child));
                slots.remove(place);
                if slots.len() * 4 < slots.capacity() {
                    slots.shrink_to(slots.len() * 2);
                }
                slots.len()
            }
            List::Large(large) => {
                large.remove(slab, child);
                let left = large.count() as usize;
                if left <= SMALL_MAX / 2 {
                    let slots = large.iter().collect();
                    self.lists[list] = List::Small(slots);
                }
                left
            }
        };
        if left > 0 {
            return handle;
        }
        self.lists[list] = List::Small(Vec::new());
        self.unused.push(list as u32);
        0
    }

    /// The children whose names come after `after`, in name order.
    pub fn after<'a>(&'a self, slab: &Slab, handle: u32, after: Option<&str>) -> Walk<'a> {
        match open(handle) {
            Handle::None => Walk::Small([].iter()),
            Handle::Single(child) => {
                let follows = after.is_none_or(|after| slab[child].name_bytes() > after.as_bytes());
                Walk::Single(follows.then_some(child))
            }
            Handle::List(list) => match &self.lists[list] {
                List::Small(slots) => {
                    let start = after.map_or(0, |after| {
                        slots.partition_point(|slot| slab[*slot].name_bytes() <= after.as_bytes())
                    });
                    Walk::Small(slots[start..].iter())
                }
                List::Large(large) => Walk::Large(large.after(slab, after)),
            },
        }
    }

    fn add_list(&mut self, slots: Vec<Slot>) -> u32 {
        let list = match self.unused.pop() {
            Some(list) => {
                self.lists[list as usize] = List::Small(slots);
                list
            }
            None => {
                self.lists.push(List::Small(slots));
                self.lists.len() as u32 - 1
            }
        };
        list + 1
    }
}

/// Where in a sorted list this name is or would be.
fn place_of(slab: &Slab, slots: &[Slot], name: &[u8]) -> usize {
    match slots.last() {
        Some(last) if slab[*last].name_bytes() < name => slots.len(),
        _ => slots.partition_point(|slot| slab[*slot].name_bytes() < name),
    }
}

/// A walk over children in name order.
#[derive(Clone, Debug)]
pub(crate) enum Walk<'a> {
    Single(Option<Slot>),
    Small(std::slice::Iter<'a, Slot>),
    Large(ManyWalk<'a>),
}

impl Iterator for Walk<'_> {
    type Item = Slot;

    fn next(&mut self) -> Option<Slot> {
        match self {
            Walk::Single(single) => single.take(),
            Walk::Small(slots) => slots.next().copied(),
            Walk::Large(walk) => walk.next(),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::super::node::Kind;
    use super::*;

    fn check(random_bound: u64, steps: u32, grow: u64) {
        check_names(random_bound, steps, grow, |number| format!("n{number}"));
    }

    fn check_names(random_bound: u64, steps: u32, grow: u64, name: impl Fn(u64) -> String) {
        let (mut slab, mut children, mut handle) = (Slab::default(), Children::default(), 0);
        let mut model: BTreeMap<String, Slot> = BTreeMap::new();
        let mut random = 7u64;
        for _ in 0..steps {
            random = random.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            let name = name((random >> 33) % random_bound);
            match model.remove(&name) {
                None if (random >> 20) % 10 < grow => {
                    let slot = slab.take_lowest();
                    slab[slot].occupy(&name, Kind::Persistent);
                    handle = children.insert(&slab, handle, slot);
                    model.insert(name, slot);
                }
                Some(slot) if (random >> 20) % 10 >= grow => {
                    handle = children.remove(&slab, handle, slot);
                    slab[slot].take();
                    slab.give_back(slot);
                }
                Some(slot) => {
                    model.insert(name, slot);
                }
                None => {}
            }
            assert_eq!(children.count(handle) as usize, model.len());
        }
        let listed: Vec<Slot> = children.after(&slab, handle, None).collect();
        assert_eq!(listed, model.values().copied().collect::<Vec<_>>());
        for after in ["", "n", "n1", "n500", "n77", "o"] {
            let listed: Vec<Slot> = children.after(&slab, handle, Some(after)).collect();
            let expected: Vec<Slot> =
                model.iter().filter(|(name, _)| name.as_str() > after).map(|(_, slot)| *slot).collect();
            assert_eq!(listed, expected, "after {after:?}");
        }
        for slot in model.into_values() {
            handle = children.remove(&slab, handle, slot);
        }
        assert_eq!((handle, children.count(handle)), (0, 0));
    }

    #[test]
    fn few_children_stay_in_name_order() {
        check(4, 2_000, 5);
    }

    #[test]
    fn many_children_stay_in_name_order() {
        check(20_000, 60_000, 7);
    }

    #[test]
    fn a_list_that_grew_and_shrank_stays_in_name_order() {
        check(3_000, 60_000, 3);
    }

    #[test]
    fn names_with_long_common_beginnings_stay_in_order() {
        check_names(4_000, 30_000, 7, |number| format!("a-rather-long-beginning-{number:010}"));
        check_names(4_000, 30_000, 7, |number| {
            format!("{}x", "long".repeat(1 + number as usize % 40)) + &number.to_string()
        });
        check_names(4_000, 30_000, 7, |number| format!("{number:012}-the-same-end"));
        check_names(4_000, 30_000, 6, |number| {
            let stem = ["p", "pq", "pqr", "pqrs\u{7ff}", "pqrst"][number as usize % 5];
            format!("{stem}{}", "z".repeat(number as usize / 5 % 700))
        });
    }

    #[test]
    fn names_made_in_order_stay_in_order() {
        let (mut slab, mut children, mut handle) = (Slab::default(), Children::default(), 0);
        for number in 0..5_000 {
            let slot = slab.take_lowest();
            slab[slot].occupy(&format!("n{number:06}"), Kind::Persistent);
            handle = children.insert(&slab, handle, slot);
        }
        assert!(children.after(&slab, handle, None).eq(0..5_000));
        assert!(children.after(&slab, handle, Some("n002499")).eq(2_500..5_000));
    }
}
