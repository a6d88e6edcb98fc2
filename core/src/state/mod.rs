//! The state and its one way to change: `(State, Stamp, Command) -> (State, Applied)`.
//!
//! Invariants:
//! - [`State::apply`] reads the state, the stamp and the command, nothing else;
//! - every transaction, successful or refused by the rules, takes exactly one zxid; repeats, gaps,
//!   stale commands, attachments and housekeeping that came too late take none;
//! - whatever is in a record passes `journal.rs` before it changes, so that the digest and the
//!   frozen view always hold.
//!
//! The rules by subject: `node_rules`, `multi`, `session_rules`, `house_rules`, `quota`; reads are
//! in `read`. Storage: `journal` (digest, what is dirty), `frozen` (the view that checkpoints
//! read), `records` and `loader`.

mod frozen;
mod house_rules;
mod journal;
mod loader;
mod multi;
mod node_rules;
mod prefetch;
mod quota;
mod read;
mod records;
#[cfg(test)]
mod request_tests;
mod restore;
mod session_rules;
#[cfg(test)]
mod session_tests;
#[cfg(test)]
mod storage_tests;
mod transaction;
mod views;

use crate::acl::{AclEntry, Permissions};
use crate::acl_table::AclTable;
use crate::change::Change;
use crate::change_log::ChangeLog;
use crate::command::{Command, Operation, Origin, RequestId, Stamp};
use crate::error::{Error, ErrorKind};
use crate::id::{Position, SessionId, Timestamp, Zxid};
use crate::reply::{WriteReply, WriteResult};
use crate::request_table::RequestTable;
use crate::sessions::Sessions;
use crate::settings::Settings;
use crate::tree::node::{Kind, Slot};
use crate::tree::{NewNode, ROOT, Tree};
pub use house_rules::published_version;
use journal::Journal;
pub use loader::{LoadError, StateLoader};
pub use node_rules::EPHEMERALS_MAX;
use transaction::Transaction;
pub use views::{Answer, Applied, Caller, Counts, Digest, Expirable, ExpirableNode, SessionView};

/// /zookeeper.
const ZOOKEEPER: Slot = 1;
/// /zookeeper/quota.
const QUOTA: Slot = 2;
/// /zookeeper/config.
const CONFIG: Slot = 3;
/// Remembered request ids forgotten in one apply, so that no apply pays for a whole table.
const FORGOTTEN_AT_ONCE: usize = 64;

/// Everything replicated, in memory.
#[derive(Debug)]
pub struct State {
    zxid: Zxid,
    time: Timestamp,
    /// The last session id given.
    session_last: u64,
    settings: Settings,
    tree: Tree,
    acls: AclTable,
    sessions: Sessions,
    /// Ephemeral nodes of all sessions.
    ephemerals: u64,
    requests: RequestTable,
    changes: ChangeLog,
    journal: Journal,
}

/// What executing an operation gave, before it is filed under a number or a request id.
struct Executed {
    reply: WriteReply,
    changes: Vec<Change>,
    ended_session: Option<SessionId>,
}

impl Default for State {
    fn default() -> State {
        State::new()
    }
}

impl State {
    /// A new cluster's state: `/`, `/zookeeper`, `/zookeeper/quota`, `/zookeeper/config`.
    pub fn new() -> State {
        State::with_index_seed(0)
    }

    /// The same; the seed scatters names in the memory index and changes nothing that anyone can
    /// see. A random one makes colliding names impossible to choose.
    pub fn with_index_seed(seed: u64) -> State {
        let mut state = State::empty(seed);
        state.journal.start();
        let read_only =
            [AclEntry { permissions: Permissions::READ, scheme: "world".into(), id: "anyone".into() }];
        for (slot, parent, name) in [
            (ROOT, crate::tree::node::NO_SLOT, ""),
            (ZOOKEEPER, ROOT, "zookeeper"),
            (QUOTA, ZOOKEEPER, "quota"),
            (CONFIG, ZOOKEEPER, "config"),
        ] {
            let acl = match slot {
                CONFIG => state.acquire_acl(&read_only),
                _ => state.acquire_acl(&AclEntry::open()),
            };
            let taken = state.tree.take_slot();
            debug_assert_eq!(taken, slot);
            state.touch_node(slot);
            let new = NewNode {
                parent,
                name,
                kind: Kind::Persistent,
                acl,
                data: Some(b""),
                zxid: Zxid(0),
                time: Timestamp(0),
            };
            state.tree.insert(slot, &new);
        }
        state.settle();
        state
    }

