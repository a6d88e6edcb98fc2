//! The server: a member of a cluster, from its doors to its disk.
//!
//! Every room imports only to its right:
//! `main ▶ server ▶ frontends ▶ coordinator ▶ replica ▶ local_state ▶ sessions ▶ core`.
//! Replies never travel back up the chain: they leave by the session's outbox.
//!
//! `check_targets`, `config`, `environment`, `limits`, `metrics`, `tasks` and `tls` are tools that any room may hold.

pub mod dev;
pub mod server;

pub mod frontends;

pub mod coordinator;

pub mod replica;

pub mod local_state;

pub mod sessions;

pub mod check_targets;
pub mod config;
pub mod environment;
pub mod limits;
pub mod logging;
pub mod metrics;
pub mod tasks;
pub mod tls;
pub mod zoo_cfg;
