//! Peers over the simulated network: the production messages on simulated connections.
//!
//! A call whose caller has given up still arrives and takes effect; a stream keeps its order and
//! ends for both sides when either crashes, drops it, or the network breaks it.

use std::fmt;
use std::time::Duration;

use bytes::Bytes;
use futures_util::StreamExt;
use futures_util::future::BoxFuture;
use quorate_server::replica::peers::{Inbound, Outbound, PeerError, PeerTransport, StreamKind};
use quorate_server::tasks::TaskGuard;
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, timeout};
use xxhash_rust::xxh3::xxh3_64;

use super::life::{Life, Node};
use super::network::Network;

/// Messages of one direction of a stream that may be under way.
const UNDER_WAY: usize = 64;

/// One process' way to its peers.
#[derive(Clone)]
pub struct Transport {
    /// Through this network.
    pub network: Network,
    /// While it lives.
    pub life: Life,
}

impl fmt::Debug for Transport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Transport").field("node", &self.life.node()).finish_non_exhaustive()
    }
}

/// The address of a member's peer port.
pub fn address(node: Node) -> String {
    format!("{node}:7401")
}

fn node_at(address: &str) -> Node {
    address.split(':').next().and_then(|node| node.parse().ok()).unwrap_or(0)
}

fn unreachable(why: &str) -> PeerError {
    PeerError::Unreachable(why.to_owned())
}

/// One direction of a stream, under way.
enum Parcel {
    Message(Instant, Bytes),
    /// The sender has no more to say.
    End(Instant),
    /// The other side answers with an error, which ends the stream.
    Failed(Instant, PeerError),
}

impl PeerTransport for Transport {
    fn call(
        &self,
        address: &str,
        request: Bytes,
        patience: Duration,
    ) -> BoxFuture<'static, Result<Bytes, PeerError>> {
        let (answer, answered) = oneshot::channel();
        if self.life.is_alive() {
            let task = call(self.network.clone(), self.life.node(), node_at(address), request, answer);
            self.network.carry(task);
        }
        Box::pin(async move {
            match timeout(patience, answered).await {
                Ok(Ok(answer)) => answer,
                Ok(Err(_)) => Err(unreachable("the connection broke")),
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
        Box::pin(open_stream(self.clone(), node_at(address), kind, input))
    }
}

/// A call from end to end; it goes on if the caller gives up.
async fn call(
    network: Network,
    from: Node,
    to: Node,
    request: Bytes,
    answer: oneshot::Sender<Result<Bytes, PeerError>>,
) {
    if network.arrive(from, to, network.arrival()).await.is_err() {
        return;
    }
    let Some(target) = network.find(to) else {
        let back = network.arrival();
        if network.arrive(to, from, back).await.is_ok() {
            let _ = answer.send(Err(unreachable("connection refused")));
        }
        return;
    };
    network.trace.note(format_args!("{from}>{to} call {} {:016x}", request.len(), xxh3_64(&request)));
    let life = target.life.clone();
    life.spawn(async move {
        let result = match target.peers.current() {
            Ok(handler) => handler.call(request).await,
            Err(error) => Err(error),
        };
        if !target.life.is_alive() {
            return;
        }
        let back = network.arrival();
        let way = network.clone();
        network.carry(async move {
            if way.arrive(to, from, back).await.is_ok() {
                way.trace.note(format_args!("{to}>{from} answer {}", show(&result)));
                let _ = answer.send(result);
            }
        });
    });
}

fn show(result: &Result<Bytes, PeerError>) -> String {
    match result {
        Ok(bytes) => format!("{} {:016x}", bytes.len(), xxh3_64(bytes)),
        Err(error) => error.to_string(),
    }
}

async fn open_stream(
    transport: Transport,
    to: Node,
    kind: StreamKind,
    input: Outbound,
) -> Result<Inbound, PeerError> {
    let Transport { network, life } = transport;
    let from = life.node();
    if !life.is_alive() {
        return Err(unreachable("this process has crashed"));
    }
    let broken = |_| unreachable("the connection broke");
    network.arrive(from, to, network.arrival()).await.map_err(broken)?;
    let Some(target) = network.find(to) else {
        network.arrive(to, from, network.arrival()).await.map_err(broken)?;
        return Err(unreachable("connection refused"));
    };
    let handler = target.peers.current()?;
    network.trace.note(format_args!("{from}>{to} opens {kind:?}"));
    let (requests, requested) = mpsc::channel(UNDER_WAY);
    let (answers, answered) = mpsc::channel(UNDER_WAY);
    let outbound = input.map(Ok).boxed();
    let sending = send(network.clone(), life.clone(), outbound, requests);
    let sender = TaskGuard::spawn("stream's sender", sending);
    let incoming = receive(network.clone(), from, to, requested, None);
    let output = handler.stream(kind, incoming);
    // The answering process sends its answers, for as long as it lives.
    target.life.spawn(send(network.clone(), target.life.clone(), output, answers));
    Ok(receive(network, to, from, answered, Some(sender)))
}

/// Sends one direction's messages until there are no more, or nobody receives.
async fn send(network: Network, life: Life, mut messages: Inbound, parcels: mpsc::Sender<Parcel>) {
    let mut last = Instant::now();
    loop {
        let message = tokio::select! {
            biased;
            () = parcels.closed() => return,
            message = messages.next() => message,
        };
        if !life.is_alive() {
            return;
        }
        last = last.max(network.arrival());
        let (parcel, is_last) = match message {
            Some(Ok(bytes)) => (Parcel::Message(last, bytes), false),
            Some(Err(error)) => (Parcel::Failed(last, error), true),
            None => (Parcel::End(last), true),
        };
        if parcels.send(parcel).await.is_err() || is_last {
            return;
        }
    }
}

/// Receives one direction's messages, in order, each at its time. `guard` ends the other direction
/// with this one.
fn receive(
    network: Network,
    from: Node,
    to: Node,
    parcels: mpsc::Receiver<Parcel>,
    guard: Option<TaskGuard>,
) -> Inbound {
    let state = Some((network, parcels, guard));
    Box::pin(futures_util::stream::unfold(state, move |state| async move {
        let (network, mut parcels, guard) = state?;
        let parcel = tokio::select! {
            biased;
            parcel = parcels.recv() => parcel,
            () = network.given_up(from, to) => None,
        };
        let Some(parcel) = parcel else {
            return Some((Err(unreachable("the connection broke")), None));
        };
        let at = match &parcel {
            Parcel::Message(at, _) | Parcel::End(at) | Parcel::Failed(at, _) => *at,
        };
        if network.arrive(from, to, at).await.is_err() {
            return Some((Err(unreachable("the connection broke")), None));
        }
        match parcel {
            Parcel::Message(_, bytes) => {
                network.trace.note(format_args!("{from}>{to} {} {:016x}", bytes.len(), xxh3_64(&bytes)));
                Some((Ok(bytes), Some((network, parcels, guard))))
            }
            Parcel::Failed(_, error) => Some((Err(error), None)),
            Parcel::End(_) => None,
        }
    }))
}
