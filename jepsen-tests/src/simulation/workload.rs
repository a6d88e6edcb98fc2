//! What simulated clients do: the operations of all workloads, mixed, on one tree.
//!
//! Each slot does one operation at a time and notes it in the simulation's history, which the
//! checkers of the real runs judge at the end. A client has several slots on one session, so that
//! its requests are pipelined.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use quorate_core::acl::AclEntry;
use quorate_core::command::{Create, Guard, MultiOperation, Operation as Command};
use quorate_core::error::ErrorKind;
use quorate_core::id::Zxid;
use quorate_core::reply::{ReadReply, ReadResult, WriteReply, WriteResult};
use quorate_core::request::{Consistency, ReadRequest};
use quorate_core::znode::CreateMode;
use quorate_server::coordinator::Coordinator;
use tokio::sync::watch;
use tokio::time::sleep;

use super::client::{Asker, Lost};
use super::verdicts::{Diary, Verdicts};
use super::watcher::WATCHED;
use crate::history::{Kind, Operation, Process};

/// Registers.
pub const REGISTERS: u32 = 4;
/// Watched nodes.
const WATCHED_NODES: u32 = 3;
const LOCK: &str = "/lock";
const RESOURCE: &str = "/resource";
/// Written through each member in turn, to see that each serves.
const PROBE: &str = "/probe";
const SEQUENCE: &str = "/sequence";
const SET: &str = "/set";
const EPHEMERALS: &str = "/ephemerals";
const PAIR: [&str; 2] = ["/pair-a", "/pair-b"];

/// One operation at a time of one session.
#[derive(Clone)]
pub struct Slot {
    /// In the history.
    pub process: Process,
    /// Its session.
    pub asker: Asker,
    /// Chooses.
    pub random: fastrand::Rng,
    /// The history.
    pub diary: Diary,
    /// Where wrong answers go.
    pub verdicts: Verdicts,
    /// True once the slot must finish.
    pub stop: watch::Receiver<bool>,
    /// The last change of a watched node.
    pub last_change: Arc<AtomicU64>,
    /// The session's registers as last seen: what compare-and-sets go by.
    pub seen: Arc<Mutex<[i32; REGISTERS as usize]>>,
    /// Pause between operations, at most.
    pub pause_max: Duration,
}

/// How an operation ended, for the history.
enum Ended {
    Ok(Operation, Option<u64>),
    Fail(String),
    Unknown,
}

impl From<Lost> for Ended {
    fn from(lost: Lost) -> Ended {
        match lost {
            Lost::Unknown => Ended::Unknown,
            Lost::NotDone => Ended::Fail("never done: the session was attached anew".into()),
        }
    }
}

fn create(path: impl Into<String>, data: impl Into<String>, mode: CreateMode) -> Create {
    let data = Some(Bytes::from(data.into()));
    Create { path: path.into(), data, acl: AclEntry::open(), mode }
}

fn set(path: impl Into<String>, data: impl Into<String>, version: i32) -> Command {
    Command::SetData { path: path.into(), data: Some(Bytes::from(data.into())), version }
}

fn get(path: impl Into<String>) -> ReadRequest {
    ReadRequest::Get { path: path.into(), watch: None }
}

fn list(path: impl Into<String>, with_data: bool) -> ReadRequest {
    let (path, after, watch) = (path.into(), None, None);
    ReadRequest::List { path, after, limit: 0, with_stat: true, with_data, watch }
}

fn number(data: Option<&Bytes>) -> Option<u64> {
    std::str::from_utf8(data?).ok()?.parse().ok()
}

/// The number at the end of a sequential node's name.
fn number_of(name: &str) -> Option<u64> {
    name.get(name.len().checked_sub(10)?..)?.parse().ok()
}

/// Makes the nodes that all slots work on; repeats what is not known to be done.
pub async fn prepare(asker: &Asker) {
    let mut nodes: Vec<(String, &str)> = vec![
        (SEQUENCE.into(), ""),
        (SET.into(), ""),
        (LOCK.into(), ""),
        (RESOURCE.into(), "0"),
        (PROBE.into(), ""),
        (EPHEMERALS.into(), ""),
        (WATCHED.into(), ""),
    ];
    nodes.extend(PAIR.map(|path| (path.to_owned(), "0")));
    nodes.extend((0..REGISTERS).map(|key| (register(key), "0")));
    nodes.extend((0..WATCHED_NODES).map(|node| (format!("{WATCHED}/{node}"), "0")));
    for (path, data) in nodes {
        while asker.write(Command::Create(create(path.clone(), data, CreateMode::Persistent))).await.is_err()
        {
        }
    }
}

