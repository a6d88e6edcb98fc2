//! The network for health checks: TCP, HTTP/1.1 and gRPC, each on a connection of its own, to where
//! the operator allows it only. Names are looked up once, and what was judged is connected to.
//!
//! Next room: coordinator/checks, which says whom to ask and when.

use std::future::Future;
use std::net::SocketAddr;
use std::pin::Pin;

use quorate_core::registry::CheckKind;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, lookup_host};
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

/// The machine's network, as far as checks may use it.
#[derive(Clone, Debug)]
pub struct NetworkProber {
    targets: CheckTargets,
}

impl NetworkProber {
    /// Connects to these only.
    pub fn new(targets: CheckTargets) -> NetworkProber {
        NetworkProber { targets }
    }

    /// Where `address` (host:port) is, as far as checks may go there.
    async fn find(&self, address: &str) -> Result<Vec<SocketAddr>, String> {
        let found: Vec<SocketAddr> = lookup_host(address).await.map_err(|error| error.to_string())?.collect();
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
    ) -> Pin<Box<dyn Future<Output = Finding> + Send + 'a>> {
        Box::pin(async move {
            let places = match self.find(address).await {
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

async fn http(places: &[SocketAddr], address: &str, path: &str) -> std::io::Result<Finding> {
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
    use tokio::net::TcpListener;

    use super::*;

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
                let finding = usual.probe(&format!("{host}:{port}"), kind).await;
                let Finding::Bad(why) = finding else { panic!("{host} was asked") };
                assert!(why.ends_with("is not among this cluster's check_targets"), "{why}");
            }
        }
        let accepted = futures_util::FutureExt::now_or_never(listener.accept());
        assert!(accepted.is_none(), "somebody connected");
        let allowed = NetworkProber::new(CheckTargets::parse("127.0.0.0/8").expect("valid"));
        assert_eq!(allowed.probe(&format!("127.0.0.1:{port}"), &CheckKind::Tcp).await, Finding::Good);
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
