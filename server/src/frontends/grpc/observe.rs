//! Watching who holds a lock or leads: the present holder, then every change. Shared by `Locks`
//! and `Elections`.

use std::pin::Pin;

use futures_util::Stream;
use quorate_core::acl::Identity;
use quorate_core::error::Error;
use quorate_core::id::Zxid;
use quorate_core::request::{ReadRequest, WatchId, WatchKind};
use quorate_core::watches::WatcherId;
use quorate_proto::v1;
use tonic::Status;

use super::caller::refused;
use super::leases::holder;
use crate::coordinator::Coordinator;
use crate::sessions::outbox::{OutboxReader, outbox};

/// A stream of answers.
pub type Observed<M> = Pin<Box<dyn Stream<Item = Result<M, Status>> + Send>>;

/// Events taken at once: however many there are, the holder is read once.
const EVENTS: usize = 1024;

/// Streams the holder of `path` as messages made by `show`.
pub async fn observe<M: Send + 'static>(
    coordinator: Coordinator,
    path: String,
    identities: Vec<Identity>,
    show: fn(Option<v1::Holder>, Zxid) -> M,
) -> Result<Observed<M>, Error> {
    coordinator.limits().check_path(&path)?;
    let (sender, reader) = outbox();
    let watcher = coordinator.local().add_watcher(sender, identities.clone());
    let observer = Observer { coordinator, path, identities, watcher, reader, last: None };
    let add = ReadRequest::AddWatch {
        id: WatchId(0),
        path: observer.path.clone(),
        kind: WatchKind::Recursive,
        since: None,
        with_value: false,
    };
    // The watch stands before the first look, so no change falls between.
    observer.coordinator.local().watch(watcher, &add)?;
    Ok(Box::pin(futures_util::stream::unfold(Some(observer), move |observer| async move {
        let mut observer = observer?;
        match observer.next().await {
            Ok((holder, zxid)) => Some((Ok(show(holder, zxid)), Some(observer))),
            Err(error) => Some((Err(refused(error)), None)),
        }
    })))
}

/// One observer; dropping it removes its watch.
struct Observer {
    coordinator: Coordinator,
    path: String,
    identities: Vec<Identity>,
    watcher: WatcherId,
    reader: OutboxReader,
    last: Option<Option<v1::Holder>>,
}

impl Observer {
    async fn next(&mut self) -> Result<(Option<v1::Holder>, Zxid), Error> {
        loop {
            if self.last.is_some() {
                self.reader.take(EVENTS).await?;
            }
            let (holder, zxid) = holder(&self.coordinator, &self.path, &self.identities).await?;
            if self.last.as_ref() != Some(&holder) {
                self.last = Some(holder.clone());
                return Ok((holder, zxid));
            }
        }
    }
}

impl Drop for Observer {
    fn drop(&mut self) {
        self.coordinator.local().remove_watcher(self.watcher);
    }
}
