//! `Elections`: one leader among campaigners, with a term token, for any language.

use std::time::Duration;

use quorate_core::command::{Guard, MultiOperation, Operation};
use quorate_core::error::{Error, ErrorKind};
use quorate_core::id::Zxid;
use quorate_proto::v1;
use tonic::{Request, Response, Status};

use super::caller::{Callers, not_acquired, refused};
use super::leases::{self, Wanted};
use super::observe::{Observed, observe};

/// The `Elections` service.
#[derive(Debug)]
pub struct ElectionsDoor {
    callers: Callers,
}

impl ElectionsDoor {
    /// On one member.
    pub fn new(callers: Callers) -> ElectionsDoor {
        ElectionsDoor { callers }
    }
}

#[tonic::async_trait]
impl v1::elections_server::Elections for ElectionsDoor {
    async fn campaign(
        &self,
        request: Request<v1::CampaignRequest>,
    ) -> Result<Response<v1::CampaignResponse>, Status> {
        let (message, identities) = self.callers.open(request, |message| &message.credentials)?;
        let wanted = Wanted {
            path: message.path,
            ttl_ms: message.ttl_ms,
            wait: message.wait_ms.map(|wait| Duration::from_millis(wait.into())),
            data: message.value,
            request: message.request_id.map(TryInto::try_into).transpose().map_err(refused)?,
            identities,
        };
        let lease = leases::acquire(&self.callers.coordinator, wanted).await.map_err(not_acquired)?;
        Ok(Response::new(v1::CampaignResponse { lease: Some(lease) }))
    }

    async fn proclaim(
        &self,
        request: Request<v1::ProclaimRequest>,
    ) -> Result<Response<v1::ProclaimResponse>, Status> {
        let address = request.remote_addr();
        let message = request.into_inner();
        let zxid = async {
            let (session, password) = leases::key(message.lease.as_ref())?;
            self.callers.coordinator.keep_alive(session, password).await?;
            let lease = message.lease.unwrap_or_default();
            let Some((path, _)) = lease.path.rsplit_once('/') else {
                return Err(Error::new(ErrorKind::BadArguments, "lease.path: no path of a contender"));
            };
            // The guard makes it the leader's word: a campaigner that lost in between is refused.
            let guard = Guard::Lock { path: path.into(), token: Zxid(lease.token) };
            let set = MultiOperation::SetData { path: lease.path.clone(), data: message.value, version: -1 };
            let operation = Operation::Multi(vec![MultiOperation::Guard(guard), set]);
            let identities = self.callers.identities(address, &[])?;
            let reply = self.callers.coordinator.write(identities, operation, None).await?;
            reply.result.map(|_| reply.zxid)
        };
        let zxid = zxid.await.map_err(refused)?;
        Ok(Response::new(v1::ProclaimResponse { zxid: zxid.0 }))
    }

    async fn leader(
        &self,
        request: Request<v1::LeaderRequest>,
    ) -> Result<Response<v1::LeaderResponse>, Status> {
        let (message, identities) = self.callers.open(request, |message| &message.credentials)?;
        let (leader, zxid) =
            leases::holder(&self.callers.coordinator, &message.path, &identities).await.map_err(refused)?;
        if leader.is_none() {
            return Err(refused(Error::new(ErrorKind::NoNode, format!("nobody leads at {}", message.path))));
        }
        Ok(Response::new(v1::LeaderResponse { leader, zxid: zxid.0 }))
    }

    type ObserveStream = Observed<v1::LeaderResponse>;

    async fn observe(
        &self,
        request: Request<v1::ObserveLeaderRequest>,
    ) -> Result<Response<Self::ObserveStream>, Status> {
        let (message, identities) = self.callers.open(request, |message| &message.credentials)?;
        let observed = observe(self.callers.coordinator.clone(), message.path, identities, |leader, zxid| {
            v1::LeaderResponse { leader, zxid: zxid.0 }
        });
        Ok(Response::new(observed.await.map_err(refused)?))
    }

    async fn resign(
        &self,
        request: Request<v1::ResignRequest>,
    ) -> Result<Response<v1::ResignResponse>, Status> {
        let lease = request.into_inner().lease;
        let zxid = leases::release(&self.callers.coordinator, lease).await.map_err(refused)?;
        Ok(Response::new(v1::ResignResponse { zxid: zxid.0 }))
    }
}
