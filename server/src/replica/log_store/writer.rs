//! The one hand that writes: votes, entries, truncations and purges, in the order accepted.
//!
//! What has gathered since the last sync becomes one batch: one write, one sync, then everybody is
//! told. After a failed write or sync nothing is ever written again: what the disk holds is then
//! unknown, and a later sync that succeeds would not make it known. The member must stop.

use std::io;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use prometheus::Histogram;
use quorate_core::breaks::{Break, is_broken};
use tokio::sync::{mpsc, oneshot};

use super::LogOptions;
use super::error::LogError;
use super::format::{Batch, Control, Malformed, SegmentHeader};
use super::locations::Location;
use super::segment::ActiveSegment;
use super::state::State;
use super::view::View;
use crate::replica::types::{Entry, EntryPayload, IoFlushed, LogId, Vote};

/// A batch takes no further job once it has this many bytes of payload: it bounds how long the
/// first one waits.
const GROUP_BYTES: usize = 4 << 20;
/// A batch takes at most this many jobs.
const GROUP_JOBS: usize = 4096;
/// How much memory the batch buffer keeps between batches.
const BUFFER_KEPT: usize = 1 << 20;

/// Something to write.
pub enum Job {
    /// Entries; the callback is told when they are durable.
    Append { entries: Vec<Entry>, done: IoFlushed },
    /// A vote; its giver waits.
    Vote { vote: Vote, done: oneshot::Sender<io::Result<()>> },
    /// Remove what is behind an id.
    Truncate { after: Option<LogId> },
    /// Remove what is up to an id.
    Purge { upto: LogId },
    /// Nothing but what rides along (the commit index); the asker waits.
    Flush { done: oneshot::Sender<io::Result<()>> },
}

impl Job {
    fn bytes(&self) -> usize {
        let Job::Append { entries, .. } = self else { return 0 };
        let payload = |entry: &Entry| match &entry.payload {
            EntryPayload::Normal(payload) => payload.len(),
            _ => 0,
        };
        entries.iter().map(payload).sum()
    }

    fn finish(self, failure: Option<&str>) {
        let result = || match failure {
            None => Ok(()),
            Some(reason) => Err(io::Error::other(reason)),
        };
        match self {
            Job::Append { done, .. } => done.io_completed(result()),
            // Whoever gave up waiting for the answer has no use for it.
            Job::Vote { done, .. } | Job::Flush { done } => drop(done.send(result())),
            Job::Truncate { .. } | Job::Purge { .. } => {}
        }
    }
}

/// What a written job changes for readers.
enum Effect {
    Placed(u64, Location),
    Written(u64),
    Voted(Vote),
    TruncatedFrom(Option<u64>),
    PurgedBelow(u64),
}

/// Owns the segments' end. See the module's description.
pub struct Writer {
    options: LogOptions,
    view: Arc<Mutex<View>>,
    active: ActiveSegment,
    /// As of the last batch written: what the next segment starts with.
    state: State,
    next_sequence: u64,
    batch: Batch,
    effects: Vec<Effect>,
}

impl Writer {
    /// Goes on where `active` ends.
    pub fn new(
        options: LogOptions,
        view: Arc<Mutex<View>>,
        active: ActiveSegment,
        state: State,
        next_sequence: u64,
    ) -> Writer {
        Writer { options, view, active, state, next_sequence, batch: Batch::new(), effects: Vec::new() }
    }

    /// Takes jobs from the queue until every sender is gone.
    pub fn run(mut self, mut queue: mpsc::Receiver<Job>) {
        while let Some(job) = queue.blocking_recv() {
            self.process(&mut group(job, &mut queue));
        }
    }

    /// The same, without blocking, and with a pause before each group reaches the disk.
    pub async fn run_paced(
        mut self,
        mut queue: mpsc::Receiver<Job>,
        pause: Arc<dyn Fn() -> Duration + Send + Sync>,
    ) {
        while let Some(job) = queue.recv().await {
            let mut jobs = group(job, &mut queue);
            tokio::time::sleep(pause()).await;
            self.process(&mut jobs);
        }
    }

