//! Heartbeats: gathered on each member, brought to the leader together, answered only when the
//! leader received them *and then* completed a quorum round.
//!
//! So an answered heartbeat proves that the leader which counts this session's timeout was still
//! the leader after it heard of it: a client's own deadline, counted from the *send* of its last
//! answered heartbeat, always ends before the leader's.

use std::collections::HashSet;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use quorate_core::id::{AttachEpoch, SessionId};
use tokio::sync::Notify;
use tokio::time::sleep;

use super::Coordinator;

/// How long heartbeats are gathered before they travel together.
const GATHER: Duration = Duration::from_millis(25);
/// Pause after a round that found no leader.
const RETRY: Duration = Duration::from_millis(100);
/// Heartbeats of one member that may wait; beyond this they are dropped (clients send again).
const WAITING_MAX: usize = 200_000;

/// What waits for the next round.
#[derive(Debug, Default)]
pub(super) struct Heartbeats {
    waiting: Mutex<Waiting>,
    ready: Notify,
}

#[derive(Debug, Default)]
struct Waiting {
    touched: HashSet<(SessionId, AttachEpoch)>,
    to_answer: Vec<(SessionId, AttachEpoch, u64)>,
}

impl Heartbeats {
    /// Any request counts as a touch.
    pub(super) fn touch(&self, session: SessionId, epoch: AttachEpoch) {
        self.lock().touched.insert((session, epoch));
        self.ready.notify_one();
    }

    /// A heartbeat, to be answered after the round.
    pub(super) fn expect_answer(&self, session: SessionId, epoch: AttachEpoch, sequence: u64) {
        let mut waiting = self.lock();
        waiting.touched.insert((session, epoch));
        if waiting.to_answer.len() < WAITING_MAX {
            waiting.to_answer.push((session, epoch, sequence));
        }
        drop(waiting);
        self.ready.notify_one();
    }

    fn take(&self) -> Waiting {
        std::mem::take(&mut *self.lock())
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Coordinator {
    /// Brings gathered heartbeats to the leader, for as long as the member lives.
    pub async fn run_heartbeats(self) {
        loop {
            self.shared.heartbeats.ready.notified().await;
            sleep(GATHER).await;
            let waiting = self.shared.heartbeats.take();
            let mut touched: Vec<_> = waiting.touched.into_iter().collect();
            touched.sort_unstable();
            match self.shared.replica.touch(touched).await {
                Ok(touched) => {
                    // An end that the leader knew of has ended the attachment once it has applied here.
                    if self.shared.local.wait_applied(touched.index).await.is_err() {
                        return;
                    }
                    for (session, epoch, sequence) in waiting.to_answer {
                        // One that is being ended hears no answer: if it lives on, its client asks again.
                        if touched.ending.binary_search(&(session, epoch)).is_err() {
                            self.shared.local.answer_heartbeat(session, epoch, sequence);
                        }
                    }
                }
                Err(error) => {
                    tracing::debug!(%error, "heartbeats did not reach a leader with a quorum");
                    for (session, epoch, sequence) in waiting.to_answer {
                        self.shared.heartbeats.expect_answer(session, epoch, sequence);
                    }
                    sleep(RETRY).await;
                }
            }
        }
    }
}
