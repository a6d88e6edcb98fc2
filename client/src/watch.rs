//! Watches: lasting ones are streams, one-shot ones are futures. Dropping either removes the watch.
//!
//! How a watch survives a lost connection, and what happens when its listener is slow, is
//! session/watches.rs.

use std::future::{Future, IntoFuture};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use quorate_core::change::{EventBody, EventKind, Value};
use quorate_core::id::Position;
use quorate_core::request::{Consistency, ReadRequest, WatchId, WatchKind};
use quorate_core::znode::Stat;
use tokio::sync::mpsc;
use tokio_stream::Stream;

use crate::calls::Answered;
use crate::chroot::Chroot;
use crate::client::Client;
use crate::error::{Error, Result};
use crate::pending::Pending;
use crate::session::watches::{Told, WatchSender};
use crate::session::{Ask, Control, Facts, Place};

/// Events that wait for their listener if the call does not say otherwise.
const CAPACITY: usize = 1024;
/// The most that may be let wait.
const CAPACITY_MAX: usize = 1 << 24;

/// What happened to a watched node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeEvent {
    /// Where the event stands in the order of all; pass it as `since` to watch behind it.
    pub position: Position,
    /// What happened.
    pub kind: EventKind,
    /// The node that it happened to (the parent, for `NodeChildrenChanged`).
    pub path: String,
    /// The node's, after the change or before its deletion; the changed child's for
    /// `NodeChildrenChanged`.
    pub stat: Stat,
    /// The node's data; `None` if the watch did not ask for values.
    pub value: Option<Value>,
}

/// What a lasting watch tells.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum WatchEvent {
    /// Something happened.
    Node(NodeEvent),
    /// The cluster no longer knows what happened since the last event: read again. What follows
    /// lies behind this position, and a read from now on sees at least everything before it.
    Gap(Position),
}

/// See [`Client::watch`].
#[derive(Clone, Debug)]
#[must_use = "a call does nothing until it is sent or awaited"]
pub struct WatchCall<'a> {
    client: &'a Client,
    path: String,
    kind: WatchKind,
    since: Option<Position>,
    with_value: bool,
    capacity: usize,
    consistency: Consistency,
}

impl<'a> WatchCall<'a> {
    pub(crate) fn new(client: &'a Client, path: &str, kind: WatchKind) -> WatchCall<'a> {
        let path = client.chroot.outward(path);
        let consistency = client.consistency;
        WatchCall { client, path, kind, since: None, with_value: false, capacity: CAPACITY, consistency }
    }

    /// Where "from now on" is; the client's default if not said. Linearizable: the watch hears
    /// nothing that was acknowledged anywhere before the call. Session: it may hear some of that
    /// first, from a member that is behind. With [`WatchCall::since`] it does not matter.
    pub fn consistency(mut self, consistency: Consistency) -> Self {
        self.consistency = consistency;
        self
    }

    /// The node and everything below it; then without `NodeChildrenChanged`.
    pub fn recursive(mut self) -> Self {
        self.kind = WatchKind::Recursive;
        self
    }

    /// First replays what happened behind this position. `Position::after(node.zxid)` continues
    /// from a read without a gap.
    pub fn since(mut self, position: Position) -> Self {
        self.since = Some(position);
        self
    }

    /// Events carry the node's data, where the cluster kept it (small values).
    pub fn with_value(mut self) -> Self {
        self.with_value = true;
        self
    }

    /// How many events may wait for the listener; 1,024 if not said, 16 million at most. Beyond it the watch pauses
    /// and catches up when the listener has, from the cluster's memory.
    pub fn capacity(mut self, events: usize) -> Self {
        self.capacity = events.clamp(1, CAPACITY_MAX);
        self
    }

    /// Queues the call. Writes may be sent behind it; it will hear of them.
    ///
    /// # Errors
    /// [`Error::Overtaken`] besides those of the call: only one without [`WatchCall::since`], which
    /// could begin too late.
    pub fn send(self) -> Pending<Watch> {
        self.queue(Place::Kept)
    }

    fn queue(self, place: Place) -> Pending<Watch> {
        let WatchCall { client, path, kind, since, with_value, capacity, consistency } = self;
        let (consistency, place) = match since {
            // Wherever and whenever it is left, it begins there.
            Some(_) => (Consistency::Session, Place::Open),
            None => (consistency, place),
        };
        let request = ReadRequest::AddWatch { id: WatchId(0), path: path.clone(), kind, since, with_value };
        let (sender, listener) = listen(client, path, kind, since, with_value, capacity);
        let receiver = client.handle.ask(Ask::Read(request, consistency, place, Some(sender)));
        Pending::new(receiver, move |answer| answer.map(|_| Watch { listener, is_over: false }))
    }
}

impl IntoFuture for WatchCall<'_> {
    type Output = Result<Watch>;
    type IntoFuture = Pending<Watch>;

    fn into_future(self) -> Pending<Watch> {
        self.queue(Place::Open)
    }
}

/// A lasting watch: a stream of events in the order of the transactions, none lost, none twice,
/// across lost connections. It ends behind an error when the session is over, or when the client
/// may not watch any more.
///
/// It does not keep the session alive: that is the [`Client`]'s part.
#[derive(Debug)]
pub struct Watch {
    listener: Listener,
    is_over: bool,
}