    /// Writes jobs as one batch and tells everybody. Leaves `jobs` empty.
    pub fn process(&mut self, jobs: &mut Vec<Job>) {
        let failed_before = lock(&self.view).failure.clone();
        let failure = match failed_before {
            Some(reason) => Some(reason),
            None => self.write(jobs).err().map(|error| self.fail(error)),
        };
        for job in jobs.drain(..) {
            job.finish(failure.as_deref());
        }
        if failure.is_none()
            && let Err(error) = self.remove_purged()
        {
            self.fail(error);
        }
    }

    fn fail(&mut self, error: LogError) -> Arc<str> {
        let reason: Arc<str> = error.to_string().into();
        lock(&self.view).failure = Some(reason.clone());
        tracing::error!("the log cannot be written, so this member must stop: {reason}");
        (self.options.fatal)(&error);
        reason
    }

    fn write(&mut self, jobs: &[Job]) -> Result<(), LogError> {
        if self.active.end >= self.options.segment_bytes {
            self.rotate()?;
        }
        self.batch.clear(BUFFER_KEPT);
        self.effects.clear();
        self.encode(jobs).map_err(|Malformed(what)| self.unencodable(what))?;
        if !self.batch.is_empty() {
            self.commit_batch()?;
        }
        let mut view = lock(&self.view);
        for effect in self.effects.drain(..) {
            match effect {
                Effect::Placed(index, location) => view.locations.push(index, location),
                Effect::Written(index) => view.written(index),
                Effect::Voted(vote) => view.state.vote = Some(vote),
                Effect::PurgedBelow(index) => view.locations.forget_below(index),
                Effect::TruncatedFrom(first_removed) => {
                    if let Some(index) = first_removed {
                        view.locations.truncate_from(index);
                    }
                    view.truncated();
                }
            }
        }
        if let Some(last) = view.segments.back_mut() {
            *last = self.active.segment.clone();
        }
        view.bytes_written += self.batch.length() as u64;
        view.trim();
        Ok(())
    }

    fn encode(&mut self, jobs: &[Job]) -> Result<(), Malformed> {
        let base = self.active.end;
        for job in jobs {
            match job {
                Job::Append { entries, .. } => {
                    for entry in entries {
                        let offset = base + self.batch.length() as u64;
                        let length = self.batch.add_entry(entry)? as u32;
                        let index = entry.log_id.index;
                        self.state.append(entry.log_id).map_err(Malformed)?;
                        self.active.segment.highest_index =
                            self.active.segment.highest_index.max(Some(index));
                        let segment = self.active.segment.number as u32;
                        self.effects
                            .push(Effect::Placed(index, Location { segment, offset: offset as u32, length }));
                    }
                    if let Some(last) = entries.last() {
                        self.effects.push(Effect::Written(last.log_id.index));
                    }
                }
                Job::Vote { vote, .. } => {
                    self.batch.add(&Control::Vote(*vote))?;
                    self.state.vote = Some(*vote);
                    self.effects.push(Effect::Voted(*vote));
                }
                Job::Truncate { after } => {
                    let removed = self.state.truncate(*after).map_err(Malformed)?;
                    if removed.is_some() {
                        self.batch.add(&Control::Truncate(*after))?;
                    }
                    self.effects.push(Effect::TruncatedFrom(removed));
                }
                Job::Purge { upto } => {
                    if self.state.purge(*upto) {
                        self.batch.add(&Control::Purge(*upto))?;
                        self.effects.push(Effect::PurgedBelow(upto.index + 1));
                    }
                }
                Job::Flush { .. } => {}
            }
        }
        let committed = lock(&self.view).state.committed;
        let flush = jobs.iter().any(|job| matches!(job, Job::Flush { .. }));
        // A commit index beyond this batch waits for the batch that has its entry.
        let known = committed <= self.state.last && committed != self.state.committed;
        if known && (flush || !self.batch.is_empty()) {
            self.batch.add(&Control::Committed(committed))?;
            self.state.committed = committed;
        }
        Ok(())
    }

