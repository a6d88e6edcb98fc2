//! AGREE: what the members decide together, and what each keeps on its disk.
//!
//! openraft lives here and nowhere else. The storage files ([`log_store`], [`checkpoint`],
//! [`snapshot_store`], [`data_dir`]) are the only ones that know the log engine and sled.
//!
//! - [`proposer`]: commands become log entries here, or travel to the leader;
//! - [`network`], [`peers`], [`peer_service`]: how members speak; [`peer_transport`] and
//!   [`peer_listener`] carry it over gRPC;
//! - [`state_machine`]: committed entries reach the local state, the next room;
//! - [`barrier`]: one quorum round for all reads that wait;
//! - [`membership`]: who is a member, [`reconfiguration`] how Raft comes to agree on it;
//!   [`succession`]: who stands when the leader died;
//! - [`snapshots`]: the durable checkpoint, as Raft's snapshot; [`log_holds`]: for whom the log behind it is kept;
//! - [`founding`]: whether a member with an empty disk may take part; [`storage`] opens what is on
//!   a disk, [`restore`] makes a disk out of a snapshot file.

pub mod barrier;
pub mod birth_file;
pub mod checkpoint;
pub mod data_dir;
pub mod files;
pub mod founding;
pub mod log_holds;
pub mod log_store;
pub mod membership;
pub mod network;
pub mod peer_listener;
pub mod peer_service;
pub mod peer_transport;
pub mod peers;
pub mod proposer;
pub mod reconfiguration;
pub mod restore;
pub mod snapshot_store;
pub mod snapshots;
pub mod state_machine;
pub mod storage;
pub mod succession;
pub mod types;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use openraft::async_runtime::watch::WatchReceiver;
use quorate_core::breaks::{Break, is_broken};
use quorate_core::error::{Error, ErrorKind};
use quorate_core::id::{AttachEpoch, MemberId, SessionId};
use tokio::sync::watch;
use tokio::time::Instant;

use self::barrier::Barrier;
use self::founding::{Birth, Hello};
use self::peer_service::PeerService;
use self::peers::{
    Envelope, MemberStatus, PeerError, PeerRequest, PeerResponse, PeerTransport, Touched, decode, encode,
};
pub use self::proposer::DiskRoom;
use self::proposer::{Group, ProposalQueue, Proposer, proposal_queue};
use self::reconfiguration::Steps;
use self::snapshots::Snapshots;
use self::state_machine::StateMachine;
use self::succession::Succession;
use self::types::TypeConfig;
use crate::environment::Environment;
use crate::local_state::LocalState;
use crate::metrics::Metrics;
use crate::tasks::TaskGuard;

/// What of this room's engine belongs in a member's log. Every read round asks every peer: a dead one
/// would be told of hundreds of times a second.
pub const LOG_FILTER: &str = "openraft=warn,openraft::core::heartbeat=error";

/// Raft, with our types.
pub type QuorateRaft = openraft::Raft<TypeConfig, StateMachine>;

/// How long a leader may take to answer heartbeats.
const TOUCH_PATIENCE: Duration = Duration::from_secs(2);
/// How long a member may take to say how it is.
const STATUS_PATIENCE: Duration = Duration::from_secs(1);
/// How long a member may take to recompute its digest.
const DIGEST_PATIENCE: Duration = Duration::from_secs(60);

/// How long a checkpoint for a snapshot may take.
const SNAPSHOT_PATIENCE: Duration = Duration::from_secs(60);
/// Pause between looks at whether it is durable.
const SNAPSHOT_LOOK: Duration = Duration::from_millis(100);

/// Who leads, as far as this member knows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Leadership {
    /// The leader, if one is known.
    pub leader: Option<MemberId>,
    /// The term it leads in.
    pub term: u64,
}

