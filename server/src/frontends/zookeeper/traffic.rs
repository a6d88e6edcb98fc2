//! What a connection, or the whole door, has sent and received, and how long answers took: for
//! `srvr`, `stat`, `mntr` and `cons`. The member's own meters are in /metrics.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Counters that start anew when an operator resets them.
#[derive(Debug)]
pub struct Traffic {
    received: AtomicU64,
    sent: AtomicU64,
    answered: AtomicU64,
    micros: AtomicU64,
    micros_min: AtomicU64,
    micros_max: AtomicU64,
}

/// What they stand at.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Counts {
    /// Frames that came in.
    pub received: u64,
    /// Frames that went out.
    pub sent: u64,
    /// The quickest answer, in milliseconds.
    pub latency_min: u64,
    /// The mean, in milliseconds.
    pub latency_mean: f64,
    /// The slowest, in milliseconds.
    pub latency_max: u64,
}

impl Default for Traffic {
    fn default() -> Traffic {
        Traffic {
            received: AtomicU64::new(0),
            sent: AtomicU64::new(0),
            answered: AtomicU64::new(0),
            micros: AtomicU64::new(0),
            micros_min: AtomicU64::new(u64::MAX),
            micros_max: AtomicU64::new(0),
        }
    }
}

impl Traffic {
    /// A frame came in.
    pub fn receive(&self) {
        self.received.fetch_add(1, Ordering::Relaxed);
    }

    /// A frame goes out.
    pub fn send(&self) {
        self.sent.fetch_add(1, Ordering::Relaxed);
    }

    /// A request was answered, this long after it came.
    pub fn answer(&self, after: Duration) {
        let micros = u64::try_from(after.as_micros()).unwrap_or(u64::MAX);
        self.answered.fetch_add(1, Ordering::Relaxed);
        self.micros.fetch_add(micros, Ordering::Relaxed);
        self.micros_min.fetch_min(micros, Ordering::Relaxed);
        self.micros_max.fetch_max(micros, Ordering::Relaxed);
    }

    /// Begins anew.
    pub fn reset(&self) {
        for counter in [&self.received, &self.sent, &self.answered, &self.micros, &self.micros_max] {
            counter.store(0, Ordering::Relaxed);
        }
        self.micros_min.store(u64::MAX, Ordering::Relaxed);
    }

    /// What the counters stand at.
    pub fn counts(&self) -> Counts {
        let load = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let answered = load(&self.answered);
        let mean = if answered == 0 { 0.0 } else { load(&self.micros) as f64 / answered as f64 / 1_000.0 };
        Counts {
            received: load(&self.received),
            sent: load(&self.sent),
            latency_min: if answered == 0 { 0 } else { load(&self.micros_min) / 1_000 },
            latency_mean: mean,
            latency_max: load(&self.micros_max) / 1_000,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_start_anew_when_reset() {
        let traffic = Traffic::default();
        let fresh = traffic.counts();
        assert_eq!((fresh.latency_min, fresh.latency_max), (0, 0));
        traffic.receive();
        traffic.send();
        traffic.answer(Duration::from_millis(2));
        traffic.answer(Duration::from_millis(5));
        let counts = traffic.counts();
        assert_eq!((counts.received, counts.sent), (1, 1));
        assert_eq!((counts.latency_min, counts.latency_mean, counts.latency_max), (2, 3.5, 5));
        traffic.reset();
        assert_eq!(traffic.counts(), fresh);
    }
}
