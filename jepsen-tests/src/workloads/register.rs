//! Registers: linearizable reads, writes and compare-and-sets of a few nodes by many clients.

use futures_util::FutureExt;
use futures_util::future::LocalBoxFuture;
use quorate::ErrorKind;

use super::{Arena, Noted, Workload, parse};
use crate::checkers::Checker;
use crate::checkers::linearizable::Linearizable;
use crate::history::{Operation, Process};

/// Keys for each worker: few, so that they meet; many enough for the search.
const KEYS_A_WORKER: u32 = 1;

/// See the file's comment.
#[derive(Clone, Copy, Debug)]
pub struct Register;

impl Workload for Register {
    fn name(&self) -> &'static str {
        "register"
    }

    fn about(&self) -> &'static str {
        "linearizable reads, writes and compare-and-sets (checker: linearizable, per key)"
    }

    fn prepare(&self, arena: Arena) -> LocalBoxFuture<'_, quorate::Result<()>> {
        async move {
            let client = arena.connect().await?;
            client.ensure_path("/register").await?;
            for key in 0..keys(&arena) {
                client.create(&path(key), "0").await?;
            }
            client.close().await
        }
        .boxed_local()
    }

    fn work(&self, arena: Arena, process: Process, mut random: fastrand::Rng) -> LocalBoxFuture<'_, ()> {
        async move {
            let mut count = 0;
            while !arena.stop.get() {
                let Ok(client) = arena.connect().await else { continue };
                // The versions that this worker saw last: what it compares with.
                let mut versions = vec![0; keys(&arena) as usize];
                while !arena.stop.get() {
                    arena.pace(&mut random).await;
                    count += 1;
                    let key = random.u32(..keys(&arena));
                    // Unique in the run, so that every value tells which write made it.
                    let value = u64::from(process) << 32 | count;
                    let ended = match random.u32(..10) {
                        0..5 => read(&arena, &client, process, key, &mut versions).await,
                        5..7 => write(&arena, &client, process, key, value, &mut versions).await,
                        _ => compare_and_set(&arena, &client, process, key, value, &mut versions).await,
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
            let mut versions = vec![0; keys(&arena) as usize];
            for key in 0..keys(&arena) {
                read(&arena, &client, 0, key, &mut versions).await;
            }
            client.close().await
        }
        .boxed_local()
    }

    fn checkers(&self) -> Vec<Box<dyn Checker>> {
        vec![Box::new(Linearizable { initial: (0, 0) })]
    }
}

fn keys(arena: &Arena) -> u32 {
    (arena.workers * KEYS_A_WORKER).max(1)
}

fn path(key: u32) -> String {
    format!("/register/{key}")
}

/// Reads; returns whether the client is of no more use.
async fn read(
    arena: &Arena,
    client: &quorate::Client,
    process: Process,
    key: u32,
    versions: &mut [i32],
) -> bool {
    let noted = arena
        .note(process, Operation::Read { key, value: None }, client.get(&path(key)).send(), |node| {
            let value = parse(node.data.as_deref()).map(|value| (value, node.stat.version));
            (Operation::Read { key, value }, Some(node.zxid.0))
        })
        .await;
    if let Noted::Ok(node) = &noted {
        versions[key as usize] = node.stat.version;
    }
    matches!(noted, Noted::Ended)
}

async fn write(
    arena: &Arena,
    client: &quorate::Client,
    process: Process,
    key: u32,
    value: u64,
    versions: &mut [i32],
) -> bool {
    let call = client.set(&path(key), value.to_string()).send();
    let noted = arena
        .note(process, Operation::Write { key, value, version: None }, call, |stat| {
            (Operation::Write { key, value, version: Some(stat.version) }, Some(stat.mzxid.0))
        })
        .await;
    if let Noted::Ok(stat) = &noted {
        versions[key as usize] = stat.version;
    }
    matches!(noted, Noted::Ended)
}

/// A refusal because of the version is an answer: the register did not have it.
async fn compare_and_set(
    arena: &Arena,
    client: &quorate::Client,
    process: Process,
    key: u32,
    value: u64,
    versions: &mut [i32],
) -> bool {
    let expected = versions[key as usize];
    let told = |applied| Operation::CompareAndSet { key, expected, value, applied };
    let sent = client.set(&path(key), value.to_string()).version(expected).send();
    let call = async {
        match sent.await {
            Ok(stat) => Ok((Some(stat), stat.mzxid.0)),
            Err(quorate::Error::Refused { error, zxid }) if error.kind == ErrorKind::BadVersion => {
                Ok((None, zxid.0))
            }
            Err(error) => Err(error),
        }
    };
    let noted =
        arena.note(process, told(None), call, |(stat, zxid)| (told(Some(stat.is_some())), Some(*zxid))).await;
    if let Noted::Ok((Some(stat), _)) = &noted {
        versions[key as usize] = stat.version;
    }
    matches!(noted, Noted::Ended)
}
