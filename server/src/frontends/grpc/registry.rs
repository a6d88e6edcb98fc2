//! `Registry`: services and their instances, for any language.

use std::collections::BTreeSet;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::Stream;
use quorate_core::acl::Identity;
use quorate_core::error::{Error, ErrorKind};
use quorate_core::id::Zxid;
use quorate_core::registry::{Filter, Instance, Service, ServiceName};
use quorate_core::request::Consistency;
use quorate_proto::convert::consistency_or_default;
use quorate_proto::convert::registry::{health, mode};
use quorate_proto::v1;
use tokio::sync::watch;
use tokio::time::sleep;
use tonic::{Request, Response, Status};

use super::caller::{Callers, refused};
use super::leases;
use crate::coordinator::Coordinator;
use crate::coordinator::registrar::{Lifetime, Registered};
use crate::coordinator::reports::Report;

/// Reports of one call.
const REPORTS_MAX: usize = 1000;

/// The `Registry` service.
#[derive(Debug)]
pub struct RegistryDoor {
    callers: Callers,
}

impl RegistryDoor {
    /// On one member.
    pub fn new(callers: Callers) -> RegistryDoor {
        RegistryDoor { callers }
    }

    async fn register_one(
        &self,
        request: Request<v1::RegisterRequest>,
    ) -> Result<v1::RegisterResponse, Status> {
        let (message, identities) = self.callers.open(request, |message| &message.credentials)?;
        let service = ServiceName::new(&message.namespace, &message.service).map_err(refused)?;
        let instance = message.instance.ok_or_else(|| missing("instance"))?;
        let instance = Instance::try_from(instance).map_err(refused)?;
        let lifetime = match (&message.lease, message.ttl_ms) {
            (Some(lease), _) => {
                let (session, password) = leases::key(Some(lease)).map_err(refused)?;
                Lifetime::Shared { session, password }
            }
            (None, 0) => Lifetime::Lasting,
            (None, ttl_ms) => Lifetime::Leased { ttl_ms },
        };
        let request = message.request_id.map(TryInto::try_into).transpose().map_err(refused)?;
        let path = service.instance_path(&instance.id);
        let registered =
            self.callers.coordinator.register(&service, instance, lifetime, request, identities).await;
        Ok(show_registered(registered.map_err(refused)?, path))
    }
}

/// A stream of answers.
type Streamed<M> = Pin<Box<dyn Stream<Item = Result<M, Status>> + Send>>;

#[tonic::async_trait]
impl v1::registry_server::Registry for RegistryDoor {
    async fn register(
        &self,
        request: Request<v1::RegisterRequest>,
    ) -> Result<Response<v1::RegisterResponse>, Status> {
        Ok(Response::new(self.register_one(request).await?))
    }

    type KeepStream = Streamed<v1::KeepResponse>;

    async fn keep(
        &self,
        request: Request<v1::RegisterRequest>,
    ) -> Result<Response<Self::KeepStream>, Status> {
        let message = request.get_ref();
        if message.lease.is_none() && message.ttl_ms == 0 {
            return Err(refused(Error::new(
                ErrorKind::BadArguments,
                "ttl_ms: a stream keeps leased instances only",
            )));
        }
        let registered = self.register_one(request).await?;
        let first = v1::KeepResponse { lease: registered.lease, zxid: registered.zxid };
        let keeper =
            Keeper { coordinator: self.callers.coordinator.clone(), first: Some(first.clone()), told: first };
        Ok(Response::new(Box::pin(futures_util::stream::unfold(Some(keeper), |keeper| async move {
            let mut keeper = keeper?;
            match keeper.next().await {
                Ok(news) => Some((Ok(news), Some(keeper))),
                Err(error) => Some((Err(refused(error)), None)),
            }
        }))))
    }

    async fn heartbeat(
        &self,
        request: Request<v1::HeartbeatRequest>,
    ) -> Result<Response<v1::HeartbeatResponse>, Status> {
        let lease = request.into_inner().lease;
        let (session, password) = leases::key(lease.as_ref()).map_err(refused)?;
        let ttl_ms = self.callers.coordinator.keep_alive(session, password).await.map_err(refused)?;
        Ok(Response::new(v1::HeartbeatResponse { ttl_ms }))
    }

