//! One bounded queue for a connection's replies and events, in the order they happened.
//!
//! local_state pushes under its lock and never waits; the door's writing half takes batches.
//! A client that does not read fast enough overflows its queue: the queue closes with
//! `Overloaded`, the door ends the connection, and the session lives on to be resumed. A door that
//! waits for such a client in a write learns of it from [`OutboxSignal::closed`].

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use quorate_core::change::{Value, WatchEvent};
use quorate_core::error::{Error, ErrorKind};
use quorate_core::id::{Position, WriteNumber, Zxid};
use quorate_core::reply::{Child, ReadReply, ReadResult, WriteReply, WriteResult};
use tokio::sync::Notify;

/// Beyond this many messages the connection is closed.
const MESSAGES_MAX: usize = 256 * 1024;
/// Beyond this many bytes of values the connection is closed.
const BYTES_MAX: usize = 64 << 20;

/// Below this many bytes and messages more may be answered that is not due yet.
const ROOM_BYTES: usize = 8 << 20;
/// The same, messages.
const ROOM_MESSAGES: usize = 32 * 1024;

/// A batch is closed once it holds this much.
const TAKE_BYTES: usize = 1 << 20;

/// A message on its way to a client.
#[derive(Debug)]
pub enum Outgoing {
    /// The answer to a numbered write.
    Write {
        /// Which write.
        number: WriteNumber,
        /// Its answer.
        reply: WriteReply,
    },
    /// The answer to a read.
    Read {
        /// The client's own number for the request.
        xid: u64,
        /// Its answer.
        reply: ReadReply,
    },
    /// A watch fired.
    Event(WatchEvent),
    /// A heartbeat reached a leader that still had a quorum afterwards.
    Heartbeat {
        /// The client's own number for the heartbeat.
        sequence: u64,
        /// The last transaction applied here.
        zxid: Zxid,
        /// Every event up to here was queued before this message.
        delivered_through: Position,
    },
}

/// What became of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pushed {
    /// The queue was empty: whoever takes may sleep.
    First,
    /// Others wait before it, or a wake is due already.
    Behind,
    /// The queue is closed.
    Closed,
}

/// The pushing end; cheap to clone.
#[derive(Clone, Debug)]
pub struct Outbox {
    shared: Arc<Shared>,
}

/// The taking end, owned by the door's writing half. Dropping it closes the queue.
#[derive(Debug)]
pub struct OutboxReader {
    shared: Arc<Shared>,
}

/// Tells when an outbox has something; holds nothing of it.
#[derive(Clone, Debug)]
pub struct OutboxSignal {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    queue: Mutex<Queue>,
    ready: Notify,
    /// Told once, at the close.
    closed: Notify,
    /// Told whenever the client has taken something.
    taken: Notify,
}

#[derive(Debug, Default)]
struct Queue {
    messages: VecDeque<Outgoing>,
    bytes: usize,
    /// Somebody has promised to wake whoever takes.
    wake_is_due: bool,
    closed: Option<End>,
}

/// How a connection ends once what is queued has been taken.
#[derive(Clone, Debug)]
enum End {
    /// The client said goodbye.
    Finished,
    /// It is cut.
    Because(Error),
}

/// Makes a connection's outbox.
pub fn outbox() -> (Outbox, OutboxReader) {
    let shared = Arc::new(Shared {
        queue: Mutex::default(),
        ready: Notify::new(),
        closed: Notify::new(),
        taken: Notify::new(),
    });
    (Outbox { shared: shared.clone() }, OutboxReader { shared })
}

impl Outbox {
    /// Queues a message; false if the queue is closed, also when this message overflowed it.
    pub fn push(&self, message: Outgoing) -> bool {
        let pushed = self.enqueue(message, false);
        if pushed == Pushed::First {
            self.shared.ready.notify_one();
        }
        pushed != Pushed::Closed
    }

