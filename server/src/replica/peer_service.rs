//! Answers to peers: Raft's questions, commands forwarded to a leader, read indexes, heartbeats.
//!
//! Not here: how the messages travel ([`super::peer_listener`], or the simulator).

use std::sync::Arc;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use futures_util::{FutureExt, StreamExt};
use openraft::raft::{AppendEntriesRequest, StreamAppendResult};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;

use super::Inner;
use super::founding::Hello;
use super::peers::{
    Envelope, Inbound, PeerError, PeerHandler, PeerRequest, PeerResponse, SnapshotOffer, StreamKind, decode,
    encode,
};
use super::proposer::Group;
use super::types::{TypeConfig, Vote};
use crate::tasks::TaskGuard;

/// Requests of one append stream that may be in Raft's hands at once.
const APPEND_DEPTH: usize = 64;

/// Answers peers for one member.
#[derive(Clone, Debug)]
pub struct PeerService {
    pub(super) inner: Arc<Inner>,
}

impl PeerHandler for PeerService {
    fn call(&self, request: Bytes) -> BoxFuture<'static, Result<Bytes, PeerError>> {
        let service = self.clone();
        async move {
            let (envelope, request) = decode::<PeerRequest>(&request)?;
            service.check(&envelope)?;
            let answer = service.answer(envelope.from, request).await?;
            Ok(encode(&service.reply_to(&envelope), &answer))
        }
        .boxed()
    }

    fn stream(&self, kind: StreamKind, input: Inbound) -> Inbound {
        match kind {
            StreamKind::Append => self.append(input),
            StreamKind::Propose => self.propose(input),
            StreamKind::Snapshot => self.snapshot(input),
        }
    }
}

impl PeerService {
    fn check(&self, envelope: &Envelope) -> Result<(), PeerError> {
        let here = &self.inner;
        if envelope.cluster != here.cluster {
            return Err(PeerError::Refused(format!(
                "this is member {} of cluster {:032x}; the message is for cluster {:032x}",
                here.member, here.cluster, envelope.cluster
            )));
        }
        if envelope.to != here.member.0 {
            return Err(PeerError::Refused(format!(
                "this is member {}, the message is for member {}: is an address out of date?",
                here.member, envelope.to
            )));
        }
        Ok(())
    }

    fn reply_to(&self, envelope: &Envelope) -> Envelope {
        Envelope { to: envelope.from, from: self.inner.member.0, ..*envelope }
    }

    /// Whether this member knows now who the members are, and the leader that this one begins anew.
    async fn may_begin(&self, joiner: u64) -> bool {
        let begun = async {
            self.inner.read_barrier().await?;
            self.inner.begins_anew(joiner).await
        };
        begun.await.inspect_err(|error| tracing::debug!(%error, joiner, "a joiner must ask again")).is_ok()
    }

    async fn answer(&self, from: u64, request: PeerRequest) -> Result<PeerResponse, PeerError> {
        let inner = &self.inner;
        match request {
            PeerRequest::Append(request) => {
                inner.succession.heard();
                inner.raft.append_entries(request).await.map(PeerResponse::Append).map_err(refused)
            }
            PeerRequest::Vote(request) => {
                inner.raft.vote(request).await.map(PeerResponse::Vote).map_err(refused)
            }
            PeerRequest::PreVote(request) => {
                inner.raft.pre_vote(request).await.map(PeerResponse::Vote).map_err(refused)
            }
            PeerRequest::TransferLeader(request) => {
                let taken = inner.raft.handle_transfer_leader(request).await.map_err(refused)?;
                Ok(PeerResponse::TransferLeader(taken.map_err(|error| error.to_string())))
            }
            PeerRequest::ReadIndex => {
                self.check_leading()?;
                inner.barrier.index().await.map(PeerResponse::ReadIndex).map_err(refused)
            }
            PeerRequest::Touch(sessions) => {
                self.check_leading()?;
                inner.touch_here(&sessions).await.map(PeerResponse::Touched).map_err(refused)
            }
            PeerRequest::Status => Ok(PeerResponse::Status(Box::new(inner.own_status()))),
            PeerRequest::Digest { mark, recompute } => {
                let (digest, again) = inner.digest_at(mark, recompute).await.map_err(refused)?;
                Ok(PeerResponse::Digest(digest, again))
            }
            PeerRequest::Differs { mark, majority } => {
                inner.stop_if_different(mark, majority);
                Ok(PeerResponse::Done)
            }
            PeerRequest::Hello { is_founder, .. } => {
                // Who was a learner yesterday may be a voter: a joiner hears only what is agreed on now.
                // It gives up on an answer that waits for a quorum, and asks again.
                if !is_founder && !self.may_begin(from).await {
                    return Ok(PeerResponse::Hello(Hello::Unsure));
                }
                Ok(PeerResponse::Hello(inner.hello()))
            }
            PeerRequest::BeginsAnew(learner) => {
                self.check_leading()?;
                inner.begins_anew_here(learner).await.map_err(refused)?;
                Ok(PeerResponse::Done)
            }
            PeerRequest::Membership(change) => {
                let changed = inner.change_membership_here(change).await;
                Ok(changed.map_or_else(PeerResponse::Failed, |()| PeerResponse::Done))
            }
        }
    }

    fn check_leading(&self) -> Result<(), PeerError> {
        if self.inner.leadership.borrow().leader == Some(self.inner.member) {
            Ok(())
        } else {
            Err(PeerError::Refused(format!("member {} does not lead", self.inner.member)))
        }
    }