    async fn deregister(
        &self,
        request: Request<v1::DeregisterRequest>,
    ) -> Result<Response<v1::DeregisterResponse>, Status> {
        let (message, identities) = self.callers.open(request, |message| &message.credentials)?;
        let coordinator = &self.callers.coordinator;
        let zxid = if message.service.is_empty() {
            leases::release(coordinator, message.lease).await
        } else {
            let service = ServiceName::new(&message.namespace, &message.service).map_err(refused)?;
            coordinator.deregister(&service, &message.instance_id, &identities).await
        };
        Ok(Response::new(v1::DeregisterResponse { zxid: zxid.map_err(refused)?.0 }))
    }

    async fn set_mode(
        &self,
        request: Request<v1::SetModeRequest>,
    ) -> Result<Response<v1::SetModeResponse>, Status> {
        let (message, identities) = self.callers.open(request, |message| &message.credentials)?;
        let service = ServiceName::new(&message.namespace, &message.service).map_err(refused)?;
        let mode = mode(message.mode, message.drain_window_ms).map_err(refused)?;
        let coordinator = &self.callers.coordinator;
        let zxid = coordinator.set_mode(&service, &message.instance_id, mode, &identities).await;
        Ok(Response::new(v1::SetModeResponse { zxid: zxid.map_err(refused)?.0 }))
    }

    async fn list_services(
        &self,
        request: Request<v1::ListServicesRequest>,
    ) -> Result<Response<v1::ListServicesResponse>, Status> {
        let (message, identities) = self.callers.open(request, |message| &message.credentials)?;
        let coordinator = &self.callers.coordinator;
        let consistency = consistency_or_default(message.consistency).map_err(refused)?;
        let zxid = coordinator.wait_directory(consistency).await.map_err(refused)?;
        let services = coordinator.services();
        let wanted = services.iter().filter(|service| {
            let namespace = service.name().namespace();
            message.namespace.is_empty() || message.namespace == namespace
        });
        let is_shown = |service: &&Arc<Service>| {
            let entries = service.entries();
            entries.is_empty() || !coordinator.visible(service.name(), entries, &identities).is_empty()
        };
        let services = wanted.filter(is_shown).map(|service| v1::ServiceSummary::from(service.as_ref()));
        Ok(Response::new(v1::ListServicesResponse { services: services.collect(), zxid: zxid.0 }))
    }

    async fn discover(
        &self,
        request: Request<v1::DiscoverRequest>,
    ) -> Result<Response<v1::DiscoverResponse>, Status> {
        let (message, identities) = self.callers.open(request, |message| &message.credentials)?;
        let name = ServiceName::new(&message.namespace, &message.service).map_err(refused)?;
        let coordinator = &self.callers.coordinator;
        let consistency = consistency_or_default(message.consistency).map_err(refused)?;
        let zxid = coordinator.wait_directory(consistency).await.map_err(refused)?;
        let service = coordinator.service(&name);
        let filter: Filter = message.filter.unwrap_or_default().into();
        let visible = coordinator.visible(&name, service.filtered(&filter), &identities);
        Ok(Response::new(v1::DiscoverResponse {
            instances: visible.into_iter().map(|entry| entry.as_ref().into()).collect(),
            version: service.version().0,
            zxid: zxid.0,
            policy: policy(coordinator, &service, &identities),
            panicking: service.serving().1,
        }))
    }

    type WatchServiceStream = Streamed<v1::WatchServiceResponse>;

    async fn watch_service(
        &self,
        request: Request<v1::WatchServiceRequest>,
    ) -> Result<Response<Self::WatchServiceStream>, Status> {
        let (message, identities) = self.callers.open(request, |message| &message.credentials)?;
        let name = ServiceName::new(&message.namespace, &message.service).map_err(refused)?;
        let coordinator = self.callers.coordinator.clone();
        let since = message.since_version.filter(|version| *version > 0).map(Zxid);
        let fresh = since.map_or(Consistency::Linearizable, Consistency::AtLeast);
        coordinator.wait_directory(fresh).await.map_err(refused)?;
        let following = coordinator.follow_service(&name);
        let filter = message.filter.unwrap_or_default().into();
        let mut watching = Watching {
            coordinator,
            name,
            filter,
            identities,
            following,
            last: None,
            hidden: BTreeSet::new(),
            is_first: true,
        };
        watching.last = since.and_then(|since| watching.known_since(since));
        Ok(Response::new(Box::pin(futures_util::stream::unfold(Some(watching), |watching| async move {
            let mut watching = watching?;
            let news = watching.next().await?;
            Some((Ok(news), Some(watching)))
        }))))
    }

