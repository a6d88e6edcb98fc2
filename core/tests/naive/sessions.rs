//! What becomes of a command: whose it is, whether it is a repeat, what it takes.

use quorate_core::command::{CloseReason, Command, Operation, Origin, Stamp};
use quorate_core::error::Error;
use quorate_core::id::{AttachEpoch, MemberId, SessionId, WriteNumber, Zxid};
use quorate_core::reply::{Attachment, WriteReply, WriteResult};
use quorate_core::settings::Setting;
use quorate_core::state::{Answer, Applied};

use super::{Kind, Model, Refusal, Session, Transaction};

/// What executing an operation gave.
struct Executed {
    reply: WriteReply,
    changes: Vec<quorate_core::change::Change>,
    ended: Option<u64>,
}

impl Model {
    /// What the core must answer to this command, details and passwords apart.
    pub fn apply(&mut self, stamp: &Stamp, command: &Command) -> Applied {
        self.time = self.time.max(stamp.time.0);
        self.forgotten_before = self.forgotten_before.max(self.time - self.settings.request_window_ms);
        let floor = self.forgotten_before;
        self.requests.retain(|id, _| id.issued.0 >= floor);
        let (answer, executed) = match &command.origin {
            Origin::Session { session, epoch, number, acknowledged } => {
                self.numbered(command, session.0, epoch.0, number.0, acknowledged.0)
            }
            Origin::Call { request: Some(id), .. } => {
                if let Some(reply) = self.requests.get(id) {
                    (Answer::Repeat(reply.clone()), None)
                } else if id.issued.0 < floor {
                    (Answer::Stale(Refusal::OutcomeUnknown.into()), None)
                } else if id.issued.0 > self.time + self.settings.request_window_ms {
                    (Answer::Stale(Refusal::BadArguments.into()), None)
                } else if matches!(&command.operation, Operation::Refused(error) if error.kind == Refusal::Overloaded)
                {
                    (Answer::Stale(Refusal::Overloaded.into()), None)
                } else {
                    let executed = self.execute(command);
                    self.requests.insert(id.clone(), executed.reply.clone());
                    (Answer::Reply(executed.reply.clone()), Some(executed))
                }
            }
            Origin::Call { request: None, .. } | Origin::House => {
                let executed = self.execute(command);
                (Answer::Reply(executed.reply.clone()), Some(executed))
            }
        };
        let (changes, ended) =
            executed.map_or((Vec::new(), None), |executed| (executed.changes, executed.ended));
        self.changes += changes.len() as u64;
        Applied { zxid: Zxid(self.zxid), answer, changes, ended_session: ended.map(SessionId) }
    }

    fn numbered(
        &mut self,
        command: &Command,
        id: u64,
        epoch: u64,
        number: u64,
        acknowledged: u64,
    ) -> (Answer, Option<Executed>) {
        let Some(session) = self.sessions.get(&id) else {
            return (Answer::Stale(Refusal::SessionExpired.into()), None);
        };
        if session.epoch != epoch {
            return (Answer::Stale(Refusal::SessionMoved.into()), None);
        }
        if number <= session.last_applied {
            let first = session.replies.get(&number).cloned();
            return (first.map_or(Answer::Forgotten, Answer::Repeat), None);
        }
        if number > session.last_applied + 1 {
            return (Answer::Gap { expected: WriteNumber(session.last_applied + 1) }, None);
        }
        let executed = self.execute(command);
        if let Some(session) = self.sessions.get_mut(&id) {
            session.last_applied = number;
            session.replies.retain(|number, _| *number > acknowledged);
            session.replies.insert(number, executed.reply.clone());
        }
        (Answer::Reply(executed.reply.clone()), Some(executed))
    }

    fn execute(&mut self, command: &Command) -> Executed {
        let session = match command.origin {
            Origin::Session { session, .. } => Some(session.0),
            _ => None,
        };
        if let Some(result) = self.without_transaction(&command.operation) {
            let result = result.map_err(Error::from);
            let reply = WriteReply { zxid: Zxid(self.zxid), result };
            return Executed { reply, changes: Vec::new(), ended: None };
        }
        self.zxid += 1;
        let (zxid, identities) = (self.zxid, &command.identities[..]);
        let mut transaction = Transaction { zxid, session, identities, changes: Vec::new() };
        let mut ended = None;
        let result = self.transact(&mut transaction, &command.operation, &mut ended);
        let result = result.map_err(|(kind, index)| Error { kind, detail: String::new(), operation: index });
        let reply = WriteReply { zxid: Zxid(zxid), result };
        Executed { reply, changes: transaction.changes, ended }
    }

