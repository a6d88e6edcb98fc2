//! What is known from which place of a history on.

/// The greatest number known up to each place where one was known, and where that was.
pub(super) struct Greatest(Vec<(usize, (u64, usize))>);

impl Greatest {
    /// Of places and what was known there.
    pub(super) fn of(known: impl IntoIterator<Item = (usize, u64)>) -> Greatest {
        let mut known: Vec<(usize, u64)> = known.into_iter().collect();
        known.sort_unstable();
        let mut greatest = (0, 0);
        Greatest(
            known
                .into_iter()
                .map(|(place, number)| {
                    greatest = greatest.max((number, place));
                    (place, greatest)
                })
                .collect(),
        )
    }

    /// The greatest that was known before this place.
    pub(super) fn before(&self, place: usize) -> Option<(u64, usize)> {
        let count = self.0.partition_point(|(known, _)| *known < place);
        count.checked_sub(1).map(|last| self.0[last].1)
    }
}

/// It is known at this place, if not before.
pub(super) fn note(known: &mut Option<usize>, place: usize) {
    *known = Some(known.map_or(place, |before| before.min(place)));
}
