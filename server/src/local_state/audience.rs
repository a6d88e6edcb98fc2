//! Who waits for what: the sessions attached here with their writes under way, and calls.
//!
//! What was registered before it was proposed is answered when it applies, and named again to
//! whoever proposes it a second time after the way to a leader broke.

use std::sync::Arc;

use bytes::Bytes;
use quorate_core::acl::Identity;
use quorate_core::command::{Command, Operation, Origin};
use quorate_core::error::{Error, ErrorKind};
use quorate_core::id::{AttachEpoch, MemberId, Position, SessionId, WriteNumber};
use quorate_core::reply::{Attachment, WriteReply, WriteResult};
use quorate_core::state::{Answer, Applied};
use quorate_core::watches::WatcherId;
use tokio::sync::{Notify, oneshot};

use super::{Inner, LocalState, MARKS};
use crate::sessions::in_flight::InFlight;
use crate::sessions::outbox::{Outbox, Outgoing};

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
pub(super) struct Attached {
    pub(super) epoch: AttachEpoch,
    pub(super) watcher: WatcherId,
    pub(super) outbox: Outbox,
    pub(super) in_flight: InFlight,
    pub(super) progress: Arc<Notify>,
}

/// A call whose answer is still to come.
#[derive(Debug)]
pub(super) struct PendingCall {
    pub(super) answer: oneshot::Sender<CallResult>,
    pub(super) attaching: Option<Attaching>,
    /// Kept while the call may be proposed again: only calls that carry a request id.
    pub(super) command: Option<Bytes>,
}

/// Of so many writes, the newest, a resuming client is told that their answers are no longer kept.
const FORGOTTEN_TOLD: u64 = 64 << 10;

impl LocalState {
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

    /// Answers a heartbeat behind every event queued so far.
    pub fn answer_heartbeat(&self, session: SessionId, epoch: AttachEpoch, sequence: u64) {
        let inner = self.lock();
        if let Some(attached) = inner.attached.get(&session).filter(|attached| attached.epoch == epoch) {
            let zxid = inner.state.zxid();
            let delivered_through = Position::after(zxid);
            attached.outbox.push(Outgoing::Heartbeat { sequence, zxid, delivered_through });
        }
    }

    /// Detaches a connection: its watches go, its session stays to be resumed.
    pub fn detach(&self, session: SessionId, epoch: AttachEpoch) {
        let mut inner = self.lock();
        if inner.attached.get(&session).is_some_and(|attached| attached.epoch == epoch) {
            inner.detach(session, None);
        }
    }
}

impl Inner {
    pub(super) fn answer(&mut self, member: MemberId, command: &Command, applied: Applied) {
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
        let replies = self.state.replies_after(attachment.session, acknowledged);
        // A client that acknowledges late learns which answers are no longer kept.
        let kept_from = replies.first().map_or(attachment.last_applied.0 + 1, |(number, _)| number.0);
        let forgotten_from = acknowledged.0.saturating_add(1).max(kept_from.saturating_sub(FORGOTTEN_TOLD));
        for number in (forgotten_from..kept_from).map(WriteNumber) {
            let detail = "the write has taken effect; its answer is no longer kept";
            let result = Err(Error::new(ErrorKind::OutcomeUnknown, detail));
            outbox.push(Outgoing::Write { number, reply: WriteReply { zxid: self.state.zxid(), result } });
        }
        for (number, reply) in replies {
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

    pub(super) fn detach(&mut self, session: SessionId, reason: Option<Error>) {
        if let Some(attached) = self.attached.remove(&session) {
            if let Some(reason) = reason {
                attached.outbox.close(reason);
            }
            self.watches.remove_watcher(attached.watcher);
            self.watchers.remove(&attached.watcher);
            attached.progress.notify_one();
        }
    }

    pub(super) fn end_everything(&mut self, reason: &Error) {
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
}

fn moved() -> Error {
    Error::new(ErrorKind::SessionMoved, "the session was attached to another connection")
}
