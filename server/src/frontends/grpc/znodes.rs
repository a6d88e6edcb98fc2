//! `Znodes`: the tree as single calls, for scripts, grpcurl and other languages.

use std::pin::Pin;
use std::time::Duration;

use futures_util::Stream;
use quorate_core::acl::Identity;
use quorate_core::command::{Create, Operation, RequestId};
use quorate_core::error::{Error, ErrorKind};
use quorate_core::id::{Position, Zxid};
use quorate_core::reply::{ReadResult, WriteResult};
use quorate_core::request::{Consistency, ReadRequest, WatchId};
use quorate_core::watches::WatcherId;
use quorate_proto::convert::values::{acl_or_open, create_mode, expected_version, watch_kind};
use quorate_proto::convert::writes::{delete_limit, multi_operations};
use quorate_proto::convert::{WireError, consistency_or_default};
use quorate_proto::v1;
use quorate_proto::v1::watch_response::News;
use tonic::{Request, Response, Status};

use super::caller::{Callers, refused};
use crate::coordinator::Coordinator;
use crate::sessions::outbox::{OutboxReader, Outgoing, outbox};

/// Children in one message of a list.
const LIST_MESSAGE: usize = 1000;
/// A quiet watch says this often how far it has come.
const QUIET: Duration = Duration::from_secs(1);
/// Events taken at once.
const EVENTS: usize = 256;

/// The `Znodes` service.
#[derive(Debug)]
pub struct ZnodesDoor {
    callers: Callers,
}

impl ZnodesDoor {
    /// On one member.
    pub fn new(callers: Callers) -> ZnodesDoor {
        ZnodesDoor { callers }
    }

    async fn write(
        &self,
        identities: Vec<Identity>,
        operation: Operation,
        request: Option<v1::RequestId>,
    ) -> Result<(WriteResult, Zxid), Status> {
        let request: Option<RequestId> = request.map(TryInto::try_into).transpose().map_err(wire)?;
        let reply = self.callers.coordinator.write(identities, operation, request).await.map_err(refused)?;
        Ok((reply.result.map_err(refused)?, reply.zxid))
    }

    async fn read(
        &self,
        identities: &[Identity],
        request: &ReadRequest,
        consistency: Option<v1::Consistency>,
    ) -> Result<(ReadResult, Zxid), Status> {
        let consistency = consistency_or_default(consistency).map_err(wire)?;
        let reply = self.callers.coordinator.read(identities, request, consistency).await.map_err(refused)?;
        Ok((reply.result.map_err(refused)?, reply.zxid))
    }
}

type Streamed<M> = Pin<Box<dyn Stream<Item = Result<M, Status>> + Send>>;

#[tonic::async_trait]
impl v1::znodes_server::Znodes for ZnodesDoor {
    async fn create(
        &self,
        request: Request<v1::CreateRequest>,
    ) -> Result<Response<v1::CreateResponse>, Status> {
        let (message, identities) = self.callers.open(request, |message| &message.credentials)?;
        let create = Create {
            path: message.path,
            data: message.data,
            acl: acl_or_open(message.acl).map_err(wire)?,
            mode: create_mode(message.mode, message.ttl_ms).map_err(wire)?,
        };
        match self.write(identities, Operation::Create(create), message.request_id).await? {
            (WriteResult::Created { path, stat }, zxid) => {
                Ok(Response::new(v1::CreateResponse { path, stat: Some(stat.into()), zxid: zxid.0 }))
            }
            (other, _) => Err(unexpected(&other)),
        }
    }

    async fn delete(
        &self,
        request: Request<v1::DeleteRequest>,
    ) -> Result<Response<v1::DeleteResponse>, Status> {
        let (message, identities) = self.callers.open(request, |message| &message.credentials)?;
        let (path, version) = (message.path, expected_version(message.version));
        let operation = match message.recursive {
            true => Operation::DeleteRecursive { path, version, limit: delete_limit(message.limit) },
            false => Operation::Delete { path, version },
        };
        let (result, zxid) = self.write(identities, operation, message.request_id).await?;
        let count = match result {
            WriteResult::DeletedRecursive { count } => count,
            WriteResult::Deleted => 1,
            other => return Err(unexpected(&other)),
        };
        Ok(Response::new(v1::DeleteResponse { count, zxid: zxid.0 }))
    }

