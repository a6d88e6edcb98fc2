//! A history: what every process asked, what it was told, and when; the only thing checkers see.
//!
//! Kept as JSON lines, one [`Entry`] a line, in the order of time. An operation is an *invoke* entry
//! and its completion, tied by `process`:
//! - `ok`: it happened, and this is its result;
//! - `fail`: it did not happen and never will;
//! - `info`: unknown. It may have happened, may happen later, may never. Nobody guesses.
//!
//! An invocation without a completion is unknown too. Faults are entries of their own.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufRead, BufReader, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

/// Who asks: a client of the workload. One process has at most one operation under way.
pub type Process = u32;

/// The process that inflicts faults.
pub const NEMESIS: Process = 1_000_000;
/// The process that asks the cluster questions about itself when all is over.
pub const JUDGE: Process = 1_000_001;

/// What an entry says about its operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// It begins.
    Invoke,
    /// It happened.
    Ok,
    /// It did not happen.
    Fail,
    /// Unknown; for faults: something was done.
    Info,
}

/// What a request of a pipeline was told: its transaction (what a read's member had applied) and, of a
/// read, the number.
pub type Told = (u64, Option<u64>);

/// What is asked; a completion carries the same with its result filled in.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "f", rename_all = "kebab-case")]
pub enum Operation {
    /// Reads a register. The result is its value and version.
    Read {
        /// Which.
        key: u32,
        /// The result.
        value: Option<(u64, i32)>,
    },
    /// Writes a register unconditionally.
    Write {
        /// Which.
        key: u32,
        /// What.
        value: u64,
        /// The result: the version that it made.
        version: Option<i32>,
    },
    /// Writes a register if it has this version.
    CompareAndSet {
        /// Which.
        key: u32,
        /// The version that it must have.
        expected: i32,
        /// What.
        value: u64,
        /// The result: whether it did.
        applied: Option<bool>,
    },
    /// Creates a sequential node.
    Sequence {
        /// Names this attempt, and no other: the node's data.
        tag: u64,
        /// The result: the number in the node's name.
        number: Option<u64>,
    },
    /// Lists the sequential nodes: numbers and tags.
    ReadSequence {
        /// The result.
        nodes: Option<Vec<(u64, u64)>>,
    },
    /// Adds an element to a set.
    Add {
        /// Which; added only once.
        element: u64,
    },
    /// Reads the set, or which nodes of one's own are there.
    ReadSet {
        /// The result.
        elements: Option<Vec<u64>>,
    },
    /// Takes the lock.
    Acquire {
        /// The result: the fencing token.
        token: Option<u64>,
    },
    /// Acts under the lock, guarded by its token.
    UseLock {
        /// The token.
        token: u64,
        /// The result: whether the guard held.
        accepted: Option<bool>,
    },
    /// Gives the lock up.
    Release {
        /// The token.
        token: u64,
    },
    /// Changes a watched node.
    Change {
        /// Which node.
        node: u32,
        /// The change's number.
        number: u64,
    },
    /// A watcher starts; the result is the position behind which it hears everything.
    Watch {
        /// Where it starts: the last transaction that it does not hear of.
        since: Option<u64>,
    },
    /// A watcher hears of a change.
    Event {
        /// Which node.
        node: u32,
        /// The change's number.
        number: u64,
        /// The event's place in its transaction.
        ordinal: u32,
    },
    /// A watcher is told that it missed something and where it goes on.
    Gap,
    /// A watcher has heard everything up to the last change.
    Caught,
    /// Reads lists and appends to some of them, in one transaction.
    Transaction {
        /// What it does to each list; the result: what the lists were before.
        steps: Vec<Step>,
    },
    /// Moves an amount between two accounts.
    Transfer {
        /// From this account.
        from: u32,
        /// To this one.
        to: u32,
        /// So much.
        amount: u64,
    },
    /// Reads all accounts at once.
    ReadBalances {
        /// The result.
        balances: Option<Vec<i64>>,
    },
    /// Adds one to a counter.
    Increment {
        /// The result: what it is then.
        value: Option<u64>,
    },
    /// Reads the counter.
    ReadCounter {
        /// The result.
        value: Option<u64>,
    },
    /// Creates, sets or deletes a node that nobody else touches.
    Own {
        /// Which: nobody else's.
        node: u64,
        /// What.
        act: Act,
        /// The result, of a set: the version that it made.
        version: Option<i32>,
    },
    /// Sends writes and reads of a node that nobody else touches, one behind the other, without
    /// waiting.
    Pipeline {
        /// The session.
        session: u64,
        /// What is sent, in order: a number to write, or nothing: a read.
        sent: Vec<Option<u64>>,
        /// The result: what each was told. A read may be told nothing but that it was overtaken.
        told: Option<Vec<Option<Told>>>,
    },
    /// Creates an ephemeral node.
    CreateEphemeral {
        /// Its name, used once.
        name: u64,
        /// Its session.
        session: u64,
    },
    /// Lists the ephemeral nodes, in a session.
    ReadEphemerals {
        /// Which session asks.
        session: u64,
        /// The result.
        names: Option<Vec<u64>>,
    },
    /// Ends a session, by closing it, or by falling silent.
    EndSession {
        /// Which.
        session: u64,
        /// Whether it says so.
        closes: bool,
    },
    /// Asks who leads.
    Observe {
        /// The result: the leader's token; 0 is nobody.
        token: Option<u64>,
    },
    /// Registers an instance of a service.
    Register {
        /// Which: its number.
        instance: u64,
    },
    /// Takes an instance out.
    Deregister {
        /// Which.
        instance: u64,
    },
    /// What a follower knows of a service when nothing changes any more.
    Follow {
        /// The result: the instances.
        instances: Option<Vec<u64>>,
        /// The result: a hash of which instance owns which key; `None` is the members' own list, which has no ring.
        ring: Option<u64>,
    },
    /// A fault begins or ends.
    Fault {
        /// Which.
        nemesis: String,
        /// Whether it ends.
        healed: bool,
        /// Whom it concerns.
        members: Vec<u64>,
    },
    /// The workers are told to stop: what is not answered behind this, nobody asked.
    Stop,
    /// The members' digests, recomputed from the records.
    Digest {
        /// Whether all are equal.
        agree: Option<bool>,
        /// How many members answered.
        members: Option<u32>,
    },
}

