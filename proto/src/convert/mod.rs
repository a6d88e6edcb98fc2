//! Wire to core and back: the only place where the generated types meet the core's.
//!
//! Conversions take their argument by value, so that data ([`bytes::Bytes`]) changes hands without
//! being copied. Towards the wire they cannot fail, except where the core can say more than the
//! wire; from the wire they return a [`WireError`] that names the field.
//!
//! - [`values`]: stats, ACLs, credentials, consistency, kinds, request ids;
//! - [`writes`]: operations and multis; [`reads`]: reads and watches;
//! - [`requests`]: the session stream's requests;
//! - [`results`] and [`replies`]: what comes back; [`events`]: what watches tell;
//! - [`registry`], [`ring`](mod@ring): instances, policies and rings;
//! - [`errors`]: refusals as error details and as gRPC statuses.
//!
//! What is sensible (a path's shape, a limit) is not judged here but by the core and at admission.

pub mod errors;
pub mod events;
pub mod reads;
pub mod registry;
pub mod replies;
pub mod requests;
pub mod results;
pub mod ring;
pub mod values;
pub mod writes;

#[cfg(test)]
mod tests;

pub use errors::{error_from_status, status_from_error, status_with_code};
pub use replies::{SessionReply, reply_to_read, reply_to_write};
pub use requests::{SessionRequest, read_request, write_request};
pub use values::{bytes16, consistency_or_default};

use quorate_core::error::{Error, ErrorKind};

/// A message that cannot be understood: which field, and why.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WireError {
    /// A field that must be there is not (or none of a oneof's).
    #[error("{field} is missing")]
    Missing {
        /// The field, or the oneof.
        field: &'static str,
    },
    /// An enum's value that this version does not know.
    #[error("{field} has the unknown value {value}")]
    UnknownValue {
        /// The field.
        field: &'static str,
        /// What it held.
        value: i32,
    },
    /// A field whose content cannot be.
    #[error("{field} {problem}")]
    Malformed {
        /// The field.
        field: &'static str,
        /// What is wrong with it.
        problem: &'static str,
    },
}

impl From<WireError> for Error {
    fn from(error: WireError) -> Error {
        Error::new(ErrorKind::BadArguments, error.to_string())
    }
}

/// The content of a field that must be there.
fn required<T>(value: Option<T>, field: &'static str) -> Result<T, WireError> {
    value.ok_or(WireError::Missing { field })
}
