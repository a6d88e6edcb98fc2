//! Transactions: many operations, all or none, under one zxid, with conditions.

use std::future::IntoFuture;

use bytes::Bytes;
use quorate_core::acl::AclEntry;
use quorate_core::command::{Create, Guard, MultiOperation, Operation};
use quorate_core::id::Zxid;
use quorate_core::reply::WriteResult;
use quorate_core::znode::CreateMode;

use crate::calls::{answer_of_write, inward, unexpected};
use crate::client::Client;
use crate::error::Result;
use crate::pending::Pending;

/// Operations to be done all or none, later ones seeing the effects of earlier ones.
///
/// ```no_run
/// # async fn example(client: quorate::Client, token: quorate::Zxid) -> quorate::Result<()> {
/// // Only while the lock is still held with this fencing token.
/// client.transaction().guard_lock("/locks/ledger", token).set("/ledger", "42").send().await?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
#[must_use = "a transaction does nothing until it is sent or awaited"]
pub struct Transaction<'a> {
    client: &'a Client,
    operations: Vec<MultiOperation>,
}

/// What a transaction did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Committed {
    /// The transaction.
    pub zxid: Zxid,
    /// One result an operation, in order.
    pub results: Vec<WriteResult>,
}

impl<'a> Transaction<'a> {
    pub(crate) fn new(client: &'a Client) -> Transaction<'a> {
        Transaction { client, operations: Vec::new() }
    }

    /// Creates a persistent, open node.
    pub fn create(self, path: &str, data: impl Into<Bytes>) -> Self {
        self.create_with(path, data, CreateMode::Persistent, AclEntry::open())
    }

    /// Creates a node of any kind.
    pub fn create_with(
        self,
        path: &str,
        data: impl Into<Bytes>,
        mode: CreateMode,
        acl: Vec<AclEntry>,
    ) -> Self {
        let path = self.client.chroot.outward(path);
        self.and(MultiOperation::Create(Create { path, data: Some(data.into()), acl, mode }))
    }

    /// Sets a node's data.
    pub fn set(self, path: &str, data: impl Into<Bytes>) -> Self {
        self.set_version(path, data, -1)
    }

    /// Sets a node's data if it is at this version.
    pub fn set_version(self, path: &str, data: impl Into<Bytes>, version: i32) -> Self {
        let path = self.client.chroot.outward(path);
        self.and(MultiOperation::SetData { path, data: Some(data.into()), version })
    }

    /// Deletes a childless node.
    pub fn delete(self, path: &str) -> Self {
        self.delete_version(path, -1)
    }

    /// Deletes a childless node if it is at this version.
    pub fn delete_version(self, path: &str, version: i32) -> Self {
        let path = self.client.chroot.outward(path);
        self.and(MultiOperation::Delete { path, version })
    }

    /// Demands that the node exists and is at this version (−1: any).
    pub fn check(self, path: &str, version: i32) -> Self {
        let path = self.client.chroot.outward(path);
        self.and(MultiOperation::Check { path, version })
    }

    /// Demands that the lock at `path` is held now with exactly this fencing token.
    pub fn guard_lock(self, path: &str, token: Zxid) -> Self {
        let path = self.client.chroot.outward(path);
        self.and(MultiOperation::Guard(Guard::Lock { path, token }))
    }

    /// Demands that the node's data was last set by exactly this transaction.
    pub fn guard_modified(self, path: &str, zxid: Zxid) -> Self {
        let path = self.client.chroot.outward(path);
        self.and(MultiOperation::Guard(Guard::Modified { path, zxid }))
    }

    /// Demands that the node was created by exactly this transaction.
    pub fn guard_created(self, path: &str, zxid: Zxid) -> Self {
        let path = self.client.chroot.outward(path);
        self.and(MultiOperation::Guard(Guard::Created { path, zxid }))
    }

    /// Demands that there is no such node.
    pub fn guard_absent(self, path: &str) -> Self {
        let path = self.client.chroot.outward(path);
        self.and(MultiOperation::Guard(Guard::Absent { path }))
    }

    /// Queues the transaction.
    ///
    /// # Errors
    /// Those of the first operation that failed, with its index in
    /// [`quorate_core::error::Error::operation`]; `GuardFailed`; `TooLarge`.
    pub fn send(self) -> Pending<Committed> {
        let client = self.client;
        client.write(self.into_operation(), |answer, chroot| match answer_of_write(answer)? {
            (WriteResult::Multi(results), zxid) => {
                let results = results.into_iter().map(|result| inward(result, chroot)).collect();
                Ok(Committed { zxid, results })
            }
            other => Err(unexpected(&other)),
        })
    }

    pub(crate) fn into_operation(self) -> Operation {
        Operation::Multi(self.operations)
    }

    fn and(mut self, operation: MultiOperation) -> Self {
        self.operations.push(operation);
        self
    }
}

impl IntoFuture for Transaction<'_> {
    type Output = Result<Committed>;
    type IntoFuture = Pending<Committed>;

    fn into_future(self) -> Pending<Committed> {
        self.send()
    }
}
