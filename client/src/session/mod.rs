//! The session: one background task that owns the stream to a member, and the handle to it.
//!
//! - [`requests`]: what was asked and not answered, in call order, for sending again;
//! - [`watches`]: what is watched, with the position that each watch has reached;
//! - [`task`]: connects, sends, receives, keeps the session alive, resumes it elsewhere;
//! - [`opening`]: another session, when this one is over.
//!
//! A call queues its request before it returns its future, so requests take effect in call order.
//! The task ends with the last [`Handle`].

mod opening;
pub(crate) mod requests;
pub(crate) mod task;
pub(crate) mod watches;

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use quorate_core::command::Operation;
use quorate_core::id::{MemberId, SessionId, Zxid};
use quorate_core::reply::{ReadResult, WriteResult};
use quorate_core::request::{Consistency, ReadRequest};
use tokio::sync::{mpsc, oneshot, watch};

use crate::connector::Connector;
use crate::error::{Error, Result};
use crate::options::Options;
use opening::Opening;
use watches::WatchSender;

/// Where a session stands, as this client knows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SessionState {
    /// Attached to a member.
    Connected,
    /// Between connections. Requests wait; locks are still held, but not for longer than until the
    /// session's deadline: whoever must not act on a lost lock pauses here.
    Suspended,
    /// The session is over, by the cluster's word or because its deadline passed without one. In the
    /// second case the cluster may know the session a while longer: writes that were not answered may
    /// take effect until it ends it, and its ephemerals stay as long.
    Expired,
    /// The client was closed.
    Closed,
}

impl SessionState {
    /// Whether the session is over for good.
    pub fn is_over(self) -> bool {
        matches!(self, SessionState::Expired | SessionState::Closed)
    }
}

/// The answer to one request.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) zxid: Zxid,
    pub(crate) outcome: Outcome,
}

/// What was done or read.
#[derive(Debug)]
pub(crate) enum Outcome {
    Write(WriteResult),
    Read(ReadResult),
}

/// Where an answer goes.
pub(crate) type Responder = oneshot::Sender<Result<Answer>>;

/// What a call asks of the task.
#[derive(Debug)]
pub(crate) struct Job {
    pub(crate) ask: Ask,
    pub(crate) respond: Responder,
}

#[derive(Debug)]
pub(crate) enum Ask {
    Write(Operation),
    /// A read; one that leaves a watch names it by the sender's key.
    Read(ReadRequest, Consistency, Place, Option<WatchSender>),
    Auth(String, Bytes),
    Close,
}

/// What a read may see when it is asked again after a lost connection, and writes of its session
/// that were queued behind it have taken effect meanwhile.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    /// Not those: its caller may have sent them. It ends with [`Error::Overtaken`].
    Kept,
    /// Those too: its caller waits for it before it sends anything, so they are others' writes, at
    /// the same time as this read.
    Open,
}

/// What a watch's stream asks of the task.
#[derive(Debug)]
pub(crate) enum Control {
    /// Nobody listens any more.
    Remove(u64),
    /// The listener has caught up: tell it what it missed.
    Resume(u64),
}

/// What the task tells whoever asks, without being asked.
#[derive(Debug, Default)]
pub(crate) struct Facts {
    pub(crate) session: AtomicU64,
    pub(crate) timeout_ms: AtomicU64,
    pub(crate) member: AtomicU64,
    pub(crate) last_zxid: AtomicU64,
    watch_keys: AtomicU64,
    pub(crate) ended: OnceLock<Error>,
    proved: Proved,
}

/// Credentials that were proved after the session was opened. Shows nothing when printed.
#[derive(Default)]
struct Proved(Mutex<Vec<(String, Bytes)>>);

impl fmt::Debug for Proved {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Proved").finish_non_exhaustive()
    }
}

impl Facts {
    /// Keeps a credential for the session after this one.
    pub(crate) fn prove(&self, scheme: String, credential: Bytes) {
        self.proved.0.lock().unwrap_or_else(PoisonError::into_inner).push((scheme, credential));
    }