    /// The same, but whoever takes is not told: after [`Pushed::First`] that is [`Outbox::wake`]'s
    /// part, soon.
    pub fn push_quietly(&self, message: Outgoing) -> Pushed {
        self.enqueue(message, true)
    }

    fn enqueue(&self, message: Outgoing, quietly: bool) -> Pushed {
        let mut queue = self.shared.lock();
        if queue.closed.is_some() {
            return Pushed::Closed;
        }
        let is_first = queue.messages.is_empty() && !queue.wake_is_due;
        queue.wake_is_due |= is_first && quietly;
        queue.bytes += weight(&message);
        queue.messages.push_back(message);
        if queue.messages.len() > MESSAGES_MAX || queue.bytes > BYTES_MAX {
            queue.messages.clear();
            queue.closed = Some(End::Because(Error::new(
                ErrorKind::Overloaded,
                format!("client reads too slowly: over {MESSAGES_MAX} messages or {BYTES_MAX} bytes waited"),
            )));
            drop(queue);
            self.end();
            return Pushed::Closed;
        }
        if is_first { Pushed::First } else { Pushed::Behind }
    }

    /// Tells whoever takes that there is something.
    pub fn wake(&self) {
        self.shared.lock().wake_is_due = false;
        self.shared.ready.notify_one();
    }

    /// Tells everybody who waits that the queue is closed.
    fn end(&self) {
        self.wake();
        self.shared.closed.notify_one();
        self.shared.taken.notify_one();
    }

    /// Ends the connection with this reason once what is queued has been taken.
    pub fn close(&self, reason: Error) {
        self.shared.lock().closed.get_or_insert(End::Because(reason));
        self.end();
    }

    /// Ends the connection in good order once what is queued has been taken.
    pub fn finish(&self) {
        self.shared.lock().closed.get_or_insert(End::Finished);
        self.end();
    }

    /// Whether the connection has ended or is about to.
    pub fn is_closed(&self) -> bool {
        self.shared.lock().closed.is_some()
    }

    /// Whether few enough messages wait that more may be answered. What is due (events, answers to writes)
    /// is queued in any case.
    pub fn has_room(&self) -> bool {
        let queue = self.shared.lock();
        queue.closed.is_some() || (queue.bytes < ROOM_BYTES && queue.messages.len() < ROOM_MESSAGES)
    }

    /// Whether the queue holds half of what would close it.
    pub fn is_half_full(&self) -> bool {
        let queue = self.shared.lock();
        queue.messages.len() > MESSAGES_MAX / 2 || queue.bytes > BYTES_MAX / 2
    }

    /// Waits until the client has taken something since this was asked last, or the end. One task may wait.
    ///
    /// # Cancel safety
    /// Nothing is lost.
    pub async fn taken(&self) {
        self.shared.taken.notified().await;
    }

    /// Messages waiting, for gauges.
    pub fn depth(&self) -> usize {
        self.shared.lock().messages.len()
    }
}

impl OutboxReader {
    /// Takes up to `max` waiting messages; none once the connection has ended in good order.
    ///
    /// # Errors
    /// Why the connection was cut.
    ///
    /// # Cancel safety
    /// Nothing is lost if the future is dropped.
    pub async fn take(&mut self, max: usize) -> Result<Vec<Outgoing>, Error> {
        loop {
            let ready = self.shared.ready.notified();
            if let Some(taken) = self.shared.try_take(max) {
                return taken;
            }
            ready.await;
        }
    }

    /// What [`OutboxReader::take`] would give at once; `None` if it would wait.
    pub fn try_take(&mut self, max: usize) -> Option<Result<Vec<Outgoing>, Error>> {
        self.shared.try_take(max)
    }

    /// The client takes what was given to it, if slowly.
    pub fn note_progress(&self) {
        self.shared.taken.notify_one();
    }

    /// Tells when there is something to take, for whoever takes with [`OutboxReader::try_take`].
    pub fn signal(&self) -> OutboxSignal {
        OutboxSignal { shared: self.shared.clone() }
    }
}