    /// What takes no zxid: attachments, and housekeeping that comes too late.
    fn without_transaction(&mut self, operation: &Operation) -> Option<Result<WriteResult, Refusal>> {
        let is_idle = match operation {
            Operation::Attach { session, password, member, timeout_ms } => {
                let known = self.sessions.get_mut(&session.0);
                let Some(known) = known.filter(|session| session.password == *password) else {
                    return Some(Err(Refusal::SessionExpired));
                };
                known.epoch += 1;
                (known.member, known.timeout_ms) = (member.0, *timeout_ms);
                let attachment = attachment(session.0, known);
                return Some(Ok(WriteResult::Attached(attachment)));
            }
            Operation::CloseSession { session, reason: CloseReason::Expired { epoch } } => {
                self.sessions.get(&session.0).is_none_or(|session| session.epoch != epoch.0)
            }
            Operation::ExpireNode { path, czxid, mzxid, pzxid } => {
                !self.nodes.get(path).is_some_and(|node| {
                    matches!(node.kind, Kind::Ttl | Kind::Container)
                        && [node.czxid, node.mzxid, node.pzxid] == [czxid.0, mzxid.0, pzxid.0]
                        && self.children(path).is_empty()
                })
            }
            Operation::PublishConfig { text } => self.nodes["/zookeeper/config"].data.as_ref() == Some(text),
            Operation::DigestMark => true,
            _ => false,
        };
        is_idle.then_some(Ok(WriteResult::Done))
    }

    fn transact(
        &mut self,
        transaction: &mut Transaction<'_>,
        operation: &Operation,
        ended: &mut Option<u64>,
    ) -> Result<WriteResult, (Refusal, Option<u32>)> {
        let result = match operation {
            Operation::Create(create) => self.create(transaction, create),
            Operation::Delete { path, version } => self.delete(transaction, path, *version),
            Operation::DeleteRecursive { path, version, limit } => {
                self.delete_recursive(transaction, path, *version, *limit)
            }
            Operation::SetData { path, data, version } => {
                self.set_data(transaction, path, data.clone(), *version)
            }
            Operation::SetAcl { path, acl, version } => self.set_acl(transaction, path, acl, *version),
            Operation::Multi(operations) => return self.multi(transaction, operations),
            Operation::Refused(error) => Err(error.kind),
            Operation::OpenSession { timeout_ms, member } => Ok(self.open(*timeout_ms, *member)),
            Operation::CloseSession { session, reason } => self.close(transaction, session.0, reason, ended),
            Operation::ExpireNode { path, .. } => {
                self.remove(transaction, path);
                Ok(WriteResult::Deleted)
            }
            Operation::Set(setting) => Ok(self.set(setting)),
            Operation::PublishConfig { text } => {
                self.put_data(transaction, "/zookeeper/config", Some(text.clone()));
                Ok(WriteResult::DataSet(self.stat("/zookeeper/config")))
            }
            Operation::Attach { .. } | Operation::DigestMark => unreachable!("they take no transaction"),
        };
        result.map_err(|kind| (kind, None))
    }

    fn open(&mut self, timeout_ms: u32, member: MemberId) -> WriteResult {
        self.last_session += 1;
        let session = Session {
            password: [0; 16],
            member: member.0,
            epoch: 1,
            timeout_ms,
            last_applied: 0,
            replies: Default::default(),
        };
        let attachment = attachment(self.last_session, &session);
        self.sessions.insert(self.last_session, session);
        WriteResult::SessionOpened(attachment)
    }

    /// Item 16: all ephemerals, one zxid, by path.
    fn close(
        &mut self,
        transaction: &mut Transaction<'_>,
        id: u64,
        reason: &CloseReason,
        ended: &mut Option<u64>,
    ) -> Result<WriteResult, Refusal> {
        let session = self.sessions.get(&id).ok_or(Refusal::SessionExpired)?;
        if matches!(reason, CloseReason::ByPassword(password) if *password != session.password) {
            return Err(Refusal::SessionExpired);
        }
        let owned = self.nodes.iter().filter(|(_, node)| node.kind == Kind::Ephemeral(id));
        let owned: Vec<String> = owned.map(|(path, _)| path.clone()).collect();
        for path in owned {
            self.remove(transaction, &path);
        }
        self.sessions.remove(&id);
        *ended = Some(id);
        Ok(WriteResult::SessionClosed)
    }

    fn set(&mut self, setting: &Setting) -> WriteResult {
        match *setting {
            Setting::ChangeValueBytes(bytes) => self.settings.change_value_bytes = bytes,
            Setting::RequestWindowMs(window) => self.settings.request_window_ms = window,
            Setting::RulesVersion(version) => {
                self.settings.rules_version = version.max(self.settings.rules_version);
            }
            ref other => panic!("the model has no {other:?}"),
        }
        WriteResult::Done
    }
}

fn attachment(id: u64, session: &Session) -> Attachment {
    Attachment {
        session: SessionId(id),
        password: session.password,
        timeout_ms: session.timeout_ms,
        epoch: AttachEpoch(session.epoch),
        last_applied: WriteNumber(session.last_applied),
    }
}
