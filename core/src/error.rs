//! Refusals: what a request can be answered with instead of a result.
//!
//! Every refusal here is a *reply*, the same on all members. Local failures (a disk, a socket)
//! are not: they stop a member or end a connection, and live in the server.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Why a request was refused. The kind says what the caller can do next.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum ErrorKind {
    // The order is part of the stored format: append only.
    /// The node does not exist.
    NoNode,
    /// The node exists already.
    NodeExists,
    /// The node's version is not the expected one.
    BadVersion,
    /// The node has children.
    NotEmpty,
    /// An ephemeral node can have no children.
    NoChildrenForEphemerals,
    /// A field is malformed or beyond its limit; the detail names it.
    BadArguments,
    /// The caller's identities do not carry the needed permission.
    NoAuth,
    /// The ACL is empty, of an unknown scheme, or "auth" without an identity.
    InvalidAcl,
    /// Authentication failed.
    AuthFailed,
    /// The session does not exist (any more).
    SessionExpired,
    /// The session is attached elsewhere; this connection no longer owns it.
    SessionMoved,
    /// A hard quota would be exceeded.
    QuotaExceeded,
    /// A watch to remove does not exist.
    NoWatcher,
    /// An operation behind the failing one of a multi.
    RuntimeInconsistency,
    /// A message could not be decoded.
    MarshallingError,
    /// The operation is not known.
    Unimplemented,
    /// A write reached a read-only member.
    NotReadOnly,
    /// Reconfiguration is disabled.
    ReconfigDisabled,
    /// A reconfiguration is in progress.
    ReconfigInProgress,
    /// The new configuration has no quorum.
    NewConfigNoQuorum,
    /// Rate-limited; retry later.
    Throttled,
    /// A guard of the transaction does not hold.
    GuardFailed,
    /// The request or transaction is larger than a limit; the detail names it.
    TooLarge,
    /// A queue is full; nothing happened; retry with backoff.
    Overloaded,
    /// The request may or may not have taken effect.
    OutcomeUnknown,
    /// The change log no longer reaches back to the asked position: read again, then watch.
    WatchGap,
    /// This member has not applied what the client has seen; retry, or try another member.
    MemberBehind,
    /// No leader, or no quorum; nothing happened; retry.
    Unavailable,
    /// Anything that should not happen; the detail says what did.
    Internal,
}

impl ErrorKind {
    /// ZooKeeper's code for this kind (KeeperException.Code).
    pub fn zookeeper_code(self) -> i32 {
        use ErrorKind::*;
        match self {
            NoNode => -101,
            NodeExists => -110,
            BadVersion => -103,
            NotEmpty => -111,
            NoChildrenForEphemerals => -108,
            BadArguments => -8,
            NoAuth => -102,
            InvalidAcl => -114,
            AuthFailed => -115,
            SessionExpired => -112,
            SessionMoved => -118,
            QuotaExceeded => -125,
            NoWatcher => -121,
            RuntimeInconsistency => -2,
            MarshallingError => -5,
            Unimplemented => -6,
            NotReadOnly => -119,
            ReconfigDisabled => -123,
            ReconfigInProgress => -14,
            NewConfigNoQuorum => -13,
            Throttled | Overloaded => -127,
            GuardFailed => -103,
            TooLarge => -8,
            OutcomeUnknown | MemberBehind | Unavailable => -4,
            WatchGap | Internal => -1,
        }
    }

    /// Whether the same request, sent again, may succeed without anything else changing.
    pub fn is_retryable(self) -> bool {
        use ErrorKind::*;
        matches!(self, Throttled | Overloaded | MemberBehind | Unavailable)
    }
}

/// A refusal: its kind, a sentence for people, and where in a multi it arose.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Error {
    /// What kind of refusal.
    pub kind: ErrorKind,
    /// For people: names the field and the limit, or the path. May be empty.
    pub detail: String,
    /// The failing operation's index, if the request was a multi.
    pub operation: Option<u32>,
}

impl Error {
    /// A refusal with a detail.
    pub fn new(kind: ErrorKind, detail: impl Into<String>) -> Error {
        Error { kind, detail: detail.into(), operation: None }
    }

    /// The same refusal, placed at an operation of a multi.
    pub fn at_operation(mut self, index: u32) -> Error {
        self.operation = Some(index);
        self
    }
}

impl From<ErrorKind> for Error {
    fn from(kind: ErrorKind) -> Error {
        Error { kind, detail: String::new(), operation: None }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.kind)?;
        if !self.detail.is_empty() {
            write!(f, ": {}", self.detail)?;
        }
        if let Some(index) = self.operation {
            write!(f, " (operation {index})")?;
        }
        Ok(())
    }
}

impl std::error::Error for Error {}