    /// Nothing at all, not even a root.
    /// What was given to [`State::with_index_seed`].
    pub fn index_seed(&self) -> u64 {
        self.tree.index_seed()
    }

    fn empty(index_seed: u64) -> State {
        State {
            zxid: Zxid(0),
            time: Timestamp(0),
            session_last: 0,
            settings: Settings::default(),
            tree: Tree::new(index_seed),
            acls: AclTable::default(),
            sessions: Sessions::new(),
            ephemerals: 0,
            requests: RequestTable::default(),
            changes: ChangeLog::default(),
            journal: Journal::default(),
        }
    }

    /// Applies one committed command.
    pub fn apply(&mut self, stamp: &Stamp, command: &Command) -> Applied {
        self.advance_time(stamp.time);
        let outcome = match &command.origin {
            Origin::Session { session, epoch, number, acknowledged } => {
                self.apply_numbered(stamp, command, *session, *epoch, *number, *acknowledged)
            }
            Origin::Call { request: Some(request), .. } => self.apply_request(stamp, command, request),
            Origin::Call { request: None, .. } | Origin::House => Ok(self.execute(stamp, command)),
        };
        self.settle();
        let zxid = self.zxid;
        match outcome {
            Ok(Executed { reply, changes, ended_session }) => {
                Applied { zxid, answer: Answer::Reply(reply), changes, ended_session }
            }
            Err(answer) => Applied { zxid, answer, changes: Vec::new(), ended_session: None },
        }
    }

    /// The last transaction.
    pub fn zxid(&self) -> Zxid {
        self.zxid
    }

    /// State time: never decreases.
    pub fn time(&self) -> Timestamp {
        self.time
    }

