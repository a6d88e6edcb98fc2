//! Proof under faults: traffic → faults → history → checks → report.
//!
//! - [`cluster`]: real `quorated` processes that can be killed, paused, wiped and restarted;
//! - [`workloads`]: what clients do, one a file; [`nemesis`]: what goes wrong meanwhile, one a file;
//! - [`history`]: what every client asked and was told, as JSON lines;
//! - [`checkers`]: judge a history, one property a file;
//! - [`run`]: all of it together; [`report`]: a run as a page;
//! - [`scenarios`]: what must show on real processes, one story a file;
//! - [`differential`]: the same requests to a real ZooKeeper and to Quorate, and what differs;
//! - [`simulation`]: the server's rooms in one thread, on simulated time, from one seed.
//!
//! But for the simulation, the server is used only from outside, as its users see it.

pub mod checkers;
pub mod cluster;
pub mod differential;
pub mod history;
pub mod nemesis;
pub mod report;
pub mod run;
pub mod scenarios;
pub mod simulation;
pub mod workloads;

/// Runs a future to its end on a runtime of its own: one thread, where tasks that share a history may
/// be spawned.
///
/// # Errors
/// The future's own.
pub fn run_local<T, E: From<std::io::Error>>(future: impl Future<Output = Result<T, E>>) -> Result<T, E> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    tokio::task::LocalSet::new().block_on(&runtime, future)
}
