//! The matrix: every workload under every nemesis. Each result is a line of a file that is committed;
//! what is missing, failed, too short, or of older server code is run next; the README's table is
//! made of the file.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

use super::server_code::{self, Programs, Stamp};
use crate::run::{Plan, RunError, find_nemesis, find_workload};
use crate::workloads::Door;
use crate::{nemesis, workloads};

const BEGIN: &str = "<!-- matrix: made by `jepsen-tests matrix`, not by hand -->";
/// Operations a second of a run, and of results that do not say.
const RATE: u32 = 300;
const END: &str = "<!-- end of the matrix -->";

/// What to run.
#[derive(clap::Args, Clone, Debug)]
pub struct Arguments {
    /// How long each run lasts; results of shorter runs count as missing.
    #[arg(long, default_value = "60s", value_parser = crate::parse_duration)]
    time: Duration,
    /// How many members.
    #[arg(long, default_value_t = 3)]
    members: u64,
    /// Where all choices come from.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Operations a second, all clients of a run together, at most; results of other rates count as
    /// missing.
    #[arg(long, default_value_t = RATE, value_parser = clap::value_parser!(u32).range(1..))]
    rate: u32,
    /// Only these workloads.
    #[arg(long, value_delimiter = ',')]
    workload: Vec<String>,
    /// Only these nemeses.
    #[arg(long, value_delimiter = ',')]
    nemesis: Vec<String>,
    /// At most so many runs; 0 only writes the table.
    #[arg(long)]
    runs: Option<usize>,
    /// So many at once, each with a cluster of its own.
    #[arg(long, default_value_t = 1)]
    jobs: usize,
    /// Where results are kept: by default jepsen-tests/matrix.jsonl.
    #[arg(long)]
    results: Option<PathBuf>,
    /// Where runs that failed are kept.
    #[arg(long)]
    folder: Option<PathBuf>,
}

/// One result: a line of the file.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Row {
    workload: String,
    nemesis: String,
    members: u64,
    seed: u64,
    time_ms: u64,
    /// Operations a second, at most.
    #[serde(default = "rate_of_old")]
    rate: u32,
    /// What connected the members; nothing if the result is of before it was noted.
    #[serde(default)]
    wires: String,
    /// The stamp of the code under test.
    code: String,
    /// A hash of the programs; nothing if the result is of before it was noted.
    #[serde(default)]
    programs: String,
    commit: String,
    /// Seconds since 1970.
    at: u64,
    operations: u64,
    faults: u64,
    /// "valid", or who says otherwise, or why there is no verdict.
    verdict: String,
}

fn rate_of_old() -> u32 {
    RATE
}

/// Runs what is missing and writes the table; whether all that was run is valid.
///
/// # Errors
/// Says what is in the way: no stamp, programs that are old or change meanwhile, an unreadable file.
pub fn run(arguments: Arguments) -> Result<bool, String> {
    let package = Path::new(env!("CARGO_MANIFEST_DIR"));
    // A name that fits nothing would run nothing, and pass.
    let workloads = arguments.workload.iter().map(|name| find_workload(name).map(drop));
    let nemeses = arguments.nemesis.iter().map(|name| find_nemesis(name).map(drop));
    workloads.chain(nemeses).collect::<Result<(), RunError>>().map_err(|error| error.to_string())?;
    let stamp = server_code::stamp()?;
    let programs = Programs::find()?;
    let progress =
        Progress { left: arguments.runs.unwrap_or(usize::MAX), under_way: Vec::new(), all_valid: true };
    let matrix = Matrix {
        results: arguments.results.clone().unwrap_or_else(|| package.join("matrix.jsonl")),
        readme: package.join("README.md"),
        folder: super::runs_folder(arguments.folder.clone(), "matrix"),
        arguments,
        stamp,
        programs,
        progress: Mutex::new(progress),
    };
    std::thread::scope(|scope| {
        let workers: Vec<_> =
            (0..matrix.arguments.jobs.max(1)).map(|_| scope.spawn(|| matrix.work())).collect();
        workers
            .into_iter()
            .try_for_each(|worker| worker.join().unwrap_or_else(|_| Err("a worker panicked".into())))
    })?;
    write_table(&matrix.readme, &read(&matrix.results)?, &matrix.stamp)?;
    Ok(matrix.progress().all_valid)
}

/// The runs of one call.
struct Matrix {
    arguments: Arguments,
    stamp: Stamp,
    programs: Programs,
    results: PathBuf,
    readme: PathBuf,
    folder: PathBuf,
    /// Held while the files are read or written, too.
    progress: Mutex<Progress>,
}

