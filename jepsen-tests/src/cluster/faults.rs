//! What a member's own clocks and fsyncs do wrong: a page that shim/faults.c, loaded into the
//! member's process, reads at every call.
//!
//! The clocks that drift are both the wall's and the monotonic one; only the wall's jumps, since the
//! kernel's monotonic clock never does.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

use super::ClusterError;

/// The library, as compiled by build.rs; empty if there was no compiler.
const LIBRARY: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/faults.so"));
/// Fields of the page, each of eight bytes.
const FIELDS: usize = 7;

/// One member's page.
#[derive(Debug)]
pub struct Faults {
    page: PathBuf,
    file: File,
    sequence: i64,
    told: Told,
}

/// What the page says, but for its sequence; see shim/faults.c.
#[derive(Clone, Copy, Debug, Default)]
struct Told {
    wall_ahead_ns: i64,
    drift_ppm: i64,
    anchor_ns: i64,
    drifted_ns: i64,
    sync_delay_us: i64,
    sync_errno: i64,
}

impl Faults {
    /// Whether there is a library to load.
    pub fn are_possible() -> bool {
        !LIBRARY.is_empty()
    }

    /// Writes the library into a folder; returns where it is.
    pub(super) fn install(folder: &Path) -> Result<PathBuf, ClusterError> {
        let path = folder.join("faults.so");
        std::fs::write(&path, LIBRARY)
            .map_err(|source| ClusterError::Files { path: path.clone(), source })?;
        Ok(path)
    }

    /// A page on which everything is right.
    pub(super) fn create(page: PathBuf) -> Result<Faults, ClusterError> {
        let failed = |source| ClusterError::Files { path: page.clone(), source };
        let file = File::options().create(true).truncate(true).write(true).open(&page).map_err(failed)?;
        file.set_len(4096).map_err(failed)?;
        Ok(Faults { page, file, sequence: 0, told: Told::default() })
    }

    /// Where the page is.
    pub(super) fn page(&self) -> &Path {
        &self.page
    }

    /// Sets the wall clock wrong by so much, in seconds, either way.
    ///
    /// # Errors
    /// [`ClusterError::Files`].
    pub fn jump(&mut self, seconds: i64) -> Result<(), ClusterError> {
        self.told.wall_ahead_ns = seconds * 1_000_000_000;
        self.write()
    }

    /// Lets both clocks run so many millionths faster from now on.
    ///
    /// # Errors
    /// [`ClusterError::Files`].
    pub fn drift(&mut self, ppm: i64) -> Result<(), ClusterError> {
        let now = clock_gettime(ClockId::Monotonic);
        let now = now.tv_sec * 1_000_000_000 + i64::from(now.tv_nsec as i32);
        // What has drifted so far stays: a monotonic clock may change its pace, never go back.
        self.told.drifted_ns += (now - self.told.anchor_ns) / 1_000_000 * self.told.drift_ppm;
        self.told.anchor_ns = now;
        self.told.drift_ppm = ppm;
        self.write()
    }

    /// Lets every fsync take so much longer.
    ///
    /// # Errors
    /// [`ClusterError::Files`].
    pub fn slow_sync(&mut self, delay: Duration) -> Result<(), ClusterError> {
        self.told.sync_delay_us = delay.as_micros() as i64;
        self.write()
    }

    /// Lets every fsync fail with EIO, or none.
    ///
    /// # Errors
    /// [`ClusterError::Files`].
    pub fn fail_sync(&mut self, fails: bool) -> Result<(), ClusterError> {
        self.told.sync_errno = if fails { rustix::io::Errno::IO.raw_os_error().into() } else { 0 };
        self.write()
    }

    /// Ends all of it. What the clocks have drifted so far stays.
    ///
    /// # Errors
    /// [`ClusterError::Files`].
    pub fn calm(&mut self) -> Result<(), ClusterError> {
        self.jump(0)?;
        self.drift(0)?;
        self.slow_sync(Duration::ZERO)?;
        self.fail_sync(false)
    }

    fn write(&mut self) -> Result<(), ClusterError> {
        let told = self.told;
        let fields: [i64; FIELDS] = [
            self.sequence + 1,
            told.wall_ahead_ns,
            told.drift_ppm,
            told.anchor_ns,
            told.drifted_ns,
            told.sync_delay_us,
            told.sync_errno,
        ];
        let bytes: Vec<u8> = fields.iter().flat_map(|field| field.to_ne_bytes()).collect();
        self.sequence += 2;
        // Odd first, then the fields, then even: a reader in between asks again.
        self.file
            .write_all_at(&bytes[..8], 0)
            .and_then(|()| self.file.write_all_at(&bytes[8..], 8))
            .and_then(|()| self.file.write_all_at(&self.sequence.to_ne_bytes(), 0))
            .map_err(|source| ClusterError::Files { path: self.page.clone(), source })
    }
}