    async fn report(
        &self,
        request: Request<v1::ReportRequest>,
    ) -> Result<Response<v1::ReportResponse>, Status> {
        let (message, identities) = self.callers.open(request, |message| &message.credentials)?;
        let service = ServiceName::new(&message.namespace, &message.service).map_err(refused)?;
        if message.reports.len() > REPORTS_MAX {
            let detail = format!("reports: {} entries, at most {REPORTS_MAX}", message.reports.len());
            return Err(refused(Error::new(ErrorKind::TooLarge, detail)));
        }
        let reports = message.reports.into_iter().map(|report| {
            let health = report.health.map(health).transpose().map_err(refused)?;
            let health = health.map(|health| (health, report.reason));
            Ok(Report { id: report.instance_id, health, load: report.load })
        });
        let reports = reports.collect::<Result<Vec<Report>, Status>>()?;
        let unknown = self.callers.coordinator.report(&service, reports, &identities).map_err(refused)?;
        Ok(Response::new(v1::ReportResponse { unknown }))
    }

    async fn get_policy(
        &self,
        request: Request<v1::GetPolicyRequest>,
    ) -> Result<Response<v1::GetPolicyResponse>, Status> {
        let (message, identities) = self.callers.open(request, |message| &message.credentials)?;
        let name = ServiceName::new(&message.namespace, &message.service).map_err(refused)?;
        let coordinator = &self.callers.coordinator;
        let consistency = consistency_or_default(message.consistency).map_err(refused)?;
        coordinator.wait_directory(consistency).await.map_err(refused)?;
        let service = coordinator.service(&name);
        let entry = service.policy_entry().filter(|_| coordinator.may_read_policy(&name, &identities));
        match entry {
            Some(entry) => Ok(Response::new(v1::GetPolicyResponse {
                policy: Some(entry.policy.clone().into()),
                version: entry.version,
                changed_zxid: entry.changed.0,
            })),
            None => Err(refused(Error::new(ErrorKind::NoNode, format!("{name} has no policy")))),
        }
    }

    async fn set_policy(
        &self,
        request: Request<v1::SetPolicyRequest>,
    ) -> Result<Response<v1::SetPolicyResponse>, Status> {
        let (message, identities) = self.callers.open(request, |message| &message.credentials)?;
        let name = ServiceName::new(&message.namespace, &message.service).map_err(refused)?;
        let policy = message.policy.map(TryInto::try_into).transpose().map_err(refused)?;
        let coordinator = &self.callers.coordinator;
        let zxid = coordinator.set_policy(&name, policy.as_ref(), message.version, &identities).await;
        Ok(Response::new(v1::SetPolicyResponse { zxid: zxid.map_err(refused)?.0 }))
    }
}

fn show_registered(registered: Registered, path: String) -> v1::RegisterResponse {
    let lease = registered.lease.map(|(session, password, ttl_ms)| v1::Lease {
        session_id: session.0,
        password: Bytes::copy_from_slice(&password),
        path,
        token: registered.zxid.0,
        ttl_ms,
    });
    v1::RegisterResponse { lease, zxid: registered.zxid.0 }
}

fn policy(coordinator: &Coordinator, service: &Service, identities: &[Identity]) -> Option<v1::Policy> {
    let entry = service.policy_entry()?;
    coordinator.may_read_policy(service.name(), identities).then(|| entry.policy.clone().into())
}

fn missing(field: &str) -> Status {
    refused(Error::new(ErrorKind::BadArguments, format!("{field} is missing")))
}

/// Keeps a lease while its stream is open. When the stream breaks the lease lives on for its time,
/// so that the client can go on elsewhere.
struct Keeper {
    coordinator: Coordinator,
    first: Option<v1::KeepResponse>,
    told: v1::KeepResponse,
}

