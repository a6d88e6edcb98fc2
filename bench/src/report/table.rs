//! Tables for terminals and for Markdown's code blocks.

use std::fmt::Write;

use crate::targets::Protocol;
use crate::workloads::Figures;

use super::aims::{self, Direction};
use super::{Pick, Report};

const TARGETS: [Protocol; 4] =
    [Protocol::Quorate, Protocol::QuorateZookeeper, Protocol::Zookeeper, Protocol::Etcd];
/// Who is divided by whom.
const RATIOS: [(Protocol, Protocol, &str); 3] = [
    (Protocol::Quorate, Protocol::Zookeeper, "÷ zk"),
    (Protocol::Quorate, Protocol::Etcd, "÷ etcd"),
    (Protocol::QuorateZookeeper, Protocol::Zookeeper, "door ÷ zk"),
];

const COLUMNS: [(&str, Pick); 7] = [
    ("ops/s", |figures| figures.throughput),
    ("p50 µs", |figures| figures.p50),
    ("p99 µs", |figures| figures.p99),
    ("p99.9 µs", |figures| figures.p999),
    ("server µs/op", |figures| figures.server_cpu),
    ("client µs/op", |figures| figures.client_cpu),
    ("MiB", |figures| figures.resident),
];

/// The settings, the medians of all rounds, and Quorate's ratios to its peers.
pub fn text(report: &Report) -> String {
    let mut out = String::new();
    let load = report.load_average_before.map_or("unknown".into(), |load| format!("{load:.2}"));
    line(&mut out, format_args!("{}", report.command));
    line(&mut out, format_args!("{}; load average before: {load}", report.machine));
    for target in &report.targets {
        line(&mut out, format_args!("{}: {}; {}", target.target, target.version, target.settings));
    }
    let rounds = report.runs.iter().map(|run| run.round).max().unwrap_or(0);
    line(
        &mut out,
        format_args!(
            "values of {} bytes, {} s a steady workload, medians of {rounds} rounds (hard ones may have fewer)\n",
            report.value_bytes, report.seconds
        ),
    );
    header(&mut out);
    for label in report.labels() {
        for target in TARGETS {
            let row = COLUMNS.map(|(_, pick)| report.median(label, target, pick));
            if row.iter().all(Option::is_none) {
                continue;
            }
            let _ = write!(out, "{label:<24} {:<17}", target.name());
            cells(&mut out, row);
        }
        for (ours, peer, name) in RATIOS {
            let row = COLUMNS.map(|(_, pick)| report.ratio((label, ours, pick), (label, peer, pick)));
            if row.iter().all(Option::is_none) {
                continue;
            }
            let _ = write!(out, "{:<24} {name:<17}", "");
            let row = row.map(|ratio| ratio.map_or("–".into(), |ratio| format!("{}×", figure(ratio))));
            for (cell, width) in row.iter().zip(WIDTHS) {
                let _ = write!(out, " {cell:>width$}");
            }
            out.push('\n');
        }
    }
    for broken in &report.broken {
        line(
            &mut out,
            format_args!(
                "FAILED {} {} round {}: {}",
                broken.target, broken.workload, broken.round, broken.reason
            ),
        );
    }
    out
}

/// The floor's table.
pub fn floor_text(floor: &[Figures]) -> String {
    let mut out = String::new();
    header(&mut out);
    for figures in floor {
        let _ = write!(out, "{:<24} {:<17}", figures.label, "floor");
        cells(&mut out, COLUMNS.map(|(_, pick)| pick(figures)));
    }
    out
}

/// What is aimed at, and whether it was reached.
pub fn aims_text(report: &Report) -> String {
    let mut out = String::new();
    let memory =
        report.labels().into_iter().find(|label| label.starts_with("memory, ") && label.ends_with("nodes"));
    for aim in aims::all(memory.unwrap_or("memory")) {
        let Some(ratio) = aim.ratio(report) else { continue };
        let word = match aim.direction {
            Direction::AtLeast => "≥",
            Direction::AtMost => "≤",
        };
        let (least, most) = aim.wanted;
        let verdict = if aim.is_met(ratio, most) {
            "aim reached"
        } else if aim.is_met(ratio, least) {
            "reached"
        } else {
            "MISSED"
        };
        let against = if aim.theirs.1 == Protocol::Quorate { "itself" } else { aim.theirs.1.name() };
        let wanted = format!("{word} {least}× ({most}×)");
        line(
            &mut out,
            format_args!("{:<44} {against:<10} {:>8}× {wanted:>16}  {verdict}", aim.what, figure(ratio)),
        );
    }
    out
}

const WIDTHS: [usize; 7] = [10, 9, 9, 9, 12, 12, 8];

fn header(out: &mut String) {
    let _ = write!(out, "{:<24} {:<17}", "workload", "target");
    for ((name, _), width) in COLUMNS.iter().zip(WIDTHS) {
        let _ = write!(out, " {name:>width$}");
    }
    out.push('\n');
}

fn cells(out: &mut String, row: [Option<f64>; 7]) {
    for (cell, width) in row.into_iter().zip(WIDTHS) {
        let cell = cell.map_or("–".into(), figure);
        let _ = write!(out, " {cell:>width$}");
    }
    out.push('\n');
}

/// Three significant digits or all before the point.
fn figure(value: f64) -> String {
    match value.abs() {
        large if large >= 100.0 => format!("{value:.0}"),
        middle if middle >= 10.0 => format!("{value:.1}"),
        _ => format!("{value:.2}"),
    }
}

fn line(out: &mut String, text: std::fmt::Arguments<'_>) {
    // Writing to a string does not fail.
    let _ = writeln!(out, "{text}");
}