impl Operation {
    /// The same without what it was told: what was asked.
    fn asked(&self) -> Operation {
        let mut asked = self.clone();
        match &mut asked {
            Operation::Read { value, .. } => *value = None,
            Operation::Write { version, .. } | Operation::Own { version, .. } => *version = None,
            Operation::CompareAndSet { applied, .. } => *applied = None,
            Operation::Sequence { number, .. } => *number = None,
            Operation::ReadSequence { nodes } => *nodes = None,
            Operation::ReadSet { elements } => *elements = None,
            Operation::Acquire { token } | Operation::Observe { token } => *token = None,
            Operation::UseLock { accepted, .. } => *accepted = None,
            Operation::Watch { since } => *since = None,
            Operation::Transaction { steps } => steps.iter_mut().for_each(|step| step.before = None),
            // A transfer for which there is not enough is told as one of nothing.
            Operation::Transfer { amount, .. } => *amount = 0,
            Operation::ReadBalances { balances } => *balances = None,
            Operation::Increment { value } | Operation::ReadCounter { value } => *value = None,
            Operation::Pipeline { told, .. } => *told = None,
            Operation::ReadEphemerals { names, .. } => *names = None,
            Operation::Follow { instances, ring } => (*instances, *ring) = (None, None),
            Operation::Digest { agree, members } => (*agree, *members) = (None, None),
            Operation::Add { .. }
            | Operation::Release { .. }
            | Operation::Change { .. }
            | Operation::Event { .. }
            | Operation::Gap
            | Operation::Caught
            | Operation::CreateEphemeral { .. }
            | Operation::EndSession { .. }
            | Operation::Register { .. }
            | Operation::Deregister { .. }
            | Operation::Fault { .. }
            | Operation::Stop => {}
        }
        asked
    }
}

/// What a transaction does to one list: it reads it, and may append.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Step {
    /// The list.
    pub list: u32,
    /// What it was before; the result.
    pub before: Option<Vec<u64>>,
    /// What is appended.
    pub append: Option<u64>,
}

/// What is done to a node of one's own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Act {
    /// It is not there.
    Create,
    /// It is there.
    Set,
    /// It is there.
    Delete,
}

