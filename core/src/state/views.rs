//! What apply and the state's look-ups give back, besides replies.

use crate::acl::Identity;
use crate::change::Change;
use crate::error::Error;
use crate::id::{AttachEpoch, MemberId, SessionId, WriteNumber, Zxid};
use crate::reply::WriteReply;

/// Who reads.
#[derive(Clone, Copy, Debug)]
pub struct Caller<'a> {
    /// All that its connection has proved.
    pub identities: &'a [Identity],
    /// Its session, if it has one.
    pub session: Option<SessionId>,
}

/// What one command did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Applied {
    /// The state's last transaction now.
    pub zxid: Zxid,
    /// For whoever awaits it.
    pub answer: Answer,
    /// In the order in which watches hear of them.
    pub changes: Vec<Change>,
    /// The session that this ended.
    pub ended_session: Option<SessionId>,
}

/// What became of a command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// Applied (or refused by the rules) now.
    Reply(WriteReply),
    /// A write number or request id seen before: the first answer.
    Repeat(WriteReply),
    /// A repeat whose reply the client had acknowledged already.
    Forgotten,
    /// Not applied, nothing consumed: resend from `expected`.
    Gap {
        /// The session's next write number.
        expected: WriteNumber,
    },
    /// Not applied, nothing consumed: [`ErrorKind::SessionMoved`](crate::error::ErrorKind::SessionMoved), `SessionExpired`,
    /// `OutcomeUnknown` or `Overloaded` for a request id, ….
    Stale(Error),
}

/// One session, as the server sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SessionView {
    /// The session.
    pub session: SessionId,
    /// Where it is attached.
    pub member: MemberId,
    /// Its attachments so far.
    pub epoch: AttachEpoch,
    /// Its timeout.
    pub timeout_ms: u32,
    /// Its last applied write.
    pub last_applied: WriteNumber,
    /// How many ephemerals it has.
    pub ephemerals: u32,
}

/// A node that the leader may have to remove some time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExpirableNode {
    /// The node.
    pub path: String,
    /// Its creation.
    pub czxid: Zxid,
    /// Its last data change.
    pub mzxid: Zxid,
    /// Its last child change.
    pub pzxid: Zxid,
    /// Why it may go.
    pub kind: Expirable,
    /// Only a childless node may go.
    pub childless: bool,
}

/// Why a node may go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expirable {
    /// Unchanged for so long.
    Ttl {
        /// In milliseconds.
        ttl_ms: i64,
    },
    /// Without children.
    Container {
        /// Whether it ever had a child.
        ever_used: bool,
    },
}

/// Sizes of the state.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Nodes, the reserved ones included.
    pub znodes: u64,
    /// Bytes of all nodes' data.
    pub data_bytes: u64,
    /// Sessions.
    pub sessions: u64,
    /// Ephemeral nodes.
    pub ephemerals: u64,
    /// Bytes of the change log.
    pub change_log_bytes: u64,
    /// Changes in it.
    pub changes: u64,
    /// Remembered request ids.
    pub request_ids: u64,
    /// Bytes of them with their answers.
    pub request_table_bytes: u64,
}

/// The digest of content: equal states have equal digests.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Digest(pub u128);
