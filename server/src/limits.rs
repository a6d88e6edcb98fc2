//! Admission limits: what a member refuses before it reaches the log.
//!
//! What cannot be loaded again must never be logged, so every size that matters is checked here,
//! with an error that names the field and the limit. Limits that apply itself uses are replicated
//! settings in the core.

use quorate_core::command::{Create, MultiOperation, Operation};
use quorate_core::error::{Error, ErrorKind};

use crate::check_targets::CheckTargets;

/// The limits of one member; the same on all members of a well-kept cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of one znode's data.
    pub znode_bytes: usize,
    /// Bytes of one request or transaction, encoded.
    pub request_bytes: usize,
    /// Operations of one transaction.
    pub transaction_operations: usize,
    /// Bytes of a path.
    pub path_bytes: usize,
    /// Elements of a path.
    pub path_depth: usize,
    /// Entries of an ACL.
    pub acl_entries: usize,
    /// Shortest session timeout granted.
    pub session_timeout_min_ms: u32,
    /// Longest session timeout granted.
    pub session_timeout_max_ms: u32,
    /// Writes of one session that may be under way.
    pub session_writes: usize,
    /// Their bytes.
    pub session_write_bytes: usize,
    /// What health checks may connect to.
    pub check_targets: CheckTargets,
}

/// Bytes that the parent's counter may add to a path: ten digits and a sign.
const COUNTER_BYTES: usize = 11;

/// Nodes that one recursive delete may name as its limit: nothing interrupts a transaction, and none may
/// keep everybody waiting.
const DELETE_LIMIT_MAX: u32 = 100_000;

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            znode_bytes: 1 << 20,
            request_bytes: 4 << 20,
            transaction_operations: 10_000,
            path_bytes: 4096,
            path_depth: 256,
            acl_entries: 64,
            session_timeout_min_ms: 4_000,
            session_timeout_max_ms: 40_000,
            session_writes: 4096,
            session_write_bytes: 8 << 20,
            check_targets: CheckTargets::Usual { with_loopback: true },
        }
    }
}

impl Limits {
    /// Clamps a session timeout into the granted range.
    pub fn session_timeout_ms(&self, asked: u32) -> u32 {
        asked.clamp(self.session_timeout_min_ms, self.session_timeout_max_ms)
    }

    /// Refuses a write whose parts are beyond the limits.
    ///
    /// # Errors
    /// `TooLarge` or `BadArguments`, naming the field and the limit.
    pub fn check(&self, operation: &Operation) -> Result<(), Error> {
        match operation {
            Operation::Create(create) => self.check_create(create),
            Operation::SetData { path, data, .. } => {
                self.check_path(path)?;
                self.check_data(data.as_ref().map_or(0, |data| data.len()))
            }
            Operation::Delete { path, .. } => self.check_path(path),
            Operation::DeleteRecursive { path, limit, .. } => {
                if *limit > DELETE_LIMIT_MAX {
                    return Err(over("limit", *limit as usize, DELETE_LIMIT_MAX as usize));
                }
                self.check_path(path)
            }
            Operation::SetAcl { path, acl, .. } => {
                self.check_path(path)?;
                self.check_acl(acl.len())
            }
            Operation::Multi(operations) => {
                self.check_operations(operations.len())?;
                operations.iter().enumerate().try_for_each(|(index, operation)| {
                    self.check_part(operation).map_err(|error| error.at_operation(index as u32))
                })
            }
            _ => Ok(()),
        }
    }

    /// Refuses a transaction of too many operations. Doors ask before they take them apart.
    pub fn check_operations(&self, count: usize) -> Result<(), Error> {
        if count > self.transaction_operations {
            return Err(over("operations of a transaction", count, self.transaction_operations));
        }
        Ok(())
    }

    /// Refuses a path beyond the limits; whether it is well formed is the core's to say.
    pub fn check_path(&self, path: &str) -> Result<(), Error> {
        self.check_path_length(path.len())?;
        let depth = path.bytes().filter(|byte| *byte == b'/').count();
        if depth > self.path_depth {
            return Err(over("elements of path", depth, self.path_depth));
        }
        Ok(())
    }

    /// Refuses an encoded command beyond the limit.
    pub fn check_encoded(&self, bytes: usize) -> Result<(), Error> {
        if bytes > self.request_bytes {
            return Err(over("bytes of request", bytes, self.request_bytes));
        }
        Ok(())
    }

    fn check_part(&self, operation: &MultiOperation) -> Result<(), Error> {
        match operation {
            MultiOperation::Create(create) => self.check_create(create),
            MultiOperation::SetData { path, data, .. } => {
                self.check_path(path)?;
                self.check_data(data.as_ref().map_or(0, |data| data.len()))
            }
            MultiOperation::Delete { path, .. } | MultiOperation::Check { path, .. } => self.check_path(path),
            MultiOperation::Guard(_) => Ok(()),
        }
    }

    fn check_create(&self, create: &Create) -> Result<(), Error> {
        self.check_path(&create.path)?;
        if create.mode.is_sequential() {
            // Later requests name the node with its number.
            self.check_path_length(create.path.len() + COUNTER_BYTES)?;
        }
        self.check_acl(create.acl.len())?;
        self.check_data(create.data.as_ref().map_or(0, |data| data.len()))
    }

    fn check_path_length(&self, bytes: usize) -> Result<(), Error> {
        if bytes > self.path_bytes {
            return Err(over("bytes of path", bytes, self.path_bytes));
        }
        Ok(())
    }

    fn check_data(&self, bytes: usize) -> Result<(), Error> {
        if bytes > self.znode_bytes {
            return Err(over("bytes of data", bytes, self.znode_bytes));
        }
        Ok(())
    }

    fn check_acl(&self, entries: usize) -> Result<(), Error> {
        if entries > self.acl_entries {
            return Err(over("entries of acl", entries, self.acl_entries));
        }
        Ok(())
    }
}

fn over(field: &str, found: usize, limit: usize) -> Error {
    Error::new(ErrorKind::TooLarge, format!("{field}: {found}, at most {limit}"))
}
