//! Proposals: commands become log entries here if this member leads, or travel to the leader's.
//!
//! One queue, one task. On the leader it gathers whatever waits, bounded by bytes and count, stamps
//! it with time and entropy, and hands it to Raft as one entry; two entries are under way at
//! once, so that the next group forms while the last one is synced. Elsewhere it forwards groups on
//! one stream to the leader, in order.
//!
//! Raft's answer tells nothing but "committed" or "unknown": callers learn from apply. When
//! commands may have been lost (a broken stream, a leader that stepped down) the `lost` counter
//! grows, and the coordinator proposes again what has not applied.

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::stream::FuturesOrdered;
use futures_util::{FutureExt, StreamExt};
use openraft::async_runtime::watch::WatchReceiver;
use openraft::errors::ClientWriteError;
use openraft::impls::ProgressResponder;
use openraft::raft::ClientWriteResult;
use quorate_core::batch::BatchBuilder;
use quorate_core::breaks::{Break, is_broken};
use quorate_core::command::{Command, Operation, Stamp};
use quorate_core::error::{Error, ErrorKind};
use quorate_core::id::MemberId;
use tokio::sync::{Semaphore, mpsc, watch};
use tokio::time::{Duration, sleep};

use super::peers::{Envelope, PeerTransport, StreamKind, encode};
use super::types::{MemberAddress, Payload, TypeConfig};
use super::{Leadership, QuorateRaft};
use crate::environment::Environment;
use crate::metrics::Metrics;

/// Groups that may wait; beyond this sessions wait and calls are refused.
const QUEUE_GROUPS: usize = 8192;
/// Bytes of them that may wait; beyond this as well.
const QUEUE_BYTES: usize = 64 << 20;
/// Judged commands that may wait; beyond this they are judged again later.
const QUEUE_JUDGED: usize = 8192;
/// Groups taken from the queue at once.
const TAKE_GROUPS: usize = 1024;
/// Groups taken without a look at their size.
const TAKE_STEP: usize = 16;
/// Judged commands taken at once: some of them end a session with all its ephemerals.
const TAKE_JUDGED: usize = 256;
/// An entry is closed when it holds this many bytes.
const ENTRY_BYTES: usize = 512 << 10;
/// Entries of this leader under way at once: one is synced, the next one travels, and what comes
/// meanwhile gathers. More of them would be smaller, and each costs all members the same.
const ENTRIES_UNDER_WAY: usize = 2;
/// No more groups are taken once these hold so many bytes: the rest waits where it is counted.
const TAKE_BYTES: usize = ENTRIES_UNDER_WAY * ENTRY_BYTES;
/// Messages on the way to a leader before this member waits.
const FORWARD_DEPTH: usize = 16;
/// Pause before asking a leader again that refused for want of a quorum.
const RETRY: Duration = Duration::from_millis(10);

/// Commands that belong together in order.
pub type Group = Vec<Bytes>;

/// How much disk the leader's directory has left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DiskRoom {
    /// More than the reserve.
    Enough,
    /// Less: what makes the tree larger is refused.
    Low,
    /// Next to none: nothing is proposed. What waits stays in the queue, and a full queue answers
    /// "overloaded".
    None,
}

/// The queue's sending end.
#[derive(Clone, Debug)]
pub struct ProposalQueue {
    sender: mpsc::Sender<Group>,
    room: Arc<Semaphore>,
    judged: mpsc::Sender<Judged>,
}

/// The queue's receiving end.
pub struct Queued {
    groups: mpsc::Receiver<Group>,
    /// In bytes; whoever takes groups gives their room back.
    room: Arc<Semaphore>,
    judged: mpsc::Receiver<Judged>,
}

/// A command that a leader judged by what it alone knows, and the term in which it did.
pub struct Judged {
    term: u64,
    command: Bytes,
}

impl ProposalQueue {
    /// Queues a group, waiting for room.
    pub async fn push(&self, group: Group) -> Result<(), Error> {
        let room = tokio::select! {
            biased;
            room = self.room.acquire_many(room_of(&group)) => room.map_err(|_| stopped())?,
            () = self.sender.closed() => return Err(stopped()),
        };
        self.sender.send(group).await.map_err(|_| stopped())?;
        room.forget();
        Ok(())
    }

