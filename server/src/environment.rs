//! The world as the server sees it: wall clock and randomness, given at wiring.
//!
//! Monotonic time and timers are the async runtime's, which a simulator pauses and drives; network
//! and disk come in through [`crate::replica::peers::PeerTransport`] and the storage traits. Below
//! server.rs nobody asks the operating system for any of these.

use std::fmt::Debug;
use std::sync::Arc;

use quorate_core::id::Timestamp;

/// Wall clock and randomness. An implementer's `entropy` is unpredictable to clients.
pub trait World: Send + Sync + Debug + 'static {
    /// Milliseconds since the Unix epoch; may jump.
    fn wall_clock(&self) -> Timestamp;

    /// Sixteen bytes from a cryptographic generator.
    fn entropy(&self) -> [u8; 16];
}

/// A cheap handle to the [`World`].
#[derive(Clone, Debug)]
pub struct Environment(Arc<dyn World>);

impl Environment {
    /// The operating system's clock and generator.
    pub fn system() -> Environment {
        Environment::new(SystemWorld)
    }

    /// Any world.
    pub fn new(world: impl World) -> Environment {
        Environment(Arc::new(world))
    }

    /// Milliseconds since the Unix epoch; may jump.
    pub fn wall_clock(&self) -> Timestamp {
        self.0.wall_clock()
    }

    /// Sixteen unpredictable bytes.
    pub fn entropy(&self) -> [u8; 16] {
        self.0.entropy()
    }

    /// Eight of them, as a number.
    pub fn random_u64(&self) -> u64 {
        let [a, b, c, d, e, f, g, h, ..] = self.0.entropy();
        u64::from_le_bytes([a, b, c, d, e, f, g, h])
    }
}

#[derive(Debug)]
struct SystemWorld;

impl World for SystemWorld {
    fn wall_clock(&self) -> Timestamp {
        let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
        Timestamp(since.map_or(0, |since| i64::try_from(since.as_millis()).unwrap_or(i64::MAX)))
    }

    fn entropy(&self) -> [u8; 16] {
        let mut bytes = [0; 16];
        getrandom::fill(&mut bytes).expect("the operating system has a random generator");
        bytes
    }
}
