//! One run: a cluster, a workload, faults, a history, verdicts, a report.

use std::cell::Cell;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::checkers::availability::Availability;
use crate::checkers::digest::Digest;
use crate::checkers::{Checker, Finding, judge};
use crate::cluster::{Cluster, ClusterError, Options, admin};
use crate::history::{History, HistoryError, JUDGE, NEMESIS, Operation, Recorder};
use crate::nemesis::{self, Nemesis, Schedule};
use crate::workloads::{self, Arena, Door, Workload};
use crate::{edn, report};

/// The history's name in a run's folder.
pub const HISTORY_FILE: &str = "history.jsonl";
/// The plan's and the verdicts' name.
pub const RUN_FILE: &str = "run.json";
/// How long nothing may succeed after a fault was healed.
const RECOVERY_MAX: Duration = Duration::from_secs(10);
/// How long workers may take to end.
const END_PATIENCE: Duration = Duration::from_secs(120);

/// What to run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Plan {
    /// The workload's name.
    pub workload: String,
    /// The nemeses' names; several take turns.
    pub nemesis: Vec<String>,
    /// How many members.
    pub members: u64,
    /// How long, in milliseconds.
    pub time_ms: u64,
    /// Where all choices come from.
    pub seed: u64,
    /// How many workers.
    pub workers: u32,
    /// Operations a second, all workers together, at most.
    pub rate: u32,
    /// The door that clients go through.
    #[serde(default)]
    pub door: Door,
}

impl Plan {
    /// The command that repeats this run.
    pub fn command(&self) -> String {
        format!("cargo run -p jepsen-tests --release -- {}", self.arguments().join(" "))
    }

    /// The same, as arguments of the program.
    pub fn arguments(&self) -> Vec<String> {
        let values: [(&str, String); 8] = [
            ("--workload", self.workload.clone()),
            ("--nemesis", self.nemesis.join(",")),
            ("--members", self.members.to_string()),
            ("--time", format!("{}ms", self.time_ms)),
            ("--seed", self.seed.to_string()),
            ("--workers", self.workers.to_string()),
            ("--rate", self.rate.to_string()),
            ("--door", self.door.name().to_owned()),
        ];
        let values = values.into_iter().flat_map(|(name, value)| [name.to_owned(), value]);
        ["run".to_owned()].into_iter().chain(values).collect()
    }
}

/// A run that is over.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Outcome {
    /// What was run.
    pub plan: Plan,
    /// What connected the members.
    #[serde(default)]
    pub wires: String,
    /// What the checkers say.
    pub findings: Vec<Finding>,
    /// What no member may do: panics that were logged, ends that nobody asked for.
    pub panics: Vec<String>,
    /// How many operations succeeded.
    #[serde(default)]
    pub operations: u64,
    /// How many faults there were.
    #[serde(default)]
    pub faults: u64,
}

impl Outcome {
    /// Whether every checker said valid: unknown is no pass.
    pub fn is_valid(&self) -> bool {
        self.panics.is_empty() && self.findings.iter().all(|finding| finding.verdict.is_valid())
    }
}

