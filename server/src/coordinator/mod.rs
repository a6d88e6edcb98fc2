//! Decide: the only face that doors see.
//!
//! - [`connection`]: opening and resuming sessions; a session's requests in order;
//! - [`write`](mod@write): a request becomes a command and is kept until it has applied here;
//! - [`read`]: behind the session's own writes, and as fresh as asked;
//! - [`heartbeat`]: members gather heartbeats and bring them to the leader;
//! - [`expiry`]: the leader's timers, which end sessions and nodes through the log;
//! - [`directory`]: the registry as this member sees it; [`registrar`]: how instances get in and out;
//!   [`reports`]: what they say of themselves; [`checks`]: how the leader checks them;
//! - [`digests`], [`publication`], [`disk_guard`]: what the leader looks after from time to time;
//! - [`auth`]: credentials become identities; [`gauges`]: sizes for the meters.
//!
//! Not here: wires (frontends/), agreement (replica/), the state (local_state).

pub mod auth;
pub mod checks;
pub mod connection;
pub mod digests;
pub mod directory;
pub mod disk_guard;
pub mod expiry;
pub mod gauges;
pub mod heartbeat;
pub mod publication;
pub mod read;
pub mod registrar;
pub mod reports;
pub mod write;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use quorate_core::id::MemberId;
use tokio::sync::Semaphore;

use crate::coordinator::expiry::Deadlines;
use crate::coordinator::heartbeat::Heartbeats;
use crate::limits::Limits;
use crate::local_state::LocalState;
use crate::metrics::Metrics;
use crate::replica::Replica;

/// What every door holds: cheap to clone, the same for all.
#[derive(Clone, Debug)]
pub struct Coordinator {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    member: MemberId,
    local: Arc<LocalState>,
    replica: Replica,
    limits: Limits,
    heartbeats: Heartbeats,
    deadlines: Arc<Deadlines>,
    metrics: Metrics,
    directory: directory::Directory,
    damper: registrar::Damper,
    reports: reports::Reports,
    /// Whose turn it is to look through much of the tree.
    long_read: Semaphore,
    /// The last ticket given; starts at a random point so that a restarted member never answers
    /// a call of its former life.
    ticket: AtomicU64,
}

impl Coordinator {
    /// Wires the room. [`crate::server`] starts its tasks: [`Coordinator::run_heartbeats`],
    /// [`Coordinator::run_resends`] and [`Coordinator::run_expiry`].
    pub fn new(
        member: MemberId,
        local: Arc<LocalState>,
        replica: Replica,
        limits: Limits,
        deadlines: Arc<Deadlines>,
        metrics: Metrics,
        first_ticket: u64,
    ) -> Coordinator {
        let shared = Shared {
            member,
            local,
            replica,
            limits,
            heartbeats: Heartbeats::default(),
            deadlines,
            metrics,
            directory: Default::default(),
            damper: Default::default(),
            reports: Default::default(),
            long_read: Semaphore::new(1),
            ticket: AtomicU64::new(first_ticket),
        };
        Coordinator { shared: Arc::new(shared) }
    }

    /// This member.
    pub fn member(&self) -> MemberId {
        self.shared.member
    }

    /// The admission limits.
    pub fn limits(&self) -> &Limits {
        &self.shared.limits
    }

    /// Membership and status: what `Cluster` and the console show and change.
    pub fn replica(&self) -> &Replica {
        &self.shared.replica
    }

    /// This member's local state.
    pub fn local(&self) -> &Arc<LocalState> {
        &self.shared.local
    }

    /// The member's meters.
    pub fn metrics(&self) -> &Metrics {
        &self.shared.metrics
    }

    fn next_ticket(&self) -> u64 {
        self.shared.ticket.fetch_add(1, Ordering::Relaxed) + 1
    }
}
