//! What a call can end with instead of a result, by what the caller can do next.

use quorate_core::error::ErrorKind;
use quorate_core::id::Zxid;

/// Why a call gave no result.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The cluster refused. For a write: nothing of it happened, and nothing will.
    #[error("{error}")]
    Refused {
        /// Why.
        error: quorate_core::error::Error,
        /// The refused transaction; for a read, what the member had applied.
        zxid: Zxid,
    },
    /// The session is over, and this request had no effect. Its ephemerals and locks are gone; a
    /// new [`crate::Client`] has a new session.
    #[error("the session has expired")]
    SessionExpired,
    /// The session ended while a write was under way: it may or may not have taken effect. It will
    /// not be sent again.
    #[error("outcome unknown: the session ended before the answer came")]
    OutcomeUnknown,
    /// A read that was sent with `.send()` lost its answer with the connection, and writes that were
    /// sent behind it have taken effect since: it could only see too much. Read again for what is there now.
    #[error("the answer was lost with its connection, and writes sent behind this read have taken effect")]
    Overtaken,
    /// The client was closed.
    #[error("the client is closed")]
    Closed,
    /// More requests wait than [`crate::ClientBuilder::outstanding_max`] allows. This one was not
    /// sent; let some finish.
    #[error("too many requests are waiting (at most {limit})")]
    TooManyRequests {
        /// The limit.
        limit: usize,
    },
    /// No member could be reached in time, or none accepted the session.
    #[error("could not connect: {0}")]
    Connect(String),
    /// An argument that no cluster would take.
    #[error("{0}")]
    BadArguments(String),
    /// A member answered something that this version does not understand.
    #[error("a member's answer makes no sense: {0}")]
    Protocol(String),
}

impl Error {
    /// The kind of refusal, for matching on what the cluster said: `error.kind() == ErrorKind::NoNode`.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Error::Refused { error, .. } => error.kind,
            Error::SessionExpired => ErrorKind::SessionExpired,
            Error::OutcomeUnknown => ErrorKind::OutcomeUnknown,
            Error::Closed | Error::Connect(_) | Error::Overtaken => ErrorKind::Unavailable,
            Error::TooManyRequests { .. } => ErrorKind::Overloaded,
            Error::BadArguments(_) => ErrorKind::BadArguments,
            Error::Protocol(_) => ErrorKind::MarshallingError,
        }
    }

    /// Whether the same call on the same client may succeed later, and is harmless to repeat.
    pub fn is_retryable(&self) -> bool {
        match self {
            Error::Refused { error, .. } => error.kind.is_retryable(),
            Error::TooManyRequests { .. } | Error::Connect(_) | Error::Overtaken => true,
            _ => false,
        }
    }
}

/// A call's result.
pub type Result<T, E = Error> = std::result::Result<T, E>;
