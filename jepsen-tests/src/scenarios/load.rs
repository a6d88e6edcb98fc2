//! A constant load of sequential creates, each noted in a history: lost and repeated ones show.
//!
//! Each writer is a client of its own with one create under way. The client retries by itself; a
//! create whose outcome it does not know is noted as unknown.

use std::cell::Cell;
use std::rc::Rc;

use quorate::{Client, CreateMode};
use tokio::task::JoinHandle;

use super::{Failure, Measured, ensure, in_time};
use crate::checkers::sequence::Sequence;
use crate::checkers::{Checker, Verdict};
use crate::cluster::Cluster;
use crate::history::{Kind, NEMESIS, Operation, Process, Recorder};

/// The parent of what is created.
const PARENT: &str = "/load";

/// Writers at work.
#[derive(Debug)]
pub struct Load {
    recorder: Recorder,
    stop: Rc<Cell<bool>>,
    writers: Vec<JoinHandle<Result<(), Failure>>>,
}

impl Load {
    /// Starts so many writers, in the current thread's `LocalSet`.
    ///
    /// # Errors
    /// The client's, if it cannot connect.
    pub async fn start(cluster: &Cluster, recorder: &Recorder, writers: u32) -> Result<Load, Failure> {
        let client = Client::builder().endpoints(cluster.endpoints()).connect().await?;
        client.ensure_path(PARENT).await?;
        client.close().await?;
        let stop = Rc::new(Cell::new(false));
        let writers = (1..=writers)
            .map(|process| {
                let writer = write(cluster.endpoints(), recorder.clone(), stop.clone(), process);
                tokio::task::spawn_local(writer)
            })
            .collect();
        Ok(Load { recorder: recorder.clone(), stop, writers })
    }

    /// Stops the writers, lists what is there, and judges the whole.
    ///
    /// # Errors
    /// A writer's, or what the checker rejects.
    pub async fn finish(self, cluster: &Cluster) -> Result<Measured, Failure> {
        self.stop.set(true);
        for writer in self.writers {
            in_time("a writer ends", writer)
                .await?
                .map_err(|error| Failure::Broken(format!("a writer panicked: {error}")))??;
        }
        let client = Client::builder().endpoints(cluster.endpoints()).connect().await?;
        let asked = Operation::ReadSequence { nodes: None };
        self.recorder.invoke(0, asked);
        let mut list = in_time("the last list", client.list(PARENT).with_data().send()).await??;
        let mut children = std::mem::take(&mut list.children);
        while let Some(last) = children.last().filter(|_| list.more) {
            let page = client.list(PARENT).with_data().after(last.name.clone());
            list = in_time("the next page of the last list", page.send()).await??;
            children.append(&mut list.children);
        }
        let nodes = children.iter().map(|child| {
            let tag = child.data.as_ref().and_then(|data| parse(data));
            Some((number_of(&child.name)?, tag?))
        });
        let nodes = nodes.collect::<Option<Vec<_>>>();
        ensure(nodes.is_some(), || format!("{PARENT} holds what nobody wrote"))?;
        self.recorder.ok(0, Operation::ReadSequence { nodes }, Some(list.zxid.0));
        client.close().await?;

        let history = self.recorder.finish()?;
        let mut measured = Measured::default();
        match Sequence.check(&history) {
            Verdict::Valid { summary } => measured.note(format!("no write lost, none twice: {summary}")),
            verdict => return Err(Failure::Rejected { checker: Sequence.name(), verdict }),
        }
        let failed = history.entries.iter().filter(|e| e.process < NEMESIS && e.kind == Kind::Fail).count();
        ensure(failed == 0, || format!("{failed} creates were refused that nothing forbids"))?;
        Ok(measured)
    }
}

async fn write(
    endpoints: Vec<String>,
    recorder: Recorder,
    stop: Rc<Cell<bool>>,
    process: Process,
) -> Result<(), Failure> {
    let client = Client::builder().endpoints(endpoints).connect().await?;
    let mut count = 0;
    while !stop.get() {
        count += 1;
        let tag = u64::from(process) << 32 | count;
        let asked = Operation::Sequence { tag, number: None };
        recorder.invoke(process, asked.clone());
        let create = client.create(&format!("{PARENT}/n-"), tag.to_string());
        match create.mode(CreateMode::PersistentSequential).await {
            Ok(created) => {
                let told = Operation::Sequence { tag, number: number_of(&created.path) };
                recorder.ok(process, told, Some(created.stat.czxid.0));
            }
            Err(error @ quorate::Error::Refused { .. }) => {
                recorder.fail(process, asked, None, error.to_string());
                if !error.is_retryable() {
                    return Err(error.into());
                }
            }
            // Its session is over: so is this writer, and with it the constant load.
            Err(error) => {
                recorder.info(process, asked, Some(error.to_string()));
                return Err(error.into());
            }
        }
    }
    client.close().await?;
    Ok(())
}

/// The number at the end of a sequential node's name.
pub fn number_of(name: &str) -> Option<u64> {
    name.rsplit('-').next()?.parse().ok()
}

/// A number as node data.
pub fn parse(data: &[u8]) -> Option<u64> {
    std::str::from_utf8(data).ok()?.parse().ok()
}
