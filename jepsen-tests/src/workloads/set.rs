//! A set: every worker adds elements as nodes and now and then reads them all.

use futures_util::FutureExt;
use futures_util::future::LocalBoxFuture;

use super::{Arena, Noted, Workload};
use crate::checkers::{Checker, set};
use crate::history::{Operation, Process};

const PARENT: &str = "/set";

/// See the file's comment.
#[derive(Clone, Copy, Debug)]
pub struct Set;

impl Workload for Set {
    fn name(&self) -> &'static str {
        "set"
    }

    fn about(&self) -> &'static str {
        "adds elements, reads them all (checker: set: what was acknowledged is there, nothing else)"
    }

    fn prepare(&self, arena: Arena) -> LocalBoxFuture<'_, quorate::Result<()>> {
        async move {
            let client = arena.connect().await?;
            client.ensure_path(PARENT).await?;
            client.close().await
        }
        .boxed_local()
    }

    fn work(&self, arena: Arena, process: Process, mut random: fastrand::Rng) -> LocalBoxFuture<'_, ()> {
        async move {
            let mut count = 0;
            while !arena.stop.get() {
                let Ok(client) = arena.connect().await else { continue };
                while !arena.stop.get() {
                    arena.pace(&mut random).await;
                    let ended = if random.u32(..50) == 0 {
                        read(&arena, &client, process).await
                    } else {
                        count += 1;
                        let element = u64::from(process) << 32 | count;
                        let call = client.create(&format!("{PARENT}/{element}"), "").send();
                        let noted = arena
                            .note(process, Operation::Add { element }, call, |created| {
                                (Operation::Add { element }, Some(created.stat.czxid.0))
                            })
                            .await;
                        matches!(noted, Noted::Ended)
                    };
                    if ended {
                        break;
                    }
                }
            }
        }
        .boxed_local()
    }

    fn finish(&self, arena: Arena) -> LocalBoxFuture<'_, quorate::Result<()>> {
        async move {
            let client = arena.connect().await?;
            read(&arena, &client, 0).await;
            client.close().await
        }
        .boxed_local()
    }

    fn checkers(&self) -> Vec<Box<dyn Checker>> {
        vec![Box::new(set::Set)]
    }
}

async fn read(arena: &Arena, client: &quorate::Client, process: Process) -> bool {
    let call = client.list(PARENT).send();
    let noted = arena
        .note(process, Operation::ReadSet { elements: None }, call, |list| {
            // A name that is no element shows as one that nobody added.
            let elements = list.names().map(|name| name.parse().unwrap_or(u64::MAX)).collect();
            (Operation::ReadSet { elements: Some(elements) }, Some(list.zxid.0))
        })
        .await;
    matches!(noted, Noted::Ended)
}
