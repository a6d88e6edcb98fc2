//! The log: what this member promised, on its disk.
//!
//! Votes, entries, truncations and purges go through one ordered [`writer`]; what gathers while it
//! syncs becomes the next group. Readers see every accepted entry at once ([`view`]). At open every
//! byte is checked ([`recovery`]): a torn end is cut, damage is refused. The bytes are described in
//! [`format`](mod@format) and docs/formats.md. What the entries mean is no business of this room's; the next
//! one is the state machine, and [`super::checkpoint`] is what allows the log to be purged.
//!
//! # Invariants
//!
//! - Nothing is reported durable before the sync that made it so; a vote is not even returned.
//! - After a failed write or sync nothing is written again, and [`LogOptions::fatal`] was told.
//! - Entries are dense; an append that would leave a hole or overwrite an entry is refused.
//! - The disk holds the segments with unpurged entries, and at most one more.

pub mod error;
pub mod format;
mod locations;
mod reader;
mod recovery;
mod segment;
mod state;
mod tail;
mod view;
mod window;
mod writer;

use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use futures_util::future::BoxFuture;
use openraft::storage::{RaftLogReader, RaftLogStorage};
use prometheus::Histogram;
use tokio::sync::{mpsc, oneshot};

pub use error::LogError;
pub use reader::{LogFigures, LogReader};

use self::format::SegmentHeader;
use self::state::State;
use self::view::View;
use self::writer::{Job, Writer, begin_segment, lock};
use super::files::{DiskFiles, Files};
use super::types::{Entry, IoFlushed, LogId, LogState, TypeConfig, Vote};

/// Told once, when the log cannot be written any more. The member must then stop serving.
pub type FatalHook = Arc<dyn Fn(&LogError) + Send + Sync>;

/// Jobs that can wait for the writer. Beyond that, `append` waits.
const QUEUE: usize = 4096;

/// How a log is kept.
#[derive(Clone)]
pub struct LogOptions {
    /// The log's own directory.
    pub directory: PathBuf,
    /// The file system it is in.
    pub files: Arc<dyn Files>,
    /// About this many bytes of recent entries stay in memory.
    pub cache_bytes: usize,
    /// A new segment is begun once the last one has this many bytes. Space comes back in these units.
    pub segment_bytes: u64,
    /// A segment is filled with zeros in steps of this many bytes ahead of its end, so that most
    /// syncs change no file length and no extent. A larger step makes single appends wait longer.
    pub growth_bytes: u64,
    /// Who writes.
    pub writer: WriterMode,
    /// Told when the log fails.
    pub fatal: FatalHook,
    /// How long each group takes to be written and synced.
    pub sync_meter: Option<Histogram>,
}

/// Who writes.
#[derive(Clone, Debug)]
pub enum WriterMode {
    /// A thread of its own, so that nobody else waits for the disk.
    Thread,
    /// The caller, before its call returns.
    Inline,
    /// A task, on a disk that takes time: the simulator's way, where there are no threads.
    Task(Pace),
}

/// How a task writes the log.
#[derive(Clone)]
pub struct Pace {
    /// Runs the task for as long as its process lives.
    pub spawn: Arc<dyn Fn(BoxFuture<'static, ()>) + Send + Sync>,
    /// How long the next group takes on its way to the disk.
    pub pause: Arc<dyn Fn() -> Duration + Send + Sync>,
}

impl std::fmt::Debug for Pace {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Pace").finish_non_exhaustive()
    }
}

/// Whether a log must be there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Begin {
    /// The member is being made: there must be none.
    New,
    /// The member exists: a missing or empty log means that its promises are lost.
    Existing,
}

impl LogOptions {
    /// The defaults, on the machine's disk.
    pub fn new(directory: impl Into<PathBuf>) -> LogOptions {
        LogOptions {
            directory: directory.into(),
            files: Arc::new(DiskFiles),
            cache_bytes: 8 << 20,
            segment_bytes: 64 << 20,
            growth_bytes: 256 << 10,
            writer: WriterMode::Thread,
            fatal: Arc::new(|_| {}),
            sync_meter: None,
        }
    }
}

/// What was found when a log was opened.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LogOpened {
    /// A torn batch, never reported durable, was cut off this file at this offset.
    pub cut: Option<(PathBuf, u64)>,
}

/// The log of one member, as openraft wants it.
pub struct LogStore {
    view: Arc<Mutex<View>>,
    hand: Hand,
}

