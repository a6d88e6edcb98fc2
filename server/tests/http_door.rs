//! The HTTP door for whoever restarts or routes: healthy while the member waits for others, and not
//! ready from the first moment that it stops.

use std::time::{Duration, Instant};

use quorate_server::config::{Config, Settings};
use quorate_server::environment::Environment;
use quorate_server::server::serve;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::oneshot;
use tokio::time::{sleep, timeout};

/// The longest that a test waits for anything.
const PATIENCE: Duration = Duration::from_secs(60);

/// A member alone, or one of these; and its HTTP port.
fn config(folder: &tempfile::TempDir, founders: Option<&str>) -> (Config, u16) {
    let free = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = free.local_addr().expect("an address").port();
    let settings = Settings {
        member_id: Some(1),
        data_dir: Some(folder.path().join("data")),
        initial_cluster: founders.map(Into::into),
        client_listen: Some("127.0.0.1:0".into()),
        peer_listen: Some("127.0.0.1:0".into()),
        http_listen: Some(format!("127.0.0.1:{port}")),
        ..Settings::default()
    };
    (settings.into_config().expect("complete"), port)
}

async fn connect(port: u16) -> TcpStream {
    let started = Instant::now();
    loop {
        match TcpStream::connect(("127.0.0.1", port)).await {
            Ok(stream) => return stream,
            Err(error) => assert!(started.elapsed() < PATIENCE, "the door stays closed: {error}"),
        }
        sleep(Duration::from_millis(10)).await;
    }
}

/// The status and the page.
async fn get(stream: &mut TcpStream, path: &str) -> (u16, String) {
    let request = format!("GET {path} HTTP/1.1\r\nHost: member\r\n\r\n");
    stream.write_all(request.as_bytes()).await.expect("a live connection");
    let mut answer = Vec::new();
    let answered = async {
        loop {
            let read = stream.read_buf(&mut answer).await.expect("a live connection");
            assert!(read > 0, "the door has hung up");
            let text = String::from_utf8_lossy(&answer);
            let Some((head, page)) = text.split_once("\r\n\r\n") else { continue };
            let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
            if page.len() == length.expect("a length").parse::<usize>().expect("a number") {
                let status = head.split(' ').nth(1).expect("a status").parse().expect("a number");
                return (status, page.to_owned());
            }
        }
    };
    timeout(PATIENCE, answered).await.expect("an answer")
}

#[tokio::test]
async fn a_member_that_waits_for_the_other_founders_is_healthy_and_not_ready() {
    let folder = tempfile::tempdir().expect("a folder");
    // Nobody listens at the other's.
    let (config, port) = config(&folder, Some("1=127.0.0.1:1/127.0.0.1:1,2=127.0.0.1:2/127.0.0.1:2"));
    let (ready, _) = oneshot::channel();
    let asking = async {
        let mut stream = connect(port).await;
        assert_eq!(get(&mut stream, "/healthz").await, (200, "ok\n".into()));
        let (status, page) = get(&mut stream, "/readyz").await;
        assert!(status == 503 && page.contains("not part of its cluster yet"), "{status} {page}");
        assert_eq!(get(&mut stream, "/metrics").await.0, 200);
    };
    tokio::select! {
        outcome = serve(config, Environment::system(), std::future::pending(), ready) => panic!("{outcome:?}"),
        () = asking => {}
    }
}

#[tokio::test]
async fn a_member_that_stops_is_not_ready_before_it_is_gone() {
    let folder = tempfile::tempdir().expect("a folder");
    let (config, port) = config(&folder, None);
    let (ready, is_ready) = oneshot::channel();
    let (stop, stopped) = oneshot::channel::<()>();
    let stopped = async move {
        stopped.await.expect("asked");
    };
    let asking = async move {
        timeout(PATIENCE, is_ready).await.expect("a quorum of one").expect("served");
        // This connection is answered as long as the test's runtime lives.
        let mut stream = connect(port).await;
        assert_eq!(get(&mut stream, "/readyz").await, (200, "ready\n".into()));
        stop.send(()).expect("it serves");
        loop {
            match get(&mut stream, "/readyz").await {
                (200, _) => {}
                (status, page) => {
                    assert!(status == 503 && page.contains("stopping"), "{status} {page}");
                    return;
                }
            }
        }
    };
    let (outcome, ()) = tokio::join!(serve(config, Environment::system(), stopped, ready), asking);
    outcome.expect("it stops as asked");
}