    async fn get(&self, request: Request<v1::GetRequest>) -> Result<Response<v1::GetResponse>, Status> {
        let (message, identities) = self.callers.open(request, |message| &message.credentials)?;
        let read = ReadRequest::Get { path: message.path, watch: None };
        match self.read(&identities, &read, message.consistency).await? {
            (ReadResult::Data { data, stat }, zxid) => {
                Ok(Response::new(v1::GetResponse { data, stat: Some(stat.into()), zxid: zxid.0 }))
            }
            (other, _) => Err(unexpected(&other)),
        }
    }

    async fn exists(
        &self,
        request: Request<v1::ExistsRequest>,
    ) -> Result<Response<v1::ExistsResponse>, Status> {
        let (message, identities) = self.callers.open(request, |message| &message.credentials)?;
        let read = ReadRequest::Exists { path: message.path, watch: None };
        let consistency = consistency_or_default(message.consistency).map_err(wire)?;
        let reply = self.callers.coordinator.read(&identities, &read, consistency).await.map_err(refused)?;
        let stat = match reply.result {
            Ok(ReadResult::Exists(stat)) => Some(stat.into()),
            Err(error) if error.kind == ErrorKind::NoNode => None,
            Ok(other) => return Err(unexpected(&other)),
            Err(error) => return Err(refused(error)),
        };
        Ok(Response::new(v1::ExistsResponse { stat, zxid: reply.zxid.0 }))
    }

    async fn set(&self, request: Request<v1::SetRequest>) -> Result<Response<v1::SetResponse>, Status> {
        let (message, identities) = self.callers.open(request, |message| &message.credentials)?;
        let operation = Operation::SetData {
            path: message.path,
            data: message.data,
            version: expected_version(message.version),
        };
        match self.write(identities, operation, message.request_id).await? {
            (WriteResult::DataSet(stat), zxid) => {
                Ok(Response::new(v1::SetResponse { stat: Some(stat.into()), zxid: zxid.0 }))
            }
            (other, _) => Err(unexpected(&other)),
        }
    }

    type ListStream = Streamed<v1::ListResponse>;

    async fn list(&self, request: Request<v1::ListRequest>) -> Result<Response<Self::ListStream>, Status> {
        let (message, identities) = self.callers.open(request, |message| &message.credentials)?;
        let read = ReadRequest::List {
            path: message.path,
            after: message.after,
            limit: message.limit,
            with_stat: message.with_stat,
            with_data: message.with_data,
            watch: None,
        };
        let (result, zxid) = self.read(&identities, &read, message.consistency).await?;
        let ReadResult::Children { children, stat, more } = result else {
            return Err(unexpected(&result));
        };
        // Read in one step, so consistent at one zxid; sent in parts.
        let mut rest = children.into_iter().peekable();
        let mut is_first = true;
        let parts = std::iter::from_fn(move || {
            if rest.peek().is_none() && !is_first {
                return None;
            }
            is_first = false;
            let children = rest.by_ref().take(LIST_MESSAGE).map(Into::into).collect();
            let more = rest.peek().is_some() || more;
            Some(Ok(v1::ListResponse { children, stat: Some(stat.into()), zxid: zxid.0, more }))
        });
        Ok(Response::new(Box::pin(futures_util::stream::iter(parts))))
    }

    async fn get_acl(
        &self,
        request: Request<v1::GetAclRequest>,
    ) -> Result<Response<v1::GetAclResponse>, Status> {
        let (message, identities) = self.callers.open(request, |message| &message.credentials)?;
        let read = ReadRequest::GetAcl { path: message.path };
        match self.read(&identities, &read, message.consistency).await? {
            (ReadResult::Acl { acl, stat }, zxid) => Ok(Response::new(v1::GetAclResponse {
                acl: Some(acl.into()),
                stat: Some(stat.into()),
                zxid: zxid.0,
            })),
            (other, _) => Err(unexpected(&other)),
        }
    }

    async fn set_acl(
        &self,
        request: Request<v1::SetAclRequest>,
    ) -> Result<Response<v1::SetAclResponse>, Status> {
        let (message, identities) = self.callers.open(request, |message| &message.credentials)?;
        let operation = Operation::SetAcl {
            path: message.path,
            acl: acl_or_open(message.acl).map_err(wire)?,
            version: expected_version(message.version),
        };
        match self.write(identities, operation, message.request_id).await? {
            (WriteResult::AclSet(stat), zxid) => {
                Ok(Response::new(v1::SetAclResponse { stat: Some(stat.into()), zxid: zxid.0 }))
            }
            (other, _) => Err(unexpected(&other)),
        }
    }