struct Progress {
    /// So many runs may yet begin.
    left: usize,
    under_way: Vec<(String, String)>,
    all_valid: bool,
}

impl Matrix {
    fn progress(&self) -> MutexGuard<'_, Progress> {
        self.progress.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Runs what is missing, one after the other.
    fn work(&self) -> Result<(), String> {
        while let Some((workload, nemesis)) = self.take()? {
            self.programs.are_unchanged()?;
            let row = self.one(workload, nemesis);
            // Whose result it is would not be known.
            self.programs.are_unchanged()?;
            self.put(&row)?;
        }
        Ok(())
    }

    fn one(&self, workload: String, nemesis: String) -> Row {
        let Matrix { arguments, stamp, .. } = self;
        let at = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
        let plan = Plan {
            workload,
            nemesis: vec![nemesis],
            members: arguments.members,
            time_ms: arguments.time.as_millis() as u64,
            seed: arguments.seed,
            workers: 6,
            rate: arguments.rate,
            door: Door::Grpc,
        };
        let folder = self.folder.join(format!("{}-{}-{}-{at}", plan.workload, plan.nemesis[0], plan.seed));
        let outcome = super::run_apart(&plan, &folder);
        let verdict = super::verdict(&plan, &outcome);
        if verdict == "valid"
            && let Err(error) = std::fs::remove_dir_all(&folder)
        {
            eprintln!("{}: {error}", folder.display());
        }
        let (operations, faults, wires) =
            outcome.map_or((0, 0, String::new()), |one| (one.operations, one.faults, one.wires));
        Row {
            workload: plan.workload,
            nemesis: plan.nemesis.concat(),
            members: plan.members,
            seed: plan.seed,
            time_ms: plan.time_ms,
            rate: plan.rate,
            wires,
            code: stamp.code.clone(),
            programs: self.programs.hash().to_owned(),
            commit: stamp.commit.clone(),
            at,
            operations,
            faults,
            verdict,
        }
    }

    fn take(&self) -> Result<Option<(String, String)>, String> {
        let mut progress = self.progress();
        // Read again each time: another call may share the work.
        let rows = read(&self.results)?;
        let mut missing = missing(&rows, &self.arguments, &self.stamp);
        missing.retain(|pair| !progress.under_way.contains(pair));
        if progress.left == 0 || missing.is_empty() {
            return Ok(None);
        }
        progress.left -= 1;
        let pair = missing.remove(0);
        progress.under_way.push(pair.clone());
        Ok(Some(pair))
    }

    fn put(&self, row: &Row) -> Result<(), String> {
        let mut progress = self.progress();
        println!(
            "{:13} {:18} {:6} operations {:3} faults  {}",
            row.workload, row.nemesis, row.operations, row.faults, row.verdict
        );
        progress.all_valid &= row.verdict == "valid";
        append(&self.results, row)?;
        progress.under_way.retain(|(workload, nemesis)| (workload, nemesis) != (&row.workload, &row.nemesis));
        write_table(&self.readme, &read(&self.results)?, &self.stamp)
    }
}

/// The workloads and nemeses whose result is missing, those without any result first.
fn missing(rows: &[Row], arguments: &Arguments, stamp: &Stamp) -> Vec<(String, String)> {
    let is_wanted = |wanted: &[String], name: &str| wanted.is_empty() || wanted.iter().any(|one| one == name);
    let mut missing: Vec<(usize, String, String)> = Vec::new();
    for nemesis in nemesis::all().iter().filter(|one| is_wanted(&arguments.nemesis, one.name())) {
        for workload in workloads::all().iter().filter(|one| is_wanted(&arguments.workload, one.name())) {
            let here = || {
                rows.iter().filter(|row| {
                    row.workload == workload.name()
                        && row.nemesis == nemesis.name()
                        && row.members == arguments.members
                })
            };
            let is_done = |row: &Row| {
                row.code == stamp.code
                    && row.time_ms >= arguments.time.as_millis() as u64
                    && row.rate == arguments.rate
                    // A failure is not run again and again: the fix changes the stamp.
                    && row.seed == arguments.seed
            };
            if !here().any(is_done) {
                missing.push((here().count(), workload.name().into(), nemesis.name().into()));
            }
        }
    }
    missing.sort_by_key(|(count, ..)| *count);
    missing.into_iter().map(|(_, workload, nemesis)| (workload, nemesis)).collect()
}

