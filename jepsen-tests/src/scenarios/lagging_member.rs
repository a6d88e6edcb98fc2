//! A member stands still while the others write past the end of the log that they keep; clients hang
//! on it all the while, with writes under way and watches of every kind. It installs a snapshot, and
//! no reply and no event is lost.

use std::time::{Duration, Instant};

use quorate::proto::znodes_client::ZnodesClient;
use quorate::{Client, CreateMode, WatchEvent, proto};

use super::load::number_of;
use super::{Failure, Measured, ensure, in_time};
use crate::cluster::{Cluster, Options, admin};

/// The one that stands still.
const LAGGARD: u64 = 3;
/// Bytes of each value written meanwhile.
const VALUE: usize = 20_000;
/// How many; together well beyond the log that is kept.
const VALUES: usize = 600;
/// Bytes and count of the values written besides, to one node: more than what fits between two
/// members while one of them does not read (HTTP/2's windows, the kernel's buffers).
const BULK: (usize, usize) = (500_000, 80);
/// Writes that hang in the laggard's client.
const PENDING: u64 = 50;

/// Runs the scenario.
///
/// # Errors
/// [`Failure`] says what broke.
pub async fn run() -> Result<Measured, Failure> {
    let options = Options::members(3).flag("--checkpoint-log-mb", 1).flag("--checkpoint-seconds", 1);
    let mut cluster = Cluster::start(options).await?;
    if cluster.leader().await? == LAGGARD {
        let moved = cluster.quorate(&["cluster", "transfer", "1"]).await?;
        ensure(moved.status.success(), || String::from_utf8_lossy(&moved.stderr).into_owned())?;
    }
    let far = [cluster.member(1).client.clone(), cluster.member(2).client.clone()];
    let near = [cluster.member(LAGGARD).client.clone()];
    let others = Client::builder().endpoints(far).connect().await?;
    let session =
        Client::builder().endpoints(near.clone()).session_timeout(Duration::from_secs(40)).connect().await?;
    others.create("/events", "").await?;
    others.create("/bulk", "").await?;
    others.create("/once", "").await?;
    session.create("/mine", "").mode(CreateMode::Ephemeral).await?;

    // Every kind of watch, and one without a session.
    let mut recursive = session.watch("/events").recursive().capacity(10 * VALUES).await?;
    let mut persistent = session.watch("/events").capacity(10 * VALUES).await?;
    let (_, data) = session.get("/once").and_watch().await?;
    let (_, child) = session.list("/once").and_watch().await?;
    let (_, exists) = session.exists("/later").and_watch().await?;
    let channel = admin::channel(&cluster.member(LAGGARD).client).await.map_err(Failure::Broken)?;
    let request = proto::WatchRequest {
        path: "/events".into(),
        kind: proto::WatchKind::Recursive as i32,
        ..proto::WatchRequest::default()
    };
    let watching = ZnodesClient::new(channel).watch(request).await;
    let mut unary = watching.map_err(|status| Failure::Broken(status.to_string()))?.into_inner();
    let before = admin::status(&cluster.member(LAGGARD).client).await.map_err(Failure::Broken)?;

    cluster.pause(LAGGARD)?;
    let paused_at = Instant::now();
    // Unanswered until the member goes on: these must take effect once, and be answered.
    let pending: Vec<_> = (0..PENDING)
        .map(|_| session.create("/mine-", "").mode(CreateMode::EphemeralSequential).send())
        .collect();
    others.set("/once", "changed").await?;
    others.create("/once/child", "").await?;
    others.create("/later", "").await?;
    for number in 0..VALUES {
        others.create(&format!("/events/{number:04}"), vec![b'x'; VALUE]).await?;
    }
    for _ in 0..BULK.1 {
        others.set("/bulk", vec![b'z'; BULK.0]).await?;
    }
    wait_for_purge(&cluster, before.applied_index).await?;
    let lag = paused_at.elapsed();
    ensure(lag < Duration::from_secs(35), || format!("too slow for the session's timeout: {lag:?}"))?;
    cluster.resume(LAGGARD)?;

    let mut numbers = Vec::new();
    for create in pending {
        let created = in_time("a reply to a pending write", create).await??;
        numbers.extend(number_of(&created.path));
    }
    let mut unique = numbers.clone();
    unique.sort_unstable();
    unique.dedup();
    ensure(unique.len() as u64 == PENDING, || format!("{PENDING} writes made {numbers:?}"))?;
    let mine = session.ephemerals().await?;
    ensure(mine.len() as u64 == PENDING + 1, || format!("{} ephemerals", mine.len()))?;

    let mut heard = Vec::new();
    for _ in 0..VALUES {
        match in_time("an event of the recursive watch", recursive.next()).await? {
            Some(Ok(WatchEvent::Node(event))) => heard.push(event.path),
            other => return Err(Failure::Broken(format!("after {} events: {other:?}", heard.len()))),
        }
    }
    let expected: Vec<String> = (0..VALUES).map(|number| format!("/events/{number:04}")).collect();
    ensure(heard == expected, || format!("the recursive watch heard {heard:?}"))?;
    for number in 0..VALUES {
        match in_time("an event of the persistent watch", persistent.next()).await? {
            Some(Ok(WatchEvent::Node(event))) if event.path == "/events" => {}
            other => return Err(Failure::Broken(format!("after {number} events: {other:?}"))),
        }
    }
    in_time("the data watch", data).await??;
    in_time("the child watch", child).await??;
    in_time("the exists watch", exists).await??;

    // A stream without a session cannot resume by itself: it says why it ended.
    let ended = in_time("the stream without a session ends", async {
        loop {
            match unary.message().await {
                Ok(Some(_)) => {}
                Ok(None) => return "in good order".to_owned(),
                Err(status) => return status.message().to_owned(),
            }
        }
    });
    let ended = ended.await?;
    ensure(ended.contains("snapshot"), || format!("no snapshot was installed; the stream ended: {ended}"))?;
    cluster.wait_digests_agree(Duration::from_secs(30)).await?;
    session.close().await?;
    others.close().await?;

    let mut measured = Measured::default();
    measured.note(format!(
        "after {} s and {} MB a snapshot was installed; {PENDING} replies, {} events and three one-shot watches arrived, each once",
        lag.as_secs(),
        (VALUE * VALUES + BULK.0 * BULK.1) / 1_000_000,
        2 * VALUES
    ));
    ensure(cluster.panics().is_empty(), || format!("{:?}", cluster.panics()))?;
    Ok(measured)
}

/// Waits until the running members' logs no longer have the entry behind `index`, writing a little so
/// that there is something to checkpoint. A leader keeps what it is just sending to a peer, so this
/// also waits until it has given the silent one up.
async fn wait_for_purge(cluster: &Cluster, index: u64) -> Result<(), Failure> {
    let client = Client::builder().endpoints([cluster.member(1).client.clone()]).connect().await?;
    let purged = in_time("the log is purged", async {
        loop {
            client.set("/bulk", vec![b'y'; VALUE]).await?;
            let mut purged = u64::MAX;
            for id in cluster.running() {
                let status = admin::status(&cluster.member(id).client).await.map_err(Failure::Broken)?;
                purged = purged.min(status.purged_index);
            }
            if purged > index {
                return Ok::<(), Failure>(());
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    });
    purged.await??;
    client.close().await?;
    Ok(())
}