    /// Queues a group if there is room now.
    ///
    /// # Errors
    /// `Overloaded`: nothing happened, retry with backoff.
    pub fn try_push(&self, group: Group) -> Result<(), Error> {
        let Ok(room) = self.room.try_acquire_many(room_of(&group)) else {
            return Err(Error::new(
                ErrorKind::Overloaded,
                format!("proposal queue: {} MiB wait; retry with backoff", QUEUE_BYTES >> 20),
            ));
        };
        self.sender.try_send(group).map_err(|error| match error {
            mpsc::error::TrySendError::Full(_) => Error::new(
                ErrorKind::Overloaded,
                format!("proposal queue: {QUEUE_GROUPS} groups wait; retry with backoff"),
            ),
            mpsc::error::TrySendError::Closed(_) => stopped(),
        })?;
        room.forget();
        Ok(())
    }

    /// Queues a command judged as the leader of `term` if there is room now.
    ///
    /// # Errors
    /// `Overloaded`: nothing happened, judge again later.
    pub fn try_push_as_leader(&self, term: u64, command: Bytes) -> Result<(), Error> {
        self.judged.try_send(Judged { term, command }).map_err(|error| match error {
            mpsc::error::TrySendError::Full(_) => Error::new(
                ErrorKind::Overloaded,
                format!("proposal queue: {QUEUE_JUDGED} judged commands wait"),
            ),
            mpsc::error::TrySendError::Closed(_) => stopped(),
        })
    }

    /// Groups waiting.
    pub fn depth(&self) -> usize {
        self.sender.max_capacity() - self.sender.capacity()
    }
}

impl Queued {
    /// Takes what waits behind these groups, up to the bounds, and gives back the room of all of them.
    fn take_more(&mut self, taken: &mut Vec<Group>) {
        let (mut bytes, mut counted) = (0, 0);
        loop {
            bytes += taken[counted..].iter().map(|group| room_of(group) as usize).sum::<usize>();
            counted = taken.len();
            if bytes >= TAKE_BYTES
                || counted >= TAKE_GROUPS
                || self.groups.recv_many(taken, TAKE_STEP).now_or_never().is_none_or(|count| count == 0)
            {
                break;
            }
        }
        self.room.add_permits(bytes);
    }
}

/// The room that a group takes; one that is larger than all the room takes all of it.
fn room_of(group: &[Bytes]) -> u32 {
    group.iter().map(Bytes::len).sum::<usize>().min(QUEUE_BYTES) as u32
}

fn stopped() -> Error {
    Error::new(ErrorKind::Unavailable, "this member is stopping")
}

/// The queue's task.
pub struct Proposer {
    pub(super) raft: QuorateRaft,
    pub(super) transport: Arc<dyn PeerTransport>,
    pub(super) leadership: watch::Receiver<Leadership>,
    pub(super) envelope: Envelope,
    pub(super) environment: Environment,
    pub(super) metrics: Metrics,
    pub(super) lost: watch::Sender<u64>,
    pub(super) disk_room: watch::Receiver<DiskRoom>,
    pub(super) queue: Queued,
}

/// Makes the queue; its receiving end goes to the [`Proposer`].
pub fn proposal_queue() -> (ProposalQueue, Queued) {
    let (sender, groups) = mpsc::channel(QUEUE_GROUPS);
    let (judged, judged_receiver) = mpsc::channel(QUEUE_JUDGED);
    let room = Arc::new(Semaphore::new(QUEUE_BYTES));
    (ProposalQueue { sender, room: room.clone(), judged }, Queued { groups, room, judged: judged_receiver })
}

/// Why leading or forwarding ended.
enum Turn {
    /// Somebody else leads now, or nobody.
    LeaderChanged,
    /// The member stops.
    Stopped,
}

type UnderWay = futures_util::future::BoxFuture<'static, (Payload, Option<ClientWriteResult<TypeConfig>>)>;

