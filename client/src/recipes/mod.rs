//! Recipes: coordination made of nodes, watches and transactions. One recipe a file.
//!
//! - [`Lock`], [`ReadWriteLock`], [`Semaphore`], [`Election`]: who may, with fencing tokens;
//! - [`Barrier`], [`DoubleBarrier`]: when all may;
//! - [`Queue`], [`Counter`]: what is left, how many so far;
//! - [`Group`], [`TreeCache`]: who and what is there.
//!
//! They share one idea, contender.rs: a place in a queue is an ephemeral sequential node, and its
//! creation's zxid is a token that grows with every place. A node that was created by a request
//! whose answer was lost cannot happen: the session repeats requests exactly once.

mod barrier;
mod contender;
mod counter;
mod double_barrier;
mod election;
mod group;
mod lock;
mod queue;
mod read_write_lock;
mod semaphore;
mod tree_cache;

pub use barrier::Barrier;
pub use counter::Counter;
pub use double_barrier::{DoubleBarrier, Inside};
pub use election::{Election, Leader, LeaderObserver, Leadership};
pub use group::{Group, GroupObserver, Member, Membership};
pub use lock::{Lock, LockGuard};
pub use queue::{Item, Queue};
pub use read_write_lock::{ReadGuard, ReadWriteLock, WriteGuard};
pub use semaphore::{Permit, Semaphore};
pub use tree_cache::{CachedNode, TreeCache};
