//! `quorate-bench`: a load generator anyone can run against a cluster of theirs.
//!
//! A first slice: the workloads set, create, get and mixed against Quorate through its SDK, with
//! latencies and the server's CPU time per operation. It measures; it never asserts a time.

mod load;
mod processes;

use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;

use crate::load::{Load, Workload};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Measures a Quorate cluster.
#[derive(Parser)]
#[command(version, about)]
struct Arguments {
    /// What to do.
    #[arg(value_enum)]
    workloads: Vec<Workload>,
    /// Where members listen; connection i goes to member i mod n first.
    #[arg(long, value_delimiter = ',', default_value = "127.0.0.1:7400,127.0.0.1:7410,127.0.0.1:7420")]
    endpoints: Vec<String>,
    /// Sessions, each on a connection of its own.
    #[arg(long, default_value_t = 8)]
    connections: usize,
    /// Operations that each session keeps in flight.
    #[arg(long, default_value_t = 32)]
    in_flight: usize,
    /// Bytes of a value.
    #[arg(long, default_value_t = 100)]
    value_bytes: usize,
    /// How long each workload runs, in seconds; a tenth of it is warm-up.
    #[arg(long, default_value_t = 5.0)]
    seconds: f64,
    /// For `load`: how many nodes to create.
    #[arg(long, default_value_t = 1_000_000)]
    nodes: u64,
    /// Process ids of the servers, for CPU time and memory.
    #[arg(long, value_delimiter = ',')]
    pids: Vec<u32>,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("quorate-bench: runtime: {error}");
            return ExitCode::FAILURE;
        }
    };
    println!(
        "{:<14} {:>10} {:>9} {:>9} {:>9} {:>12} {:>10}",
        "workload", "ops/s", "p50 µs", "p99 µs", "p99.9 µs", "server µs/op", "MiB/member"
    );
    for workload in &arguments.workloads {
        let load = Load {
            endpoints: arguments.endpoints.clone(),
            connections: arguments.connections,
            in_flight: arguments.in_flight,
            value_bytes: arguments.value_bytes,
            duration: Duration::from_secs_f64(arguments.seconds.max(0.1)),
            nodes: arguments.nodes,
        };
        let before = processes::cpu_micros(&arguments.pids);
        match runtime.block_on(load.run(*workload)) {
            Ok(measured) => {
                let cpu = processes::cpu_micros(&arguments.pids).saturating_sub(before);
                let operations = measured.latencies.len().max(1);
                let members = arguments.pids.len().max(1) as u64;
                println!(
                    "{:<14} {:>10.0} {:>9} {:>9} {:>9} {:>12.1} {:>10}",
                    format!("{workload:?}"),
                    measured.latencies.len() as f64 / measured.elapsed.as_secs_f64(),
                    measured.latencies.value_at_quantile(0.5),
                    measured.latencies.value_at_quantile(0.99),
                    measured.latencies.value_at_quantile(0.999),
                    cpu as f64 / (operations + measured.warm_up) as f64,
                    processes::resident_mib(&arguments.pids) / members,
                );
            }
            Err(error) => {
                eprintln!("quorate-bench: {workload:?}: {error}");
                return ExitCode::FAILURE;
            }
        }
    }
    ExitCode::SUCCESS
}
