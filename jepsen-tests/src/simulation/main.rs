//! The `simulate` command: one seed here, or many in processes of their own.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::Path;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use super::one;
use super::runner::{self, Batch};

/// Simulates one seed in this process.
pub fn one(seed: u64, time: Duration, trace: Option<&Path>, json: bool, log: bool) -> ExitCode {
    if log {
        quorate_server::logging::install(false, "info,openraft=info");
    }
    let file = match trace.map(File::create).transpose() {
        Ok(file) => file.map(|file| Box::new(BufWriter::new(file)) as Box<dyn Write + Send>),
        Err(error) => {
            eprintln!("jepsen-tests: the trace's file: {error}");
            return ExitCode::from(2);
        }
    };
    // A panic in a task would go unnoticed: it is the end of the seed.
    let show = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        show(panic);
        std::process::exit(70);
    }));
    let started = Instant::now();
    let outcome = one::run(seed, time, file);
    if json {
        match serde_json::to_string(&outcome) {
            Ok(line) => println!("{line}"),
            Err(error) => eprintln!("jepsen-tests: {error}"),
        }
    } else {
        outcome.last.iter().for_each(|line| println!("{line}"));
        println!(
            "seed {seed}: trace {} ({} events), {:.1} simulated seconds in {:.2} s; {} operations, {} entries applied",
            outcome.hash,
            outcome.events,
            outcome.simulated_ms as f64 / 1000.0,
            started.elapsed().as_secs_f64(),
            outcome.operations,
            outcome.applies,
        );
        println!("faults: {}", outcome.faults);
        println!("judged by {}", outcome.judged.join(", "));
        outcome.violations.iter().for_each(|violation| println!("VIOLATED {violation}"));
    }
    if outcome.violations.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Simulates many.
pub fn many(seeds: &[u64], jobs: usize, time: Duration, twice: bool, fail_fast: bool) -> ExitCode {
    let program = match std::env::current_exe() {
        Ok(program) => program,
        Err(error) => {
            eprintln!("jepsen-tests: this program cannot be found: {error}");
            return ExitCode::from(2);
        }
    };
    let batch = Batch { program, seeds: seeds.to_vec(), jobs, time, twice, fail_fast, bug: None };
    let summary = runner::run(&batch);
    runner::show(&batch, &summary);
    if summary.failures.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
