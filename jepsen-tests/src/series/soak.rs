//! A soak: for hours, workloads and faults drawn from seeds, several faults at a time, three members
//! or five. What fails is kept, with the command that repeats it.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use crate::run::Plan;
use crate::workloads::Door;
use crate::{nemesis, workloads};

/// What to run.
#[derive(clap::Args, Clone, Debug)]
pub struct Arguments {
    /// For how many hours; a fraction is allowed.
    #[arg(long)]
    hours: f64,
    /// How long each run lasts.
    #[arg(long, default_value = "60s", value_parser = crate::parse_duration)]
    time: Duration,
    /// The first seed; the next run has the next one.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Operations a second, all clients of a run together, at most.
    #[arg(long, default_value_t = 300, value_parser = clap::value_parser!(u32).range(1..))]
    rate: u32,
    /// Where runs that failed are kept.
    #[arg(long)]
    folder: Option<PathBuf>,
}

/// Runs until the time is up; whether all was valid.
pub fn run(arguments: &Arguments) -> bool {
    let folder = super::runs_folder(arguments.folder.clone(), "soak");
    let started = Instant::now();
    let (mut runs, mut failed) = (0, 0);
    for seed in arguments.seed.. {
        if started.elapsed().as_secs_f64() > arguments.hours * 3600.0 {
            break;
        }
        let plan = draw(seed, arguments.time, arguments.rate);
        let place = folder.join(format!("{}-{}-{seed}", plan.workload, plan.nemesis.join("+")));
        let verdict = super::verdict(&plan, &super::run_apart(&plan, &place));
        println!(
            "{seed:5} {:13} {} members {:40} {verdict}",
            plan.workload,
            plan.members,
            plan.nemesis.join(",")
        );
        runs += 1;
        if verdict == "valid" {
            if let Err(error) = std::fs::remove_dir_all(&place) {
                eprintln!("{}: {error}", place.display());
            }
        } else {
            failed += 1;
            println!("      {}\n      {}", place.display(), plan.command());
        }
    }
    println!("{runs} runs, {failed} not valid, in {:.1} h", started.elapsed().as_secs_f64() / 3600.0);
    failed == 0
}

/// A seed's run.
fn draw(seed: u64, time: Duration, rate: u32) -> Plan {
    let mut random = fastrand::Rng::with_seed(seed ^ 0x736f_616b);
    let workloads = workloads::all();
    let mut nemeses: Vec<&'static str> = nemesis::all().iter().map(|nemesis| nemesis.name()).collect();
    random.shuffle(&mut nemeses);
    nemeses.truncate(random.usize(1..5));
    // No faults, by chance in every turn, would say nothing about the others.
    if nemeses.len() > 1 {
        nemeses.retain(|name| *name != "none");
    }
    Plan {
        workload: workloads[random.usize(..workloads.len())].name().into(),
        nemesis: nemeses.into_iter().map(str::to_owned).collect(),
        members: if random.u32(..4) == 0 { 5 } else { 3 },
        time_ms: time.as_millis() as u64,
        seed,
        workers: 6,
        rate,
        door: Door::Grpc,
    }
}
