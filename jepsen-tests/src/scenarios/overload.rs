//! Far more writes at once than the members can do, for long: nobody is elected, memory stays
//! bounded, no write that was accepted is lost, and the members are themselves again afterwards.

use std::cell::Cell;
use std::rc::Rc;
use std::time::{Duration, Instant};

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use quorate::Client;

use super::{Failure, Measured, ensure, in_time};
use crate::cluster::{Cluster, Options, admin};

/// Clients at work.
const CLIENTS: u64 = 24;
/// Sets that each keeps under way.
const UNDER_WAY: usize = 1024;
/// Znodes that each client sets, over and over.
const ZNODES: u64 = 32;
/// Between two looks at terms, memory and progress.
const LOOK: Duration = Duration::from_secs(1);
/// No progress for so long is a stall.
const STALL: Duration = Duration::from_secs(5);

/// Runs the scenario for that long.
///
/// # Errors
/// [`Failure`] says what broke.
pub async fn run(time: Duration) -> Result<Measured, Failure> {
    let cluster = Cluster::start(Options::members(3)).await?;
    let before = terms(&cluster).await?;
    let done = Rc::new(Cell::new(0_u64));
    let stop = Rc::new(Cell::new(false));
    let clients: Vec<_> = (1..=CLIENTS)
        .map(|client| {
            let endpoints = cluster.endpoints();
            tokio::task::spawn_local(write(endpoints, client, done.clone(), stop.clone()))
        })
        .collect();

    let started = Instant::now();
    let (mut progress, mut slowest) = ((0, started), Duration::ZERO);
    let mut resident = Vec::new();
    while started.elapsed() < time {
        tokio::time::sleep(LOOK).await;
        if done.get() > progress.0 {
            slowest = slowest.max(progress.1.elapsed());
            progress = (done.get(), Instant::now());
        }
        ensure(progress.1.elapsed() < STALL, || format!("no write for {STALL:?} after {}", done.get()))?;
        let largest = cluster.ids().into_iter().filter_map(|id| cluster.member(id).resident_kib()).max();
        resident.push(largest.unwrap_or(0) / 1024);
    }
    let took = started.elapsed().as_secs_f64();
    stop.set(true);
    let mut acknowledged = Vec::new();
    for client in clients {
        let written = in_time("a client ends", client)
            .await?
            .map_err(|error| Failure::Broken(format!("a client panicked: {error}")))??;
        acknowledged.push(written);
    }

    let after = terms(&cluster).await?;
    ensure(before == after, || format!("terms {before:?} became {after:?}: somebody was elected"))?;
    let reader = Client::builder().endpoints(cluster.endpoints()).connect().await?;
    for (client, versions) in (1..=CLIENTS).zip(&acknowledged) {
        for (znode, version) in versions.iter().enumerate() {
            let stat = reader.exists(&path(client, znode as u64)).await?;
            ensure(stat.as_ref().is_some_and(|stat| stat.version == *version), || {
                format!("{}: {stat:?}, acknowledged up to version {version}", path(client, znode as u64))
            })?;
        }
    }
    reader.close().await?;

    let mut measured = Measured::default();
    measured.note(format!(
        "{} sets in {took:.0} s ({:.0}/s) with {} under way, the longest wait for any {slowest:?}",
        done.get(),
        done.get() as f64 / took,
        CLIENTS as usize * UNDER_WAY
    ));
    measured.note(format!("no election: terms stayed {after:?}"));
    let quarter = resident.len() / 4;
    let peak = |range: &[u64]| range.iter().max().copied().unwrap_or(0);
    measured.note(format!(
        "resident memory of the largest member: peak {} MiB in the first quarter, {} MiB in the last",
        peak(&resident[..quarter]),
        peak(&resident[resident.len() - quarter..])
    ));
    cluster.wait_digests_agree(Duration::from_secs(30)).await?;
    measured.note("every acknowledged set is there; the digests of all members agree");
    ensure(cluster.panics().is_empty(), || format!("{:?}", cluster.panics()))?;
    Ok(measured)
}

fn path(client: u64, znode: u64) -> String {
    format!("/overload/{client}/{znode}")
}

/// Sets znodes until told to stop; the version that each was last acknowledged with.
async fn write(
    endpoints: Vec<String>,
    id: u64,
    done: Rc<Cell<u64>>,
    stop: Rc<Cell<bool>>,
) -> Result<Vec<i32>, Failure> {
    let client = Client::builder().endpoints(endpoints).connect().await?;
    client.ensure_path(&format!("/overload/{id}")).await?;
    for znode in 0..ZNODES {
        client.create(&path(id, znode), "").await?;
    }
    let client = &client;
    let set = |number: u64| async move {
        let znode = number % ZNODES;
        let data = number.to_string();
        loop {
            match client.set(&path(id, znode), data.clone()).await {
                Ok(stat) => return Ok((znode, stat.version)),
                Err(error) if error.is_retryable() => tokio::time::sleep(Duration::from_millis(50)).await,
                Err(error) => return Err(error),
            }
        }
    };
    let mut versions = vec![0; ZNODES as usize];
    let mut under_way: FuturesUnordered<_> = (0..UNDER_WAY as u64).map(set).collect();
    let mut next = UNDER_WAY as u64;
    while let Some(outcome) = under_way.next().await {
        let (znode, version) = outcome?;
        versions[znode as usize] = versions[znode as usize].max(version);
        done.set(done.get() + 1);
        if !stop.get() {
            under_way.push(set(next));
            next += 1;
        }
    }
    client.clone().close().await?;
    Ok(versions)
}

/// Every member's term.
async fn terms(cluster: &Cluster) -> Result<Vec<u64>, Failure> {
    let mut terms = Vec::new();
    for id in cluster.ids() {
        let status = admin::status(&cluster.member(id).client).await.map_err(Failure::Broken)?;
        terms.push(status.term);
    }
    Ok(terms)
}
