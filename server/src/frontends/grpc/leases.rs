//! Leases: locks and leaderships for callers that hold no stream.
//!
//! A lease is a session of its own with one ephemeral, numbered node under the lock's node. The
//! first of these in name order holds the lock, whatever else is there; its token is the transaction
//! that created it, so tokens grow with every grant, also across the deletion of the lock's node.
//! Extending a lease touches its session; releasing ends it.
//!
//! A call under a request id shares its session with its retries, on whichever member: a retry goes on
//! where the call was, and the call never ends the session under it. What nobody goes on with ends by the
//! session's timeout, a place in the queue too.

use std::time::Duration;

use bytes::Bytes;
use quorate_core::acl::{AclEntry, Identity};
use quorate_core::command::{CONTENDER, CloseReason, Create, Operation, RequestId, is_contender};
use quorate_core::error::{Error, ErrorKind};
use quorate_core::id::{SessionId, WriteNumber, Zxid};
use quorate_core::reply::{Child, ReadReply, ReadResult, WriteResult};
use quorate_core::request::{Consistency, ReadRequest, WatchId};
use quorate_core::znode::CreateMode;
use quorate_proto::convert::bytes16;
use quorate_proto::v1;
use tokio::time::{Instant, timeout, timeout_at};

use crate::coordinator::Coordinator;
use crate::coordinator::connection::{Connect, Connection};
use crate::coordinator::registrar::Abandon;
use crate::sessions::inbox::Incoming;
use crate::sessions::outbox::Outgoing;

