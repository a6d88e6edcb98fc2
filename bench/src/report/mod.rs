//! Reports: what a comparison found, as a table, JSON and a plot, against what is aimed at.
//!
//! - [`Report`]: everything that was measured, and the medians and ratios drawn from it;
//! - table, plot: for people; [`Report`]'s serialization: for programs; aims: what is wanted.

mod aims;
mod plot;
mod table;

use std::collections::BTreeMap;

use serde::Serialize;

use crate::targets::Protocol;
use crate::workloads::Figures;

pub use plot::svg;
pub use table::{aims_text, floor_text, text};

/// How one target was set up.
#[derive(Clone, Debug, Serialize)]
pub struct TargetNote {
    /// Its name.
    pub target: &'static str,
    /// Its version.
    pub version: String,
    /// Its settings, where they are not its own defaults.
    pub settings: String,
}

/// One run of one workload against one target.
#[derive(Clone, Debug, Serialize)]
pub struct Run {
    /// From 1.
    pub round: usize,
    /// Against whom.
    pub target: &'static str,
    /// How many tasks of the machine wanted to run: what else was going on.
    pub load_average: Option<f64>,
    /// What was measured.
    pub figures: Figures,
}

/// A run that failed.
#[derive(Clone, Debug, Serialize)]
pub struct Broken {
    /// From 1.
    pub round: usize,
    /// Against whom.
    pub target: &'static str,
    /// What.
    pub workload: String,
    /// Why.
    pub reason: String,
}

/// Everything of one comparison.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Report {
    /// The command line.
    pub command: String,
    /// Processors and kernel.
    pub machine: String,
    /// The load average when it began: a machine at rest shows less than 0.2.
    pub load_average_before: Option<f64>,
    /// Who was measured.
    pub targets: Vec<TargetNote>,
    /// Bytes of a value.
    pub value_bytes: usize,
    /// Seconds of a steady workload.
    pub seconds: f64,
    /// What the machine and gRPC give.
    pub floor: Vec<Figures>,
    /// Every run, in order.
    pub runs: Vec<Run>,
    /// What failed.
    pub broken: Vec<Broken>,
}

/// Picks a figure.
pub type Pick = fn(&Figures) -> Option<f64>;

impl Report {
    /// The labels of what was measured, in the order of their first runs.
    pub fn labels(&self) -> Vec<&str> {
        let mut labels: Vec<&str> = Vec::new();
        for run in &self.runs {
            if !labels.contains(&run.figures.label.as_str()) {
                labels.push(&run.figures.label);
            }
        }
        labels
    }

    /// The median over the rounds.
    pub fn median(&self, label: &str, target: Protocol, pick: Pick) -> Option<f64> {
        median(self.by_round(label, target, pick).into_values().collect())
    }

    /// The median over the rounds of one target's figure divided by another's in the same round.
    pub fn ratio(
        &self,
        (label, target, pick): (&str, Protocol, Pick),
        (other_label, other, other_pick): (&str, Protocol, Pick),
    ) -> Option<f64> {
        let ours = self.by_round(label, target, pick);
        let theirs = self.by_round(other_label, other, other_pick);
        let ratios = ours.iter().filter_map(|(round, our)| {
            theirs.get(round).filter(|their| **their > 0.0).map(|their| our / their)
        });
        median(ratios.collect())
    }

    fn by_round(&self, label: &str, target: Protocol, pick: Pick) -> BTreeMap<usize, f64> {
        let runs = self.runs.iter().filter(|run| run.target == target.name() && run.figures.label == label);
        runs.filter_map(|run| pick(&run.figures).map(|figure| (run.round, figure))).collect()
    }
}

fn median(mut figures: Vec<f64>) -> Option<f64> {
    figures.sort_by(f64::total_cmp);
    let middle = figures.len() / 2;
    match figures.len() {
        0 => None,
        odd if odd % 2 == 1 => Some(figures[middle]),
        _ => Some(f64::midpoint(figures[middle - 1], figures[middle])),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(figures: &[(usize, Protocol, f64)]) -> Report {
        let runs = figures.iter().map(|(round, target, throughput)| Run {
            round: *round,
            target: target.name(),
            load_average: None,
            figures: Figures { throughput: Some(*throughput), ..Figures::named("set") },
        });
        Report { runs: runs.collect(), ..Report::default() }
    }

    #[test]
    fn a_ratio_is_taken_within_rounds() {
        use Protocol::{Quorate, Zookeeper};
        // The third round was slow for both; the ratio of medians would be 3.
        let report = report(&[
            (1, Quorate, 40.0),
            (1, Zookeeper, 10.0),
            (2, Quorate, 30.0),
            (2, Zookeeper, 10.0),
            (3, Quorate, 4.0),
            (3, Zookeeper, 1.0),
        ]);
        let throughput: Pick = |figures| figures.throughput;
        assert_eq!(report.ratio(("set", Quorate, throughput), ("set", Zookeeper, throughput)), Some(4.0));
        assert_eq!(report.median("set", Quorate, throughput), Some(30.0));
    }

    #[test]
    fn a_round_that_failed_for_one_gives_no_ratio() {
        use Protocol::{Etcd, Quorate};
        let report = report(&[(1, Quorate, 40.0), (2, Etcd, 10.0)]);
        let throughput: Pick = |figures| figures.throughput;
        assert_eq!(report.ratio(("set", Quorate, throughput), ("set", Etcd, throughput)), None);
    }

    #[test]
    fn the_median_of_an_even_number_lies_between_the_middle_two() {
        assert_eq!(median(vec![4.0, 1.0, 3.0, 2.0]), Some(2.5));
        assert_eq!(median(vec![]), None);
    }
}
