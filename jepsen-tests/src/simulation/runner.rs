//! Many seeds: each in a process of its own, because libraries keep state between runs.
//!
//! A child prints its outcome as one line of JSON. One that says nothing (a panic, a hang) has failed.

use std::io::Read;
use std::ops::Range;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};

use super::one::Outcome;

/// How long a seed may take on the machine's clock.
const HANGS_AFTER: Duration = Duration::from_secs(180);
/// Pause between looks at a child.
const LOOK: Duration = Duration::from_millis(2);

/// What to run.
#[derive(Clone, Debug)]
pub struct Batch {
    /// The program that simulates one seed: this one.
    pub program: PathBuf,
    /// Which seeds.
    pub seeds: Vec<u64>,
    /// Processes at once.
    pub jobs: usize,
    /// Simulated time with faults, per seed.
    pub time: Duration,
    /// Run each seed in two processes and compare their traces.
    pub twice: bool,
    /// Stop at the first failing seed.
    pub fail_fast: bool,
    /// With a program that was built broken: the bug to choose.
    pub bug: Option<&'static str>,
}

/// A seed that failed.
#[derive(Clone, Debug)]
pub struct Failure {
    /// Which.
    pub seed: u64,
    /// What was wrong.
    pub violations: Vec<String>,
    /// Whether an invariant or a checker found it, and the process did not just end.
    pub is_judged: bool,
    /// The trace's last lines.
    pub last: Vec<String>,
}

/// What all seeds together gave.
#[derive(Clone, Debug, Default)]
pub struct Summary {
    /// Outcomes, in seed order.
    pub outcomes: Vec<Outcome>,
    /// Failures, in seed order.
    pub failures: Vec<Failure>,
    /// Wall time.
    pub wall: Duration,
}

/// Parses `0..1000`, `7` or `1,2,3`.
///
/// # Errors
/// Says what would do.
pub fn parse_seeds(text: &str) -> Result<Vec<u64>, String> {
    let bad = || format!("{text:?}: name seeds as 0..1000, 7, or 1,2,3");
    if let Some((from, to)) = text.split_once("..") {
        let range: Range<u64> = from.parse().map_err(|_| bad())?..to.parse().map_err(|_| bad())?;
        return if range.is_empty() { Err(bad()) } else { Ok(range.collect()) };
    }
    text.split(',').map(|seed| seed.trim().parse().map_err(|_| bad())).collect()
}

/// Runs a batch, with a progress bar on a terminal.
pub fn run(batch: &Batch) -> Summary {
    let started = Instant::now();
    let bar = ProgressBar::new(batch.seeds.len() as u64);
    let style =
        ProgressStyle::with_template("{bar:30} {pos}/{len} seeds  {elapsed} of about {duration}  {msg}");
    bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
    let summary = Mutex::new(Summary::default());
    let next = AtomicU64::new(0);
    std::thread::scope(|scope| {
        for _ in 0..batch.jobs.max(1) {
            scope.spawn(|| {
                loop {
                    let index = next.fetch_add(1, Ordering::Relaxed) as usize;
                    let Some(seed) = batch.seeds.get(index) else { return };
                    let judged = judge(batch, *seed);
                    let mut summary = summary.lock().unwrap_or_else(PoisonError::into_inner);
                    match judged {
                        Ok(outcome) => summary.outcomes.push(outcome),
                        Err(failure) => {
                            bar.suspend(|| {
                                println!("seed {} FAILED: {}", failure.seed, failure.violations[0])
                            });
                            summary.failures.push(failure);
                            if batch.fail_fast {
                                next.store(batch.seeds.len() as u64, Ordering::Relaxed);
                            }
                        }
                    }
                    let failed = summary.failures.len();
                    let hours = summary.simulated().as_secs_f64() / 3600.0;
                    bar.set_message(format!("{hours:.1} simulated hours, {failed} failed"));
                    bar.inc(1);
                }
            });
        }
    });
    bar.finish_and_clear();
    let mut summary = summary.into_inner().unwrap_or_else(PoisonError::into_inner);
    summary.outcomes.sort_by_key(|outcome| outcome.seed);
    summary.failures.sort_by_key(|failure| failure.seed);
    summary.wall = started.elapsed();
    summary
}

impl Summary {
    /// Simulated time of all seeds that passed.
    pub fn simulated(&self) -> Duration {
        Duration::from_millis(self.outcomes.iter().map(|outcome| outcome.simulated_ms).sum())
    }
}