impl OutboxSignal {
    /// Waits until there is something to take, or the end.
    ///
    /// # Cancel safety
    /// Nothing is lost.
    pub async fn ready(&self) {
        loop {
            let ready = self.shared.ready.notified();
            {
                let queue = self.shared.lock();
                if !queue.messages.is_empty() || queue.closed.is_some() {
                    return;
                }
            }
            ready.await;
        }
    }

    /// Waits until the connection has ended or is about to: messages may still wait to be taken. One
    /// task may wait.
    ///
    /// # Cancel safety
    /// Nothing is lost.
    pub async fn closed(&self) {
        loop {
            let closed = self.shared.closed.notified();
            if self.shared.lock().closed.is_some() {
                return;
            }
            closed.await;
        }
    }
}

impl Drop for OutboxReader {
    fn drop(&mut self) {
        let mut queue = self.shared.lock();
        queue.messages.clear();
        queue.closed.get_or_insert(End::Finished);
        drop(queue);
        self.shared.taken.notify_one();
    }
}

impl Shared {
    fn try_take(&self, max: usize) -> Option<Result<Vec<Outgoing>, Error>> {
        let mut queue = self.lock();
        if !queue.messages.is_empty() {
            let mut bytes = 0;
            let fitting = queue.messages.iter().take(max).take_while(|message| {
                let is_room = bytes < TAKE_BYTES;
                bytes += weight(message);
                is_room
            });
            let count = fitting.count();
            let taken: Vec<Outgoing> = queue.messages.drain(..count).collect();
            queue.bytes -= taken.iter().map(weight).sum::<usize>();
            self.taken.notify_one();
            return Some(Ok(taken));
        }
        match &queue.closed {
            None => None,
            Some(End::Finished) => Some(Ok(Vec::new())),
            Some(End::Because(reason)) => Some(Err(reason.clone())),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What a message holds in memory, roughly: enough to bound it.
fn weight(message: &Outgoing) -> usize {
    128 + match message {
        Outgoing::Read { reply, .. } => reply.result.as_ref().map_or_else(weight_of_error, weight_of_read),
        Outgoing::Write { reply, .. } => reply.result.as_ref().map_or_else(weight_of_error, weight_of_write),
        Outgoing::Event(event) => {
            let value = match &event.body.value {
                Value::Kept(Some(data)) if event.with_value => data.len(),
                _ => 0,
            };
            event.body.path.len() + value
        }
        Outgoing::Heartbeat { .. } => 0,
    }
}

/// An error names the path that it is about.
fn weight_of_error(error: &Error) -> usize {
    error.detail.len()
}

fn weight_of_write(result: &WriteResult) -> usize {
    match result {
        WriteResult::Created { path, .. } => path.len(),
        WriteResult::Multi(results) => results.iter().map(|result| 128 + weight_of_write(result)).sum(),
        _ => 0,
    }
}

/// What an answer to a read holds in memory, roughly.
fn weight_of_read(result: &ReadResult) -> usize {
    match result {
        ReadResult::Data { data, .. } => data.as_ref().map_or(0, |data| data.len()),
        ReadResult::Children { children, .. } => {
            let of_child =
                |child: &Child| 64 + child.name.len() + child.data.as_ref().map_or(0, |data| data.len());
            children.iter().map(of_child).sum()
        }
        ReadResult::Multi(results) => results.iter().flatten().map(weight_of_read).sum(),
        ReadResult::Ephemerals(paths) => paths.iter().map(String::len).sum(),
        ReadResult::Synced(path) => path.len(),
        ReadResult::Acl { acl, .. } => acl.iter().map(|entry| 64 + entry.scheme.len() + entry.id.len()).sum(),
        ReadResult::Identities(identities) => {
            identities.iter().map(|identity| 64 + identity.scheme.len() + identity.id.len()).sum()
        }
        ReadResult::Sessions(sessions) => 64 * sessions.len(),
        _ => 0,
    }
}
