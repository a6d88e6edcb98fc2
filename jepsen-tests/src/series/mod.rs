//! Many runs, one after the other, each in a process of its own: the matrix, and soaks.
//!
//! - [`matrix`]: every workload under every nemesis, resumable, as a table in the README;
//! - [`soak`]: workloads and faults drawn from seeds, for hours;
//! - [`server_code`]: which code a result is about.

pub mod matrix;
pub mod server_code;
pub mod soak;

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::run::{self, Outcome, Plan};

/// Runs a plan in a process of its own. A run that came to no verdict says why.
///
/// # Errors
/// The process could not be started, or reached no verdict: its last words.
pub fn run_apart(plan: &Plan, folder: &Path) -> Result<Outcome, String> {
    let program = std::env::current_exe().map_err(|error| error.to_string())?;
    let output = Command::new(program)
        .args(plan.arguments())
        .arg("--folder")
        .arg(folder)
        .stdin(Stdio::null())
        .output()
        .map_err(|error| error.to_string())?;
    if output.status.code() == Some(0) || output.status.code() == Some(1) {
        return run::load(folder).map_err(|error| error.to_string());
    }
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    let first: Vec<&str> = said.lines().take(6).collect();
    Err(format!("{}: {}", output.status, first.join(" | ")))
}

/// Where a series keeps its runs.
fn runs_folder(given: Option<PathBuf>, name: &str) -> PathBuf {
    given.unwrap_or_else(|| std::env::temp_dir().join("quorate-jepsen-runs").join(name))
}

/// A verdict in a line: the anomalies if there are any.
fn verdict(outcome: &Outcome) -> String {
    if outcome.is_valid() {
        return "valid".into();
    }
    let bad = outcome.findings.iter().filter(|finding| !finding.verdict.is_valid());
    let names: Vec<&str> = bad.map(|finding| finding.checker.as_str()).collect();
    match names.is_empty() {
        true => "panic".into(),
        false => names.join(", "),
    }
}
