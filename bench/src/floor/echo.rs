//! gRPC's floor: tonic answering with what it was sent, unary and as a stream.
//!
//! The server has a thread and a single-threaded runtime of its own in this process, as a member
//! has in its; so CPU time here is both sides'.

use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::stream::{BoxStream, FuturesUnordered};
use futures_util::{FutureExt, StreamExt};
use tokio::net::TcpListener;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;
use tokio_stream::wrappers::{ReceiverStream, TcpListenerStream};
use tonic::transport::{Channel, Endpoint, Server};
use tonic::{Request, Response, Status, Streaming};

use crate::failure::{Failure, Outcome};
use crate::generated::quorate::bench::v1::EchoMessage;
use crate::generated::quorate::bench::v1::echo_client::EchoClient;
use crate::generated::quorate::bench::v1::echo_server::{Echo, EchoServer};
use crate::workloads::{Figures, Meter, histogram};

/// Bytes of a message.
const PAYLOAD: usize = 100;

struct Answerer;

#[tonic::async_trait]
impl Echo for Answerer {
    async fn unary(&self, request: Request<EchoMessage>) -> Result<Response<EchoMessage>, Status> {
        Ok(Response::new(request.into_inner()))
    }

    type StreamStream = BoxStream<'static, Result<EchoMessage, Status>>;

    async fn stream(
        &self,
        request: Request<Streaming<EchoMessage>>,
    ) -> Result<Response<Self::StreamStream>, Status> {
        Ok(Response::new(request.into_inner().boxed()))
    }
}

pub(super) async fn run(duration: Duration) -> Outcome<Vec<Figures>> {
    let (address_sender, address) = oneshot::channel();
    let (stop, stopped) = oneshot::channel::<()>();
    let server = std::thread::spawn(move || serve(address_sender, stopped));
    let address = address.await?;
    let mut figures = Vec::new();
    for (label, connections, in_flight) in
        [("tonic unary echo, 8 × 8", 8, 8), ("tonic unary echo, 8 × 32", 8, 32)]
    {
        figures.push(unary(label, &address, connections, in_flight, duration).await?);
    }
    figures.push(stream("tonic stream echo, 8 × 32", &address, 8, 32, duration).await?);
    // Its receiver is gone only if the server has failed, which join tells.
    let _ = stop.send(());
    server.join().map_err(|_| "the echo server panicked")??;
    Ok(figures)
}

fn serve(address: oneshot::Sender<String>, stopped: oneshot::Receiver<()>) -> Outcome<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        // Whoever asked is gone: then nothing is to be served, and `stopped` says so.
        let _ = address.send(listener.local_addr()?.to_string());
        let served = Server::builder()
            .tcp_nodelay(true)
            .add_service(EchoServer::new(Answerer))
            .serve_with_incoming_shutdown(TcpListenerStream::new(listener), stopped.map(drop));
        Ok(served.await?)
    })
}

async fn connect(address: &str) -> Outcome<EchoClient<Channel>> {
    let endpoint = Endpoint::from_shared(format!("http://{address}"))?.tcp_nodelay(true);
    Ok(EchoClient::new(endpoint.connect().await?))
}

fn message() -> EchoMessage {
    EchoMessage { payload: Bytes::from(vec![b'x'; PAYLOAD]) }
}

async fn unary(
    label: &str,
    address: &str,
    connections: usize,
    in_flight: usize,
    duration: Duration,
) -> Outcome<Figures> {
    let mut clients = Vec::new();
    for _ in 0..connections {
        clients.push(connect(address).await?);
    }
    let meter = Meter::start(&[]);
    let until = meter.started() + duration;
    let mut sessions = JoinSet::new();
    for client in clients {
        sessions.spawn(async move {
            let mut times = histogram();
            let mut under_way = FuturesUnordered::new();
            loop {
                while Instant::now() < until && under_way.len() < in_flight {
                    let (mut client, sent) = (client.clone(), Instant::now());
                    under_way.push(async move { client.unary(message()).await.map(|_| sent) });
                }
                let Some(answered) = under_way.next().await else { return Ok::<_, Failure>(times) };
                times.record(u64::try_from(answered?.elapsed().as_micros())?.max(1))?;
            }
        });
    }
    gather(label, meter, sessions).await
}

async fn stream(
    label: &str,
    address: &str,
    connections: usize,
    in_flight: usize,
    duration: Duration,
) -> Outcome<Figures> {
    let mut clients = Vec::new();
    for _ in 0..connections {
        clients.push(connect(address).await?);
    }
    let meter = Meter::start(&[]);
    let until = meter.started() + duration;
    let mut sessions = JoinSet::new();
    for mut client in clients {
        sessions.spawn(async move {
            let mut times = histogram();
            let (sender, receiver) = mpsc::channel(in_flight);
            let mut answers = client.stream(ReceiverStream::new(receiver)).await?.into_inner();
            let mut sent = std::collections::VecDeque::with_capacity(in_flight);
            loop {
                while Instant::now() < until && sent.len() < in_flight {
                    sent.push_back(Instant::now());
                    sender.send(message()).await?;
                }
                let Some(at) = sent.pop_front() else { return Ok::<_, Failure>(times) };
                answers.message().await?.ok_or("the echo ended")?;
                times.record(u64::try_from(at.elapsed().as_micros())?.max(1))?;
            }
        });
    }
    gather(label, meter, sessions).await
}

async fn gather(
    label: &str,
    meter: Meter,
    mut sessions: JoinSet<Outcome<hdrhistogram::Histogram<u64>>>,
) -> Outcome<Figures> {
    let mut times = histogram();
    while let Some(session) = sessions.join_next().await {
        times.add(&session??)?;
    }
    let operations = times.len();
    Ok(meter.finish(label, operations).with_times(&times))
}
