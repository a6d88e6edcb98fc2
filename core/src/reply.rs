//! Answers: what apply and reads give back. Doors translate them; nothing here knows a wire.

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::acl::{AclEntry, Identity};
use crate::codec::{put_bytes, put_u64};
use crate::error::Error;
use crate::id::{AttachEpoch, SessionId, WriteNumber, Zxid};
use crate::znode::Stat;

/// The answer to a write: kept in the state until the client has acknowledged it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WriteReply {
    /// The transaction; a retry gets the first one's.
    pub zxid: Zxid,
    /// What it did, or why it did nothing.
    pub result: Result<WriteResult, Error>,
}

impl WriteReply {
    /// How many results there are: a transaction has many.
    pub(crate) fn results(&self) -> u32 {
        match &self.result {
            Ok(WriteResult::Multi(results)) => u32::try_from(results.len()).unwrap_or(u32::MAX),
            _ => 1,
        }
    }

    /// The same, of a stored form; one if it is none, which is found elsewhere.
    pub(crate) fn results_in(bytes: &[u8]) -> u32 {
        postcard::from_bytes(bytes).map_or(1, |reply: WriteReply| reply.results())
    }

    /// Appends the stored form: postcard's, with the frequent kinds written by hand.
    pub(crate) fn encode(&self, out: &mut Vec<u8>) {
        put_u64(out, self.zxid.0);
        match &self.result {
            Ok(WriteResult::Created { path, stat }) => {
                out.extend_from_slice(&[0, 0]);
                put_bytes(out, path.as_bytes());
                stat.encode(out);
            }
            Ok(WriteResult::DataSet(stat)) => {
                out.extend_from_slice(&[0, 3]);
                stat.encode(out);
            }
            result => {
                let encoded = postcard::to_extend(result, std::mem::take(out));
                *out = encoded.expect("a reply has no unencodable part");
            }
        }
    }
}

/// What a write did.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum WriteResult {
    // The order is part of the stored format: append only.
    /// A node was created; a sequential one's path carries its number.
    Created {
        /// The whole path.
        path: String,
        /// The new node's.
        stat: Stat,
    },
    /// A node was deleted.
    Deleted,
    /// Nodes were deleted, so many.
    DeletedRecursive {
        /// How many, the top included.
        count: u32,
    },
    /// Data was set.
    DataSet(Stat),
    /// The ACL was set.
    AclSet(Stat),
    /// A check or guard held.
    Checked,
    /// One result an operation.
    Multi(Vec<WriteResult>),
    /// A session was opened.
    SessionOpened(Attachment),
    /// A session was attached to a new connection.
    Attached(Attachment),
    /// A session ended.
    SessionClosed,
    /// Done, nothing to tell.
    Done,
}

/// What a connection learns when its session is opened or resumed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attachment {
    /// The session.
    pub session: SessionId,
    /// Its password; whoever has it owns the session.
    pub password: [u8; 16],
    /// The negotiated timeout.
    pub timeout_ms: u32,
    /// This attachment.
    pub epoch: AttachEpoch,
    /// The session's last applied write; its unanswered replies up to here follow.
    pub last_applied: WriteNumber,
}

/// The answer to a read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReadReply {
    /// The last transaction this member had applied when it read.
    pub zxid: Zxid,
    /// What was read, or why nothing was.
    pub result: Result<ReadResult, Error>,
}

/// What was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ReadResult {
    /// Data and Stat.
    Data {
        /// Null is not empty.
        data: Option<Bytes>,
        /// The node's.
        stat: Stat,
    },
    /// The node exists.
    Exists(Stat),
    /// The node's ACL; digests masked for those without ADMIN.
    Acl {
        /// The list.
        acl: Vec<AclEntry>,
        /// The node's.
        stat: Stat,
    },
    /// Children in name order, one page.
    Children {
        /// Of this page.
        children: Vec<Child>,
        /// The parent's.
        stat: Stat,
        /// Whether more follow; ask again after the last name.
        more: bool,
    },
    /// Paths of ephemeral nodes.
    Ephemerals(Vec<String>),
    /// A count.
    Count(u64),
    /// One result a read.
    Multi(Vec<Result<ReadResult, Error>>),
    /// The caller's identities.
    Identities(Vec<Identity>),
    /// A sync's path.
    Synced(String),
    /// A watch was added, removed or checked.
    Watch,
    /// The sessions of the cluster.
    Sessions(Vec<SessionInfo>),
}

/// One child of a list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Child {
    /// Its name, not its path.
    pub name: String,
    /// If asked for.
    pub stat: Option<Stat>,
    /// If asked for; null otherwise or if the data is null.
    pub data: Option<Bytes>,
}

/// One session, for operators: no password.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SessionInfo {
    /// The session.
    pub session: SessionId,
    /// Where it is attached.
    pub member: crate::id::MemberId,
    /// Its attachments so far.
    pub epoch: AttachEpoch,
    /// Its timeout.
    pub timeout_ms: u32,
    /// How many ephemerals it has.
    pub ephemerals: u32,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::ErrorKind;
    use crate::id::Timestamp;

    #[test]
    fn the_stored_form_is_postcards() {
        let stat = Stat {
            czxid: Zxid(300),
            mzxid: Zxid(u64::MAX),
            pzxid: Zxid(0),
            ctime: Timestamp(-1),
            mtime: Timestamp(1 << 40),
            version: -7,
            cversion: i32::MIN,
            aversion: 130,
            ephemeral_owner: SessionId(1 << 60),
            data_length: 5,
            num_children: i32::MAX,
        };
        for result in [
            Ok(WriteResult::Created { path: "/a".into(), stat }),
            Ok(WriteResult::Deleted),
            Ok(WriteResult::DataSet(stat)),
            Ok(WriteResult::Multi(vec![WriteResult::AclSet(stat), WriteResult::Checked])),
            Err(Error::new(ErrorKind::BadVersion, "/a").at_operation(3)),
        ] {
            let reply = WriteReply { zxid: Zxid(12345), result };
            let mut encoded = Vec::new();
            reply.encode(&mut encoded);
            assert_eq!(encoded, postcard::to_stdvec(&reply).expect("replies encode"));
        }
    }
}