/// Runs one seed, twice if so wanted.
fn judge(batch: &Batch, seed: u64) -> Result<Outcome, Failure> {
    let failed = |violations, last| Failure { seed, violations, is_judged: true, last };
    let ended = |why| Failure { seed, violations: vec![why], is_judged: false, last: Vec::new() };
    let outcome = child(batch, seed).map_err(ended)?;
    if !outcome.violations.is_empty() {
        return Err(failed(outcome.violations, outcome.last));
    }
    if batch.twice {
        let again = child(batch, seed).map_err(ended)?;
        if again.hash != outcome.hash {
            let what = format!(
                "determinism: the trace's hash is {} ({} events) and then {} ({} events)",
                outcome.hash, outcome.events, again.hash, again.events
            );
            return Err(failed(vec![what], Vec::new()));
        }
    }
    Ok(outcome)
}

/// Simulates one seed in a process of its own.
fn child(batch: &Batch, seed: u64) -> Result<Outcome, String> {
    let mut command = Command::new(&batch.program);
    command.args(["simulate", "--json", "--seed", &seed.to_string()]);
    command.args(["--time", &format!("{}ms", batch.time.as_millis())]);
    if let Some(bug) = batch.bug {
        command.env("QUORATE_BREAK", bug);
    }
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut running = command.spawn().map_err(|error| format!("{}: {error}", batch.program.display()))?;
    let output = drain(running.stdout.take());
    let complaints = drain(running.stderr.take());
    let started = Instant::now();
    let status = loop {
        match running.try_wait() {
            Ok(Some(status)) => break Some(status),
            Ok(None) if started.elapsed() > HANGS_AFTER => {
                let _ = running.kill();
                let _ = running.wait();
                break None;
            }
            Ok(None) => std::thread::sleep(LOOK),
            Err(error) => return Err(error.to_string()),
        }
    };
    let output = output.join().unwrap_or_default();
    let complaints = complaints.join().unwrap_or_default();
    if let Ok(outcome) = serde_json::from_str::<Outcome>(output.trim()) {
        return Ok(outcome);
    }
    let last = complaints.lines().take(3).collect::<Vec<_>>().join(" | ");
    match status {
        None => Err(format!("hang: no outcome within {} s", HANGS_AFTER.as_secs())),
        Some(status) => Err(format!("panic: the process ended with {status}: {last}")),
    }
}

fn drain(pipe: Option<impl Read + Send + 'static>) -> std::thread::JoinHandle<String> {
    std::thread::spawn(move || {
        let mut text = String::new();
        if let Some(mut pipe) = pipe {
            // What was read before an error is still worth showing.
            let _ = pipe.read_to_string(&mut text);
        }
        text
    })
}

/// What a person wants to know of a batch.
pub fn show(batch: &Batch, summary: &Summary) {
    let simulated = summary.simulated().as_secs_f64();
    let sum = |of: fn(&Outcome) -> u64| summary.outcomes.iter().map(of).sum::<u64>();
    println!(
        "{} seeds passed, {} failed; {:.2} simulated hours in {:.0} s: {:.0} simulated seconds a second",
        summary.outcomes.len(),
        summary.failures.len(),
        simulated / 3600.0,
        summary.wall.as_secs_f64(),
        simulated / summary.wall.as_secs_f64().max(0.001),
    );
    println!(
        "{} operations of clients, {} log entries applied, {} disk operations",
        sum(|outcome| outcome.operations),
        sum(|outcome| outcome.applies),
        sum(|outcome| outcome.disk_operations),
    );
    let mut faults = super::chaos::Faults::default();
    let mut judged = std::collections::BTreeMap::<&str, u64>::new();
    for outcome in &summary.outcomes {
        for (kind, count) in &outcome.faults.0 {
            *faults.0.entry(kind.clone()).or_default() += count;
        }
        for checker in &outcome.judged {
            *judged.entry(checker).or_default() += 1;
        }
    }
    println!("faults: {faults}");
    let judged: Vec<String> = judged.iter().map(|(checker, seeds)| format!("{checker} {seeds}")).collect();
    println!("checkers that had something to judge, in so many seeds: {}", judged.join(", "));
    if batch.twice {
        println!("each seed that passed gave the same trace in two processes");
    }
    for failure in &summary.failures {
        println!("\nseed {}:", failure.seed);
        failure.violations.iter().take(5).for_each(|violation| println!("  {violation}"));
        println!("  repeat it: {}", repeat(batch, failure.seed));
    }
}

/// The command that repeats a seed.
pub fn repeat(batch: &Batch, seed: u64) -> String {
    format!(
        "cargo run -p jepsen-tests --release -- simulate --seed {seed} --time {}ms",
        batch.time.as_millis()
    )
}

#[cfg(test)]
mod tests {
    use super::parse_seeds;

    #[test]
    fn seeds_are_named_as_ranges_lists_or_one() {
        assert_eq!(parse_seeds("2..5"), Ok(vec![2, 3, 4]));
        assert_eq!(parse_seeds("7"), Ok(vec![7]));
        assert_eq!(parse_seeds("1, 9"), Ok(vec![1, 9]));
        for bad in ["", "5..5", "a..b", "1..", "-1"] {
            assert!(parse_seeds(bad).is_err(), "{bad}");
        }
    }
}
