//! Succession: standing for election as early as the lease of a leader that died allows.
//!
//! Raft's own timer waits for the lease and then for a random election timeout. A killed leader,
//! though, closes its connections at once. That proves nothing (others may still follow it), so no
//! lease is cut short; but the moment it ends, a pre-vote costs nothing: voters that still hear the
//! leader refuse it, and no term is used up. Followers take turns by rank, so that two don't split
//! the vote. A leader that only hangs is left to Raft's timer, see docs/decisions/0003.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use quorate_core::id::MemberId;
use tokio::sync::watch;
use tokio::time::{Instant, sleep, sleep_until};

use super::Inner;

/// What Raft needs to note a heartbeat, after this member has received it.
const SLACK: Duration = Duration::from_millis(5);
/// Between the first, second, … follower's turn; and between two tries of one.
const TURN: Duration = Duration::from_millis(30);
/// How often one follower tries; afterwards Raft's own timer is due anyway.
const TRIES: u32 = 4;

/// What is known of the leader's connection.
#[derive(Debug)]
pub struct Succession {
    lease: Duration,
    heard: Mutex<Option<Instant>>,
    /// How many append streams have ended, and whose the last one was.
    ended: watch::Sender<(u64, u64)>,
}

impl Succession {
    /// Under leases of this length.
    pub fn new(lease: Duration) -> Succession {
        Succession { lease, heard: Mutex::new(None), ended: watch::Sender::new((0, 0)) }
    }

    /// A leader has just sent entries or a heartbeat.
    pub fn heard(&self) {
        *self.heard.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now());
    }

    /// The stream of entries from this member has ended.
    pub fn stream_ended(&self, from: u64) {
        self.ended.send_modify(|(count, last)| (*count, *last) = (*count + 1, from));
    }

    fn lease_ends(&self) -> Instant {
        let heard = *self.heard.lock().unwrap_or_else(PoisonError::into_inner);
        heard.map_or_else(Instant::now, |heard| heard + self.lease + SLACK)
    }
}

/// Stands for election when the leader's stream has ended, for as long as the member lives.
pub(super) async fn run(inner: Arc<Inner>) {
    let mut ended = inner.succession.ended.subscribe();
    while ended.changed().await.is_ok() {
        let (_, from) = *ended.borrow_and_update();
        let Some(rank) = rank_behind(&inner, from) else { continue };
        sleep_until(inner.succession.lease_ends() + TURN * rank).await;
        for _ in 0..TRIES {
            if inner.leadership.borrow().leader != Some(MemberId(from))
                || inner.succession.lease_ends() > Instant::now()
            {
                break;
            }
            tracing::info!(leader = from, "the leader's connection has closed and its lease has ended");
            if inner.raft.trigger().elect(true).await.is_err() {
                return;
            }
            sleep(TURN * (rank + 1)).await;
        }
    }
}

/// How many voters take their turn before this member, when that leader is gone; `None` if it does
/// not lead or this member has no vote.
fn rank_behind(inner: &Inner, leader: u64) -> Option<u32> {
    if inner.leadership.borrow().leader != Some(MemberId(leader)) {
        return None;
    }
    let stored = inner.membership();
    let position =
        stored.membership().voter_ids().filter(|id| *id != leader).position(|id| id == inner.member.0);
    position.and_then(|position| u32::try_from(position).ok())
}
