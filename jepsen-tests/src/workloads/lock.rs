//! A lock with fencing: holders write under their token, some of them long after they gave the lock
//! up, as a process does that was suspended at the wrong moment. Those must not get through.

use futures_util::FutureExt;
use futures_util::future::LocalBoxFuture;
use quorate::{Client, ErrorKind, Zxid, recipes};

use super::{Arena, Noted, Workload};
use crate::checkers::{Checker, fencing};
use crate::history::{Operation, Process};

const LOCK: &str = "/lock";
pub(super) const RESOURCE: &str = "/resource";

/// See the file's comment.
#[derive(Clone, Copy, Debug)]
pub struct Lock;

impl Workload for Lock {
    fn name(&self) -> &'static str {
        "lock"
    }

    fn about(&self) -> &'static str {
        "takes a lock, writes under its token, also late (checker: fencing)"
    }

    fn prepare(&self, arena: Arena) -> LocalBoxFuture<'_, quorate::Result<()>> {
        async move {
            let client = arena.connect().await?;
            client.ensure_path(LOCK).await?;
            client.ensure_path(RESOURCE).await?;
            client.close().await
        }
        .boxed_local()
    }

    fn work(&self, arena: Arena, process: Process, mut random: fastrand::Rng) -> LocalBoxFuture<'_, ()> {
        async move {
            while !arena.stop.get() {
                let Ok(client) = arena.connect().await else { continue };
                let lock = recipes::Lock::new(&client, LOCK).data(process.to_string());
                while !arena.stop.get() {
                    arena.pace(&mut random).await;
                    let noted = arena
                        .note(process, Operation::Acquire { token: None }, lock.acquire(), |guard| {
                            (Operation::Acquire { token: Some(guard.token().0) }, Some(guard.token().0))
                        })
                        .await;
                    let guard = match noted {
                        Noted::Ok(guard) => guard,
                        Noted::Refused(_) => continue,
                        Noted::Ended => break,
                    };
                    let token = guard.token();
                    let mut ended = false;
                    for _ in 0..random.u32(1..4) {
                        ended |= act(&arena, &client, process, LOCK, token).await;
                    }
                    let release = Operation::Release { token: token.0 };
                    let noted =
                        arena.note(process, release.clone(), guard.release(), |()| (release, None)).await;
                    ended |= matches!(noted, Noted::Ended);
                    // The late write of a holder that does not know what it has lost.
                    if !ended && random.u32(..4) == 0 {
                        ended = act(&arena, &client, process, LOCK, token).await;
                    }
                    if ended {
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
        vec![Box::new(fencing::Fencing)]
    }
}

/// Writes under the token; a guard that does not hold is an answer.
pub(super) async fn act(arena: &Arena, client: &Client, process: Process, lock: &str, token: Zxid) -> bool {
    let told = |accepted| Operation::UseLock { token: token.0, accepted };
    let sent = client.transaction().guard_lock(lock, token).set(RESOURCE, token.to_string()).send();
    let call = async {
        match sent.await {
            Ok(committed) => Ok((true, committed.zxid.0)),
            Err(quorate::Error::Refused { error, zxid }) if error.kind == ErrorKind::GuardFailed => {
                Ok((false, zxid.0))
            }
            Err(error) => Err(error),
        }
    };
    let noted =
        arena.note(process, told(None), call, |(accepted, zxid)| (told(Some(*accepted)), Some(*zxid))).await;
    matches!(noted, Noted::Ended)
}
