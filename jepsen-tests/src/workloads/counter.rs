//! A counter: read, add one, set if the version is still the same.

use futures_util::FutureExt;
use futures_util::future::LocalBoxFuture;

use super::door::Session;
use super::{Arena, Noted, Workload, parse};
use crate::checkers::{Checker, counter};
use crate::history::{Operation, Process};

const COUNTER: &str = "/counter";

/// See the file's comment.
#[derive(Clone, Copy, Debug)]
pub struct Counter;

impl Workload for Counter {
    fn name(&self) -> &'static str {
        "counter"
    }

    fn about(&self) -> &'static str {
        "increments by version (checker: counter: each counts once, reads never fall behind)"
    }

    fn doors(&self) -> &'static [super::Door] {
        super::BOTH_DOORS
    }

    fn prepare(&self, arena: Arena) -> LocalBoxFuture<'_, quorate::Result<()>> {
        async move {
            let session = arena.open().await?;
            session.create(COUNTER, "0".into(), quorate::CreateMode::Persistent).await?;
            session.close().await
        }
        .boxed_local()
    }

    fn work(&self, arena: Arena, process: Process, mut random: fastrand::Rng) -> LocalBoxFuture<'_, ()> {
        async move {
            let step = async |session: &Session, random: &mut fastrand::Rng| match random.u32(..4) {
                0 => read(&arena, session, process).await,
                _ => increment(&arena, session, process).await,
            };
            arena.operate(&mut random, step).await;
        }
        .boxed_local()
    }

    fn finish(&self, arena: Arena) -> LocalBoxFuture<'_, quorate::Result<()>> {
        async move {
            let session = arena.open().await?;
            read(&arena, &session, 0).await;
            session.close().await
        }
        .boxed_local()
    }

    fn checkers(&self) -> Vec<Box<dyn Checker>> {
        vec![Box::new(counter::Counter)]
    }
}

/// A version that has changed is a refusal: nothing was added.
async fn increment(arena: &Arena, session: &Session, process: Process) -> bool {
    let call = async {
        let seen = session.get(COUNTER).await?;
        // What is no number shows as a value that nobody can have reached.
        let next = parse(Some(&seen.data)).unwrap_or(u64::MAX / 2) + 1;
        let made = session.set(COUNTER, next.to_string(), seen.version).await?;
        Ok((next, made.zxid))
    };
    let noted = arena
        .note(process, Operation::Increment { value: None }, call, |(value, zxid)| {
            (Operation::Increment { value: Some(*value) }, Some(*zxid))
        })
        .await;
    matches!(noted, Noted::Ended)
}

async fn read(arena: &Arena, session: &Session, process: Process) -> bool {
    let call = async {
        session.sync(COUNTER).await?;
        session.get(COUNTER).await
    };
    let noted = arena
        .note(process, Operation::ReadCounter { value: None }, call, |seen| {
            let value = Some(parse(Some(&seen.data)).unwrap_or(u64::MAX));
            (Operation::ReadCounter { value }, Some(seen.zxid))
        })
        .await;
    matches!(noted, Noted::Ended)
}
