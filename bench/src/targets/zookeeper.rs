//! ZooKeeper's wire protocol, driven by the crate `zookeeper-client`.
//!
//! Its calls are queued when they are made, but some of its futures borrow the client; those are
//! made inside a future of ours that is polled once at the call, so that they too are queued then.

use std::future::Future;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use futures_util::StreamExt;
use zookeeper_client::{Acls, AddWatchMode, Client, CreateMode, CreateOptions, EventType, LockPrefix};

use super::{Answer, Changes, Connection, Freshness, Held};
use crate::failure::{Failure, Outcome};

const PERSISTENT: CreateOptions<'static> = CreateMode::Persistent.with_acls(Acls::anyone_all());
const EPHEMERAL: CreateOptions<'static> = CreateMode::Ephemeral.with_acls(Acls::anyone_all());

struct Session {
    client: Arc<Client>,
}

pub(super) async fn connect(endpoints: &[String]) -> Outcome<Box<dyn Connection>> {
    let client = Client::connector().connect(&endpoints.join(",")).await?;
    Ok(Box::new(Session { client: Arc::new(client) }))
}

/// Polls a future once without a waker, which queues the request inside it. Whoever awaits it
/// afterwards is woken, because that poll leaves its own waker.
fn queued<T: Send + 'static>(future: impl Future<Output = Outcome<T>> + Send + 'static) -> Answer<T> {
    let mut future = Box::pin(future);
    match future.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Pending => future,
        Poll::Ready(outcome) => Box::pin(std::future::ready(outcome)),
    }
}

impl Session {
    fn create_node(&self, path: &str, value: &Bytes, options: CreateOptions<'static>) -> Answer<()> {
        let (client, path, value) = (self.client.clone(), path.to_owned(), value.clone());
        queued(async move { Ok(client.create(&path, &value, &options).await.map(drop)?) })
    }
}

impl Connection for Session {
    fn answers_in_order(&self) -> bool {
        true
    }

    fn create(&self, path: &str, value: &Bytes) -> Answer<()> {
        self.create_node(path, value, PERSISTENT)
    }

    fn create_many(&self, paths: &[String], value: &Bytes) -> Answer<()> {
        let (client, paths, value) = (self.client.clone(), paths.to_vec(), value.clone());
        queued(async move {
            let mut writer = client.new_multi_writer();
            for path in &paths {
                writer.add_create(path, &value, &PERSISTENT)?;
            }
            Ok(writer.commit().await.map(drop)?)
        })
    }

    fn create_ephemeral(&self, path: &str, value: &Bytes) -> Answer<()> {
        self.create_node(path, value, EPHEMERAL)
    }

    fn set(&self, path: &str, value: &Bytes) -> Answer<()> {
        let (client, path, value) = (self.client.clone(), path.to_owned(), value.clone());
        queued(async move { Ok(client.set_data(&path, &value, None).await.map(drop)?) })
    }

    fn get(&self, path: &str, freshness: Freshness) -> Answer<Bytes> {
        let (client, path) = (self.client.clone(), path.to_owned());
        queued(async move {
            // Both are queued at once: the session's order makes the read come behind the sync.
            let sync = (freshness == Freshness::Linearizable).then(|| client.sync(&path));
            let get = client.get_data(&path);
            if let Some(sync) = sync {
                sync.await?;
            }
            Ok(Bytes::from(get.await?.0))
        })
    }

    fn watch(&self, path: &str) -> Answer<Changes> {
        let (client, path) = (self.client.clone(), path.to_owned());
        queued(async move {
            let watcher = client.watch(&path, AddWatchMode::Persistent).await?;
            let changes = futures_util::stream::unfold(Some(watcher), |watcher| async move {
                let mut watcher = watcher?;
                let event = watcher.changed().await;
                if event.event_type != EventType::Session {
                    return Some((Ok(()), Some(watcher)));
                }
                Some((Err(Failure::from(format!("watch: {:?}", event.session_state))), None))
            });
            Ok(changes.boxed())
        })
    }

    fn lock(&self, path: &str) -> Answer<Box<dyn Held>> {
        let (client, path) = (self.client.clone(), path.to_owned());
        Box::pin(async move {
            let prefix = LockPrefix::new_curator(&path, "lock-")?;
            let lock = client.lock(prefix, b"", Acls::anyone_all()).await?.into_owned();
            Ok(Box::new(Holding { lock }) as Box<dyn Held>)
        })
    }

    fn close(self: Box<Self>) -> Answer<()> {
        // The crate closes the session when its last handle goes, and does not say when that is
        // done; the state's watcher does.
        let mut states = self.client.state_watcher();
        drop(self);
        Box::pin(async move {
            while !states.changed().await.is_terminated() {}
            Ok(())
        })
    }
}

struct Holding {
    lock: zookeeper_client::OwnedLockClient,
}

impl Held for Holding {
    fn release(self: Box<Self>) -> Answer<()> {
        // Dropping it queues the deletion.
        drop(self.lock);
        Box::pin(async { Ok(()) })
    }
}
