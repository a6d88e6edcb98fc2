//! `Cluster`: members, digests, snapshots and sessions, for operators.

use std::pin::Pin;
use std::time::Instant;

use bytes::Bytes;
use futures_util::{Stream, StreamExt};
use quorate_core::acl::Identity;
use quorate_core::command::{CloseReason, Operation};
use quorate_core::error::{Error, ErrorKind};
use quorate_core::id::{MemberId, SessionId};
use quorate_core::reply::ReadResult;
use quorate_core::request::{Consistency, ReadRequest};
use quorate_proto::v1;
use tonic::{Request, Response, Status};

use super::caller::{Callers, refused};
use crate::coordinator::digests::MemberDigest;
use crate::replica::membership::MembershipChange;
use crate::replica::types::MemberAddress;

/// The `Cluster` service.
#[derive(Debug)]
pub struct ClusterDoor {
    callers: Callers,
    started: Instant,
}

impl ClusterDoor {
    /// On one member.
    pub fn new(callers: Callers) -> ClusterDoor {
        ClusterDoor { callers, started: Instant::now() }
    }

    async fn change(&self, change: MembershipChange) -> Result<Response<v1::MembershipResponse>, Status> {
        let replica = self.callers.coordinator.replica();
        replica.change_membership(change).await.map_err(refused)?;
        Ok(Response::new(v1::MembershipResponse { members: self.members() }))
    }

    fn members(&self) -> Vec<v1::Member> {
        let replica = self.callers.coordinator.replica();
        let matched = replica.matched_indexes();
        let members = replica.members().into_iter().map(|member| v1::Member {
            id: member.id.0,
            role: match member.is_voter {
                true => v1::MemberRole::Voter.into(),
                false => v1::MemberRole::Learner.into(),
            },
            peer_address: member.address.peer,
            client_address: member.address.client,
            matched_index: matched.get(&member.id).copied(),
        });
        members.collect()
    }
}

