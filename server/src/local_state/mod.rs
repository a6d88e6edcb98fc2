//! Remember and tell: this member's copy of the state, its watches and who waits for what.
//!
//! One lock guards all of it. An apply changes the state, fires the watches and then answers the
//! writer, all under the lock and all into outboxes, so on every connection events and replies
//! stand in zxid order and no reply overtakes an event that it exposes. Reading and leaving a
//! watch is one step under the same lock. Nothing here ever waits for a client.
//!
//! Invariants:
//! - the state changes only in [`LocalState::apply`], only by committed commands, in log order;
//! - a session is attached here only between its Attach's apply and its end or its next Attach;
//! - the lock is never held across an await: every method is synchronous.
//!
//! The map: [`audience`] has who waits for what, [`watching`] reads and hears of changes; here is
//! what they stand around, the state and its applies.
//!
//! Not here: how commands come to be agreed on (replica/), what a request becomes (coordinator/).

mod audience;
mod watching;

use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use quorate_core::breaks::{Break, is_broken};
use quorate_core::command::{Command, Stamp};
use quorate_core::error::{Error, ErrorKind};
use quorate_core::id::{MemberId, SessionId, Zxid};
use quorate_core::state::{Applied, State};
use quorate_core::watches::{WatcherId, Watches};
use tokio::sync::{Notify, watch};

use self::audience::{Attached, PendingCall};
pub use self::audience::{Attaching, CallResult};
use self::watching::Watcher;
use crate::sessions::outbox::Outbox;

/// How far this member has applied.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    /// The last applied log index.
    pub index: u64,
    /// The last transaction.
    pub zxid: Zxid,
}

/// Told of every apply, under the lock, before anybody else is: the simulator's invariants. It sees
/// everything and must change nothing.
pub trait ApplyObserver: Send + Sync + fmt::Debug + 'static {
    /// A command of the entry at `index` was applied.
    fn command(&self, member: MemberId, index: u64, state: &State, command: &Command, applied: &Applied);
    /// A log entry was applied to its end, or a snapshot that stands at it was installed.
    fn entry(&self, member: MemberId, state: &State, index: u64);
}

/// A member's copy of everything replicated, and its local audience.
#[derive(Debug)]
pub struct LocalState {
    member: MemberId,
    observer: Option<Arc<dyn ApplyObserver>>,
    inner: Mutex<Inner>,
    progress: watch::Sender<Progress>,
    sleepers: Notify,
}

#[derive(Debug)]
struct Inner {
    state: State,
    watches: Watches,
    attached: HashMap<SessionId, Attached>,
    watchers: HashMap<WatcherId, Watcher>,
    watcher_last: u64,
    calls: HashMap<u64, PendingCall>,
    applied_index: u64,
    gap_seen: bool,
    /// The digest at each of the last marks.
    marks: VecDeque<(u64, u128)>,
    /// Outboxes with an event in them that nobody was told of; see [`LocalState::run_wakes`].
    sleepers: VecDeque<Outbox>,
}

/// Marks whose digest is remembered.
const MARKS: usize = 64;

/// Sizes, for gauges.
#[derive(Clone, Copy, Debug, Default)]
pub struct Sizes {
    /// Of the replicated state.
    pub state: quorate_core::state::Counts,
    /// Of the local watches.
    pub watches: quorate_core::watches::WatchCounts,
    /// Sessions attached here.
    pub attached: usize,
    /// Their writes not applied yet.
    pub in_flight: usize,
    /// Unary calls waiting.
    pub calls: usize,
    /// Messages waiting in all outboxes.
    pub outbox_messages: usize,
}

impl LocalState {
    /// A member's local state around what was loaded from disk.
    pub fn new(member: MemberId, state: State, applied_index: u64) -> LocalState {
        let progress = Progress { index: applied_index, zxid: state.zxid() };
        LocalState {
            member,
            observer: None,
            inner: Mutex::new(Inner {
                state,
                watches: Watches::new(),
                attached: HashMap::new(),
                watchers: HashMap::new(),
                watcher_last: 0,
                calls: HashMap::new(),
                applied_index,
                gap_seen: false,
                marks: VecDeque::new(),
                sleepers: VecDeque::new(),
            }),
            progress: watch::Sender::new(progress),
            sleepers: Notify::new(),
        }
    }

    /// The same, observed.
    pub fn observed_by(mut self, observer: Option<Arc<dyn ApplyObserver>>) -> LocalState {
        self.observer = observer;
        self
    }

