//! Workloads: what clients do while faults happen. One a file.
//!
//! A workload prepares the tree, runs a worker a process until the time is up, reads what must be
//! read at the end, and names the checkers that judge it. All randomness comes from the seed and the
//! process' number, so the same seed asks the same operations in the same order of each process.

pub mod append;
pub mod bank;
pub mod counter;
pub mod door;
pub mod election;
pub mod ephemeral;
pub mod exactly_once;
pub mod fifo;
pub mod lock;
pub mod register;
pub mod registry;
pub mod sequence;
pub mod set;
pub mod watch;

use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;

use futures_util::future::LocalBoxFuture;
use quorate::Client;

use crate::checkers::Checker;
use crate::history::{Operation, Process, Recorder};

pub use door::{Door, Session};

/// What goes through either door.
const BOTH_DOORS: &[Door] = &[Door::Grpc, Door::Zookeeper];
/// How long a worker waits for an answer before it notes "unknown" and goes on.
const ANSWER_PATIENCE: Duration = Duration::from_secs(10);
/// Timeout of the workers' sessions: the least that members grant by default.
const SESSION_TIMEOUT: Duration = Duration::from_secs(4);

/// What a workload's parts share: where the cluster is, when to stop, where to write down.
#[derive(Clone, Debug)]
pub struct Arena {
    /// The door that clients go through.
    pub door: Door,
    /// All members' addresses at that door.
    pub endpoints: Vec<String>,
    /// The history.
    pub recorder: Recorder,
    /// How many workers run.
    pub workers: u32,
    /// Operations a second a worker, at most: what checkers can judge.
    pub rate: f64,
    /// Set when the time is up.
    pub stop: Rc<Cell<bool>>,
}

/// Something clients do.
pub trait Workload {
    /// Its name on the command line.
    fn name(&self) -> &'static str;
    /// One line for `list`.
    fn about(&self) -> &'static str;
    /// The doors that it can go through.
    fn doors(&self) -> &'static [Door] {
        &[Door::Grpc]
    }
    /// Makes the nodes that the workers need.
    fn prepare(&self, arena: Arena) -> LocalBoxFuture<'_, quorate::Result<()>>;
    /// One worker's life: until [`Arena::stop`].
    fn work(&self, arena: Arena, process: Process, random: fastrand::Rng) -> LocalBoxFuture<'_, ()>;
    /// What must be read when all workers have ended and the cluster is whole again.
    fn finish(&self, arena: Arena) -> LocalBoxFuture<'_, quorate::Result<()>>;
    /// Who judges.
    fn checkers(&self) -> Vec<Box<dyn Checker>>;
}

/// All workloads.
pub fn all() -> Vec<Box<dyn Workload>> {
    vec![
        Box::new(register::Register),
        Box::new(append::Append),
        Box::new(bank::Bank),
        Box::new(counter::Counter),
        Box::new(set::Set),
        Box::new(sequence::Sequence),
        Box::new(exactly_once::ExactlyOnce),
        Box::new(fifo::Fifo),
        Box::new(lock::Lock),
        Box::new(election::Election),
        Box::new(ephemeral::Ephemeral),
        Box::new(watch::Watch::default()),
        Box::new(registry::Registry::default()),
    ]
}

impl Arena {
    /// A client to all members.
    pub async fn connect(&self) -> quorate::Result<Client> {
        Client::builder()
            .endpoints(self.endpoints.clone())
            .session_timeout(SESSION_TIMEOUT)
            .connect_timeout(Duration::from_secs(60))
            .connect()
            .await
    }

    /// A session at the door that this run goes through.
    pub async fn open(&self) -> quorate::Result<Session> {
        Session::open(self.door, &self.endpoints, SESSION_TIMEOUT).await
    }

    /// Waits for its turn: at most [`Arena::rate`] operations a second.
    pub async fn pace(&self, random: &mut fastrand::Rng) {
        let mean = 1.0 / self.rate;
        tokio::time::sleep(Duration::from_secs_f64(mean * (0.5 + random.f64()))).await;
    }

