//! Refusals as error details, and as gRPC statuses that carry such a detail.

use prost::Message;
use quorate_core::error::{Error, ErrorKind};
use tonic::{Code, Status};

use super::WireError;
use crate::v1;

/// Names the detail inside google.rpc.Status.
const DETAIL_TYPE: &str = "type.googleapis.com/quorate.v1.ErrorDetail";

/// google.rpc.Status, of which gRPC's `grpc-status-details-bin` carries the encoding.
#[derive(Clone, PartialEq, Message)]
struct RpcStatus {
    #[prost(int32, tag = "1")]
    code: i32,
    #[prost(string, tag = "2")]
    message: String,
    #[prost(message, repeated, tag = "3")]
    details: Vec<prost_types::Any>,
}

/// Both directions of the kinds from one list, so that none can be forgotten in one of them.
macro_rules! kinds {
    ($($kind:ident => $code:ident,)*) => {
        impl From<ErrorKind> for v1::ErrorKind {
            fn from(kind: ErrorKind) -> v1::ErrorKind {
                match kind { $(ErrorKind::$kind => v1::ErrorKind::$kind,)* }
            }
        }

        impl TryFrom<v1::ErrorKind> for ErrorKind {
            type Error = WireError;

            fn try_from(kind: v1::ErrorKind) -> Result<ErrorKind, WireError> {
                match kind {
                    $(v1::ErrorKind::$kind => Ok(ErrorKind::$kind),)*
                    v1::ErrorKind::Unspecified => Err(WireError::Missing { field: "error.kind" }),
                }
            }
        }

        /// The gRPC code that fits a kind: what generic clients and proxies do with it is right.
        /// Only refusals after which a blind retry is harmless are UNAVAILABLE.
        pub fn code(kind: ErrorKind) -> Code {
            match kind { $(ErrorKind::$kind => Code::$code,)* }
        }

        #[cfg(test)]
        pub(super) const ALL_KINDS: &[ErrorKind] = &[$(ErrorKind::$kind,)*];
    };
}

kinds! {
    NoNode => NotFound,
    NodeExists => AlreadyExists,
    BadVersion => FailedPrecondition,
    NotEmpty => FailedPrecondition,
    NoChildrenForEphemerals => FailedPrecondition,
    BadArguments => InvalidArgument,
    NoAuth => PermissionDenied,
    InvalidAcl => InvalidArgument,
    AuthFailed => Unauthenticated,
    SessionExpired => FailedPrecondition,
    SessionMoved => Aborted,
    QuotaExceeded => ResourceExhausted,
    NoWatcher => NotFound,
    RuntimeInconsistency => Aborted,
    MarshallingError => InvalidArgument,
    Unimplemented => Unimplemented,
    NotReadOnly => FailedPrecondition,
    ReconfigDisabled => FailedPrecondition,
    ReconfigInProgress => Aborted,
    NewConfigNoQuorum => FailedPrecondition,
    Throttled => ResourceExhausted,
    GuardFailed => FailedPrecondition,
    TooLarge => InvalidArgument,
    Overloaded => ResourceExhausted,
    OutcomeUnknown => Unknown,
    WatchGap => OutOfRange,
    MemberBehind => Unavailable,
    Unavailable => Unavailable,
    Internal => Internal,
}

impl From<Error> for v1::ErrorDetail {
    fn from(error: Error) -> v1::ErrorDetail {
        v1::ErrorDetail {
            kind: v1::ErrorKind::from(error.kind).into(),
            zookeeper_code: error.kind.zookeeper_code(),
            detail: error.detail,
            operation: error.operation,
            zxid: None,
        }
    }
}

impl TryFrom<v1::ErrorDetail> for Error {
    type Error = WireError;

    fn try_from(detail: v1::ErrorDetail) -> Result<Error, WireError> {
        let kind = v1::ErrorKind::try_from(detail.kind)
            .map_err(|_| WireError::UnknownValue { field: "error.kind", value: detail.kind })?;
        Ok(Error { kind: kind.try_into()?, detail: detail.detail, operation: detail.operation })
    }
}

/// A refusal as a gRPC status with an [`v1::ErrorDetail`].
pub fn status_from_error(error: &Error) -> Status {
    status_with_code(code(error.kind), error)
}

/// The same under another code: clients demand that the details name the status' own.
pub fn status_with_code(code: Code, error: &Error) -> Status {
    let message = error.to_string();
    let detail = v1::ErrorDetail::from(error.clone());
    let any = prost_types::Any { type_url: DETAIL_TYPE.into(), value: detail.encode_to_vec() };
    let rpc = RpcStatus { code: code.into(), message: message.clone(), details: vec![any] };
    Status::with_details(code, message, rpc.encode_to_vec().into())
}

/// The refusal in a gRPC status.
///
/// A status without our detail comes from gRPC itself (a lost connection, a deadline, a proxy).
/// Such a call may or may not have taken effect, so it never becomes a kind that says "nothing
/// happened".
pub fn error_from_status(status: &Status) -> Error {
    if let Some(error) = detail_of(status) {
        return error;
    }
    let kind = match status.code() {
        Code::InvalidArgument => ErrorKind::BadArguments,
        Code::Unauthenticated => ErrorKind::AuthFailed,
        Code::PermissionDenied => ErrorKind::NoAuth,
        Code::Unimplemented => ErrorKind::Unimplemented,
        Code::Internal | Code::DataLoss => ErrorKind::Internal,
        _ => ErrorKind::OutcomeUnknown,
    };
    Error::new(kind, format!("{:?}: {}", status.code(), status.message()))
}

fn detail_of(status: &Status) -> Option<Error> {
    let rpc = RpcStatus::decode(status.details()).ok()?;
    let any = rpc.details.into_iter().find(|any| any.type_url == DETAIL_TYPE)?;
    v1::ErrorDetail::decode(any.value.as_slice()).ok()?.try_into().ok()
}