/// One line of a history.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// Microseconds since the run began.
    pub time_us: u64,
    /// Who.
    pub process: Process,
    /// What the entry says.
    #[serde(rename = "type")]
    pub kind: Kind,
    /// Of what.
    #[serde(flatten)]
    pub operation: Operation,
    /// The transaction, where the answer named one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub zxid: Option<u64>,
    /// Why not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

/// An operation with its invocation and its completion, if it has one.
#[derive(Clone, Copy, Debug)]
pub struct Pair<'a> {
    /// Where in the history it began.
    pub begin: usize,
    /// Where it ended; `None` is never.
    pub end: Option<usize>,
    /// The invocation.
    pub invoke: &'a Entry,
    /// The completion.
    pub completion: Option<&'a Entry>,
}

impl Pair<'_> {
    /// How it ended; no completion is unknown.
    pub fn kind(&self) -> Kind {
        self.completion.map_or(Kind::Info, |entry| entry.kind)
    }
}

/// A whole history.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct History {
    /// In the order of time.
    pub entries: Vec<Entry>,
}

/// A file that is no history.
#[derive(Debug, thiserror::Error)]
#[error("{path}{}: {reason}", line.map(|line| format!(":{line}")).unwrap_or_default())]
pub struct HistoryError {
    /// The file.
    pub path: PathBuf,
    /// The line, from 1.
    pub line: Option<usize>,
    /// What is wrong.
    pub reason: String,
}

impl History {
    /// Reads a file of JSON lines, in the order of time; a process has one operation under way, and what
    /// completes it says what it asked.
    ///
    /// # Errors
    /// [`HistoryError`] names the first line that is none or does not fit those before it.
    pub fn read(path: &Path) -> Result<History, HistoryError> {
        let error = |line, reason| HistoryError { path: path.into(), line, reason };
        let file = File::open(path).map_err(|source| error(None, source.to_string()))?;
        let mut entries = Vec::new();
        let mut order = Order::default();
        for (index, line) in BufReader::new(file).lines().enumerate() {
            let line = line.map_err(|source| error(Some(index + 1), source.to_string()))?;
            let entry = serde_json::from_str(&line).map_err(|bad| error(Some(index + 1), bad.to_string()))?;
            order.admits(&entry).map_err(|reason| error(Some(index + 1), reason))?;
            entries.push(entry);
        }
        Ok(History { entries })
    }

    /// All operations, in the order of their beginnings, faults left out.
    ///
    /// An entry that is not an invocation and has none before it (an event, a gap) is an operation
    /// that begins and ends there.
    pub fn pairs(&self) -> Vec<Pair<'_>> {
        let mut open: BTreeMap<Process, usize> = BTreeMap::new();
        let mut pairs: Vec<Pair<'_>> = Vec::new();
        for (index, entry) in self.entries.iter().enumerate() {
            if entry.process == NEMESIS {
                continue;
            }
            match entry.kind {
                Kind::Invoke => {
                    open.insert(entry.process, pairs.len());
                    pairs.push(Pair { begin: index, end: None, invoke: entry, completion: None });
                }
                _ => match open.remove(&entry.process) {
                    Some(pair) => {
                        pairs[pair].end = Some(index);
                        pairs[pair].completion = Some(entry);
                    }
                    None => pairs.push(Pair {
                        begin: index,
                        end: Some(index),
                        invoke: entry,
                        completion: Some(entry),
                    }),
                },
            }
        }
        pairs
    }

    /// From when to when each fault lasted, in microseconds; one that was never healed lasts to the
    /// end.
    pub fn faults(&self) -> Vec<FaultWindow> {
        let mut windows: Vec<FaultWindow> = Vec::new();
        let end = self.entries.last().map_or(0, |entry| entry.time_us);
        for entry in &self.entries {
            let Operation::Fault { nemesis, healed, members } = &entry.operation else { continue };
            if !*healed {
                let (nemesis, members) = (nemesis.clone(), members.clone());
                windows.push(FaultWindow { nemesis, members, begin_us: entry.time_us, end_us: end });
            } else if let Some(window) = windows.iter_mut().rev().find(|window| window.nemesis == *nemesis) {
                window.end_us = entry.time_us;
            }
        }
        windows
    }
}

/// What the lines up to here demand of the next one.
#[derive(Default)]
struct Order {
    time_us: u64,
    under_way: BTreeMap<Process, Operation>,
}

