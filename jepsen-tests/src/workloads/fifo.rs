//! The order of a session: many writes and reads on their way at once, the reads from whatever member
//! the session is attached to. Each sees what was sent before it and nothing of what was sent behind
//! it, or says that it cannot any more; and nothing goes back.

use futures_util::FutureExt;
use futures_util::future::LocalBoxFuture;
use quorate::{Client, Consistency};

use super::{Arena, Noted, Workload, parse};
use crate::checkers::{Checker, session_order};
use crate::history::{Operation, Process};

const PARENT: &str = "/fifo";
/// Requests on their way at once.
const LENGTH: usize = 12;

/// See the file's comment.
#[derive(Clone, Copy, Debug)]
pub struct Fifo;

impl Workload for Fifo {
    fn name(&self) -> &'static str {
        "fifo"
    }

    fn about(&self) -> &'static str {
        "pipelined writes and local reads (checker: session-order: read your writes, never back)"
    }

    fn prepare(&self, arena: Arena) -> LocalBoxFuture<'_, quorate::Result<()>> {
        async move {
            super::prepare_path(&arena, PARENT).await?;
            let client = arena.connect().await?;
            for process in 1..=arena.workers {
                client.create(&path(process), "0").await?;
            }
            client.close().await
        }
        .boxed_local()
    }

    fn work(&self, arena: Arena, process: Process, mut random: fastrand::Rng) -> LocalBoxFuture<'_, ()> {
        async move {
            let mut number = 0;
            while !arena.stop.get() {
                let Ok(client) = arena.connect().await else { continue };
                while !arena.stop.get() {
                    // A pipeline counts as many operations.
                    for _ in 0..LENGTH / 2 {
                        arena.pace(&mut random).await;
                    }
                    let sent: Vec<Option<u64>> = (0..LENGTH)
                        .map(|_| {
                            let writes = random.bool();
                            number += u64::from(writes);
                            writes.then_some(number)
                        })
                        .collect();
                    if send(&arena, &client, process, sent).await {
                        break;
                    }
                }
            }
        }
        .boxed_local()
    }

    fn finish(&self, _: Arena) -> LocalBoxFuture<'_, quorate::Result<()>> {
        async { Ok(()) }.boxed_local()
    }

    fn checkers(&self) -> Vec<Box<dyn Checker>> {
        vec![Box::new(session_order::SessionOrder)]
    }
}

/// One pipeline; returns whether the client is of no more use.
async fn send(arena: &Arena, client: &Client, process: Process, sent: Vec<Option<u64>>) -> bool {
    let session = client.session_id().0;
    let asked = Operation::Pipeline { session, sent: sent.clone(), told: None };
    let path = path(process);
    let call = async {
        // All are queued before the first answer is awaited.
        let queued: Vec<_> = sent
            .iter()
            .map(|number| match number {
                Some(number) => {
                    let set = client.set(&path, number.to_string()).send();
                    async { set.await.map(|stat| Some((stat.mzxid.0, None))) }.boxed_local()
                }
                None => {
                    let get = client.get(&path).consistency(Consistency::Session).send();
                    // What is no number shows as one that nobody wrote.
                    let told = |data: Option<&[u8]>| Some(parse(data).unwrap_or(u64::MAX));
                    async move {
                        match get.await {
                            Ok(node) => Ok(Some((node.zxid.0, told(node.data.as_deref())))),
                            // The rest of the pipeline is as good as ever.
                            Err(quorate::Error::Overtaken) => Ok(None),
                            Err(error) => Err(error),
                        }
                    }
                    .boxed_local()
                }
            })
            .collect();
        let mut answers = Vec::new();
        for answer in queued {
            answers.push(answer.await?);
        }
        Ok(answers)
    };
    let noted = arena
        .note(process, asked, call, |told| {
            (Operation::Pipeline { session, sent: sent.clone(), told: Some(told.clone()) }, None)
        })
        .await;
    matches!(noted, Noted::Ended)
}

fn path(process: Process) -> String {
    format!("{PARENT}/{process}")
}
