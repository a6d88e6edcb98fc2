//! `jepsen-tests`: parse, run, show.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use clap::{Parser, Subcommand, ValueEnum};
use jepsen_tests::checkers::{Finding, Verdict, judge};
use jepsen_tests::history::History;
use jepsen_tests::run::{self, Outcome, Plan, RunError};
use jepsen_tests::scenarios::{self, Failure, Measured, many_services};
use jepsen_tests::workloads::Door;
use jepsen_tests::zookeeper::calibrate;
use jepsen_tests::{differential, nemesis, parse_duration, run_local, series, simulation, workloads};

/// Proof under faults: real members, real kills, and checkers that judge what clients saw.
#[derive(Parser)]
#[command(name = "jepsen-tests", version, max_term_width = 100)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Run a workload under faults and judge its history.
    Run {
        /// Which; `list` shows them.
        #[arg(long)]
        workload: String,
        /// Which faults, comma-separated: they take turns. `list` shows them.
        #[arg(long, value_delimiter = ',', default_value = "none")]
        nemesis: Vec<String>,
        /// How many members.
        #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u64).range(1..=9))]
        members: u64,
        /// How long.
        #[arg(long, default_value = "60s", value_parser = parse_duration)]
        time: Duration,
        /// Where all choices come from: the same seed, the same operations and faults. Drawn if
        /// absent, and printed.
        #[arg(long)]
        seed: Option<u64>,
        /// How many clients.
        #[arg(long, default_value_t = 6)]
        workers: u32,
        /// Operations a second, all clients together, at most.
        #[arg(long, default_value_t = 300, value_parser = clap::value_parser!(u32).range(1..))]
        rate: u32,
        /// The door that clients go through: grpc or zookeeper.
        #[arg(long, default_value = "grpc", value_parser = parse_door)]
        door: Door,
        /// Where to keep the history, the report and the members' logs.
        #[arg(long)]
        folder: Option<PathBuf>,
    },
    /// Show the workloads, nemeses and scenarios.
    List,
    /// Judge a history: the file of a run, beside its run.json, or one of your own.
    Check {
        /// history.jsonl.
        history: PathBuf,
        /// Of your own: it is judged by this workload's checkers, without digests and availability.
        #[arg(long)]
        workload: Option<String>,
    },
    /// Judge a run's folder again and write its report.html.
    Report {
        /// The folder.
        folder: PathBuf,
    },
    /// Run every workload under every nemesis, what is missing first, and write the README's table.
    Matrix(series::matrix::Arguments),
    /// Find what is wrong with a real ZooKeeper (stale reads, locks without tokens), or be wrong oneself.
    Calibrate {
        /// How long each of both.
        #[arg(long, default_value = "20s", value_parser = parse_duration)]
        time: Duration,
        /// Where the histories are kept.
        #[arg(long)]
        folder: Option<PathBuf>,
    },
    /// Run workloads under faults drawn from seeds, for hours.
    Soak(series::soak::Arguments),
    /// Simulate clusters under faults, one seed a cluster: real server code on simulated time.
    Simulate {
        /// Which seeds: 0..1000, 7, or 1,2,3.
        #[arg(long, value_parser = parse_seed_list, default_value = "0..100", conflicts_with = "seed")]
        seeds: std::sync::Arc<Vec<u64>>,
        /// One seed, in this process, with the end of its trace if it fails.
        #[arg(long)]
        seed: Option<u64>,
        /// Processes at once.
        #[arg(long, default_value_t = 2)]
        jobs: usize,
        /// Simulated time with faults, per seed; healing comes on top.
        #[arg(long, default_value = "20s", value_parser = parse_duration)]
        time: Duration,
        /// Run each seed in two processes and compare the traces.
        #[arg(long)]
        twice: bool,
        /// Stop at the first seed that fails.
        #[arg(long)]
        fail_fast: bool,
        /// With --seed: write the whole trace here.
        #[arg(long)]
        trace: Option<PathBuf>,
        /// With --seed: the outcome as one line of JSON.
        #[arg(long)]
        json: bool,
        /// With --seed: the members' own log lines, on standard error.
        #[arg(long)]
        log: bool,
    },
    /// Build members with bugs on purpose and show which seed catches each.
    Breaks {
        /// The seeds to try for each.
        #[arg(long, value_parser = parse_seed_list, default_value = "0..300")]
        seeds: std::sync::Arc<Vec<u64>>,
        /// Processes at once.
        #[arg(long, default_value_t = 2)]
        jobs: usize,
        /// Simulated time with faults, per seed.
        #[arg(long, default_value = "20s", value_parser = parse_duration)]
        time: Duration,
        /// A program that was built broken already.
        #[arg(long)]
        program: Option<PathBuf>,
    },
    /// The same random requests to a real ZooKeeper and to Quorate: what differs?
    Differential(differential::Plan),
    /// Run a scenario with its own story; the tests run short forms of the same.
    Scenario {
        /// Which.
        name: Scenario,
        /// How often (failover: kills; crash-recovery: kills; bad-input: idle connections; overload: seconds;
        /// many-services: instances).
        #[arg(long)]
        times: Option<u32>,
        /// For crash-recovery.
        #[arg(long, default_value_t = 1)]
        seed: u64,
    },
}