impl Proposer {
    /// Serves the queue for as long as the member lives.
    pub async fn run(mut self) {
        loop {
            let leadership = *self.leadership.borrow_and_update();
            let turn = match leadership.leader {
                Some(MemberId(leader)) if leader == self.envelope.from => self.lead(leadership).await,
                Some(MemberId(leader)) => match self.address_of(leader) {
                    Some(address) => self.forward(leader, &address).await,
                    None if is_broken(Break::ForgetsNewLeader) => self.wait_for_change().await,
                    None => self.wait_for_address(leader).await,
                },
                None => self.wait_for_change().await,
            };
            if matches!(turn, Turn::Stopped) {
                return;
            }
        }
    }

    async fn wait_for_change(&mut self) -> Turn {
        match self.leadership.changed().await {
            Ok(()) => Turn::LeaderChanged,
            Err(_) => Turn::Stopped,
        }
    }

    /// A new member may hear its leader before it has the entry that says where the leader is.
    async fn wait_for_address(&mut self, leader: u64) -> Turn {
        let mut metrics = self.raft.server_metrics();
        while self.address_of(leader).is_none() {
            tokio::select! {
                changed = self.leadership.changed() => {
                    return if changed.is_ok() { Turn::LeaderChanged } else { Turn::Stopped };
                }
                changed = metrics.changed() => if changed.is_err() { return Turn::Stopped },
            }
        }
        Turn::LeaderChanged
    }

    fn address_of(&self, member: u64) -> Option<MemberAddress> {
        let metrics = self.raft.server_metrics();
        let membership = metrics.borrow_watched().membership_config.clone();
        membership.membership().get_node(&member).cloned()
    }

    async fn lead(&mut self, leadership: Leadership) -> Turn {
        let mut under_way: FuturesOrdered<UnderWay> = FuturesOrdered::new();
        let mut taken: Vec<Group> = Vec::new();
        let mut judged: Vec<Judged> = Vec::new();
        loop {
            let room = *self.disk_room.borrow_and_update();
            tokio::select! {
                biased;
                changed = self.leadership.changed() => {
                    self.note_lost();
                    return if changed.is_ok() { Turn::LeaderChanged } else { Turn::Stopped };
                }
                Some((payload, result)) = under_way.next(), if !under_way.is_empty() => {
                    if is_refused(&result) {
                        match self.propose_again(leadership, payload, &mut under_way).await {
                            Some(again) => under_way = again,
                            None => {
                                self.note_lost();
                                return self.wait_for_change().await;
                            }
                        }
                    } else if result.is_none() || matches!(result, Some(Err(_))) {
                        self.note_lost();
                    }
                }
                Ok(()) = self.disk_room.changed() => {}
                count = self.queue.judged.recv_many(&mut judged, TAKE_JUDGED),
                    if under_way.len() < ENTRIES_UNDER_WAY && room != DiskRoom::None => {
                    if count == 0 {
                        return Turn::Stopped;
                    }
                    // What clients ask for goes with them: thousands of sessions may end at once.
                    self.queue.take_more(&mut taken);
                    let of_this_term = judged.drain(..).filter(|judged| judged.term == leadership.term);
                    let commands = of_this_term.map(|judged| judged.command);
                    let commands = commands.chain(admitted(&mut taken, room));
                    if self.propose_all(commands, &mut under_way).await.is_none() {
                        return Turn::Stopped;
                    }
                }
                count = self.queue.groups.recv_many(&mut taken, TAKE_STEP),
                    if under_way.len() < ENTRIES_UNDER_WAY && room != DiskRoom::None => {
                    if count == 0 {
                        return Turn::Stopped;
                    }
                    self.queue.take_more(&mut taken);
                    if self.propose_all(admitted(&mut taken, room), &mut under_way).await.is_none() {
                        return Turn::Stopped;
                    }
                }
            }
        }
    }

