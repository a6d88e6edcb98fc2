//! Holds on the log: what a peer needs next that is being sent a snapshot, or has just got one.
//!
//! The log is purged behind each checkpoint. Where those follow each other faster than a snapshot
//! travels and is installed, its receiver would find the entries behind it gone, and need the next
//! snapshot, and so on for ever. So the log is kept from the snapshot on until the receiver has
//! caught up; but for a bounded time, for it may never. When to purge is
//! [`snapshots`](super::snapshots)' business.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// The longest that the log is kept for one sending: a peer that stands still in the midst of it has
/// to begin anew.
const SENDING_MAX: Duration = Duration::from_secs(600);
/// How long a peer may take to install what has arrived, and to catch up.
const CATCH_UP_MAX: Duration = Duration::from_secs(60);

/// Who is held for, from which log index on.
#[derive(Debug, Default)]
pub struct LogHolds(Mutex<BTreeMap<u64, Hold>>);

#[derive(Debug)]
struct Hold {
    index: u64,
    has_arrived: bool,
    until: Instant,
}

/// A snapshot on its way; dropping it ends the hold.
#[derive(Debug)]
#[must_use = "dropping it ends the hold"]
pub struct Sending {
    holds: Arc<LogHolds>,
    peer: u64,
}

impl LogHolds {
    /// A snapshot that stands at `index` is being sent to this peer.
    pub fn begin(self: &Arc<Self>, peer: u64, index: u64) -> Sending {
        let hold = Hold { index, has_arrived: false, until: Instant::now() + SENDING_MAX };
        self.lock().insert(peer, hold);
        Sending { holds: self.clone(), peer }
    }

    /// Up to where the log may be purged, of what could be: `matched` says what a peer is known to have.
    pub fn limit(&self, purgeable: u64, matched: &BTreeMap<u64, u64>) -> u64 {
        let now = Instant::now();
        let mut holds = self.lock();
        holds.retain(|peer, hold| {
            let has = matched.get(peer).copied().unwrap_or(0);
            hold.index = hold.index.max(has);
            let has_caught_up = hold.has_arrived && has >= purgeable;
            now < hold.until && !has_caught_up
        });
        holds.values().map(|hold| hold.index).fold(purgeable, u64::min)
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<u64, Hold>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Sending {
    /// The snapshot has arrived whole.
    pub fn arrived(self) {
        if let Some(hold) = self.holds.lock().get_mut(&self.peer) {
            hold.has_arrived = true;
            hold.until = Instant::now() + CATCH_UP_MAX;
        }
    }
}

impl Drop for Sending {
    fn drop(&mut self) {
        let mut holds = self.holds.lock();
        if holds.get(&self.peer).is_some_and(|hold| !hold.has_arrived) {
            holds.remove(&self.peer);
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::advance;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn the_log_is_kept_from_a_snapshot_on_until_its_receiver_has_caught_up() {
        let holds = Arc::new(LogHolds::default());
        let lagging = BTreeMap::from([(2, 900), (3, 10)]);
        assert_eq!(holds.limit(500, &lagging), 500, "nobody is sent anything");
        let sending = holds.begin(3, 600);
        assert_eq!(holds.limit(500, &lagging), 500, "below it");
        assert_eq!(holds.limit(800, &lagging), 600);
        sending.arrived();
        assert_eq!(holds.limit(900, &lagging), 600, "it installs");
        assert_eq!(holds.limit(900, &BTreeMap::from([(2, 900), (3, 700)])), 700, "it catches up");
        assert_eq!(holds.limit(900, &BTreeMap::from([(2, 950), (3, 900)])), 900);
        assert_eq!(holds.limit(990, &BTreeMap::from([(2, 990), (3, 950)])), 990, "the hold is over");
    }

    #[tokio::test(start_paused = true)]
    async fn a_hold_ends_with_a_sending_that_fails_and_with_time() {
        let holds = Arc::new(LogHolds::default());
        let lagging = BTreeMap::from([(3, 10)]);
        drop(holds.begin(3, 600));
        assert_eq!(holds.limit(800, &lagging), 800, "it failed");
        let sending = holds.begin(3, 600);
        advance(SENDING_MAX).await;
        assert_eq!(holds.limit(800, &lagging), 800, "it stands still");
        drop(sending);
        holds.begin(3, 600).arrived();
        advance(CATCH_UP_MAX - Duration::from_secs(1)).await;
        assert_eq!(holds.limit(800, &lagging), 600);
        advance(Duration::from_secs(1)).await;
        assert_eq!(holds.limit(800, &lagging), 800, "it does not come");
    }
}
