//! A session that was opened through member 1 goes on through member 2 when member 1 dies: it keeps
//! its ephemerals, and its recursive watch hears every change of a numbered sequence once.

use std::collections::BTreeMap;
use std::time::Duration;

use quorate::{Client, CreateMode, Position, SessionState, Value, WatchEvent};

use super::load::parse;
use super::{Failure, Measured, ensure, in_time};
use crate::cluster::{Cluster, Options};

/// Numbered changes before and after the kill.
const CHANGES: u64 = 100;

/// Runs the scenario.
///
/// # Errors
/// [`Failure`] says what broke.
pub async fn run() -> Result<Measured, Failure> {
    let mut cluster = Cluster::start(Options::members(3)).await?;
    let session = open_through(&cluster, 1, 2).await?;
    let id = session.session_id();
    session.create("/sequence", "").await?;
    session.create("/mine", "").await?;
    let mut mine = Vec::new();
    for name in ["/mine/a", "/mine/b", "/mine/c"] {
        mine.push(session.create(name, "mine").mode(CreateMode::Ephemeral).await?.path);
    }
    let mut watch = session.watch("/sequence").recursive().with_value().await?;

    // Somebody else makes the changes, through the member that is not hurt.
    let writer = Client::builder().endpoints([cluster.member(3).client.clone()]).connect().await?;
    let writing = tokio::task::spawn_local(async move {
        let mut zxids = BTreeMap::new();
        for number in 1..=2 * CHANGES {
            // Creates and sets in turn, so that both kinds cross the gap.
            let path = format!("/sequence/{:03}", number.div_ceil(2));
            let zxid = match number % 2 {
                1 => writer.create(&path, number.to_string()).await?.stat.czxid,
                _ => writer.set(&path, number.to_string()).await?.mzxid,
            };
            zxids.insert(number, zxid.0);
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        writer.close().await?;
        Ok::<_, quorate::Error>(zxids)
    });

    let mut heard: Vec<(u64, Position)> = Vec::new();
    let mut killed = false;
    let listening = async {
        while heard.last().is_none_or(|(number, _)| *number < 2 * CHANGES) {
            let event = match watch.next().await {
                Some(event) => event?,
                None => return Err(Failure::Broken("the watch ended".into())),
            };
            let WatchEvent::Node(event) = event else {
                return Err(Failure::Broken(format!("a gap after {} events: {event:?}", heard.len())));
            };
            let Some(Value::Kept(Some(data))) = &event.value else {
                return Err(Failure::Broken(format!("an event without its value: {event:?}")));
            };
            let number = parse(data).ok_or_else(|| Failure::Broken(format!("{event:?}")))?;
            heard.push((number, event.position));
            if number >= CHANGES && !killed {
                killed = true;
                cluster.kill(1)?;
            }
        }
        Ok::<(), Failure>(())
    };
    in_time("the watch hears the whole sequence", listening).await??;
    let zxids = in_time("the writer ends", writing)
        .await?
        .map_err(|error| Failure::Broken(format!("the writer panicked: {error}")))??;

    let expected: Vec<u64> = (1..=2 * CHANGES).collect();
    let numbers: Vec<u64> = heard.iter().map(|(number, _)| *number).collect();
    ensure(numbers == expected, || format!("heard {numbers:?}"))?;
    for (number, position) in &heard {
        ensure(zxids[number] == position.zxid.0, || {
            format!("change {number} was zxid {}, its event says {}", zxids[number], position.zxid)
        })?;
    }
    ensure(session.session_id() == id && session.member_id().0 == 2, || {
        format!("session {} of member {}, was {id} of 1", session.session_id(), session.member_id())
    })?;
    ensure(*session.state().borrow() == SessionState::Connected, || "not connected".into())?;
    let mut kept = session.ephemerals().await?;
    kept.sort();
    ensure(kept == mine, || format!("ephemerals: {kept:?}, were {mine:?}"))?;
    let other = Client::builder().endpoints([cluster.member(3).client.clone()]).connect().await?;
    for path in &mine {
        let stat = other.exists(path).await?;
        ensure(stat.is_some_and(|stat| stat.ephemeral_owner == id), || format!("{path}: {stat:?}"))?;
    }
    session.close().await?;
    for path in &mine {
        ensure(other.exists(path).await?.is_none(), || format!("{path} outlived its session"))?;
    }
    let mut measured = Measured::default();
    measured.note(format!(
        "{} events, each once, in order, across the death of the session's member",
        heard.len()
    ));
    ensure(cluster.panics().is_empty(), || format!("{:?}", cluster.panics()))?;
    Ok(measured)
}

/// A session attached to `first` that knows `second` too.
async fn open_through(cluster: &Cluster, first: u64, second: u64) -> Result<Client, Failure> {
    let endpoints = [cluster.member(first).client.clone(), cluster.member(second).client.clone()];
    let opening = async {
        loop {
            // The client starts anywhere: ask until it has started where we want it.
            let client = Client::builder().endpoints(endpoints.clone()).connect().await?;
            if client.member_id().0 == first {
                return Ok::<Client, quorate::Error>(client);
            }
            client.close().await?;
        }
    };
    Ok(in_time("a session through the first member", opening).await??)
}
