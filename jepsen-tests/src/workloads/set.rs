//! A set: every worker adds elements as nodes and now and then reads them all.

use futures_util::FutureExt;
use futures_util::future::LocalBoxFuture;

use super::{Arena, Noted, Session, Workload};
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
                if random.u32(..50) == 0 {
                    return read(&arena, session, process).await;
                }
                count += 1;
                let element = u64::from(process) << 32 | count;
                let path = format!("{PARENT}/{element}");
                let call = session.create(&path, String::new(), quorate::CreateMode::Persistent);
                let noted = arena
                    .note(process, Operation::Add { element }, call, |made| {
                        (Operation::Add { element }, Some(made.zxid))
                    })
                    .await;
                matches!(noted, Noted::Ended)
            };
            arena.operate(&mut random, step).await;
        }
        .boxed_local()
    }

    fn finish(&self, arena: Arena) -> LocalBoxFuture<'_, quorate::Result<()>> {
        async move {
            let client = arena.open().await?;
            read(&arena, &client, 0).await;
            client.close().await
        }
        .boxed_local()
    }

    fn checkers(&self) -> Vec<Box<dyn Checker>> {
        vec![Box::new(set::Set)]
    }
}

async fn read(arena: &Arena, client: &Session, process: Process) -> bool {
    let call = async {
        client.sync(PARENT).await?;
        client.list(PARENT).await
    };
    let noted = arena
        .note(process, Operation::ReadSet { elements: None }, call, |(names, zxid)| {
            // A name that is no element shows as one that nobody added.
            let elements = names.iter().map(|name| name.parse().unwrap_or(u64::MAX)).collect();
            (Operation::ReadSet { elements: Some(elements) }, Some(*zxid))
        })
        .await;
    matches!(noted, Noted::Ended)
}
