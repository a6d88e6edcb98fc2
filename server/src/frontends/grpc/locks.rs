//! `Locks`: mutual exclusion with fencing tokens, for any language.

use std::time::Duration;

use quorate_proto::v1;
use tonic::{Request, Response, Status};

use super::caller::{Callers, not_acquired, refused};
use super::leases::{self, Wanted};
use super::observe::{Observed, observe};

/// The `Locks` service.
#[derive(Debug)]
pub struct LocksDoor {
    callers: Callers,
}

impl LocksDoor {
    /// On one member.
    pub fn new(callers: Callers) -> LocksDoor {
        LocksDoor { callers }
    }
}

#[tonic::async_trait]
impl v1::locks_server::Locks for LocksDoor {
    async fn acquire(
        &self,
        request: Request<v1::AcquireRequest>,
    ) -> Result<Response<v1::AcquireResponse>, Status> {
        let (message, identities) = self.callers.open(request, |message| &message.credentials)?;
        let wanted = Wanted {
            path: message.path,
            ttl_ms: message.ttl_ms,
            wait: message.wait_ms.map(|wait| Duration::from_millis(wait.into())),
            data: message.data,
            request: message.request_id.map(TryInto::try_into).transpose().map_err(refused)?,
            identities,
        };
        let lease = leases::acquire(&self.callers.coordinator, wanted).await.map_err(not_acquired)?;
        Ok(Response::new(v1::AcquireResponse { lease: Some(lease) }))
    }

    async fn release(
        &self,
        request: Request<v1::ReleaseRequest>,
    ) -> Result<Response<v1::ReleaseResponse>, Status> {
        let lease = request.into_inner().lease;
        let zxid = leases::release(&self.callers.coordinator, lease).await.map_err(refused)?;
        Ok(Response::new(v1::ReleaseResponse { zxid: zxid.0 }))
    }

    async fn extend(
        &self,
        request: Request<v1::ExtendRequest>,
    ) -> Result<Response<v1::ExtendResponse>, Status> {
        let lease = request.into_inner().lease;
        let (session, password) = leases::key(lease.as_ref()).map_err(refused)?;
        let ttl_ms = self.callers.coordinator.keep_alive(session, password).await.map_err(refused)?;
        Ok(Response::new(v1::ExtendResponse { ttl_ms }))
    }

    type ObserveStream = Observed<v1::ObserveResponse>;

    async fn observe(
        &self,
        request: Request<v1::ObserveRequest>,
    ) -> Result<Response<Self::ObserveStream>, Status> {
        let (message, identities) = self.callers.open(request, |message| &message.credentials)?;
        let observed = observe(self.callers.coordinator.clone(), message.path, identities, |holder, zxid| {
            v1::ObserveResponse { holder, zxid: zxid.0 }
        });
        Ok(Response::new(observed.await.map_err(refused)?))
    }
}
