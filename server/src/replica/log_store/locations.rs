//! Where each entry of the log is on the disk: 12 bytes of memory an entry.

use std::collections::VecDeque;

/// One entry's record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Location {
    /// The segment's number.
    pub segment: u32,
    /// Where the record starts in the segment.
    pub offset: u32,
    /// How long the record is.
    pub length: u32,
}

/// The places of a dense run of entries.
#[derive(Clone, Debug, Default)]
pub struct Locations {
    first: u64,
    places: VecDeque<Location>,
}

impl Locations {
    /// The index behind the last one known. Meaningless, and not asked for, while there is none.
    pub fn end(&self) -> u64 {
        self.first + self.places.len() as u64
    }

    /// Adds the place of entry `index`: the next one, or any if there is none yet.
    pub fn push(&mut self, index: u64, location: Location) {
        if self.places.is_empty() {
            self.first = index;
        }
        debug_assert_eq!(index, self.end(), "the log has no holes");
        self.places.push_back(location);
    }

    /// Forgets entries from `index` on.
    pub fn truncate_from(&mut self, index: u64) {
        self.places.truncate(usize::try_from(index.saturating_sub(self.first)).unwrap_or(usize::MAX));
    }

    /// Forgets entries below `index`.
    pub fn forget_below(&mut self, index: u64) {
        while self.first < index && self.places.pop_front().is_some() {
            self.first += 1;
        }
        if self.places.is_empty() {
            // The burst that filled it is over: give the memory back.
            self.places.shrink_to(1024);
        }
    }

    /// The place of entry `index`.
    pub fn get(&self, index: u64) -> Option<Location> {
        let position = usize::try_from(index.checked_sub(self.first)?).ok()?;
        self.places.get(position).copied()
    }

    /// The lowest index known.
    pub fn first(&self) -> Option<u64> {
        (!self.places.is_empty()).then_some(self.first)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(offset: u32) -> Location {
        Location { segment: 1, offset, length: 1 }
    }

    #[test]
    fn a_run_grows_at_one_end_and_shrinks_at_both() {
        let mut locations = Locations::default();
        for index in 5..10 {
            locations.push(index, place(index as u32));
        }
        locations.forget_below(6);
        locations.truncate_from(8);
        assert_eq!((locations.first(), locations.end()), (Some(6), 8));
        assert_eq!(locations.get(7), Some(place(7)));
        assert_eq!((locations.get(5), locations.get(8)), (None, None));
        locations.forget_below(100);
        assert_eq!(locations.first(), None);
        locations.push(200, place(1));
        assert_eq!(locations.first(), Some(200));
    }
}
