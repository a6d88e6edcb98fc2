//! Nodes of one's own: each worker creates, sets and deletes nodes that nobody else touches. A retry
//! that took effect twice shows at once: "exists already", "is not there", a version too many; or at the
//! end, by the nodes that are there.

use futures_util::FutureExt;
use futures_util::future::LocalBoxFuture;

use super::{Arena, Noted, Workload};
use crate::checkers::{Checker, exactly_once};
use crate::history::{Act, Operation, Process};

const PARENT: &str = "/own";

/// See the file's comment.
#[derive(Clone, Copy, Debug)]
pub struct ExactlyOnce;

impl Workload for ExactlyOnce {
    fn name(&self) -> &'static str {
        "exactly-once"
    }

    fn about(&self) -> &'static str {
        "creates, sets, deletes nodes of its own (checker: exactly-once: no retry takes effect twice)"
    }

    fn prepare(&self, arena: Arena) -> LocalBoxFuture<'_, quorate::Result<()>> {
        async move { super::prepare_path(&arena, PARENT).await }.boxed_local()
    }

    fn work(&self, arena: Arena, process: Process, mut random: fastrand::Rng) -> LocalBoxFuture<'_, ()> {
        async move {
            let mut count = 0;
            while !arena.stop.get() {
                let Ok(client) = arena.connect().await else { continue };
                'session: while !arena.stop.get() {
                    count += 1;
                    let node = u64::from(process) << 32 | count;
                    let sets = random.usize(..6);
                    let acts = [Act::Create].into_iter().chain(vec![Act::Set; sets]).chain([Act::Delete]);
                    for act in acts {
                        arena.pace(&mut random).await;
                        match one(&arena, &client, process, node, act).await {
                            Noted::Ok(_) => {}
                            // The checker says whether that may be; this node is of no more use.
                            Noted::Refused(_) => continue 'session,
                            Noted::Ended => break 'session,
                        }
                    }
                }
            }
        }
        .boxed_local()
    }

    fn finish(&self, arena: Arena) -> LocalBoxFuture<'_, quorate::Result<()>> {
        async move {
            let client = arena.connect().await?;
            let asked = Operation::ReadSet { elements: None };
            arena
                .note(0, asked, client.list(PARENT).send(), |list| {
                    // A name that is none of ours shows as one that nobody made.
                    let there = list.names().map(|name| name.parse().unwrap_or(u64::MAX)).collect();
                    (Operation::ReadSet { elements: Some(there) }, Some(list.zxid.0))
                })
                .await;
            client.close().await
        }
        .boxed_local()
    }

    fn checkers(&self) -> Vec<Box<dyn Checker>> {
        vec![Box::new(exactly_once::ExactlyOnce)]
    }
}

async fn one(
    arena: &Arena,
    client: &quorate::Client,
    process: Process,
    node: u64,
    act: Act,
) -> Noted<(Option<i32>, u64)> {
    let path = format!("{PARENT}/{node}");
    let call = async {
        match act {
            Act::Create => client.create(&path, "").await.map(|created| (None, created.stat.czxid.0)),
            Act::Set => client.set(&path, "").await.map(|stat| (Some(stat.version), stat.mzxid.0)),
            Act::Delete => client.delete(&path).await.map(|zxid| (None, zxid.0)),
        }
    };
    let told = |version| Operation::Own { node, act, version };
    arena.note(process, told(None), call, |(version, zxid)| (told(*version), Some(*zxid))).await
}
