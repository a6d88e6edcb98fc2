//! Holds on the log: what a peer needs next that is being sent a snapshot, or has just got one.
//!
//! The log is purged behind each checkpoint. Where those follow each other faster than a snapshot
//! travels and is installed, its receiver would find the entries behind it gone, and need the next
//! snapshot, and so on for ever. So the log is kept from the snapshot on until the receiver has
//! caught up; but for a bounded time, for it may never, and for a bounded growth, for a log that is
//! kept for one member must not fill the disk of another. When to purge is
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
#[derive(Debug)]
pub struct LogHolds {
    holds: Mutex<Holds>,
    growth_max: u64,
}

#[derive(Debug, Default)]
struct Holds {
    by_peer: BTreeMap<u64, Hold>,
    last_sending: u64,
}

#[derive(Debug)]
struct Hold {
    /// Which sending began it.
    sending: u64,
    index: u64,
    /// Bytes that had been appended to the log when it began.
    appended: u64,
    has_arrived: bool,
    until: Instant,
}

/// The log, and its readers, when it is to be purged.
#[derive(Clone, Copy, Debug)]
pub struct Log<'a> {
    /// Up to here it could be purged.
    pub purgeable: u64,
    /// Bytes that were ever appended to it.
    pub appended: u64,
    /// How far the peers of this member are known to have it; none that is no member any more.
    pub matched: &'a BTreeMap<u64, Option<u64>>,
}

/// A snapshot on its way; dropping it ends its hold. A newer one to the same peer takes the hold over.
#[derive(Debug)]
#[must_use = "dropping it ends the hold"]
pub struct Sending {
    holds: Arc<LogHolds>,
    peer: u64,
    number: u64,
}

impl LogHolds {
    /// None yet. For nobody the log is kept once it has grown by more bytes than `growth_max`.
    pub fn new(growth_max: u64) -> LogHolds {
        LogHolds { holds: Mutex::default(), growth_max }
    }

    /// A snapshot that stands at `index` is being sent to this peer; so many bytes have been appended
    /// to the log so far.
    pub fn begin(self: &Arc<Self>, peer: u64, index: u64, appended: u64) -> Sending {
        let mut holds = self.lock();
        holds.last_sending += 1;
        let number = holds.last_sending;
        let until = Instant::now() + SENDING_MAX;
        holds.by_peer.insert(peer, Hold { sending: number, index, appended, has_arrived: false, until });
        Sending { holds: self.clone(), peer, number }
    }

    /// Up to where the log may be purged.
    pub fn limit(&self, log: Log<'_>) -> u64 {
        let now = Instant::now();
        let mut holds = self.lock();
        holds.by_peer.retain(|peer, hold| {
            let Some(matched) = log.matched.get(peer) else { return false };
            let has = matched.unwrap_or(0);
            hold.index = hold.index.max(has);
            let has_caught_up = hold.has_arrived && has >= log.purgeable;
            let grown = log.appended.saturating_sub(hold.appended);
            if grown > self.growth_max {
                tracing::warn!(
                    peer,
                    grown_mb = grown >> 20,
                    "the log kept for a member that installs a snapshot has grown too large and is purged: it will need a newer snapshot"
                );
            }
            now < hold.until && !has_caught_up && grown <= self.growth_max
        });
        holds.by_peer.values().map(|hold| hold.index).fold(log.purgeable, u64::min)
    }

    /// Ends all of them: the disk is full.
    pub fn clear(&self) {
        self.lock().by_peer.clear();
    }

    fn lock(&self) -> MutexGuard<'_, Holds> {
        self.holds.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Sending {
    /// The snapshot has arrived whole.
    pub fn arrived(self) {
        if let Some(hold) = self.own(&mut self.holds.lock()) {
            hold.has_arrived = true;
            hold.until = Instant::now() + CATCH_UP_MAX;
        }
    }

    fn own<'a>(&self, holds: &'a mut Holds) -> Option<&'a mut Hold> {
        holds.by_peer.get_mut(&self.peer).filter(|hold| hold.sending == self.number)
    }
}