/// Writes through one member, as a call without a session, until that succeeds.
pub async fn probe(coordinator: Coordinator) {
    while coordinator.write(Vec::new(), set(PROBE, "", -1), None).await.is_err() {
        sleep(Duration::from_millis(100)).await;
    }
}

fn register(key: u32) -> String {
    format!("/register-{key}")
}

impl Slot {
    /// Works until told to stop.
    pub async fn run(mut self) {
        while !*self.stop.borrow() {
            let pause = self.random.u64(..=self.pause_max.as_micros() as u64);
            tokio::select! {
                biased;
                _ = self.stop.changed() => continue,
                () = sleep(Duration::from_micros(pause)) => {}
            }
            match self.random.u32(..100) {
                0..12 => self.read_register(Consistency::Linearizable).await,
                12..18 => self.read_register(Consistency::Session).await,
                18..32 => self.write_register().await,
                32..42 => self.compare_and_set().await,
                42..60 => self.sequence().await,
                60..70 => self.add().await,
                70..73 => self.read_set().await,
                73..80 => self.pair().await,
                80..84 => self.ephemeral().await,
                84..94 => self.change().await,
                _ => self.lock().await,
            }
        }
    }

    /// What a judge asks when all is over.
    pub async fn read_all(&mut self) {
        self.read_sequence().await;
        self.read_set().await;
        for key in 0..REGISTERS {
            self.read_key(key, Consistency::Linearizable).await;
        }
    }

    /// A write of no meaning, to see that writes go through.
    pub async fn touch(&mut self) {
        self.write_register().await;
    }

    fn begin(&self, operation: Operation) {
        self.diary.note(self.process, Kind::Invoke, operation, None, None);
    }

    fn end(&self, asked: Operation, ended: Ended) {
        match ended {
            Ended::Ok(operation, zxid) => self.diary.note(self.process, Kind::Ok, operation, zxid, None),
            Ended::Fail(why) => self.diary.note(self.process, Kind::Fail, asked, None, Some(why)),
            Ended::Unknown => self.diary.note(self.process, Kind::Info, asked, None, None),
        }
    }

    /// Judges a write's answer: its result, or how else it ended.
    fn written(
        &self,
        answer: Result<WriteReply, Lost>,
        expected: &[ErrorKind],
    ) -> Result<(WriteResult, u64), Ended> {
        let reply = answer?;
        match reply.result {
            Ok(result) => Ok((result, reply.zxid.0)),
            Err(error) => {
                if !expected.contains(&error.kind) {
                    self.verdicts.violated("refusal", format_args!("a write that must succeed: {error}"));
                }
                Err(Ended::Fail(error.to_string()))
            }
        }
    }

    fn was_read(&self, answer: Result<ReadReply, Lost>) -> Result<(ReadResult, u64), Ended> {
        let reply = answer?;
        match reply.result {
            Ok(result) => Ok((result, reply.zxid.0)),
            Err(error) => {
                if !error.kind.is_retryable() {
                    self.verdicts.violated("refusal", format_args!("a read that must succeed: {error}"));
                }
                Err(Ended::Fail(error.to_string()))
            }
        }
    }

    async fn read_register(&mut self, consistency: Consistency) {
        let key = self.random.u32(..REGISTERS);
        self.read_key(key, consistency).await;
    }

    async fn read_key(&mut self, key: u32, consistency: Consistency) {
        let asked = Operation::Read { key, value: None };
        // A session's read may be old: the linearizability of registers is not about it.
        let is_judged = consistency == Consistency::Linearizable;
        if is_judged {
            self.begin(asked.clone());
        }
        let answer = self.asker.read(get(register(key)), consistency).await;
        let ended = match self.was_read(answer) {
            Ok((ReadResult::Data { data, stat }, zxid)) => {
                self.seen.lock().unwrap_or_else(PoisonError::into_inner)[key as usize] = stat.version;
                let value = number(data.as_ref()).map(|value| (value, stat.version));
                Ended::Ok(Operation::Read { key, value }, Some(zxid))
            }
            Ok(_) => Ended::Unknown,
            Err(ended) => ended,
        };
        if is_judged {
            self.end(asked, ended);
        }
    }

    fn tag(&mut self) -> u64 {
        self.random.u64(1..1 << 48)
    }

