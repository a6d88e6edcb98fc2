//! Writes: a request becomes a command, and is proposed until it has applied here or cannot any more.
//!
//! A session's writes are kept by the local state until they apply; [`Coordinator::run_resends`]
//! proposes them again, in order, after a leader change, a refused gap, or a silence. That is safe
//! because apply judges each by its number. A unary write is proposed again only if it carries a
//! request id; otherwise a leader change makes its outcome unknown, and it says so.
//!
//! Next room: replica/proposer.

use std::collections::VecDeque;
use std::time::Duration;

use bytes::Bytes;
use quorate_core::acl::Identity;
use quorate_core::breaks::{Break, is_broken};
use quorate_core::command::{Command, Operation, Origin, RequestId};
use quorate_core::error::{Error, ErrorKind};
use quorate_core::id::{AttachEpoch, SessionId, WriteNumber};
use tokio::time::{Instant, sleep_until, timeout};

use super::Coordinator;
use crate::local_state::{Attaching, CallResult};

/// The longest that a unary write waits for its answer.
const CALL_TIMEOUT: Duration = Duration::from_secs(30);
/// How long after a leader change calls without a request id may still be answered.
const CALL_GRACE: Duration = Duration::from_secs(2);
/// Unapplied writes are proposed again when nothing has applied for this long.
const SILENCE: Duration = Duration::from_secs(2);
/// How often the above is looked at.
const RESEND_TICK: Duration = Duration::from_millis(100);

impl Coordinator {
    /// A write without a session.
    ///
    /// # Errors
    /// The rules' refusals inside the reply; `Overloaded` or `Unavailable` if nothing happened;
    /// `OutcomeUnknown` if it may have happened.
    ///
    /// # Cancel safety
    /// Dropping the future leaves the write's outcome unknown.
    pub async fn write(
        &self,
        identities: Vec<Identity>,
        operation: Operation,
        request: Option<RequestId>,
    ) -> CallResult {
        self.shared.limits.check(&operation)?;
        self.call(self.next_ticket(), identities, operation, request, None).await
    }

    /// Proposes a call and waits until it has applied here.
    pub(super) async fn call(
        &self,
        ticket: u64,
        identities: Vec<Identity>,
        operation: Operation,
        request: Option<RequestId>,
        attaching: Option<Attaching>,
    ) -> CallResult {
        let is_resent = request.is_some();
        let origin = Origin::Call { member: self.shared.member, ticket, request };
        let command = encode(&Command { origin, identities, operation });
        self.shared.limits.check_encoded(command.len())?;
        let _started = self.shared.metrics.proposal.start_timer();
        let answer = self.shared.local.expect_call(ticket, attaching, is_resent.then(|| command.clone()));
        let _forget = ForgetCall { coordinator: self, ticket };
        self.shared.replica.try_propose(command)?;
        match timeout(CALL_TIMEOUT, answer).await {
            Ok(Ok(result)) => result,
            Ok(Err(_)) | Err(_) => Err(Error::new(
                ErrorKind::OutcomeUnknown,
                format!("no answer within {} s: is there a quorum?", CALL_TIMEOUT.as_secs()),
            )),
        }
    }

    /// Housekeeping: proposed and forgotten, because it names what it judged. What was judged as the
    /// leader of a term is never proposed in another: that leader may have heard of more.
    pub(super) fn propose_for_house(&self, term: u64, operation: Operation) -> Result<(), Error> {
        let command = Command { origin: Origin::House, identities: Vec::new(), operation };
        if is_broken(Break::ExpireByLocalClock) {
            return self.shared.replica.try_propose(encode(&command));
        }
        self.shared.replica.try_propose_as_leader(term, encode(&command))
    }

    /// A call whose answer nobody awaits.
    pub(super) fn propose_for_nobody(&self, operation: Operation) -> Result<(), Error> {
        let origin = Origin::Call { member: self.shared.member, ticket: self.next_ticket(), request: None };
        self.shared.replica.try_propose(encode(&Command { origin, identities: Vec::new(), operation }))
    }

    /// A session's next write, refused ones included: they fill their number with the refusal.
    /// False once the connection has lost the session.
    pub(super) async fn write_for_session(
        &self,
        (session, epoch): (SessionId, AttachEpoch),
        identities: &[Identity],
        number: WriteNumber,
        acknowledged: WriteNumber,
        operation: Operation,
    ) -> bool {
        let operation = match self.shared.limits.check(&operation) {
            Ok(()) => operation,
            Err(refusal) => Operation::Refused(refusal),
        };
        let origin = Origin::Session { session, epoch, number, acknowledged };
        let mut command = Command { origin, identities: identities.to_vec(), operation };
        let mut encoded = encode(&command);
        if let Err(refusal) = self.shared.limits.check_encoded(encoded.len()) {
            // What is too large may be who the caller is.
            (command.identities, command.operation) = (Vec::new(), Operation::Refused(refusal));
            encoded = encode(&command);
        }
        self.shared.local.expect_write(session, epoch, number, encoded.clone())
            && self.shared.replica.propose(vec![encoded]).await.is_ok()
    }

    /// Proposes again what may have been lost, for as long as the member lives.
    pub async fn run_resends(self) {
        let mut leadership = self.shared.replica.leadership();
        let mut lost = self.shared.replica.lost();
        let mut known = *leadership.borrow_and_update();
        let mut progress_seen = self.shared.local.progress_now();
        let mut silent_since = Instant::now();
        let mut calls_lost: VecDeque<(Instant, u64)> = VecDeque::new();
        loop {
            let (changed, broken) = tokio::select! {
                changed = leadership.changed() => match changed {
                    Ok(()) => (true, false),
                    Err(_) => return,
                },
                broken = lost.changed() => (false, broken.is_ok()),
                () = sleep_until(Instant::now() + RESEND_TICK) => (false, false),
            };
            let now = Instant::now();
            let progress = self.shared.local.progress_now();
            if progress != progress_seen {
                (progress_seen, silent_since) = (progress, now);
            }
            let mut resend = self.shared.local.gap_seen() || broken;
            let mut may_be_lost = broken;
            if changed {
                let current = *leadership.borrow_and_update();
                if current.leader.is_some() && current != known {
                    known = current;
                    resend = true;
                    may_be_lost = true;
                }
            }
            if may_be_lost {
                // Every loss counts the calls before it, also those made since the last one.
                let ticket = self.next_ticket();
                self.shared.local.fail_connects_before(ticket);
                calls_lost.push_back((now + CALL_GRACE, ticket));
            }
            if now.duration_since(silent_since) > SILENCE {
                silent_since = now;
                // What waits here is not lost; whoever takes none of it would only gather copies.
                resend |= self.shared.replica.proposal_queue_depth() == 0;
            }
            while let Some((when, ticket)) = calls_lost.front().copied()
                && now >= when
            {
                self.shared.local.fail_calls_before(ticket);
                calls_lost.pop_front();
            }
            if resend && known.leader.is_some() {
                let commands = self.shared.local.unapplied();
                if !commands.is_empty() && self.shared.replica.propose(commands).await.is_err() {
                    return;
                }
            }
        }
    }
}

struct ForgetCall<'a> {
    coordinator: &'a Coordinator,
    ticket: u64,
}

impl Drop for ForgetCall<'_> {
    fn drop(&mut self) {
        self.coordinator.shared.local.forget_call(self.ticket);
    }
}

fn encode(command: &Command) -> Bytes {
    let mut bytes = Vec::with_capacity(256);
    command.encode(&mut bytes);
    bytes.into()
}
