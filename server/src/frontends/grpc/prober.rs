//! The network for health checks: TCP, HTTP/1.1 and gRPC, each on a connection of its own, to where
//! the operator allows it only. Names are looked up once, and what was judged is connected to.
//!
//! The system looks names up on threads that all of the process shares, and nothing ends a lookup before
//! its time: a check that gives up leaves it behind. So only few are under way at once, and a check that
//! got no turn says nothing of its instance.
//!
//! Next room: coordinator/checks, which says whom to ask and when.

use std::future::Future;
use std::io;
use std::net::{SocketAddr, ToSocketAddrs};
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use quorate_core::registry::CheckKind;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::Semaphore;
use tokio::task::spawn_blocking;
use tokio::time::timeout;
use tonic::codegen::http::Uri;
use tonic::codegen::http::uri::InvalidUri;
use tonic::transport::{Channel, Endpoint};
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;

use crate::check_targets::CheckTargets;
use crate::coordinator::checks::{Finding, Prober};

/// So much of an HTTP answer is read: its status line is in it.
const HEAD_BYTES: usize = 1024;
/// Lookups under way at once, those left behind included; beyond it checks wait.
const LOOKUPS_MAX: usize = 32;

/// The machine's network, as far as checks may use it.
#[derive(Clone, Debug)]
pub struct NetworkProber {
    targets: CheckTargets,
    lookups: Arc<Semaphore>,
    look_up: LookUp,
}

/// Where a host:port is, as the system knows; takes its time.
type LookUp = fn(&str) -> io::Result<Vec<SocketAddr>>;

impl NetworkProber {
    /// Connects to these only.
    pub fn new(targets: CheckTargets) -> NetworkProber {
        let look_up: LookUp = |address| Ok(address.to_socket_addrs()?.collect());
        NetworkProber { targets, lookups: Arc::new(Semaphore::new(LOOKUPS_MAX)), look_up }
    }

    /// Where `address` (host:port) is; `None` if there was no turn for it in time.
    async fn places(&self, address: &str, patience: Duration) -> Option<io::Result<Vec<SocketAddr>>> {
        if let Ok(literal) = address.parse() {
            return Some(Ok(vec![literal]));
        }
        let turn = timeout(patience, self.lookups.clone().acquire_owned()).await.ok()?.ok()?;
        let (look_up, address) = (self.look_up, address.to_owned());
        // The turn is over when the lookup is, whoever still waits for it.
        let looking = spawn_blocking(move || {
            let _turn = turn;
            look_up(&address)
        });
        Some(looking.await.unwrap_or_else(|stopped| Err(io::Error::other(stopped))))
    }

    /// Of what was found, where checks may go.
    fn judge(&self, found: io::Result<Vec<SocketAddr>>) -> Result<Vec<SocketAddr>, String> {
        let found = found.map_err(|error| error.to_string())?;
        let allowed: Vec<SocketAddr> =
            found.iter().copied().filter(|found| self.targets.allow(found.ip())).collect();
        match (found.first(), allowed.is_empty()) {
            (None, _) => Err("the name has no address".into()),
            (Some(first), true) => Err(format!("{} is not among this cluster's check_targets", first.ip())),
            _ => Ok(allowed),
        }
    }
}

impl Prober for NetworkProber {
    fn probe<'a>(
        &'a self,
        address: &'a str,
        kind: &'a CheckKind,
        limit: Duration,
    ) -> Pin<Box<dyn Future<Output = Finding> + Send + 'a>> {
        Box::pin(async move {
            // The other half is for the instance's answer.
            let Some(found) = self.places(address, limit / 2).await else { return Finding::Unasked };
            let places = match self.judge(found) {
                Ok(places) => places,
                Err(why) => return Finding::Bad(why),
            };
            let finding = match kind {
                CheckKind::Tcp => TcpStream::connect(&places[..]).await.map(|_| Finding::Good),
                CheckKind::Http { path } => http(&places, address, path).await,
                CheckKind::Grpc { service } => return grpc(&places, address, service).await,
            };
            finding.unwrap_or_else(|error| Finding::Bad(error.to_string()))
        })
    }
}