    async fn write_register(&mut self) {
        let (key, value) = (self.random.u32(..REGISTERS), self.tag());
        let asked = Operation::Write { key, value, version: None };
        self.begin(asked.clone());
        let answer = self.asker.write(set(register(key), value.to_string(), -1)).await;
        let ended = match self.written(answer, &[]) {
            Ok((WriteResult::DataSet(stat), zxid)) => {
                Ended::Ok(Operation::Write { key, value, version: Some(stat.version) }, Some(zxid))
            }
            Ok(_) => Ended::Unknown,
            Err(ended) => ended,
        };
        self.end(asked, ended);
    }

    async fn compare_and_set(&mut self) {
        let (key, value) = (self.random.u32(..REGISTERS), self.tag());
        let expected = self.seen.lock().unwrap_or_else(PoisonError::into_inner)[key as usize];
        let asked = Operation::CompareAndSet { key, expected, value, applied: None };
        let told = |applied| Operation::CompareAndSet { key, expected, value, applied };
        self.begin(asked.clone());
        let answer = self.asker.write(set(register(key), value.to_string(), expected)).await;
        let ended = match answer {
            Ok(WriteReply { zxid, result: Err(error) }) if error.kind == ErrorKind::BadVersion => {
                Ended::Ok(told(Some(false)), Some(zxid.0))
            }
            answer => match self.written(answer, &[]) {
                Ok((_, zxid)) => Ended::Ok(told(Some(true)), Some(zxid)),
                Err(ended) => ended,
            },
        };
        self.end(asked, ended);
    }

    async fn sequence(&mut self) {
        let tag = self.tag();
        let asked = Operation::Sequence { tag, number: None };
        self.begin(asked.clone());
        let node = create(format!("{SEQUENCE}/n-"), tag.to_string(), CreateMode::PersistentSequential);
        let answer = self.asker.write(Command::Create(node)).await;
        let ended = match self.written(answer, &[]) {
            Ok((WriteResult::Created { path, .. }, zxid)) => {
                Ended::Ok(Operation::Sequence { tag, number: number_of(&path) }, Some(zxid))
            }
            Ok(_) => Ended::Unknown,
            Err(ended) => ended,
        };
        self.end(asked, ended);
    }

    async fn read_sequence(&mut self) {
        let asked = Operation::ReadSequence { nodes: None };
        self.begin(asked.clone());
        let answer = self.asker.read(list(SEQUENCE, true), Consistency::Linearizable).await;
        let ended = match self.was_read(answer) {
            Ok((ReadResult::Children { children, .. }, zxid)) => {
                let nodes = children.iter().map(|child| {
                    let tag = number(child.data.as_ref()).unwrap_or(u64::MAX);
                    (number_of(&child.name).unwrap_or(u64::MAX), tag)
                });
                Ended::Ok(Operation::ReadSequence { nodes: Some(nodes.collect()) }, Some(zxid))
            }
            Ok(_) => Ended::Unknown,
            Err(ended) => ended,
        };
        self.end(asked, ended);
    }

    async fn add(&mut self) {
        let element = self.tag();
        let asked = Operation::Add { element };
        self.begin(asked.clone());
        let node = create(format!("{SET}/{element}"), "", CreateMode::Persistent);
        let answer = self.asker.write(Command::Create(node)).await;
        let ended = match self.written(answer, &[]) {
            Ok((_, zxid)) => Ended::Ok(asked.clone(), Some(zxid)),
            Err(ended) => ended,
        };
        self.end(asked, ended);
    }

    async fn read_set(&mut self) {
        let asked = Operation::ReadSet { elements: None };
        self.begin(asked.clone());
        let answer = self.asker.read(list(SET, false), Consistency::Linearizable).await;
        let ended = match self.was_read(answer) {
            Ok((ReadResult::Children { children, .. }, zxid)) => {
                let elements = children.iter().map(|child| child.name.parse().unwrap_or(u64::MAX));
                Ended::Ok(Operation::ReadSet { elements: Some(elements.collect()) }, Some(zxid))
            }
            Ok(_) => Ended::Unknown,
            Err(ended) => ended,
        };
        self.end(asked, ended);
    }