    fn commit_batch(&mut self) -> Result<(), LogError> {
        let number = self.active.segment.number;
        let path = self.active.segment.path.clone();
        let bytes = self
            .batch
            .finish(number, self.next_sequence)
            .map_err(|Malformed(what)| LogError::damaged(&path, self.active.end, what))?;
        let _timer = self.options.sync_meter.as_ref().map(Histogram::start_timer);
        self.active.append(bytes).map_err(LogError::io("write", &path))?;
        if !is_broken(Break::SkipFsync) {
            self.active.segment.file.sync().map_err(LogError::io("sync", &path))?;
        }
        self.next_sequence += 1;
        Ok(())
    }

    /// Starts the next segment. The order matters: the new one is durable with what came before it
    /// written at its head, then the old one is sealed, and only then is anything else written. So
    /// a seal proves that a next segment existed, and without one nobody relied on it.
    fn rotate(&mut self) -> Result<(), LogError> {
        let header =
            SegmentHeader { number: self.active.segment.number + 1, first_sequence: self.next_sequence + 1 };
        let next = begin_segment(&self.options, header, &self.state)?;
        self.batch.clear(BUFFER_KEPT);
        self.batch.add(&Control::Sealed).map_err(|Malformed(what)| self.unencodable(what))?;
        self.commit_batch()?;
        self.next_sequence += 1;
        let sealed = std::mem::replace(&mut self.active, next);
        let mut view = lock(&self.view);
        view.segments.pop_back();
        view.segments.push_back(sealed.segment);
        view.segments.push_back(self.active.segment.clone());
        Ok(())
    }

    /// Deletes segments whose every entry is purged, oldest first, so that a crash leaves no gap.
    fn remove_purged(&mut self) -> Result<(), LogError> {
        let Some(purged) = self.state.purged else { return Ok(()) };
        loop {
            let victim = {
                let mut view = lock(&self.view);
                let removable = view.segments.front().is_some_and(|oldest| {
                    oldest.number < self.active.segment.number && oldest.highest_index <= Some(purged.index)
                });
                if !removable {
                    return Ok(());
                }
                view.segments.pop_front()
            };
            let Some(victim) = victim else { return Ok(()) };
            let files = &self.options.files;
            files
                .remove(&victim.path)
                .and_then(|()| files.sync_directory(&self.options.directory))
                .map_err(LogError::io("remove", &victim.path))?;
        }
    }

    fn unencodable(&self, what: String) -> LogError {
        let source = io::Error::new(io::ErrorKind::InvalidInput, what);
        LogError::Io { action: "encode a batch for", path: self.active.segment.path.clone(), source }
    }
}

/// A job and those that have gathered behind it.
fn group(first: Job, queue: &mut mpsc::Receiver<Job>) -> Vec<Job> {
    let mut bytes = first.bytes();
    let mut jobs = vec![first];
    while bytes < GROUP_BYTES && jobs.len() < GROUP_JOBS {
        let Ok(job) = queue.try_recv() else { break };
        bytes += job.bytes();
        jobs.push(job);
    }
    jobs
}

/// Creates a segment, durable with its header and with what came before it.
pub fn begin_segment(
    options: &LogOptions,
    header: SegmentHeader,
    state: &State,
) -> Result<ActiveSegment, LogError> {
    let files = options.files.as_ref();
    let mut segment = ActiveSegment::create(files, &options.directory, header, options.growth_bytes)?;
    let path = segment.segment.path.clone();
    let mut batch = Batch::new();
    batch
        .add(&Control::State(state.clone()))
        .and_then(|()| Ok(batch.finish(header.number, header.first_sequence)?.to_vec()))
        .map_err(|Malformed(what)| LogError::damaged(&path, 0, what))
        .and_then(|bytes| segment.append(&bytes).map_err(LogError::io("write", &path)))?;
    segment.publish(files, &options.directory)?;
    Ok(segment)
}

/// Locks the view. Nothing slow happens under this lock.
pub fn lock(view: &Mutex<View>) -> MutexGuard<'_, View> {
    view.lock().expect("no code panics while it holds the view")
}
