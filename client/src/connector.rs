//! Reaching a member: which endpoint next, how long to wait, and the greeting on the stream.
//!
//! Each attempt resolves its endpoint's name anew. What to do with the stream is session/.

use std::time::Duration;

use quorate_core::error::{Error as Refusal, ErrorKind};
use quorate_proto::convert::error_from_status;
use quorate_proto::v1::session_client::SessionClient;
use quorate_proto::v1::{ClientFrame, Connected, ServerFrame, server_frame};
use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Streaming;
use tonic::transport::{Channel, ClientTlsConfig, Endpoint};

use crate::error::{Error, Result};

/// How long one attempt to reach one member may take.
const ATTEMPT_MAX: Duration = Duration::from_secs(3);
/// The pause after the first round over all endpoints; doubled after each, up to [`PAUSE_MAX`].
const PAUSE_FIRST: Duration = Duration::from_millis(50);
const PAUSE_MAX: Duration = Duration::from_secs(2);
/// A silent channel is probed this often, and given up when a probe is not answered for as long.
const PROBE: Duration = Duration::from_secs(10);
/// Frames that may wait for the socket. Few, so that what waits behind them gathers in one frame.
const FRAMES_WAITING: usize = 2;
/// A frame larger than this ends the connection; above any list that a member would answer with.
const FRAME_BYTES_MAX: usize = 256 << 20;

/// Goes around the endpoints in random order.
#[derive(Clone, Debug)]
pub(crate) struct Connector {
    endpoints: Vec<Endpoint>,
    next: usize,
    rounds_failed: u32,
}

/// A stream to a member that has accepted the session.
#[derive(Debug)]
pub(crate) struct Connection {
    pub(crate) outbound: mpsc::Sender<ClientFrame>,
    pub(crate) inbound: Streaming<ServerFrame>,
    pub(crate) connected: Connected,
    /// When the Connect was sent: the session's timeout counts from here.
    pub(crate) asked_at: Instant,
}

impl Connector {
    pub(crate) fn new(endpoints: &[String], tls: Option<ClientTlsConfig>) -> Result<Connector> {
        if endpoints.is_empty() {
            return Err(Error::BadArguments("no endpoints".into()));
        }
        let mut endpoints = endpoints
            .iter()
            .map(|endpoint| parse(endpoint, tls.as_ref()))
            .collect::<Result<Vec<Endpoint>>>()?;
        fastrand::shuffle(&mut endpoints);
        Ok(Connector { endpoints, next: 0, rounds_failed: 0 })
    }

    /// One attempt at the next endpoint: connects and greets with `hello`.
    pub(crate) async fn attempt(
        &mut self,
        hello: ClientFrame,
        limit: Duration,
    ) -> Result<Connection, Refusal> {
        let endpoint = self.advance();
        let connection = tokio::time::timeout(limit.min(ATTEMPT_MAX), greet(endpoint, hello))
            .await
            .unwrap_or_else(|_| Err(Refusal::new(ErrorKind::Unavailable, "no answer in time")));
        if connection.is_ok() {
            self.rounds_failed = 0;
        }
        connection
    }

    /// One attempt at a channel to the next endpoint.
    pub(crate) async fn channel(&mut self) -> Result<Channel, tonic::transport::Error> {
        // It has no heartbeats of its own: without probes a vanished host is never missed on a quiet stream.
        let endpoint = self.advance().http2_keep_alive_interval(PROBE).keep_alive_timeout(PROBE);
        endpoint.keep_alive_while_idle(true).connect().await
    }

    /// Waits after a failed attempt: not at all while there are endpoints left in this round, then
    /// longer and longer, with jitter, so that a thousand clients do not return at once.
    pub(crate) async fn pause(&mut self) {
        if !self.next.is_multiple_of(self.endpoints.len()) {
            return;
        }
        let whole = PAUSE_FIRST.saturating_mul(1 << self.rounds_failed.min(16)).min(PAUSE_MAX);
        self.rounds_failed += 1;
        tokio::time::sleep(whole.mul_f64(0.5 + fastrand::f64() / 2.0)).await;
    }

    fn advance(&mut self) -> Endpoint {
        if self.next >= self.endpoints.len() {
            // The last one stays last: whoever has just left a member tries all others first.
            let others = self.endpoints.len() - 1;
            fastrand::shuffle(&mut self.endpoints[..others]);
            self.next = 0;
        }
        self.next += 1;
        self.endpoints[self.next - 1].clone()
    }
}

fn parse(endpoint: &str, tls: Option<&ClientTlsConfig>) -> Result<Endpoint> {
    let scheme = if tls.is_some() { "https" } else { "http" };
    let url = if endpoint.contains("://") { endpoint.into() } else { format!("{scheme}://{endpoint}") };
    let bad = |error: tonic::transport::Error| Error::BadArguments(format!("endpoint {endpoint:?}: {error}"));
    let mut parsed = Endpoint::from_shared(url)
        .map_err(bad)?
        .connect_timeout(ATTEMPT_MAX)
        .tcp_nodelay(true)
        .initial_stream_window_size(4 << 20)
        .initial_connection_window_size(8 << 20);
    if let Some(tls) = tls {
        parsed = parsed.tls_config(tls.clone()).map_err(bad)?;
    }
    Ok(parsed)
}

async fn greet(endpoint: Endpoint, hello: ClientFrame) -> Result<Connection, Refusal> {
    let unreachable = |error: &dyn std::error::Error| {
        Refusal::new(ErrorKind::Unavailable, format!("{}: {error}", endpoint.uri()))
    };
    let channel = endpoint.connect().await.map_err(|error| unreachable(&error))?;
    let mut client = SessionClient::new(channel).max_decoding_message_size(FRAME_BYTES_MAX);

    let (outbound, frames) = mpsc::channel(FRAMES_WAITING);
    let asked_at = Instant::now();
    outbound.try_send(hello).expect("a fresh queue has room");
    let response = client.open(ReceiverStream::new(frames)).await.map_err(|s| refusal(&s))?;
    let mut inbound = response.into_inner();

    let greeting = inbound.message().await.map_err(|status| refusal(&status))?;
    match greeting.and_then(|frame| frame.greeting) {
        Some(server_frame::Greeting::Connected(connected)) => {
            Ok(Connection { outbound, inbound, connected, asked_at })
        }
        Some(server_frame::Greeting::Refused(detail)) => Err(detail.try_into().unwrap_or_else(|error| {
            Refusal::new(ErrorKind::Unavailable, format!("refused, but not why: {error}"))
        })),
        None => Err(Refusal::new(ErrorKind::Unavailable, "the stream ended before a greeting")),
    }
}

/// Why a stream ended. A connection carries no outcome of its own, so all that gRPC itself reports
/// is "unavailable": what was under way is told by the session when it is resumed.
pub(crate) fn refusal(status: &tonic::Status) -> Refusal {
    let mut error = error_from_status(status);
    if error.kind == ErrorKind::OutcomeUnknown {
        error.kind = ErrorKind::Unavailable;
    }
    error
}