    async fn multi(&self, request: Request<v1::MultiRequest>) -> Result<Response<v1::MultiResponse>, Status> {
        let (message, identities) = self.callers.open(request, |message| &message.credentials)?;
        let limits = self.callers.coordinator.limits();
        limits.check_operations(message.operations.len()).map_err(refused)?;
        let operations = multi_operations(message.operations).map_err(wire)?;
        match self.write(identities, Operation::Multi(operations), message.request_id).await? {
            (WriteResult::Multi(results), zxid) => Ok(Response::new(v1::MultiResponse {
                results: results.into_iter().map(Into::into).collect(),
                zxid: zxid.0,
            })),
            (other, _) => Err(unexpected(&other)),
        }
    }

    async fn sync(&self, request: Request<v1::SyncRequest>) -> Result<Response<v1::SyncResponse>, Status> {
        let read = ReadRequest::Sync { path: request.into_inner().path };
        match self.read(&[], &read, None).await? {
            (ReadResult::Synced(path), zxid) => Ok(Response::new(v1::SyncResponse { path, zxid: zxid.0 })),
            (other, _) => Err(unexpected(&other)),
        }
    }

    type WatchStream = Streamed<v1::WatchResponse>;

    async fn watch(&self, request: Request<v1::WatchRequest>) -> Result<Response<Self::WatchStream>, Status> {
        let (message, identities) = self.callers.open(request, |message| &message.credentials)?;
        let kind = watch_kind(message.kind).map_err(wire)?;
        let since: Option<Position> = message.since.map(Into::into);
        let coordinator = &self.callers.coordinator;
        coordinator.limits().check_path(&message.path).map_err(refused)?;
        // A watch from now on must not miss a write that was acknowledged before it was asked for;
        // one from a position must not start on a member that is behind that position.
        let freshness = since.map_or(Consistency::Linearizable, |since| Consistency::AtLeast(since.zxid));
        coordinator.wait_fresh(freshness).await.map_err(refused)?;
        let (sender, reader) = outbox();
        let watcher = coordinator.local().add_watcher(sender, identities);
        let mut watching = Watching {
            coordinator: coordinator.clone(),
            watcher,
            reader,
            started: None,
            is_one_shot: kind.is_one_shot(),
        };
        let add = ReadRequest::AddWatch {
            id: WatchId(0),
            path: message.path,
            kind,
            since,
            with_value: message.with_value,
        };
        let zxid = coordinator.local().watch(watcher, &add).map_err(refused)?;
        watching.started = Some(since.unwrap_or(Position::after(zxid)));
        let news = futures_util::stream::unfold(Some((watching, Vec::new())), |state| async move {
            let (mut watching, mut waiting) = state?;
            match watching.next(&mut waiting).await {
                Ok(news) => {
                    let is_last = watching.is_one_shot && matches!(news, News::Event(_));
                    let rest = (!is_last).then_some((watching, waiting));
                    Some((Ok(v1::WatchResponse { news: Some(news) }), rest))
                }
                Err(reason) => Some((Err(refused(reason)), None)),
            }
        });
        Ok(Response::new(Box::pin(news)))
    }
}

/// One unary watch; dropping it removes the watch.
struct Watching {
    coordinator: Coordinator,
    watcher: WatcherId,
    reader: OutboxReader,
    started: Option<Position>,
    /// It ends behind its first event.
    is_one_shot: bool,
}

impl Watching {
    /// The next news; `waiting` holds events taken and not told yet, newest first.
    async fn next(&mut self, waiting: &mut Vec<Outgoing>) -> Result<News, Error> {
        if let Some(position) = self.started.take() {
            return Ok(News::Started(position.into()));
        }
        loop {
            if let Some(outgoing) = waiting.pop() {
                if let Outgoing::Event(event) = outgoing {
                    return Ok(News::Event((&event).into()));
                }
                continue;
            }
            match tokio::time::timeout(QUIET, self.reader.take(EVENTS)).await {
                Ok(taken) => {
                    *waiting = taken?;
                    waiting.reverse();
                    if waiting.is_empty() {
                        return Err(Error::new(ErrorKind::Unavailable, "the watch's connection has ended"));
                    }
                }
                Err(_) => {
                    if let Some(position) = self.coordinator.local().delivered_through(self.watcher) {
                        return Ok(News::DeliveredThrough(position.into()));
                    }
                }
            }
        }
    }
}

impl Drop for Watching {
    fn drop(&mut self) {
        self.coordinator.local().remove_watcher(self.watcher);
    }
}

fn wire(error: WireError) -> Status {
    refused(error)
}

fn unexpected(result: &impl std::fmt::Debug) -> Status {
    Status::internal(format!("unexpected result {result:?}"))
}
