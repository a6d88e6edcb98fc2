//! Many runs, one after the other, each in a process of its own: the matrix, and soaks.
//!
//! - [`matrix`]: every workload under every nemesis, resumable, as a table in the README;
//! - [`soak`]: workloads and faults drawn from seeds, for hours;
//! - [`server_code`]: which code a result is about, and the programs made of it.

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

/// A run's verdict in a line: "valid", who says otherwise, or why there is none.
fn verdict(plan: &Plan, outcome: &Result<Outcome, String>) -> String {
    let outcome = match outcome {
        Ok(outcome) => outcome,
        Err(reason) => return format!("no verdict: {reason}"),
    };
    if !outcome.is_valid() {
        let bad = outcome.findings.iter().filter(|finding| !finding.verdict.is_valid());
        let mut names: Vec<&str> = bad.map(|finding| finding.checker.as_str()).collect();
        // Panics, and ends that nobody asked for.
        names.extend(outcome.panics.first().map(String::as_str));
        return names.join(", ");
    }
    // A run under faults without any shows nothing about them.
    match outcome.faults == 0 && plan.nemesis.iter().any(|name| name != "none") {
        true => "no fault was inflicted".into(),
        false => "valid".into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::workloads::Door;

    fn said(nemesis: &[&str], faults: u64, panics: &[&str]) -> String {
        let plan = Plan {
            workload: "set".into(),
            nemesis: nemesis.iter().map(|name| (*name).to_owned()).collect(),
            members: 3,
            time_ms: 1_000,
            seed: 1,
            workers: 1,
            rate: 1,
            door: Door::Grpc,
        };
        let panics = panics.iter().map(|line| (*line).to_owned()).collect();
        let wires = String::new();
        verdict(
            &plan,
            &Ok(Outcome { plan: plan.clone(), wires, findings: vec![], panics, operations: 1, faults }),
        )
    }

    #[test]
    fn a_run_under_faults_that_had_none_is_not_valid() {
        assert_eq!(said(&["kill-one"], 1, &[]), "valid");
        assert_eq!(said(&["none"], 0, &[]), "valid");
        assert_eq!(said(&["kill-one"], 0, &[]), "no fault was inflicted");
        assert_eq!(said(&["kill-one", "pause"], 0, &[]), "no fault was inflicted");
    }

    #[test]
    fn a_member_that_ended_by_itself_makes_a_run_invalid() {
        let ended = "member 2 ended by itself: exit status: 1";
        assert_eq!(said(&["kill-one"], 3, &[ended]), ended);
    }
}