async fn http(places: &[SocketAddr], address: &str, path: &str) -> io::Result<Finding> {
    let mut stream = TcpStream::connect(places).await?;
    let request =
        format!("GET {path} HTTP/1.1\r\nHost: {address}\r\nUser-Agent: quorate\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    let (mut head, mut length) = ([0; HEAD_BYTES], 0);
    while length < HEAD_BYTES && !head[..length].contains(&b'\n') {
        match stream.read(&mut head[length..]).await? {
            0 => break,
            read => length += read,
        }
    }
    Ok(judge(&String::from_utf8_lossy(&head[..length])))
}

/// What a status line says.
fn judge(head: &str) -> Finding {
    let line = head.lines().next().unwrap_or_default();
    let mut words = line.split(' ');
    let is_http = words.next().is_some_and(|word| word.starts_with("HTTP/1."));
    match words.next().and_then(|code| code.parse::<u16>().ok()).filter(|_| is_http) {
        Some(200..=299) => Finding::Good,
        Some(429) => Finding::Doubtful("HTTP 429".into()),
        Some(code) => Finding::Bad(format!("HTTP {code}")),
        None => Finding::Bad("not an HTTP answer".into()),
    }
}

async fn grpc(places: &[SocketAddr], address: &str, service: &str) -> Finding {
    let channel = match connect(places, address).await {
        Ok(channel) => channel,
        Err(why) => return Finding::Bad(why),
    };
    match HealthClient::new(channel).check(HealthCheckRequest { service: service.into() }).await {
        Ok(answer) => match answer.into_inner().status() {
            ServingStatus::Serving => Finding::Good,
            status => Finding::Bad(status.as_str_name().into()),
        },
        Err(status) => Finding::Bad(format!("{:?}: {}", status.code(), status.message())),
    }
}

/// A channel to the first place that answers, under the name that it was registered with.
async fn connect(places: &[SocketAddr], address: &str) -> Result<Channel, String> {
    let origin: Uri = format!("http://{address}").parse().map_err(|error: InvalidUri| error.to_string())?;
    let mut last = String::new();
    for place in places {
        let endpoint = Endpoint::from_shared(format!("http://{place}")).map_err(|error| error.to_string())?;
        match endpoint.origin(origin.clone()).connect().await {
            Ok(channel) => return Ok(channel),
            Err(error) => last = error.to_string(),
        }
    }
    Err(last)
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

    use tokio::net::TcpListener;

    use super::*;

    const LIMIT: Duration = Duration::from_secs(60);

    #[tokio::test]
    async fn nobody_is_asked_where_checks_may_not_go() {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let port = listener.local_addr().expect("bound").port();
        let kinds = [
            CheckKind::Tcp,
            CheckKind::Http { path: "/".into() },
            CheckKind::Grpc { service: String::new() },
        ];
        let usual = NetworkProber::new(CheckTargets::Usual { with_loopback: false });
        for host in ["127.0.0.1", "localhost", "[::ffff:127.0.0.1]"] {
            for kind in &kinds {
                let finding = usual.probe(&format!("{host}:{port}"), kind, LIMIT).await;
                let Finding::Bad(why) = finding else { panic!("{host} was asked") };
                assert!(why.ends_with("is not among this cluster's check_targets"), "{why}");
            }
        }
        let accepted = futures_util::FutureExt::now_or_never(listener.accept());
        assert!(accepted.is_none(), "somebody connected");
        let allowed = NetworkProber::new(CheckTargets::parse("127.0.0.0/8").expect("valid"));
        assert_eq!(allowed.probe(&format!("127.0.0.1:{port}"), &CheckKind::Tcp, LIMIT).await, Finding::Good);
    }

    #[tokio::test]
    async fn lookups_that_were_given_up_count_until_they_end_and_literals_need_none() {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let port = listener.local_addr().expect("bound").port();
        // As long as this lives, the resolver answers nobody.
        struct Outage;
        static IS_OUT: AtomicBool = AtomicBool::new(true);
        static STARTED: AtomicUsize = AtomicUsize::new(0);
        impl Drop for Outage {
            fn drop(&mut self) {
                IS_OUT.store(false, Ordering::SeqCst);
            }
        }
        let outage = Outage;
        let prober = NetworkProber {
            look_up: |_| {
                STARTED.fetch_add(1, Ordering::SeqCst);
                while IS_OUT.load(Ordering::SeqCst) {
                    std::thread::sleep(Duration::from_millis(1));
                }
                Ok(vec![([127, 0, 0, 1], 1).into()])
            },
            ..NetworkProber::new(CheckTargets::parse("127.0.0.0/8").expect("valid"))
        };
        let brief = Duration::from_millis(40);
        let named = format!("orders.example:{port}");
        let checks =
            (0..3 * LOOKUPS_MAX).map(|_| timeout(brief, prober.probe(&named, &CheckKind::Tcp, brief)));
        let findings = futures_util::future::join_all(checks).await;
        let unasked = findings.iter().filter(|finding| matches!(finding, Ok(Finding::Unasked))).count();
        assert_eq!(unasked, 2 * LOOKUPS_MAX, "the others had a turn, and no answer: {findings:?}");
        // Their checks are over; their lookups are not.
        assert_eq!(prober.probe(&named, &CheckKind::Tcp, brief).await, Finding::Unasked);
        while STARTED.load(Ordering::SeqCst) < LOOKUPS_MAX {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        assert_eq!(STARTED.load(Ordering::SeqCst), LOOKUPS_MAX);
        assert_eq!(prober.probe(&format!("127.0.0.1:{port}"), &CheckKind::Tcp, LIMIT).await, Finding::Good);
        drop(outage);
        assert_ne!(prober.probe(&named, &CheckKind::Tcp, LIMIT).await, Finding::Unasked);
    }

    #[test]
    fn status_lines_are_judged() {
        assert_eq!(judge("HTTP/1.1 200 OK\r\n"), Finding::Good);
        assert_eq!(judge("HTTP/1.0 204\r\n"), Finding::Good);
        assert_eq!(judge("HTTP/1.1 429 Too Many Requests\r\n"), Finding::Doubtful("HTTP 429".into()));
        for bad in
            ["HTTP/1.1 500 x\r\n", "HTTP/1.1 301 x", "", "SSH-2.0-x 200", "HTTP/1.1 2000 x", "HTTP/1.1"]
        {
            assert!(matches!(judge(bad), Finding::Bad(_)), "{bad}");
        }
    }
}