#[tonic::async_trait]
impl v1::cluster_server::Cluster for ClusterDoor {
    async fn status(
        &self,
        _request: Request<v1::StatusRequest>,
    ) -> Result<Response<v1::StatusResponse>, Status> {
        let coordinator = &self.callers.coordinator;
        let own = coordinator.replica().own_status();
        let sizes = coordinator.local().sizes();
        let rules_version = coordinator.local().with_state(|state| state.settings().rules_version);
        Ok(Response::new(v1::StatusResponse {
            cluster_id: format!("{:032x}", coordinator.replica().cluster()),
            member_id: own.member,
            members: self.members(),
            leader_id: own.leader,
            term: own.term,
            last_log_index: own.last_log_index,
            committed_index: coordinator.replica().committed_index(),
            applied_index: own.applied_index,
            checkpoint_index: own.checkpoint_index,
            purged_index: own.purged_index,
            zxid: own.zxid,
            digest: digest_bytes(own.digest),
            version: own.version,
            rules_version,
            counts: Some(v1::StateCounts {
                znodes: sizes.state.znodes,
                data_bytes: sizes.state.data_bytes,
                sessions: sizes.state.sessions,
                ephemerals: sizes.state.ephemerals,
                watches: sizes.watches.watches as u64,
                connections: sizes.attached as u64,
                change_log_bytes: sizes.state.change_log_bytes,
                request_ids: sizes.state.request_ids,
            }),
            uptime_ms: u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX),
        }))
    }

    async fn add_learner(
        &self,
        request: Request<v1::AddLearnerRequest>,
    ) -> Result<Response<v1::MembershipResponse>, Status> {
        let message = request.into_inner();
        let address = address(message.id, message.peer_address, message.client_address).map_err(refused)?;
        self.change(MembershipChange::AddLearner { member: message.id, address }).await
    }

    async fn promote(
        &self,
        request: Request<v1::PromoteRequest>,
    ) -> Result<Response<v1::MembershipResponse>, Status> {
        self.change(MembershipChange::Promote { member: request.into_inner().id }).await
    }

    async fn remove_member(
        &self,
        request: Request<v1::RemoveMemberRequest>,
    ) -> Result<Response<v1::MembershipResponse>, Status> {
        self.change(MembershipChange::Remove { member: request.into_inner().id }).await
    }

    async fn replace_member(
        &self,
        request: Request<v1::ReplaceMemberRequest>,
    ) -> Result<Response<v1::MembershipResponse>, Status> {
        let message = request.into_inner();
        let address =
            address(message.new_id, message.peer_address, message.client_address).map_err(refused)?;
        self.change(MembershipChange::Replace { lost: message.old_id, member: message.new_id, address }).await
    }

    async fn transfer_leader(
        &self,
        request: Request<v1::TransferLeaderRequest>,
    ) -> Result<Response<v1::TransferLeaderResponse>, Status> {
        let replica = self.callers.coordinator.replica();
        let to = match request.into_inner().to {
            Some(to) => to,
            None => replica.furthest_follower().await.map_err(refused)?.0,
        };
        replica.change_membership(MembershipChange::Transfer { to }).await.map_err(refused)?;
        let mut leadership = replica.leadership();
        let moved = leadership.wait_for(|now| now.leader == Some(MemberId(to)));
        let term = match tokio::time::timeout(std::time::Duration::from_secs(5), moved).await {
            Ok(Ok(now)) => now.term,
            _ => replica.own_status().term,
        };
        Ok(Response::new(v1::TransferLeaderResponse { leader_id: to, term }))
    }

    type SnapshotStream = Pin<Box<dyn Stream<Item = Result<v1::SnapshotChunk, Status>> + Send>>;

    async fn snapshot(
        &self,
        _request: Request<v1::SnapshotRequest>,
    ) -> Result<Response<Self::SnapshotStream>, Status> {
        let snapshot = self.callers.coordinator.replica().snapshot().await.map_err(refused)?;
        let (applied_index, zxid) = (snapshot.applied_index, snapshot.zxid);
        let part = move |data: Bytes, digest: Bytes| v1::SnapshotChunk {
            applied_index,
            zxid,
            crc32: crc32fast::hash(&data),
            data,
            digest,
        };
        let last = part(Bytes::new(), digest_bytes(snapshot.digest));
        let parts = snapshot.chunks.map(move |data| match data {
            Ok(data) => Ok(part(data, Bytes::new())),
            Err(error) => Err(Status::data_loss(error.to_string())),
        });
        // The last part says that it was all. None follows an error: gRPC ends a stream with it.
        Ok(Response::new(Box::pin(parts.chain(futures_util::stream::once(async move { Ok(last) })))))
    }

    async fn digest(
        &self,
        request: Request<v1::DigestRequest>,
    ) -> Result<Response<v1::DigestResponse>, Status> {
        let recompute = request.into_inner().verify;
        let compared = self.callers.coordinator.compare_digests(recompute).await.map_err(refused)?;
        let agree = compared.agree();
        let digests = compared.members.into_iter().map(|(member, digest)| match digest {
            Ok(MemberDigest { digest, recomputed }) => v1::MemberDigest {
                member_id: member.0,
                digest: digest_bytes(digest),
                recomputed: recomputed.map_or(Bytes::new(), digest_bytes),
                problem: String::new(),
            },
            Err(problem) => v1::MemberDigest { member_id: member.0, problem, ..v1::MemberDigest::default() },
        });
        Ok(Response::new(v1::DigestResponse {
            applied_index: compared.applied_index,
            zxid: compared.zxid.0,
            digests: digests.collect(),
            agree,
        }))
    }

    async fn list_sessions(
        &self,
        _request: Request<v1::ListSessionsRequest>,
    ) -> Result<Response<v1::ListSessionsResponse>, Status> {
        let coordinator = &self.callers.coordinator;
        let reply = coordinator
            .read(&operator(), &ReadRequest::Sessions, Consistency::Linearizable)
            .await
            .map_err(refused)?;
        match reply.result.map_err(refused)? {
            ReadResult::Sessions(sessions) => Ok(Response::new(v1::ListSessionsResponse {
                sessions: sessions.into_iter().map(Into::into).collect(),
            })),
            other => Err(Status::internal(format!("unexpected result {other:?}"))),
        }
    }

    async fn close_session(
        &self,
        request: Request<v1::CloseSessionRequest>,
    ) -> Result<Response<v1::CloseSessionResponse>, Status> {
        let session = SessionId(request.into_inner().session_id);
        let operation = Operation::CloseSession { session, reason: CloseReason::ByOperator };
        let reply = self.callers.coordinator.write(operator(), operation, None).await.map_err(refused)?;
        reply.result.map_err(refused)?;
        Ok(Response::new(v1::CloseSessionResponse { zxid: reply.zxid.0 }))
    }
}

/// Until the operator's rights have a door of their own, whoever reaches `Cluster` is an operator.
fn operator() -> Vec<Identity> {
    vec![Identity { scheme: Identity::SUPER.into(), id: String::new() }]
}

fn address(member: u64, peer: String, client: String) -> Result<MemberAddress, Error> {
    for (field, value) in [("peer_address", &peer), ("client_address", &client)] {
        let is_good = value
            .rsplit_once(':')
            .is_some_and(|(host, port)| !host.is_empty() && port.parse::<u16>().is_ok());
        if !is_good {
            return Err(Error::new(ErrorKind::BadArguments, format!("{field}: {value:?} is not HOST:PORT")));
        }
    }
    Ok(MemberAddress { name: format!("member-{member}"), peer, client, http: String::new() })
}

fn digest_bytes(digest: u128) -> Bytes {
    Bytes::copy_from_slice(&digest.to_be_bytes())
}
