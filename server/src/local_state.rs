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
//! Not here: how commands come to be agreed on (replica/), what a request becomes (coordinator/).

use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use quorate_core::acl::{self, Identity, Permissions};
use quorate_core::breaks::{Break, is_broken};
use quorate_core::change::Change;
use quorate_core::change::{EventBody, Value, WatchEvent};
use quorate_core::command::{Command, Operation, Origin, Stamp};
use quorate_core::error::{Error, ErrorKind};
use quorate_core::id::{AttachEpoch, MemberId, Position, SessionId, WriteNumber, Zxid};
use quorate_core::reply::{Attachment, ReadReply, ReadResult, WriteReply, WriteResult};
use quorate_core::request::{ReadRequest, WatchId, WatchKind};
use quorate_core::state::{Answer, Applied, Caller, State};
use quorate_core::watches::{WatcherId, Watches, rearm};
use tokio::sync::{Notify, oneshot, watch};

use crate::sessions::in_flight::InFlight;
use crate::sessions::outbox::{self, Outbox, Outgoing, Pushed};

/// How far this member has applied.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    /// The last applied log index.
    pub index: u64,
    /// The last transaction.
    pub zxid: Zxid,
}

/// A unary call's answer, or a connection's attachment.
pub type CallResult = Result<WriteReply, Error>;

/// What a connection needs to be attached when its Attach or OpenSession applies.
#[derive(Debug)]
pub struct Attaching {
    /// Where replies and events go.
    pub outbox: Outbox,
    /// Proved so far.
    pub identities: Vec<Identity>,
    /// The client holds all replies up to here.
    pub acknowledged: WriteNumber,
    /// Told whenever one of the session's writes has applied, or the session has ended here.
    pub progress: Arc<Notify>,
}

/// A connection that owns a session on this member.
#[derive(Debug)]
struct Attached {
    epoch: AttachEpoch,
    watcher: WatcherId,
    outbox: Outbox,
    in_flight: InFlight,
    progress: Arc<Notify>,
}

/// A connection that may have watches; it need not own a session (unary watches do not).
#[derive(Debug)]
struct Watcher {
    outbox: Outbox,
    identities: Vec<Identity>,
}

#[derive(Debug)]
struct PendingCall {
    answer: oneshot::Sender<CallResult>,
    attaching: Option<Attaching>,
    /// Kept while the call may be proposed again: only calls that carry a request id.
    command: Option<Bytes>,
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

/// Beyond this an answer is refused: the client asks in pages.
const REPLY_BYTES_MAX: usize = 32 << 20;

/// The name of watches left again by [`LocalState::rearm_for_session`]: their doors know no names.
const REARMED: WatchId = WatchId(0);
/// ZooKeeper's −1.
const NO_TRANSACTION: Zxid = Zxid(u64::MAX);

/// So many connections are told of an event at once; the others in turn, so that each one's memory is
/// touched once while it is warm, and the first frames leave while the last are made.
const WOKEN_AT_ONCE: usize = 16;

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

