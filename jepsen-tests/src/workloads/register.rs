//! Registers: linearizable reads, writes and compare-and-sets of a few nodes by many clients.

use futures_util::FutureExt;
use futures_util::future::LocalBoxFuture;
use quorate::ErrorKind;

use super::door::{Seen, Session};
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

    fn doors(&self) -> &'static [super::Door] {
        super::BOTH_DOORS
    }

    fn prepare(&self, arena: Arena) -> LocalBoxFuture<'_, quorate::Result<()>> {
        async move {
            super::prepare_path(&arena, "/register").await?;
            let client = arena.open().await?;
            for key in 0..keys(&arena) {
                client.create(&path(key), "0".into(), quorate::CreateMode::Persistent).await?;
            }
            client.close().await
        }
        .boxed_local()
    }

    fn work(&self, arena: Arena, process: Process, mut random: fastrand::Rng) -> LocalBoxFuture<'_, ()> {
        async move {
            let mut count = 0;
            while !arena.stop.get() {
                let Ok(client) = arena.open().await else { continue };
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
            let client = arena.open().await?;
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
async fn read(arena: &Arena, client: &Session, process: Process, key: u32, versions: &mut [i32]) -> bool {
    let at = path(key);
    let noted = arena
        .note(process, Operation::Read { key, value: None }, client.get(&at), |seen| {
            (was_read(key, seen), Some(seen.zxid))
        })
        .await;
    if let Noted::Ok(seen) = &noted {
        versions[key as usize] = seen.version;
    }
    matches!(noted, Noted::Ended)
}

/// What is no number shows as one that nobody wrote.
fn was_read(key: u32, seen: &Seen) -> Operation {
    let value = parse(Some(&seen.data)).unwrap_or(u64::MAX);
    Operation::Read { key, value: Some((value, seen.version)) }
}

async fn write(
    arena: &Arena,
    client: &Session,
    process: Process,
    key: u32,
    value: u64,
    versions: &mut [i32],
) -> bool {
    let path = path(key);
    let call = client.set(&path, value.to_string(), -1);
    let noted = arena
        .note(process, Operation::Write { key, value, version: None }, call, |made| {
            (Operation::Write { key, value, version: Some(made.version) }, Some(made.zxid))
        })
        .await;
    if let Noted::Ok(made) = &noted {
        versions[key as usize] = made.version;
    }
    matches!(noted, Noted::Ended)
}

/// A refusal because of the version is an answer: the register did not have it.
async fn compare_and_set(
    arena: &Arena,
    client: &Session,
    process: Process,
    key: u32,
    value: u64,
    versions: &mut [i32],
) -> bool {
    let expected = versions[key as usize];
    let told = |applied| Operation::CompareAndSet { key, expected, value, applied };
    let call = async {
        match client.set(&path(key), value.to_string(), expected).await {
            Ok(made) => Ok((Some(made.version), made.zxid)),
            Err(quorate::Error::Refused { error, zxid }) if error.kind == ErrorKind::BadVersion => {
                Ok((None, zxid.0))
            }
            Err(error) => Err(error),
        }
    };
    let noted =
        arena.note(process, told(None), call, |(made, zxid)| (told(Some(made.is_some())), Some(*zxid))).await;
    if let Noted::Ok((Some(version), _)) = &noted {
        versions[key as usize] = *version;
    }
    matches!(noted, Noted::Ended)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checkers::Verdict;
    use crate::history::{Entry, History, Kind};

    #[test]
    fn data_that_is_no_number_is_no_register_that_anybody_wrote() {
        let judged = |data: &'static str| {
            let seen = Seen { data: data.into(), version: 0, zxid: 7 };
            let asked = (Kind::Invoke, Operation::Read { key: 1, value: None });
            let entries = [asked, (Kind::Ok, was_read(1, &seen))].map(|(kind, operation)| Entry {
                time_us: 0,
                process: 1,
                kind,
                operation,
                zxid: None,
                error: None,
            });
            Linearizable { initial: (0, 0) }.check(&History { entries: entries.into() })
        };
        assert!(judged("0").is_valid());
        for data in ["", "0x", "\u{fffd}"] {
            assert!(matches!(judged(data), Verdict::Invalid { .. }), "{data:?}");
        }
    }
}