/// The way to the writer.
enum Hand {
    Thread { queue: Option<mpsc::Sender<Job>>, thread: Option<JoinHandle<()>> },
    Inline(Box<Mutex<Writer>>),
    Task(mpsc::Sender<Job>),
}

impl LogStore {
    /// Opens the log, or begins it.
    ///
    /// # Errors
    ///
    /// Every [`LogError`] names the file, the offset where there is one, and what to do.
    pub fn open(options: LogOptions, begin: Begin) -> Result<(LogStore, LogOpened), LogError> {
        let files = options.files.clone();
        let directory = options.directory.clone();
        let recovered = recovery::recover(files.as_ref(), &directory, options.growth_bytes)?;
        let mut opened = LogOpened::default();
        let (state, locations, mut segments, active, next_sequence) = match (recovered, begin) {
            (Some(_), Begin::New) => return Err(LogError::NotEmpty { path: directory }),
            (None, Begin::Existing) => {
                let what = "this member exists, so it has given votes and accepted entries".into();
                return Err(LogError::Missing { path: directory, what });
            }
            (Some(found), Begin::Existing) => {
                opened.cut = found.cut;
                (found.state, found.locations, found.sealed, found.active, found.next_sequence)
            }
            (None, Begin::New) => {
                make_directory(files.as_ref(), &directory)?;
                let header = SegmentHeader { number: 1, first_sequence: 1 };
                let active = begin_segment(&options, header, &State::default())?;
                (State::default(), Default::default(), Default::default(), active, 2)
            }
        };
        segments.push_back(active.segment.clone());
        let view = View::new(state.clone(), locations, segments, options.cache_bytes);
        let view = Arc::new(Mutex::new(view));
        let mode = options.writer.clone();
        let writer = Writer::new(options, view.clone(), active, state, next_sequence);
        let hand = match mode {
            WriterMode::Inline => Hand::Inline(Box::new(Mutex::new(writer))),
            WriterMode::Task(Pace { spawn, pause }) => {
                let (sender, receiver) = mpsc::channel(QUEUE);
                spawn(Box::pin(writer.run_paced(receiver, pause)));
                Hand::Task(sender)
            }
            WriterMode::Thread => {
                let (sender, receiver) = mpsc::channel(QUEUE);
                let thread = std::thread::Builder::new()
                    .name("quorate-log".into())
                    .spawn(move || writer.run(receiver))
                    .map_err(LogError::io("start the writer of", &directory))?;
                Hand::Thread { queue: Some(sender), thread: Some(thread) }
            }
        };
        Ok((LogStore { view, hand }, opened))
    }

    /// A reader, which also knows the log's figures.
    pub fn reader(&self) -> LogReader {
        LogReader { view: self.view.clone() }
    }

    /// Makes the commit index durable that otherwise waits for the next append: for an orderly
    /// stop, so that the next start applies all that was committed.
    pub async fn flush(&mut self) -> io::Result<()> {
        let (done, answer) = oneshot::channel();
        self.send(Job::Flush { done }, |_| Ok(())).await?;
        answer.await.unwrap_or_else(|_| Err(writer_gone()))
    }

    /// Makes the log agree with a checkpoint that stands at `applied`, for a crash between a
    /// snapshot's installation and the purge that goes with it: if the log has another entry at
    /// that index, that entry and all behind it were never committed, for the snapshot's were; they
    /// are removed. Before Raft starts.
    ///
    /// A log that ends before that index is purged by Raft itself, unless its last entry is of a later
    /// term: Raft compares terms first, and would append behind the wrong end. It is purged here.
    pub async fn settle_behind(&mut self, applied: LogId) -> io::Result<()> {
        let state = lock(&self.view).state.clone();
        if applied.index < state.first_index() {
            return Ok(());
        }
        let mut is_changed = false;
        if state.next_index().is_some_and(|next| applied.index < next) {
            let mut reader = self.reader();
            let found = reader.try_get_log_entries(applied.index..applied.index + 1).await?;
            if found.first().is_some_and(|entry| entry.log_id == applied) {
                return Ok(());
            }
            let before = reader.try_get_log_entries(applied.index.saturating_sub(1)..applied.index).await?;
            let keep = before.last().map(|entry| entry.log_id).or(state.purged);
            tracing::warn!(%applied, "the log's end is not the checkpoint's and is removed");
            self.truncate_after(keep).await?;
            is_changed = true;
        }
        let last = lock(&self.view).state.last;
        if last > Some(applied) {
            tracing::warn!(%applied, "the log ends before the checkpoint, in a later term, and is removed");
            self.purge(applied).await?;
            is_changed = true;
        }
        if is_changed { self.flush().await } else { Ok(()) }
    }