impl Watch {
    /// The next event; `None` behind an error.
    ///
    /// # Errors
    /// The session is over, or the watch could not be left again on a new connection.
    ///
    /// # Cancel safety
    /// No event is lost.
    pub async fn next(&mut self) -> Option<Result<WatchEvent>> {
        std::future::poll_fn(|context| Pin::new(&mut *self).poll_next(context)).await
    }
}

impl Stream for Watch {
    type Item = Result<WatchEvent>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if self.is_over {
            return Poll::Ready(None);
        }
        let told = self.listener.poll(context);
        self.is_over = matches!(told, Poll::Ready(Err(_)));
        told.map(Some)
    }
}

/// A watch that fires once, left by a read's `and_watch`.
///
/// # Cancel safety
/// Dropping it removes the watch.
#[derive(Debug)]
#[must_use = "dropping it removes the watch"]
pub struct OneShot {
    listener: Listener,
}

impl Future for OneShot {
    /// What happened; the session's end, or `WatchGap` if the cluster no longer knows whether
    /// something did.
    type Output = Result<NodeEvent>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Result<NodeEvent>> {
        self.listener.poll(context).map(|told| match told? {
            WatchEvent::Node(event) => Ok(event),
            WatchEvent::Gap(_) => Err(Error::Protocol("a one-shot watch does not go on behind a gap".into())),
        })
    }
}

/// A read that leaves a watch that fires once.
#[derive(Clone, Debug)]
#[must_use = "a call does nothing until it is sent or awaited"]
pub struct AndWatch<'a, T> {
    client: &'a Client,
    request: ReadRequest,
    path: String,
    kind: WatchKind,
    consistency: Consistency,
    finish: fn(Answered) -> Result<T>,
}

impl<'a, T: 'static> AndWatch<'a, T> {
    /// `path` is the cluster's.
    pub(crate) fn new(
        client: &'a Client,
        request: ReadRequest,
        path: String,
        kind: WatchKind,
        consistency: Consistency,
        finish: fn(Answered) -> Result<T>,
    ) -> AndWatch<'a, T> {
        AndWatch { client, request, path, kind, consistency, finish }
    }

    /// Queues the call. Writes may be sent behind it; the read will not see them, and the watch will.
    ///
    /// # Errors
    /// [`Error::Overtaken`] besides those of the read; then there is no watch.
    pub fn send(self) -> Pending<(T, OneShot)> {
        self.queue(Place::Kept)
    }

    fn queue(self, place: Place) -> Pending<(T, OneShot)> {
        let AndWatch { client, request, path, kind, consistency, finish } = self;
        let (sender, listener) = listen(client, path, kind, None, false, 1);
        let receiver = client.handle.ask(Ask::Read(request, consistency, place, Some(sender)));
        Pending::new(receiver, move |answer| Ok((finish(answer)?, OneShot { listener })))
    }
}

impl<T: 'static> IntoFuture for AndWatch<'_, T> {
    type Output = Result<(T, OneShot)>;
    type IntoFuture = Pending<(T, OneShot)>;

    fn into_future(self) -> Pending<(T, OneShot)> {
        self.queue(Place::Open)
    }
}

/// The hearing end of a watch.
#[derive(Debug)]
struct Listener {
    key: u64,
    told: mpsc::Receiver<Told>,
    facts: Arc<Facts>,
    control: mpsc::WeakUnboundedSender<Control>,
    chroot: Chroot,
    with_value: bool,
}

fn listen(
    client: &Client,
    path: String,
    kind: WatchKind,
    since: Option<Position>,
    with_value: bool,
    capacity: usize,
) -> (WatchSender, Listener) {
    // One more for the word that the watch is paused.
    let (sender, told) = mpsc::channel(capacity + 1);
    let key = client.handle.next_watch_key();
    let listener = Listener {
        key,
        told,
        facts: client.handle.facts(),
        control: client.handle.control(),
        chroot: client.chroot.clone(),
        with_value,
    };
    (WatchSender { key, path, kind, since, with_value, told: sender }, listener)
}

impl Listener {
    fn poll(&mut self, context: &mut Context<'_>) -> Poll<Result<WatchEvent>> {
        loop {
            return match self.told.poll_recv(context) {
                Poll::Pending => Poll::Pending,
                Poll::Ready(Some(Told::Event(body))) => Poll::Ready(Ok(WatchEvent::Node(self.event(&body)))),
                Poll::Ready(Some(Told::Gap(position))) => Poll::Ready(Ok(WatchEvent::Gap(position))),
                Poll::Ready(Some(Told::Failed(error))) => Poll::Ready(Err(error)),
                Poll::Ready(Some(Told::Paused)) => {
                    self.ask(Control::Resume(self.key));
                    continue;
                }
                // The task's last word found no room in the queue.
                Poll::Ready(None) => {
                    Poll::Ready(Err(self.facts.ended.get().cloned().unwrap_or(Error::Closed)))
                }
            };
        }
    }

    fn event(&self, body: &EventBody) -> NodeEvent {
        NodeEvent {
            position: body.position,
            kind: body.kind,
            path: self.chroot.inward(body.path.to_string()),
            stat: body.stat,
            value: self.with_value.then(|| body.value.clone()),
        }
    }

    fn ask(&self, control: Control) {
        // Without a sender the session is over, and the watch with it.
        if let Some(sender) = self.control.upgrade() {
            let _ = sender.send(control);
        }
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        // First this: the task removes a watch that nobody hears when it comes to stand.
        self.told.close();
        self.ask(Control::Remove(self.key));
    }
}
