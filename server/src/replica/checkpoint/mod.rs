//! The durable checkpoint: the state after some log entry, on the disk, and what is made of it.
//!
//! A member serves from memory. So that a restart need not replay the whole log, what changed is
//! written here at intervals ([`checkpointer`]), and only then may the log below it be purged. The
//! store is sled ([`SledCheckpoints`]) or, under the simulator, memory ([`MemoryCheckpoints`]).
//! The next rooms: [`super::snapshot_store`] streams a checkpoint to a lagging peer, and the log is
//! in [`super::log_store`]. What the records mean is the core's business.
//!
//! # Invariants
//!
//! - Readers, and a start after any crash, see one whole checkpoint: the last one whose
//!   [`CheckpointStore::commit`] returned, or the one that was being committed. Never a mixture.
//! - What `commit` and [`Replacement::finish`] reported is durable, the disk's cache included.
//! - A checkpoint is loaded only if its records give the digest that was written with it.

mod apply;
mod blocks;
mod checkpointer;
mod database;
mod error;
mod load;
mod manifest;
mod memory_store;
mod meta;
mod panics;
mod runs;
mod sled_store;

use std::ops::ControlFlow;

use quorate_core::record::RecordWrite;

pub use checkpointer::{CheckpointDone, Checkpointer, FrozenSource, WorkMode};
pub use error::CheckpointError;
pub(crate) use load::check_state;
pub use load::{check_reaches, load_state};
pub use memory_store::MemoryCheckpoints;
pub use meta::{CheckpointMeta, MetaError};
pub use panics::abort_on_panic;
pub(crate) use runs::piece_error;
pub use sled_store::SledCheckpoints;

/// Names the checkpoint being written; worthless once a snapshot was installed over it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ticket(u64);

/// Told each record in the order of the keys; says whether to go on.
pub type Visitor<'a> = &'a mut dyn FnMut(&[u8], &[u8]) -> ControlFlow<()>;

/// Visits the durable checkpoint's records until `take` refuses one.
///
/// # Errors
/// What `take` refused it with, or the store's own.
pub fn try_visit(
    store: &dyn CheckpointStore,
    mut take: impl FnMut(&[u8], &[u8]) -> Result<(), CheckpointError>,
) -> Result<(), CheckpointError> {
    let mut outcome = Ok(());
    store.visit(&mut |key, value| match take(key, value) {
        Ok(()) => ControlFlow::Continue(()),
        Err(error) => {
            outcome = Err(error);
            ControlFlow::Break(())
        }
    })?;
    outcome
}

/// Where checkpoints are kept. One thread writes; `meta` may be asked from anywhere.
///
/// # The implementer's duty
///
/// See the invariants of this module. An error from a write means that what the disk holds is
/// unknown: the caller stops the member.
pub trait CheckpointStore: Send + Sync + 'static {
    /// What the durable checkpoint stands for; `None` before the first.
    fn meta(&self) -> Result<Option<CheckpointMeta>, CheckpointError>;

    /// Begins a checkpoint. One that was begun before is forgotten.
    fn begin(&self) -> Result<Ticket, CheckpointError>;

    /// Adds changed records to it, in any order; nothing of it is visible yet.
    fn stage(&self, ticket: Ticket, writes: Vec<RecordWrite>) -> Result<(), CheckpointError>;

    /// Makes it the checkpoint, durably and at once.
    fn commit(&self, ticket: Ticket, meta: &CheckpointMeta) -> Result<(), CheckpointError>;

    /// Visits the durable checkpoint's records in the order of their keys.
    fn visit(&self, visitor: Visitor<'_>) -> Result<(), CheckpointError>;

    /// Lets go of what is only needed while there is work; the next call takes it up again.
    fn rest(&self) {}

    /// Begins a whole new checkpoint beside the current one: for a snapshot from a peer.
    fn begin_replacement(&self) -> Result<Box<dyn Replacement>, CheckpointError>;
}

/// A whole new checkpoint that is being filled. Dropped unfinished, it leaves no trace; until it is
/// finished, the current one goes on as if it were not there.
pub trait Replacement: Send + Sync {
    /// Adds a record; keys arrive in order.
    fn add(&mut self, key: &[u8], value: &[u8]) -> Result<(), CheckpointError>;

    /// There are no more records. Makes them durable: what takes long of [`Replacement::finish`].
    fn seal(&mut self, meta: &CheckpointMeta) -> Result<(), CheckpointError>;

    /// Makes it the checkpoint, durably and at once; the old one is removed last. It was sealed.
    fn finish(self: Box<Self>) -> Result<(), CheckpointError>;
}
