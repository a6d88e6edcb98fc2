//! Reads: as fresh as asked, on any member.
//!
//! - linearizable: behind one read barrier, shared by all reads that wait at that moment;
//! - session: behind the session's own writes (the connection's loop sees to that);
//! - at least zxid N: once this member has applied N.
//!
//! Next rooms: replica/barrier, then local_state.

use std::time::Duration;

use quorate_core::acl::Identity;
use quorate_core::breaks::{Break, is_broken};
use quorate_core::error::{Error, ErrorKind};
use quorate_core::id::Zxid;
use quorate_core::reply::ReadReply;
use quorate_core::request::{Consistency, ReadRequest};
use tokio::time::{Instant, sleep, timeout};

use super::Coordinator;

/// How long a read waits for a quorum or for this member to catch up.
const FRESHNESS_TIMEOUT: Duration = Duration::from_secs(10);
/// How long readiness waits for a quorum.
const READY_PATIENCE: Duration = Duration::from_millis(1500);
/// No timer waits for less.
const TIMER_GRAIN: Duration = Duration::from_millis(1);

impl Coordinator {
    /// A read without a session.
    ///
    /// # Errors
    /// The rules' refusals inside the reply; `Unavailable` or `MemberBehind` if the freshness
    /// asked for could not be had in time.
    pub async fn read(
        &self,
        identities: &[Identity],
        request: &ReadRequest,
        consistency: Consistency,
    ) -> Result<ReadReply, Error> {
        let _started = self.shared.metrics.read.start_timer();
        check_paths(self, request)?;
        self.wait_fresh(needed(request, consistency)).await?;
        Ok(self.in_turn(request, || self.shared.local.read(identities, request)).await)
    }

    /// Reads. What looks through a whole subtree is done one at a time, and then everything else, applies
    /// above all, has the state for as long as that took.
    pub(super) async fn in_turn<T>(&self, request: &ReadRequest, read: impl FnOnce() -> T) -> T {
        if !matches!(request, ReadRequest::CountDescendants { .. }) {
            return read();
        }
        let _turn = self.shared.long_read.acquire().await;
        let began = Instant::now();
        let found = read();
        match began.elapsed() {
            took if took < TIMER_GRAIN => tokio::task::yield_now().await,
            took => sleep(took).await,
        }
        found
    }

    /// Whether this member can serve now: a leader is known and a quorum answers.
    ///
    /// # Errors
    /// Why not.
    pub async fn wait_ready(&self) -> Result<(), Error> {
        let answered = timeout(READY_PATIENCE, self.shared.replica.read_barrier()).await;
        answered.unwrap_or_else(|_| {
            Err(Error::new(ErrorKind::Unavailable, "no quorum answered; are a majority of members up?"))
        })
    }

    /// Waits until this member may answer a read of this consistency.
    pub async fn wait_fresh(&self, consistency: Consistency) -> Result<(), Error> {
        match consistency {
            Consistency::Session => Ok(()),
            Consistency::Linearizable if is_broken(Break::StaleReads) => Ok(()),
            Consistency::Linearizable => {
                match timeout(FRESHNESS_TIMEOUT, self.shared.replica.read_barrier()).await {
                    Ok(result) => result,
                    Err(_) => Err(Error::new(
                        ErrorKind::Unavailable,
                        format!("no quorum confirmed the read within {} s", FRESHNESS_TIMEOUT.as_secs()),
                    )),
                }
            }
            Consistency::AtLeast(zxid) => self.wait_zxid(zxid, FRESHNESS_TIMEOUT).await,
        }
    }

    /// Waits until this member has applied `zxid`.
    pub async fn wait_zxid(&self, zxid: Zxid, patience: Duration) -> Result<(), Error> {
        let mut progress = self.shared.local.progress();
        match timeout(patience, progress.wait_for(|progress| progress.zxid >= zxid)).await {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(_)) | Err(_) => Err(Error::new(
                ErrorKind::MemberBehind,
                format!(
                    "this member has applied zxid {}, not yet {zxid}",
                    self.shared.local.progress_now().zxid
                ),
            )),
        }
    }
}

/// What a request needs beyond what its sender asked for: a sync is always a barrier.
pub(super) fn needed(request: &ReadRequest, asked: Consistency) -> Consistency {
    match request {
        ReadRequest::Sync { .. } => Consistency::Linearizable,
        // Watches and identities are this connection's own: nothing to be fresh about.
        ReadRequest::RemoveWatch { .. } | ReadRequest::CheckWatch { .. } | ReadRequest::WhoAmI => {
            Consistency::Session
        }
        _ => asked,
    }
}

/// Refuses paths beyond the admission limits.
pub(super) fn check_paths(coordinator: &Coordinator, request: &ReadRequest) -> Result<(), Error> {
    let limits = &coordinator.shared.limits;
    match request {
        ReadRequest::Get { path, .. }
        | ReadRequest::Exists { path, .. }
        | ReadRequest::GetAcl { path }
        | ReadRequest::List { path, .. }
        | ReadRequest::CountDescendants { path }
        | ReadRequest::Sync { path }
        | ReadRequest::AddWatch { path, .. }
        | ReadRequest::RemoveWatch { path, .. }
        | ReadRequest::CheckWatch { path, .. } => limits.check_path(path),
        ReadRequest::Ephemerals { prefix } => limits.check_path(prefix),
        ReadRequest::Multi(requests) => {
            if requests.len() > limits.transaction_operations {
                return Err(Error::new(
                    ErrorKind::TooLarge,
                    format!(
                        "reads of a multi: {}, at most {}",
                        requests.len(),
                        limits.transaction_operations
                    ),
                ));
            }
            requests.iter().try_for_each(|request| check_paths(coordinator, request))
        }
        ReadRequest::WhoAmI | ReadRequest::Sessions => Ok(()),
    }
}
