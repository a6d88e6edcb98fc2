//! Reading, and hearing of changes: a read and the watch that it leaves are one step.
//!
//! A watch belongs to a watcher, which is a connection: a session's, or one without a session. It
//! hears only of what its identities may read.

use std::collections::HashMap;
use std::sync::Arc;

use quorate_core::acl::{self, Identity, Permissions};
use quorate_core::change::{Change, EventBody, Value, WatchEvent};
use quorate_core::error::{Error, ErrorKind};
use quorate_core::id::{AttachEpoch, Position, SessionId, Zxid};
use quorate_core::reply::{ReadReply, ReadResult};
use quorate_core::request::{ReadRequest, WatchId, WatchKind};
use quorate_core::state::Caller;
use quorate_core::watches::{WatcherId, Watches, rearm};

use super::{Inner, LocalState};
use crate::sessions::outbox::{Outbox, Outgoing, Pushed};

/// The name of watches left again by [`LocalState::rearm_for_session`]: their doors know no names.
const REARMED: WatchId = WatchId(0);
/// ZooKeeper's −1.
const NO_TRANSACTION: Zxid = Zxid(u64::MAX);

/// So many connections are told of an event at once; the others in turn, so that each one's memory is
/// touched once while it is warm, and the first frames leave while the last are made.
const WOKEN_AT_ONCE: usize = 16;

/// A connection that may have watches; it need not own a session (unary watches do not).
#[derive(Debug)]
pub(super) struct Watcher {
    pub(super) outbox: Outbox,
    pub(super) identities: Vec<Identity>,
}

impl LocalState {
    /// Reads without a session and without leaving watches.
    pub fn read(&self, identities: &[Identity], request: &ReadRequest) -> ReadReply {
        let inner = self.lock();
        let caller = Caller { identities, session: None };
        let result = inner.state.read(request, &caller);
        ReadReply { zxid: inner.state.zxid(), result }
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
        let result = inner.read(watcher, &outbox, &caller, request);
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

    /// Notes who a session's connection is now, for what its watches may hear.
    pub fn identify(&self, session: SessionId, epoch: AttachEpoch, identities: &[Identity]) {
        let mut inner = self.lock();
        let attached = inner.attached.get(&session).filter(|attached| attached.epoch == epoch);
        if let Some(watcher) = attached.map(|attached| attached.watcher)
            && let Some(watcher) = inner.watchers.get_mut(&watcher)
        {
            watcher.identities = identities.to_vec();
        }
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
}

impl Inner {
    pub(super) fn fire(&mut self, changes: &[Change]) {
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

    pub(super) fn add_watcher(&mut self, outbox: Outbox, identities: Vec<Identity>) -> WatcherId {
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
                self.check_room(watcher, path, *kind)?;
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
                    self.check_room(watcher, path, kind)?;
                    self.watches.add(watcher, id, path, kind, false);
                }
                result
            }
        }
    }

    /// Refuses a watch too many; one that is there already takes no room.
    fn check_room(&self, watcher: WatcherId, path: &str, kind: WatchKind) -> Result<(), Error> {
        match self.watches.contains(watcher, path, Some(kind)) {
            true => Ok(()),
            false => self.watches.check_room(watcher, 1),
        }
    }

    /// Queues what a resumed watch missed; true if it was a one-shot watch and has fired. One that missed
    /// more than the queue should hold has a gap: its client reads anew, which is less.
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
                    if outbox.is_half_full() {
                        return Err(Error::new(ErrorKind::WatchGap, "too many changes were missed"));
                    }
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
