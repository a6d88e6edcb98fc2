//! The network for health checks: TCP, HTTP/1.1 and gRPC, each on a connection of its own.
//!
//! Next room: coordinator/checks, which says whom to ask and when.

use std::future::Future;
use std::pin::Pin;

use quorate_core::registry::CheckKind;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tonic::transport::Endpoint;
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;

use crate::coordinator::checks::{Finding, Prober};

/// So much of an HTTP answer is read: its status line is in it.
const HEAD_BYTES: usize = 1024;

/// The machine's network.
#[derive(Clone, Copy, Debug, Default)]
pub struct NetworkProber;

impl Prober for NetworkProber {
    fn probe<'a>(
        &'a self,
        address: &'a str,
        kind: &'a CheckKind,
    ) -> Pin<Box<dyn Future<Output = Finding> + Send + 'a>> {
        Box::pin(async move {
            let finding = match kind {
                CheckKind::Tcp => TcpStream::connect(address).await.map(|_| Finding::Good),
                CheckKind::Http { path } => http(address, path).await,
                CheckKind::Grpc { service } => return grpc(address, service).await,
            };
            finding.unwrap_or_else(|error| Finding::Bad(error.to_string()))
        })
    }
}

async fn http(address: &str, path: &str) -> std::io::Result<Finding> {
    let mut stream = TcpStream::connect(address).await?;
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

async fn grpc(address: &str, service: &str) -> Finding {
    let endpoint = match Endpoint::from_shared(format!("http://{address}")) {
        Ok(endpoint) => endpoint,
        Err(error) => return Finding::Bad(error.to_string()),
    };
    let channel = match endpoint.connect().await {
        Ok(channel) => channel,
        Err(error) => return Finding::Bad(error.to_string()),
    };
    match HealthClient::new(channel).check(HealthCheckRequest { service: service.into() }).await {
        Ok(answer) => match answer.into_inner().status() {
            ServingStatus::Serving => Finding::Good,
            status => Finding::Bad(status.as_str_name().into()),
        },
        Err(status) => Finding::Bad(format!("{:?}: {}", status.code(), status.message())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
