//! Peers over gRPC: the calling side. The answering side is [`super::peer_listener`].
//!
//! One HTTP/2 connection per address and purpose, made lazily and kept; snapshots have their own,
//! so that their bulk never delays a heartbeat.

use std::collections::HashMap;
use std::pin::Pin;
use std::sync::{Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use futures_util::{Stream, StreamExt};
use quorate_proto::quorate::peer::v1::Parcel;
use quorate_proto::quorate::peer::v1::peer_client::PeerClient;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Status};

use super::peers::{Inbound, Outbound, PeerError, PeerTransport, StreamKind};

/// The largest message between members.
pub(super) const MESSAGE_BYTES_MAX: usize = 128 << 20;
/// How long a connection may take to come up.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);
/// A connection that carries nothing is probed this often, and given up if the probe is not answered.
const KEEP_ALIVE: Duration = Duration::from_secs(2);

/// What a connection is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Lane {
    Calls,
    Stream(StreamKind),
}

/// gRPC connections to peers.
#[derive(Debug, Default)]
pub struct GrpcTransport {
    channels: Mutex<HashMap<(String, Lane), Channel>>,
}

impl GrpcTransport {
    fn client(&self, address: &str, lane: Lane) -> Result<PeerClient<Channel>, PeerError> {
        let mut channels = self.channels.lock().unwrap_or_else(PoisonError::into_inner);
        let key = (address.to_owned(), lane);
        let channel = match channels.get(&key) {
            Some(channel) => channel.clone(),
            None => {
                let endpoint = Endpoint::from_shared(format!("http://{address}"))
                    .map_err(|error| PeerError::Unreachable(format!("peer address {address:?}: {error}")))?
                    .connect_timeout(CONNECT_TIMEOUT)
                    .tcp_nodelay(true)
                    .http2_keep_alive_interval(KEEP_ALIVE)
                    .keep_alive_timeout(KEEP_ALIVE)
                    .keep_alive_while_idle(true)
                    .initial_stream_window_size(8 << 20)
                    .initial_connection_window_size(16 << 20);
                let channel = endpoint.connect_lazy();
                channels.insert(key, channel.clone());
                channel
            }
        };
        Ok(PeerClient::new(channel)
            .max_decoding_message_size(MESSAGE_BYTES_MAX)
            .max_encoding_message_size(MESSAGE_BYTES_MAX))
    }
}

impl PeerTransport for GrpcTransport {
    fn call(
        &self,
        address: &str,
        request: Bytes,
        patience: Duration,
    ) -> BoxFuture<'static, Result<Bytes, PeerError>> {
        let client = self.client(address, Lane::Calls);
        Box::pin(async move {
            let mut client = client?;
            match tokio::time::timeout(patience, client.call(Parcel { body: request })).await {
                Ok(Ok(answer)) => Ok(answer.into_inner().body),
                Ok(Err(status)) => Err(peer_error(&status)),
                Err(_) => Err(PeerError::Timeout(patience)),
            }
        })
    }

    fn stream(
        &self,
        address: &str,
        kind: StreamKind,
        input: Outbound,
    ) -> BoxFuture<'static, Result<Inbound, PeerError>> {
        let client = self.client(address, Lane::Stream(kind));
        let parcels = Parcels(input);
        match client {
            Ok(client) => Box::pin(converse(client, kind, parcels)),
            Err(error) => Box::pin(std::future::ready(Err(error))),
        }
    }
}

async fn converse(
    mut client: PeerClient<Channel>,
    kind: StreamKind,
    parcels: Parcels,
) -> Result<Inbound, PeerError> {
    let answer = match kind {
        StreamKind::Append => client.append(parcels).await,
        StreamKind::Propose => client.propose(parcels).await,
        StreamKind::Snapshot => client.snapshot(parcels).await,
    };
    let inbound = answer.map_err(|status| peer_error(&status))?.into_inner();
    Ok(Box::pin(inbound.map(into_body)))
}

fn into_body(parcel: Result<Parcel, Status>) -> Result<Bytes, PeerError> {
    match parcel {
        Ok(parcel) => Ok(parcel.body),
        Err(status) => Err(peer_error(&status)),
    }
}

/// Messages, each in a parcel. A type of its own, because the compiler cannot prove a mapped trait
/// object `Send` through tonic's generics.
struct Parcels(Outbound);

impl Stream for Parcels {
    type Item = Parcel;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Parcel>> {
        self.0.as_mut().poll_next(context).map(|body| body.map(|body| Parcel { body }))
    }
}

fn peer_error(status: &Status) -> PeerError {
    match status.code() {
        Code::FailedPrecondition | Code::InvalidArgument | Code::PermissionDenied => {
            PeerError::Refused(status.message().to_owned())
        }
        _ => PeerError::Unreachable(status.to_string()),
    }
}