    pub(crate) fn proved(&self) -> Vec<(String, Bytes)> {
        self.proved.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// Access to a session. The task ends when the last one is dropped.
#[derive(Debug)]
pub(crate) struct Handle {
    jobs: mpsc::Sender<Job>,
    control: mpsc::UnboundedSender<Control>,
    state: watch::Receiver<SessionState>,
    facts: Arc<Facts>,
    opening: Opening,
    /// Where the task runs.
    runtime: tokio::runtime::Handle,
}

/// Opens a session and starts its task.
pub(crate) async fn open(options: Options, connector: Connector) -> Result<Handle> {
    let (jobs, jobs_receiver) = mpsc::channel(options.outstanding_max);
    // Control messages are bounded by the number of watches.
    let (control, control_receiver) = mpsc::unbounded_channel();
    let facts = Arc::new(Facts::default());
    let (state_sender, state) = watch::channel(SessionState::Connected);
    let opening = Opening::new(options.clone(), connector.clone());
    let task =
        task::Task::new(options, connector, jobs_receiver, control_receiver, state_sender, facts.clone());
    task.start().await?;
    let runtime = tokio::runtime::Handle::current();
    Ok(Handle { jobs, control, state, facts, opening, runtime })
}

impl Handle {
    /// Queues a request behind all that were queued before; the answer comes from the receiver.
    pub(crate) fn ask(&self, ask: Ask) -> oneshot::Receiver<Result<Answer>> {
        let (respond, receiver) = oneshot::channel();
        match self.jobs.try_send(Job { ask, respond }) {
            Ok(()) => {}
            Err(mpsc::error::TrySendError::Full(job)) => {
                let limit = self.jobs.max_capacity();
                // The caller holds the receiver: sending cannot fail.
                let _ = job.respond.send(Err(Error::TooManyRequests { limit }));
            }
            Err(mpsc::error::TrySendError::Closed(job)) => {
                let _ = job.respond.send(Err(self.ended()));
            }
        }
        receiver
    }

    /// Queues a write whose answer nobody waits for, behind all that were queued before: what takes away
    /// what its owner has dropped. If too many requests wait it waits with them, for the session would
    /// keep what is not taken away. At most one for each thing that is dropped.
    pub(crate) fn ask_surely(&self, operation: Operation) {
        let (respond, _) = oneshot::channel();
        if let Err(mpsc::error::TrySendError::Full(job)) =
            self.jobs.try_send(Job { ask: Ask::Write(operation), respond })
        {
            let jobs = self.jobs.clone();
            // Ends with the session. If that is over, so is what was to be taken away.
            self.runtime.spawn(async move { drop(jobs.send(job).await) });
        }
    }

    /// Where the session's task runs.
    pub(crate) fn runtime(&self) -> &tokio::runtime::Handle {
        &self.runtime
    }

    /// Why the session is over; [`Error::Closed`] if the task is gone without a word (its runtime
    /// has ended).
    pub(crate) fn ended(&self) -> Error {
        self.facts.ended.get().cloned().unwrap_or(Error::Closed)
    }

    pub(crate) fn control(&self) -> mpsc::WeakUnboundedSender<Control> {
        self.control.downgrade()
    }

    pub(crate) fn facts(&self) -> Arc<Facts> {
        self.facts.clone()
    }

    pub(crate) fn state(&self) -> watch::Receiver<SessionState> {
        self.state.clone()
    }

    pub(crate) fn next_watch_key(&self) -> u64 {
        self.facts.watch_keys.fetch_add(1, Ordering::Relaxed) + 1
    }

    pub(crate) fn session_id(&self) -> SessionId {
        SessionId(self.facts.session.load(Ordering::Relaxed))
    }

    pub(crate) fn member_id(&self) -> MemberId {
        MemberId(self.facts.member.load(Ordering::Relaxed))
    }

    pub(crate) fn timeout(&self) -> Duration {
        Duration::from_millis(self.facts.timeout_ms.load(Ordering::Relaxed))
    }

    pub(crate) fn last_zxid(&self) -> Zxid {
        Zxid(self.facts.last_zxid.load(Ordering::Relaxed))
    }
}