    /// Tells connections of the events that wait for them, some at a time, for as long as the member
    /// lives.
    pub async fn run_wakes(self: Arc<Self>) {
        loop {
            let woken: Vec<Outbox> = {
                let sleepers = &mut self.lock().sleepers;
                let count = sleepers.len().min(WOKEN_AT_ONCE);
                sleepers.drain(..count).collect()
            };
            if woken.is_empty() {
                self.sleepers.notified().await;
                continue;
            }
            woken.iter().for_each(Outbox::wake);
            // What they have to do comes first.
            tokio::task::yield_now().await;
        }
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

    /// Registers a call before it is proposed; its answer arrives when it applies here.
    pub fn expect_call(
        &self,
        ticket: u64,
        attaching: Option<Attaching>,
        resend: Option<Bytes>,
    ) -> oneshot::Receiver<CallResult> {
        let (answer, receiver) = oneshot::channel();
        self.lock().calls.insert(ticket, PendingCall { answer, attaching, command: resend });
        receiver
    }

    /// Forgets a call whose caller has gone or given up.
    pub fn forget_call(&self, ticket: u64) {
        self.lock().calls.remove(&ticket);
    }

    /// Notes a session's next write before it is proposed; false if the connection lost the session.
    pub fn expect_write(
        &self,
        session: SessionId,
        epoch: AttachEpoch,
        number: WriteNumber,
        command: Bytes,
    ) -> bool {
        match self.lock().attached.get_mut(&session) {
            Some(attached) if attached.epoch == epoch => {
                attached.in_flight.push(number, command);
                true
            }
            _ => false,
        }
    }

    /// A session's writes that have not applied here: count and bytes. `None` once it is not attached.
    pub fn in_flight(&self, session: SessionId, epoch: AttachEpoch) -> Option<(usize, usize)> {
        let inner = self.lock();
        let attached = inner.attached.get(&session).filter(|attached| attached.epoch == epoch)?;
        Some((attached.in_flight.len(), attached.in_flight.bytes()))
    }

    /// All that may have been lost on its way to a leader, each session's in order.
    pub fn unapplied(&self) -> Vec<Bytes> {
        let mut inner = self.lock();
        inner.gap_seen = false;
        let mut sessions: Vec<_> =
            inner.attached.iter().filter(|(_, attached)| !attached.in_flight.is_empty()).collect();
        sessions.sort_by_key(|(session, _)| **session);
        let writes = sessions.into_iter().flat_map(|(_, attached)| attached.in_flight.commands());
        let calls = inner.calls.values().filter_map(|call| call.command.clone());
        writes.chain(calls).collect()
    }

    /// Whether an apply refused a gap of a session attached here since [`LocalState::unapplied`] was last asked.
    pub fn gap_seen(&self) -> bool {
        self.lock().gap_seen
    }

    /// Fails the connects that were waiting before this ticket: their clients simply connect again.
    pub fn fail_connects_before(&self, ticket: u64) {
        let error = Error::new(ErrorKind::Unavailable, "the way to the leader broke; connect again");
        self.lock().fail_calls(&error, |number, call| {
            number < ticket && call.attaching.is_some() && call.command.is_none()
        });
    }

    /// Fails the calls (without a request id) that were waiting before this ticket: their outcome is unknown.
    pub fn fail_calls_before(&self, ticket: u64) {
        let error = Error::new(
            ErrorKind::OutcomeUnknown,
            "the way to the leader broke while the write was under way; retry with a request_id to make it safe",
        );
        self.lock().fail_calls(&error, |number, call| number < ticket && call.command.is_none());
    }

    /// Detaches a connection: its watches go, its session stays to be resumed.
    pub fn detach(&self, session: SessionId, epoch: AttachEpoch) {
        let mut inner = self.lock();
        if inner.attached.get(&session).is_some_and(|attached| attached.epoch == epoch) {
            inner.detach(session, None);
        }
    }

    /// The sessions attached here, for touching.
    pub fn attached_sessions(&self) -> Vec<(SessionId, AttachEpoch)> {
        let mut sessions: Vec<_> =
            self.lock().attached.iter().map(|(session, attached)| (*session, attached.epoch)).collect();
        sessions.sort_unstable();
        sessions
    }

    /// Adds an identity to a session's connection, for what its watches may hear.
    pub fn add_identity(&self, session: SessionId, identity: Identity) {
        let mut inner = self.lock();
        if let Some(watcher) = inner.attached.get(&session).map(|attached| attached.watcher)
            && let Some(watcher) = inner.watchers.get_mut(&watcher)
            && !watcher.identities.contains(&identity)
        {
            watcher.identities.push(identity);
        }
    }

    /// Reads for a session's connection, leaving the watch asked for in the same step, and queues the answer.
    pub fn read_for_session(
        &self,
        session: SessionId,
        epoch: AttachEpoch,
        identities: &[Identity],
        xid: u64,
        request: &ReadRequest,
    ) {
        let mut inner = self.lock();
        let Some(attached) = inner.attached.get(&session).filter(|attached| attached.epoch == epoch) else {
            return;
        };
        let (watcher, outbox) = (attached.watcher, attached.outbox.clone());
        let caller = Caller { identities, session: Some(session) };
        let result = inner.read(watcher, &outbox, &caller, request).and_then(check_size);
        let reply = ReadReply { zxid: inner.state.zxid(), result };
        outbox.push(Outgoing::Read { xid, reply });
    }

    /// Leaves a session's watches of an earlier connection again; those that missed something fire
    /// at once, marked by a transaction that never was.
    pub fn rearm_for_session(
        &self,
        session: SessionId,
        epoch: AttachEpoch,
        identities: &[Identity],
        since: Zxid,
        watches: &[(WatchKind, String)],
    ) {
        let mut inner = self.lock();
        let Some(attached) = inner.attached.get(&session).filter(|attached| attached.epoch == epoch) else {
            return;
        };
        let (watcher, outbox) = (attached.watcher, attached.outbox.clone());
        if let Err(error) = inner.watches.check_room(watcher, watches.len()) {
            return outbox.close(error);
        }
        let caller = Caller { identities, session: Some(session) };
        for (kind, path) in watches {
            let exists = ReadRequest::Exists { path: path.clone(), watch: None };
            let stat = match inner.state.read(&exists, &caller) {
                Ok(ReadResult::Exists(stat)) => Ok(Some(stat)),
                // Who may not read hears of nothing, now or later.
                Err(error) if error.kind == ErrorKind::NoAuth => Err(()),
                // A path that cannot be is a node that is not there.
                Ok(_) | Err(_) => Ok(None),
            };
            let missed =
                stat.ok().and_then(|stat| rearm(*kind, stat.as_ref(), since).map(|kind| (kind, stat)));
            match missed {
                None => {
                    inner.watches.add(watcher, REARMED, path, *kind, false);
                }
                Some((event, stat)) => {
                    let position = Position { zxid: NO_TRANSACTION, ordinal: 0 };
                    let stat = stat.unwrap_or_default();
                    let (path, value) = (path.as_str().into(), Value::NotKept);
                    let body = Arc::new(EventBody { position, kind: event, path, stat, value });
                    outbox.push(Outgoing::Event(WatchEvent {
                        body,
                        with_value: false,
                        watches: vec![REARMED],
                    }));
                }
            }
        }
    }

    /// The paths that each session attached here watches.
    pub fn watches_by_session(&self) -> Vec<(SessionId, Vec<Arc<str>>)> {
        let inner = self.lock();
        let sessions: HashMap<WatcherId, SessionId> =
            inner.attached.iter().map(|(session, attached)| (attached.watcher, *session)).collect();
        let by_watcher = inner.watches.by_watcher().into_iter();
        let mut found: Vec<_> =
            by_watcher.filter_map(|(watcher, paths)| Some((*sessions.get(&watcher)?, paths))).collect();
        found.sort_unstable_by_key(|(session, _)| *session);
        found
    }

    /// Reads without a session and without leaving watches.
    pub fn read(&self, identities: &[Identity], request: &ReadRequest) -> ReadReply {
        let inner = self.lock();
        let caller = Caller { identities, session: None };
        let result = inner.state.read(request, &caller).and_then(check_size);
        ReadReply { zxid: inner.state.zxid(), result }
    }

    /// A watcher without a session (a unary watch). End it with [`LocalState::remove_watcher`].
    pub fn add_watcher(&self, outbox: Outbox, identities: Vec<Identity>) -> WatcherId {
        self.lock().add_watcher(outbox, identities)
    }

    /// Leaves a watch for a watcher without a session, replaying from `since` first.
    pub fn watch(&self, watcher: WatcherId, request: &ReadRequest) -> Result<Zxid, Error> {
        let mut inner = self.lock();
        let Some(known) = inner.watchers.get(&watcher) else {
            return Err(Error::new(ErrorKind::Unavailable, "the watch's connection has ended"));
        };
        let (outbox, identities) = (known.outbox.clone(), known.identities.clone());
        inner.read(watcher, &outbox, &Caller { identities: &identities, session: None }, request)?;
        Ok(inner.state.zxid())
    }

    /// Up to where a watcher without a session has been given everything; `None` while events wait.
    pub fn delivered_through(&self, watcher: WatcherId) -> Option<Position> {
        let inner = self.lock();
        let hearer = inner.watchers.get(&watcher)?;
        (hearer.outbox.depth() == 0).then(|| Position::after(inner.state.zxid()))
    }

    /// Ends a watcher and its watches.
    pub fn remove_watcher(&self, watcher: WatcherId) {
        let mut inner = self.lock();
        inner.watches.remove_watcher(watcher);
        inner.watchers.remove(&watcher);
    }

    /// Answers a heartbeat behind every event queued so far.
    pub fn answer_heartbeat(&self, session: SessionId, epoch: AttachEpoch, sequence: u64) {
        let inner = self.lock();
        if let Some(attached) = inner.attached.get(&session).filter(|attached| attached.epoch == epoch) {
            let zxid = inner.state.zxid();
            let delivered_through = Position::after(zxid);
            attached.outbox.push(Outgoing::Heartbeat { sequence, zxid, delivered_through });
        }
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

    fn fire(&mut self, changes: &[Change]) {
        let Inner { watches, watchers, sleepers, .. } = self;
        let mut told = 0;
        for change in changes {
            watches.trigger(change, &mut |watcher, event, list| {
                let Some(Watcher { outbox, identities }) = watchers.get(&watcher) else { return };
                if !acl::permits(list, Permissions::READ, identities) {
                    return;
                }
                told += 1;
                if told <= WOKEN_AT_ONCE {
                    outbox.push(Outgoing::Event(event));
                } else if outbox.push_quietly(Outgoing::Event(event)) == Pushed::First {
                    sleepers.push_back(outbox.clone());
                }
            });
        }
    }

    fn answer(&mut self, member: MemberId, command: &Command, applied: Applied) {
        if let (Operation::DigestMark, Origin::Call { ticket, .. }) = (&command.operation, &command.origin) {
            self.marks.push_back((*ticket, self.state.digest().0));
            if self.marks.len() > MARKS {
                self.marks.pop_front();
            }
        }
        match &command.origin {
            Origin::Session { session, epoch, number, .. } => {
                self.answer_session(*session, *epoch, *number, applied.answer);
            }
            Origin::Call { member: origin, ticket, .. } => {
                self.follow_attachment(&applied.answer);
                if *origin == member {
                    self.answer_call(*ticket, applied.answer);
                }
            }
            Origin::House => {}
        }
        if let Some(session) = applied.ended_session {
            self.detach(session, Some(Error::new(ErrorKind::SessionExpired, "the session has ended")));
        }
    }

    fn answer_session(
        &mut self,
        session: SessionId,
        epoch: AttachEpoch,
        number: WriteNumber,
        answer: Answer,
    ) {
        let Some(attached) = self.attached.get_mut(&session).filter(|attached| attached.epoch == epoch)
        else {
            return;
        };
        match answer {
            Answer::Reply(reply) | Answer::Repeat(reply) => {
                if attached.in_flight.applied(number) {
                    attached.outbox.push(Outgoing::Write { number, reply });
                }
            }
            Answer::Forgotten => {
                attached.in_flight.applied(number);
            }
            Answer::Gap { .. } => self.gap_seen = true,
            Answer::Stale(error) => attached.outbox.close(error),
        }
        attached.progress.notify_one();
    }

    fn answer_call(&mut self, ticket: u64, answer: Answer) {
        let Some(call) = self.calls.remove(&ticket) else { return };
        let result = match answer {
            Answer::Reply(reply) | Answer::Repeat(reply) => Ok(reply),
            Answer::Stale(error) => Err(error),
            Answer::Forgotten | Answer::Gap { .. } => {
                Err(Error::new(ErrorKind::OutcomeUnknown, "the write's first answer is no longer kept"))
            }
        };
        if let (Some(attaching), Ok(WriteReply { result: Ok(done), .. })) = (call.attaching, &result)
            && let WriteResult::SessionOpened(attachment) | WriteResult::Attached(attachment) = done
        {
            let attachment = *attachment;
            self.attach(&attachment, attaching);
            if call.answer.send(result).is_err() {
                // The caller has gone meanwhile: nobody would ever detach it.
                self.detach(attachment.session, None);
            }
            return;
        }
        let _ = call.answer.send(result);
    }

    fn attach(&mut self, attachment: &Attachment, attaching: Attaching) {
        let Attaching { outbox, identities, acknowledged, progress } = attaching;
        self.detach(attachment.session, Some(moved()));
        let watcher = self.add_watcher(outbox.clone(), identities);
        for (number, reply) in self.state.replies_after(attachment.session, acknowledged) {
            outbox.push(Outgoing::Write { number, reply });
        }
        let epoch = attachment.epoch;
        let in_flight = InFlight::default();
        self.attached.insert(attachment.session, Attached { epoch, watcher, outbox, in_flight, progress });
    }

    /// Ends this member's connection of a session that has attached anew: elsewhere, or here for a caller
    /// that may have gone. The leader counts the new attachment alone, so no heartbeat of the old one may
    /// be answered any more.
    fn follow_attachment(&mut self, answer: &Answer) {
        if let Answer::Reply(WriteReply { result: Ok(WriteResult::Attached(attachment)), .. }) = answer
            && self.attached.get(&attachment.session).is_some_and(|here| here.epoch < attachment.epoch)
        {
            self.detach(attachment.session, Some(moved()));
        }
    }

    fn detach(&mut self, session: SessionId, reason: Option<Error>) {
        if let Some(attached) = self.attached.remove(&session) {
            if let Some(reason) = reason {
                attached.outbox.close(reason);
            }
            self.watches.remove_watcher(attached.watcher);
            self.watchers.remove(&attached.watcher);
            attached.progress.notify_one();
        }
    }

    fn end_everything(&mut self, reason: &Error) {
        let sessions: Vec<SessionId> = self.attached.keys().copied().collect();
        for session in sessions {
            self.detach(session, Some(reason.clone()));
        }
        for (watcher, hearer) in self.watchers.drain() {
            hearer.outbox.close(reason.clone());
            self.watches.remove_watcher(watcher);
        }
        for (_, call) in self.calls.drain() {
            let unknown = Error::new(
                ErrorKind::OutcomeUnknown,
                format!("{}; retry with the same request_id", reason.detail),
            );
            let _ = call.answer.send(Err(unknown));
        }
    }

    fn fail_calls(&mut self, error: &Error, is_lost: impl Fn(u64, &PendingCall) -> bool) {
        let lost: Vec<u64> = self
            .calls
            .iter()
            .filter(|(number, call)| is_lost(**number, call))
            .map(|(number, _)| *number)
            .collect();
        for number in lost {
            if let Some(call) = self.calls.remove(&number) {
                let _ = call.answer.send(Err(error.clone()));
            }
        }
    }

    fn add_watcher(&mut self, outbox: Outbox, identities: Vec<Identity>) -> WatcherId {
        self.watcher_last += 1;
        let watcher = WatcherId(self.watcher_last);
        self.watchers.insert(watcher, Watcher { outbox, identities });
        watcher
    }

    /// Reads, and changes this connection's watches where the request says so.
    fn read(
        &mut self,
        watcher: WatcherId,
        outbox: &Outbox,
        caller: &Caller<'_>,
        request: &ReadRequest,
    ) -> Result<ReadResult, Error> {
        match request {
            ReadRequest::AddWatch { id, path, kind, since, with_value } => {
                quorate_core::path::validate(path)?;
                self.watches.check_room(watcher, 1)?;
                if let Some(since) = since
                    && self.replay(outbox, caller, *id, path, *kind, *since, *with_value)?
                {
                    return Ok(ReadResult::Watch);
                }
                self.watches.add(watcher, *id, path, *kind, *with_value);
                Ok(ReadResult::Watch)
            }
            ReadRequest::RemoveWatch { id, path, kind } => {
                self.watches.remove(watcher, *id, path, *kind)?;
                Ok(ReadResult::Watch)
            }
            ReadRequest::CheckWatch { path, kind } => {
                if self.watches.contains(watcher, path, *kind) {
                    Ok(ReadResult::Watch)
                } else {
                    Err(Error::new(ErrorKind::NoWatcher, path.clone()))
                }
            }
            _ => {
                let result = self.state.read(request, caller);
                if let Some((id, path, kind)) = watch_to_leave(request, &result) {
                    self.watches.check_room(watcher, 1)?;
                    self.watches.add(watcher, id, path, kind, false);
                }
                result
            }
        }
    }

    /// Queues what a resumed watch missed; true if it was a one-shot watch and has fired.
    #[allow(clippy::too_many_arguments)] // the fields of one AddWatch, already taken apart
    fn replay(
        &self,
        outbox: &Outbox,
        caller: &Caller<'_>,
        id: WatchId,
        path: &str,
        kind: WatchKind,
        since: Position,
        with_value: bool,
    ) -> Result<bool, Error> {
        let once = !matches!(kind, WatchKind::Persistent | WatchKind::Recursive);
        for change in self.state.changes_since(since)? {
            for (event, list) in Watches::replay(id, path, kind, with_value, &change) {
                if acl::permits(&list, Permissions::READ, caller.identities) {
                    outbox.push(Outgoing::Event(event));
                }
                if once {
                    return Ok(true);
                }
            }
        }
        Ok(false)
    }
}

/// Refuses an answer too large for one message.
fn check_size(result: ReadResult) -> Result<ReadResult, Error> {
    let bytes = outbox::weight_of_read(&result);
    if bytes > REPLY_BYTES_MAX {
        return Err(Error::new(
            ErrorKind::TooLarge,
            format!("answer: {bytes} bytes, at most {REPLY_BYTES_MAX}; ask in pages (limit and after)"),
        ));
    }
    Ok(result)
}

/// Which watch a read leaves: a data or child watch only on success, an exists watch on a missing node too.
fn watch_to_leave<'a>(
    request: &'a ReadRequest,
    result: &Result<ReadResult, Error>,
) -> Option<(WatchId, &'a str, WatchKind)> {
    match (request, result) {
        (ReadRequest::Get { path, watch: Some(id) }, Ok(_)) => Some((*id, path, WatchKind::Data)),
        (ReadRequest::List { path, watch: Some(id), .. }, Ok(_)) => Some((*id, path, WatchKind::Child)),
        (ReadRequest::Exists { path, watch: Some(id) }, Ok(_)) => Some((*id, path, WatchKind::Data)),
        (ReadRequest::Exists { path, watch: Some(id) }, Err(error)) if error.kind == ErrorKind::NoNode => {
            Some((*id, path, WatchKind::Exists))
        }
        _ => None,
    }
}

fn moved() -> Error {
    Error::new(ErrorKind::SessionMoved, "the session was attached to another connection")
}
