//! The inspector: told of every apply on every member, it feeds the rules that judge from inside.

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use quorate_core::command::{CloseReason, Command, Operation};
use quorate_core::id::{MemberId, SessionId};
use quorate_core::state::{Applied, State};
use quorate_server::local_state::ApplyObserver;

use super::agreement::Agreement;
use super::ephemerals;
use super::exactly_once::ExactlyOnce;
use super::expiry::Expiry;
use super::freshness::Freshness;
use crate::simulation::life::Life;
use crate::simulation::verdicts::Verdicts;

/// Where the simulation's clients keep ephemeral nodes.
pub const EPHEMERAL_PARENTS: [&str; 2] = ["/ephemerals", "/lock"];

/// All rules of one simulation. Cheap to clone.
#[derive(Clone)]
pub struct Inspector {
    rules: Arc<Mutex<Rules>>,
    verdicts: Verdicts,
    trace: crate::simulation::trace::Trace,
}

#[derive(Default)]
struct Rules {
    agreement: Agreement,
    exactly_once: ExactlyOnce,
    expiry: Expiry,
    freshness: Freshness,
    applies: u64,
}

impl fmt::Debug for Inspector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Inspector").finish_non_exhaustive()
    }
}

/// Watches one life of a member.
#[derive(Debug)]
struct Observer {
    inspector: Inspector,
    life: Life,
    /// The last index applied in this life.
    at: Mutex<Option<u64>>,
}

impl Inspector {
    /// Nothing has happened yet.
    pub fn new(verdicts: Verdicts, trace: crate::simulation::trace::Trace) -> Inspector {
        Inspector { rules: Arc::default(), verdicts, trace }
    }

    /// What watches one life of a member.
    pub fn observer(&self, life: Life) -> Arc<dyn ApplyObserver> {
        Arc::new(Observer { inspector: self.clone(), life, at: Mutex::default() })
    }

    /// The highest index that any member has applied.
    pub fn highest_index(&self) -> u64 {
        self.rules().agreement.highest()
    }

    /// How many log entries were applied, all members and lives together.
    pub fn applies(&self) -> u64 {
        self.rules().applies
    }

    /// A client was told that its heartbeat was heard.
    pub fn heartbeat_answered(&self, session: SessionId, sent_us: u64, timeout_us: u64) {
        let outcome = self.rules().expiry.answered(session, sent_us, timeout_us);
        self.verdicts.check("expiry", outcome);
    }

    /// Where an operation that begins now must stand.
    pub fn floor(&self) -> u64 {
        self.rules().freshness.floor()
    }

    /// A write was answered.
    pub fn wrote(&self, floor: u64, zxid: u64) {
        let outcome = self.rules().freshness.wrote(floor, zxid);
        self.verdicts.check("freshness", outcome);
    }

    /// A linearizable read was answered.
    pub fn read(&self, floor: u64, zxid: u64) {
        let outcome = self.rules().freshness.read(floor, zxid);
        self.verdicts.check("freshness", outcome);
    }

    fn rules(&self) -> MutexGuard<'_, Rules> {
        self.rules.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl ApplyObserver for Observer {
    fn command(&self, _: MemberId, index: u64, state: &State, command: &Command, applied: &Applied) {
        if !self.life.is_alive() {
            return;
        }
        let inspector = &self.inspector;
        let mut rules = inspector.rules();
        // The rules of order judge each entry once, where it is applied first; that it is the same
        // everywhere else is the agreement's to judge.
        if index > rules.agreement.highest() {
            inspector.verdicts.check("exactly once", rules.exactly_once.applied(command, applied));
            if let (Operation::CloseSession { reason: CloseReason::Expired { .. }, .. }, Some(session)) =
                (&command.operation, applied.ended_session)
            {
                let outcome = rules.expiry.expired(session, inspector.trace.now_us());
                inspector.verdicts.check("expiry", outcome);
            }
        }
        drop(rules);
        if applied.ended_session.is_some() {
            for parent in EPHEMERAL_PARENTS {
                inspector.verdicts.check("ephemerals", ephemerals::check(state, parent));
            }
        }
    }

    fn entry(&self, member: MemberId, state: &State, index: u64) {
        if !self.life.is_alive() {
            return;
        }
        let inspector = &self.inspector;
        let before = lock(&self.at).replace(index);
        if let Some(before) = before
            && index <= before
        {
            inspector
                .verdicts
                .violated("agreement", format!("member {member} applied {index} behind {before}"));
        }
        let mut rules = inspector.rules();
        rules.applies += 1;
        let (zxid, digest) = (state.zxid(), state.digest());
        inspector.trace.note(format_args!("{member} applied {index} zxid {zxid} {:016x}", digest.0 as u64));
        inspector.verdicts.check("agreement", rules.agreement.applied(member, index, zxid, digest));
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