/// A contender whose wait is over gets so long to leave; then its session is left to its timeout.
const LEAVING: Duration = Duration::from_secs(2);

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
/// Dropping the future leaves the queue: at once or, under a request id, when the lease's time is over and
/// no retry has gone on with it.
pub async fn acquire(coordinator: &Coordinator, wanted: Wanted) -> Result<v1::Lease, Error> {
    let deadline = wanted.wait.map(|wait| Instant::now() + wait);
    create_parents(coordinator, &wanted.path, &wanted.identities).await?;
    let connect = Connect {
        resume: match wanted.request.clone() {
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
    let mut abandon = Abandon::new(coordinator, &connection, wanted.request.as_ref());
    let mut queue = Queue::new(coordinator, connection);
    let granted = queue.take_turn(&wanted.path, wanted.data, deadline).await;
    if !matches!(granted, Ok(None)) {
        abandon.settle(&granted);
    } else if queue.leave().await {
        abandon.keep();
    }
    let Some((contender, token)) = granted? else {
        return Err(Error::new(
            ErrorKind::NodeExists,
            format!("{} is held by somebody else; the wait is over", wanted.path),
        ));
    };
    let attachment = queue.connection.attachment;
    Ok(v1::Lease {
        session_id: attachment.session.0,
        password: Bytes::copy_from_slice(&attachment.password),
        path: contender,
        token: token.0,
        ttl_ms: attachment.timeout_ms,
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
    let list = |limit, is_full| ReadRequest::List {
        path: path.into(),
        after: Some(CONTENDER.into()),
        limit,
        with_stat: is_full,
        with_data: is_full,
        watch: None,
    };
    // The first with its data, and everybody's names, in one view.
    let lists = ReadRequest::Multi(vec![list(1, true), list(0, false)]);
    let reply = coordinator.read(identities, &lists, Consistency::Linearizable).await?;
    let results = match reply.result? {
        ReadResult::Multi(results) => results,
        other => return Err(Error::new(ErrorKind::Internal, format!("a multi-read answered {other:?}"))),
    };
    let (first, all) = match &results[..] {
        [
            Ok(ReadResult::Children { children: first, .. }),
            Ok(ReadResult::Children { children: all, .. }),
        ] => (first.first().filter(|child| is_contender(&child.name)), all),
        [Err(error), ..] if error.kind == ErrorKind::NoNode => (None, &Vec::new()),
        [Err(error), ..] | [_, Err(error)] => return Err(error.clone()),
        other => return Err(Error::new(ErrorKind::Internal, format!("lists answered {other:?}"))),
    };
    let holder = first.map(|Child { name, stat, data }| v1::Holder {
        path: format!("{}/{name}", path.trim_end_matches('/')),
        token: stat.map_or(0, |stat| stat.czxid.0),
        data: data.clone(),
        waiting: u32::try_from(all.iter().filter(|child| is_contender(&child.name)).count() - 1)
            .unwrap_or(u32::MAX),
    });
    Ok((holder, reply.zxid))
}

/// Creates a lock's node and those above it.
async fn create_parents(coordinator: &Coordinator, path: &str, identities: &[Identity]) -> Result<(), Error> {
    quorate_core::path::validate(path)?;
    let exists = ReadRequest::Exists { path: path.into(), watch: None };
    if coordinator.read(identities, &exists, Consistency::Linearizable).await?.result.is_ok() {
        return Ok(());
    }
    let ends = path.char_indices().skip(1).filter(|(_, letter)| *letter == '/').map(|(index, _)| index);
    let nodes = ends.chain([path.len()]).map(|end| (path[..end].to_string(), CreateMode::Persistent));
    coordinator.make_nodes(nodes, identities).await
}

/// A contender in its lock's queue, on a connection of its own.
struct Queue<'a> {
    coordinator: &'a Coordinator,
    connection: Connection,
    /// The session's last write.
    written: WriteNumber,
    xid: u64,
}

impl<'a> Queue<'a> {
    fn new(coordinator: &'a Coordinator, connection: Connection) -> Queue<'a> {
        Queue { coordinator, written: connection.attachment.last_applied, connection, xid: 0 }
    }

    /// Queues and waits until the contender is first. Its path and token; `None` if the wait is over.
    async fn take_turn(
        &mut self,
        path: &str,
        data: Option<Bytes>,
        deadline: Option<Instant>,
    ) -> Result<Option<(String, Zxid)>, Error> {
        let (contender, token) = self.enter(path, data).await?;
        let is_first = self.wait_first(path, &contender, deadline).await?;
        Ok(is_first.then_some((contender, token)))
    }

    /// Creates the contender's node, once: the session's first write. Its path and token.
    async fn enter(&mut self, path: &str, data: Option<Bytes>) -> Result<(String, Zxid), Error> {
        if self.written == WriteNumber(0) {
            self.written = WriteNumber(1);
            let create = Create {
                path: format!("{}/{CONTENDER}", path.trim_end_matches('/')),
                data,
                acl: AclEntry::open(),
                mode: CreateMode::EphemeralSequential,
            };
            self.send(Incoming::Write {
                number: self.written,
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

    /// Ends the session by a write of this connection, from which a retry's connection is safe. Whether it
    /// is ours no more: it has ended, or moved.
    async fn leave(&mut self) -> bool {
        let session = self.connection.attachment.session;
        let operation = Operation::CloseSession { session, reason: CloseReason::ByOwner };
        let (number, acknowledged) = (self.written.next(), self.written);
        let end = async {
            self.send(Incoming::Write { number, acknowledged, operation }).await?;
            while !self.connection.outbox.take(16).await?.is_empty() {}
            Ok(())
        };
        let end: Result<Result<(), Error>, _> = timeout(LEAVING, end).await;
        let is_over = |kind| matches!(kind, ErrorKind::SessionExpired | ErrorKind::SessionMoved);
        end.is_ok_and(|end| end.is_err_and(|error| is_over(error.kind)))
    }

    /// Waits until `contender` is the first of all, watching only the one before it; false if it is not
    /// when the wait is over.
    async fn wait_first(
        &mut self,
        path: &str,
        contender: &str,
        deadline: Option<Instant>,
    ) -> Result<bool, Error> {
        let own = contender.rsplit('/').next().unwrap_or(contender).to_owned();
        loop {
            let list = ReadRequest::List {
                path: path.into(),
                after: Some(CONTENDER.into()),
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
                    true => Ok(true),
                    false => Err(Error::new(ErrorKind::SessionExpired, "the contender's node is gone")),
                };
            };
            let path = format!("{}/{before}", path.trim_end_matches('/'));
            match self.ask(ReadRequest::Exists { path, watch: Some(WatchId(1)) }).await {
                Ok(_) => {
                    if !self.wait_event(deadline).await? {
                        return Ok(false);
                    }
                }
                Err(error) if error.kind == ErrorKind::NoNode => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// Waits for the watched node to go, keeping the session alive meanwhile; false if the wait is over
    /// before.
    async fn wait_event(&mut self, deadline: Option<Instant>) -> Result<bool, Error> {
        let pause = Duration::from_millis(u64::from(self.connection.attachment.timeout_ms) / 3);
        loop {
            let next = Instant::now() + pause;
            let until = deadline.map_or(next, |deadline| deadline.min(next));
            match timeout_at(until, self.connection.outbox.take(16)).await {
                Ok(taken) => {
                    if taken?.iter().any(|outgoing| matches!(outgoing, Outgoing::Event(_))) {
                        return Ok(true);
                    }
                }
                Err(_) if until < next => return Ok(false),
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