impl Order {
    fn admits(&mut self, entry: &Entry) -> Result<(), String> {
        if entry.time_us < self.time_us {
            return Err(format!("time_us goes back from {} to {}", self.time_us, entry.time_us));
        }
        self.time_us = entry.time_us;
        if entry.process == NEMESIS {
            return Ok(());
        }
        let process = entry.process;
        match (entry.kind, self.under_way.remove(&process)) {
            (Kind::Invoke, Some(_)) => Err(format!("process {process} has an operation under way already")),
            (Kind::Invoke, None) => {
                self.under_way.insert(process, entry.operation.asked());
                Ok(())
            }
            (_, Some(asked)) if asked != entry.operation.asked() => {
                Err(format!("process {process} asked something else: {asked:?}"))
            }
            _ => Ok(()),
        }
    }
}

/// A fault, from its beginning to its end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FaultWindow {
    /// Which.
    pub nemesis: String,
    /// Whom it concerned.
    pub members: Vec<u64>,
    /// From.
    pub begin_us: u64,
    /// To.
    pub end_us: u64,
}

/// Writes a history down while it happens. Cheap to clone; for one thread.
#[derive(Clone, Debug)]
pub struct Recorder {
    inner: Rc<RefCell<Inner>>,
    started: Instant,
}

#[derive(Debug)]
struct Inner {
    history: History,
    file: Option<BufWriter<File>>,
    completed: u64,
}

impl Recorder {
    /// Starts a history now; into a file as well, if given.
    ///
    /// # Errors
    /// [`HistoryError`]: the file cannot be made.
    pub fn start(path: Option<&Path>) -> Result<Recorder, HistoryError> {
        let file = match path {
            Some(path) => Some(BufWriter::new(File::create(path).map_err(|source| HistoryError {
                path: path.into(),
                line: None,
                reason: source.to_string(),
            })?)),
            None => None,
        };
        let inner = Inner { history: History::default(), file, completed: 0 };
        Ok(Recorder { inner: Rc::new(RefCell::new(inner)), started: Instant::now() })
    }

    /// How long this history has lasted.
    pub fn elapsed(&self) -> Duration {
        self.started.elapsed()
    }

    /// How many operations were completed with `ok`.
    pub fn completed(&self) -> u64 {
        self.inner.borrow().completed
    }

    /// An operation begins.
    pub fn invoke(&self, process: Process, operation: Operation) {
        self.note(process, Kind::Invoke, operation, None, None);
    }

    /// It happened.
    pub fn ok(&self, process: Process, operation: Operation, zxid: Option<u64>) {
        self.note(process, Kind::Ok, operation, zxid, None);
    }

    /// It did not happen.
    pub fn fail(&self, process: Process, operation: Operation, zxid: Option<u64>, error: String) {
        self.note(process, Kind::Fail, operation, zxid, Some(error));
    }

    /// Unknown.
    pub fn info(&self, process: Process, operation: Operation, error: Option<String>) {
        self.note(process, Kind::Info, operation, None, error);
    }

    fn note(
        &self,
        process: Process,
        kind: Kind,
        operation: Operation,
        zxid: Option<u64>,
        error: Option<String>,
    ) {
        let mut inner = self.inner.borrow_mut();
        // The clock is read under the borrow: the order of entries is the order of times.
        let time_us = self.started.elapsed().as_micros() as u64;
        let entry = Entry { time_us, process, kind, operation, zxid, error };
        inner.completed += u64::from(kind == Kind::Ok);
        if let Some(file) = &mut inner.file {
            let line = serde_json::to_string(&entry).expect("an entry has only serialisable fields");
            if let Err(error) = writeln!(file, "{line}") {
                // A history that is not whole proves nothing.
                panic!("the history cannot be written: {error}");
            }
        }
        inner.history.entries.push(entry);
    }

    /// The history so far.
    ///
    /// # Errors
    /// [`HistoryError`]: its file could not be written to the end.
    pub fn finish(&self) -> Result<History, HistoryError> {
        let mut inner = self.inner.borrow_mut();
        if let Some(file) = &mut inner.file {
            file.flush().map_err(|source| HistoryError {
                path: PathBuf::from("history"),
                line: None,
                reason: source.to_string(),
            })?;
        }
        Ok(inner.history.clone())
    }
}