/// Told which sessions are alive; only a leader is. An implementer records it and returns at once.
pub trait SessionTouches: Send + Sync + fmt::Debug + 'static {
    /// These sessions' members heard of them. Gives those that are being ended: their heartbeats may not
    /// be answered, for the end may come whatever is heard now.
    fn touch(&self, sessions: &[(SessionId, AttachEpoch)]) -> Vec<(SessionId, AttachEpoch)>;
}

/// This member's part in the agreement. Cheap to clone.
#[derive(Clone)]
pub struct Replica {
    inner: Arc<Inner>,
}

/// Everything that the room's files share.
pub(in crate::replica) struct Inner {
    member: MemberId,
    cluster: u128,
    raft: QuorateRaft,
    transport: Arc<dyn PeerTransport>,
    touches: Arc<dyn SessionTouches>,
    local: Arc<LocalState>,
    snapshots: Arc<Snapshots>,
    queue: ProposalQueue,
    steps: Steps,
    barrier: Barrier,
    succession: Succession,
    leadership: watch::Receiver<Leadership>,
    lost: watch::Sender<u64>,
    births: BTreeMap<u64, Birth>,
    /// Why this member must stop, once it must.
    fatal: watch::Sender<Option<String>>,
    /// Whether the disk is too full to accept writes.
    disk_room: watch::Sender<DiskRoom>,
}

/// What a replica is wired from.
pub struct Wiring {
    /// This member.
    pub member: MemberId,
    /// The cluster's id.
    pub cluster: u128,
    /// Raft, started.
    pub raft: QuorateRaft,
    /// Carries messages to peers.
    pub transport: Arc<dyn PeerTransport>,
    /// Told which sessions are alive.
    pub touches: Arc<dyn SessionTouches>,
    /// The next room.
    pub local: Arc<LocalState>,
    /// The durable checkpoint.
    pub snapshots: Arc<Snapshots>,
    /// The founders' births.
    pub births: BTreeMap<u64, Birth>,
    /// How long followers honour a silent leader.
    pub lease: Duration,
    /// Clock and randomness.
    pub environment: Environment,
    /// The member's meters.
    pub metrics: Metrics,
}

impl fmt::Debug for Replica {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Replica").field("member", &self.inner.member).finish_non_exhaustive()
    }
}

impl fmt::Debug for Inner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Inner").field("member", &self.member).finish_non_exhaustive()
    }
}

impl Replica {
    /// Wires the room and starts its tasks, which end with the guards.
    pub fn start(wiring: Wiring) -> (Replica, Vec<TaskGuard>) {
        let (leadership_sender, leadership) = watch::channel(Leadership::default());
        let (queue, queued) = proposal_queue();
        let (steps, asked) = reconfiguration::steps();
        let lost = watch::Sender::new(0);
        let disk_room = watch::Sender::new(DiskRoom::Enough);
        let envelope = Envelope { cluster: wiring.cluster, from: wiring.member.0, to: 0 };
        let proposer = Proposer {
            raft: wiring.raft.clone(),
            transport: wiring.transport.clone(),
            leadership: leadership.clone(),
            envelope,
            environment: wiring.environment,
            metrics: wiring.metrics,
            lost: lost.clone(),
            disk_room: disk_room.subscribe(),
            queue: queued,
        };
        let inner = Arc::new(Inner {
            member: wiring.member,
            cluster: wiring.cluster,
            raft: wiring.raft.clone(),
            transport: wiring.transport,
            touches: wiring.touches,
            local: wiring.local,
            snapshots: wiring.snapshots,
            queue,
            steps,
            barrier: Barrier::default(),
            succession: Succession::new(wiring.lease),
            leadership: leadership.clone(),
            lost,
            births: wiring.births,
            fatal: watch::Sender::new(None),
            disk_room: disk_room.clone(),
        });
        let tasks = vec![
            TaskGuard::spawn("leadership", follow_leadership(wiring.raft, leadership_sender)),
            TaskGuard::spawn("proposer", proposer.run()),
            TaskGuard::spawn("read barrier", barrier::run(inner.clone(), leadership)),
            TaskGuard::spawn("reconfiguration", reconfiguration::run(inner.clone(), asked)),
            TaskGuard::spawn("succession", succession::run(inner.clone())),
            TaskGuard::spawn("checkpoints", snapshots::run_checkpoints(inner.clone())),
        ];
        (Replica { inner }, tasks)
    }

