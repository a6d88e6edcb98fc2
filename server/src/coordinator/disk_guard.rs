//! The disk's reserve: below it the leader hands over, and refuses growth if it still leads.
//!
//! A full disk would fail an append, and a failed append stops the member. So growth ends earlier,
//! with a typed refusal, while everything that was acknowledged is safe, reads go on, and what makes
//! room (deletes, the end of sessions) goes through. A refusal takes a few dozen bytes of the log,
//! which is purged behind checkpoints; should the reserve melt nonetheless, nothing is written at all.

use std::path::PathBuf;
use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::Coordinator;
use crate::replica::DiskRoom;

/// How often free space is looked at.
const LOOK: Duration = Duration::from_secs(1);
/// A leader without room that was not rid of the lead, or has it again, hands over once more after so
/// long: where all members are low, the lead does not wander for nothing.
const AGAIN: Duration = Duration::from_secs(60);
/// Below this part of the reserve nothing is written any more.
const LAST_PART: u64 = 4;

impl Coordinator {
    /// Guards the reserve for as long as the member lives.
    pub async fn run_disk_guard(self, directory: PathBuf, reserve_bytes: u64) {
        let mut before = DiskRoom::Enough;
        let mut handed_over: Option<Instant> = None;
        loop {
            let free = match rustix::fs::statvfs(&directory) {
                Ok(disk) => disk.f_bavail.saturating_mul(disk.f_frsize),
                Err(error) => {
                    tracing::warn!(%error, directory = %directory.display(), "free disk space cannot be read");
                    u64::MAX
                }
            };
            let room = room(free, reserve_bytes);
            if room != before {
                match room {
                    DiskRoom::Enough => tracing::info!("free disk is above the reserve again"),
                    DiskRoom::Low | DiskRoom::None => tracing::error!(
                        free_mb = free >> 20,
                        reserve_mb = reserve_bytes >> 20,
                        directory = %directory.display(),
                        "free disk is below the reserve: {} refused while this member leads; make room",
                        if room == DiskRoom::Low { "what makes the tree larger is" } else { "all writes are" }
                    ),
                }
            }
            self.shared.replica.set_disk_room(room);
            // Whoever leads: it may have been elected since, or could not hand over before.
            let leads = self.shared.replica.leadership().borrow().leader == Some(self.shared.member);
            if room != DiskRoom::Enough && leads && handed_over.is_none_or(|at| at.elapsed() >= AGAIN) {
                handed_over = Some(Instant::now());
                self.shared.replica.hand_over().await;
            }
            before = room;
            sleep(LOOK).await;
        }
    }
}

fn room(free: u64, reserve: u64) -> DiskRoom {
    if free < reserve / LAST_PART {
        DiskRoom::None
    } else if free < reserve {
        DiskRoom::Low
    } else {
        DiskRoom::Enough
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn growth_ends_at_the_reserve_and_everything_at_a_quarter_of_it() {
        assert_eq!(room(400, 400), DiskRoom::Enough);
        assert_eq!(room(399, 400), DiskRoom::Low);
        assert_eq!(room(100, 400), DiskRoom::Low);
        assert_eq!(room(99, 400), DiskRoom::None);
        assert_eq!(room(0, 0), DiskRoom::Enough, "no reserve, no guard");
    }
}