    /// Stamps commands into as few entries as the bounds allow.
    fn gather(&self, commands: impl Iterator<Item = Bytes>) -> Vec<Payload> {
        let stamp = Stamp { time: self.environment.wall_clock(), entropy: self.environment.entropy() };
        let mut payloads = Vec::new();
        let mut builder = BatchBuilder::new(stamp);
        let (mut bytes, mut count) = (0, 0_u32);
        for command in commands {
            if count > 0 && bytes + command.len() > ENTRY_BYTES {
                payloads.push(Payload(std::mem::replace(&mut builder, BatchBuilder::new(stamp)).finish()));
                self.metrics.commands_an_entry.observe(f64::from(count));
                (bytes, count) = (0, 0);
            }
            bytes += command.len();
            count += 1;
            self.metrics.commands_proposed.inc();
            builder.push(&command);
        }
        if count > 0 {
            payloads.push(Payload(builder.finish()));
            self.metrics.commands_an_entry.observe(f64::from(count));
        }
        payloads
    }

    /// `None` if Raft has stopped.
    async fn propose_all(
        &self,
        commands: impl Iterator<Item = Bytes>,
        under_way: &mut FuturesOrdered<UnderWay>,
    ) -> Option<()> {
        for payload in self.gather(commands) {
            under_way.push_back(self.propose(payload).await?);
        }
        Some(())
    }

    async fn propose(&self, payload: Payload) -> Option<UnderWay> {
        let (responder, answer) = ProgressResponder::complete_only();
        self.raft.client_write_ff(payload.clone(), Some(responder)).await.ok()?;
        Some(answer.map(move |result| (payload, result.ok())).boxed())
    }

    /// A leader without a fresh quorum refused: proposes the refused entries again, in order, until
    /// it accepts them or no longer leads (`None`).
    async fn propose_again(
        &mut self,
        leadership: Leadership,
        first: Payload,
        under_way: &mut FuturesOrdered<UnderWay>,
    ) -> Option<FuturesOrdered<UnderWay>> {
        let mut refused = VecDeque::from([first]);
        while let Some((payload, result)) = under_way.next().await {
            if is_refused(&result) {
                refused.push_back(payload);
            }
        }
        sleep(RETRY).await;
        if *self.leadership.borrow() != leadership {
            return None;
        }
        let mut again = FuturesOrdered::new();
        for payload in refused {
            again.push_back(self.propose(payload).await?);
        }
        Some(again)
    }

    async fn forward(&mut self, leader: u64, address: &MemberAddress) -> Turn {
        let (sender, receiver) = mpsc::channel::<Bytes>(FORWARD_DEPTH);
        let outbound = tokio_stream::wrappers::ReceiverStream::new(receiver);
        let opening = self.transport.stream(&address.peer, StreamKind::Propose, Box::pin(outbound));
        let opened = tokio::select! {
            biased;
            turn = self.wait_for_change() => return turn,
            opened = opening => opened,
        };
        let mut inbound = match opened {
            Ok(inbound) => inbound,
            Err(error) => {
                tracing::debug!(%error, leader, "leader cannot be reached with proposals");
                sleep(RETRY).await;
                return Turn::LeaderChanged;
            }
        };
        let envelope = Envelope { to: leader, ..self.envelope };
        let mut taken: Vec<Group> = Vec::new();
        loop {
            tokio::select! {
                biased;
                changed = self.leadership.changed() => {
                    self.note_lost();
                    return if changed.is_ok() { Turn::LeaderChanged } else { Turn::Stopped };
                }
                _ = inbound.next() => break,
                count = self.queue.groups.recv_many(&mut taken, TAKE_STEP) => {
                    if count == 0 {
                        return Turn::Stopped;
                    }
                    self.queue.take_more(&mut taken);
                    let commands: Group = taken.drain(..).flatten().collect();
                    for part in parts(commands) {
                        let message = encode(&envelope, &part);
                        tokio::select! {
                            biased;
                            turn = self.wait_for_change() => {
                                self.note_lost();
                                return turn;
                            }
                            _ = inbound.next() => {
                                self.note_lost();
                                sleep(RETRY).await;
                                return Turn::LeaderChanged;
                            }
                            sent = sender.send(message) => if sent.is_err() {
                                self.note_lost();
                                return Turn::LeaderChanged;
                            },
                        }
                    }
                }
            }
        }
        self.note_lost();
        sleep(RETRY).await;
        Turn::LeaderChanged
    }

    fn note_lost(&self) {
        self.lost.send_modify(|count| *count += 1);
    }
}

