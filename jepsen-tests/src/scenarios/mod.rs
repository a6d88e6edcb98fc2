//! Scenarios: what must show on real processes, each with its own story. One a file.
//!
//! - [`failover`]: the leader is killed again and again under a constant write load;
//! - [`session_move`]: a session outlives its member;
//! - [`lost_disk`]: a member with an empty disk must not come back under its old id;
//! - [`crash_recovery`]: a member is killed at random instants while it writes;
//! - [`lagging_member`]: a member that lags installs a snapshot while clients hang on it;
//! - [`overload`]: far more writes than the members can do, and no election;
//! - [`bad_input`]: whatever a client sends, the member lives;
//! - [`many_services`]: thousands of instances and followers, through a rolling restart.
//!
//! The tests run short forms; `jepsen-tests scenario NAME --times N` the long ones. Each returns what
//! it measured or says what broke.

pub mod bad_input;
pub mod crash_recovery;
pub mod failover;
pub mod lagging_member;
pub mod load;
pub mod lost_disk;
pub mod many_services;
pub mod overload;
pub mod session_move;

use std::time::Duration;

use crate::checkers::Verdict;
use crate::cluster::ClusterError;
use crate::history::HistoryError;

/// How long any single thing may take before a scenario gives up on it.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// Why a scenario did not show what it must.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// The fixture failed.
    #[error(transparent)]
    Cluster(#[from] ClusterError),
    /// The client failed where it must not.
    #[error("client: {0}")]
    Client(#[from] quorate::Error),
    /// No runtime.
    #[error("runtime: {0}")]
    Runtime(#[from] std::io::Error),
    /// The history could not be written.
    #[error(transparent)]
    History(#[from] HistoryError),
    /// A checker rejects what was seen.
    #[error("{checker}: {verdict:?}")]
    Rejected {
        /// Which.
        checker: &'static str,
        /// What it says.
        verdict: Verdict,
    },
    /// A promise was broken.
    #[error("{0}")]
    Broken(String),
}

/// What a scenario measured, as lines for people.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Measured(pub Vec<String>);

impl Measured {
    fn note(&mut self, line: impl Into<String>) {
        self.0.push(line.into());
    }
}

impl std::fmt::Display for Measured {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.iter().try_for_each(|line| writeln!(f, "  {line}"))
    }
}

/// Breaks the scenario unless `holds`.
pub(crate) fn ensure(holds: bool, what: impl FnOnce() -> String) -> Result<(), Failure> {
    if holds { Ok(()) } else { Err(Failure::Broken(what())) }
}

/// Breaks the scenario if this takes longer than [`PATIENCE`].
pub(crate) async fn in_time<T>(what: &str, future: impl Future<Output = T>) -> Result<T, Failure> {
    tokio::time::timeout(PATIENCE, future)
        .await
        .map_err(|_| Failure::Broken(format!("not in {PATIENCE:?}: {what}")))
}

/// Median and worst, for people.
pub(crate) fn median_and_worst(times: &[Duration]) -> String {
    let mut sorted = times.to_vec();
    sorted.sort_unstable();
    match (sorted.get(sorted.len() / 2), sorted.last()) {
        (Some(median), Some(worst)) => {
            format!("median {} ms, worst {} ms of {}", median.as_millis(), worst.as_millis(), sorted.len())
        }
        _ => "nothing measured".into(),
    }
}
