//! The trace of a simulation: everything that happened, in order, as one hash.
//!
//! Two runs of one seed are the same run if and only if their hashes are equal. The last lines are
//! kept in memory: they are what a failing seed shows first.

use std::collections::VecDeque;
use std::fmt;
use std::io::Write;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::time::Instant;
use xxhash_rust::xxh3::Xxh3;

/// Lines kept for a failing seed.
const KEPT: usize = 60;

/// Collects a simulation's events. Cheap to clone.
#[derive(Clone)]
pub struct Trace {
    inner: Arc<Mutex<Inner>>,
    started: Instant,
}

struct Inner {
    hasher: Xxh3,
    events: u64,
    kept: VecDeque<String>,
    file: Option<Box<dyn Write + Send>>,
}

impl fmt::Debug for Trace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Trace").finish_non_exhaustive()
    }
}

impl Trace {
    /// A trace that begins now; every line also goes to `file`, if there is one.
    pub fn begin(file: Option<Box<dyn Write + Send>>) -> Trace {
        let inner = Inner { hasher: Xxh3::new(), events: 0, kept: VecDeque::new(), file };
        Trace { inner: Arc::new(Mutex::new(inner)), started: Instant::now() }
    }

    /// Simulated microseconds since the beginning.
    pub fn now_us(&self) -> u64 {
        self.started.elapsed().as_micros() as u64
    }

    /// Something happened.
    pub fn note(&self, what: fmt::Arguments<'_>) {
        let line = format!("{:>10} {what}", self.now_us());
        let mut inner = self.lock();
        inner.hasher.update(line.as_bytes());
        inner.hasher.update(b"\n");
        inner.events += 1;
        if let Some(file) = &mut inner.file {
            writeln!(file, "{line}").expect("the trace's file can be written");
        }
        if inner.kept.len() == KEPT {
            inner.kept.pop_front();
        }
        inner.kept.push_back(line);
    }

    /// The hash of all events so far, and how many there were.
    pub fn hash(&self) -> (u128, u64) {
        let inner = self.lock();
        (inner.hasher.digest128(), inner.events)
    }

    /// The last events.
    pub fn last(&self) -> Vec<String> {
        self.lock().kept.iter().cloned().collect()
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