/// The commands of these groups, in order, as far as the disk has room for them.
fn admitted(groups: &mut Vec<Group>, room: DiskRoom) -> impl Iterator<Item = Bytes> {
    groups.drain(..).flatten().map(move |command| match room {
        DiskRoom::Enough => command,
        DiskRoom::Low | DiskRoom::None => without_growth(command),
    })
}

/// The command, or its refusal if it would make the tree larger.
fn without_growth(encoded: Bytes) -> Bytes {
    let Ok(mut command) = Command::decode(&encoded) else { return encoded };
    if !command.operation.grows() {
        return encoded;
    }
    command.operation = Operation::Refused(Error::new(
        ErrorKind::Overloaded,
        "disk: free space on the leader is below its reserve (disk_reserve_mb); delete data or make room there",
    ));
    let mut refusal = Vec::with_capacity(256);
    command.encode(&mut refusal);
    refusal.into()
}

/// Cuts commands into messages of bounded size, in order.
fn parts(commands: Group) -> Vec<Group> {
    let mut parts = Vec::new();
    let mut part = Vec::new();
    let mut bytes = 0;
    for command in commands {
        if bytes + command.len() > ENTRY_BYTES && !part.is_empty() {
            parts.push(std::mem::take(&mut part));
            bytes = 0;
        }
        bytes += command.len();
        part.push(command);
    }
    if !part.is_empty() {
        parts.push(part);
    }
    parts
}

/// Whether Raft refused the entry before appending it: nothing happened, it may be proposed again.
fn is_refused(result: &Option<ClientWriteResult<TypeConfig>>) -> bool {
    matches!(result, Some(Err(ClientWriteError::ForwardToLeader(_))))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn group(bytes: usize) -> Group {
        vec![Bytes::from(vec![0; bytes])]
    }

    #[tokio::test(start_paused = true)]
    async fn groups_wait_for_bytes_and_the_room_comes_back_in_order() {
        let (queue, mut queued) = proposal_queue();
        for _ in 0..QUEUE_BYTES / ENTRY_BYTES {
            queue.push(group(ENTRY_BYTES)).await.expect("there is room");
        }
        let refused = queue.try_push(group(1)).map_err(|error| error.kind);
        assert_eq!(refused, Err(ErrorKind::Overloaded));
        let mut next = std::pin::pin!(queue.push(group(7)));
        assert!(tokio::time::timeout(Duration::from_secs(60), &mut next).await.is_err());
        let mut taken = Vec::new();
        queued.take_more(&mut taken);
        assert_eq!(taken.len(), TAKE_STEP, "as much as may be under way is taken");
        next.await.expect("room again");
        queue.try_push(group(8)).expect("room for others too");
        while taken.len() < QUEUE_BYTES / ENTRY_BYTES + 2 {
            let mut more = Vec::new();
            queued.take_more(&mut more);
            taken.append(&mut more);
        }
        assert_eq!(taken[taken.len() - 2..], [group(7), group(8)]);
        assert_eq!(queue.room.available_permits(), QUEUE_BYTES);
    }

    #[tokio::test(start_paused = true)]
    async fn who_gives_up_waiting_takes_no_room_along() {
        let (queue, mut queued) = proposal_queue();
        for _ in 0..QUEUE_GROUPS {
            queue.try_push(group(1)).expect("there is room");
        }
        assert!(tokio::time::timeout(Duration::from_secs(1), queue.push(group(1))).await.is_err());
        queue.try_push(group(1)).expect_err("so many groups wait");
        while queue.depth() > 0 {
            queued.take_more(&mut Vec::new());
            tokio::task::yield_now().await;
        }
        assert_eq!(queue.room.available_permits(), QUEUE_BYTES);
    }

    #[tokio::test(start_paused = true)]
    async fn whoever_waits_for_room_hears_of_the_end() {
        let (queue, queued) = proposal_queue();
        queue.push(group(QUEUE_BYTES + 1)).await.expect("one of any size");
        let waits = queue.push(group(1));
        let ends = async { drop(queued) };
        assert_eq!(tokio::join!(waits, ends).0.map_err(|error| error.kind), Err(ErrorKind::Unavailable));
    }
}
