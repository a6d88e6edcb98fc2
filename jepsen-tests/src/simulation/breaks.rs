//! Builds with a bug on purpose, and the seed that catches each: the proof that the simulation sees.
//!
//! The build is made by cargo with this program as the compiler's wrapper, which adds
//! `--cfg quorate_break="any"` to the crates of this workspace only. It goes to a target directory of
//! its own.

use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::time::Duration;

use quorate_core::breaks::BREAKS;

use super::runner::{self, Batch, Failure};

/// Tells this program that it is the compiler's wrapper, and which bug to build in.
const WRAPPED: &str = "QUORATE_BREAK_CFG";

/// If cargo has called this program in the compiler's place: compiles, with the bug built in.
pub fn compile_if_asked() -> Option<ExitCode> {
    let bug = std::env::var(WRAPPED).ok()?;
    let mut arguments = std::env::args_os().skip(1);
    let compiler = arguments.next().filter(|first| Path::new(first).ends_with("rustc"))?;
    let status =
        Command::new(compiler).args(arguments).arg("--cfg").arg(format!("quorate_break={bug:?}")).status();
    Some(match status {
        Ok(status) if status.success() => ExitCode::SUCCESS,
        Ok(_) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("jepsen-tests: the compiler: {error}");
            ExitCode::FAILURE
        }
    })
}

/// Builds the broken program; where it is.
fn build() -> Result<PathBuf, String> {
    let this = std::env::current_exe().map_err(|error| error.to_string())?;
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap_or(Path::new("."));
    let target = match std::env::var_os("CARGO_TARGET_DIR") {
        Some(target) => PathBuf::from(target).join("broken"),
        None => root.join("target/broken"),
    };
    let is_release = !cfg!(debug_assertions);
    let mut cargo = Command::new("cargo");
    cargo.args(["build", "-p", "jepsen-tests", "--bin", "jepsen-tests"]).current_dir(root);
    if is_release {
        cargo.arg("--release");
    }
    cargo
        .env("CARGO_TARGET_DIR", &target)
        .env("RUSTC_WORKSPACE_WRAPPER", this)
        .env("QUORATE_BREAK_RUNNER", "1")
        .env(WRAPPED, "any");
    let status = cargo.status().map_err(|error| format!("cargo: {error}"))?;
    if !status.success() {
        return Err("the broken program does not build".into());
    }
    Ok(target.join(if is_release { "release" } else { "debug" }).join("jepsen-tests"))
}

/// Shows for each bug which seed catches it, and how.
pub fn show(seeds: &[u64], jobs: usize, time: Duration, program: Option<PathBuf>) -> ExitCode {
    let program = match program.map_or_else(build, Ok) {
        Ok(program) => program,
        Err(why) => {
            eprintln!("jepsen-tests: {why}");
            return ExitCode::from(2);
        }
    };
    println!("| break | caught by | seed | seeds tried | time to catch |");
    println!("|---|---|---|---|---|");
    let mut all_caught = true;
    for (_, bug, _) in BREAKS {
        let batch = Batch {
            program: program.clone(),
            seeds: seeds.to_vec(),
            jobs,
            time,
            twice: false,
            fail_fast: true,
            bug: Some(bug),
        };
        let summary = runner::run(&batch);
        let tried = summary.outcomes.len() + summary.failures.len();
        let seconds = summary.wall.as_secs_f64();
        let what =
            |failure: &Failure| failure.violations.first().map_or("", String::as_str).replace('|', "/");
        match summary.failures.first() {
            Some(failure) if failure.is_judged => {
                println!("| {bug} | {} | {} | {tried} | {seconds:.0} s |", what(failure), failure.seed);
            }
            // A process that just ended shows nothing of the bug.
            Some(failure) => {
                all_caught = false;
                println!(
                    "| {bug} | **not judged**: {} | {} | {tried} | {seconds:.0} s |",
                    what(failure),
                    failure.seed
                );
            }
            None => {
                all_caught = false;
                println!("| {bug} | **not caught** | | {tried} | {seconds:.0} s |");
            }
        }
    }
    if all_caught { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
