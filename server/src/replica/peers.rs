//! What members say to each other, and the two ways they say it.
//!
//! A [`PeerTransport`] carries opaque bytes: single calls and two-way streams. The wire is tonic's
//! in [`super::peer_transport`] and [`super::peer_listener`], or the simulator's. The messages
//! themselves (postcard, see docs/formats.md) are here, so that every wire carries the same ones.
//!
//! Each message names the cluster, its sender and the member it is meant for; a listener refuses
//! all others, so a stale address or a foreign cluster can do no harm.

use std::fmt;
use std::pin::Pin;
use std::time::Duration;

use bytes::Bytes;
use futures_util::Stream;
use futures_util::future::BoxFuture;
use openraft::raft::{AppendEntriesRequest, TransferLeaderRequest, VoteRequest, VoteResponse};
use quorate_core::error::Error;
use quorate_core::id::{AttachEpoch, SessionId};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::types::{SnapshotMeta, TypeConfig, Vote};

/// Messages on their way to a peer.
pub type Outbound = Pin<Box<dyn Stream<Item = Bytes> + Send>>;
/// Messages from a peer; the first error ends the stream.
pub type Inbound = Pin<Box<dyn Stream<Item = Result<Bytes, PeerError>> + Send>>;

/// Why a peer could not be asked, or did not answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub enum PeerError {
    /// No connection, or it broke.
    #[error("peer unreachable: {0}")]
    Unreachable(String),
    /// No answer in time.
    #[error("peer did not answer within {0:?}")]
    Timeout(Duration),
    /// It answered with a refusal.
    #[error("peer refused: {0}")]
    Refused(String),
}

/// Which kind of conversation a stream is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum StreamKind {
    /// Log entries one way, acknowledgements the other.
    Append,
    /// Commands for the leader, one way.
    Propose,
    /// A snapshot's chunks one way, one answer at the end.
    Snapshot,
}

/// Carries messages to peers. An implementer never blocks the thread, keeps a stream's order, and
/// reports a dead peer as `Unreachable`.
pub trait PeerTransport: Send + Sync + fmt::Debug + 'static {
    /// One question, one answer.
    fn call(
        &self,
        address: &str,
        request: Bytes,
        patience: Duration,
    ) -> BoxFuture<'static, Result<Bytes, PeerError>>;

    /// A two-way conversation.
    fn stream(
        &self,
        address: &str,
        kind: StreamKind,
        input: Outbound,
    ) -> BoxFuture<'static, Result<Inbound, PeerError>>;
}

/// Answers peers: [`super::peer_service::PeerService`], behind whatever wire.
pub trait PeerHandler: Send + Sync + fmt::Debug + 'static {
    /// Answers one question.
    fn call(&self, request: Bytes) -> BoxFuture<'static, Result<Bytes, PeerError>>;

    /// Holds a conversation.
    fn stream(&self, kind: StreamKind, input: Inbound) -> Inbound;
}

/// Who speaks to whom.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Envelope {
    /// The cluster's id.
    pub cluster: u128,
    /// The sender.
    pub from: u64,
    /// Whom it is meant for.
    pub to: u64,
}

/// A question to a peer.
#[derive(Debug, Serialize, Deserialize)]
pub enum PeerRequest {
    // The order is part of the wire format: append only.
    /// Raft: entries outside a stream (heartbeats).
    Append(AppendEntriesRequest<TypeConfig>),
    /// Raft: a vote.
    Vote(VoteRequest<TypeConfig>),
    /// Raft: would you vote.
    PreVote(VoteRequest<TypeConfig>),
    /// Raft: take over.
    TransferLeader(TransferLeaderRequest<TypeConfig>),
    /// To the leader: up to where must I apply before I read?
    ReadIndex,
    /// To the leader: these sessions are alive.
    Touch(Vec<(SessionId, AttachEpoch)>),
    /// How are you?
    Status,
    /// What was your digest at this mark?
    Digest {
        /// The ticket of the call that set the mark.
        mark: u64,
        /// Recompute it from all records too.
        recompute: bool,
    },
    /// To the leader: change the membership.
    Membership(super::membership::MembershipChange),
    /// Your digest at this mark is not the majority's: stop.
    Differs {
        /// The ticket of the call that set the mark.
        mark: u64,
        /// The majority's digest there.
        majority: u128,
    },
    /// My disk is empty: may I take part?
    Hello {
        /// Drawn when the empty directory was first used.
        birth: super::founding::Birth,
        /// Whether the asker founds, or joins.
        is_founder: bool,
    },
    /// To the leader: this learner begins with an empty disk.
    BeginsAnew(u64),
}

/// The answer to a question of the same name.
#[derive(Debug, Serialize, Deserialize)]
pub enum PeerResponse {
    // The order is part of the wire format: append only.
    /// To an append.
    Append(openraft::raft::AppendEntriesResponse<TypeConfig>),
    /// To a vote or pre-vote.
    Vote(VoteResponse<TypeConfig>),
    /// To a transfer; the refusal as text.
    TransferLeader(Result<(), String>),
    /// The index to apply first.
    ReadIndex(u64),
    /// Done.
    Done,
    /// A member's own view.
    Status(Box<MemberStatus>),
    /// The digest at the mark, and recomputed.
    Digest(u128, Option<u128>),
    /// What the asked one knows of founders and members.
    Hello(super::founding::Hello),
    /// Why a change of members was not made, or may not have been.
    Failed(Error),
    /// To a touch.
    Touched(Touched),
}

/// What a leader says of sessions that it was told of.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Touched {
    /// The index to apply first.
    pub index: u64,
    /// Those that are being ended whatever is heard of them now, in order.
    pub ending: Vec<(SessionId, AttachEpoch)>,
}

/// A member's own view of itself.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct MemberStatus {
    /// The member.
    pub member: u64,
    /// Its server's version.
    pub version: String,
    /// Its term.
    pub term: u64,
    /// Whom it holds for the leader.
    pub leader: Option<u64>,
    /// The last applied log index.
    pub applied_index: u64,
    /// The last log index.
    pub last_log_index: u64,
    /// The last transaction.
    pub zxid: u64,
    /// The digest of content at `applied_index`.
    pub digest: u128,
    /// Znodes.
    pub znodes: u64,
    /// Sessions attached to it.
    pub sessions: u64,
    /// Up to where its checkpoint is durable.
    pub checkpoint_index: u64,
    /// Up to where its log is gone.
    pub purged_index: u64,
    /// Bytes of its log on disk.
    pub log_bytes: u64,
}

/// The first message of a snapshot stream; chunks of the file follow.
#[derive(Debug, Serialize, Deserialize)]
pub struct SnapshotOffer {
    /// The leader's vote.
    pub vote: Vote,
    /// What the snapshot stands for.
    pub meta: SnapshotMeta,
}

/// Encodes a message behind its envelope.
pub fn encode<M: Serialize>(envelope: &Envelope, message: &M) -> Bytes {
    let bytes = postcard::to_allocvec(envelope)
        .and_then(|head| postcard::to_extend(message, head))
        .expect("peer messages hold nothing that postcard cannot encode");
    bytes.into()
}

/// Takes a message out of its envelope.
pub fn decode<M: DeserializeOwned>(bytes: &[u8]) -> Result<(Envelope, M), PeerError> {
    postcard::take_from_bytes::<Envelope>(bytes)
        .and_then(|(envelope, rest)| Ok((envelope, postcard::from_bytes(rest)?)))
        .map_err(|error| PeerError::Refused(format!("malformed peer message: {error}")))
}
