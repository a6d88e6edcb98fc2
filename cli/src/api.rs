//! Single calls to whichever member answers, without a session.
//!
//! - All endpoints are tried at once; the first that answers is kept until it disappoints.
//! - A call that may be sent again (a read; a write with a request id) is, at another member, until
//!   the time is over. One that may not is only repeated after a refusal that says "nothing
//!   happened". See [`Call`].
//!
//! What is asked is the commands' business; see [`crate::context`].

use std::time::Duration;

use futures_util::future::select_ok;
use quorate_core::error::{Error, ErrorKind};
use quorate_core::id::Zxid;
use quorate_core::request::Consistency;
use quorate_proto::convert::error_from_status;
use quorate_proto::v1;
use quorate_proto::v1::cluster_client::ClusterClient;
use quorate_proto::v1::registry_client::RegistryClient;
use quorate_proto::v1::ring_client::RingClient;
use quorate_proto::v1::znodes_client::ZnodesClient;
use tokio::time::Instant;
use tonic::Status;
use tonic::transport::{Channel, Endpoint};

use crate::arguments::{ConsistencyArgument, DEFAULT_ENDPOINTS, GlobalArguments};
use crate::failure::{Failure, Outcome};
use crate::output::human::now_ms;
use crate::values::AuthArgument;

/// No answer is larger: a list is streamed, and data has a limit.
const MESSAGE_BYTES_MAX: usize = 128 << 20;
/// Reaching a member takes no longer than this if it is alive.
const CONNECT_MAX: Duration = Duration::from_secs(3);
/// A silent connection is probed this often, and given up if the probe is not answered in as long.
const PROBE: Duration = Duration::from_secs(10);
/// Between two tries.
const PAUSE_FIRST: Duration = Duration::from_millis(50);
const PAUSE_MAX: Duration = Duration::from_secs(1);

/// What a call is when nobody knows what became of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Call {
    /// Nothing can have happened.
    Read,
    /// A write that may be sent again, under its request id.
    NamedWrite,
    /// A write that may not, unless the cluster says that nothing happened.
    Write,
    /// A write of many steps: even then some of them may be done.
    LongWrite,
}

/// See the file's comment.
#[derive(Debug)]
pub struct Api {
    endpoints: Vec<Endpoint>,
    names: Vec<String>,
    timeout: Duration,
    /// How long a member may be silent before another is asked; by default half of the timeout.
    silence_max: Option<Duration>,
    credentials: Vec<v1::Credential>,
    consistency: ConsistencyArgument,
    /// The newest transaction that any answer showed.
    seen: Zxid,
    /// The member in use: its place among the endpoints.
    connected: Option<(usize, Channel)>,
    /// The last that disappointed: the others come first.
    avoided: Option<usize>,
}

impl Api {
    pub fn new(global: &GlobalArguments) -> Outcome<Api> {
        let names: Vec<&str> =
            global.endpoints.iter().map(|name| name.trim()).filter(|name| !name.is_empty()).collect();
        if names.is_empty() {
            return Err(Failure::usage("no endpoints: give --endpoints HOST:PORT"));
        }
        let endpoints = names.iter().map(|name| endpoint(name)).collect::<Outcome<Vec<Endpoint>>>()?;
        Ok(Api {
            endpoints,
            names: names.into_iter().map(Into::into).collect(),
            timeout: global.timeout,
            silence_max: None,
            credentials: global.auth.iter().map(credential).collect(),
            consistency: global.consistency,
            seen: Zxid(0),
            connected: None,
            avoided: None,
        })
    }

    /// The endpoints as they were given.
    pub fn names(&self) -> Vec<String> {
        self.names.clone()
    }

    /// Later calls may take at least this long: the cluster itself waits for something.
    pub fn allow(&mut self, patience: Duration) {
        self.timeout = self.timeout.max(patience);
    }

    /// Later calls wait only so long for a member before they ask another: something must not end meanwhile.
    pub fn hurry(&mut self, silence_max: Duration) {
        self.silence_max = Some(silence_max);
    }

    /// Fails if no member can be reached.
    pub async fn reach(&mut self) -> Outcome {
        self.channel(Instant::now() + self.timeout).await.map(|_| ())
    }

    /// Later calls prove this identity too.
    pub fn add_credential(&mut self, auth: &AuthArgument) {
        self.credentials.push(credential(auth));
    }

    /// What the caller proves.
    pub fn credentials(&self) -> Vec<v1::Credential> {
        self.credentials.clone()
    }

    /// How fresh reads must be: at least as new as what this process has seen.
    pub fn consistency(&self) -> Option<v1::Consistency> {
        let consistency = match (self.consistency, self.seen) {
            (ConsistencyArgument::Linearizable, _) => Consistency::Linearizable,
            (ConsistencyArgument::Session, Zxid(0)) => Consistency::Session,
            (ConsistencyArgument::Session, seen) => Consistency::AtLeast(seen),
        };
        quorate_proto::convert::values::consistency_to_wire(consistency)
    }