/// Why a run came to nothing.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// A name that nobody has.
    #[error("no {kind} is called {name:?}; `jepsen-tests list` shows them")]
    Unknown {
        /// Workload or nemesis.
        kind: &'static str,
        /// The name.
        name: String,
    },
    /// The workload's clients speak another protocol.
    #[error("{workload} does not go through the {door} door")]
    NoDoor {
        /// The workload.
        workload: String,
        /// The door.
        door: &'static str,
    },
    /// The folder holds another run: its data would be taken for this one's.
    #[error("{} holds a run already; name another folder", .0.display())]
    Used(PathBuf),
    /// The fixture failed.
    #[error(transparent)]
    Cluster(#[from] ClusterError),
    /// The preparation or the last reads failed.
    #[error("client: {0}")]
    Client(#[from] quorate::Error),
    /// The history cannot be kept.
    #[error(transparent)]
    History(#[from] HistoryError),
    /// A file cannot be written.
    #[error("{0}")]
    File(#[from] std::io::Error),
    /// Workers did not end.
    #[error("workers still wait after {END_PATIENCE:?}")]
    WorkersHang,
}

/// Runs a plan; everything is kept in `folder`.
///
/// # Errors
/// [`RunError`]: no verdict was reached.
pub async fn run(plan: &Plan, folder: &Path) -> Result<Outcome, RunError> {
    let workload: Rc<dyn Workload> = find_workload(&plan.workload)?.into();
    let nemeses = plan.nemesis.iter().map(|name| find_nemesis(name)).collect::<Result<Vec<_>, _>>()?;
    if !workload.doors().contains(&plan.door) {
        return Err(RunError::NoDoor { workload: plan.workload.clone(), door: plan.door.name() });
    }
    if folder.join(HISTORY_FILE).exists() || folder.join("members").exists() {
        return Err(RunError::Used(folder.into()));
    }
    std::fs::create_dir_all(folder)?;
    let options = Options::members(plan.members).folder(folder.join("members"));
    // Checkpoints often and logs short, so that faults meet both.
    let options = options.flag("--checkpoint-seconds", 2).flag("--checkpoint-log-mb", 1);
    let options = Options { zookeeper: plan.door == Door::Zookeeper, ..options };
    let options = nemeses.iter().fold(options, |options, nemesis| nemesis.needs().add_to(options));
    let mut cluster = Cluster::start(options).await?;
    let recorder = Recorder::start(Some(&folder.join(HISTORY_FILE)))?;
    let arena = Arena {
        door: plan.door,
        endpoints: match plan.door {
            Door::Grpc => cluster.endpoints(),
            Door::Zookeeper => cluster.zookeeper_endpoints(),
        },
        recorder: recorder.clone(),
        workers: plan.workers,
        rate: f64::from(plan.rate) / f64::from(plan.workers.max(1)),
        stop: Rc::new(Cell::new(false)),
    };
    workload.prepare(arena.clone()).await?;
    let workers: Vec<_> = (1..=plan.workers)
        .map(|process| {
            let (workload, arena) = (workload.clone(), arena.clone());
            let random = fastrand::Rng::with_seed(plan.seed.wrapping_mul(1_000_003) ^ u64::from(process));
            tokio::task::spawn_local(async move { workload.work(arena, process, random).await })
        })
        .collect();

    let length = Duration::from_millis(plan.time_ms);
    let _progress = Progress::start(recorder.clone(), length);
    let healed = hurt(&mut cluster, &recorder, &nemeses, plan, length).await?;
    // However long the last fault's healing took, behind it there is time to judge.
    let end = healed.map_or(length, |healed| length.max(healed + Schedule::calm_end(length.max(healed))));
    if let Some(left) = end.checked_sub(recorder.elapsed()) {
        tokio::time::sleep(left).await;
    }
    recorder.info(NEMESIS, Operation::Stop, None);
    arena.stop.set(true);
    for worker in workers {
        let ended = tokio::time::timeout(END_PATIENCE, worker).await.map_err(|_| RunError::WorkersHang)?;
        if let Err(error) = ended {
            std::panic::resume_unwind(error.into_panic());
        }
    }
    workload.finish(arena).await?;
    ask_digests(&cluster, &recorder).await;
    cluster.notice_ends()?;
    let history = recorder.finish()?;
    let outcome = Outcome {
        plan: plan.clone(),
        wires: cluster.wires().to_owned(),
        findings: judge(&checkers(plan)?, &history),
        panics: cluster.panics(),
        operations: recorder.completed(),
        faults: history.faults().len() as u64,
    };
    drop(cluster);
    if outcome.is_valid() {
        // The data proves nothing more; the logs stay.
        for entry in std::fs::read_dir(folder.join("members"))? {
            let path = entry?.path();
            if path.is_dir() {
                std::fs::remove_dir_all(path)?;
            }
        }
    }
    save(folder, &outcome, &history)?;
    Ok(outcome)
}

/// A progress bar in a task of its own, on a terminal.
struct Progress(tokio::task::JoinHandle<()>);

impl Progress {
    fn start(recorder: Recorder, length: Duration) -> Progress {
        Progress(tokio::task::spawn_local(async move {
            // Draws nothing where nobody looks.
            let bar = indicatif::ProgressBar::new(length.as_secs());
            loop {
                bar.set_position(recorder.elapsed().as_secs());
                bar.set_message(format!("{} operations", recorder.completed()));
                tokio::time::sleep(Duration::from_millis(500)).await;
            }
        }))
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Inflicts and heals what the seed says, until the time is nearly up; when the last was healed.
async fn hurt(
    cluster: &mut Cluster,
    recorder: &Recorder,
    nemeses: &[Box<dyn Nemesis>],
    plan: &Plan,
    length: Duration,
) -> Result<Option<Duration>, RunError> {
    let faults = Schedule::draw(plan.seed, length, nemeses.len()).faults;
    let mut last = None;
    for (index, (pause, lasts, which)) in faults.into_iter().enumerate() {
        // Recovery takes its time too: what no longer fits is left out, but for a short run's only one.
        let calm_end = if index == 0 { Duration::ZERO } else { Schedule::calm_end(length) };
        if recorder.elapsed() + pause + lasts + calm_end > length {
            break;
        }
        tokio::time::sleep(pause).await;
        // Who ended by itself is noted, and the verdict clear; the run goes on with all members.
        for id in cluster.notice_ends()? {
            cluster.restart(id).await?;
        }
        let nemesis = &nemeses[which];
        let mut random = Schedule::choices(plan.seed, index);
        // A victim is noted once it is hit: what succeeded before was not under the fault.
        let members = nemesis.inflict(cluster, &mut random).await?;
        if members.is_empty() {
            continue;
        }
        let note =
            |healed| Operation::Fault { nemesis: nemesis.name().into(), healed, members: members.clone() };
        recorder.info(NEMESIS, note(false), None);
        tokio::time::sleep(lasts).await;
        nemesis.heal(cluster, &members).await?;
        // Noted before anybody waits: how long the cluster takes from here is what is judged.
        recorder.info(NEMESIS, note(true), None);
        last = Some(recorder.elapsed());
        nemesis.settle(cluster, &members).await?;
    }
    Ok(last)
}

/// Asks until all members answer and agree, or patience ends; notes the last answer.
async fn ask_digests(cluster: &Cluster, recorder: &Recorder) {
    recorder.invoke(JUDGE, Operation::Digest { agree: None, members: None });
    let wanted = cluster.ids().len();
    let mut last = None;
    for _ in 0..50 {
        for id in cluster.running() {
            if let Ok(answer) = admin::digest(&cluster.member(id).client).await {
                let equal = |digest: &quorate_proto::v1::MemberDigest| {
                    digest.problem.is_empty() && digest.digest == digest.recomputed
                };
                let answered = answer.digests.iter().filter(|digest| equal(digest)).count();
                let all = answer.agree && answered == wanted;
                last = Some(Operation::Digest { agree: Some(answer.agree), members: Some(answered as u32) });
                if all {
                    recorder.ok(
                        JUDGE,
                        Operation::Digest { agree: Some(true), members: Some(wanted as u32) },
                        Some(answer.zxid),
                    );
                    return;
                }
            }
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    match last {
        Some(answer) => recorder.ok(JUDGE, answer, None),
        None => {
            let asked = Operation::Digest { agree: None, members: None };
            recorder.info(JUDGE, asked, Some("no member answered".into()));
        }
    }
}

/// Who judges a run of this plan.
///
/// # Errors
/// [`RunError::Unknown`].
pub fn checkers(plan: &Plan) -> Result<Vec<Box<dyn Checker>>, RunError> {
    let mut checkers = find_workload(&plan.workload)?.checkers();
    checkers.push(Box::new(Digest { members: plan.members as u32 }));
    checkers.push(Box::new(Availability { recovery_max: RECOVERY_MAX }));
    Ok(checkers)
}

/// What a workload's own checkers say of a history.
///
/// # Errors
/// [`RunError::Unknown`].
pub fn judge_alone(workload: &str, history: &History) -> Result<Vec<Finding>, RunError> {
    Ok(judge(&find_workload(workload)?.checkers(), history))
}

/// Writes verdicts and report into a run's folder.
///
/// # Errors
/// [`RunError::File`].
pub fn save(folder: &Path, outcome: &Outcome, history: &History) -> Result<(), RunError> {
    let text = serde_json::to_string_pretty(outcome).map_err(std::io::Error::other)?;
    std::fs::write(folder.join(RUN_FILE), text + "\n")?;
    std::fs::write(folder.join("report.html"), report::html(outcome, history))?;
    edn::write(history, &folder.join("history.edn"))?;
    Ok(())
}

/// Reads a run's plan and verdicts back.
///
/// # Errors
/// [`RunError::File`].
pub fn load(folder: &Path) -> Result<Outcome, RunError> {
    let path: PathBuf = folder.join(RUN_FILE);
    let text = std::fs::read_to_string(&path).map_err(|error| {
        std::io::Error::other(format!(
            "{}: {error} (a history of your own: check --workload W)",
            path.display()
        ))
    })?;
    Ok(serde_json::from_str(&text).map_err(std::io::Error::other)?)
}

pub(crate) fn find_workload(name: &str) -> Result<Box<dyn Workload>, RunError> {
    let found = workloads::all().into_iter().find(|workload| workload.name() == name);
    found.ok_or_else(|| RunError::Unknown { kind: "workload", name: name.into() })
}

pub(crate) fn find_nemesis(name: &str) -> Result<Box<dyn Nemesis>, RunError> {
    let found = nemesis::all().into_iter().find(|nemesis| nemesis.name() == name);
    found.ok_or_else(|| RunError::Unknown { kind: "nemesis", name: name.into() })
}