    /// Accepts a job: `accept` changes what readers see, and then the job is in the writer's queue.
    ///
    /// # Cancel safety
    ///
    /// A cancelled call has either accepted the job whole or not at all.
    async fn send(&self, job: Job, accept: impl FnOnce(&mut View) -> io::Result<()>) -> io::Result<()> {
        let queue = match &self.hand {
            Hand::Thread { queue, .. } => queue.as_ref(),
            Hand::Task(queue) => Some(queue),
            Hand::Inline(_) => None,
        };
        match &self.hand {
            Hand::Thread { .. } | Hand::Task(_) => {
                let queue = queue.ok_or_else(writer_gone)?;
                let place = queue.reserve().await.map_err(|_| writer_gone())?;
                let mut view = lock(&self.view);
                view.check()?;
                accept(&mut view)?;
                place.send(job);
            }
            Hand::Inline(writer) => {
                {
                    let mut view = lock(&self.view);
                    view.check()?;
                    accept(&mut view)?;
                }
                let mut writer = writer.lock().expect("the writer does not panic");
                writer.process(&mut vec![job]);
            }
        }
        Ok(())
    }
}

impl Drop for LogStore {
    /// Waits until the queue is written, so that a directory is never opened twice.
    fn drop(&mut self) {
        if let Hand::Thread { queue, thread } = &mut self.hand {
            queue.take();
            if thread.take().map(JoinHandle::join).is_some_and(|ended| ended.is_err()) {
                tracing::error!("the log's writer panicked");
            }
        }
    }
}

impl RaftLogStorage<TypeConfig> for LogStore {
    type LogReader = LogReader;

    async fn get_log_state(&mut self) -> io::Result<LogState> {
        let view = lock(&self.view);
        Ok(LogState { last_purged_log_id: view.state.purged, last_log_id: view.state.last })
    }

    async fn get_log_reader(&mut self) -> LogReader {
        self.reader()
    }

    async fn save_vote(&mut self, vote: &Vote) -> io::Result<()> {
        let (done, answer) = oneshot::channel();
        self.send(Job::Vote { vote: *vote, done }, |_| Ok(())).await?;
        answer.await.unwrap_or_else(|_| Err(writer_gone()))
    }

    /// Not durable by itself: it rides with the next batch. Losing it costs nothing but time, for
    /// the member learns the commit index again from a leader.
    async fn save_committed(&mut self, committed: Option<LogId>) -> io::Result<()> {
        let mut view = lock(&self.view);
        view.check()?;
        view.state.committed = committed;
        Ok(())
    }

    async fn read_committed(&mut self) -> io::Result<Option<LogId>> {
        Ok(lock(&self.view).state.committed)
    }

    async fn append<I>(&mut self, entries: I, callback: IoFlushed) -> io::Result<()>
    where
        I: IntoIterator<Item = Entry> + Send,
        I::IntoIter: Send,
    {
        let entries: Vec<Entry> = entries.into_iter().collect();
        let seen = entries.clone();
        let job = Job::Append { entries, done: callback };
        self.send(job, move |view| view.append(&seen)).await
    }

    /// Returns before the truncation is durable. Nothing is promised about the removed entries,
    /// and whatever is appended next becomes durable after it, so a crash in between only brings
    /// back what the leader will have truncated again.
    async fn truncate_after(&mut self, last_log_id: Option<LogId>) -> io::Result<()> {
        self.send(Job::Truncate { after: last_log_id }, |view| view.truncate(last_log_id)).await
    }

    /// The caller has a durable checkpoint at or above `upto`.
    async fn purge(&mut self, upto: LogId) -> io::Result<()> {
        let purge = |view: &mut View| {
            view.purge(upto);
            Ok(())
        };
        self.send(Job::Purge { upto }, purge).await
    }
}

fn make_directory(files: &dyn Files, directory: &Path) -> Result<(), LogError> {
    files.create_directory(directory).map_err(LogError::io("create", directory))?;
    let Some(parent) = directory.parent() else { return Ok(()) };
    files.sync_directory(parent).map_err(LogError::io("sync", parent))
}

fn writer_gone() -> io::Error {
    io::Error::other("the log's writer has stopped")
}
