//! `Ring`: which instance owns a key, for callers that build no ring themselves.

use std::pin::Pin;
use std::sync::Arc;

use futures_util::Stream;
use quorate_core::acl::Identity;
use quorate_core::error::{Error, ErrorKind};
use quorate_core::id::Zxid;
use quorate_core::registry::Status::Draining;
use quorate_core::registry::{Entry, Service, ServiceName};
use quorate_core::request::Consistency;
use quorate_core::ring::{Ring as ConsistentRing, hash_key};
use quorate_proto::convert::consistency_or_default;
use quorate_proto::convert::ring::ring;
use quorate_proto::v1;
use tonic::{Request, Response, Status};

use super::caller::{Callers, refused};

/// Replicas of one look-up.
const REPLICAS_MAX: u32 = 100;
/// Bytes of a key.
const KEY_BYTES_MAX: usize = 64 * 1024;

/// The `Ring` service.
#[derive(Debug)]
pub struct RingDoor {
    callers: Callers,
}

impl RingDoor {
    /// On one member.
    pub fn new(callers: Callers) -> RingDoor {
        RingDoor { callers }
    }

    /// A service at a version, or (version 0) now.
    async fn service(
        &self,
        name: &ServiceName,
        version: u64,
        consistency: Consistency,
    ) -> Result<Arc<Service>, Error> {
        let coordinator = &self.callers.coordinator;
        let fresh = if version == 0 { consistency } else { Consistency::AtLeast(Zxid(version)) };
        coordinator.wait_directory(fresh).await?;
        match version {
            0 => Ok(coordinator.service(name)),
            version => coordinator.service_at(name, Zxid(version)),
        }
    }

    /// The same for a caller who may see all of its instances: a ring shows them.
    async fn service_in_full(
        &self,
        name: &ServiceName,
        version: u64,
        identities: &[Identity],
    ) -> Result<Arc<Service>, Error> {
        let service = self.service(name, version, Consistency::Linearizable).await?;
        let now = self.callers.coordinator.service(name);
        self.judge(name, now.entries(), identities)?;
        Ok(service)
    }

    /// Refuses a caller who may not see all of these. Those that are gone meanwhile have no ACL any more.
    fn judge<'a>(
        &self,
        name: &ServiceName,
        shown: impl IntoIterator<Item = &'a Arc<Entry>>,
        identities: &[Identity],
    ) -> Result<(), Error> {
        let coordinator = &self.callers.coordinator;
        let mut shown: Vec<&Arc<Entry>> = shown.into_iter().collect();
        loop {
            let now = coordinator.service(name);
            shown.retain(|entry| now.entry(&entry.instance.id).is_some());
            if coordinator.visible(name, shown.iter().copied(), identities).len() == shown.len() {
                return Ok(());
            }
            // One that went between the two looks is not hidden.
            if coordinator.service(name).version() == now.version() {
                return Err(Error::new(ErrorKind::NoAuth, name.path()));
            }
        }
    }
}

/// What a follower has.
struct Told {
    ring: Arc<ConsistentRing>,
    message: v1::GetRingResponse,
}

impl Told {
    /// Whether a version has the same ring, as far as that is seen without comparing points: versions
    /// whose members are the same share it.
    fn is_ring_of(&self, service: &Service) -> bool {
        let now = service.ring();
        let draining = service.entries().iter().filter(|entry| entry.instance.status() == Draining);
        Arc::ptr_eq(&now.ring, &self.ring)
            && now.is_panicking == self.message.panicking
            && draining.map(|entry| &entry.instance.id).eq(&self.message.draining)
    }
}

/// A stream of answers.
type Streamed<M> = Pin<Box<dyn Stream<Item = Result<M, Status>> + Send>>;

