//! Every spawned task is owned: dropping its guard ends it.

use std::future::Future;

use tokio::task::JoinHandle;

/// Owns a task; the task ends, at its next await, when this is dropped.
#[derive(Debug)]
pub struct TaskGuard {
    name: &'static str,
    handle: JoinHandle<()>,
}

impl TaskGuard {
    /// Spawns a task on the current runtime.
    pub fn spawn(name: &'static str, task: impl Future<Output = ()> + Send + 'static) -> TaskGuard {
        TaskGuard { name, handle: tokio::spawn(task) }
    }

    /// Whether the task has ended by itself.
    pub fn is_finished(&self) -> bool {
        self.handle.is_finished()
    }

    /// What the task is for.
    pub fn name(&self) -> &'static str {
        self.name
    }
}

impl Drop for TaskGuard {
    fn drop(&mut self) {
        self.handle.abort();
    }
}
