//! The leader's timers: sessions not heard of for a timeout, TTL and container nodes.
//!
//! Timers run on the leader's monotonic clock and only ever *propose*: a session ends, a node goes,
//! only when the command has applied, and apply re-checks what was judged. A new leader starts all
//! sessions' timers anew once it has confirmed its leadership, so no leader change ends a session early.
//! A TTL node's life goes on from its last change, by the time that the log's entries carry from leaders
//! before; a leader's own clock only stamps, and counts nothing.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use quorate_core::breaks::{Break, is_broken};
use quorate_core::command::{CloseReason, Operation};
use quorate_core::id::{AttachEpoch, SessionId, Timestamp, Zxid};
use quorate_core::state::Expirable;
use tokio::time::{Instant, sleep};

use super::Coordinator;
use crate::replica::SessionTouches;

/// Sessions are looked at this often: an expiry is at most this late.
const SESSION_TICK: Duration = Duration::from_millis(200);
/// A session's end that has not applied, for want of a quorum perhaps, is proposed again after this.
const PROPOSE_AGAIN: Duration = Duration::from_secs(1);
/// TTL nodes are looked at this often.
const TTL_TICK: Duration = Duration::from_secs(1);
/// Containers are looked at this often.
const CONTAINER_TICK: Duration = Duration::from_secs(60);
/// A container that never had a child goes after this.
const CONTAINER_UNUSED: Duration = Duration::from_secs(300);
/// Nodes removed in one look.
const NODES_A_LOOK: usize = 10_000;

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
    fn lock(&self) -> MutexGuard<'_, BTreeMap<SessionId, Heard>> {
        self.heard.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A TTL or container node as the leader first saw it since its last change.
struct Seen {
    changed: (Zxid, Zxid),
    since: Instant,
}

impl Coordinator {
    /// Runs the timers while this member leads, for as long as it lives.
    pub async fn run_expiry(self) {
        let leadership = self.shared.replica.leadership();
        let mut term_served = None;
        let mut nodes: BTreeMap<String, Seen> = BTreeMap::new();
        let mut time_before = self.shared.local.with_state(|state| state.time());
        let mut term_began = Instant::now();
        let (mut ttl_next, mut container_next) = (Instant::now(), Instant::now());
        loop {
            sleep(SESSION_TICK).await;
            let current = *leadership.borrow();
            if current.leader != Some(self.shared.member) && !is_broken(Break::ExpireByLocalClock) {
                term_served = None;
                // The log's time as others have stamped it: this member's own clock may be ahead.
                time_before = self.shared.local.with_state(|state| state.time());
                continue;
            }
            if term_served != Some(current.term) {
                // A barrier of our own term: from here on every answered heartbeat comes to us.
                if self.shared.replica.read_barrier().await.is_err() {
                    continue;
                }
                term_served = Some(current.term);
                self.shared.deadlines.lock().clear();
                nodes.clear();
                term_began = Instant::now();
            }
            self.expire_sessions(current.term);
            let now = Instant::now();
            if now >= ttl_next {
                ttl_next = now + TTL_TICK;
                let with_containers = now >= container_next;
                if with_containers {
                    container_next = now + CONTAINER_TICK;
                }
                self.expire_nodes(current.term, &mut nodes, with_containers, (time_before, term_began));
            }
        }
    }

    fn expire_sessions(&self, term: u64) {
        let now = Instant::now();
        let sessions: Vec<_> = self.shared.local.with_state(|state| state.sessions().collect());
        let mut due = Vec::new();
        {
            let mut heard = self.shared.deadlines.lock();
            let mut still = BTreeMap::new();
            for session in sessions {
                let mut entry = match heard.get(&session.session) {
                    Some(known) if known.epoch >= session.epoch => *known,
                    _ => Heard { epoch: session.epoch, since: now, ending: None },
                };
                let timeout = Duration::from_millis(u64::from(session.timeout_ms));
                if now.duration_since(entry.since) > timeout
                    && entry.ending.is_none_or(|at| now.duration_since(at) >= PROPOSE_AGAIN)
                {
                    if entry.ending.is_none() {
                        let session = session.session;
                        tracing::info!(%session, "session was silent for its timeout; ending it");
                    }
                    // Noted before it is proposed: from here on no heartbeat of it is answered.
                    entry.ending = Some(now);
                    due.push((session.session, entry.epoch));
                }
                still.insert(session.session, entry);
            }
            *heard = still;
        }
        for (session, epoch) in due {
            let reason = CloseReason::Expired { epoch };
            if self.propose_for_house(term, Operation::CloseSession { session, reason }).is_err() {
                return; // overloaded: they are proposed again
            }
        }
    }

    fn expire_nodes(
        &self,
        term: u64,
        nodes: &mut BTreeMap<String, Seen>,
        with_containers: bool,
        (time_before, term_began): (Timestamp, Instant),
    ) {
        let now = Instant::now();
        let candidates: Vec<_> = self.shared.local.with_state(|state| state.expirable_nodes().collect());
        let mut still = BTreeMap::new();
        let mut removed = 0;
        for node in candidates {
            let changed = (node.czxid, node.mzxid);
            let since = match nodes.get(&node.path) {
                Some(seen) if seen.changed == changed => seen.since,
                // Leaders before this one have counted already: the log's time of before this term says
                // how long, at least.
                _ if node.mtime < time_before => {
                    let age = time_before.0.saturating_sub(node.mtime.0).unsigned_abs();
                    term_began.checked_sub(Duration::from_millis(age)).unwrap_or(term_began)
                }
                _ => now,
            };
            let is_due = node.childless
                && match node.kind {
                    Expirable::Ttl { ttl_ms } => {
                        now.duration_since(since) > Duration::from_millis(ttl_ms.max(0) as u64)
                    }
                    Expirable::Container { ever_used: true } => with_containers,
                    Expirable::Container { ever_used: false } => {
                        with_containers && now.duration_since(since) > CONTAINER_UNUSED
                    }
                };
            if is_due && removed < NODES_A_LOOK {
                removed += 1;
                let operation = Operation::ExpireNode {
                    path: node.path.clone(),
                    czxid: node.czxid,
                    mzxid: node.mzxid,
                    pzxid: node.pzxid,
                };
                if self.propose_for_house(term, operation).is_err() {
                    removed = NODES_A_LOOK;
                }
            }
            still.insert(node.path, Seen { changed, since });
        }
        *nodes = still;
    }
}