    fn append(&self, mut input: Inbound) -> Inbound {
        let service = self.clone();
        let (requests, receiver) = mpsc::channel::<AppendEntriesRequest<TypeConfig>>(APPEND_DEPTH);
        let (answers, outbound) = mpsc::channel(APPEND_DEPTH);
        let reader = async move {
            let mut end = StreamEnd { inner: service.inner.clone(), from: None };
            let feed = async {
                while let Some(Ok(bytes)) = input.next().await {
                    let (envelope, request) = decode::<AppendEntriesRequest<TypeConfig>>(&bytes)?;
                    service.check(&envelope)?;
                    end.from = Some(envelope.from);
                    service.inner.succession.heard();
                    if requests.send(request).await.is_err() {
                        break;
                    }
                }
                drop(requests);
                Ok::<(), PeerError>(())
            };
            let raft = service.inner.raft.clone();
            let envelope = Envelope { cluster: service.inner.cluster, from: service.inner.member.0, to: 0 };
            let answer = async {
                let results = raft.stream_append(ReceiverStream::new(receiver));
                futures_util::pin_mut!(results);
                let mut told = None;
                while let Some(result) = results.next().await {
                    // Word of a newer commit alone ends where the request before it did: its answer
                    // would tell the leader nothing (which knows that none comes, see network).
                    if let Ok(Ok(matching)) = &result
                        && told.replace(*matching) == Some(*matching)
                    {
                        continue;
                    }
                    let message = match result {
                        Ok(result) => Ok(encode::<StreamAppendResult<TypeConfig>>(&envelope, &result)),
                        Err(fatal) => Err(refused(fatal)),
                    };
                    if answers.send(message).await.is_err() {
                        break;
                    }
                }
            };
            // The leader ending its side lets what it sent be answered; anything else ends both sides,
            // and the leader opens a new stream.
            futures_util::pin_mut!(feed, answer);
            tokio::select! {
                fed = &mut feed => match fed {
                    Ok(()) => answer.await,
                    Err(error) => { let _ = answers.send(Err(error)).await; }
                },
                () = &mut answer => {}
            }
        };
        guarded(outbound, TaskGuard::spawn("append stream", reader))
    }

    fn propose(&self, mut input: Inbound) -> Inbound {
        let service = self.clone();
        let (answers, outbound) = mpsc::channel(1);
        let reader = async move {
            let mut lost = service.inner.lost.subscribe();
            let mut leadership = service.inner.leadership.clone();
            loop {
                if leadership.borrow_and_update().leader != Some(service.inner.member) {
                    let error = PeerError::Refused(format!("member {} does not lead", service.inner.member));
                    let _ = answers.send(Err(error)).await;
                    return;
                }
                tokio::select! {
                    biased;
                    // Commands may have been lost: ending the stream makes the sender propose again.
                    _ = lost.changed() => return,
                    changed = leadership.changed() => if changed.is_err() { return },
                    message = input.next() => {
                        let Some(Ok(bytes)) = message else { return };
                        let group = match decode::<Group>(&bytes).and_then(|(envelope, group)| {
                            service.check(&envelope)?;
                            Ok(group)
                        }) {
                            Ok(group) => group,
                            Err(error) => { let _ = answers.send(Err(error)).await; return }
                        };
                        // A queue may stay full for as long as this member does not lead; the group then
                        // ends with the stream, and its sender proposes it again.
                        tokio::select! {
                            biased;
                            _ = lost.changed() => return,
                            _ = leadership.changed() => return,
                            pushed = service.inner.queue.push(group) => if pushed.is_err() { return },
                        }
                    }
                }
            }
        };
        guarded(outbound, TaskGuard::spawn("propose stream", reader))
    }

    fn snapshot(&self, mut input: Inbound) -> Inbound {
        let service = self.clone();
        let (answers, outbound) = mpsc::channel(1);
        let reader = async move {
            let installed = async {
                let first = input.next().await.ok_or_else(|| refused("empty snapshot stream"))??;
                let (envelope, offer) = decode::<SnapshotOffer>(&first)?;
                service.check(&envelope)?;
                let snapshot =
                    service.inner.snapshots.receive(offer.meta, &mut input).await.map_err(refused)?;
                let response =
                    service.inner.raft.install_full_snapshot(offer.vote, snapshot).await.map_err(refused)?;
                Ok::<Bytes, PeerError>(encode::<Vote>(&service.reply_to(&envelope), &response.vote))
            };
            let answer = installed.await;
            if let Err(error) = &answer {
                tracing::warn!(%error, "a snapshot from the leader was not installed");
            }
            let _ = answers.send(answer).await;
        };
        guarded(outbound, TaskGuard::spawn("snapshot stream", reader))
    }
}

/// Notes that a stream of entries has ended, also when the connection took its task along.
struct StreamEnd {
    inner: Arc<Inner>,
    from: Option<u64>,
}

impl Drop for StreamEnd {
    fn drop(&mut self) {
        if let Some(from) = self.from {
            self.inner.succession.stream_ended(from);
        }
    }
}

/// A receiver's messages; dropping the stream ends the task that makes them.
fn guarded(receiver: mpsc::Receiver<Result<Bytes, PeerError>>, guard: TaskGuard) -> Inbound {
    let mut messages = ReceiverStream::new(receiver);
    Box::pin(futures_util::stream::poll_fn(move |context| {
        let _owned = &guard;
        messages.poll_next_unpin(context)
    }))
}

fn refused(error: impl std::fmt::Display) -> PeerError {
    PeerError::Refused(error.to_string())
}
