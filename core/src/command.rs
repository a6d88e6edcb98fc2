//! Commands: what a log entry carries, and all that apply may read besides the state.
//!
//! A door's request becomes a [`Command`] in the coordinator. The leader adds a [`Stamp`] when it
//! gathers commands into one entry. Invariants:
//! - apply reads the state, the stamp and the command, nothing else;
//! - the encoding (postcard) is a stored format: enum variants are appended, never reordered
//!   (docs/formats.md).

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::acl::{AclEntry, Identity};
use crate::codec::DecodeError;
use crate::error::Error;
use crate::id::{AttachEpoch, MemberId, SessionId, Timestamp, WriteNumber, Zxid};
use crate::settings::Setting;
use crate::znode::CreateMode;

/// What the leader adds to the commands of one entry.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stamp {
    /// The leader's wall clock. State time = max(state time, this).
    pub time: Timestamp,
    /// Fresh from the leader's CSPRNG; session passwords are derived from it.
    pub entropy: [u8; 16],
}

/// One write, as it stands in the log.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Command {
    /// Whose it is, and who awaits the answer.
    pub origin: Origin,
    /// The caller's identities in the order in which they were gathered.
    pub identities: Vec<Identity>,
    /// What to do.
    pub operation: Operation,
}

/// Whose command it is: this decides how a repeat is recognised and where the answer goes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Origin {
    /// A session's numbered write. The member that the session is attached to answers it.
    Session {
        /// The session.
        session: SessionId,
        /// The attachment that sent it; apply refuses an older one.
        epoch: AttachEpoch,
        /// Dense per session; a gap is refused, a repeat gets the first answer.
        number: WriteNumber,
        /// The client holds all replies up to here; the state may forget them.
        acknowledged: WriteNumber,
    },
    /// A write without a session. The member named answers the ticket.
    Call {
        /// Who awaits the answer.
        member: MemberId,
        /// That member's own number for the call, unique over its restarts.
        ticket: u64,
        /// Makes the write exactly-once within a window of state time.
        request: Option<RequestId>,
    },
    /// The cluster's own housekeeping; carries what it judged, so that a repeat is a no-op.
    House,
}

/// Names a unary write for exactly-once retries.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct RequestId {
    /// When the client first issued it; older than the window is refused "outcome unknown".
    pub issued: Timestamp,
    /// Unique among all requests issued at that time.
    pub nonce: [u8; 16],
}

/// What a write does.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Operation {
    // The order is part of the stored format: append only.
    /// Create a node.
    Create(Create),
    /// Delete a childless node.
    Delete {
        /// The node.
        path: String,
        /// The expected version; −1 is any.
        version: i32,
    },
    /// Delete a node and everything below it, in one transaction.
    DeleteRecursive {
        /// The top of what goes.
        path: String,
        /// The expected version of the top; −1 is any.
        version: i32,
        /// Refused with TooLarge if more nodes than this would go.
        limit: u32,
    },
    /// Set a node's data.
    SetData {
        /// The node.
        path: String,
        /// Null is not empty.
        data: Option<Bytes>,
        /// The expected version; −1 is any.
        version: i32,
    },
    /// Set a node's ACL.
    SetAcl {
        /// The node.
        path: String,
        /// The new list.
        acl: Vec<AclEntry>,
        /// The expected *ACL* version; −1 is any.
        version: i32,
    },
    /// All of these or none, under one zxid.
    Multi(Vec<MultiOperation>),
    /// Fills a write number with a refusal decided at admission.
    Refused(Error),
    /// Open a session. Only with [`Origin::Call`].
    OpenSession {
        /// Negotiated already.
        timeout_ms: u32,
        /// The member that the session is attached to.
        member: MemberId,
    },
    /// Take over a session on a new connection. Only with [`Origin::Call`].
    Attach {
        /// The session.
        session: SessionId,
        /// Must be the session's.
        password: [u8; 16],
        /// The member that the session is attached to from now on.
        member: MemberId,
        /// Negotiated anew.
        timeout_ms: u32,
    },
    /// End a session: all its ephemerals go under one zxid.
    CloseSession {
        /// The session.
        session: SessionId,
        /// Why; an expiry names the epoch it judged and is a no-op if that moved.
        reason: CloseReason,
    },
    /// Remove a TTL or container node if it still is what the house judged.
    ExpireNode {
        /// The node.
        path: String,
        /// Its creation, as judged.
        czxid: Zxid,
        /// Its last data change, as judged.
        mzxid: Zxid,
        /// Its last child change, as judged.
        pzxid: Zxid,
    },
    /// Change a replicated setting.
    Set(Setting),
    /// Publish the membership at /zookeeper/config.
    PublishConfig {
        /// The node's new data.
        text: Bytes,
    },
    /// Nothing but an agreed point in the order (asks every member for its digest).
    DigestMark,
}