    /// The replicated settings.
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// Changes strictly after `position`, oldest first.
    ///
    /// # Errors
    /// [`ErrorKind::WatchGap`] if the log no longer reaches back that far.
    pub fn changes_since(&self, position: Position) -> Result<impl Iterator<Item = Change> + '_, Error> {
        if position < self.changes.floor {
            let floor = self.changes.floor;
            let detail = format!("changes are kept from {}.{} on", floor.zxid, floor.ordinal);
            return Err(Error::new(ErrorKind::WatchGap, detail));
        }
        Ok(self.changes.since(position, &self.acls))
    }

    /// TTL and container nodes.
    pub fn expirable_nodes(&self) -> impl Iterator<Item = ExpirableNode> {
        self.tree.expirable().map(|slot| {
            let node = self.tree.node(slot);
            let kind = match node.kind() {
                Kind::Ttl(ttl_ms) => Expirable::Ttl { ttl_ms },
                _ => Expirable::Container { ever_used: node.creates != 0 },
            };
            ExpirableNode {
                path: self.tree.path(slot),
                czxid: node.czxid,
                mzxid: node.mzxid,
                pzxid: node.pzxid,
                kind,
                childless: self.tree.children_count(slot) == 0,
            }
        })
    }

    /// Sizes, for gauges and limits.
    pub fn counts(&self) -> Counts {
        Counts {
            znodes: self.tree.count(),
            data_bytes: self.tree.data_bytes(),
            sessions: self.sessions.len() as u64,
            ephemerals: self.ephemerals,
            change_log_bytes: self.changes.bytes(),
            changes: self.changes.count(),
            request_ids: self.requests.count(),
            request_table_bytes: self.requests.bytes(),
        }
    }

    fn advance_time(&mut self, time: Timestamp) {
        self.time = self.time.max(time);
        let window = self.settings.request_window_ms.max(0);
        let floor = Timestamp(self.time.0.saturating_sub(window));
        self.requests.floor = self.requests.floor.max(floor);
        for _ in 0..FORGOTTEN_AT_ONCE {
            if !self.forget_oldest_request() {
                break;
            }
        }
    }

    /// A unary write that names itself: once within the window. `Err`: the answer to what was not executed.
    fn apply_request(
        &mut self,
        stamp: &Stamp,
        command: &Command,
        request: &RequestId,
    ) -> Result<Executed, Answer> {
        if let Some(known) = self.requests.get(request) {
            return Err(Answer::Repeat(decode_reply(&known.reply)));
        }
        let refused = if request.issued < self.requests.floor {
            Some(Error::new(ErrorKind::OutcomeUnknown, "the request id is older than the window"))
        } else if request.issued.0 > self.time.0.saturating_add(self.settings.request_window_ms.max(0)) {
            Some(Error::new(ErrorKind::BadArguments, "the request id was issued in the future"))
        } else if self.requests.bytes() >= self.settings.request_table_bytes {
            Some(Error::new(ErrorKind::Overloaded, "the table of request ids is full"))
        } else {
            // Remembered, it would answer the very retry that it asks for.
            match &command.operation {
                Operation::Refused(error) if error.kind.is_retryable() => Some(error.clone()),
                _ => None,
            }
        };
        if let Some(error) = refused {
            return Err(Answer::Stale(error));
        }
        let executed = self.execute(stamp, command);
        self.remember_request(request, &executed.reply);
        Ok(executed)
    }

    /// Does what the command says; who sent it under which number has been dealt with.
    fn execute(&mut self, stamp: &Stamp, command: &Command) -> Executed {
        let session = match command.origin {
            Origin::Session { session, .. } => Some(session),
            Origin::Call { .. } | Origin::House => None,
        };
        let operation = &command.operation;
        let is_for_sessions = !matches!(
            operation,
            Operation::OpenSession { .. }
                | Operation::Attach { .. }
                | Operation::ExpireNode { .. }
                | Operation::Set(_)
                | Operation::PublishConfig { .. }
                | Operation::DigestMark
        );
        if session.is_none() {
            if let Operation::Attach { session, password, member, timeout_ms } = operation {
                let result = self.attach(*session, password, *member, *timeout_ms);
                return self.without_transaction(result);
            }
            if self.is_idle(operation) {
                return self.without_transaction(Ok(WriteResult::Done));
            }
        }
        let mut transaction = Transaction {
            zxid: Zxid(self.zxid.0 + 1),
            time: self.time,
            identities: &command.identities,
            session,
            changes: Vec::new(),
            change_acls: std::mem::take(&mut self.journal.change_acls),
            released_acls: Vec::new(),
            undo: None,
            ended_session: None,
            counted: 0,
        };
        let result = if session.is_some() && !is_for_sessions {
            Err(Error::new(ErrorKind::BadArguments, "not an operation of a session"))
        } else {
            self.transact(&mut transaction, stamp, command)
        };
        let reply = WriteReply { zxid: transaction.zxid, result };
        let ended_session = transaction.ended_session;
        let changes = self.commit(transaction);
        Executed { reply, changes, ended_session }
    }

    fn without_transaction(&self, result: Result<WriteResult, Error>) -> Executed {
        let reply = WriteReply { zxid: self.zxid, result };
        Executed { reply, changes: Vec::new(), ended_session: None }
    }

    fn transact(
        &mut self,
        transaction: &mut Transaction<'_>,
        stamp: &Stamp,
        command: &Command,
    ) -> Result<WriteResult, Error> {
        match &command.operation {
            Operation::Create(create) => self.create(transaction, create),
            Operation::Delete { path, version } => self.delete(transaction, path, *version),
            Operation::DeleteRecursive { path, version, limit } => {
                self.delete_recursive(transaction, path, *version, *limit)
            }
            Operation::SetData { path, data, version } => {
                self.set_data(transaction, path, data.as_ref(), *version)
            }
            Operation::SetAcl { path, acl, version } => self.set_acl(transaction, path, acl, *version),
            Operation::Multi(operations) => self.multi(transaction, operations),
            Operation::Refused(error) => Err(error.clone()),
            Operation::OpenSession { timeout_ms, member } => {
                Ok(self.open_session(&stamp.entropy, *timeout_ms, *member))
            }
            Operation::CloseSession { session, reason } => {
                self.close_session(transaction, &command.origin, *session, *reason)
            }
            Operation::ExpireNode { path, .. } => Ok(self.expire_node(transaction, path)),
            Operation::Set(setting) => Ok(self.set(setting)),
            Operation::PublishConfig { text } => Ok(self.publish_config(transaction, text)),
            Operation::Attach { .. } | Operation::DigestMark => {
                Err(Error::new(ErrorKind::Internal, "not a transaction"))
            }
        }
    }
}

/// Replies are stored as the state itself encoded them.
fn decode_reply(bytes: &[u8]) -> WriteReply {
    postcard::from_bytes(bytes).expect("the state holds replies that it encoded or checked at load")
}
