//! Leases: locks and leaderships for callers that hold no stream.
//!
//! A lease is a session of its own with one ephemeral, numbered node under the lock's node. The
//! first child in name order holds the lock; its token is the transaction that created it, so
//! tokens grow with every grant, also across the deletion of the lock's node. Extending a lease
//! touches its session; releasing ends it.

use std::time::Duration;

use bytes::Bytes;
use quorate_core::acl::{AclEntry, Identity};
use quorate_core::command::{Create, Operation, RequestId};
use quorate_core::error::{Error, ErrorKind};
use quorate_core::id::{SessionId, WriteNumber, Zxid};
use quorate_core::reply::{Child, ReadReply, ReadResult, WriteResult};
use quorate_core::request::{Consistency, ReadRequest, WatchId};
use quorate_core::znode::CreateMode;
use quorate_proto::convert::bytes16;
use quorate_proto::v1;
use tokio::time::Instant;

use crate::coordinator::Coordinator;
use crate::coordinator::connection::{Connect, Connection};
use crate::sessions::inbox::Incoming;
use crate::sessions::outbox::Outgoing;

/// What contenders' names start with; the same for all, so that name order is queue order.
const CONTENDER: &str = "lock-";

/// What a caller wants to hold.
#[derive(Debug)]
pub struct Wanted {
    /// The lock's node.
    pub path: String,
    /// How long the lease lives without being extended.
    pub ttl_ms: u32,
    /// How long to wait; `None` is as long as the call lasts.
    pub wait: Option<Duration>,
    /// The contender's data.
    pub data: Option<Bytes>,
    /// Makes a retry harmless.
    pub request: Option<RequestId>,
    /// Who asks.
    pub identities: Vec<Identity>,
}

/// Queues for a lock and waits until it is held.
///
/// # Cancel safety
/// Dropping the future leaves the queue.
pub async fn acquire(coordinator: &Coordinator, wanted: Wanted) -> Result<v1::Lease, Error> {
    let deadline = wanted.wait.map(|wait| Instant::now() + wait);
    create_parents(coordinator, &wanted.path, &wanted.identities).await?;
    let connect = Connect {
        resume: match wanted.request {
            Some(request) => {
                Some(coordinator.open_session_once(wanted.ttl_ms, wanted.identities.clone(), request).await?)
            }
            None => None,
        },
        timeout_ms: wanted.ttl_ms,
        last_zxid_seen: Zxid(0),
        acknowledged: WriteNumber(0),
        identities: wanted.identities,
    };
    let connection = coordinator.connect(connect).await?;
    let session = (connection.attachment.session, connection.attachment.password);
    let mut abandon = Abandon { coordinator: coordinator.clone(), session: Some(session) };
    let mut queue = Queue { coordinator, connection, xid: 0 };
    let (contender, token) = queue.enter(&wanted.path, wanted.data).await?;
    let granted = queue.wait_first(&wanted.path, &contender);
    match deadline {
        None => granted.await?,
        Some(deadline) => match tokio::time::timeout_at(deadline, granted).await {
            Ok(granted) => granted?,
            Err(_) => {
                return Err(Error::new(
                    ErrorKind::NodeExists,
                    format!("{} is held by somebody else; the wait is over", wanted.path),
                ));
            }
        },
    }
    abandon.session = None;
    Ok(v1::Lease {
        session_id: session.0.0,
        password: Bytes::copy_from_slice(&session.1),
        path: contender,
        token: token.0,
        ttl_ms: queue.connection.attachment.timeout_ms,
    })
}

/// Gives a lease up; the transaction, or 0 if it had ended before.
pub async fn release(coordinator: &Coordinator, lease: Option<v1::Lease>) -> Result<Zxid, Error> {
    let (session, password) = key(lease.as_ref())?;
    match coordinator.close_session(session, password).await {
        Ok(zxid) => Ok(zxid),
        Err(error) if error.kind == ErrorKind::SessionExpired => Ok(Zxid(0)),
        Err(error) => Err(error),
    }
}

/// A lease's session and its password.
pub fn key(lease: Option<&v1::Lease>) -> Result<(SessionId, [u8; 16]), Error> {
    let Some(lease) = lease else {
        return Err(Error::new(ErrorKind::BadArguments, "lease is missing"));
    };
    Ok((SessionId(lease.session_id), bytes16(&lease.password, "lease.password")?))
}

/// The present holder of a lock, with its node's data.
pub async fn holder(
    coordinator: &Coordinator,
    path: &str,
    identities: &[Identity],
) -> Result<(Option<v1::Holder>, Zxid), Error> {
    let list = ReadRequest::List {
        path: path.into(),
        after: None,
        limit: 1,
        with_stat: true,
        with_data: true,
        watch: None,
    };
    let reply = coordinator.read(identities, &list, Consistency::Linearizable).await?;
    let holder = match reply.result {
        Ok(ReadResult::Children { children, stat, .. }) => {
            let waiting = u32::try_from(stat.num_children - 1).unwrap_or(0);
            children.into_iter().next().map(|Child { name, stat, data }| v1::Holder {
                path: format!("{}/{name}", path.trim_end_matches('/')),
                token: stat.map_or(0, |stat| stat.czxid.0),
                data,
                waiting,
            })
        }
        Ok(other) => return Err(Error::new(ErrorKind::Internal, format!("list answered {other:?}"))),
        Err(error) if error.kind == ErrorKind::NoNode => None,
        Err(error) => return Err(error),
    };
    Ok((holder, reply.zxid))
}

