//! The one hand that works on checkpoints: writing them, making snapshot files of them, replacing
//! them. A thread of its own, because each of these takes from milliseconds to seconds and none
//! may happen while another does.

use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

use quorate_core::record::RecordWrite;
use tokio::sync::{mpsc, oneshot};

use super::{CheckpointError, CheckpointMeta, CheckpointStore};

/// How much the state is asked for at a time. It is locked meanwhile, so this bounds how long
/// apply waits: a few hundred records, well below a millisecond.
const CHUNK: usize = 64 << 10;
/// Work that can wait for the thread; beyond that, callers wait.
const QUEUE: usize = 16;

/// A frozen view of the state, given in parts.
pub trait FrozenSource: Send + Sync + 'static {
    /// Freezes the state, or names the view that was frozen for this checkpoint already: exactly
    /// the state after `applied`. `None` if there is nothing to write.
    fn begin(&self) -> Option<CheckpointMeta>;

    /// The next changed records of the view; empty when all were given.
    fn chunk(&self, bytes_max: usize) -> Vec<RecordWrite>;

    /// The checkpoint will not become durable: a view not read to its end is not needed any more.
    /// The member stops, or its state was replaced.
    fn abandon(&self);
}

/// A checkpoint that is durable now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CheckpointDone {
    /// What it stands for.
    pub meta: CheckpointMeta,
    /// The one before. The log may be purged up to its `applied`, and no further: should this one
    /// turn out to be unreadable, a snapshot file and the log still make up the state.
    pub previous: Option<CheckpointMeta>,
}

/// Who works.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WorkMode {
    /// A thread of its own.
    Thread,
    /// The caller, before its call is done: the simulator's way.
    Inline,
}

type Work = Box<dyn FnOnce() + Send>;

/// Does the work on checkpoints, one piece after the other. Clones share the thread, which ends
/// with the last of them.
#[derive(Clone)]
pub struct Checkpointer {
    store: Arc<dyn CheckpointStore>,
    hand: Arc<Hand>,
}

enum Hand {
    Thread { queue: Option<mpsc::Sender<Work>>, thread: Mutex<Option<JoinHandle<()>>> },
    Inline,
}

impl Checkpointer {
    /// Starts the thread, if one is wanted.
    pub fn start(store: Arc<dyn CheckpointStore>, mode: WorkMode) -> std::io::Result<Checkpointer> {
        let hand = match mode {
            WorkMode::Inline => Hand::Inline,
            WorkMode::Thread => {
                let (sender, mut receiver) = mpsc::channel::<Work>(QUEUE);
                let own = store.clone();
                let thread =
                    std::thread::Builder::new().name("quorate-checkpoint".into()).spawn(move || {
                        // The start has just loaded from it.
                        own.rest();
                        while let Some(work) = receiver.blocking_recv() {
                            // In a thread of its own: what it leaves to the allocator goes when it ends.
                            std::thread::scope(|scope| {
                                scope.spawn(|| {
                                    work();
                                    if receiver.is_empty() {
                                        own.rest();
                                    }
                                });
                            });
                        }
                    })?;
                Hand::Thread { queue: Some(sender), thread: Mutex::new(Some(thread)) }
            }
        };
        Ok(Checkpointer { store, hand: Arc::new(hand) })
    }

    /// Writes a checkpoint of what `source` freezes; `None` if there is nothing to write. When this
    /// returns it is durable.
    ///
    /// # Errors
    ///
    /// After `Io` or `Damaged` the member must stop: what the disk holds is unknown, and the state
    /// takes the records of a view read to its end for written. `Superseded` is harmless: a snapshot
    /// was installed meanwhile, and the state with it.
    ///
    /// # Cancel safety
    ///
    /// A cancelled call does not stop the work; only its outcome is lost.
    pub async fn checkpoint(
        &self,
        source: Arc<dyn FrozenSource>,
    ) -> Result<Option<CheckpointDone>, CheckpointError> {
        self.run(move |store| write_checkpoint(store, source.as_ref())).await?
    }

    /// Does a piece of work in the thread, after what was asked for before.
    ///
    /// # Errors
    ///
    /// `Stopped` if the thread has ended.
    pub async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce(&dyn CheckpointStore) -> T + Send + 'static,
    ) -> Result<T, CheckpointError> {
        let store = self.store.clone();
        match &*self.hand {
            Hand::Inline => Ok(work(store.as_ref())),
            Hand::Thread { queue, .. } => {
                let (done, answer) = oneshot::channel();
                let work: Work = Box::new(move || {
                    // Nobody waits any more if the caller was cancelled.
                    drop(done.send(work(store.as_ref())));
                });
                let queue = queue.as_ref().ok_or(CheckpointError::Stopped)?;
                queue.send(work).await.map_err(|_| CheckpointError::Stopped)?;
                answer.await.map_err(|_| CheckpointError::Stopped)
            }
        }
    }

    /// The store, for what needs no waiting: [`CheckpointStore::meta`].
    pub fn store(&self) -> &dyn CheckpointStore {
        self.store.as_ref()
    }
}

impl Drop for Hand {
    /// Waits for the work in hand, so that a directory is never opened twice.
    fn drop(&mut self) {
        let Hand::Thread { queue, thread } = self else { return };
        queue.take();
        let thread = thread.get_mut().map_or(None, Option::take);
        if let Some(thread) = thread
            && thread.thread().id() != std::thread::current().id()
            && thread.join().is_err()
        {
            tracing::error!("the checkpoint thread panicked");
        }
    }
}

fn write_checkpoint(
    store: &dyn CheckpointStore,
    source: &dyn FrozenSource,
) -> Result<Option<CheckpointDone>, CheckpointError> {
    let Some(meta) = source.begin() else { return Ok(None) };
    match drain(store, source, &meta) {
        Ok(previous) => Ok(Some(CheckpointDone { meta, previous })),
        Err(error) => {
            source.abandon();
            Err(error)
        }
    }
}

fn drain(
    store: &dyn CheckpointStore,
    source: &dyn FrozenSource,
    meta: &CheckpointMeta,
) -> Result<Option<CheckpointMeta>, CheckpointError> {
    let previous = store.meta()?;
    let ticket = store.begin()?;
    loop {
        let writes = source.chunk(CHUNK);
        if writes.is_empty() {
            break;
        }
        store.stage(ticket, writes)?;
    }
    store.commit(ticket, meta)?;
    Ok(previous)
}
