//! The session stream's requests: a write under its number, a read under its xid, or a proof of
//! identity.

use bytes::Bytes;
use quorate_core::command::{CloseReason, Operation};
use quorate_core::id::{SessionId, WriteNumber};
use quorate_core::request::{Consistency, ReadRequest};

use super::reads::inner_read;
use super::values::{
    acl_or_open, acl_to_wire, consistency_or_default, consistency_to_wire, expected_version, version_to_wire,
    watch_kind_or_any_to_wire,
};
use super::writes::{delete_limit, multi_operations};
use super::{WireError, required};
use crate::v1;
use crate::v1::request::Operation as Wire;

/// A request of a session, understood.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SessionRequest {
    /// A write.
    Write {
        /// Its place among the session's writes.
        number: WriteNumber,
        /// What to do.
        operation: Operation,
    },
    /// A read, or a change of the connection's watches.
    Read {
        /// Comes back with the reply.
        xid: u64,
        /// What to read.
        request: ReadRequest,
        /// How fresh.
        consistency: Consistency,
    },
    /// A proof of another identity.
    Auth {
        /// Comes back with the reply.
        xid: u64,
        /// Such as `digest`.
        scheme: String,
        /// The scheme's own.
        credential: Bytes,
    },
}

impl SessionRequest {
    /// Understands a request of `session`.
    ///
    /// # Errors
    /// Names the field that is missing or makes no sense. The caller still has the request's xid
    /// and write number, which a reply needs, if it took them before.
    pub fn from_wire(request: v1::Request, session: SessionId) -> Result<SessionRequest, WireError> {
        let v1::Request { xid, write_number, consistency, operation } = request;
        let request: ReadRequest = match required(operation, "requests.operation")? {
            Wire::Create(create) => return write(write_number, Operation::Create(create.try_into()?)),
            Wire::Delete(v1::Delete { path, version }) => {
                return write(write_number, Operation::Delete { path, version: expected_version(version) });
            }
            Wire::DeleteRecursive(v1::DeleteRecursive { path, version, limit }) => {
                let (version, limit) = (expected_version(version), delete_limit(limit));
                return write(write_number, Operation::DeleteRecursive { path, version, limit });
            }
            Wire::SetData(v1::SetData { path, data, version }) => {
                let version = expected_version(version);
                return write(write_number, Operation::SetData { path, data, version });
            }
            Wire::SetAcl(v1::SetAcl { path, acl, version }) => {
                let (acl, version) = (acl_or_open(acl)?, expected_version(version));
                return write(write_number, Operation::SetAcl { path, acl, version });
            }
            Wire::Multi(multi) => {
                return write(write_number, Operation::Multi(multi_operations(multi.operations)?));
            }
            Wire::CloseSession(v1::CloseSession {}) => {
                let reason = CloseReason::ByOwner;
                return write(write_number, Operation::CloseSession { session, reason });
            }
            Wire::Auth(v1::Credential { scheme, credential }) => {
                return Ok(SessionRequest::Auth { xid, scheme, credential });
            }
            Wire::Get(get) => get.into(),
            Wire::Exists(exists) => exists.into(),
            Wire::GetAcl(v1::GetAcl { path }) => ReadRequest::GetAcl { path },
            Wire::List(list) => list.into(),
            Wire::Ephemerals(v1::Ephemerals { prefix }) => ReadRequest::Ephemerals { prefix },
            Wire::CountDescendants(v1::CountDescendants { path }) => ReadRequest::CountDescendants { path },
            Wire::MultiRead(multi) => multi.try_into()?,
            Wire::WhoAmI(v1::WhoAmI {}) => ReadRequest::WhoAmI,
            Wire::Sync(v1::Sync { path }) => ReadRequest::Sync { path },
            Wire::ReadSessions(v1::ReadSessions {}) => ReadRequest::Sessions,
            Wire::AddWatch(add) => add.try_into()?,
            Wire::RemoveWatch(remove) => remove.try_into()?,
            Wire::CheckWatch(check) => check.try_into()?,
        };
        Ok(SessionRequest::Read { xid, request, consistency: consistency_or_default(consistency)? })
    }
}