fn read(path: &Path) -> Result<Vec<Row>, String> {
    let text = match std::fs::read_to_string(path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => String::new(),
        other => other.map_err(|error| format!("{}: {error}", path.display()))?,
    };
    let rows = text.lines().enumerate().map(|(index, line)| {
        serde_json::from_str(line).map_err(|error| format!("{}:{}: {error}", path.display(), index + 1))
    });
    rows.collect()
}

fn append(path: &Path, row: &Row) -> Result<(), String> {
    let line = serde_json::to_string(row).map_err(|error| error.to_string())?;
    let opened = std::fs::File::options().create(true).append(true).open(path);
    let written = opened.and_then(|mut file| file.write_all(format!("{line}\n").as_bytes()));
    written.map_err(|error| format!("{}: {error}", path.display()))
}

/// Puts the table between its marks.
fn write_table(readme: &Path, rows: &[Row], stamp: &Stamp) -> Result<(), String> {
    let failed = |error: std::io::Error| format!("{}: {error}", readme.display());
    let text = std::fs::read_to_string(readme).map_err(failed)?;
    let (Some(begin), Some(end)) = (text.find(BEGIN), text.find(END)) else {
        return Err(format!("{}: the marks of the matrix are missing", readme.display()));
    };
    let new = format!("{}{BEGIN}\n{}{}", &text[..begin], table(rows, stamp), &text[end..]);
    if new == text {
        return Ok(());
    }
    // At once, for another call may be about to read it.
    let beside = readme.with_extension("md.new");
    std::fs::write(&beside, new).and_then(|()| std::fs::rename(&beside, readme)).map_err(failed)
}

/// The newest result of each workload and nemesis on three members, older code in brackets.
fn table(rows: &[Row], stamp: &Stamp) -> String {
    let mut newest: BTreeMap<(&str, &str), &Row> = BTreeMap::new();
    for row in rows.iter().filter(|row| row.members == 3) {
        // A result of this code outweighs any of older code, and a longer run a shorter one.
        let rank = |row: &Row| (row.code == stamp.code, row.time_ms, row.at);
        let cell = newest.entry((&row.nemesis, &row.workload)).or_insert(row);
        if rank(row) >= rank(cell) {
            *cell = row;
        }
    }
    let (workloads, nemeses) = (workloads::all(), nemesis::all());
    let names: Vec<&str> = workloads.iter().map(|workload| workload.name()).collect();
    let count = |wanted: &dyn Fn(&Row) -> bool| newest.values().filter(|row| wanted(row)).count();
    let current = count(&|row| row.code == stamp.code && row.verdict == "valid");
    let minute = count(&|row| row.code == stamp.code && row.verdict == "valid" && row.time_ms >= 60_000);
    let mut text = format!(
        "Operations / faults / seconds of each run on three members; server code {} (commit {}): {current} of {} valid, {minute} of them of 60 s or more. \
         In brackets: older server code, so missing. **Bold**: not valid. Rows with dates and commits: [matrix.jsonl](matrix.jsonl).\n\n| |",
        stamp.code,
        stamp.commit,
        names.len() * nemeses.len()
    );
    names.iter().for_each(|name| text.push_str(&format!(" {name} |")));
    text.push_str(&format!("\n|---|{}\n", "---|".repeat(names.len())));
    for nemesis in &nemeses {
        text.push_str(&format!("| {} |", nemesis.name()));
        for name in &names {
            let cell = newest.get(&(nemesis.name(), *name)).map_or_else(String::new, |row| {
                let figures = format!("{}/{}/{}", row.operations, row.faults, row.time_ms / 1000);
                match (row.verdict == "valid", row.code == stamp.code) {
                    (true, true) => figures,
                    (true, false) => format!("({figures})"),
                    (false, true) => format!("**{figures}**"),
                    (false, false) => format!("(**{figures}**)"),
                }
            });
            text.push_str(&format!(" {cell} |"));
        }
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_of_before_rates_and_networks_were_noted_is_read() {
        let old = r#"{"workload":"set","nemesis":"none","members":3,"seed":1,"time_ms":60000,"code":"608a2244c607",
            "commit":"75b61c5","at":1795303627,"operations":6967,"faults":0,"verdict":"valid"}"#;
        let row: Row = serde_json::from_str(old).expect("a row");
        assert_eq!((row.rate, row.wires.as_str(), row.programs.as_str()), (300, "", ""));
    }
}
