//! Sequential creates by many clients, retried through every fault: unique numbers, none lost, none
//! applied twice.

use futures_util::FutureExt;
use futures_util::future::LocalBoxFuture;
use quorate::CreateMode;

use super::{Arena, Noted, Workload, number_of, parse};
use crate::checkers::{Checker, sequence};
use crate::history::{Operation, Process};

const PARENT: &str = "/sequence";

/// See the file's comment.
#[derive(Clone, Copy, Debug)]
pub struct Sequence;

impl Workload for Sequence {
    fn name(&self) -> &'static str {
        "sequence"
    }

    fn about(&self) -> &'static str {
        "sequential creates with retries (checker: sequence: unique, growing, none lost, none twice)"
    }

    fn prepare(&self, arena: Arena) -> LocalBoxFuture<'_, quorate::Result<()>> {
        async move { super::prepare_path(&arena, PARENT).await }.boxed_local()
    }

    fn work(&self, arena: Arena, process: Process, mut random: fastrand::Rng) -> LocalBoxFuture<'_, ()> {
        async move {
            let mut count = 0;
            while !arena.stop.get() {
                let Ok(client) = arena.connect().await else { continue };
                while !arena.stop.get() {
                    arena.pace(&mut random).await;
                    count += 1;
                    let tag = u64::from(process) << 32 | count;
                    let create = client.create(&format!("{PARENT}/n-"), tag.to_string());
                    let call = create.mode(CreateMode::PersistentSequential).send();
                    let noted = arena
                        .note(process, Operation::Sequence { tag, number: None }, call, |created| {
                            let number = number_of(&created.path);
                            (Operation::Sequence { tag, number }, Some(created.stat.czxid.0))
                        })
                        .await;
                    if matches!(noted, Noted::Ended) {
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
            let call = client.list(PARENT).with_data().send();
            let asked = Operation::ReadSequence { nodes: None };
            arena
                .note(0, asked, call, |list| {
                    let nodes = list.children.iter().map(|child| {
                        // What cannot be read shows as a tag that nobody used.
                        let tag = parse(child.data.as_deref()).unwrap_or(u64::MAX);
                        (number_of(&child.name).unwrap_or(u64::MAX), tag)
                    });
                    (Operation::ReadSequence { nodes: Some(nodes.collect()) }, Some(list.zxid.0))
                })
                .await;
            client.close().await
        }
        .boxed_local()
    }

    fn checkers(&self) -> Vec<Box<dyn Checker>> {
        vec![Box::new(sequence::Sequence)]
    }
}