    /// Answers peers; goes behind the peer port.
    pub fn peer_service(&self) -> PeerService {
        PeerService { inner: self.inner.clone() }
    }

    /// The cluster's id.
    pub fn cluster(&self) -> u128 {
        self.inner.cluster
    }

    /// Follows who leads.
    pub fn leadership(&self) -> watch::Receiver<Leadership> {
        self.inner.leadership.clone()
    }

    /// Follows the count of times that proposed commands may have been lost.
    pub fn lost(&self) -> watch::Receiver<u64> {
        self.inner.lost.subscribe()
    }

    /// Queues commands that belong together, waiting for room.
    pub async fn propose(&self, group: Group) -> Result<(), Error> {
        self.inner.queue.push(group).await
    }

    /// Queues one command if there is room now; `Overloaded` otherwise.
    pub fn try_propose(&self, command: bytes::Bytes) -> Result<(), Error> {
        self.inner.queue.try_push(vec![command])
    }

    /// Queues one command that this member judged as the leader of `term`; it is dropped, here, if that is
    /// no longer so when its turn comes. `Overloaded` if there is no room.
    pub fn try_propose_as_leader(&self, term: u64, command: bytes::Bytes) -> Result<(), Error> {
        self.inner.queue.try_push_as_leader(term, command)
    }

    /// Groups waiting to be proposed.
    pub fn proposal_queue_depth(&self) -> usize {
        self.inner.queue.depth()
    }

    /// Returns once this member has applied everything committed anywhere before the call.
    ///
    /// # Errors
    /// `Overloaded`, or `Unavailable` when the member stops; without a quorum it waits.
    pub async fn read_barrier(&self) -> Result<(), Error> {
        self.inner.read_barrier().await
    }

    /// Tells the leader that these sessions are alive; returns once it has completed a quorum round after
    /// that. What the leader knew then has applied here once this member reaches the index returned: a
    /// session that is still attached then, and not among those being ended, is alive.
    ///
    /// # Errors
    /// `Unavailable`: no leader or no quorum, or another leader meanwhile; ask again.
    pub async fn touch(&self, sessions: Vec<(SessionId, AttachEpoch)>) -> Result<Touched, Error> {
        let mut leadership = self.inner.leadership.clone();
        let leader = leadership.borrow_and_update().leader;
        tokio::select! {
            biased;
            // One that no longer leads may never answer.
            Ok(()) = leadership.changed() => {
                Err(Error::new(ErrorKind::Unavailable, "the leader changed meanwhile; ask again"))
            }
            touched = self.inner.touch_at(leader, sessions) => touched,
        }
    }

    /// This member's own view.
    pub fn own_status(&self) -> MemberStatus {
        self.inner.own_status()
    }

    /// Every member's digest at a mark, in id order; why there is none for those that don't answer.
    pub async fn digests_at(
        &self,
        mark: u64,
        recompute: bool,
    ) -> Vec<(MemberId, Result<MemberDigest, String>)> {
        let asked = self.members().into_iter().map(|member| async move {
            let answer = if member.id == self.inner.member {
                self.inner.digest_at(mark, recompute).await
            } else {
                let request = PeerRequest::Digest { mark, recompute };
                match self.inner.ask_member(member.id.0, &request, DIGEST_PATIENCE).await {
                    Ok(PeerResponse::Digest(digest, again)) => Ok((digest, again)),
                    Ok(other) => Err(format!("unexpected answer {other:?}")),
                    Err(error) => Err(error.to_string()),
                }
            };
            (member.id, answer.map(|(digest, recomputed)| MemberDigest { digest, recomputed }))
        });
        futures_util::future::join_all(asked).await
    }