#[derive(Clone, Copy, ValueEnum)]
enum Scenario {
    /// The leader dies again and again under a write load.
    Failover,
    /// A member dies at random instants while it writes.
    CrashRecovery,
    /// A session outlives its member.
    SessionMove,
    /// A lost disk is refused and replaced.
    LostDisk,
    /// A lagging member installs a snapshot under its clients.
    LaggingMember,
    /// Far more writes than the members can do.
    Overload,
    /// Malformed, oversized, too many, too deep.
    BadInput,
    /// Thousands of instances and followers, through a rolling restart.
    ManyServices,
}

fn main() -> ExitCode {
    if let Some(compiled) = simulation::breaks::compile_if_asked() {
        return compiled;
    }
    let result = match Arguments::parse().command {
        Command::Run { workload, nemesis, members, time, seed, workers, rate, door, folder } => {
            let seed = seed.unwrap_or_else(|| fastrand::u64(..1 << 32));
            let time_ms = time.as_millis() as u64;
            let plan = Plan { workload, nemesis, members, time_ms, seed, workers, rate, door };
            start(&plan, folder)
        }
        Command::List => {
            list();
            Ok(true)
        }
        Command::Check { history, workload: Some(workload) } => of_ones_own(&history, &workload),
        Command::Check { history, workload: None } => again(&history, false),
        Command::Report { folder } => again(&folder.join(run::HISTORY_FILE), true),
        Command::Matrix(arguments) => match series::matrix::run(arguments) {
            Ok(is_valid) => Ok(is_valid),
            Err(reason) => {
                eprintln!("jepsen-tests: {reason}");
                return ExitCode::from(2);
            }
        },
        Command::Calibrate { time, folder } => calibrate(time, folder),
        Command::Soak(arguments) => Ok(series::soak::run(&arguments)),
        Command::Simulate { seed: Some(seed), time, trace, json, log, .. } => {
            return simulation::main::one(seed, time, trace.as_deref(), json, log);
        }
        Command::Simulate { seeds, jobs, time, twice, fail_fast, .. } => {
            return simulation::main::many(&seeds, jobs, time, twice, fail_fast);
        }
        Command::Breaks { seeds, jobs, time, program } => {
            return simulation::breaks::show(&seeds, jobs, time, program);
        }
        Command::Differential(plan) => return differential::main(&plan),
        Command::Scenario { name, times, seed } => return scenario(name, times, seed),
    };
    match result {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("jepsen-tests: {error}");
            ExitCode::from(2)
        }
    }
}

fn start(plan: &Plan, folder: Option<PathBuf>) -> Result<bool, RunError> {
    let folder = folder.unwrap_or_else(|| {
        let runs = std::env::temp_dir().join("quorate-jepsen-runs");
        let name = format!("{}-{}-{}", plan.workload, plan.nemesis.join("+"), plan.seed);
        let again = (1..).map(|count| runs.join(format!("{name}.{count}")));
        std::iter::once(runs.join(&name)).chain(again).find(|folder| !folder.exists()).unwrap_or(runs)
    });
    println!("{}", plan.command());
    let outcome = run_local(run::run(plan, &folder))?;
    show(&outcome, &folder);
    Ok(outcome.is_valid())
}

fn calibrate(time: Duration, folder: Option<PathBuf>) -> Result<bool, RunError> {
    let name = format!("calibrate-{}", std::process::id());
    let folder = folder.unwrap_or_else(|| std::env::temp_dir().join("quorate-jepsen-runs").join(name));
    let found = run_local(calibrate::run(time, &folder))?;
    for (checker, verdict) in [("linearizable", &found.stale_reads), ("fencing", &found.unfenced_lock)] {
        show_finding(&Finding { checker: checker.into(), verdict: verdict.clone() });
    }
    let word = if found.is_passed() { "both found" } else { "NOT BOTH FOUND" };
    println!("ZooKeeper's stale reads and its lock without tokens: {word}; {}", folder.display());
    Ok(found.is_passed())
}

