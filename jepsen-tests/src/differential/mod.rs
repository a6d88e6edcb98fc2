//! The same requests to a real ZooKeeper and to Quorate, and what differs.
//!
//! From one seed come chapters of raw wire requests on a few sessions: pipelined, with watches,
//! multis, sessions dropped and resumed, and much that is wrong on purpose. Each step is played on
//! both sides before the next, and everything either side says is compared: reply headers and
//! records, Stats, events and where they stand between the replies, and whether a connection ends.
//!
//! - [`jute`] and [`wire`]: a small client of its own, sharing nothing with the door under test;
//! - [`request`]: requests and what their replies hold; [`generator`] and `random_request`: which come;
//! - [`side`]: the sessions of one side; [`compare`]: what is equal; [`chapter`]: a run of steps;
//! - [`servers`]: starts both, if they are not given.
//!
//! It knows no rule of the tree: the real server is the judge.

pub mod chapter;
pub mod compare;
pub mod generator;
pub mod jute;
mod random_request;
pub mod request;
pub mod servers;
pub mod side;
pub mod wire;

use std::process::ExitCode;
use std::time::Instant;

use chapter::Chapter;
use compare::Mapping;
use servers::Servers;

/// What to compare.
#[derive(Clone, Debug, clap::Args)]
pub struct Plan {
    /// Compare at least so many requests.
    #[arg(long, default_value_t = 100_000)]
    pub operations: u64,
    /// Where all choices come from.
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
    /// Play only this chapter.
    #[arg(long)]
    pub chapter: Option<u64>,
    /// A ZooKeeper that runs, with the superuser super:test; Debian's is started if absent.
    #[arg(long, requires = "quorate")]
    pub zookeeper: Option<String>,
    /// A Quorate that runs, with the superuser super:test; one is started if absent.
    #[arg(long, requires = "zookeeper")]
    pub quorate: Option<String>,
    /// A folder with another ZooKeeper's jars, to be started instead of Debian's.
    #[arg(long, conflicts_with = "zookeeper")]
    pub zookeeper_jars: Option<std::path::PathBuf>,
    /// Print every step of the chapters, not only those before a difference.
    #[arg(long)]
    pub show: bool,
}

/// Why there is no verdict.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// The servers could not be started.
    #[error("servers: {0}")]
    Servers(String),
    /// A side cannot be reached, or broke the protocol.
    #[error("{side}: {reason}")]
    Side {
        /// Which.
        side: &'static str,
        /// How.
        reason: String,
    },
}

/// Compares; success if nothing differs.
pub fn main(plan: &Plan) -> ExitCode {
    match run(plan) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(failure) => {
            eprintln!("differential: {failure}");
            ExitCode::from(2)
        }
    }
}

fn run(plan: &Plan) -> Result<bool, Failure> {
    let servers = match (&plan.zookeeper, &plan.quorate) {
        (Some(zookeeper), Some(quorate)) => Servers::given(zookeeper, quorate),
        _ => Servers::start(plan.zookeeper_jars.as_deref())?,
    };
    let started = Instant::now();
    let mut mapping = Mapping::default();
    let (mut requests, mut events, mut steps) = (0, 0, 0);
    let chapters = plan.chapter.map_or(0..u64::MAX, |chapter| chapter..chapter + 1);
    for number in chapters {
        let mut chapter = Chapter::new(plan.seed, number, &servers, &mut mapping);
        let played = chapter.play()?;
        if plan.show || played.difference.is_some() {
            chapter.show_transcript();
        }
        if let Some(difference) = played.difference {
            println!("\nDIFFERENCE in chapter {number}, after {requests} equal requests: {difference}");
            println!(
                "again: jepsen-tests differential --seed {} --chapter {number}   ({})",
                plan.seed,
                servers.describe()
            );
            return Ok(false);
        }
        requests += played.requests;
        events += played.events;
        steps += played.steps;
        if requests >= plan.operations {
            break;
        }
    }
    println!(
        "equal: {requests} requests in {steps} steps, {events} events, {} transactions named, in {:.0} s (seed {})",
        mapping.transactions(),
        started.elapsed().as_secs_f64(),
        plan.seed
    );
    for (what, count) in mapping.explained() {
        println!("  differs as documented, {count} times: {what}");
    }
    Ok(true)
}
