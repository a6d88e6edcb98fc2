//! The comparison: the same workloads against all targets, in turn within each round.
//!
//! Steady workloads run on clusters that stay up over all rounds, so that a JVM is as warm as in
//! production; before the first round each target gets an untimed run. Hard ones get a cluster of
//! their own, alone on the machine. A run that fails is reported and the comparison goes on.

use std::collections::BTreeMap;
use std::time::Duration;

use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};

use crate::cluster::{Cluster, Programs, processes};
use crate::failure::Outcome;
use crate::floor;
use crate::report::{Broken, Report, Run, TargetNote};
use crate::targets::Protocol;
use crate::workloads::{self, Figures, Shape, Subject, Workload};

/// What to compare.
#[derive(Args, Clone, Debug)]
pub struct Comparison {
    /// How often every steady workload is run against every target.
    #[arg(long, default_value_t = 5)]
    pub rounds: usize,
    /// The same for those that kill members or fill the tree.
    #[arg(long, default_value_t = 1)]
    pub hard_rounds: usize,
    /// How long a steady workload runs, in seconds; a tenth of it is warm-up.
    #[arg(long, default_value_t = 5.0)]
    pub seconds: f64,
    /// What to run; all of it if not said.
    #[arg(long, value_enum, value_delimiter = ',')]
    pub workloads: Vec<Workload>,
    /// Against whom.
    #[arg(long, value_enum, value_delimiter = ',', default_value = "quorate,zookeeper,etcd")]
    pub targets: Vec<Protocol>,
    /// Bytes of a value.
    #[arg(long, default_value_t = 100)]
    pub value_bytes: usize,
    /// Nodes of the grown tree.
    #[arg(long, default_value_t = 1_000_000)]
    pub nodes: u64,
    /// How often failover and restart kill a member, in one round.
    #[arg(long, default_value_t = 5)]
    pub kills: usize,
    /// Watchers of the fan-out.
    #[arg(long, default_value_t = 1000)]
    pub watchers: usize,
    /// Leave out the floor: echo and fsync.
    #[arg(long)]
    pub no_floor: bool,
}

impl Comparison {
    fn shape(&self, workload: Workload) -> Shape {
        let (connections, in_flight) = workload.shape();
        Shape {
            connections: if workload == Workload::FanOut { self.watchers.max(1) } else { connections },
            in_flight,
            value_bytes: self.value_bytes,
            duration: self.duration(),
            nodes: self.nodes.max(1),
            kills: self.kills.max(1),
        }
    }

    fn duration(&self) -> Duration {
        Duration::from_secs_f64(self.seconds.clamp(0.1, 3600.0))
    }

    fn workloads(&self) -> (Vec<Workload>, Vec<Workload>) {
        let all = if self.workloads.is_empty() {
            <Workload as clap::ValueEnum>::value_variants().to_vec()
        } else {
            self.workloads.clone()
        };
        let (steady, mut hard): (Vec<Workload>, Vec<Workload>) =
            all.into_iter().partition(|workload| !workload.is_hard());
        // They share a cluster: what must find it empty comes before what only needs a tree.
        hard.sort();
        (steady, hard)
    }

    /// Runs everything.
    ///
    /// # Errors
    /// A program is missing or a cluster does not start; a workload's failure is in the report.
    pub async fn run(&self, command: String) -> Outcome<Report> {
        let programs = Programs::find()?;
        let (steady, hard) = self.workloads();
        let steps = (steady.len() * self.rounds + hard.len() * self.hard_rounds) * self.targets.len();
        let mut course = Course {
            bar: progress_bar(steps as u64),
            report: Report {
                command,
                machine: processes::machine(),
                load_average_before: processes::load_average(),
                value_bytes: self.value_bytes,
                seconds: self.seconds,
                ..Report::default()
            },
        };
        for target in &self.targets {
            let (version, settings) = Cluster::description(*target, &programs);
            course.report.targets.push(TargetNote { target: target.name(), version, settings });
        }
        if !self.no_floor {
            course.bar.set_message("floor");
            course.report.floor = floor::run(self.duration()).await?;
        }
        if !steady.is_empty() {
            self.run_steady(&mut course, &programs, &steady).await?;
        }
        for round in 1..=self.hard_rounds {
            for target in self.turn(round) {
                self.run_hard(&mut course, &programs, &hard, round, target).await;
            }
        }
        course.bar.finish_and_clear();
        Ok(course.report)
    }

    /// The targets, another one first in each round.
    fn turn(&self, round: usize) -> Vec<Protocol> {
        let mut targets = self.targets.clone();
        let count = targets.len().max(1);
        targets.rotate_left((round - 1) % count);
        targets
    }

    async fn run_steady(
        &self,
        course: &mut Course,
        programs: &Programs,
        workloads: &[Workload],
    ) -> Outcome<()> {
        let mut clusters = BTreeMap::new();
        for target in &self.targets {
            course.bar.set_message(format!("starting {}", target.name()));
            let cluster = Cluster::start(*target, programs).await?;
            let subject = Subject { protocol: *target, endpoints: cluster.endpoints(), pids: cluster.pids() };
            for warm_up in [Workload::Set, Workload::Get] {
                workloads::run_steady(warm_up, &subject, &self.shape(warm_up)).await?;
            }
            clusters.insert(*target, (cluster, subject));
        }
        for round in 1..=self.rounds {
            for workload in workloads {
                for target in self.turn(round) {
                    course.bar.set_message(format!("round {round}: {workload:?} on {}", target.name()));
                    if workload.suits(target) {
                        let (_, subject) = &clusters[&target];
                        let outcome = workloads::run_steady(*workload, subject, &self.shape(*workload)).await;
                        course.note(round, target, *workload, outcome);
                    }
                    course.bar.inc(1);
                }
            }
        }
        Ok(())
    }

    async fn run_hard(
        &self,
        course: &mut Course,
        programs: &Programs,
        workloads: &[Workload],
        round: usize,
        target: Protocol,
    ) {
        if workloads.is_empty() {
            return;
        }
        let mut cluster = match Cluster::start(target, programs).await {
            Ok(cluster) => cluster,
            Err(error) => return course.note(round, target, workloads[0], Err(error)),
        };
        for workload in workloads {
            course.bar.set_message(format!("round {round}: {workload:?} on {}", target.name()));
            let outcome = workloads::run_hard(*workload, &mut cluster, &self.shape(*workload)).await;
            course.note(round, target, *workload, outcome);
            course.bar.inc(1);
        }
    }
}

/// A comparison under way.
struct Course {
    bar: ProgressBar,
    report: Report,
}

impl Course {
    fn note(&mut self, round: usize, target: Protocol, workload: Workload, outcome: Outcome<Vec<Figures>>) {
        let (target, load_average) = (target.name(), processes::load_average());
        match outcome {
            Ok(rows) => {
                let runs = rows.into_iter().map(|figures| Run { round, target, load_average, figures });
                self.report.runs.extend(runs);
            }
            Err(error) => {
                let (workload, reason) = (format!("{workload:?}"), error.to_string());
                self.bar.suspend(|| eprintln!("{target} {workload} round {round}: {reason}"));
                self.report.broken.push(Broken { round, target, workload, reason });
            }
        }
    }
}

/// Shown on a terminal only.
fn progress_bar(steps: u64) -> ProgressBar {
    let bar = ProgressBar::new(steps);
    let style = ProgressStyle::with_template("{elapsed_precise} [{bar:30}] {pos}/{len} {wide_msg}");
    bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
    bar.enable_steady_tick(Duration::from_millis(500));
    bar
}