fn show(outcome: &Outcome, folder: &Path) {
    println!("network: {}", outcome.wires);
    outcome.findings.iter().for_each(show_finding);
    for panic in &outcome.panics {
        println!("  members        INVALID  {panic}");
    }
    let verdict = if outcome.is_valid() { "valid" } else { "NOT VALID" };
    println!("{verdict}; {}", folder.join("report.html").display());
}

fn show_finding(finding: &Finding) {
    let (word, text) = match &finding.verdict {
        Verdict::Valid { summary } => ("valid", summary.clone()),
        Verdict::Unknown { reason } => ("UNKNOWN", reason.clone()),
        Verdict::Invalid { anomalies } => {
            let first: Vec<&str> = anomalies.iter().take(3).map(|anomaly| anomaly.what.as_str()).collect();
            ("INVALID", format!("{} anomalies: {}", anomalies.len(), first.join("; ")))
        }
    };
    println!("  {:14} {word:8} {text}", finding.checker);
}

/// Judges a history of which only the workload is known.
fn of_ones_own(path: &Path, workload: &str) -> Result<bool, RunError> {
    let findings = run::judge_alone(workload, &History::read(path)?)?;
    findings.iter().for_each(show_finding);
    Ok(findings.iter().all(|finding| finding.verdict.is_valid()))
}

/// Judges a kept history again.
fn again(path: &Path, with_report: bool) -> Result<bool, RunError> {
    let folder = path.parent().unwrap_or(Path::new("."));
    let history = History::read(path)?;
    let mut outcome = run::load(folder)?;
    outcome.findings = judge(&run::checkers(&outcome.plan)?, &history);
    if with_report {
        run::save(folder, &outcome, &history)?;
    }
    show(&outcome, folder);
    Ok(outcome.is_valid())
}

fn list() {
    println!("Workloads:");
    for workload in workloads::all() {
        println!("  {:14} {}", workload.name(), workload.about());
    }
    println!("Nemeses:");
    for nemesis in nemesis::all() {
        println!("  {:14} {}", nemesis.name(), nemesis.about());
    }
    println!("Scenarios:");
    for scenario in Scenario::value_variants() {
        if let Some(value) = scenario.to_possible_value() {
            let help = value.get_help().map(ToString::to_string).unwrap_or_default();
            println!("  {:14} {help}", value.get_name());
        }
    }
}

fn scenario(name: Scenario, times: Option<u32>, seed: u64) -> ExitCode {
    let started = std::time::Instant::now();
    let result: Result<Measured, Failure> = match name {
        Scenario::Failover => run_local(scenarios::failover::run(times.unwrap_or(20))),
        Scenario::CrashRecovery => run_local(scenarios::crash_recovery::run(times.unwrap_or(50), seed)),
        Scenario::SessionMove => run_local(scenarios::session_move::run()),
        Scenario::LostDisk => run_local(scenarios::lost_disk::run()),
        Scenario::LaggingMember => run_local(scenarios::lagging_member::run()),
        Scenario::Overload => {
            run_local(scenarios::overload::run(Duration::from_secs(times.unwrap_or(1_200).into())))
        }
        Scenario::ManyServices => {
            let instances = times.unwrap_or(10_000) as usize;
            let (services, followers) = ((instances / 20).max(1), instances / 5);
            let size = many_services::Size {
                instances,
                services,
                followers,
                audience: instances / 10,
                changes: 200,
            };
            run_local(many_services::run(size))
        }
        Scenario::BadInput => run_local(scenarios::bad_input::run(times.unwrap_or(10_000) as usize)),
    };
    match result {
        Ok(measured) => {
            print!("{measured}");
            println!("passed in {:.1} s", started.elapsed().as_secs_f64());
            ExitCode::SUCCESS
        }
        Err(failure) => {
            eprintln!("FAILED: {failure}");
            ExitCode::FAILURE
        }
    }
}

fn parse_door(text: &str) -> Result<Door, String> {
    let known = [Door::Grpc, Door::Zookeeper];
    known.into_iter().find(|door| door.name() == text).ok_or_else(|| format!("{text:?} is no door"))
}

fn parse_seed_list(text: &str) -> Result<std::sync::Arc<Vec<u64>>, String> {
    simulation::runner::parse_seeds(text).map(Into::into)
}
