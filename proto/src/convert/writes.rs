//! Writes: operations, multis and guards.

use quorate_core::command::{Create, Guard, MultiOperation};
use quorate_core::id::Zxid;

use super::values::{
    acl_or_open, acl_to_wire, create_mode, create_mode_to_wire, expected_version, version_to_wire,
};
use super::{WireError, required};
use crate::v1;

/// The limit of a recursive delete that names none.
pub const DELETE_LIMIT_DEFAULT: u32 = 10_000;

impl From<Create> for v1::Create {
    fn from(create: Create) -> v1::Create {
        let (mode, ttl_ms) = create_mode_to_wire(create.mode);
        v1::Create {
            path: create.path,
            data: create.data,
            acl: acl_to_wire(create.acl),
            mode: mode.into(),
            ttl_ms,
        }
    }
}

impl TryFrom<v1::Create> for Create {
    type Error = WireError;

    fn try_from(create: v1::Create) -> Result<Create, WireError> {
        Ok(Create {
            mode: create_mode(create.mode, create.ttl_ms)?,
            path: create.path,
            data: create.data,
            acl: acl_or_open(create.acl)?,
        })
    }
}

/// A recursive delete's limit: 0 is the default.
pub fn delete_limit(limit: u32) -> u32 {
    if limit == 0 { DELETE_LIMIT_DEFAULT } else { limit }
}

impl From<MultiOperation> for v1::MultiOperation {
    fn from(operation: MultiOperation) -> v1::MultiOperation {
        use v1::multi_operation::Operation;
        let operation = match operation {
            MultiOperation::Create(create) => Operation::Create(create.into()),
            MultiOperation::Delete { path, version } => {
                Operation::Delete(v1::Delete { path, version: version_to_wire(version) })
            }
            MultiOperation::SetData { path, data, version } => {
                Operation::SetData(v1::SetData { path, data, version: version_to_wire(version) })
            }
            MultiOperation::Check { path, version } => {
                Operation::Check(v1::Check { path, version: version_to_wire(version) })
            }
            MultiOperation::Guard(guard) => Operation::Guard(guard.into()),
        };
        v1::MultiOperation { operation: Some(operation) }
    }
}

impl TryFrom<v1::MultiOperation> for MultiOperation {
    type Error = WireError;

    fn try_from(operation: v1::MultiOperation) -> Result<MultiOperation, WireError> {
        use v1::multi_operation::Operation;
        Ok(match required(operation.operation, "operations.operation")? {
            Operation::Create(create) => MultiOperation::Create(create.try_into()?),
            Operation::Delete(delete) => {
                MultiOperation::Delete { path: delete.path, version: expected_version(delete.version) }
            }
            Operation::SetData(set) => MultiOperation::SetData {
                path: set.path,
                data: set.data,
                version: expected_version(set.version),
            },
            Operation::Check(check) => {
                MultiOperation::Check { path: check.path, version: expected_version(check.version) }
            }
            Operation::Guard(guard) => MultiOperation::Guard(guard.try_into()?),
        })
    }
}

/// A multi's operations, in order.
pub fn multi_operations(operations: Vec<v1::MultiOperation>) -> Result<Vec<MultiOperation>, WireError> {
    operations.into_iter().map(TryInto::try_into).collect()
}

impl From<Guard> for v1::Guard {
    fn from(guard: Guard) -> v1::Guard {
        use v1::guard::Condition;
        let condition = match guard {
            Guard::Lock { path, token } => Condition::Lock(v1::LockHeld { path, token: token.0 }),
            Guard::Modified { path, zxid } => Condition::Modified(v1::NodeAtZxid { path, zxid: zxid.0 }),
            Guard::Created { path, zxid } => Condition::Created(v1::NodeAtZxid { path, zxid: zxid.0 }),
            Guard::Absent { path } => Condition::Absent(path),
        };
        v1::Guard { condition: Some(condition) }
    }
}

impl TryFrom<v1::Guard> for Guard {
    type Error = WireError;

    fn try_from(guard: v1::Guard) -> Result<Guard, WireError> {
        use v1::guard::Condition;
        Ok(match required(guard.condition, "guard.condition")? {
            Condition::Lock(lock) => Guard::Lock { path: lock.path, token: Zxid(lock.token) },
            Condition::Modified(node) => Guard::Modified { path: node.path, zxid: Zxid(node.zxid) },
            Condition::Created(node) => Guard::Created { path: node.path, zxid: Zxid(node.zxid) },
            Condition::Absent(path) => Guard::Absent { path },
        })
    }
}
