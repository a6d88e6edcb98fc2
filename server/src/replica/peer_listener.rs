//! Peers over gRPC: the answering side. What is answered is [`super::peer_service`]'s.

use std::pin::Pin;
use std::sync::{Arc, PoisonError, RwLock};

use futures_util::{Stream, StreamExt};
use quorate_proto::quorate::peer::v1::Parcel;
use quorate_proto::quorate::peer::v1::peer_server::{Peer, PeerServer};
use tonic::{Request, Response, Status, Streaming};

use super::peer_transport::MESSAGE_BYTES_MAX;
use super::peers::{Inbound, PeerError, PeerHandler, StreamKind};

/// Who answers peers now: nobody, then the founding, then the replica.
#[derive(Clone, Debug, Default)]
pub struct PeerSwitch {
    handler: Arc<RwLock<Option<Arc<dyn PeerHandler>>>>,
}

impl PeerSwitch {
    /// From now on this one answers.
    pub fn set(&self, handler: Arc<dyn PeerHandler>) {
        *self.handler.write().unwrap_or_else(PoisonError::into_inner) = Some(handler);
    }

    /// From now on nobody answers.
    pub fn clear(&self) {
        *self.handler.write().unwrap_or_else(PoisonError::into_inner) = None;
    }

    /// Who answers now.
    ///
    /// # Errors
    /// `Unreachable` while the member starts, or if it may not.
    pub fn current(&self) -> Result<Arc<dyn PeerHandler>, PeerError> {
        let handler = self.handler.read().unwrap_or_else(PoisonError::into_inner).clone();
        handler.ok_or_else(|| PeerError::Unreachable("this member is starting".into()))
    }
}

/// The gRPC service in front of a [`PeerHandler`].
#[derive(Debug)]
pub struct PeerListener {
    switch: PeerSwitch,
}

/// Makes the service, ready to be served on the peer port.
pub fn peer_server(switch: PeerSwitch) -> PeerServer<PeerListener> {
    PeerServer::new(PeerListener { switch })
        .max_decoding_message_size(MESSAGE_BYTES_MAX)
        .max_encoding_message_size(MESSAGE_BYTES_MAX)
}

type Answers = Pin<Box<dyn Stream<Item = Result<Parcel, Status>> + Send>>;

impl PeerListener {
    fn converse(
        &self,
        kind: StreamKind,
        request: Request<Streaming<Parcel>>,
    ) -> Result<Response<Answers>, Status> {
        let handler = self.switch.current().map_err(|error| status(&error))?;
        let inbound: Inbound = Box::pin(request.into_inner().map(|parcel| match parcel {
            Ok(parcel) => Ok(parcel.body),
            Err(status) => Err(PeerError::Unreachable(status.to_string())),
        }));
        let answers = handler.stream(kind, inbound).map(|answer| match answer {
            Ok(body) => Ok(Parcel { body }),
            Err(error) => Err(status(&error)),
        });
        Ok(Response::new(Box::pin(answers)))
    }
}

#[tonic::async_trait]
impl Peer for PeerListener {
    async fn call(&self, request: Request<Parcel>) -> Result<Response<Parcel>, Status> {
        let handler = self.switch.current().map_err(|error| status(&error))?;
        match handler.call(request.into_inner().body).await {
            Ok(body) => Ok(Response::new(Parcel { body })),
            Err(error) => Err(status(&error)),
        }
    }

    type AppendStream = Answers;

    async fn append(&self, request: Request<Streaming<Parcel>>) -> Result<Response<Answers>, Status> {
        self.converse(StreamKind::Append, request)
    }

    type ProposeStream = Answers;

    async fn propose(&self, request: Request<Streaming<Parcel>>) -> Result<Response<Answers>, Status> {
        self.converse(StreamKind::Propose, request)
    }

    type SnapshotStream = Answers;

    async fn snapshot(&self, request: Request<Streaming<Parcel>>) -> Result<Response<Answers>, Status> {
        self.converse(StreamKind::Snapshot, request)
    }
}

fn status(error: &PeerError) -> Status {
    match error {
        PeerError::Refused(reason) => Status::failed_precondition(reason.clone()),
        PeerError::Unreachable(_) | PeerError::Timeout(_) => Status::unavailable(error.to_string()),
    }
}
