//! What the fixture asks of members: readiness by HTTP, status and digests by gRPC.
//!
//! Plain generated clients with deadlines: the SDK is what is under test, so it does not judge.

use std::time::Duration;

use quorate_proto::v1;
use quorate_proto::v1::cluster_client::ClusterClient;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tonic::transport::{Channel, Endpoint};

/// How long a member may take to answer a question of the fixture.
const PATIENCE: Duration = Duration::from_secs(3);

/// Fetches a page of the HTTP port: status and body.
pub async fn http_get(address: &str, page: &str) -> Result<(u16, String), String> {
    let fetch = async {
        let mut stream = TcpStream::connect(address).await?;
        let request = format!("GET {page} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await?;
        let mut bytes = Vec::new();
        stream.read_to_end(&mut bytes).await?;
        std::io::Result::Ok(String::from_utf8_lossy(&bytes).into_owned())
    };
    let text = tokio::time::timeout(PATIENCE, fetch)
        .await
        .map_err(|_| format!("{address}{page}: no answer in {PATIENCE:?}"))?
        .map_err(|error| format!("{address}{page}: {error}"))?;
    let status = text.split(' ').nth(1).and_then(|word| word.parse().ok());
    let body = text.split_once("\r\n\r\n").map(|(_, body)| body.to_owned());
    status.zip(body).ok_or_else(|| format!("{address}{page}: no HTTP answer"))
}

/// A channel to one member.
pub async fn channel(address: &str) -> Result<Channel, String> {
    Endpoint::from_shared(format!("http://{address}"))
        .map_err(|error| format!("{address}: {error}"))?
        .connect_timeout(PATIENCE)
        .timeout(Duration::from_secs(30))
        .connect()
        .await
        .map_err(|error| format!("{address}: {error}"))
}

/// A member's view of the cluster.
pub async fn status(address: &str) -> Result<v1::StatusResponse, String> {
    let ask = async {
        let mut client = ClusterClient::new(channel(address).await?);
        let answer = client.status(v1::StatusRequest {}).await;
        answer.map(tonic::Response::into_inner).map_err(|status| format!("{address}: {status}"))
    };
    tokio::time::timeout(PATIENCE, ask).await.map_err(|_| format!("{address}: no status in {PATIENCE:?}"))?
}

/// All members' digests at one place of the log, recomputed from the records.
pub async fn digest(address: &str) -> Result<v1::DigestResponse, String> {
    let mut client = ClusterClient::new(channel(address).await?);
    let answer = client.digest(v1::DigestRequest { verify: true }).await;
    answer.map(tonic::Response::into_inner).map_err(|status| format!("{address}: {status}"))
}
