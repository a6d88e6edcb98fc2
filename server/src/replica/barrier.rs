//! The read barrier: one quorum round, shared by all reads that wait at that moment.
//!
//! Reads that arrive while a round is under way wait for the next one: a round that began before a
//! read arrived proves nothing for it. On the leader a round is Raft's ReadIndex; elsewhere the
//! leader is asked, and its own rounds are shared by all members that ask.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use openraft::ReadPolicy;
use quorate_core::error::{Error, ErrorKind};
use quorate_core::id::MemberId;
use tokio::sync::{Notify, oneshot, watch};
use tokio::time::sleep;

use super::peers::PeerRequest;
use super::{Inner, Leadership};

/// Reads that may wait for a round.
const WAITING_MAX: usize = 200_000;
/// Pause after a failed round.
const RETRY: Duration = Duration::from_millis(10);
/// How long a leader may take to answer.
const PATIENCE: Duration = Duration::from_secs(2);

/// Who waits for the next round.
#[derive(Debug, Default)]
pub struct Barrier {
    waiting: Mutex<Vec<oneshot::Sender<u64>>>,
    ready: Notify,
}

impl Barrier {
    /// The log index to apply before answering a read that arrived before this call.
    ///
    /// # Cancel safety
    /// Dropping the future leaves the queue as it was for the others.
    pub async fn index(&self) -> Result<u64, Error> {
        let (sender, receiver) = oneshot::channel();
        {
            let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
            if waiting.len() >= WAITING_MAX {
                return Err(Error::new(
                    ErrorKind::Overloaded,
                    format!("read barrier: {WAITING_MAX} reads wait; retry with backoff"),
                ));
            }
            waiting.push(sender);
        }
        self.ready.notify_one();
        receiver.await.map_err(|_| Error::new(ErrorKind::Unavailable, "this member is stopping"))
    }

    fn take(&self) -> Vec<oneshot::Sender<u64>> {
        std::mem::take(&mut *self.waiting.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// Runs rounds for as long as the member lives.
pub(super) async fn run(inner: Arc<Inner>, mut leadership: watch::Receiver<Leadership>) {
    loop {
        inner.barrier.ready.notified().await;
        let mut waiting = inner.barrier.take();
        while !waiting.is_empty() {
            let leader = leadership.borrow_and_update().leader;
            let index = tokio::select! {
                biased;
                // One that no longer leads may never answer: another is asked.
                Ok(()) = leadership.changed() => None,
                index = round(&inner, leader) => index,
            };
            match index {
                Some(index) => {
                    for reader in waiting.drain(..) {
                        let _ = reader.send(index);
                    }
                }
                None => {
                    sleep(RETRY).await;
                    waiting.retain(|reader| !reader.is_closed());
                }
            }
            waiting.extend(inner.barrier.take());
        }
    }
}

async fn round(inner: &Inner, leader: Option<MemberId>) -> Option<u64> {
    let MemberId(leader) = leader?;
    if leader == inner.member.0 {
        let (read, _) = inner.raft.get_read_log_id(ReadPolicy::ReadIndex).await.ok()?;
        return Some(read.index());
    }
    match inner.ask_member(leader, &PeerRequest::ReadIndex, PATIENCE).await {
        Ok(super::peers::PeerResponse::ReadIndex(index)) => Some(index),
        Ok(_) | Err(_) => None,
    }
}
