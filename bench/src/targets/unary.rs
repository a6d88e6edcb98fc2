//! Quorate's Znodes service: unary gRPC calls without a session, as scripts and other languages
//! make them.

use bytes::Bytes;
use quorate::Client;
use quorate::proto::consistency::Level;
use quorate::proto::znodes_client::ZnodesClient;
use quorate::proto::{CreateRequest, GetRequest, SetRequest};
use tonic::transport::Channel;

use super::{Answer, Changes, Connection, Freshness, Held, unsupported};
use crate::failure::Outcome;

struct Calls {
    client: ZnodesClient<Channel>,
}

pub(super) async fn connect(endpoints: &[String]) -> Outcome<Box<dyn Connection>> {
    let channel = Client::builder().endpoints(endpoints.first().cloned()).channel().await?;
    Ok(Box::new(Calls { client: ZnodesClient::new(channel) }))
}

impl Connection for Calls {
    fn answers_in_order(&self) -> bool {
        false
    }

    fn create(&self, path: &str, value: &Bytes) -> Answer<()> {
        let mut client = self.client.clone();
        let request =
            CreateRequest { path: path.to_owned(), data: Some(value.clone()), ..CreateRequest::default() };
        Box::pin(async move { Ok(client.create(request).await.map(drop)?) })
    }

    fn create_many(&self, _paths: &[String], _value: &Bytes) -> Answer<()> {
        unsupported("a transaction")
    }

    fn create_ephemeral(&self, _path: &str, _value: &Bytes) -> Answer<()> {
        unsupported("an ephemeral node")
    }

    fn set(&self, path: &str, value: &Bytes) -> Answer<()> {
        let mut client = self.client.clone();
        let request =
            SetRequest { path: path.to_owned(), data: Some(value.clone()), ..SetRequest::default() };
        Box::pin(async move { Ok(client.set(request).await.map(drop)?) })
    }

    fn get(&self, path: &str, freshness: Freshness) -> Answer<Bytes> {
        let mut client = self.client.clone();
        let level = match freshness {
            Freshness::Local => Level::Session,
            Freshness::Linearizable => Level::Linearizable,
        };
        let mut request = GetRequest { path: path.to_owned(), ..GetRequest::default() };
        request.consistency.get_or_insert_default().level = level.into();
        Box::pin(async move { Ok(client.get(request).await?.into_inner().data.unwrap_or_default()) })
    }

    fn watch(&self, _path: &str) -> Answer<Changes> {
        unsupported("a watch")
    }

    fn lock(&self, _path: &str) -> Answer<Box<dyn Held>> {
        unsupported("a lock")
    }

    fn close(self: Box<Self>) -> Answer<()> {
        Box::pin(async { Ok(()) })
    }
}
