//! Workloads: each session keeps a fixed number of operations in flight, in the order sent.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use bytes::Bytes;
use clap::ValueEnum;
use hdrhistogram::Histogram;
use quorate::{Client, Consistency};

/// What to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Workload {
    /// Set one of 100 nodes a session.
    Set,
    /// Create persistent nodes.
    Create,
    /// Read a node with session consistency.
    Get,
    /// Read a node linearizably.
    GetLinearizable,
    /// Nine reads (session) to one set.
    Mixed,
    /// Create as many nodes as `--nodes` says, once.
    Load,
}

/// A workload's shape.
#[derive(Clone, Debug)]
pub struct Load {
    /// Where members listen.
    pub endpoints: Vec<String>,
    /// Sessions.
    pub connections: usize,
    /// Operations in flight, each session.
    pub in_flight: usize,
    /// Bytes of a value.
    pub value_bytes: usize,
    /// How long.
    pub duration: Duration,
    /// For [`Workload::Load`].
    pub nodes: u64,
}

/// What was measured.
pub struct Measured {
    /// In microseconds, after the warm-up.
    pub latencies: Histogram<u64>,
    /// Operations of the warm-up.
    pub warm_up: u64,
    /// Without the warm-up.
    pub elapsed: Duration,
}

type Failure = Box<dyn std::error::Error + Send + Sync>;

impl Load {
    /// Runs a workload.
    pub async fn run(&self, workload: Workload) -> Result<Measured, Failure> {
        let mut clients = Vec::new();
        for index in 0..self.connections {
            let endpoint = self.endpoints[index % self.endpoints.len()].clone();
            clients.push(Client::builder().endpoints([endpoint]).connect().await?);
        }
        let root = format!("/bench-{workload:?}").to_lowercase();
        if let Some(first) = clients.first() {
            first.ensure_path(&root).await?;
        }
        for (index, client) in clients.iter().enumerate() {
            let own = format!("{root}/{index}");
            client.ensure_path(&own).await?;
            if !matches!(workload, Workload::Create | Workload::Load) {
                let nodes: Vec<_> = (0..100)
                    .map(|node| client.create(&format!("{own}/{node}"), vec![b'x'; self.value_bytes]).send())
                    .collect();
                for node in nodes {
                    // It may exist from an earlier run.
                    let _ = node.await;
                }
            }
        }
        let started = Instant::now();
        let warm_until = match workload {
            Workload::Load => started,
            _ => started + self.duration / 10,
        };
        let stamp = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH)?.as_millis();
        let sessions = clients.into_iter().enumerate().map(|(index, client)| {
            let session = Session {
                load: self.clone(),
                client,
                own: format!("{root}/{index}"),
                stamp,
                value: Bytes::from(vec![b'y'; self.value_bytes]),
            };
            tokio::spawn(session.run(workload, started, warm_until))
        });
        let mut latencies = Histogram::new(3)?;
        let mut warm_up = 0;
        for session in sessions.collect::<Vec<_>>() {
            let (own, warm) = session.await??;
            latencies.add(&own)?;
            warm_up += warm;
        }
        Ok(Measured { latencies, warm_up, elapsed: warm_until.elapsed() })
    }
}

struct Session {
    load: Load,
    client: Client,
    own: String,
    stamp: u128,
    value: Bytes,
}

impl Session {
    async fn run(
        self,
        workload: Workload,
        started: Instant,
        warm_until: Instant,
    ) -> Result<(Histogram<u64>, u64), Failure> {
        let mut latencies = Histogram::new(3)?;
        let mut warm_up = 0;
        let mut under_way = VecDeque::new();
        let share = self.load.nodes / self.load.connections.max(1) as u64;
        let until = started + self.load.duration;
        let mut count = 0_u64;
        loop {
            let is_over = match workload {
                Workload::Load => count >= share,
                _ => Instant::now() >= until,
            };
            while !is_over && under_way.len() < self.load.in_flight {
                under_way.push_back((Instant::now(), self.send(workload, count)));
                count += 1;
            }
            let Some((sent, operation)) = under_way.pop_front() else { break };
            operation.await?;
            if sent >= warm_until {
                latencies.record(u64::try_from(sent.elapsed().as_micros())?.max(1))?;
            } else {
                warm_up += 1;
            }
        }
        self.client.close().await?;
        Ok((latencies, warm_up))
    }

    fn send(
        &self,
        workload: Workload,
        count: u64,
    ) -> futures_util::future::BoxFuture<'static, quorate::Result<()>> {
        let node = format!("{}/{}", self.own, count % 100);
        let is_write = match workload {
            Workload::Set => true,
            Workload::Mixed => count.is_multiple_of(10),
            _ => false,
        };
        if is_write {
            let pending = self.client.set(&node, self.value.clone()).send();
            return Box::pin(async move { pending.await.map(|_| ()) });
        }
        match workload {
            Workload::Create | Workload::Load => {
                let path = format!("{}/{}-{count}", self.own, self.stamp);
                let pending = self.client.create(&path, self.value.clone()).send();
                Box::pin(async move { pending.await.map(|_| ()) })
            }
            _ => {
                let consistency = match workload {
                    Workload::GetLinearizable => Consistency::Linearizable,
                    _ => Consistency::Session,
                };
                let pending = self.client.get(&node).consistency(consistency).send();
                Box::pin(async move { pending.await.map(|_| ()) })
            }
        }
    }
}
