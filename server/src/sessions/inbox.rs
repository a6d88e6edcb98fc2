//! A session's requests in the order sent, between a door and the coordinator.
//!
//! Bounded by count and by bytes: when it is full the door stops reading from its socket, so a client
//! that sends faster than it is served is slowed down, not refused.

use std::sync::Arc;

use bytes::Bytes;
use quorate_core::acl::{AclEntry, Identity};
use quorate_core::command::{Create, Guard, MultiOperation, Operation};
use quorate_core::error::Error;
use quorate_core::id::{WriteNumber, Zxid};
use quorate_core::request::{Consistency, ReadRequest, WatchKind};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};

/// Requests that may wait before the door stops reading.
const REQUESTS_MAX: usize = 4096;
/// Bytes of large requests that may wait before the door stops reading.
const BYTES_MAX: u32 = 8 << 20;
/// A request below this is not weighed: as many as may wait are few bytes.
const LARGE: usize = 2 << 10;

/// One request of a connected session.
#[derive(Debug)]
pub enum Incoming {
    /// A numbered write.
    Write {
        /// Dense per session; a door whose clients know no numbers counts for them.
        number: WriteNumber,
        /// The client holds all replies up to here.
        acknowledged: WriteNumber,
        /// What to do.
        operation: Operation,
    },
    /// A read, or a change of this connection's watches.
    Read {
        /// Comes back with the reply.
        xid: u64,
        /// What to read.
        request: ReadRequest,
        /// How fresh.
        consistency: Consistency,
    },
    /// Watches that the client had on another connection, which told it everything up to `since`
    /// (ZooKeeper's setWatches): each fires at once, or is left again.
    Rearm {
        /// Comes back with the answer.
        xid: u64,
        /// What the client has seen.
        since: Zxid,
        /// Kinds and paths.
        watches: Vec<(WatchKind, String)>,
    },
    /// The client is alive and wants to know that the leader knows it.
    Heartbeat {
        /// Comes back with the answer.
        sequence: u64,
    },
    /// The connection proved further identities; later requests carry them.
    Identified {
        /// Comes back with the answer.
        xid: u64,
        /// Who.
        identities: Vec<Identity>,
    },
    /// A request that the door could not understand, answered in its turn.
    Refused {
        /// Comes back with the answer.
        xid: u64,
        /// Why.
        error: Error,
    },
}

/// A request that waits, with the room that it takes until it is dropped.
#[derive(Debug)]
pub struct Waiting {
    /// The request.
    pub incoming: Incoming,
    /// Of a large one.
    _room: Option<OwnedSemaphorePermit>,
}

/// The door's end.
#[derive(Clone, Debug)]
pub struct InboxSender {
    requests: mpsc::Sender<Waiting>,
    room: Arc<Semaphore>,
}

/// The coordinator's end.
pub type InboxReceiver = mpsc::Receiver<Waiting>;

/// Nobody takes requests any more; the outbox says why.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Gone;

/// Makes a connection's inbox.
pub fn inbox() -> (InboxSender, InboxReceiver) {
    let (requests, receiver) = mpsc::channel(REQUESTS_MAX);
    (InboxSender { requests, room: Arc::new(Semaphore::new(BYTES_MAX as usize)) }, receiver)
}

impl InboxSender {
    /// Puts a request behind those that wait, once there is room.
    ///
    /// # Errors
    /// [`Gone`] once the session's task has ended.
    ///
    /// # Cancel safety
    /// If the future is dropped, the request was not put there.
    pub async fn send(&self, incoming: Incoming) -> Result<(), Gone> {
        let bytes = weight(&incoming);
        let room = if bytes < LARGE {
            None
        } else {
            // One that is larger than all the room takes all of it.
            let bytes = u32::try_from(bytes).unwrap_or(u32::MAX).min(BYTES_MAX);
            tokio::select! {
                room = self.room.clone().acquire_many_owned(bytes) => Some(room.map_err(|_| Gone)?),
                () = self.requests.closed() => return Err(Gone),
            }
        };
        self.requests.send(Waiting { incoming, _room: room }).await.map_err(|_| Gone)
    }
}

/// What a request holds in memory, roughly: enough to bound it.
fn weight(incoming: &Incoming) -> usize {
    match incoming {
        Incoming::Write { operation, .. } => weight_of_operation(operation),
        Incoming::Read { request, .. } => weight_of_read(request),
        Incoming::Rearm { watches, .. } => watches.iter().map(|(_, path)| PART + path.len()).sum(),
        Incoming::Identified { identities, .. } => {
            identities.iter().map(|Identity { scheme, id }| PART + scheme.len() + id.len()).sum()
        }
        Incoming::Refused { error, .. } => error.detail.len(),
        Incoming::Heartbeat { .. } => 0,
    }
}

