//! Proof under faults: traffic → faults → history → checks → report.
//!
//! - [`cluster`]: real `quorated` processes that can be killed, paused, wiped and restarted;
//! - [`workloads`]: what clients do, one a file; [`nemesis`]: what goes wrong meanwhile, one a file;
//! - [`history`]: what every client asked and was told, as JSON lines;
//! - [`checkers`]: judge a history, one property a file;
//! - [`run`]: all of it together; [`report`]: a run as a page;
//! - [`series`]: many runs: the matrix and soaks; [`edn`]: histories for other checkers;
//! - [`scenarios`]: what must show on real processes, one story a file;
//! - [`differential`]: the same requests to a real ZooKeeper and to Quorate, and what differs;
//! - [`zookeeper`]: a client of that protocol, and real ensembles to calibrate on;
//! - [`simulation`]: the server's rooms in one thread, on simulated time, from one seed.
//!
//! But for the simulation, the server is used only from outside, as its users see it.

pub mod checkers;
pub mod cluster;
pub mod differential;
pub mod edn;
pub mod history;
pub mod nemesis;
pub mod report;
pub mod run;
pub mod scenarios;
pub mod series;
pub mod simulation;
pub mod workloads;
pub mod zookeeper;

/// Runs a future to its end on a runtime of its own: one thread, where tasks that share a history may
/// be spawned.
///
/// # Errors
/// The future's own.
pub fn run_local<T, E: From<std::io::Error>>(future: impl Future<Output = Result<T, E>>) -> Result<T, E> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    tokio::task::LocalSet::new().block_on(&runtime, future)
}

/// `90s`, `1500ms`, `5m`, `1h`.
///
/// # Errors
/// Anything else.
pub fn parse_duration(text: &str) -> Result<std::time::Duration, String> {
    let digits = text.trim_end_matches(|letter: char| letter.is_ascii_alphabetic());
    let unit = match &text[digits.len()..] {
        "ms" => 1,
        "s" => 1_000,
        "m" => 60_000,
        "h" => 3_600_000,
        _ => return Err(format!("{text:?} is not like 500ms, 60s, 5m or 1h")),
    };
    let count: u64 = digits.parse().map_err(|_| format!("{text:?} is not like 60s"))?;
    Ok(std::time::Duration::from_millis(count * unit))
}