impl Drop for Sending {
    fn drop(&mut self) {
        let mut holds = self.holds.lock();
        if self.own(&mut holds).is_some_and(|hold| !hold.has_arrived) {
            holds.by_peer.remove(&self.peer);
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::advance;

    use super::*;

    /// Of a log of one byte an entry; members 2 and 3 have so much of it.
    fn limit(holds: &LogHolds, purgeable: u64, matched: [u64; 2]) -> u64 {
        limit_among(holds, purgeable, [(2, Some(matched[0])), (3, Some(matched[1]))])
    }

    fn limit_among<const N: usize>(
        holds: &LogHolds,
        purgeable: u64,
        matched: [(u64, Option<u64>); N],
    ) -> u64 {
        holds.limit(Log { purgeable, appended: purgeable, matched: &BTreeMap::from(matched) })
    }

    fn holds() -> Arc<LogHolds> {
        Arc::new(LogHolds::new(1000))
    }

    #[tokio::test(start_paused = true)]
    async fn the_log_is_kept_from_a_snapshot_on_until_its_receiver_has_caught_up() {
        let holds = holds();
        assert_eq!(limit(&holds, 500, [900, 10]), 500, "nobody is sent anything");
        let sending = holds.begin(3, 600, 600);
        assert_eq!(limit(&holds, 500, [900, 10]), 500, "below it");
        assert_eq!(limit(&holds, 800, [900, 10]), 600);
        sending.arrived();
        assert_eq!(limit(&holds, 900, [900, 10]), 600, "it installs");
        assert_eq!(limit(&holds, 900, [900, 700]), 700, "it catches up");
        assert_eq!(limit(&holds, 900, [950, 900]), 900);
        assert_eq!(limit(&holds, 990, [990, 950]), 990, "the hold is over");
    }

    #[tokio::test(start_paused = true)]
    async fn a_hold_ends_with_a_sending_that_fails_and_with_time() {
        let holds = holds();
        drop(holds.begin(3, 600, 600));
        assert_eq!(limit(&holds, 800, [900, 10]), 800, "it failed");
        let sending = holds.begin(3, 600, 600);
        advance(SENDING_MAX).await;
        assert_eq!(limit(&holds, 800, [900, 10]), 800, "it stands still");
        drop(sending);
        holds.begin(3, 600, 600).arrived();
        advance(CATCH_UP_MAX - Duration::from_secs(1)).await;
        assert_eq!(limit(&holds, 800, [900, 10]), 600);
        advance(Duration::from_secs(1)).await;
        assert_eq!(limit(&holds, 800, [900, 10]), 800, "it does not come");
    }

    #[tokio::test(start_paused = true)]
    async fn a_hold_ends_with_the_growth_of_the_log_and_with_the_membership_of_its_peer() {
        let holds = holds();
        let sending = holds.begin(3, 600, 600);
        assert_eq!(limit(&holds, 1600, [1600, 10]), 600);
        assert_eq!(limit(&holds, 1601, [1601, 10]), 1601, "1,001 bytes");
        assert_eq!(limit(&holds, 1602, [1602, 10]), 1602, "and not again for the same sending");
        drop(sending);
        let sending = holds.begin(3, 1600, 1600);
        assert_eq!(limit_among(&holds, 1800, [(2, Some(1800)), (3, None)]), 1600, "nothing is known yet");
        assert_eq!(limit_among(&holds, 1800, [(2, Some(1800))]), 1800, "it was taken out");
        drop(sending);
        let sending = holds.begin(3, 1800, 1800);
        assert_eq!(limit(&holds, 1900, [1900, 10]), 1800);
        holds.clear();
        assert_eq!(limit(&holds, 1900, [1900, 10]), 1900, "the disk is full");
        drop(sending);
    }

    #[tokio::test(start_paused = true)]
    async fn a_sending_that_a_newer_one_has_taken_over_leaves_its_hold_alone() {
        let holds = holds();
        let (older, late) = (holds.begin(3, 500, 500), holds.begin(3, 550, 550));
        let newer = holds.begin(3, 600, 600);
        drop(older);
        assert_eq!(limit(&holds, 800, [900, 10]), 600, "the newer one is on its way");
        late.arrived();
        advance(CATCH_UP_MAX).await;
        assert_eq!(limit(&holds, 800, [900, 10]), 600, "it is still on its way");
        drop(newer);
        assert_eq!(limit(&holds, 800, [900, 10]), 800);
    }
}