    /// Sets two nodes in one transaction, or reads both in one step: they are always equal.
    async fn pair(&mut self) {
        if self.random.bool() {
            let tag = self.tag().to_string();
            let both = PAIR.map(|path| MultiOperation::SetData {
                path: path.into(),
                data: Some(Bytes::from(tag.clone())),
                version: -1,
            });
            let answer = self.asker.write(Command::Multi(both.into())).await;
            drop(self.written(answer, &[]));
            return;
        }
        let both = ReadRequest::Multi(PAIR.map(get).into());
        let answer = self.asker.read(both, Consistency::Session).await;
        if let Ok((ReadResult::Multi(results), zxid)) = self.was_read(answer)
            && let [
                Ok(ReadResult::Data { data: one, stat: a }),
                Ok(ReadResult::Data { data: other, stat: b }),
            ] = results.as_slice()
            && (one, a.mzxid.max(Zxid(0))) != (other, b.mzxid.max(Zxid(0)))
            && (a.version, b.version) != (0, 0)
        {
            self.verdicts
                .violated("transaction", format_args!("half of one is seen at zxid {zxid}: {a:?} {b:?}"));
        }
    }

    async fn ephemeral(&mut self) {
        let path = format!("{EPHEMERALS}/{}", self.process);
        let operation = if self.random.bool() {
            Command::Create(create(path, "", CreateMode::Ephemeral))
        } else {
            Command::Delete { path, version: -1 }
        };
        let answer = self.asker.write(operation).await;
        drop(self.written(answer, &[ErrorKind::NodeExists, ErrorKind::NoNode]));
    }

    async fn change(&mut self) {
        let (node, change) = (self.random.u32(..WATCHED_NODES), self.tag());
        let asked = Operation::Change { node, number: change };
        self.begin(asked.clone());
        let answer = self.asker.write(set(format!("{WATCHED}/{node}"), change.to_string(), -1)).await;
        let ended = match self.written(answer, &[]) {
            Ok((_, zxid)) => {
                self.last_change.fetch_max(zxid, Ordering::Relaxed);
                Ended::Ok(asked.clone(), Some(zxid))
            }
            Err(ended) => ended,
        };
        self.end(asked, ended);
    }

    /// Queues for the lock; if it is granted at once, acts under it and gives it up, now and then too late.
    async fn lock(&mut self) {
        let asked = Operation::Acquire { token: None };
        self.begin(asked.clone());
        let contender = create(format!("{LOCK}/c-"), "", CreateMode::EphemeralSequential);
        let answer = self.asker.write(Command::Create(contender)).await;
        let (path, token) = match self.written(answer, &[]) {
            Ok((WriteResult::Created { path, stat }, _)) => (path, stat.czxid),
            Ok(_) => return self.end(asked, Ended::Unknown),
            Err(ended) => return self.end(asked, ended),
        };
        let first = self.asker.read(list(LOCK, false), Consistency::Linearizable).await;
        let is_held = match self.was_read(first) {
            Ok((ReadResult::Children { children, .. }, _)) => {
                children.first().is_some_and(|child| path.ends_with(&format!("/{}", child.name)))
            }
            _ => false,
        };
        if !is_held {
            self.end(asked, Ended::Fail("somebody else holds it".into()));
            let answer = self.asker.write(Command::Delete { path, version: -1 }).await;
            drop(self.written(answer, &[ErrorKind::NoNode]));
            return;
        }
        self.end(asked, Ended::Ok(Operation::Acquire { token: Some(token.0) }, Some(token.0)));
        for _ in 0..self.random.u32(1..4) {
            self.use_lock(token).await;
        }
        let released = Operation::Release { token: token.0 };
        self.begin(released.clone());
        let answer = self.asker.write(Command::Delete { path, version: -1 }).await;
        let ended = match self.written(answer, &[ErrorKind::NoNode]) {
            Ok((_, zxid)) => Ended::Ok(released.clone(), Some(zxid)),
            Err(ended) => ended,
        };
        self.end(released, ended);
        if self.random.u32(..4) == 0 {
            self.use_lock(token).await;
        }
    }

    async fn use_lock(&mut self, token: Zxid) {
        let told = |accepted| Operation::UseLock { token: token.0, accepted };
        self.begin(told(None));
        let guarded = vec![
            MultiOperation::Guard(Guard::Lock { path: LOCK.into(), token }),
            MultiOperation::SetData {
                path: RESOURCE.into(),
                data: Some(Bytes::from(token.0.to_string())),
                version: -1,
            },
        ];
        let answer = self.asker.write(Command::Multi(guarded)).await;
        let ended = match answer {
            Ok(WriteReply { zxid, result: Err(error) }) if error.kind == ErrorKind::GuardFailed => {
                Ended::Ok(told(Some(false)), Some(zxid.0))
            }
            answer => match self.written(answer, &[]) {
                Ok((_, zxid)) => Ended::Ok(told(Some(true)), Some(zxid)),
                Err(ended) => ended,
            },
        };
        self.end(told(None), ended);
    }
}