    /// One operation after the other, in its turn, until the time is up. `step` says whether the
    /// session has ended with it: then there is a new one.
    pub async fn operate(
        &self,
        random: &mut fastrand::Rng,
        mut step: impl AsyncFnMut(&Session, &mut fastrand::Rng) -> bool,
    ) {
        while !self.stop.get() {
            let Ok(session) = self.open().await else { continue };
            while !self.stop.get() {
                self.pace(random).await;
                if step(&session, random).await {
                    break;
                }
            }
        }
    }

    /// Notes how an operation ended: done, refused for good, or unknown. Returns what was answered.
    pub async fn note<T>(
        &self,
        process: Process,
        asked: Operation,
        call: impl Future<Output = quorate::Result<T>>,
        told: impl FnOnce(&T) -> (Operation, Option<u64>),
    ) -> Noted<T> {
        self.note_within(ANSWER_PATIENCE, process, asked, call, told).await
    }

    /// The same with another patience.
    pub async fn note_within<T>(
        &self,
        patience: Duration,
        process: Process,
        asked: Operation,
        call: impl Future<Output = quorate::Result<T>>,
        told: impl FnOnce(&T) -> (Operation, Option<u64>),
    ) -> Noted<T> {
        self.recorder.invoke(process, asked.clone());
        match tokio::time::timeout(patience, call).await {
            Ok(Ok(answer)) => {
                let (operation, zxid) = told(&answer);
                self.recorder.ok(process, operation, zxid);
                Noted::Ok(answer)
            }
            Ok(Err(error @ quorate::Error::Refused { .. })) => {
                let zxid = match &error {
                    quorate::Error::Refused { zxid, .. } => Some(zxid.0),
                    _ => None,
                };
                self.recorder.fail(process, asked, zxid, error.to_string());
                Noted::Refused(error)
            }
            Ok(Err(error)) => {
                // The session's end leaves what was under way unknown, and so does an answer that makes
                // no sense; all else was never sent.
                match error {
                    quorate::Error::OutcomeUnknown | quorate::Error::Protocol(_) => {
                        self.recorder.info(process, asked, Some(error.to_string()));
                    }
                    _ => self.recorder.fail(process, asked, None, error.to_string()),
                }
                Noted::Ended
            }
            Err(_) => {
                self.recorder.info(process, asked, Some(format!("no answer in {patience:?}")));
                Noted::Ended
            }
        }
    }
}

/// How an operation ended, for the worker.
#[derive(Debug)]
pub enum Noted<T> {
    /// Answered.
    Ok(T),
    /// Refused: it did not happen.
    Refused(quorate::Error),
    /// The session is over, or the answer is too late: take a new client.
    Ended,
}

/// Makes a path's nodes.
async fn prepare_path(arena: &Arena, path: &str) -> quorate::Result<()> {
    let session = arena.open().await?;
    session.ensure_path(path).await?;
    session.close().await
}

/// A number as node data.
fn parse(data: Option<&[u8]>) -> Option<u64> {
    std::str::from_utf8(data?).ok()?.parse().ok()
}

/// The number at the end of a sequential node's name.
fn number_of(name: &str) -> Option<u64> {
    name.rsplit('-').next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::history::Kind;

    #[test]
    fn an_answer_that_makes_no_sense_leaves_the_outcome_unknown() -> Result<(), Box<dyn std::error::Error>> {
        use quorate::Error;
        let cases = [
            (Error::OutcomeUnknown, Kind::Info),
            (Error::Protocol("garbage".into()), Kind::Info),
            (Error::SessionExpired, Kind::Fail),
            (Error::Closed, Kind::Fail),
        ];
        for (error, kind) in cases {
            let recorder = Recorder::start(None)?;
            let arena = Arena {
                door: Door::Grpc,
                endpoints: Vec::new(),
                recorder: recorder.clone(),
                workers: 1,
                rate: 1.0,
                stop: Rc::new(Cell::new(false)),
            };
            let asked = Operation::Add { element: 1 };
            let told = asked.clone();
            let call = async { Err::<(), _>(error.clone()) };
            let noting = arena.note(1, asked, call, |()| (told, None));
            let noted = crate::run_local(async { Ok::<_, std::io::Error>(noting.await) })?;
            assert!(matches!(noted, Noted::Ended), "{noted:?}");
            assert_eq!(recorder.finish()?.entries[1].kind, kind, "{error}");
        }
        Ok(())
    }
}