/// One of many parts of a request, beside what it holds.
const PART: usize = 128;

fn weight_of_operation(operation: &Operation) -> usize {
    match operation {
        Operation::Create(create) => weight_of_create(create),
        Operation::SetData { path, data, .. } => path.len() + length(data),
        Operation::SetAcl { path, acl, .. } => path.len() + weight_of_acl(acl),
        Operation::Delete { path, .. } | Operation::DeleteRecursive { path, .. } => path.len(),
        Operation::Multi(operations) => operations.iter().map(|part| PART + weight_of_part(part)).sum(),
        Operation::Refused(error) => error.detail.len(),
        // Of a few bytes, or the cluster's own.
        Operation::OpenSession { .. }
        | Operation::Attach { .. }
        | Operation::CloseSession { .. }
        | Operation::ExpireNode { .. }
        | Operation::Set(_)
        | Operation::PublishConfig { .. }
        | Operation::DigestMark => 0,
    }
}

fn weight_of_part(part: &MultiOperation) -> usize {
    match part {
        MultiOperation::Create(create) => weight_of_create(create),
        MultiOperation::SetData { path, data, .. } => path.len() + length(data),
        MultiOperation::Delete { path, .. } | MultiOperation::Check { path, .. } => path.len(),
        MultiOperation::Guard(
            Guard::Lock { path, .. }
            | Guard::Modified { path, .. }
            | Guard::Created { path, .. }
            | Guard::Absent { path },
        ) => path.len(),
    }
}

fn weight_of_create(create: &Create) -> usize {
    create.path.len() + length(&create.data) + weight_of_acl(&create.acl)
}

fn weight_of_acl(acl: &[AclEntry]) -> usize {
    acl.iter().map(|entry| PART + entry.scheme.len() + entry.id.len()).sum()
}

fn length(data: &Option<Bytes>) -> usize {
    data.as_ref().map_or(0, Bytes::len)
}

fn weight_of_read(request: &ReadRequest) -> usize {
    match request {
        ReadRequest::Multi(requests) => requests.iter().map(|request| PART + weight_of_read(request)).sum(),
        ReadRequest::List { path, after, .. } => path.len() + after.as_ref().map_or(0, String::len),
        ReadRequest::Ephemerals { prefix: path }
        | ReadRequest::Get { path, .. }
        | ReadRequest::Exists { path, .. }
        | ReadRequest::GetAcl { path }
        | ReadRequest::CountDescendants { path }
        | ReadRequest::Sync { path }
        | ReadRequest::AddWatch { path, .. }
        | ReadRequest::RemoveWatch { path, .. }
        | ReadRequest::CheckWatch { path, .. } => path.len(),
        ReadRequest::WhoAmI | ReadRequest::Sessions => 0,
    }
}

#[cfg(test)]
mod tests {
    use quorate_core::id::WriteNumber;

    use super::*;

    fn write(bytes: usize) -> Incoming {
        let data = Some(Bytes::from(vec![0; bytes]));
        let operation = Operation::SetData { path: "/a".into(), data, version: -1 };
        Incoming::Write { number: WriteNumber(1), acknowledged: WriteNumber(0), operation }
    }

    #[tokio::test(start_paused = true)]
    async fn large_requests_wait_for_room_and_the_room_comes_back() {
        let (sender, mut receiver) = inbox();
        for _ in 0..7 {
            sender.send(write(1 << 20)).await.expect("there is room");
        }
        let patience = std::time::Duration::from_secs(60);
        let mut next = std::pin::pin!(sender.send(write(1 << 20)));
        assert!(tokio::time::timeout(patience, &mut next).await.is_err(), "the eighth is over 8 MiB");
        drop(receiver.recv().await);
        next.await.expect("room again");
    }

    #[tokio::test(start_paused = true)]
    async fn whoever_waits_for_room_hears_of_the_end() {
        let (sender, receiver) = inbox();
        sender.send(write(100 << 20)).await.expect("one of any size");
        let waits = sender.send(write(1 << 20));
        let ends = async { drop(receiver) };
        assert_eq!(tokio::join!(waits, ends).0, Err(Gone));
    }
}
