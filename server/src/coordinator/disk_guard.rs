//! The disk's reserve: below it the leader hands over, and refuses writes if it still leads.
//!
//! A full disk would fail an append, and a failed append stops the member. So writing ends earlier,
//! at admission, while everything that was acknowledged is safe and reads go on.

use std::path::PathBuf;
use std::time::Duration;

use tokio::time::sleep;

use super::Coordinator;

/// How often free space is looked at.
const LOOK: Duration = Duration::from_secs(1);

impl Coordinator {
    /// Guards the reserve for as long as the member lives.
    pub async fn run_disk_guard(self, directory: PathBuf, reserve_bytes: u64) {
        let mut was_low = false;
        loop {
            let free = match rustix::fs::statvfs(&directory) {
                Ok(disk) => disk.f_bavail.saturating_mul(disk.f_frsize),
                Err(error) => {
                    tracing::warn!(%error, directory = %directory.display(), "free disk space cannot be read");
                    u64::MAX
                }
            };
            let is_low = free < reserve_bytes;
            if is_low && !was_low {
                tracing::error!(
                    free_mb = free >> 20,
                    reserve_mb = reserve_bytes >> 20,
                    directory = %directory.display(),
                    "free disk is below the reserve: writes are refused here; make room"
                );
                self.shared.replica.hand_over().await;
            }
            if was_low && !is_low {
                tracing::info!("free disk is above the reserve again");
            }
            self.shared.replica.refuse_writes(is_low);
            was_low = is_low;
            sleep(LOOK).await;
        }
    }
}
