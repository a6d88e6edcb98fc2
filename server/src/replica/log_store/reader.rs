//! Reading entries: for replication, for apply, for openraft's start.
//!
//! Any number of readers read at once. The recent end comes from memory; older entries are read
//! from the segments, each verified by its own checksum, about a megabyte at a time. That blocks
//! the caller for as long as the page cache or the disk takes; it happens when a peer lags behind
//! the cache or when a member starts.

use std::collections::VecDeque;
use std::fmt::Debug;
use std::io;
use std::ops::{Bound, Range, RangeBounds};
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use futures_util::Stream;
use futures_util::stream;
use openraft::errors::LeaderChanged;
use openraft::storage::{LeaderBoundedStreamError, LeaderBoundedStreamResult, RaftLogReader};

use super::error::LogError;
use super::format::{self, Malformed};
use super::locations::Location;
use super::segment::Segment;
use super::view::View;
use super::writer::lock;
use crate::replica::files;
use crate::replica::types::{Entry, LeaderId, LogId, TypeConfig, Vote};

/// One read of several entries takes about this much.
const CHUNK: usize = 1 << 20;

/// A reader of the log. Cheap to clone.
#[derive(Clone)]
pub struct LogReader {
    pub(super) view: Arc<Mutex<View>>,
}

/// Figures about the log, for status and metrics, and for whoever decides on checkpoints.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LogFigures {
    /// Entries that are held: the highest index minus the purged one.
    pub entries: u64,
    /// Up to where entries were removed behind a checkpoint.
    pub purged: Option<LogId>,
    /// Bytes that the segments take on the disk.
    pub disk_bytes: u64,
    /// How many segments there are.
    pub segments: usize,
    /// Bytes written since the log was opened: a checkpoint is due every so many.
    pub bytes_written: u64,
}

impl LogReader {
    /// Figures about the log as it is now.
    pub fn figures(&self) -> LogFigures {
        let view = lock(&self.view);
        let last = view.state.next_index().unwrap_or(0);
        LogFigures {
            entries: last.saturating_sub(view.state.first_index()),
            purged: view.state.purged,
            disk_bytes: view.segments.iter().map(|segment| segment.length).sum(),
            segments: view.segments.len(),
            bytes_written: view.bytes_written,
        }
    }

    /// The entries of `range` that the log has, in order: all of them, or as many as make about
    /// `bytes_max`, but at least one if there is one.
    fn read(&self, range: Range<u64>, bytes_max: usize) -> io::Result<Vec<Entry>> {
        let found = lock(&self.view).find(range, bytes_max)?;
        let mut entries = Vec::with_capacity(found.on_disk.len() + found.cached.len());
        let mut rest = found.on_disk.as_slice();
        while let Some((segment, first)) = rest.first() {
            let together = rest
                .iter()
                .take_while(|(other, location)| {
                    other.number == segment.number
                        && location.offset >= first.offset
                        && (location.offset + location.length - first.offset) as usize
                            <= CHUNK.max(first.length as usize)
                })
                .count();
            read_from_segment(segment, &rest[..together], &mut entries)?;
            rest = &rest[together..];
        }
        entries.extend(found.cached);
        Ok(entries)
    }

    fn vote(&self) -> Option<Vote> {
        lock(&self.view).state.vote
    }

    /// An error unless `leader` leads as far as this member knows.
    fn check_leader(&self, leader: LeaderId) -> Result<(), LeaderBoundedStreamError<TypeConfig>> {
        match self.vote() {
            Some(vote) if *vote.leader_id() == leader && vote.is_committed() => Ok(()),
            vote => Err(LeaderChanged::new(leader, vote).into()),
        }
    }
}

fn read_from_segment(
    segment: &Segment,
    places: &[(Segment, Location)],
    entries: &mut Vec<Entry>,
) -> Result<(), LogError> {
    let (Some((_, first)), Some((_, last))) = (places.first(), places.last()) else { return Ok(()) };
    let length = (last.offset + last.length - first.offset) as usize;
    let bytes = files::read_exactly(segment.file.as_ref(), u64::from(first.offset), length)
        .map_err(LogError::io("read", &segment.path))?;
    let bytes = Bytes::from(bytes);
    for (_, location) in places {
        let start = (location.offset - first.offset) as usize;
        let record = bytes.slice(start..start + location.length as usize);
        let entry = format::decode_entry(&record)
            .map_err(|Malformed(what)| LogError::damaged(&segment.path, u64::from(location.offset), what))?;
        entries.push(entry);
    }
    Ok(())
}

impl RaftLogReader<TypeConfig> for LogReader {
    async fn try_get_log_entries<RB>(&mut self, range: RB) -> io::Result<Vec<Entry>>
    where
        RB: RangeBounds<u64> + Clone + Debug + Send,
    {
        self.read(half_open(&range), usize::MAX)
    }

    async fn limited_get_log_entries(&mut self, start: u64, end: u64) -> io::Result<Vec<Entry>> {
        self.read(start..end, CHUNK)
    }

    async fn read_vote(&mut self) -> io::Result<Option<Vote>> {
        Ok(self.vote())
    }

    async fn leader_bounded_stream<RB>(
        &mut self,
        leader: LeaderId,
        range: RB,
    ) -> impl Stream<Item = LeaderBoundedStreamResult<TypeConfig>> + Send
    where
        RB: RangeBounds<u64> + Clone + Debug + Send,
    {
        let reader = self.clone();
        chunks(half_open(&range), move |range| {
            reader.check_leader(leader)?;
            let entries = reader.read(range, CHUNK)?;
            // Entries read while the vote changed may already be another leader's.
            reader.check_leader(leader)?;
            Ok(entries)
        })
    }

    async fn entries_stream<RB>(&mut self, range: RB) -> impl Stream<Item = io::Result<Entry>> + Send
    where
        RB: RangeBounds<u64> + Clone + Debug + Send,
    {
        let reader = self.clone();
        chunks(half_open(&range), move |range| reader.read(range, CHUNK))
    }
}

/// A stream of entries that reads the next part when the last one is used up, and ends after the
/// range, at the end of the log, or after an error.
fn chunks<E>(
    range: Range<u64>,
    read: impl Fn(Range<u64>) -> Result<Vec<Entry>, E> + Send,
) -> impl Stream<Item = Result<Entry, E>> + Send
where
    E: Send,
{
    let start = (range, VecDeque::new());
    let next = move |(mut range, mut ready): (Range<u64>, VecDeque<Entry>)| {
        if ready.is_empty() && !range.is_empty() {
            match read(range.clone()) {
                Ok(entries) => ready.extend(entries),
                Err(error) => return std::future::ready(Some((Err(error), (0..0, VecDeque::new())))),
            }
        }
        std::future::ready(ready.pop_front().map(|entry| {
            range.start = entry.log_id.index + 1;
            (Ok(entry), (range, ready))
        }))
    };
    stream::unfold(start, next)
}

fn half_open(range: &impl RangeBounds<u64>) -> Range<u64> {
    let start = match range.start_bound() {
        Bound::Included(index) => *index,
        Bound::Excluded(index) => index.saturating_add(1),
        Bound::Unbounded => 0,
    };
    let end = match range.end_bound() {
        Bound::Included(index) => index.saturating_add(1),
        Bound::Excluded(index) => *index,
        Bound::Unbounded => u64::MAX,
    };
    start..end.max(start)
}
