//! `quorate-bench`: a load generator anyone can run, against Quorate, ZooKeeper and etcd.
//!
//! - `compare` starts three members of each on loopback, runs the same workloads in turn and puts
//!   the figures side by side;
//! - `run` puts one workload on a cluster that runs already;
//! - `floor` shows what the machine and gRPC give when a server does nothing.
//!
//! It measures; it never asserts a time. The rooms: targets/ (three clients behind one trait),
//! cluster/ (processes), workloads/, floor/, report/.

mod cluster;
mod compare;
mod failure;
mod floor;
mod generated;
mod report;
mod targets;
mod workloads;

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, Parser, Subcommand};

use crate::compare::Comparison;
use crate::failure::Outcome;
use crate::report::{Report, Run};
use crate::targets::Protocol;
use crate::workloads::{Shape, Subject, Workload};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Measures coordination services side by side.
#[derive(Parser)]
#[command(version, about, max_term_width = 100)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Start three members each and compare them.
    Compare {
        #[command(flatten)]
        comparison: Comparison,
        /// Write everything that was measured to this file.
        #[arg(long)]
        json: Option<PathBuf>,
        /// Draw the throughputs into this file.
        #[arg(long)]
        svg: Option<PathBuf>,
    },
    /// Run workloads on a cluster that runs already.
    Run(Load),
    /// Measure a bare echo and a bare fsync.
    Floor {
        /// How long each, in seconds.
        #[arg(long, default_value_t = 3.0)]
        seconds: f64,
    },
}

/// Workloads for a cluster that runs already.
#[derive(Args)]
struct Load {
    /// What to run.
    #[arg(value_enum, required = true)]
    workloads: Vec<Workload>,
    /// How the cluster is spoken to.
    #[arg(long, value_enum, default_value = "quorate")]
    target: Protocol,
    /// Where its members listen; session i goes to member i modulo their number.
    #[arg(long, value_delimiter = ',', default_value = "127.0.0.1:7400,127.0.0.1:7410,127.0.0.1:7420")]
    endpoints: Vec<String>,
    /// Sessions; each workload's own number if not said.
    #[arg(long)]
    connections: Option<usize>,
    /// Requests that each keeps in flight; each workload's own number if not said.
    #[arg(long)]
    in_flight: Option<usize>,
    /// Bytes of a value.
    #[arg(long, default_value_t = 100)]
    value_bytes: usize,
    /// How long each, in seconds; a tenth of it is warm-up.
    #[arg(long, default_value_t = 5.0)]
    seconds: f64,
    /// Process ids of the servers, for CPU time and memory.
    #[arg(long, value_delimiter = ',')]
    pids: Vec<u32>,
}

fn main() -> ExitCode {
    // One thread: on a machine that servers share, a second one takes what they need.
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("quorate-bench: runtime: {error}");
            return ExitCode::FAILURE;
        }
    };
    match runtime.block_on(run(Arguments::parse().command)) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("quorate-bench: {error}");
            ExitCode::FAILURE
        }
    }
}

async fn run(command: Command) -> Outcome<ExitCode> {
    match command {
        Command::Compare { comparison, json, svg } => {
            let words: Vec<String> = std::env::args().skip(1).collect();
            let report = comparison.run(format!("quorate-bench {}", words.join(" "))).await?;
            println!("{}", report::text(&report));
            if !report.floor.is_empty() {
                println!("{}", report::floor_text(&report.floor));
            }
            println!("{}", report::aims_text(&report));
            if let Some(path) = json {
                std::fs::write(path, serde_json::to_vec_pretty(&report)?)?;
            }
            if let Some(path) = svg {
                std::fs::write(path, report::svg(&report))?;
            }
            Ok(if report.broken.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
        }
        Command::Run(load) => load.run().await,
        Command::Floor { seconds } => {
            let floor = floor::run(Duration::from_secs_f64(seconds.clamp(0.1, 3600.0))).await?;
            print!("{}", report::floor_text(&floor));
            Ok(ExitCode::SUCCESS)
        }
    }
}

impl Load {
    async fn run(self) -> Outcome<ExitCode> {
        let subject =
            Subject { protocol: self.target, endpoints: self.endpoints.clone(), pids: self.pids.clone() };
        let mut report = Report { value_bytes: self.value_bytes, seconds: self.seconds, ..Report::default() };
        for workload in &self.workloads {
            let (connections, in_flight) = workload.shape();
            let shape = Shape {
                connections: self.connections.unwrap_or(connections).max(1),
                in_flight: self.in_flight.unwrap_or(in_flight).max(1),
                value_bytes: self.value_bytes,
                duration: Duration::from_secs_f64(self.seconds.clamp(0.1, 3600.0)),
                nodes: 0,
                kills: 0,
            };
            let rows = workloads::run_steady(*workload, &subject, &shape).await?;
            report.runs.extend(rows.into_iter().map(|figures| Run {
                round: 1,
                target: self.target.name(),
                load_average: None,
                figures,
            }));
        }
        print!("{}", report::text(&report));
        Ok(ExitCode::SUCCESS)
    }
}
