//! Identifiers and times: newtypes, so that a zxid is never passed for a session.
//!
//! Nothing here is computed from a clock or from randomness; see [`crate::command::Stamp`]
//! for how time and entropy enter the state.

use std::fmt;

use serde::{Deserialize, Serialize};

/// A write transaction's place in the one order that all members share.
///
/// One per successful or failed write transaction, growing by one, never reused; independent of
/// how commands were grouped into log entries.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Zxid(pub u64);

/// A session's identifier: never reused. The session's password is what protects it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct SessionId(pub u64);

/// A member of the cluster: chosen by the operator, never reused after a removal.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct MemberId(pub u64);

/// Counts the attachments of a session to a connection. Commands of an older epoch are refused.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct AttachEpoch(pub u64);

/// A session's write number: dense, from 1, apart from the wire's xid.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct WriteNumber(pub u64);

impl WriteNumber {
    /// The number after this one.
    pub fn next(self) -> WriteNumber {
        WriteNumber(self.0 + 1)
    }
}

/// Milliseconds since the Unix epoch, as the leader stamped them; never decreases in the state.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Timestamp(pub i64);

/// Where an event stands: a transaction may have many events, told apart by their ordinal.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Position {
    /// The transaction.
    pub zxid: Zxid,
    /// The event's number within it, from 0. `u32::MAX` means "all of this transaction".
    pub ordinal: u32,
}

impl Position {
    /// The position behind every event of `zxid`.
    pub fn after(zxid: Zxid) -> Position {
        Position { zxid, ordinal: u32::MAX }
    }
}

impl fmt::Display for Zxid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

impl fmt::Display for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#x}", self.0)
    }
}

impl fmt::Display for MemberId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}