    /// Follows the progress of applies.
    pub fn progress(&self) -> watch::Receiver<Progress> {
        self.progress.subscribe()
    }

    /// Waits until the log entry at `index` has applied here.
    ///
    /// # Errors
    /// `Unavailable`: this member is stopping.
    ///
    /// # Cancel safety
    /// Nothing is lost.
    pub async fn wait_applied(&self, index: u64) -> Result<(), Error> {
        match self.progress().wait_for(|progress| progress.index >= index).await {
            Ok(_) => Ok(()),
            Err(_) => Err(Error::new(ErrorKind::Unavailable, "this member is stopping")),
        }
    }

    /// The last applied index and transaction.
    pub fn progress_now(&self) -> Progress {
        *self.progress.borrow()
    }

    /// Runs `look` on the state. Keep it short: applies wait for it.
    pub fn with_state<T>(&self, look: impl FnOnce(&State) -> T) -> T {
        look(&self.lock().state)
    }

    /// The digest of content that this member had at a mark (the call's ticket), if it has applied it.
    pub fn digest_at_mark(&self, mark: u64) -> Option<u128> {
        self.lock().marks.iter().find(|(ticket, _)| *ticket == mark).map(|(_, digest)| *digest)
    }

    /// Runs `look` on the state and the log index it stands at.
    pub fn with_applied_state<T>(&self, look: impl FnOnce(u64, &State) -> T) -> T {
        let inner = self.lock();
        look(inner.applied_index, &inner.state)
    }

    /// Runs `change` on the state's storage side (freezing, draining a frozen view).
    pub fn with_state_mut<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        change(&mut self.lock().state)
    }

    /// Applies one log entry's commands.
    pub fn apply(&self, index: u64, stamp: &Stamp, commands: &[Command]) {
        let mut inner = self.lock();
        inner.state.prefetch(commands);
        for command in commands {
            let applied = inner.state.apply(stamp, command);
            if let Some(observer) = &self.observer {
                observer.command(self.member, index, &inner.state, command, &applied);
            }
            inner.publish(self.member, command, applied);
        }
        inner.applied_index = index;
        self.observe_entry(&inner);
        let progress = Progress { index, zxid: inner.state.zxid() };
        let anyone_sleeps = !inner.sleepers.is_empty();
        drop(inner);
        if anyone_sleeps {
            self.sleepers.notify_one();
        }
        self.progress.send_replace(progress);
    }

    /// Moves past an entry that carries no commands.
    pub fn apply_nothing(&self, index: u64) {
        let mut inner = self.lock();
        inner.applied_index = index;
        self.observe_entry(&inner);
        drop(inner);
        self.progress.send_modify(|progress| progress.index = index);
    }

    /// Replaces the state by an installed snapshot. Every connection ends first, retryably.
    pub fn install(&self, state: State, applied_index: u64) {
        let mut inner = self.lock();
        inner.end_everything(&Error::new(
            ErrorKind::Unavailable,
            "this member installed a snapshot; reconnect and resume",
        ));
        inner.state = state;
        inner.applied_index = applied_index;
        self.observe_entry(&inner);
        let progress = Progress { index: applied_index, zxid: inner.state.zxid() };
        drop(inner);
        self.progress.send_replace(progress);
    }

    /// Ends every connection and pending call with this reason (a member that stops).
    pub fn end_everything(&self, reason: &Error) {
        self.lock().end_everything(reason);
    }

    /// Sizes, for gauges.
    pub fn sizes(&self) -> Sizes {
        let inner = self.lock();
        Sizes {
            state: inner.state.counts(),
            watches: inner.watches.counts(),
            attached: inner.attached.len(),
            in_flight: inner.attached.values().map(|attached| attached.in_flight.len()).sum(),
            calls: inner.calls.len(),
            outbox_messages: inner.watchers.values().map(|watcher| watcher.outbox.depth()).sum(),
        }
    }

    fn observe_entry(&self, inner: &Inner) {
        if let Some(observer) = &self.observer {
            observer.entry(self.member, &inner.state, inner.applied_index);
        }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    /// Fires watches, then answers whoever waits for this command here.
    fn publish(&mut self, member: MemberId, command: &Command, mut applied: Applied) {
        let changes = std::mem::take(&mut applied.changes);
        if is_broken(Break::WatchesAfterReplies) {
            self.answer(member, command, applied);
            self.fire(&changes);
        } else {
            self.fire(&changes);
            self.answer(member, command, applied);
        }
    }
}
