//! Reconfiguration: the steps in which Raft changes its members, taken one at a time by one task.
//!
//! ```text
//!   voters 1 2 3  ──▶  1 2 3 and 1 2  ──▶  1 2        each arrow a log entry (joint consensus)
//!                      both must agree
//! ```
//! Whoever asks may go away: the task takes the second step all the same. A leader that ends between
//! the two leaves both sets of voters in force, those too that are lost; its successor takes the second
//! step as soon as it can. What a change is made of, and whether it makes sense, is
//! [`membership`](super::membership)'s.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use openraft::ChangeMembers;
use openraft::async_runtime::watch::WatchReceiver;
use quorate_core::breaks::{Break, is_broken};
use quorate_core::error::{Error, ErrorKind};
use tokio::sync::{mpsc, oneshot};
use tokio::time::sleep;

use super::Inner;
use super::types::MemberAddress;

/// Steps that may wait for their turn; further callers wait for room.
const WAITING_MAX: usize = 16;
/// Pause before a step that a new leader owes is tried again: its first quorum may take a moment.
const AGAIN: Duration = Duration::from_millis(250);

/// What a step does to the set of members.
pub(super) type MemberSet = ChangeMembers<u64, MemberAddress>;

/// One step, and who waits for it.
#[derive(Debug)]
pub(super) struct Step {
    change: Option<MemberSet>,
    done: oneshot::Sender<Result<(), Error>>,
}

/// Where steps are asked for.
#[derive(Clone, Debug)]
pub(super) struct Steps(mpsc::Sender<Step>);

/// A queue of steps, and its end for [`run`].
pub(super) fn steps() -> (Steps, mpsc::Receiver<Step>) {
    let (sender, receiver) = mpsc::channel(WAITING_MAX);
    (Steps(sender), receiver)
}

impl Steps {
    /// Changes the members, after whatever was cut short before.
    ///
    /// # Errors
    /// `Unavailable` if this member does not lead, or no quorum agrees.
    ///
    /// # Cancel safety
    /// Once it is queued it is taken, whether or not anybody waits.
    pub(super) async fn take(&self, change: MemberSet) -> Result<(), Error> {
        self.ask(Some(change)).await
    }

    /// Returns once no change that was cut short is left, and the members in force are agreed on.
    ///
    /// # Errors
    /// As for [`Steps::take`].
    pub(super) async fn settle(&self) -> Result<(), Error> {
        self.ask(None).await
    }

    async fn ask(&self, change: Option<MemberSet>) -> Result<(), Error> {
        let stopping = || Error::new(ErrorKind::Unavailable, "this member is stopping");
        let (done, answer) = oneshot::channel();
        self.0.send(Step { change, done }).await.map_err(|_| stopping())?;
        answer.await.map_err(|_| stopping())?
    }
}

/// Takes the steps, for as long as the member lives.
pub(super) async fn run(inner: Arc<Inner>, mut steps: mpsc::Receiver<Step>) {
    let mut leadership = inner.leadership.clone();
    // While no step is under way here, a joint membership is one that was cut short.
    let mut is_settled = false;
    loop {
        tokio::select! {
            biased;
            step = steps.recv() => {
                let Some(Step { change, done }) = step else { return };
                let outcome = take(&inner, change).await;
                is_settled = outcome.is_ok();
                // Nobody may be waiting any more.
                let _ = done.send(outcome);
            }
            changed = leadership.changed() => match changed {
                Ok(()) => is_settled = false,
                Err(_) => return,
            },
            () = sleep(AGAIN), if !is_settled => {
                let leads = leadership.borrow().leader == Some(inner.member);
                let owes_nothing = !leads || !is_joint(&inner) || is_broken(Break::ChangeStaysCutShort);
                is_settled = owes_nothing || settle(&inner).await.is_ok();
            }
        }
    }
}

async fn take(inner: &Inner, change: Option<MemberSet>) -> Result<(), Error> {
    if is_joint(inner) && !is_broken(Break::ChangeStaysCutShort) {
        settle(inner).await?;
    }
    match change {
        Some(change) => commit(inner, change).await,
        None => agreement(inner).await,
    }
}

/// Waits until the set of members in force is committed: what a leader has inherited may yet be undone,
/// unless it is.
async fn agreement(inner: &Inner) -> Result<(), Error> {
    let mut metrics = inner.raft.server_metrics();
    loop {
        {
            let now = metrics.borrow_watched();
            if now.current_leader != Some(inner.member.0) {
                return Err(Error::new(ErrorKind::Unavailable, "this member no longer leads"));
            }
            if now.committed_membership_config.log_id() == now.membership_config.log_id() {
                return Ok(());
            }
        }
        if metrics.changed().await.is_err() {
            return Err(Error::new(ErrorKind::Unavailable, "this member is stopping"));
        }
    }
}

async fn settle(inner: &Inner) -> Result<(), Error> {
    tracing::info!("a change of members was cut short between its two steps; taking the second");
    // Nobody new is the change that leads to the later of the two sets.
    commit(inner, ChangeMembers::AddVoterIds(BTreeSet::new())).await
}

async fn commit(inner: &Inner, change: MemberSet) -> Result<(), Error> {
    let changed = inner.raft.change_membership(change, false).await;
    changed.map(|_| ()).map_err(|error| Error::new(ErrorKind::Unavailable, error.to_string()))
}

/// Whether two sets of voters are in force.
pub(super) fn is_joint(inner: &Inner) -> bool {
    inner.membership().membership().get_joint_config().len() > 1
}
