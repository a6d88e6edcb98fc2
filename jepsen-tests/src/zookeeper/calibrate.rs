//! Calibration: a harness that finds nothing wrong anywhere proves nothing. A real ZooKeeper serves
//! reads from the member that is asked, so they can be stale, and its lock recipe has no token that a
//! resource could check: both must be found, by the checkers that judge our own members.

use std::cell::Cell;
use std::path::Path;
use std::rc::Rc;
use std::time::Duration;

use quorate::CreateMode;

use super::ensemble::Ensemble;
use crate::checkers::fencing::Fencing;
use crate::checkers::linearizable::Linearizable;
use crate::checkers::{Checker, Verdict};
use crate::history::{History, Operation, Process, Recorder};
use crate::run::RunError;
use crate::workloads::{Arena, Door, Noted, Session, Workload, register::Register};

const LOCK: &str = "/lock";
const RESOURCE: &str = "/resource";
const WORKERS: u32 = 6;

/// What was found.
#[derive(Debug)]
pub struct Calibration {
    /// Of registers, read where the client is connected.
    pub stale_reads: Verdict,
    /// Of a lock whose holders show no token.
    pub unfenced_lock: Verdict,
}

impl Calibration {
    /// Whether both were found wrong.
    pub fn is_passed(&self) -> bool {
        let is_found = |verdict: &Verdict| matches!(verdict, Verdict::Invalid { .. });
        is_found(&self.stale_reads) && is_found(&self.unfenced_lock)
    }
}

/// Runs both on an ensemble of its own, each for so long; histories are kept in `folder`.
///
/// # Errors
/// [`RunError`]: there is no ZooKeeper, or it does not serve.
pub async fn run(length: Duration, folder: &Path) -> Result<Calibration, RunError> {
    std::fs::create_dir_all(folder)?;
    let ensemble = Ensemble::start().await?;
    let registers = work(&ensemble, length, &folder.join("register.jsonl"), Rc::new(Register)).await?;
    let locks = work(&ensemble, length, &folder.join("lock.jsonl"), Rc::new(UnfencedLock)).await?;
    Ok(Calibration {
        stale_reads: Linearizable { initial: (0, 0) }.check(&registers),
        unfenced_lock: Fencing.check(&locks),
    })
}

/// A workload while a follower now and then stands still.
async fn work(
    ensemble: &Ensemble,
    length: Duration,
    path: &Path,
    workload: Rc<dyn Workload>,
) -> Result<History, RunError> {
    let recorder = Recorder::start(Some(path))?;
    let arena = Arena {
        door: Door::Zookeeper,
        endpoints: ensemble.endpoints(),
        recorder: recorder.clone(),
        workers: WORKERS,
        rate: 100.0,
        stop: Rc::new(Cell::new(false)),
    };
    workload.prepare(arena.clone()).await?;
    let workers: Vec<_> = (1..=WORKERS)
        .map(|process| {
            let (workload, arena) = (workload.clone(), arena.clone());
            let random = fastrand::Rng::with_seed(u64::from(process));
            tokio::task::spawn_local(async move { workload.work(arena, process, random).await })
        })
        .collect();
    while recorder.elapsed() < length {
        tokio::time::sleep(Duration::from_secs(1)).await;
        for follower in ensemble.followers().await.into_iter().take(1) {
            ensemble.pause(follower, true)?;
            tokio::time::sleep(Duration::from_millis(700)).await;
            ensemble.pause(follower, false)?;
        }
    }
    arena.stop.set(true);
    for worker in workers {
        if let Err(error) = worker.await {
            std::panic::resume_unwind(error.into_panic());
        }
    }
    Ok(recorder.finish()?)
}

/// ZooKeeper's lock recipe, and a resource that believes whoever writes to it.
struct UnfencedLock;

impl Workload for UnfencedLock {
    fn name(&self) -> &'static str {
        "unfenced-lock"
    }

    fn about(&self) -> &'static str {
        "a lock without tokens"
    }

    fn prepare(&self, arena: Arena) -> futures_util::future::LocalBoxFuture<'_, quorate::Result<()>> {
        Box::pin(async move {
            let session = arena.open().await?;
            session.ensure_path(LOCK).await?;
            session.ensure_path(RESOURCE).await?;
            session.close().await
        })
    }

    fn work(
        &self,
        arena: Arena,
        process: Process,
        mut random: fastrand::Rng,
    ) -> futures_util::future::LocalBoxFuture<'_, ()> {
        Box::pin(async move {
            while !arena.stop.get() {
                let Ok(session) = arena.open().await else { continue };
                while !arena.stop.get() && !hold(&arena, &session, process, &mut random).await {
                    arena.pace(&mut random).await;
                }
                // A session that is over already needs no end.
                let _ = session.close().await;
            }
        })
    }

    fn finish(&self, _: Arena) -> futures_util::future::LocalBoxFuture<'_, quorate::Result<()>> {
        Box::pin(async { Ok(()) })
    }

    fn checkers(&self) -> Vec<Box<dyn Checker>> {
        vec![Box::new(Fencing)]
    }
}

/// Takes the lock, writes, gives it up, and now and then writes once more: as a holder does that was
/// suspended in between. Returns whether the session is of no more use.
async fn hold(arena: &Arena, session: &Session, process: Process, random: &mut fastrand::Rng) -> bool {
    let noted = arena
        .note(process, Operation::Acquire { token: None }, acquire(arena, session), |(_, token)| {
            (Operation::Acquire { token: Some(*token) }, Some(*token))
        })
        .await;
    let Noted::Ok((path, token)) = noted else { return true };
    let mut ended = act(arena, session, process, token).await;
    let release = Operation::Release { token };
    let noted = arena.note(process, release.clone(), session.delete(&path), |()| (release, None)).await;
    ended |= matches!(noted, Noted::Ended);
    if !ended && random.u32(..4) == 0 {
        ended = act(arena, session, process, token).await;
    }
    ended
}

/// The recipe: a sequential ephemeral, and waiting until it is the first.
async fn acquire(arena: &Arena, session: &Session) -> quorate::Result<(String, u64)> {
    let mode = CreateMode::EphemeralSequential;
    let made = session.create(&format!("{LOCK}/lock-"), String::new(), mode).await?;
    let own = made.path.rsplit('/').next().unwrap_or_default().to_owned();
    loop {
        let (names, _) = session.list(LOCK).await?;
        if names.iter().min() == Some(&own) {
            return Ok((made.path, made.zxid));
        }
        if arena.stop.get() {
            return Err(quorate::Error::Closed);
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

async fn act(arena: &Arena, session: &Session, process: Process, token: u64) -> bool {
    let told = |accepted| Operation::UseLock { token, accepted };
    let write = session.set(RESOURCE, token.to_string(), -1);
    let noted = arena.note(process, told(None), write, |made| (told(Some(true)), Some(made.zxid))).await;
    matches!(noted, Noted::Ended)
}
