//! The session stream's replies: a result or a refusal under a write's number or a read's xid.

use quorate_core::error::Error;
use quorate_core::id::{WriteNumber, Zxid};
use quorate_core::reply::{ReadReply, WriteReply};

use super::{WireError, required};
use crate::v1;
use crate::v1::reply::Outcome;

/// A reply to a session, understood.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SessionReply {
    /// To a write.
    Write {
        /// Of the write.
        number: WriteNumber,
        /// What it did.
        reply: WriteReply,
    },
    /// To anything else.
    Read {
        /// Of the request.
        xid: u64,
        /// What was read.
        reply: ReadReply,
    },
}

/// The answer to a session's write.
pub fn reply_to_write(number: WriteNumber, reply: WriteReply) -> v1::Reply {
    let outcome = match reply.result {
        Ok(result) => Outcome::Write(result.into()),
        Err(error) => Outcome::Error(error.into()),
    };
    v1::Reply { xid: 0, write_number: number.0, zxid: reply.zxid.0, outcome: Some(outcome) }
}

/// The answer to a session's read.
pub fn reply_to_read(xid: u64, reply: ReadReply) -> v1::Reply {
    let outcome = match reply.result {
        Ok(result) => Outcome::Read(result.into()),
        Err(error) => Outcome::Error(error.into()),
    };
    v1::Reply { xid, write_number: 0, zxid: reply.zxid.0, outcome: Some(outcome) }
}

impl TryFrom<v1::Reply> for SessionReply {
    type Error = WireError;

    fn try_from(reply: v1::Reply) -> Result<SessionReply, WireError> {
        let v1::Reply { xid, write_number, zxid, outcome } = reply;
        let zxid = Zxid(zxid);
        let outcome = required(outcome, "reply.outcome")?;
        if write_number != 0 {
            let result = match outcome {
                Outcome::Write(result) => Ok(result.try_into()?),
                Outcome::Error(error) => Err(Error::try_from(error)?),
                Outcome::Read(_) => {
                    return Err(WireError::Malformed { field: "reply.read", problem: "answers a write" });
                }
            };
            Ok(SessionReply::Write { number: WriteNumber(write_number), reply: WriteReply { zxid, result } })
        } else {
            let result = match outcome {
                Outcome::Read(result) => Ok(result.try_into()?),
                Outcome::Error(error) => Err(Error::try_from(error)?),
                Outcome::Write(_) => {
                    return Err(WireError::Malformed {
                        field: "reply.write",
                        problem: "has no write number",
                    });
                }
            };
            Ok(SessionReply::Read { xid, reply: ReadReply { zxid, result } })
        }
    }
}

impl From<v1::Reply> for v1::ServerMessage {
    fn from(reply: v1::Reply) -> v1::ServerMessage {
        v1::ServerMessage { message: Some(v1::server_message::Message::Reply(reply)) }
    }
}