    /// How far each follower's log matches, as far as this member, if it leads, knows.
    pub fn matched_indexes(&self) -> BTreeMap<MemberId, u64> {
        let matched = self.inner.matched().into_iter();
        matched.filter_map(|(id, index)| Some((MemberId(id), index?))).collect()
    }

    /// The voter, other than the leader, that is furthest ahead.
    pub async fn furthest_follower(&self) -> Result<MemberId, Error> {
        let leader = self.inner.leadership.borrow().leader;
        let mut best: Option<(u64, MemberId)> = None;
        for member in self.members().into_iter().filter(|member| member.is_voter && Some(member.id) != leader)
        {
            let last = if member.id == self.inner.member {
                Some(self.inner.own_status().last_log_index)
            } else {
                match self.inner.ask_member(member.id.0, &PeerRequest::Status, STATUS_PATIENCE).await {
                    Ok(PeerResponse::Status(status)) => Some(status.last_log_index),
                    Ok(_) | Err(_) => None,
                }
            };
            if let Some(last) = last
                && best.is_none_or(|(ahead, _)| last > ahead)
            {
                best = Some((last, member.id));
            }
        }
        best.map(|(_, member)| member)
            .ok_or_else(|| Error::new(ErrorKind::Unavailable, "no other voter answers"))
    }

    /// The last committed index that this member knows of.
    pub fn committed_index(&self) -> u64 {
        let metrics = self.inner.raft.data_metrics();
        let metrics = metrics.borrow_watched();
        metrics.local_committed.as_ref().map_or(0, |log_id| log_id.index())
    }

    /// A consistent copy of everything applied here by now, as a snapshot file.
    ///
    /// # Errors
    /// `Unavailable` if no checkpoint became durable in time.
    pub async fn snapshot(&self) -> Result<snapshots::Export, Error> {
        let unavailable = |reason: String| Error::new(ErrorKind::Unavailable, reason);
        let applied = self.inner.local.progress_now().index;
        let deadline = Instant::now() + SNAPSHOT_PATIENCE;
        while self.inner.snapshots.durable_index() < applied {
            if Instant::now() >= deadline {
                return Err(unavailable(format!("no checkpoint within {} s", SNAPSHOT_PATIENCE.as_secs())));
            }
            self.inner.raft.trigger().snapshot().await.map_err(|fatal| unavailable(fatal.to_string()))?;
            tokio::time::sleep(SNAPSHOT_LOOK).await;
        }
        self.inner.snapshots.export().await.map_err(unavailable)
    }

    /// Tells members whose digest at a mark is not the majority's to stop.
    pub async fn stop_different(&self, mark: u64, majority: u128, members: &[MemberId]) {
        for member in members {
            if *member == self.inner.member {
                self.inner.stop_if_different(mark, majority);
                continue;
            }
            let request = PeerRequest::Differs { mark, majority };
            if let Err(error) = self.inner.ask_member(member.0, &request, STATUS_PATIENCE).await {
                tracing::error!(%member, %error, "a member's state differs from the majority's, and it cannot be told");
            }
        }
    }

    /// How much disk there is from now on: what this member refuses to propose while it leads.
    pub fn set_disk_room(&self, room: DiskRoom) {
        self.inner.disk_room.send_if_modified(|known| std::mem::replace(known, room) != room);
    }

    /// Resolves when this member must stop by itself (a failed disk, a damaged state), with the reason.
    pub async fn failed(&self) -> String {
        let mut fatal = self.inner.fatal.subscribe();
        tokio::select! {
            reason = self.raft_failed() => reason,
            reason = async {
                let reason = fatal.wait_for(Option::is_some).await.map(|reason| reason.clone());
                match reason {
                    Ok(reason) => reason.unwrap_or_default(),
                    Err(_) => std::future::pending().await,
                }
            } => reason,
        }
    }

