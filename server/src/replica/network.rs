//! openraft's network, spoken over a [`PeerTransport`].
//!
//! Entries travel on one stream a peer, requests pipelined, answers in order; a request that only
//! tells of a newer commit gets none. A stream whose oldest unanswered request waits too long is given
//! up, so that a frozen peer is noticed. Every failure is reported as `Unreachable`, which makes
//! openraft back off instead of spinning.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use futures_util::{Stream, StreamExt};
use openraft::base::{BoxFuture, BoxStream};
use openraft::errors::{RPCError, ReplicationClosed, StreamingError, Unreachable};
use openraft::network::{RPCOption, RaftNetworkFactory, stream_append_sequential, v2::RaftNetworkV2};
use openraft::raft::{
    AppendEntriesRequest, AppendEntriesResponse, SnapshotResponse, StreamAppendResult, TransferLeaderRequest,
    TransferLeaderResponse, VoteRequest, VoteResponse,
};
use openraft::{AnyError, OptionalSend};
use quorate_core::breaks::{Break, is_broken};

use super::peers::{
    Envelope, PeerError, PeerRequest, PeerResponse, PeerTransport, SnapshotOffer, StreamKind, decode, encode,
};
use super::snapshots::{SnapshotHandle, Snapshots};
use super::types::{MemberAddress, TypeConfig, Vote};

/// The longest that an append stream's oldest request may wait for its answer.
const APPEND_PATIENCE: Duration = Duration::from_secs(2);

/// How long a single append may take at least: a busy machine answers late.
const HEARTBEAT_PATIENCE: Duration = Duration::from_millis(400);

/// Makes a [`PeerNetwork`] for each peer.
#[derive(Clone, Debug)]
pub struct PeerNetworkFactory {
    /// Carries the messages.
    pub transport: Arc<dyn PeerTransport>,
    /// Makes the files that lagging peers get.
    pub snapshots: Arc<Snapshots>,
    /// The cluster's id.
    pub cluster: u128,
    /// This member.
    pub member: u64,
}

/// openraft's way to one peer.
#[derive(Debug)]
pub struct PeerNetwork {
    is_for_heartbeats: bool,
    transport: Arc<dyn PeerTransport>,
    snapshots: Arc<Snapshots>,
    envelope: Envelope,
    address: String,
}

impl RaftNetworkFactory<TypeConfig> for PeerNetworkFactory {
    type Network = PeerNetwork;

    async fn new_client(&mut self, target: u64, node: &MemberAddress) -> PeerNetwork {
        self.network(target, node, false)
    }

    async fn new_heartbeat_client(&mut self, target: u64, node: &MemberAddress) -> PeerNetwork {
        self.network(target, node, true)
    }
}

impl PeerNetworkFactory {
    fn network(&self, target: u64, node: &MemberAddress, is_for_heartbeats: bool) -> PeerNetwork {
        PeerNetwork {
            is_for_heartbeats,
            transport: self.transport.clone(),
            snapshots: self.snapshots.clone(),
            envelope: Envelope { cluster: self.cluster, from: self.member, to: target },
            address: node.peer.clone(),
        }
    }
}

impl PeerNetwork {
    async fn ask(&self, request: &PeerRequest, patience: Duration) -> Result<PeerResponse, PeerError> {
        let request = encode(&self.envelope, request);
        let answer = self.transport.call(&self.address, request, patience).await?;
        Ok(decode(&answer)?.1)
    }
}

impl RaftNetworkV2<TypeConfig> for PeerNetwork {
    type SnapshotData = SnapshotHandle;

    async fn append_entries(
        &mut self,
        rpc: AppendEntriesRequest<TypeConfig>,
        option: RPCOption,
    ) -> Result<AppendEntriesResponse<TypeConfig>, RPCError<TypeConfig>> {
        // A heartbeat that is late is still worth more than none: openraft gives up by itself.
        let patience = option.soft_ttl().max(HEARTBEAT_PATIENCE);
        match self.ask(&PeerRequest::Append(rpc), patience).await.map_err(unreachable)? {
            PeerResponse::Append(response) => Ok(response),
            other => Err(unexpected(&other)),
        }
    }

