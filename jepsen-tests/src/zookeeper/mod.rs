//! ZooKeeper from outside: a small client of its protocol, and real ensembles to calibrate on.
//!
//! - [`Client`]: as little as workloads need, one request at a time, and no help: a lost connection
//!   is an unknown outcome, as it is for every ZooKeeper client;
//! - [`ensemble`]: Debian's ZooKeeper as processes of ours;
//! - [`calibrate`]: the harness must find there what is known to be wrong.

pub mod calibrate;
mod client;
pub mod ensemble;

pub use client::Client;