/// Creates a lock's node and those above it.
async fn create_parents(coordinator: &Coordinator, path: &str, identities: &[Identity]) -> Result<(), Error> {
    quorate_core::path::validate(path)?;
    let exists = ReadRequest::Exists { path: path.into(), watch: None };
    if coordinator.read(identities, &exists, Consistency::Session).await?.result.is_ok() {
        return Ok(());
    }
    let ends = path.char_indices().skip(1).filter(|(_, letter)| *letter == '/').map(|(index, _)| index);
    for end in ends.chain([path.len()]) {
        let create = Create {
            path: path[..end].into(),
            data: None,
            acl: AclEntry::open(),
            mode: CreateMode::Persistent,
        };
        match coordinator.write(identities.to_vec(), Operation::Create(create), None).await?.result {
            Ok(_) => {}
            Err(error) if error.kind == ErrorKind::NodeExists => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Ends the lease's session unless it was handed to the caller.
struct Abandon {
    coordinator: Coordinator,
    session: Option<(SessionId, [u8; 16])>,
}

impl Drop for Abandon {
    fn drop(&mut self) {
        if let Some((session, password)) = self.session {
            self.coordinator.abandon_session(session, password);
        }
    }
}

/// A contender in its lock's queue, on a connection of its own.
struct Queue<'a> {
    coordinator: &'a Coordinator,
    connection: Connection,
    xid: u64,
}

impl Queue<'_> {
    /// Creates the contender's node, once: the session's first write. Its path and token.
    async fn enter(&mut self, path: &str, data: Option<Bytes>) -> Result<(String, Zxid), Error> {
        if self.connection.attachment.last_applied == WriteNumber(0) {
            let create = Create {
                path: format!("{}/{CONTENDER}", path.trim_end_matches('/')),
                data,
                acl: AclEntry::open(),
                mode: CreateMode::EphemeralSequential,
            };
            self.send(Incoming::Write {
                number: WriteNumber(1),
                acknowledged: WriteNumber(0),
                operation: Operation::Create(create),
            })
            .await?;
        }
        loop {
            for outgoing in self.connection.outbox.take(16).await? {
                if let Outgoing::Write { reply, .. } = outgoing {
                    return match reply.result? {
                        WriteResult::Created { path, stat } => Ok((path, stat.czxid)),
                        other => Err(Error::new(ErrorKind::Internal, format!("create answered {other:?}"))),
                    };
                }
            }
        }
    }

    /// Waits until `contender` is the first child, watching only the one before it.
    async fn wait_first(&mut self, path: &str, contender: &str) -> Result<(), Error> {
        let own = contender.rsplit('/').next().unwrap_or(contender).to_owned();
        loop {
            let list = ReadRequest::List {
                path: path.into(),
                after: None,
                limit: 0,
                with_stat: false,
                with_data: false,
                watch: None,
            };
            let ReadResult::Children { children, .. } = self.ask(list).await? else {
                return Err(Error::new(ErrorKind::Internal, "list answered something else"));
            };
            let before =
                children.iter().map(|child| child.name.as_str()).take_while(|name| *name < own.as_str());
            let Some(before) = before.last() else {
                return match children.iter().any(|child| child.name == own) {
                    true => Ok(()),
                    false => Err(Error::new(ErrorKind::SessionExpired, "the contender's node is gone")),
                };
            };
            let path = format!("{}/{before}", path.trim_end_matches('/'));
            match self.ask(ReadRequest::Exists { path, watch: Some(WatchId(1)) }).await {
                Ok(_) => self.wait_event().await?,
                Err(error) if error.kind == ErrorKind::NoNode => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// Waits for the watched node to go, keeping the session alive meanwhile.
    async fn wait_event(&mut self) -> Result<(), Error> {
        let pause = Duration::from_millis(u64::from(self.connection.attachment.timeout_ms) / 3);
        loop {
            match tokio::time::timeout(pause, self.connection.outbox.take(16)).await {
                Ok(taken) => {
                    if taken?.iter().any(|outgoing| matches!(outgoing, Outgoing::Event(_))) {
                        return Ok(());
                    }
                }
                Err(_) => self.send(Incoming::Heartbeat { sequence: 0 }).await?,
            }
        }
    }

    async fn ask(&mut self, request: ReadRequest) -> Result<ReadResult, Error> {
        self.xid += 1;
        let asked = self.xid;
        self.send(Incoming::Read { xid: asked, request, consistency: Consistency::Session }).await?;
        loop {
            for outgoing in self.connection.outbox.take(1).await? {
                if let Outgoing::Read { xid, reply: ReadReply { result, .. } } = outgoing
                    && xid == asked
                {
                    return result;
                }
            }
        }
    }

    async fn send(&self, incoming: Incoming) -> Result<(), Error> {
        self.connection.inbox.send(incoming).await.map_err(|_| {
            Error::new(
                ErrorKind::Unavailable,
                format!("member {} lost the lease's session", self.coordinator.member()),
            )
        })
    }
}
