//! One life of a simulated process, from its start to its crash.
//!
//! A crash is the end of the life: its tasks are dropped where they stand, and everything by which it
//! could still act on the world (disk, network, connections) asks [`Life::is_alive`] first. openraft's
//! own tasks are not ours to drop: they are fenced off at once and collected later.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::task::JoinSet;

/// Whoever has an address on the network: members by their ids, clients above them.
pub type Node = u64;

/// A process while it lives. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Life {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    node: Node,
    is_alive: AtomicBool,
    tasks: Mutex<JoinSet<()>>,
}

impl Life {
    /// A process starts.
    pub fn begin(node: Node) -> Life {
        let inner = Inner { node, is_alive: AtomicBool::new(true), tasks: Mutex::new(JoinSet::new()) };
        Life { inner: Arc::new(inner) }
    }

    /// Whose life.
    pub fn node(&self) -> Node {
        self.inner.node
    }

    /// Whether the process has not crashed.
    pub fn is_alive(&self) -> bool {
        self.inner.is_alive.load(Ordering::Relaxed)
    }

    /// Runs a task until it is done or the process crashes.
    pub fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        if !self.is_alive() {
            return;
        }
        let mut tasks = self.inner.tasks.lock().unwrap_or_else(PoisonError::into_inner);
        while tasks.try_join_next().is_some() {}
        tasks.spawn(task);
    }

    /// The process crashes: nothing that it does reaches the world from here on.
    pub fn end(&self) {
        self.inner.is_alive.store(false, Ordering::Relaxed);
        self.inner.tasks.lock().unwrap_or_else(PoisonError::into_inner).abort_all();
    }
}
