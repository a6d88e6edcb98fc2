//! The leader's timers: sessions not heard of for a timeout, TTL and container nodes.
//!
//! Timers run on the leader's monotonic clock and only ever *propose*: a session ends, a node goes,
//! only when the command has applied, and apply re-checks what was judged. A new leader starts all
//! sessions' timers anew once it has confirmed its leadership, so no leader change ends a session early;
//! nor does the loss of a quorum, behind which a leader starts them anew as well.
//! A node's age counts from when this member first saw it as it is: every member looks, so that a new
//! leader goes on counting. Clocks only stamp, and count nothing. A member that was restarted counts anew:
//! a node may live longer than its time, never shorter.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use quorate_core::breaks::{Break, is_broken};
use quorate_core::command::{CloseReason, Operation};
use quorate_core::id::{AttachEpoch, SessionId, Zxid};
use quorate_core::state::{Expirable, ExpirableNode, SessionView};
use tokio::time::{Instant, sleep, timeout};

use super::Coordinator;
use crate::replica::SessionTouches;

/// Sessions are looked at this often: an expiry is at most this late.
const SESSION_TICK: Duration = Duration::from_millis(200);
/// A session's end that has not applied, for want of a quorum perhaps, is proposed again after this.
const PROPOSE_AGAIN: Duration = Duration::from_secs(1);
/// A leader to which no quorum answers within this has lost it: no session's silence means anything.
const QUORUM_PATIENCE: Duration = Duration::from_secs(1);
/// TTL nodes are looked at this often.
const TTL_TICK: Duration = Duration::from_secs(1);
/// Members that do not lead look at nodes this often: what changed just before a leader change may live
/// that much longer.
const FOLLOWER_TICK: Duration = Duration::from_secs(10);
/// Containers are looked at this often.
const CONTAINER_TICK: Duration = Duration::from_secs(60);
/// A container that never had a child goes after this.
const CONTAINER_UNUSED: Duration = Duration::from_secs(300);
/// Containers removed in one look, and as many TTL nodes: neither keeps the other, or sessions' ends, out
/// of the queue.
const NODES_A_LOOK: usize = 3_000;

/// When each session will have been silent for its timeout. Meaningful on the leader only.
#[derive(Debug, Default)]
pub struct Deadlines {
    heard: Mutex<BTreeMap<SessionId, Heard>>,
}

/// What the leader knows of a session.
#[derive(Clone, Copy, Debug)]
struct Heard {
    epoch: AttachEpoch,
    since: Instant,
    /// When its end was last proposed: whatever is heard now comes too late.
    ending: Option<Instant>,
}

impl SessionTouches for Deadlines {
    fn touch(&self, sessions: &[(SessionId, AttachEpoch)]) -> Vec<(SessionId, AttachEpoch)> {
        let now = Instant::now();
        let mut heard = self.lock();
        let mut ending = Vec::new();
        for (session, epoch) in sessions {
            // Only a session that is already counted: others start with a full timeout anyway.
            if let Some(entry) = heard.get_mut(session)
                && entry.epoch <= *epoch
            {
                if entry.ending.is_some() && entry.epoch == *epoch {
                    ending.push((*session, *epoch));
                } else {
                    *entry = Heard { epoch: *epoch, since: now, ending: None };
                }
            }
        }
        ending
    }
}

impl Deadlines {
    /// Which of these sessions have been silent for their timeout, except those whose end was proposed just
    /// now. Others than these are forgotten.
    fn silent(heard: &mut BTreeMap<SessionId, Heard>, sessions: &[SessionView]) -> Vec<SessionId> {
        let now = Instant::now();
        let mut still = BTreeMap::new();
        let mut silent = Vec::new();
        for session in sessions {
            let entry = match heard.get(&session.session) {
                Some(known) if known.epoch >= session.epoch => *known,
                _ => Heard { epoch: session.epoch, since: now, ending: None },
            };
            if now.duration_since(entry.since) > Duration::from_millis(u64::from(session.timeout_ms))
                && entry.ending.is_none_or(|at| now.duration_since(at) >= PROPOSE_AGAIN)
            {
                silent.push(session.session);
            }
            still.insert(session.session, entry);
        }
        *heard = still;
        silent
    }

