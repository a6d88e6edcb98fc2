//! Reads and watches that are requests of their own; how they stand in a session's request is
//! requests.rs.

use quorate_core::request::{ReadRequest, WatchId};

use super::values::{watch_kind, watch_kind_or_any};
use super::{WireError, required};
use crate::v1;

impl From<v1::Get> for ReadRequest {
    fn from(get: v1::Get) -> ReadRequest {
        ReadRequest::Get { path: get.path, watch: get.watch_id.map(WatchId) }
    }
}

impl From<v1::Exists> for ReadRequest {
    fn from(exists: v1::Exists) -> ReadRequest {
        ReadRequest::Exists { path: exists.path, watch: exists.watch_id.map(WatchId) }
    }
}

impl From<v1::List> for ReadRequest {
    fn from(list: v1::List) -> ReadRequest {
        ReadRequest::List {
            path: list.path,
            after: list.after,
            limit: list.limit,
            with_stat: list.with_stat,
            with_data: list.with_data,
            watch: list.watch_id.map(WatchId),
        }
    }
}

impl TryFrom<v1::MultiRead> for ReadRequest {
    type Error = WireError;

    fn try_from(multi: v1::MultiRead) -> Result<ReadRequest, WireError> {
        use v1::read::Operation;
        let reads = multi.reads.into_iter().map(|read| {
            Ok(match required(read.operation, "reads.operation")? {
                Operation::Get(get) => get.into(),
                Operation::List(list) => list.into(),
            })
        });
        Ok(ReadRequest::Multi(reads.collect::<Result<_, WireError>>()?))
    }
}

impl TryFrom<v1::AddWatch> for ReadRequest {
    type Error = WireError;

    fn try_from(add: v1::AddWatch) -> Result<ReadRequest, WireError> {
        Ok(ReadRequest::AddWatch {
            id: WatchId(add.id),
            path: add.path,
            kind: watch_kind(add.kind)?,
            since: add.since.map(Into::into),
            with_value: add.with_value,
        })
    }
}

impl TryFrom<v1::RemoveWatch> for ReadRequest {
    type Error = WireError;

    fn try_from(remove: v1::RemoveWatch) -> Result<ReadRequest, WireError> {
        Ok(ReadRequest::RemoveWatch {
            id: remove.id.map(WatchId),
            path: remove.path,
            kind: watch_kind_or_any(remove.kind)?,
        })
    }
}

impl TryFrom<v1::CheckWatch> for ReadRequest {
    type Error = WireError;

    fn try_from(check: v1::CheckWatch) -> Result<ReadRequest, WireError> {
        Ok(ReadRequest::CheckWatch { path: check.path, kind: watch_kind_or_any(check.kind)? })
    }
}

/// A read inside a multi read: gets and lists only.
pub(super) fn inner_read(read: ReadRequest) -> Result<v1::Read, WireError> {
    use v1::read::Operation;
    let operation = match read {
        ReadRequest::Get { path, watch } => Operation::Get(v1::Get { path, watch_id: watch.map(|id| id.0) }),
        ReadRequest::List { path, after, limit, with_stat, with_data, watch } => Operation::List(v1::List {
            path,
            after,
            limit,
            with_stat,
            with_data,
            watch_id: watch.map(|id| id.0),
        }),
        _ => return Err(WireError::Malformed { field: "reads", problem: "takes gets and lists only" }),
    };
    Ok(v1::Read { operation: Some(operation) })
}
