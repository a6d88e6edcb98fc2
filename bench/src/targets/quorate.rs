//! Quorate's session stream, driven by its SDK as an application would.

use bytes::Bytes;
use futures_util::StreamExt;
use quorate::recipes::{Lock, LockGuard};
use quorate::{Client, Consistency, CreateMode};

use super::{Answer, Changes, Connection, Freshness, Held};
use crate::failure::{Failure, Outcome};

struct Session {
    client: Client,
}

pub(super) async fn connect(endpoints: &[String]) -> Outcome<Box<dyn Connection>> {
    // The SDK tries its endpoints in random order; the connection's own member is wanted first.
    let client = match Client::builder().endpoints(endpoints.to_vec()).connect().await {
        Ok(client) => client,
        Err(error) => return Err(error.into()),
    };
    Ok(Box::new(Session { client }))
}

impl Connection for Session {
    fn answers_in_order(&self) -> bool {
        true
    }

    fn create(&self, path: &str, value: &Bytes) -> Answer<()> {
        let pending = self.client.create(path, value.clone()).send();
        Box::pin(async move { Ok(pending.await.map(drop)?) })
    }

    fn create_many(&self, paths: &[String], value: &Bytes) -> Answer<()> {
        let mut transaction = self.client.transaction();
        for path in paths {
            transaction = transaction.create(path, value.clone());
        }
        let pending = transaction.send();
        Box::pin(async move { Ok(pending.await.map(drop)?) })
    }

    fn create_ephemeral(&self, path: &str, value: &Bytes) -> Answer<()> {
        let pending = self.client.create(path, value.clone()).mode(CreateMode::Ephemeral).send();
        Box::pin(async move { Ok(pending.await.map(drop)?) })
    }

    fn set(&self, path: &str, value: &Bytes) -> Answer<()> {
        let pending = self.client.set(path, value.clone()).send();
        Box::pin(async move { Ok(pending.await.map(drop)?) })
    }

    fn get(&self, path: &str, freshness: Freshness) -> Answer<Bytes> {
        let consistency = match freshness {
            Freshness::Local => Consistency::Session,
            Freshness::Linearizable => Consistency::Linearizable,
        };
        let pending = self.client.get(path).consistency(consistency).send();
        Box::pin(async move { Ok(pending.await?.data.unwrap_or_default()) })
    }

    fn watch(&self, path: &str) -> Answer<Changes> {
        let pending = self.client.watch(path).send();
        Box::pin(async move {
            let changes = pending.await?.map(|event| event.map(drop).map_err(Failure::from));
            Ok(changes.boxed())
        })
    }

    fn lock(&self, path: &str) -> Answer<Box<dyn Held>> {
        let lock = Lock::new(&self.client, path);
        Box::pin(async move { Ok(Box::new(Holding { guard: lock.acquire().await? }) as Box<dyn Held>) })
    }

    fn close(self: Box<Self>) -> Answer<()> {
        let closing = self.client.close();
        Box::pin(async move { Ok(closing.await?) })
    }
}

struct Holding {
    guard: LockGuard,
}

impl Held for Holding {
    fn release(self: Box<Self>) -> Answer<()> {
        Box::pin(async move { Ok(self.guard.release().await?) })
    }
}
