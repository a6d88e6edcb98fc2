//! What readers see: every accepted entry at once, on the disk already or not.
//!
//! - An accepted entry that is not on the disk yet is in the cache, so reads never wait.
//! - The cache is the tail of the log, without holes, and is trimmed from the front: entries on the
//!   disk leave it once it is above its bound.
//! - `locations` follows the disk, so it may still have entries that `state` knows to be truncated;
//!   those are above `state.last` or in the cache again, and are never looked up.

use std::collections::VecDeque;
use std::io;
use std::ops::Range;
use std::sync::Arc;

use super::locations::{Location, Locations};
use super::segment::Segment;
use super::state::State;
use crate::replica::types::{Entry, EntryPayload, LogId};

/// What an entry costs in the cache besides its payload.
const ENTRY_OVERHEAD: usize = 64;

/// The log as readers see it.
pub struct View {
    /// As of the last accepted job, except the vote, which is the last durable one.
    pub state: State,
    /// Where the entries on the disk are.
    pub locations: Locations,
    /// The segments, oldest first, the active one last.
    pub segments: VecDeque<Segment>,
    /// Why nothing can be written any more.
    pub failure: Option<Arc<str>>,
    /// Bytes written since the log was opened.
    pub bytes_written: u64,
    cache: VecDeque<Entry>,
    cache_bytes: usize,
    cache_bytes_max: usize,
    /// Entries from this index on may not be on the disk yet.
    unwritten_from: u64,
    /// Truncations that were accepted and not yet written.
    truncations_pending: usize,
}

/// Where a read finds its entries: first on the disk, then in memory.
pub struct Found {
    /// Places in order, each with the segment that it is in.
    pub on_disk: Vec<(Segment, Location)>,
    /// The entries behind those.
    pub cached: Vec<Entry>,
}

impl View {
    /// The view of a log just opened: nothing is cached.
    pub fn new(
        state: State,
        locations: Locations,
        segments: VecDeque<Segment>,
        cache_bytes_max: usize,
    ) -> View {
        let unwritten_from = state.next_index().unwrap_or(0);
        View {
            state,
            locations,
            segments,
            failure: None,
            bytes_written: 0,
            cache: VecDeque::new(),
            cache_bytes: 0,
            cache_bytes_max,
            unwritten_from,
            truncations_pending: 0,
        }
    }

    /// Refuses work after a failure.
    pub fn check(&self) -> io::Result<()> {
        match &self.failure {
            None => Ok(()),
            Some(reason) => Err(io::Error::other(reason.to_string())),
        }
    }

    /// Accepts entries.
    pub fn append(&mut self, entries: &[Entry]) -> io::Result<()> {
        let Some(first) = entries.first() else { return Ok(()) };
        // Tried on a copy: a refused append must leave the view as it was.
        let mut state = self.state.clone();
        for entry in entries {
            state.append(entry.log_id).map_err(|what| io::Error::new(io::ErrorKind::InvalidInput, what))?;
        }
        self.state = state;
        self.unwritten_from = self.unwritten_from.min(first.log_id.index);
        self.cache_bytes += entries.iter().map(cost).sum::<usize>();
        self.cache.extend(entries.iter().cloned());
        Ok(())
    }

    /// Accepts a truncation.
    pub fn truncate(&mut self, after: Option<LogId>) -> io::Result<()> {
        let removed =
            self.state.truncate(after).map_err(|what| io::Error::new(io::ErrorKind::InvalidInput, what))?;
        if let Some(first_removed) = removed {
            while self.cache.back().is_some_and(|entry| entry.log_id.index >= first_removed) {
                self.drop_one(VecDeque::pop_back);
            }
            self.unwritten_from = self.unwritten_from.min(first_removed);
        }
        self.truncations_pending += 1;
        Ok(())
    }

    /// Accepts a purge.
    pub fn purge(&mut self, upto: LogId) {
        if self.state.purge(upto) {
            while self.cache.front().is_some_and(|entry| entry.log_id.index <= upto.index) {
                self.drop_one(VecDeque::pop_front);
            }
        }
    }

    /// Entries up to `index` were written, in the order accepted.
    pub fn written(&mut self, index: u64) {
        // With a truncation still to be written, indexes say nothing: the entry just written may
        // be one that was truncated since, and another one may have its index.
        if self.truncations_pending == 0 {
            self.unwritten_from = self.unwritten_from.max(index + 1);
        }
    }

    /// A truncation was written.
    pub fn truncated(&mut self) {
        self.truncations_pending = self.truncations_pending.saturating_sub(1);
    }

    /// Drops what is on the disk from the front of the cache while it is above its bound.
    pub fn trim(&mut self) {
        while self.cache_bytes > self.cache_bytes_max
            && self.cache.front().is_some_and(|entry| entry.log_id.index < self.unwritten_from)
        {
            self.drop_one(VecDeque::pop_front);
        }
    }

    /// Finds the entries of `range`, at least one if there is one, then as many as `bytes_max` allows.
    pub fn find(&self, range: Range<u64>, bytes_max: usize) -> io::Result<Found> {
        let end = range.end.min(self.state.next_index().unwrap_or(0));
        let cached_from = self.cached_from(end);
        // A log that was never purged may begin at any index.
        let first = match self.state.purged {
            Some(_) => self.state.first_index(),
            None => self.locations.first().unwrap_or(cached_from).min(cached_from),
        };
        let mut index = range.start.max(first);
        let mut found = Found { on_disk: Vec::new(), cached: Vec::new() };
        let mut bytes = 0;
        while index < end.min(cached_from) && (bytes < bytes_max || bytes == 0) {
            let location = self.locations.get(index);
            let segment = location.and_then(|location| self.segment(u64::from(location.segment)));
            let (Some(location), Some(segment)) = (location, segment) else {
                return Err(io::Error::other(format!("entry {index} is neither in memory nor on the disk")));
            };
            bytes += location.length as usize + ENTRY_OVERHEAD;
            found.on_disk.push((segment.clone(), location));
            index += 1;
        }
        while index < end && index >= cached_from && (bytes < bytes_max || bytes == 0) {
            let entry = &self.cache[(index - cached_from) as usize];
            bytes += cost(entry);
            found.cached.push(entry.clone());
            index += 1;
        }
        Ok(found)
    }

    fn cached_from(&self, otherwise: u64) -> u64 {
        self.cache.front().map_or(otherwise, |entry| entry.log_id.index)
    }

    fn segment(&self, number: u64) -> Option<&Segment> {
        let first = self.segments.front()?.number;
        self.segments.get(usize::try_from(number.checked_sub(first)?).ok()?)
    }

    fn drop_one(&mut self, pop: impl FnOnce(&mut VecDeque<Entry>) -> Option<Entry>) {
        if let Some(entry) = pop(&mut self.cache) {
            self.cache_bytes -= cost(&entry);
        }
        if self.cache.is_empty() {
            self.cache.shrink_to(1024);
        }
    }
}

fn cost(entry: &Entry) -> usize {
    ENTRY_OVERHEAD
        + match &entry.payload {
            EntryPayload::Normal(payload) => payload.len(),
            // Memberships are few and small.
            EntryPayload::Blank | EntryPayload::Membership(_) => 0,
        }
}