#[tonic::async_trait]
impl v1::ring_server::Ring for RingDoor {
    async fn get_ring(
        &self,
        request: Request<v1::GetRingRequest>,
    ) -> Result<Response<v1::GetRingResponse>, Status> {
        let (message, identities) = self.callers.open(request, |message| &message.credentials)?;
        let name = ServiceName::new(&message.namespace, &message.service).map_err(refused)?;
        let service = self.service_in_full(&name, message.version, &identities).await;
        Ok(Response::new(ring(service.map_err(refused)?.as_ref())))
    }

    type WatchRingStream = Streamed<v1::GetRingResponse>;

    async fn watch_ring(
        &self,
        request: Request<v1::WatchRingRequest>,
    ) -> Result<Response<Self::WatchRingStream>, Status> {
        let (message, identities) = self.callers.open(request, |message| &message.credentials)?;
        let name = ServiceName::new(&message.namespace, &message.service).map_err(refused)?;
        let following = self.callers.coordinator.follow_service(&name);
        self.service_in_full(&name, 0, &identities).await.map_err(refused)?;
        let coordinator = self.callers.coordinator.clone();
        let state = (following, None::<Told>);
        let rings = futures_util::stream::unfold(Some(state), move |state| {
            let (coordinator, name, identities) = (coordinator.clone(), name.clone(), identities.clone());
            async move {
                let (mut following, mut last) = state?;
                loop {
                    if last.is_some() {
                        following.changed().await.ok()?;
                    }
                    let service = following.borrow_and_update().clone();
                    // Health and load change a service's version more often than its ring.
                    if last.as_ref().is_some_and(|last| last.is_ring_of(&service)) {
                        continue;
                    }
                    let entries = service.entries();
                    if coordinator.visible(&name, entries, &identities).len() < entries.len() {
                        // Gone meanwhile, or hidden: another version follows (of a service that is gone
                        // it is 0), or nothing does.
                        let current = coordinator.service(&name);
                        if current.version() != service.version() {
                            continue;
                        }
                        return Some((Err(refused(Error::new(ErrorKind::NoAuth, name.path()))), None));
                    }
                    let now = Told { ring: service.ring().ring.clone(), message: ring(&service) };
                    let is_same = last.as_ref().is_some_and(|last| {
                        let message = &now.message;
                        *message == v1::GetRingResponse { version: message.version, ..last.message.clone() }
                    });
                    let told = (!is_same).then(|| now.message.clone());
                    last = Some(now);
                    if let Some(told) = told {
                        return Some((Ok(told), Some((following, last))));
                    }
                }
            }
        });
        Ok(Response::new(Box::pin(rings)))
    }

    async fn locate(
        &self,
        request: Request<v1::LocateRequest>,
    ) -> Result<Response<v1::LocateResponse>, Status> {
        let (message, identities) = self.callers.open(request, |message| &message.credentials)?;
        let name = ServiceName::new(&message.namespace, &message.service).map_err(refused)?;
        if message.replicas > REPLICAS_MAX {
            let detail = format!("replicas: {}, at most {REPLICAS_MAX}", message.replicas);
            return Err(refused(Error::new(ErrorKind::BadArguments, detail)));
        }
        if message.key.len() > KEY_BYTES_MAX {
            let detail = format!("bytes of key: {}, at most {KEY_BYTES_MAX}", message.key.len());
            return Err(refused(Error::new(ErrorKind::TooLarge, detail)));
        }
        let consistency = consistency_or_default(message.consistency).map_err(refused)?;
        let service = self.service(&name, message.version, consistency).await.map_err(refused)?;
        let hash = hash_key(&message.key);
        let ring = service.ring();
        let owners = ring.locate(&message.key, message.replicas.max(1) as usize);
        let handing_over = service.handing_over(hash);
        // Only those whom the answer names are judged: a look-up costs the same in a large service.
        self.judge(&name, owners.iter().copied().chain(handing_over), &identities).map_err(refused)?;
        Ok(Response::new(v1::LocateResponse {
            version: service.version().0,
            owners: owners.into_iter().map(|entry| entry.as_ref().into()).collect(),
            hash,
            handing_over: handing_over.map(|entry| entry.as_ref().into()),
        }))
    }
}