    async fn raft_failed(&self) -> String {
        let mut metrics = self.inner.raft.metrics();
        loop {
            let fatal = metrics.borrow_watched().running_state.as_ref().err().map(ToString::to_string);
            if let Some(fatal) = fatal {
                return fatal;
            }
            if metrics.changed().await.is_err() {
                return "raft has stopped".into();
            }
        }
    }

    /// Hands the leadership to another voter, if this member has it and somebody can take it.
    pub async fn hand_over(&self) {
        if self.inner.leadership.borrow().leader != Some(self.inner.member) {
            return;
        }
        let best = self.furthest_follower().await.ok().map(|member| member.0);
        if let Some(to) = best {
            let change = membership::MembershipChange::Transfer { to };
            if let Err(error) = self.inner.change_membership_here(change).await {
                tracing::warn!(%error, to, "leadership could not be handed over; an election follows");
            }
        }
    }

    /// Stops Raft.
    pub async fn shut_down(&self) {
        if let Err(error) = self.inner.raft.shutdown().await {
            tracing::warn!(%error, "raft did not stop cleanly");
        }
    }
}

impl Inner {
    /// How far each other member's log matches, where that is known; empty where this member does not
    /// lead.
    fn matched(&self) -> BTreeMap<u64, Option<u64>> {
        let metrics = self.raft.metrics();
        let metrics = metrics.borrow_watched();
        let peers = metrics.replication.iter().flatten();
        peers.map(|(id, matched)| (*id, matched.as_ref().map(|log_id| log_id.index()))).collect()
    }

    async fn read_barrier(&self) -> Result<(), Error> {
        let index = self.barrier.index().await?;
        self.local.wait_applied(index).await
    }

    async fn touch_at(
        &self,
        leader: Option<MemberId>,
        sessions: Vec<(SessionId, AttachEpoch)>,
    ) -> Result<Touched, Error> {
        match leader {
            None => Err(Error::new(ErrorKind::Unavailable, "no leader")),
            Some(leader) if leader == self.member => self.touch_here(&sessions).await,
            Some(MemberId(leader)) => self
                .ask_member(leader, &PeerRequest::Touch(sessions), TOUCH_PATIENCE)
                .await
                .map_err(|error| Error::new(ErrorKind::Unavailable, error.to_string()))
                .and_then(|answer| match answer {
                    PeerResponse::Touched(touched) => Ok(touched),
                    other => Err(Error::new(ErrorKind::Unavailable, format!("unexpected answer {other:?}"))),
                }),
        }
    }

    /// Tells what judges the sessions here that these are alive, and shows that this member still leads.
    async fn touch_here(&self, sessions: &[(SessionId, AttachEpoch)]) -> Result<Touched, Error> {
        let unavailable = |why| Error::new(ErrorKind::Unavailable, why);
        let leading = *self.leadership.borrow();
        if leading.leader != Some(self.member) {
            return Err(unavailable("this member does not lead"));
        }
        let ending = self.touches.touch(sessions);
        if is_broken(Break::HeartbeatWithoutQuorum) {
            return Ok(Touched::default());
        }
        // The touch counts only if we still lead *after* it: one more quorum round.
        let index = self.barrier.index().await?;
        // A round that another leader has confirmed says nothing of a touch that it never heard.
        if *self.leadership.borrow() != leading {
            return Err(unavailable("the leader changed meanwhile; ask again"));
        }
        Ok(Touched { index, ending })
    }

    fn envelope(&self, to: u64) -> Envelope {
        Envelope { cluster: self.cluster, from: self.member.0, to }
    }