impl Operation {
    /// Whether it can make the tree larger: what a full disk refuses first.
    pub fn grows(&self) -> bool {
        match self {
            Operation::Create(_) | Operation::SetData { .. } | Operation::SetAcl { .. } => true,
            Operation::Multi(operations) => operations.iter().any(|operation| {
                matches!(operation, MultiOperation::Create(_) | MultiOperation::SetData { .. })
            }),
            _ => false,
        }
    }
}

/// Why a session ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum CloseReason {
    /// Its owner asked on its connection ([`Origin::Session`]).
    ByOwner,
    /// Whoever holds the password asked ([`Origin::Call`]).
    ByPassword([u8; 16]),
    /// The leader heard nothing for a whole timeout while the session was at this epoch.
    Expired {
        /// The epoch judged; apply ignores the expiry if it moved.
        epoch: AttachEpoch,
    },
    /// An operator ended it.
    ByOperator,
}

/// A node to create.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Create {
    /// Where; for a sequential node the prefix.
    pub path: String,
    /// Null is not empty.
    pub data: Option<Bytes>,
    /// Who may do what.
    pub acl: Vec<AclEntry>,
    /// What kind.
    pub mode: CreateMode,
}

/// One operation of a multi.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum MultiOperation {
    // The order is part of the stored format: append only.
    /// As [`Operation::Create`].
    Create(Create),
    /// As [`Operation::Delete`].
    Delete {
        /// The node.
        path: String,
        /// The expected version; −1 is any.
        version: i32,
    },
    /// As [`Operation::SetData`].
    SetData {
        /// The node.
        path: String,
        /// Null is not empty.
        data: Option<Bytes>,
        /// The expected version; −1 is any.
        version: i32,
    },
    /// The node exists with this version (−1: any).
    Check {
        /// The node.
        path: String,
        /// The expected version; −1 is any.
        version: i32,
    },
    /// A condition beyond ZooKeeper's check.
    Guard(Guard),
}

/// What contenders' names start with, a number behind it, so that name order is queue order: the same for
/// everybody who queues for a lock. Where one is queued, other children of the lock's node are no contenders.
pub const CONTENDER: &str = "lock-";

/// Whether a child of a lock's node, by its name, queues for the lock.
pub fn is_contender(name: &str) -> bool {
    name.strip_prefix(CONTENDER).is_some_and(|number| !number.is_empty())
}

/// A condition on the state that a transaction can be made to depend on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Guard {
    // The order is part of the stored format: append only.
    /// The lock at `path` is held now, and its holder's fencing token is exactly this: the first
    /// [contender](CONTENDER) in name order, or the first child where none is named so, was created by
    /// transaction `token`.
    Lock {
        /// The lock's own node, parent of its contenders.
        path: String,
        /// The fencing token: the zxid that queued the holder.
        token: Zxid,
    },
    /// The node exists and its data was last set by exactly this transaction.
    Modified {
        /// The node.
        path: String,
        /// Its mzxid.
        zxid: Zxid,
    },
    /// The node exists and was created by exactly this transaction.
    Created {
        /// The node.
        path: String,
        /// Its czxid.
        zxid: Zxid,
    },
    /// The node does not exist.
    Absent {
        /// The node.
        path: String,
    },
}

impl Command {
    /// Appends the stored form.
    pub fn encode(&self, out: &mut Vec<u8>) {
        let encoded = postcard::to_extend(self, std::mem::take(out));
        *out = encoded.expect("a command has no unencodable part");
    }

    /// Reads a stored form; bytes behind it are an error.
    ///
    /// # Errors
    /// [`DecodeError`] if the bytes are not one command.
    pub fn decode(bytes: &[u8]) -> Result<Command, DecodeError> {
        match postcard::take_from_bytes(bytes) {
            Ok((command, [])) => Ok(command),
            _ => Err(DecodeError::new("command")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The example of docs/formats.md.
    #[test]
    fn the_documented_bytes_are_the_encoding() {
        let operation = Operation::Delete { path: "/a".into(), version: -1 };
        let command = Command { origin: Origin::House, identities: Vec::new(), operation };
        let mut encoded = Vec::new();
        command.encode(&mut encoded);
        assert_eq!(encoded, [2, 0, 1, 2, b'/', b'a', 1]);
        assert_eq!(Command::decode(&encoded), Ok(command));
        encoded.push(0);
        assert!(Command::decode(&encoded).is_err());
    }

    #[test]
    fn lengths_beyond_the_input_are_refused_before_anything_is_allocated_for_them() {
        // House, no identities, a multi of 2^32 - 1 operations, of which none follows.
        assert!(Command::decode(&[2, 0, 5, 0xff, 0xff, 0xff, 0xff, 0x0f]).is_err());
        // House, no identities, a delete whose path claims 2^32 - 1 bytes.
        assert!(Command::decode(&[2, 0, 1, 0xff, 0xff, 0xff, 0xff, 0x0f, b'/']).is_err());
        // House, 2^60 identities.
        assert!(Command::decode(&[2, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x10]).is_err());
    }
}