impl Keeper {
    async fn next(&mut self) -> Result<v1::KeepResponse, Error> {
        if let Some(first) = self.first.take() {
            return Ok(first);
        }
        let (session, password) = leases::key(self.told.lease.as_ref())?;
        let ttl_ms = self.told.lease.as_ref().map_or(0, |lease| lease.ttl_ms);
        sleep(Duration::from_millis(u64::from(ttl_ms) / 3)).await;
        loop {
            match self.coordinator.keep_alive(session, password).await {
                Ok(_) => break,
                // No leader for the moment: nobody counts the time either.
                Err(error) if error.kind.is_retryable() => sleep(Duration::from_millis(100)).await,
                Err(error) => return Err(error),
            }
        }
        let zxid = self.coordinator.local().progress_now().zxid.0;
        Ok(v1::KeepResponse { zxid, ..self.told.clone() })
    }
}

/// One follower of a service. An id is told to be gone only if the follower knows of it: one that it
/// did not ask for it never had, and one that it may not read is hidden from it for good.
struct Watching {
    coordinator: Coordinator,
    name: ServiceName,
    filter: Filter,
    identities: Vec<Identity>,
    following: watch::Receiver<Arc<Service>>,
    /// What the follower has; `None` if everything is still to be told.
    last: Option<Arc<Service>>,
    /// Ids in `last` that the follower does not know of, as it may not read them.
    hidden: BTreeSet<String>,
    is_first: bool,
}

impl Watching {
    /// What a follower has that comes again, if nothing of it has gone or become hidden since. Who might
    /// read what is gone nobody knows any more: that follower is told everything anew.
    fn known_since(&self, version: Zxid) -> Option<Arc<Service>> {
        let known = self.coordinator.service_at(&self.name, version).ok()?;
        let visible = self.coordinator.visible(&self.name, known.entries(), &self.identities);
        (visible.len() == known.entries().len()).then_some(known)
    }

    /// What changed; `None` once the member stops.
    async fn next(&mut self) -> Option<v1::WatchServiceResponse> {
        loop {
            if !self.is_first {
                self.following.changed().await.ok()?;
            }
            let now = self.following.borrow_and_update().clone();
            let news = self.compare(&now);
            self.last = Some(now);
            if std::mem::take(&mut self.is_first) || !is_empty(&news) {
                return Some(news);
            }
        }
    }

    fn compare(&mut self, now: &Service) -> v1::WatchServiceResponse {
        let snapshot = self.last.is_none();
        let last = match self.last.take() {
            Some(last) => last,
            None => Arc::new(Service::empty(self.name.clone(), Zxid(0))),
        };
        let delta = now.since(&last);
        let mut visible =
            self.coordinator.visible(&self.name, &delta.put, &self.identities).into_iter().peekable();
        let (mut put, mut removed) = (Vec::new(), Vec::new());
        for entry in &delta.put {
            let id = &entry.instance.id;
            let is_visible = visible.next_if(|next| Arc::ptr_eq(next, entry)).is_some();
            let was_known = self.knew(&last, id);
            if is_visible && self.filter.matches(&entry.instance) {
                put.push(entry.as_ref().into());
            } else if was_known {
                removed.push(id.clone());
            }
            if !is_visible {
                self.hidden.insert(id.clone());
            }
        }
        removed.extend(delta.removed.into_iter().filter(|id| self.knew(&last, id)));
        v1::WatchServiceResponse {
            snapshot,
            put,
            removed,
            policy: delta.policy.as_ref().and_then(|_| policy(&self.coordinator, now, &self.identities)),
            policy_removed: !snapshot && delta.policy == Some(None),
            version: now.version().0,
        }
    }

    /// Whether the follower was told of an instance of `last`. It is not counted as hidden any more.
    fn knew(&mut self, last: &Service, id: &str) -> bool {
        let was_hidden = self.hidden.remove(id);
        !was_hidden && last.entry(id).is_some_and(|entry| self.filter.matches(&entry.instance))
    }
}

fn is_empty(news: &v1::WatchServiceResponse) -> bool {
    news.put.is_empty() && news.removed.is_empty() && news.policy.is_none() && !news.policy_removed
}