    fn stream_append<'s, S>(
        &'s mut self,
        input: S,
        option: RPCOption,
    ) -> BoxFuture<
        's,
        Result<
            BoxStream<'s, Result<StreamAppendResult<TypeConfig>, RPCError<TypeConfig>>>,
            RPCError<TypeConfig>,
        >,
    >
    where
        S: Stream<Item = AppendEntriesRequest<TypeConfig>> + OptionalSend + Unpin + 'static,
    {
        if self.is_for_heartbeats {
            // One request at a time: a call each costs less than a stream each.
            return stream_append_sequential(self, input, option);
        }
        Box::pin(async move {
            // openraft pauses after a failure where it is asked for the first request: a connection that
            // failed before that would be tried again at once, tens of thousands of times a second.
            let mut input = input;
            let Some(first) = input.next().await else {
                let nothing: BoxStream<'s, _> = Box::pin(futures_util::stream::empty());
                return Ok(nothing);
            };
            let input = futures_util::stream::once(std::future::ready(first)).chain(input);
            let envelope = self.envelope;
            let sent = Arc::new(AtomicU64::new(0));
            let counter = sent.clone();
            let (taken_for_held, mut held) = tokio::sync::mpsc::channel(1 << 12);
            let mut before = None;
            let outbound = input.map(move |request| {
                let last = request.entries.last().map(|entry| entry.log_id).or(request.prev_log_id);
                // What adds nothing to the request before it, but tells of a newer commit, is not answered.
                if before.replace(last) != Some(last) {
                    counter.fetch_add(1, Ordering::Relaxed);
                }
                if is_broken(Break::ReplyBeforeCommit) {
                    let _ = taken_for_held.try_send(last);
                }
                encode(&envelope, &request)
            });
            let inbound = self
                .transport
                .stream(&self.address, StreamKind::Append, Box::pin(outbound))
                .await
                .map_err(unreachable)?;
            if is_broken(Break::ReplyBeforeCommit) {
                let mut unread = inbound;
                let answers = futures_util::stream::poll_fn(move |context| {
                    if let std::task::Poll::Ready(None | Some(Err(_))) = unread.poll_next_unpin(context) {
                        return std::task::Poll::Ready(None);
                    }
                    held.poll_recv(context).map(|last| last.map(|last| Ok(Ok(last))))
                });
                let answers: BoxStream<'s, _> = Box::pin(answers);
                return Ok(answers);
            }
            let answers = futures_util::stream::unfold(Some((inbound, 0_u64)), move |state| {
                let sent = sent.clone();
                async move {
                    let (mut inbound, answered) = state?;
                    match next_answer(&mut inbound, &sent, answered).await {
                        None => None,
                        Some(Ok(bytes)) => match decode::<StreamAppendResult<TypeConfig>>(&bytes) {
                            Ok((_, result)) => {
                                let next = result.is_ok().then_some((inbound, answered + 1));
                                Some((Ok(result), next))
                            }
                            Err(error) => Some((Err(unreachable(error)), None)),
                        },
                        Some(Err(error)) => Some((Err(unreachable(error)), None)),
                    }
                }
            });
            let answers: BoxStream<'s, _> = Box::pin(answers);
            Ok(answers)
        })
    }

    async fn vote(
        &mut self,
        rpc: VoteRequest<TypeConfig>,
        option: RPCOption,
    ) -> Result<VoteResponse<TypeConfig>, RPCError<TypeConfig>> {
        match self.ask(&PeerRequest::Vote(rpc), option.soft_ttl()).await.map_err(unreachable)? {
            PeerResponse::Vote(response) => Ok(response),
            other => Err(unexpected(&other)),
        }
    }

    async fn pre_vote(
        &mut self,
        rpc: VoteRequest<TypeConfig>,
        option: RPCOption,
    ) -> Result<VoteResponse<TypeConfig>, RPCError<TypeConfig>> {
        match self.ask(&PeerRequest::PreVote(rpc), option.soft_ttl()).await.map_err(unreachable)? {
            PeerResponse::Vote(response) => Ok(response),
            other => Err(unexpected(&other)),
        }
    }

    async fn full_snapshot(
        &mut self,
        vote: Vote,
        snapshot: openraft::type_config::alias::SnapshotOf<TypeConfig, SnapshotHandle>,
        cancel: impl Future<Output = ReplicationClosed> + OptionalSend + 'static,
        _option: RPCOption,
    ) -> Result<SnapshotResponse<TypeConfig>, StreamingError<TypeConfig>> {
        drop(snapshot); // stands for "the durable checkpoint"; the file may be newer, never older
        let send = async {
            let opened = self.snapshots.open_for_peer(self.envelope.to).await;
            let (meta, chunks, sending) = opened.map_err(PeerError::Refused)?;
            let offer = encode(&self.envelope, &SnapshotOffer { vote, meta });
            // Of a file that cannot be read to its end the receiver misses the footer, and refuses the rest.
            let chunks = chunks.scan((), |(), chunk| std::future::ready(chunk.ok()));
            let outbound = futures_util::stream::once(async move { offer }).chain(chunks);
            let mut inbound =
                self.transport.stream(&self.address, StreamKind::Snapshot, Box::pin(outbound)).await?;
            let answer: Bytes = match inbound.next().await {
                Some(answer) => answer?,
                None => return Err(PeerError::Unreachable("snapshot stream ended without an answer".into())),
            };
            let (_, vote) = decode::<Vote>(&answer)?;
            sending.arrived();
            Ok(SnapshotResponse::new(vote))
        };
        tokio::select! {
            closed = cancel => Err(StreamingError::Closed(closed)),
            sent = send => sent.map_err(|error: PeerError| {
                tracing::warn!(%error, peer = %self.address, "snapshot did not arrive");
                StreamingError::Unreachable(Unreachable::new(&error))
            }),
        }
    }

    async fn transfer_leader(
        &mut self,
        request: TransferLeaderRequest<TypeConfig>,
        option: RPCOption,
    ) -> Result<TransferLeaderResponse<TypeConfig>, RPCError<TypeConfig>> {
        match self.ask(&PeerRequest::TransferLeader(request), option.soft_ttl()).await.map_err(unreachable)? {
            PeerResponse::TransferLeader(Ok(())) => Ok(Ok(())),
            PeerResponse::TransferLeader(Err(reason)) => Err(unreachable(PeerError::Refused(reason))),
            other => Err(unexpected(&other)),
        }
    }
}

/// The next answer, or an error if the oldest unanswered request has waited too long.
async fn next_answer(
    inbound: &mut super::peers::Inbound,
    sent: &AtomicU64,
    answered: u64,
) -> Option<Result<Bytes, PeerError>> {
    let mut was_waiting = false;
    loop {
        match tokio::time::timeout(APPEND_PATIENCE, inbound.next()).await {
            Ok(answer) => return answer,
            Err(_) => {
                let is_waiting = sent.load(Ordering::Relaxed) > answered;
                if is_waiting && was_waiting {
                    return Some(Err(PeerError::Timeout(APPEND_PATIENCE)));
                }
                was_waiting = is_waiting;
            }
        }
    }
}

fn unreachable(error: PeerError) -> RPCError<TypeConfig> {
    RPCError::Unreachable(Unreachable::new(&error))
}

fn unexpected(answer: &PeerResponse) -> RPCError<TypeConfig> {
    RPCError::Unreachable(Unreachable::new(&AnyError::error(format!("unexpected answer {answer:?}"))))
}