fn write(number: u64, operation: Operation) -> Result<SessionRequest, WireError> {
    if number == 0 {
        return Err(WireError::Missing { field: "requests.write_number" });
    }
    Ok(SessionRequest::Write { number: WriteNumber(number), operation })
}

/// A write as a session sends it.
///
/// # Errors
/// The operation is one that only the cluster itself issues.
pub fn write_request(number: WriteNumber, operation: Operation) -> Result<v1::Request, WireError> {
    let operation = match operation {
        Operation::Create(create) => Wire::Create(create.into()),
        Operation::Delete { path, version } => {
            Wire::Delete(v1::Delete { path, version: version_to_wire(version) })
        }
        Operation::DeleteRecursive { path, version, limit } => {
            Wire::DeleteRecursive(v1::DeleteRecursive { path, version: version_to_wire(version), limit })
        }
        Operation::SetData { path, data, version } => {
            Wire::SetData(v1::SetData { path, data, version: version_to_wire(version) })
        }
        Operation::SetAcl { path, acl, version } => {
            Wire::SetAcl(v1::SetAcl { path, acl: acl_to_wire(acl), version: version_to_wire(version) })
        }
        Operation::Multi(operations) => {
            Wire::Multi(v1::Multi { operations: operations.into_iter().map(Into::into).collect() })
        }
        Operation::CloseSession { reason: CloseReason::ByOwner, .. } => {
            Wire::CloseSession(v1::CloseSession {})
        }
        Operation::Refused(_)
        | Operation::OpenSession { .. }
        | Operation::Attach { .. }
        | Operation::CloseSession { .. }
        | Operation::ExpireNode { .. }
        | Operation::Set(_)
        | Operation::PublishConfig { .. }
        | Operation::DigestMark => {
            return Err(WireError::Malformed { field: "operation", problem: "is not for sessions" });
        }
    };
    Ok(v1::Request { xid: 0, write_number: number.0, consistency: None, operation: Some(operation) })
}

/// A read as a session sends it.
///
/// # Errors
/// A multi read that contains anything but gets and lists.
pub fn read_request(
    xid: u64,
    request: ReadRequest,
    consistency: Consistency,
) -> Result<v1::Request, WireError> {
    let operation = match request {
        ReadRequest::Get { path, watch } => Wire::Get(v1::Get { path, watch_id: watch.map(|id| id.0) }),
        ReadRequest::Exists { path, watch } => {
            Wire::Exists(v1::Exists { path, watch_id: watch.map(|id| id.0) })
        }
        ReadRequest::GetAcl { path } => Wire::GetAcl(v1::GetAcl { path }),
        ReadRequest::List { path, after, limit, with_stat, with_data, watch } => {
            let watch_id = watch.map(|id| id.0);
            Wire::List(v1::List { path, after, limit, with_stat, with_data, watch_id })
        }
        ReadRequest::Ephemerals { prefix } => Wire::Ephemerals(v1::Ephemerals { prefix }),
        ReadRequest::CountDescendants { path } => Wire::CountDescendants(v1::CountDescendants { path }),
        ReadRequest::Multi(reads) => Wire::MultiRead(v1::MultiRead {
            reads: reads.into_iter().map(inner_read).collect::<Result<_, _>>()?,
        }),
        ReadRequest::WhoAmI => Wire::WhoAmI(v1::WhoAmI {}),
        ReadRequest::Sync { path } => Wire::Sync(v1::Sync { path }),
        ReadRequest::Sessions => Wire::ReadSessions(v1::ReadSessions {}),
        ReadRequest::AddWatch { id, path, kind, since, with_value } => Wire::AddWatch(v1::AddWatch {
            id: id.0,
            path,
            kind: v1::WatchKind::from(kind).into(),
            since: since.map(Into::into),
            with_value,
        }),
        ReadRequest::RemoveWatch { id, path, kind } => Wire::RemoveWatch(v1::RemoveWatch {
            id: id.map(|id| id.0),
            path,
            kind: watch_kind_or_any_to_wire(kind),
        }),
        ReadRequest::CheckWatch { path, kind } => {
            Wire::CheckWatch(v1::CheckWatch { path, kind: watch_kind_or_any_to_wire(kind) })
        }
    };
    Ok(v1::Request {
        xid,
        write_number: 0,
        consistency: consistency_to_wire(consistency),
        operation: Some(operation),
    })
}
