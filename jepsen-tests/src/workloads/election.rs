//! An election: candidates lead, act under their token and resign, or die; observers ask who leads.

use futures_util::FutureExt;
use futures_util::future::LocalBoxFuture;
use quorate::recipes;

use super::{Arena, Noted, Workload, lock};
use crate::checkers::{Checker, fencing, leadership};
use crate::history::{Operation, Process};

const ELECTION: &str = "/election";
/// Every third worker observes.
const OBSERVERS: u32 = 3;

/// See the file's comment.
#[derive(Clone, Copy, Debug)]
pub struct Election;

impl Workload for Election {
    fn name(&self) -> &'static str {
        "election"
    }

    fn about(&self) -> &'static str {
        "candidates lead, act, resign; others ask who leads (checkers: fencing, leadership)"
    }

    fn prepare(&self, arena: Arena) -> LocalBoxFuture<'_, quorate::Result<()>> {
        async move {
            super::prepare_path(&arena, ELECTION).await?;
            super::prepare_path(&arena, lock::RESOURCE).await
        }
        .boxed_local()
    }

    fn work(&self, arena: Arena, process: Process, mut random: fastrand::Rng) -> LocalBoxFuture<'_, ()> {
        async move {
            while !arena.stop.get() {
                let Ok(client) = arena.connect().await else { continue };
                let election = recipes::Election::new(&client, ELECTION);
                while !arena.stop.get() {
                    arena.pace(&mut random).await;
                    let ended = match process % OBSERVERS {
                        0 => observe(&arena, &election, process).await,
                        _ => lead(&arena, &client, &election, process, &mut random).await,
                    };
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
        vec![Box::new(fencing::Fencing), Box::new(leadership::Leadership)]
    }
}

async fn observe(arena: &Arena, election: &recipes::Election, process: Process) -> bool {
    let noted = arena
        .note(process, Operation::Observe { token: None }, election.leader(), |leader| {
            let token = leader.as_ref().map_or(0, |leader| leader.token.0);
            (Operation::Observe { token: Some(token) }, None)
        })
        .await;
    matches!(noted, Noted::Ended)
}

/// Waits to lead, acts, resigns.
async fn lead(
    arena: &Arena,
    client: &quorate::Client,
    election: &recipes::Election,
    process: Process,
    random: &mut fastrand::Rng,
) -> bool {
    let noted = arena
        .note(
            process,
            Operation::Acquire { token: None },
            election.campaign(process.to_string()),
            |leadership| {
                let token = Some(leadership.token().0);
                (Operation::Acquire { token }, token)
            },
        )
        .await;
    let leadership = match noted {
        Noted::Ok(leadership) => leadership,
        Noted::Refused(_) => return false,
        Noted::Ended => return true,
    };
    let token = leadership.token();
    let mut ended = false;
    for _ in 0..random.u32(1..5) {
        ended |= lock::act(arena, client, process, ELECTION, token).await;
    }
    let release = Operation::Release { token: token.0 };
    let noted = arena.note(process, release.clone(), leadership.resign(), |()| (release, None)).await;
    ended || matches!(noted, Noted::Ended)
}
