//! Why the fixture could not do something.

use std::path::PathBuf;
use std::time::Duration;

/// Why the fixture could not do something.
#[derive(Debug, thiserror::Error)]
pub enum ClusterError {
    /// The programs were neither found nor built.
    #[error("binaries: {0}")]
    Binaries(String),
    /// No ports.
    #[error("ports: {0}")]
    Ports(String),
    /// The kernel did not give us a network, or a fault needs one that this cluster does not have.
    #[error("network: {0}")]
    Network(String),
    /// A fault needs what this machine, or this cluster, does not have.
    #[error("not possible here: {0}")]
    Impossible(String),
    /// A file or folder could not be made or removed.
    #[error("{path}: {source}")]
    Files {
        /// Which.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// A process could not be started.
    #[error("{program}: {source}")]
    Spawn {
        /// Which.
        program: String,
        /// Why.
        source: std::io::Error,
    },
    /// A signal could not be sent.
    #[error("member {member}: signal: {reason}")]
    Signal {
        /// To whom.
        member: u64,
        /// Why.
        reason: String,
    },
    /// The member's process has ended already.
    #[error("member {member} does not run")]
    NotRunning {
        /// Which.
        member: u64,
    },
    /// The process did not end in time.
    #[error("member {member} still runs after {patience:?}")]
    StillRuns {
        /// Which.
        member: u64,
        /// How long was waited.
        patience: Duration,
    },
    /// What was waited for did not come about.
    #[error("not in {patience:?}: {what}; {detail}")]
    TooLate {
        /// What was waited for.
        what: String,
        /// How long.
        patience: Duration,
        /// What was seen last.
        detail: String,
    },
}
