//! etcd's v3 API over tonic, with a client generated from proto/etcd.proto.
//!
//! The crate `etcd-client` is not used because building it needs protoc. This client does the same
//! with less: no retries, no token, one HTTP/2 connection a [`Connection`].

use bytes::Bytes;
use futures_util::StreamExt;
use tokio::sync::OnceCell;
use tonic::transport::{Channel, Endpoint};

use super::{Answer, Changes, Connection, Freshness, Held};
use crate::failure::{Failure, Outcome};
use crate::generated::etcdserverpb::compare::{CompareTarget, TargetUnion};
use crate::generated::etcdserverpb::kv_client::KvClient;
use crate::generated::etcdserverpb::lease_client::LeaseClient;
use crate::generated::etcdserverpb::maintenance_client::MaintenanceClient;
use crate::generated::etcdserverpb::request_op::Request;
use crate::generated::etcdserverpb::watch_client::WatchClient;
use crate::generated::etcdserverpb::watch_request::RequestUnion;
use crate::generated::etcdserverpb::{
    Compare, LeaseGrantRequest, LeaseRevokeRequest, PutRequest, RangeRequest, RequestOp, StatusRequest,
    StatusResponse, TxnRequest, WatchCreateRequest, WatchRequest,
};
use crate::generated::v3lockpb::lock_client::LockClient;
use crate::generated::v3lockpb::{LockRequest, UnlockRequest};

/// A lease's time to live: as long as the other targets' sessions.
const LEASE_SECONDS: i64 = 10;

struct Session {
    channel: Channel,
    kv: KvClient<Channel>,
    lease: std::sync::Arc<OnceCell<i64>>,
}

pub(super) async fn connect(endpoints: &[String]) -> Outcome<Box<dyn Connection>> {
    let mut failure = Failure::from("no endpoint");
    for endpoint in endpoints {
        match channel(endpoint).await {
            Ok(channel) => {
                let kv = KvClient::new(channel.clone());
                return Ok(Box::new(Session { channel, kv, lease: Default::default() }));
            }
            Err(error) => failure = error,
        }
    }
    Err(failure)
}

async fn channel(endpoint: &str) -> Outcome<Channel> {
    Ok(Endpoint::from_shared(format!("http://{endpoint}"))?.tcp_nodelay(true).connect().await?)
}

/// What a member says of itself and its leader.
pub async fn status(endpoint: &str) -> Outcome<StatusResponse> {
    let mut client = MaintenanceClient::new(channel(endpoint).await?);
    Ok(client.status(StatusRequest {}).await?.into_inner())
}

async fn grant(channel: Channel) -> Outcome<i64> {
    let request = LeaseGrantRequest { ttl: LEASE_SECONDS };
    Ok(LeaseClient::new(channel).lease_grant(request).await?.into_inner().id)
}

fn key(path: &str) -> Bytes {
    Bytes::copy_from_slice(path.as_bytes())
}

fn creation<'a>(paths: impl Iterator<Item = &'a str>, value: &Bytes, lease: i64) -> TxnRequest {
    let mut transaction = TxnRequest::default();
    for path in paths {
        let key = key(path);
        transaction.compare.push(Compare {
            target: CompareTarget::Create.into(),
            key: key.clone(),
            target_union: Some(TargetUnion::CreateRevision(0)),
        });
        let put = Request::RequestPut(PutRequest { key, value: value.clone(), lease });
        transaction.success.push(RequestOp { request: Some(put) });
    }
    transaction
}

async fn commit(mut kv: KvClient<Channel>, transaction: TxnRequest) -> Outcome<()> {
    if kv.txn(transaction).await?.into_inner().succeeded {
        return Ok(());
    }
    Err("a key exists already".into())
}

impl Connection for Session {
    fn answers_in_order(&self) -> bool {
        false
    }

    fn create(&self, path: &str, value: &Bytes) -> Answer<()> {
        Box::pin(commit(self.kv.clone(), creation([path].into_iter(), value, 0)))
    }

    fn create_many(&self, paths: &[String], value: &Bytes) -> Answer<()> {
        let transaction = creation(paths.iter().map(String::as_str), value, 0);
        Box::pin(commit(self.kv.clone(), transaction))
    }

    fn create_ephemeral(&self, path: &str, value: &Bytes) -> Answer<()> {
        let (channel, kv, lease) = (self.channel.clone(), self.kv.clone(), self.lease.clone());
        let (path, value) = (path.to_owned(), value.clone());
        Box::pin(async move {
            let lease = *lease.get_or_try_init(|| grant(channel)).await?;
            commit(kv, creation([path.as_str()].into_iter(), &value, lease)).await
        })
    }

    fn set(&self, path: &str, value: &Bytes) -> Answer<()> {
        let mut kv = self.kv.clone();
        let request = PutRequest { key: key(path), value: value.clone(), lease: 0 };
        Box::pin(async move { Ok(kv.put(request).await.map(drop)?) })
    }

    fn get(&self, path: &str, freshness: Freshness) -> Answer<Bytes> {
        let mut kv = self.kv.clone();
        let request = RangeRequest { key: key(path), serializable: freshness == Freshness::Local };
        Box::pin(async move {
            let found = kv.range(request).await?.into_inner().kvs.pop();
            Ok(found.ok_or("no such key")?.value)
        })
    }

    fn watch(&self, path: &str) -> Answer<Changes> {
        let mut client = WatchClient::new(self.channel.clone());
        let create = RequestUnion::CreateRequest(WatchCreateRequest { key: key(path) });
        let request = WatchRequest { request_union: Some(create) };
        Box::pin(async move {
            // The request stream stays open: its end would be the watch's.
            let requests = tokio_stream::once(request).chain(tokio_stream::pending());
            let mut answers = client.watch(requests).await?.into_inner();
            match answers.message().await? {
                Some(answer) if answer.created => {}
                other => return Err(format!("no watch: {other:?}").into()),
            }
            let changes = answers.flat_map(|answer| {
                let told: Vec<Outcome<()>> = match answer {
                    Ok(answer) if answer.canceled => vec![Err("the watch was cancelled".into())],
                    Ok(answer) => answer.events.iter().map(|_| Ok(())).collect(),
                    Err(status) => vec![Err(status.into())],
                };
                futures_util::stream::iter(told)
            });
            Ok(changes.boxed())
        })
    }

    fn lock(&self, path: &str) -> Answer<Box<dyn Held>> {
        let (channel, lease) = (self.channel.clone(), self.lease.clone());
        let name = key(path);
        Box::pin(async move {
            let lease = *lease.get_or_try_init(|| grant(channel.clone())).await?;
            let mut client = LockClient::new(channel);
            let key = client.lock(LockRequest { name, lease }).await?.into_inner().key;
            Ok(Box::new(Holding { client, key }) as Box<dyn Held>)
        })
    }

    fn close(self: Box<Self>) -> Answer<()> {
        Box::pin(async move {
            if let Some(lease) = self.lease.get() {
                let request = LeaseRevokeRequest { id: *lease };
                LeaseClient::new(self.channel.clone()).lease_revoke(request).await?;
            }
            Ok(())
        })
    }
}

struct Holding {
    client: LockClient<Channel>,
    key: Bytes,
}

impl Held for Holding {
    fn release(mut self: Box<Self>) -> Answer<()> {
        Box::pin(async move {
            self.client.unlock(UnlockRequest { key: self.key }).await?;
            Ok(())
        })
    }
}
