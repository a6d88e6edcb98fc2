//! A member's wall clock and randomness.
//!
//! All members share the simulation's monotonic time, as all machines share physics; what they show
//! on the wall differs, drifts and jumps.

use std::fmt;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use quorate_core::id::Timestamp;
use quorate_server::environment::World;
use tokio::time::Instant;

/// What the wall shows when a simulation begins.
const EPOCH_MS: i64 = 1_700_000_000_000;

/// Clock and generator of one member, over all its lives.
#[derive(Clone)]
pub struct Clock {
    started: Instant,
    /// Milliseconds ahead of the truth.
    ahead_ms: Arc<AtomicI64>,
    random: Arc<Mutex<fastrand::Rng>>,
}

impl fmt::Debug for Clock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Clock").finish_non_exhaustive()
    }
}

impl Clock {
    /// A clock that is right.
    pub fn new(started: Instant, random: fastrand::Rng) -> Clock {
        Clock { started, ahead_ms: Arc::default(), random: Arc::new(Mutex::new(random)) }
    }

    /// Sets it wrong by so many milliseconds.
    pub fn set_ahead(&self, ms: i64) {
        self.ahead_ms.store(ms, Ordering::Relaxed);
    }
}

impl World for Clock {
    fn wall_clock(&self) -> Timestamp {
        let elapsed = self.started.elapsed().as_millis() as i64;
        Timestamp(EPOCH_MS + elapsed + self.ahead_ms.load(Ordering::Relaxed))
    }

    fn entropy(&self) -> [u8; 16] {
        let mut random = self.random.lock().unwrap_or_else(PoisonError::into_inner);
        random.u128(..).to_le_bytes()
    }
}
