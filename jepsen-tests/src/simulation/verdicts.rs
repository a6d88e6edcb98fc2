//! What was found wrong, and the simulation's own history of operations.

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::watch;

use super::trace::Trace;
use crate::history::{Entry, History, Kind, Operation, Process};

/// Violations kept; the first is the one to look at.
const KEPT: usize = 20;

/// Collects violations. Cheap to clone.
#[derive(Clone)]
pub struct Verdicts {
    found: Arc<Mutex<Vec<String>>>,
    count: watch::Sender<usize>,
    trace: Trace,
}

impl fmt::Debug for Verdicts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Verdicts").finish_non_exhaustive()
    }
}

impl Verdicts {
    /// Nothing is wrong yet.
    pub fn new(trace: Trace) -> Verdicts {
        Verdicts { found: Arc::default(), count: watch::Sender::new(0), trace }
    }

    /// An invariant does not hold.
    pub fn violated(&self, invariant: &str, what: impl fmt::Display) {
        let line = format!("{invariant}: {what}");
        self.trace.note(format_args!("VIOLATION {line}"));
        let mut found = lock(&self.found);
        if found.len() < KEPT {
            found.push(format!("{} at {:.3} s", line, self.trace.now_us() as f64 / 1e6));
        }
        self.count.send_replace(found.len());
    }

    /// Notes what a check says, if it says anything.
    pub fn check(&self, invariant: &str, outcome: Result<(), String>) {
        if let Err(what) = outcome {
            self.violated(invariant, what);
        }
    }

    /// Resolves at the first violation.
    pub async fn any(&self) {
        // The sender lives as long as this.
        let _ = self.count.subscribe().wait_for(|count| *count > 0).await;
    }

    /// All that was found.
    pub fn found(&self) -> Vec<String> {
        lock(&self.found).clone()
    }
}

/// Writes the history of operations down. Cheap to clone.
#[derive(Clone)]
pub struct Diary {
    history: Arc<Mutex<History>>,
    trace: Trace,
}

impl Diary {
    /// An empty one.
    pub fn new(trace: Trace) -> Diary {
        Diary { history: Arc::default(), trace }
    }

    /// Notes an entry.
    pub fn note(
        &self,
        process: Process,
        kind: Kind,
        operation: Operation,
        zxid: Option<u64>,
        error: Option<String>,
    ) {
        self.trace.note(format_args!("p{process} {kind:?} {operation:?} {zxid:?}"));
        let time_us = self.trace.now_us();
        lock(&self.history).entries.push(Entry { time_us, process, kind, operation, zxid, error });
    }

    /// What was noted.
    pub fn history(&self) -> History {
        lock(&self.history).clone()
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