    /// An answer showed this transaction.
    pub fn saw(&mut self, zxid: u64) {
        self.seen = self.seen.max(Zxid(zxid));
    }

    /// A fresh name for a write, so that sending it again is harmless.
    pub fn request_id() -> Outcome<Option<v1::RequestId>> {
        let mut nonce = [0; 16];
        getrandom::fill(&mut nonce)
            .map_err(|error| Failure::other(format!("the system gives no random numbers: {error}")))?;
        Ok(Some(v1::RequestId { issued_at_ms: now_ms(), nonce: bytes::Bytes::copy_from_slice(&nonce) }))
    }

    /// A call of the tree's service.
    pub async fn znodes<T>(
        &mut self,
        call: Call,
        subject: &str,
        ask: impl AsyncFnMut(&mut ZnodesClient<Channel>) -> Result<T, Status>,
    ) -> Outcome<T> {
        let mut ask = ask;
        self.call(call, subject, async |channel| {
            let mut client = ZnodesClient::new(channel)
                .max_decoding_message_size(MESSAGE_BYTES_MAX)
                .max_encoding_message_size(MESSAGE_BYTES_MAX);
            ask(&mut client).await
        })
        .await
    }

    /// A call of the operators' service.
    pub async fn cluster<T>(
        &mut self,
        call: Call,
        ask: impl AsyncFnMut(&mut ClusterClient<Channel>) -> Result<T, Status>,
    ) -> Outcome<T> {
        let mut ask = ask;
        self.call(call, "", async |channel| {
            let mut client = ClusterClient::new(channel).max_decoding_message_size(MESSAGE_BYTES_MAX);
            ask(&mut client).await
        })
        .await
    }

    /// A call of the registry's service.
    pub async fn registry<T>(
        &mut self,
        call: Call,
        ask: impl AsyncFnMut(&mut RegistryClient<Channel>) -> Result<T, Status>,
    ) -> Outcome<T> {
        let mut ask = ask;
        self.call(call, "", async |channel| {
            let mut client = RegistryClient::new(channel).max_decoding_message_size(MESSAGE_BYTES_MAX);
            ask(&mut client).await
        })
        .await
    }

    /// A call of the rings' service.
    pub async fn ring<T>(
        &mut self,
        ask: impl AsyncFnMut(&mut RingClient<Channel>) -> Result<T, Status>,
    ) -> Outcome<T> {
        let mut ask = ask;
        self.call(Call::Read, "", async |channel| {
            let mut client = RingClient::new(channel).max_decoding_message_size(MESSAGE_BYTES_MAX);
            ask(&mut client).await
        })
        .await
    }

