//! Watches: the first worker changes nodes, the others watch them all; no event may be lost, repeated
//! or out of order, whatever happens to the members in between.
//!
//! A watcher whose session ends takes a new one and goes on behind the last event that it heard. The
//! changing worker ends with one last change; watchers end when they have heard it.

use std::cell::Cell;
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::LocalBoxFuture;
use quorate::{Client, CreateMode, ErrorKind, NodeEvent, Position, Value, WatchEvent};

use super::{Arena, Noted, Workload, parse};
use crate::checkers::{Checker, watch};
use crate::history::{Operation, Process, Recorder};

const PARENT: &str = "/watch";
const NODES: u32 = 5;
/// The worker that makes the changes.
const WRITER: Process = 1;
/// How often a quiet watcher looks whether it has heard the last change.
const LOOK: Duration = Duration::from_millis(50);

/// See the file's comment.
#[derive(Debug, Default)]
pub struct Watch {
    /// The last change's transaction, once it is acknowledged.
    last: Cell<Option<u64>>,
}

impl Workload for Watch {
    fn name(&self) -> &'static str {
        "watch"
    }

    fn about(&self) -> &'static str {
        "one worker changes nodes, the others watch (checker: watch: none lost, repeated, out of order)"
    }

    fn prepare(&self, arena: Arena) -> LocalBoxFuture<'_, quorate::Result<()>> {
        async move {
            let client = arena.connect().await?;
            for node in 0..NODES {
                client.ensure_path(&path(node)).await?;
            }
            client.close().await
        }
        .boxed_local()
    }

    fn work(&self, arena: Arena, process: Process, mut random: fastrand::Rng) -> LocalBoxFuture<'_, ()> {
        async move {
            if process == WRITER {
                self.change(&arena, &mut random).await;
            } else {
                self.listen(&arena, process).await;
            }
        }
        .boxed_local()
    }

    fn finish(&self, _: Arena) -> LocalBoxFuture<'_, quorate::Result<()>> {
        async { Ok(()) }.boxed_local()
    }

    fn checkers(&self) -> Vec<Box<dyn Checker>> {
        vec![Box::new(watch::Watch)]
    }
}

impl Watch {
    async fn change(&self, arena: &Arena, random: &mut fastrand::Rng) {
        let mut number = 0;
        while self.last.get().is_none() {
            let Ok(client) = arena.connect().await else { continue };
            loop {
                let is_last = arena.stop.get();
                number += 1;
                let node = random.u32(..NODES);
                let change = Operation::Change { node, number };
                // Sets and creates in turn: both kinds of events, with the number as the value.
                let call = async {
                    match random.bool() {
                        true => client.set(&path(node), number.to_string()).await.map(|stat| stat.mzxid),
                        false => client
                            .create(&format!("{}/c-", path(node)), number.to_string())
                            .mode(CreateMode::PersistentSequential)
                            .await
                            .map(|created| created.stat.czxid),
                    }
                };
                let told = change.clone();
                match arena.note(WRITER, change, call, |zxid| (told, Some(zxid.0))).await {
                    Noted::Ok(zxid) if is_last => {
                        self.last.set(Some(zxid.0));
                        return;
                    }
                    Noted::Ok(_) | Noted::Refused(_) => {}
                    Noted::Ended => break,
                }
                arena.pace(random).await;
            }
        }
    }

    async fn listen(&self, arena: &Arena, process: Process) {
        let mut reached: Option<Position> = None;
        loop {
            let Ok(client) = arena.connect().await else { continue };
            let since = match reached {
                Some(position) => position,
                None => match client.get(PARENT).await {
                    Ok(node) => {
                        let since = Some(node.zxid.0);
                        arena.recorder.ok(process, Operation::Watch { since }, since);
                        Position::after(node.zxid)
                    }
                    Err(_) => continue,
                },
            };
            reached = Some(since);
            let mut watch = match client.watch(PARENT).recursive().with_value().since(since).await {
                Ok(watch) => watch,
                Err(error) if error.kind() == ErrorKind::WatchGap => {
                    reached = goes_on_behind(&arena.recorder, &client, process).await.or(reached);
                    continue;
                }
                Err(_) => continue,
            };
            loop {
                if let (Some(last), Some(position)) = (self.last.get(), reached)
                    && position.zxid.0 >= last
                {
                    arena.recorder.ok(process, Operation::Caught, None);
                    return;
                }
                match tokio::time::timeout(LOOK, watch.next()).await {
                    Err(_) => {}
                    Ok(Some(Ok(WatchEvent::Node(event)))) => {
                        reached = Some(event.position);
                        note(&arena.recorder, process, &event);
                    }
                    Ok(Some(Ok(WatchEvent::Gap(position)))) => {
                        reached = Some(position);
                        arena.recorder.ok(process, Operation::Gap, Some(position.zxid.0));
                    }
                    Ok(Some(Err(_)) | None) => break,
                }
            }
        }
    }
}

/// After a gap: from now on. Returns nothing if the client is of no more use.
async fn goes_on_behind(recorder: &Recorder, client: &Client, process: Process) -> Option<Position> {
    let zxid = client.get(PARENT).await.ok()?.zxid;
    recorder.ok(process, Operation::Gap, Some(zxid.0));
    Some(Position::after(zxid))
}

fn note(recorder: &Recorder, process: Process, event: &NodeEvent) {
    // What cannot be understood shows as a change that nobody made.
    let node = event.path.split('/').nth(2).and_then(|name| name.parse().ok()).unwrap_or(u32::MAX);
    let number = match &event.value {
        Some(Value::Kept(data)) => parse(data.as_deref()).unwrap_or(u64::MAX),
        _ => u64::MAX,
    };
    let heard = Operation::Event { node, number, ordinal: event.position.ordinal };
    recorder.ok(process, heard, Some(event.position.zxid.0));
}

fn path(node: u32) -> String {
    format!("{PARENT}/{node}")
}
