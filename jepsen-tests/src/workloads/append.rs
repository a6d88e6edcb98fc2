//! Lists: transactions read some and append to some, all at once or not at all.
//!
//! A list is a node. A transaction reads the nodes first and then commits only if none has changed
//! since: what it read was so at the moment at which it took effect, and strict serializability is
//! promised for all of it.

use futures_util::FutureExt;
use futures_util::future::LocalBoxFuture;
use quorate::{CreateMode, ErrorKind};

use super::door::{Change, Session};
use super::{Arena, Noted, Workload};
use crate::checkers::{Checker, append};
use crate::history::{Operation, Process, Step};

const PARENT: &str = "/append";
/// Lists in use at a time.
const LISTS: u32 = 4;
/// Transactions of one worker after which the next lists are used: so lists stay short.
const TURN: u32 = 12;

/// See the file's comment.
#[derive(Clone, Copy, Debug)]
pub struct Append;

impl Workload for Append {
    fn name(&self) -> &'static str {
        "append"
    }

    fn about(&self) -> &'static str {
        "transactions that read lists and append to them (checker: append: strictly serializable)"
    }

    fn doors(&self) -> &'static [super::Door] {
        super::BOTH_DOORS
    }

    fn prepare(&self, arena: Arena) -> LocalBoxFuture<'_, quorate::Result<()>> {
        async move { super::prepare_path(&arena, PARENT).await }.boxed_local()
    }

    fn work(&self, arena: Arena, process: Process, mut random: fastrand::Rng) -> LocalBoxFuture<'_, ()> {
        async move {
            let mut count = 0;
            let step = async |session: &Session, random: &mut fastrand::Rng| {
                count += 1;
                let first = count / TURN * LISTS;
                let mut lists: Vec<u32> = (first..first + LISTS).collect();
                random.shuffle(&mut lists);
                lists.truncate(random.usize(1..4));
                let steps = lists.into_iter().enumerate().map(|(index, list)| {
                    // Unique in the run, so that every element tells who appended it.
                    let element = u64::from(process) << 32 | u64::from(count) << 2 | index as u64;
                    Step { list, before: None, append: (random.u32(..3) > 0).then_some(element) }
                });
                let asked = Operation::Transaction { steps: steps.collect() };
                transact(&arena, session, process, asked).await
            };
            arena.operate(&mut random, step).await;
        }
        .boxed_local()
    }

    fn finish(&self, arena: Arena) -> LocalBoxFuture<'_, quorate::Result<()>> {
        async move {
            let session = arena.open().await?;
            session.sync(PARENT).await?;
            let (names, _) = session.list(PARENT).await?;
            for list in names.iter().filter_map(|name| name.parse().ok()) {
                let steps = vec![Step { list, before: None, append: None }];
                transact(&arena, &session, 0, Operation::Transaction { steps }).await;
            }
            session.close().await
        }
        .boxed_local()
    }

    fn checkers(&self) -> Vec<Box<dyn Checker>> {
        vec![Box::new(append::Append)]
    }
}

/// One transaction; returns whether the session is of no more use.
async fn transact(arena: &Arena, session: &Session, process: Process, asked: Operation) -> bool {
    let Operation::Transaction { steps } = asked.clone() else { return false };
    let call = async {
        let mut told = Vec::new();
        let mut changes = Vec::new();
        for step in steps {
            let (before, version) = read(session, step.list).await?;
            let path = path(step.list);
            changes.push(match step.append {
                Some(element) => {
                    let all = before.iter().chain([&element]).map(u64::to_string);
                    Change::Set(path, all.collect::<Vec<_>>().join(","), version)
                }
                None => Change::Check(path, version),
            });
            told.push(Step { before: Some(before), ..step });
        }
        Ok((Operation::Transaction { steps: told }, session.transaction(changes).await?))
    };
    let noted = arena.note(process, asked, call, |(told, zxid)| (told.clone(), Some(*zxid))).await;
    matches!(noted, Noted::Ended)
}

/// A list and its version; made if it is missing.
async fn read(session: &Session, list: u32) -> quorate::Result<(Vec<u64>, i32)> {
    loop {
        match session.get(&path(list)).await {
            Ok(seen) => {
                let text = String::from_utf8_lossy(&seen.data);
                // What is no number shows as an element that nobody appended.
                let elements = text.split(',').filter(|text| !text.is_empty());
                let list = elements.map(|text| text.parse().unwrap_or(u64::MAX)).collect();
                return Ok((list, seen.version));
            }
            Err(error) if error.kind() == ErrorKind::NoNode => {
                match session.create(&path(list), String::new(), CreateMode::Persistent).await {
                    Err(error) if error.kind() != ErrorKind::NodeExists => return Err(error),
                    _ => {}
                }
            }
            Err(error) => return Err(error),
        }
    }
}

fn path(list: u32) -> String {
    format!("{PARENT}/{list}")
}