    async fn call<T>(
        &mut self,
        call: Call,
        subject: &str,
        mut ask: impl AsyncFnMut(Channel) -> Result<T, Status>,
    ) -> Outcome<T> {
        let deadline = Instant::now() + self.timeout;
        let mut pause = PAUSE_FIRST;
        // An earlier attempt may have been done, whatever a later one says of itself.
        let mut may_be_done = false;
        loop {
            let (index, channel) = match self.channel(deadline).await {
                Err(_) if may_be_done => {
                    let error = Error::new(ErrorKind::OutcomeUnknown, "no member answers any more");
                    return Err(Failure::refused(&error, subject));
                }
                other => other?,
            };
            // A member that is silent for half of the time gets no second half, if another may be asked.
            let silence_max = self.silence_max.unwrap_or(self.timeout / 2);
            let until = match call {
                Call::Read | Call::NamedWrite if self.endpoints.len() > 1 => {
                    deadline.min(Instant::now() + silence_max)
                }
                _ => deadline,
            };
            let error = match tokio::time::timeout_at(until, ask(channel)).await {
                Ok(Ok(answer)) => return Ok(answer),
                Ok(Err(status)) => error_from_status(&status),
                Err(_) => {
                    Error::new(ErrorKind::OutcomeUnknown, format!("no answer within {:?}", self.timeout))
                }
            };
            let is_lost = error.kind == ErrorKind::OutcomeUnknown;
            may_be_done |= is_lost && call != Call::Read;
            let may_repeat = match call {
                Call::Read | Call::NamedWrite => error.kind.is_retryable() || is_lost,
                Call::Write => error.kind.is_retryable(),
                Call::LongWrite => false,
            };
            if may_repeat || is_lost {
                self.connected = None;
                self.avoided = Some(index);
            }
            if !may_repeat || Instant::now() + pause >= deadline {
                let kind = match error.kind {
                    ErrorKind::OutcomeUnknown if call == Call::Read => ErrorKind::Unavailable,
                    kind if may_be_done && kind.is_retryable() => ErrorKind::OutcomeUnknown,
                    kind => kind,
                };
                return Err(Failure::refused(&Error { kind, ..error }, subject));
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(PAUSE_MAX);
        }
    }

    /// A channel to the member in use, or else to the first that answers.
    async fn channel(&mut self, deadline: Instant) -> Outcome<(usize, Channel)> {
        if let Some((index, channel)) = &self.connected {
            return Ok((*index, channel.clone()));
        }
        let others: Vec<usize> =
            (0..self.endpoints.len()).filter(|index| Some(*index) != self.avoided).collect();
        let mut connected = self.race(&others, deadline).await;
        if let (Err(_), Some(avoided)) = (&connected, self.avoided) {
            connected = self.race(&[avoided], deadline).await;
        }
        let connected = connected?;
        self.connected = Some(connected.clone());
        Ok(connected)
    }

    async fn race(&self, candidates: &[usize], deadline: Instant) -> Outcome<(usize, Channel)> {
        if candidates.is_empty() {
            return Err(self.nobody_answers());
        }
        let tries = candidates.iter().map(|index| {
            let endpoint = &self.endpoints[*index];
            Box::pin(async move { endpoint.connect().await.map(|channel| (*index, channel)) })
        });
        let until = deadline.min(Instant::now() + CONNECT_MAX);
        match tokio::time::timeout_at(until, select_ok(tries)).await {
            Ok(Ok((connected, _))) => Ok(connected),
            Ok(Err(_)) | Err(_) => Err(self.nobody_answers()),
        }
    }

    /// What to say when no endpoint can be reached.
    pub fn nobody_answers(&self) -> Failure {
        let names = self.names.join(",");
        let failure = Failure::unavailable(format!("no member answers at {names}"));
        if names == DEFAULT_ENDPOINTS {
            failure
                .with_hint("is `quorated dev` running? --endpoints or QUORATE_ENDPOINTS names other members")
        } else {
            failure.with_hint(
                "are these the members' client addresses (--endpoints, QUORATE_ENDPOINTS), and do they run?",
            )
        }
    }
}

/// Connects to one address of many, for a word with that member alone.
pub fn endpoint(name: &str) -> Outcome<Endpoint> {
    let url = if name.contains("://") { name.to_string() } else { format!("http://{name}") };
    let bad = |why: &str| Failure::usage(format!("endpoint {name:?}: {why}; write HOST:PORT"));
    let endpoint = Endpoint::from_shared(url).map_err(|error| bad(&error.to_string()))?;
    if endpoint.uri().port_u16().is_none() {
        return Err(bad("no port"));
    }
    Ok(endpoint
        .connect_timeout(CONNECT_MAX)
        .tcp_nodelay(true)
        .http2_keep_alive_interval(PROBE)
        .keep_alive_timeout(PROBE)
        .keep_alive_while_idle(true))
}

fn credential(auth: &AuthArgument) -> v1::Credential {
    v1::Credential { scheme: auth.scheme.clone(), credential: auth.credential.clone().into() }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    use super::*;

    /// Answers a call over HTTP/2 with a stream, and is never heard of again.
    async fn answer_and_vanish(listener: TcpListener) -> tokio::net::TcpStream {
        let (mut peer, _) = listener.accept().await.expect("connected");
        let mut heard = Vec::new();
        while !heard.windows(6).any(|part| part == b"orders") {
            assert_ne!(peer.read_buf(&mut heard).await.expect("it calls"), 0);
        }
        let settings = [0, 0, 0, 4, 0, 0, 0, 0, 0];
        // :status 200 and content-type, on the first stream.
        let headers = [0, 0, 19, 1, 4, 0, 0, 0, 1, 0x88, 0x5f, 16];
        let answer = [&settings[..], &headers[..], b"application/grpc"].concat();
        peer.write_all(&answer).await.expect("written");
        peer
    }

    #[tokio::test]
    async fn a_stream_ends_when_its_member_has_vanished() {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let name = listener.local_addr().expect("bound").to_string();
        let peer = tokio::spawn(answer_and_vanish(listener));
        let channel = endpoint(&name).expect("valid").connect().await.expect("connected");
        let request = v1::WatchServiceRequest { service: "orders".into(), ..Default::default() };
        let answer = RegistryClient::new(channel).watch_service(request).await;
        let mut stream = answer.expect("answered").into_inner();
        let _peer = peer.await.expect("no panic");
        tokio::time::pause();
        let ended = tokio::time::timeout(PROBE * 3, stream.message()).await.expect("noticed in time");
        let error = error_from_status(&ended.expect_err("it has vanished"));
        assert_eq!(error.kind, ErrorKind::OutcomeUnknown, "{error:?}");
    }

    #[test]
    fn endpoints_need_a_port() {
        for name in ["127.0.0.1:7400", "localhost:1", "[::1]:7400", "http://h:1"] {
            assert!(endpoint(name).is_ok(), "{name}");
        }
        for name in ["127.0.0.1", "h:x", "a b:1", "h:"] {
            assert_eq!(endpoint(name).expect_err(name).exit_code(), 2, "{name}");
        }
    }
}