    /// Starts all timers anew in the same term. What was proposed in it may still come: such a session stays
    /// without an answer.
    fn restart(&self) {
        self.lock().retain(|_, entry| entry.ending.is_some());
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<SessionId, Heard>> {
        self.heard.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Since when each TTL and container node has been as it is, as far as this member has seen.
#[derive(Debug, Default)]
struct NodeAges {
    seen: BTreeMap<String, Seen>,
}

/// A node as this member first saw it since its last change.
#[derive(Debug)]
struct Seen {
    changed: (Zxid, Zxid),
    since: Instant,
}

impl NodeAges {
    /// Notes the nodes that there are now; which of them may go.
    fn look(&mut self, nodes: Vec<ExpirableNode>, now: Instant) -> Vec<ExpirableNode> {
        let mut still = BTreeMap::new();
        let mut due = Vec::new();
        for node in nodes {
            let changed = (node.czxid, node.mzxid);
            let since = match self.seen.get(&node.path) {
                Some(seen) if seen.changed == changed => seen.since,
                _ => now,
            };
            let age = now.duration_since(since);
            let is_over = match node.kind {
                Expirable::Ttl { ttl_ms } => age > Duration::from_millis(ttl_ms.max(0) as u64),
                Expirable::Container { ever_used } => ever_used || age > CONTAINER_UNUSED,
            };
            if is_over && node.childless {
                still.insert(node.path.clone(), Seen { changed, since });
                due.push(node);
            } else {
                still.insert(node.path, Seen { changed, since });
            }
        }
        self.seen = still;
        due
    }
}

impl Coordinator {
    /// Runs the timers for as long as this member lives: it ends sessions and removes nodes while it leads,
    /// and looks at the nodes always.
    pub async fn run_expiry(self) {
        let leadership = self.shared.replica.leadership();
        let mut term_served = None;
        let mut ages = NodeAges::default();
        let (mut nodes_next, mut containers_next) = (Instant::now(), Instant::now());
        loop {
            sleep(SESSION_TICK).await;
            let current = *leadership.borrow();
            let leads = current.leader == Some(self.shared.member) || is_broken(Break::ExpireByLocalClock);
            if !leads {
                term_served = None;
            } else if term_served != Some(current.term) {
                // A barrier of our own term: from here on every answered heartbeat comes to us.
                if self.shared.replica.read_barrier().await.is_err() {
                    continue;
                }
                term_served = Some(current.term);
                self.shared.deadlines.lock().clear();
                nodes_next = Instant::now();
            } else {
                self.expire_sessions(current.term).await;
            }
            let now = Instant::now();
            if now < nodes_next {
                continue;
            }
            nodes_next = now + if leads { TTL_TICK } else { FOLLOWER_TICK };
            let nodes = self.shared.local.with_state(|state| state.expirable_nodes().collect());
            let due = ages.look(nodes, now);
            if leads {
                let with_containers = now >= containers_next;
                let is_done = self.expire_nodes(current.term, due, with_containers).await;
                if with_containers && is_done {
                    containers_next = now + CONTAINER_TICK;
                }
            }
        }
    }

    /// Ends the sessions that were silent for their timeout, if a quorum answers now.
    async fn expire_sessions(&self, term: u64) {
        let sessions = || -> Vec<_> { self.shared.local.with_state(|state| state.sessions().collect()) };
        let before = sessions();
        if Deadlines::silent(&mut self.shared.deadlines.lock(), &before).is_empty() {
            return;
        }
        if !self.has_quorum().await {
            // Whoever wanted to be heard was not: all have their whole time again.
            if self.shared.replica.read_barrier().await.is_ok() {
                self.shared.deadlines.restart();
            }
            return;
        }
        // Those who waited for the same quorum are heard now, too: their word comes some batches later.
        sleep(SESSION_TICK).await;
        let mut due = Vec::new();
        {
            let now = Instant::now();
            let sessions = sessions();
            let mut heard = self.shared.deadlines.lock();
            for session in Deadlines::silent(&mut heard, &sessions) {
                let Some(entry) = heard.get_mut(&session) else { continue };
                if entry.ending.is_none() {
                    tracing::info!(%session, "session was silent for its timeout; ending it");
                }
                // Noted before it is proposed: from here on no heartbeat of it is answered.
                entry.ending = Some(now);
                due.push((session, entry.epoch));
            }
        }
        for (session, epoch) in due {
            let reason = CloseReason::Expired { epoch };
            if self.propose_for_house(term, Operation::CloseSession { session, reason }).is_err() {
                return; // overloaded: they are proposed again
            }
        }
    }

    /// Whether a quorum answers now: without one nothing is to be ended.
    async fn has_quorum(&self) -> bool {
        is_broken(Break::ExpireByLocalClock)
            || matches!(timeout(QUORUM_PATIENCE, self.shared.replica.touch(Vec::new())).await, Ok(Ok(_)))
    }

    /// Removes nodes that are due; whether that was all of them.
    async fn expire_nodes(&self, term: u64, due: Vec<ExpirableNode>, with_containers: bool) -> bool {
        let is_container = |node: &ExpirableNode| matches!(node.kind, Expirable::Container { .. });
        let (mut containers, mut with_ttl): (Vec<_>, Vec<_>) = due.into_iter().partition(is_container);
        if !with_containers {
            containers.clear();
        }
        if containers.is_empty() && with_ttl.is_empty() {
            return true;
        }
        if !self.has_quorum().await {
            return false;
        }
        let is_all = containers.len() <= NODES_A_LOOK && with_ttl.len() <= NODES_A_LOOK;
        containers.truncate(NODES_A_LOOK);
        with_ttl.truncate(NODES_A_LOOK);
        for node in containers.into_iter().chain(with_ttl) {
            let ExpirableNode { path, czxid, mzxid, pzxid, .. } = node;
            let operation = Operation::ExpireNode { path, czxid, mzxid, pzxid };
            if self.propose_for_house(term, operation).is_err() {
                return false; // overloaded: they are proposed again
            }
        }
        is_all
    }
}

#[cfg(test)]
mod tests {
    use quorate_core::id::{MemberId, WriteNumber};

    use super::*;

    const TTL: Duration = Duration::from_secs(10);

    fn node(path: &str, changed: u64, kind: Expirable) -> ExpirableNode {
        let (czxid, mzxid, pzxid) = (Zxid(1), Zxid(changed), Zxid(1));
        let path = path.into();
        ExpirableNode { path, czxid, mzxid, pzxid, kind, childless: true }
    }

    fn with_ttl(changed: u64) -> Vec<ExpirableNode> {
        vec![node("/ttl", changed, Expirable::Ttl { ttl_ms: TTL.as_millis() as i64 })]
    }

    #[tokio::test(start_paused = true)]
    async fn a_ttl_nodes_age_is_what_this_member_has_seen_of_it_since_its_last_change() {
        let (mut ages, begin) = (NodeAges::default(), Instant::now());
        let grain = Duration::from_millis(1);
        // Whatever its time says, and the log's: both come from clocks.
        assert!(ages.look(with_ttl(1), begin).is_empty());
        assert!(ages.look(with_ttl(1), begin + TTL).is_empty());
        assert_eq!(ages.look(with_ttl(1), begin + TTL + grain), with_ttl(1));
        assert!(ages.look(with_ttl(2), begin + TTL + grain).is_empty(), "changed");
        assert_eq!(ages.look(with_ttl(2), begin + 2 * (TTL + grain)), with_ttl(2));
        ages.look(Vec::new(), begin + 3 * TTL);
        assert!(ages.look(with_ttl(2), begin + 3 * TTL).is_empty(), "new here");
    }

    #[tokio::test(start_paused = true)]
    async fn a_container_goes_once_it_was_used_or_has_waited_long() {
        let (mut ages, begin) = (NodeAges::default(), Instant::now());
        let container = |ever_used| vec![node("/container", 1, Expirable::Container { ever_used })];
        let soon = begin + Duration::from_secs(1);
        assert!(ages.look(container(false), begin).is_empty());
        assert!(ages.look(container(false), begin + CONTAINER_UNUSED).is_empty());
        assert_eq!(ages.look(container(true), soon), container(true));
        assert_eq!(ages.look(container(false), soon + CONTAINER_UNUSED).len(), 1);
    }

    fn session() -> SessionView {
        SessionView {
            session: SessionId(1),
            member: MemberId(1),
            epoch: AttachEpoch(1),
            timeout_ms: 10_000,
            last_applied: WriteNumber(0),
            ephemerals: 0,
        }
    }

    #[tokio::test(start_paused = true)]
    async fn behind_a_lost_quorum_a_session_has_its_whole_time_again_unless_its_end_may_come() {
        let deadlines = Deadlines::default();
        let silent = || !Deadlines::silent(&mut deadlines.lock(), &[session()]).is_empty();
        assert!(!silent());
        sleep(Duration::from_secs(11)).await;
        assert!(silent());
        deadlines.restart();
        assert!(!silent());
        sleep(Duration::from_secs(11)).await;
        assert!(silent());

        let now = Instant::now();
        deadlines.lock().values_mut().for_each(|entry| entry.ending = Some(now));
        deadlines.restart();
        let heard = (SessionId(1), AttachEpoch(1));
        assert_eq!(deadlines.touch(&[heard]), [heard], "its heartbeat is not answered");
    }
}
