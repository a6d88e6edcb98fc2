//! Ephemeral nodes: sessions make some, live for a while, and end by closing or by falling silent;
//! others look which nodes are there.
//!
//! A session that falls silent is one whose client is gone with its whole runtime, as when its
//! machine lost power: nobody says goodbye, and the members must find out. A session that a fault took
//! from its client, or whose client gave up waiting, ends silently too.

use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::LocalBoxFuture;
use quorate::{Client, CreateMode};
use tokio::sync::oneshot;

use super::{Arena, Noted, SESSION_TIMEOUT, Workload};
use crate::checkers::Checker;
use crate::checkers::ephemeral::{self, LAST_PATIENCE};
use crate::history::{Operation, Process};

const PARENT: &str = "/ephemeral";
/// Looks a life.
const LOOKS: u32 = 12;

/// See the file's comment.
#[derive(Clone, Copy, Debug)]
pub struct Ephemeral;

impl Workload for Ephemeral {
    fn name(&self) -> &'static str {
        "ephemeral"
    }

    fn about(&self) -> &'static str {
        "sessions with ephemerals close or fall silent (checker: ephemeral: there while they live, then gone)"
    }

    fn prepare(&self, arena: Arena) -> LocalBoxFuture<'_, quorate::Result<()>> {
        async move { super::prepare_path(&arena, PARENT).await }.boxed_local()
    }

    fn work(&self, arena: Arena, process: Process, mut random: fastrand::Rng) -> LocalBoxFuture<'_, ()> {
        async move {
            let mut count = 0;
            while !arena.stop.get() {
                count += 1;
                // What names this life: the member's number is known only once there is one.
                let session = u64::from(process) << 32 | count;
                match random.u32(..4) {
                    0 => silent_life(&arena, process, session, &mut random).await,
                    _ => life(&arena, process, session, &mut random).await,
                }
            }
        }
        .boxed_local()
    }

    fn finish(&self, arena: Arena) -> LocalBoxFuture<'_, quorate::Result<()>> {
        async move {
            let client = arena.connect().await?;
            let started = tokio::time::Instant::now();
            while started.elapsed() < LAST_PATIENCE && !client.list(PARENT).await?.children.is_empty() {
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
            read(&arena, &client, 0, 0).await;
            client.close().await
        }
        .boxed_local()
    }

    fn checkers(&self) -> Vec<Box<dyn Checker>> {
        vec![Box::new(ephemeral::Ephemeral)]
    }
}

async fn life(arena: &Arena, process: Process, session: u64, random: &mut fastrand::Rng) {
    let Ok(client) = arena.connect().await else { return };
    if live(arena, &client, process, session, random).await {
        let end = Operation::EndSession { session, closes: false };
        arena.recorder.invoke(process, end.clone());
        // Nobody keeps the session alive from here on. What is left of the client says goodbye in the
        // next seconds, if it still can.
        drop(client);
        arena.recorder.ok(process, end, None);
        return;
    }
    let end = Operation::EndSession { session, closes: true };
    arena.note(process, end.clone(), client.close(), |()| (end, None)).await;
}

/// Makes some nodes and looks now and then; returns whether the client is of no more use.
async fn live(
    arena: &Arena,
    client: &Client,
    process: Process,
    session: u64,
    random: &mut fastrand::Rng,
) -> bool {
    for _ in 0..random.u32(1..4) {
        let name = random.u64(..);
        let asked = Operation::CreateEphemeral { name, session };
        let told = asked.clone();
        let noted = arena.note(process, asked, create(client, name), |zxid| (told, Some(*zxid))).await;
        if matches!(noted, Noted::Ended) {
            return true;
        }
    }
    for _ in 0..random.u32(1..LOOKS) {
        arena.pace(random).await;
        if arena.stop.get() {
            break;
        }
        if read(arena, client, process, session).await {
            return true;
        }
    }
    false
}

/// The client lives and dies in a thread of its own.
async fn silent_life(arena: &Arena, process: Process, session: u64, random: &mut fastrand::Rng) {
    let name = random.u64(..);
    let (told, hears) = oneshot::channel();
    let (dies, death) = oneshot::channel::<()>();
    let endpoints = arena.endpoints.clone();
    let thread = std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let client = runtime.block_on(async {
            let builder = Client::builder().endpoints(endpoints).session_timeout(SESSION_TIMEOUT);
            let client = builder.connect_timeout(super::ANSWER_PATIENCE / 2).connect().await;
            let created = match &client {
                Ok(client) => create(client, name).await,
                Err(error) => Err(error.clone()),
            };
            // The worker may have given up; then the life ends at once.
            if told.send(created).is_ok() {
                let _ = death.await;
            }
            client
        });
        // With the runtime goes the session's machinery: nobody is left to say goodbye.
        runtime.shutdown_background();
        drop(client);
        std::io::Result::Ok(())
    });
    let asked = Operation::CreateEphemeral { name, session };
    let created = async { hears.await.unwrap_or(Err(quorate::Error::OutcomeUnknown)) };
    let noted = arena.note(process, asked.clone(), created, |zxid| (asked, Some(*zxid))).await;
    if matches!(noted, Noted::Ok(_)) {
        tokio::time::sleep(Duration::from_millis(random.u64(..1_500))).await;
    }
    drop(dies);
    let end = Operation::EndSession { session, closes: false };
    let ended = async {
        let joined = tokio::task::spawn_blocking(move || thread.join()).await;
        match joined {
            Ok(Ok(Ok(()))) => Ok(()),
            other => Err(quorate::Error::Protocol(format!("the silent client: {other:?}"))),
        }
    };
    arena.note(process, end.clone(), ended, |()| (end, None)).await;
}

async fn create(client: &Client, name: u64) -> quorate::Result<u64> {
    let create = client.create(&format!("{PARENT}/{name}"), "").mode(CreateMode::Ephemeral);
    create.await.map(|created| created.stat.czxid.0)
}

async fn read(arena: &Arena, client: &Client, process: Process, session: u64) -> bool {
    let told = |names| Operation::ReadEphemerals { session, names };
    let noted = arena
        .note(process, told(None), client.list(PARENT).send(), |list| {
            // A name that is none of ours shows as one that nobody made.
            let names = list.names().map(|name| name.parse().unwrap_or(u64::MAX)).collect();
            (told(Some(names)), Some(list.zxid.0))
        })
        .await;
    matches!(noted, Noted::Ended)
}
