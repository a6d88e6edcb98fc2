//! Rules of sessions: opening, attaching, ending, and write numbers.

use sha2::{Digest as _, Sha256};

use super::transaction::Transaction;
use super::{Answer, Executed, SessionView, State, decode_reply};
use crate::breaks::{Break, is_broken};
use crate::command::{CloseReason, Command, Operation, Origin, Stamp};
use crate::error::{Error, ErrorKind};
use crate::id::{AttachEpoch, MemberId, SessionId, WriteNumber};
use crate::reply::{Attachment, WriteReply, WriteResult};
use crate::sessions::Session;

impl State {
    /// One session.
    pub fn session(&self, id: SessionId) -> Option<SessionView> {
        self.sessions.get(&id).map(|session| view(id, session))
    }

    /// All sessions in id order.
    pub fn sessions(&self) -> impl Iterator<Item = SessionView> {
        self.sessions.iter().map(|(id, session)| view(*id, session))
    }

    /// Whether this is the session's password. Takes the same time whichever byte differs.
    pub fn check_password(&self, id: SessionId, password: &[u8; 16]) -> bool {
        match self.sessions.get(&id) {
            Some(session) => {
                let pairs = session.password.iter().zip(password);
                pairs.fold(0, |differing, (own, given)| differing | (own ^ given)) == 0
            }
            None => false,
        }
    }

    /// The session's kept replies behind `after`, for a connection that has just attached.
    pub fn replies_after(&self, id: SessionId, after: WriteNumber) -> Vec<(WriteNumber, WriteReply)> {
        let session = self.sessions.get(&id);
        let replies = session.into_iter().flat_map(|session| session.replies_after(after));
        replies.map(|(number, reply)| (number, decode_reply(reply))).collect()
    }

    /// A session's numbered write: in order, once, and only from the session's latest connection.
    /// `Err`: the answer to what was not executed.
    pub(super) fn apply_numbered(
        &mut self,
        stamp: &Stamp,
        command: &Command,
        id: SessionId,
        epoch: AttachEpoch,
        number: WriteNumber,
        acknowledged: WriteNumber,
    ) -> Result<Executed, Answer> {
        let Some(session) = self.sessions.get(&id) else {
            return Err(Answer::Stale(expired()));
        };
        if session.epoch != epoch && !is_broken(Break::OldEpochWrites) {
            let detail = "the session was attached to another connection";
            return Err(Answer::Stale(Error::new(ErrorKind::SessionMoved, detail)));
        }
        let expected = session.last_applied.next();
        if number < expected && is_broken(Break::DropReplyTable) {
            return Ok(self.execute(stamp, command));
        }
        if number < expected {
            return Err(match session.reply(number) {
                Some(reply) => Answer::Repeat(decode_reply(reply)),
                None => Answer::Forgotten,
            });
        }
        if number > expected {
            return Err(Answer::Gap { expected });
        }
        let executed = self.execute(stamp, command);
        let reply = &executed.reply;
        self.edit_session(id, |session, scratch| {
            session.acknowledge(id, acknowledged, scratch);
            session.applied(id, reply.results(), |out| reply.encode(out), scratch);
        });
        Ok(executed)
    }

    pub(super) fn open_session(
        &mut self,
        entropy: &[u8; 16],
        timeout_ms: u32,
        member: MemberId,
    ) -> WriteResult {
        self.session_last += 1;
        let id = SessionId(self.session_last);
        let session = Session::new(password(entropy, id), member, timeout_ms);
        let attachment = attachment(id, &session);
        self.add_session(id, session);
        WriteResult::SessionOpened(attachment)
    }

    pub(super) fn attach(
        &mut self,
        id: SessionId,
        password: &[u8; 16],
        member: MemberId,
        timeout_ms: u32,
    ) -> Result<WriteResult, Error> {
        if !self.check_password(id, password) {
            return Err(expired());
        }
        self.edit_session(id, |session, _| {
            session.epoch = AttachEpoch(session.epoch.0 + 1);
            session.member = member;
            session.timeout_ms = timeout_ms;
        });
        let session = self.sessions.get(&id).ok_or_else(expired)?;
        Ok(WriteResult::Attached(attachment(id, session)))
    }

    /// Whether this ends nothing because what it judged has changed.
    pub(super) fn is_idle_close(&self, id: SessionId, reason: CloseReason) -> bool {
        match reason {
            CloseReason::Expired { epoch } => {
                self.sessions.get(&id).is_none_or(|session| session.epoch != epoch)
            }
            CloseReason::ByOwner | CloseReason::ByPassword(_) | CloseReason::ByOperator => false,
        }
    }

    pub(super) fn close_session(
        &mut self,
        transaction: &mut Transaction<'_>,
        origin: &Origin,
        id: SessionId,
        reason: CloseReason,
    ) -> Result<WriteResult, Error> {
        let is_allowed = match (reason, origin) {
            (CloseReason::ByOwner, Origin::Session { session, .. }) => *session == id,
            (CloseReason::ByOwner, _) | (_, Origin::Session { .. }) => false,
            (CloseReason::Expired { .. }, origin) => *origin == Origin::House,
            (CloseReason::ByPassword(password), _) => {
                if !self.check_password(id, &password) {
                    return Err(expired());
                }
                true
            }
            (CloseReason::ByOperator, _) => true,
        };
        if !is_allowed {
            return Err(Error::new(ErrorKind::BadArguments, "reason does not fit who asks"));
        }
        let Some(session) = self.sessions.get(&id) else {
            return Err(expired());
        };
        // By path, so that the order of events means something to those who watch.
        let slots = session.ephemerals.iter().copied();
        let mut doomed: Vec<_> = slots.map(|slot| (self.tree.path(slot), slot)).collect();
        doomed.sort_unstable();
        for (path, slot) in doomed {
            self.remove_node(transaction, slot, &path);
        }
        self.remove_session(id);
        transaction.ended_session = Some(id);
        Ok(WriteResult::SessionClosed)
    }

    /// Whether the operation would change nothing, so that it takes no zxid.
    pub(super) fn is_idle(&self, operation: &Operation) -> bool {
        match operation {
            Operation::CloseSession { session, reason } => self.is_idle_close(*session, *reason),
            Operation::ExpireNode { path, czxid, mzxid, pzxid } => {
                !self.is_expired(path, *czxid, *mzxid, *pzxid)
            }
            Operation::PublishConfig { text } => self.is_published(text),
            Operation::DigestMark => true,
            _ => false,
        }
    }
}

fn view(id: SessionId, session: &Session) -> SessionView {
    SessionView {
        session: id,
        member: session.member,
        epoch: session.epoch,
        timeout_ms: session.timeout_ms,
        last_applied: session.last_applied,
        ephemerals: session.ephemerals.len() as u32,
    }
}

fn attachment(id: SessionId, session: &Session) -> Attachment {
    Attachment {
        session: id,
        password: session.password,
        timeout_ms: session.timeout_ms,
        epoch: session.epoch,
        last_applied: session.last_applied,
    }
}

/// The same for a wrong password and an unknown id, so that neither tells which it was.
fn expired() -> Error {
    Error::new(ErrorKind::SessionExpired, "the session does not exist or its password is another")
}

/// Unpredictable, as the entropy is, and different for each session of one stamp.
fn password(entropy: &[u8; 16], id: SessionId) -> [u8; 16] {
    let hash = Sha256::new().chain_update(entropy).chain_update(id.0.to_be_bytes()).finalize();
    let mut password = [0; 16];
    password.copy_from_slice(&hash[..16]);
    password
}
