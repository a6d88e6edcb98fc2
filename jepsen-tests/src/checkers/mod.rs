//! Checkers: each judges one property of a history. One property a file.
//!
//! - [`linearizable`]: registers behave as one copy, per key;
//! - [`set`]: what was acknowledged is there;
//! - [`sequence`]: sequential numbers are unique and grow, nothing lost, nothing twice;
//! - [`fencing`]: no old holder of a lock gets through;
//! - [`watch`]: no event lost, repeated or out of order;
//! - [`append`]: transactions on lists are strictly serializable; [`cycles`]: circles among them;
//! - [`bank`]: the total never changes;
//! - [`counter`]: each increment counts once;
//! - [`exactly_once`]: no retry takes effect twice;
//! - [`session_order`]: a session's requests keep their order, its reads never go back;
//! - [`ephemeral`]: ephemeral nodes live as long as their sessions;
//! - [`leadership`]: leaders follow each other; [`registry`]: followers converge;
//! - [`digest`]: the members' contents are equal at the end;
//! - [`availability`]: the cluster works again after each fault.
//!
//! A checker that finds nothing to judge says [`Verdict::Unknown`], never valid. Unknown outcomes in
//! a history may have happened or not: a history is rejected only if neither explains it.

pub mod append;
pub mod availability;
pub mod bank;
pub mod counter;
mod cycles;
pub mod digest;
pub mod ephemeral;
pub mod exactly_once;
pub mod fencing;
mod known;
pub mod leadership;
pub mod linearizable;
pub mod registry;
pub mod sequence;
pub mod session_order;
pub mod set;
pub mod watch;

use serde::{Deserialize, Serialize};

use crate::history::History;

/// What a checker concludes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "verdict", rename_all = "lowercase")]
pub enum Verdict {
    /// The property holds; a sentence with figures.
    Valid {
        /// What was seen.
        summary: String,
    },
    /// It does not; what contradicts it.
    Invalid {
        /// Each contradiction.
        anomalies: Vec<Anomaly>,
    },
    /// It could not be judged. Never counts as a pass.
    Unknown {
        /// Why.
        reason: String,
    },
}

impl Verdict {
    /// Whether the property holds.
    pub fn is_valid(&self) -> bool {
        matches!(self, Verdict::Valid { .. })
    }

    /// Invalid if there are anomalies, else valid.
    pub fn of(anomalies: Vec<Anomaly>, summary: String) -> Verdict {
        if anomalies.is_empty() { Verdict::Valid { summary } } else { Verdict::Invalid { anomalies } }
    }
}

/// One contradiction: what, and the entries of the history that show it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Anomaly {
    /// A sentence.
    pub what: String,
    /// Indexes into the history.
    pub entries: Vec<usize>,
}

impl Anomaly {
    /// An anomaly shown by these entries.
    pub fn new(what: impl Into<String>, entries: impl Into<Vec<usize>>) -> Anomaly {
        Anomaly { what: what.into(), entries: entries.into() }
    }
}

/// Judges one property.
pub trait Checker {
    /// Its name, as in reports.
    fn name(&self) -> &'static str;
    /// Judges a whole history.
    fn check(&self, history: &History) -> Verdict;
}

/// A checker's name and what it concluded.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Finding {
    /// The checker.
    pub checker: String,
    /// Its conclusion.
    #[serde(flatten)]
    pub verdict: Verdict,
}

/// Lets all judge.
pub fn judge(checkers: &[Box<dyn Checker>], history: &History) -> Vec<Finding> {
    let judge = |checker: &dyn Checker| Finding {
        checker: checker.name().to_owned(),
        verdict: checker.check(history),
    };
    checkers.iter().map(|checker| judge(checker.as_ref())).collect()
}