    /// Asks another member by id.
    async fn ask_member(
        &self,
        member: u64,
        request: &PeerRequest,
        patience: Duration,
    ) -> Result<PeerResponse, PeerError> {
        let address = self.membership().membership().get_node(&member).map(|node| node.peer.clone());
        let Some(address) = address else {
            return Err(PeerError::Unreachable(format!("member {member} has no known address")));
        };
        let request = encode(&self.envelope(member), request);
        let answer = self.transport.call(&address, request, patience).await?;
        Ok(decode(&answer)?.1)
    }

    fn own_status(&self) -> MemberStatus {
        let (term, last_log_index) = {
            let metrics = self.raft.metrics();
            let metrics = metrics.borrow_watched();
            (metrics.current_term, metrics.last_log_index.unwrap_or(0))
        };
        let leadership = *self.leadership.borrow();
        let sizes = self.local.sizes();
        let (applied_index, zxid, digest) =
            self.local.with_applied_state(|index, state| (index, state.zxid(), state.digest()));
        MemberStatus {
            member: self.member.0,
            version: env!("CARGO_PKG_VERSION").into(),
            term,
            leader: leadership.leader.map(|leader| leader.0),
            applied_index,
            last_log_index,
            zxid: zxid.0,
            digest: digest.0,
            znodes: sizes.state.znodes,
            sessions: sizes.attached as u64,
            checkpoint_index: self.snapshots.durable_index(),
            purged_index: self.snapshots.purged_index(),
            log_bytes: self.snapshots.log_bytes(),
        }
    }
}

impl Inner {
    /// This member's digest at a mark; recomputed, it is what all records give *now*, corrected by
    /// what has changed since the mark.
    async fn digest_at(&self, mark: u64, recompute: bool) -> Result<(u128, Option<u128>), String> {
        let mut progress = self.local.progress();
        let applied = progress.wait_for(|_| self.local.digest_at_mark(mark).is_some());
        let digest = match tokio::time::timeout(DIGEST_PATIENCE, applied).await {
            Ok(Ok(_)) => self.local.digest_at_mark(mark),
            Ok(Err(_)) | Err(_) => None,
        };
        let Some(digest) = digest else {
            return Err("has not applied the mark (it lags, or installed a snapshot since); ask again".into());
        };
        let again = recompute.then(|| {
            self.local.with_state(|state| {
                let drift = state.recompute_digest().0.wrapping_sub(state.digest().0);
                digest.wrapping_add(drift)
            })
        });
        Ok((digest, again))
    }

    fn stop_if_different(&self, mark: u64, majority: u128) {
        if let Some(own) = self.local.digest_at_mark(mark)
            && own != majority
        {
            self.fatal.send_replace(Some(format!(
                "this member's state differs from the majority's (digest {own:032x}, theirs {majority:032x}): its memory or disk \
                 is damaged. Its data cannot be trusted; replace it under a new id: quorate cluster replace"
            )));
        }
    }

    /// What this member tells one that founds or joins.
    fn hello(&self) -> Hello {
        let stored = self.membership();
        let voters: BTreeSet<u64> = stored.membership().voter_ids().collect();
        let members = stored.membership().nodes().map(|(id, _)| (*id, voters.contains(id))).collect();
        Hello::Member { births: self.births.clone(), members }
    }
}

/// One member's digests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MemberDigest {
    /// As maintained, at the mark.
    pub digest: u128,
    /// Equal to `digest` exactly if the records give what is maintained.
    pub recomputed: Option<u128>,
}

/// Turns Raft's metrics into our own words.
async fn follow_leadership(raft: QuorateRaft, sender: watch::Sender<Leadership>) {
    let mut metrics = raft.server_metrics();
    loop {
        let now = {
            let metrics = metrics.borrow_watched();
            let term = metrics.vote.leader_id().term;
            Leadership { leader: metrics.current_leader.map(MemberId), term }
        };
        sender.send_if_modified(|known| {
            let is_new = *known != now;
            *known = now;
            is_new
        });
        if metrics.changed().await.is_err() {
            return;
        }
    }
}
