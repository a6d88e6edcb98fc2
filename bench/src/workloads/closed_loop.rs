//! The closed loop: each session keeps a fixed number of requests in flight, and sends the next
//! when one is answered.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use hdrhistogram::Histogram;
use tokio::task::JoinSet;

use super::{Figures, Meter, Shape, histogram};
use crate::failure::Outcome;
use crate::targets::{Answer, Connection};

/// Sends a session's next request: (connection, session, how many it has sent).
pub(super) type Send = dyn Fn(&dyn Connection, usize, u64) -> Answer<()> + std::marker::Send + Sync;

/// What one session measured.
struct Tally {
    times: Histogram<u64>,
    operations: u64,
}

/// Runs `send` on every connection for as long as the shape says.
pub(super) async fn run(
    label: &str,
    connections: Vec<Box<dyn Connection>>,
    pids: &[u32],
    shape: &Shape,
    send: Arc<Send>,
) -> Outcome<Figures> {
    let meter = Meter::start(pids);
    let until = meter.started() + shape.duration;
    let warm_until = meter.started() + shape.duration / 10;
    let mut sessions = JoinSet::new();
    for (index, connection) in connections.into_iter().enumerate() {
        let (send, in_flight) = (send.clone(), shape.in_flight);
        sessions.spawn(async move {
            let tally = if connection.answers_in_order() {
                in_order(&*connection, index, in_flight, warm_until, until, &*send).await
            } else {
                in_any_order(&*connection, index, in_flight, warm_until, until, &*send).await
            };
            tally.map(|tally| (tally, connection))
        });
    }
    let (mut times, mut operations) = (histogram(), 0);
    let mut connections = Vec::new();
    while let Some(session) = sessions.join_next().await {
        let (tally, connection) = session??;
        times.add(&tally.times)?;
        operations += tally.operations;
        connections.push(connection);
    }
    let warm = warm_until.elapsed().as_secs_f64();
    let mut figures = meter.finish(label, operations).with_times(&times);
    figures.throughput = Some(times.len() as f64 / warm);
    for connection in connections {
        connection.close().await?;
    }
    Ok(figures)
}

/// Awaits the oldest request only: a waiting session is woken once for many answers.
async fn in_order(
    connection: &dyn Connection,
    session: usize,
    in_flight: usize,
    warm_until: Instant,
    until: Instant,
    send: &Send,
) -> Outcome<Tally> {
    let mut tally = Tally { times: histogram(), operations: 0 };
    let mut under_way = VecDeque::with_capacity(in_flight);
    let mut count = 0;
    loop {
        let mut now = Instant::now();
        while now < until && under_way.len() < in_flight {
            under_way.push_back((now, send(connection, session, count)));
            count += 1;
            now = Instant::now();
        }
        let Some((sent, answer)) = under_way.pop_front() else { return Ok(tally) };
        answer.await?;
        tally.note(sent, warm_until)?;
    }
}

/// Awaits whichever is answered first.
async fn in_any_order(
    connection: &dyn Connection,
    session: usize,
    in_flight: usize,
    warm_until: Instant,
    until: Instant,
    send: &Send,
) -> Outcome<Tally> {
    let mut tally = Tally { times: histogram(), operations: 0 };
    let mut under_way = FuturesUnordered::new();
    let mut count = 0;
    loop {
        while Instant::now() < until && under_way.len() < in_flight {
            let (sent, answer) = (Instant::now(), send(connection, session, count));
            under_way.push(async move { answer.await.map(|()| sent) });
            count += 1;
        }
        let Some(answered) = under_way.next().await else { return Ok(tally) };
        tally.note(answered?, warm_until)?;
    }
}

impl Tally {
    fn note(&mut self, sent: Instant, warm_until: Instant) -> Outcome<()> {
        self.operations += 1;
        if sent >= warm_until {
            self.times.record(micros(sent.elapsed()))?;
        }
        Ok(())
    }
}

/// Whole microseconds, 1 at least: a histogram has no zero.
pub(super) fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX).max(1)
}
