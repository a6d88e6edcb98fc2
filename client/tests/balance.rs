//! A balanced channel to an instance that is slow, or busy: who waits, for how long, and what is held
//! against the instance.

mod support;

use std::convert::Infallible;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use quorate::balance::{self, Balanced};
use quorate::registry::{Instance, Policy};
use quorate_core::registry::policy::{CircuitBreaker, Outlier};
use support::Fake;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_stream::wrappers::TcpListenerStream;
use tonic::body::Body;
use tonic::{Code, Status};
use tower::{Service, ServiceExt};

/// So long an instance may take; far less than a request waits for one.
const PATIENCE: Duration = Duration::from_secs(4);

/// Answers after as many milliseconds as the request's path says.
#[derive(Clone)]
struct Slow;

impl tonic::server::NamedService for Slow {
    const NAME: &'static str = "slow";
}

impl Service<http::Request<Body>> for Slow {
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<http::Response<Body>, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        Box::pin(async move {
            let pause = request.uri().path().rsplit('/').next().and_then(|word| word.parse().ok());
            tokio::time::sleep(Duration::from_millis(pause.expect("a number"))).await;
            Ok(Status::ok("").into_http())
        })
    }
}

/// An instance of the service `orders`, and a channel to it.
struct World {
    channel: Balanced,
    _fake: Fake,
    _client: quorate::Client,
    server: JoinHandle<()>,
}

impl Drop for World {
    fn drop(&mut self) {
        self.server.abort();
    }
}

async fn world(policy: Policy) -> World {
    let fake = Fake::start().await;
    let client = fake.client().await;
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let port = listener.local_addr().expect("bound").port();
    let served = tonic::transport::Server::builder().add_service(Slow);
    let server = tokio::spawn(async move {
        served.serve_with_incoming(TcpListenerStream::new(listener)).await.expect("until it is aborted");
    });
    let registry = client.registry();
    registry.set_policy("orders", &policy).await.expect("set");
    registry.register_lasting("orders", Instance::new("a", "127.0.0.1", port)).await.expect("registered");
    let channel = balance::channel(&client, "orders").await.expect("followed");
    World { channel, _fake: fake, _client: client, server }
}

/// Calls a method that takes so long; how it ended.
async fn call(channel: &Balanced, pause_ms: u64, deadline: Option<&str>) -> Code {
    let mut request = http::Request::post(format!("http://orders/slow/{pause_ms}"));
    if let Some(deadline) = deadline {
        request = request.header("grpc-timeout", deadline);
    }
    let request = request.body(Body::empty()).expect("whole");
    match channel.clone().oneshot(request).await {
        Ok(response) => {
            Status::from_header_map(response.headers()).map_or(Code::Unknown, |status| status.code())
        }
        Err(status) => status.code(),
    }
}

#[tokio::test]
async fn a_request_that_misses_its_own_deadline_costs_nobody_the_connection() {
    let world = world(Policy::default()).await;
    assert_eq!(call(&world.channel, 0, None).await, Code::Ok);
    let other = tokio::spawn({
        let channel = world.channel.clone();
        async move { call(&channel, 300, None).await }
    });
    assert_eq!(call(&world.channel, 60_000, Some("50m")).await, Code::DeadlineExceeded);
    let available = world.channel.selection().candidates().any(|candidate| candidate.is_available());
    assert!(available, "it answers others");
    assert_eq!(other.await.expect("no panic"), Code::Ok);
}

#[tokio::test]
async fn an_instance_that_does_not_answer_within_the_policy_s_deadline_is_put_aside() {
    let outlier = Outlier { failures: 2, ejection_ms: 60_000, ejected_permille_max: 1000, slow_start_ms: 0 };
    let world = world(Policy { timeout_ms: 50, outlier, ..Policy::default() }).await;
    assert_eq!(call(&world.channel, 0, None).await, Code::Ok);
    for _ in 0..2 {
        assert_eq!(call(&world.channel, 60_000, None).await, Code::DeadlineExceeded);
    }
    let available = world.channel.selection().candidates().any(|candidate| candidate.is_available());
    assert!(!available, "it has failed twice in a row");
}

#[tokio::test]
async fn a_request_behind_the_circuit_breaker_goes_when_another_has_ended() {
    let circuit_breaker = Some(CircuitBreaker { requests: 1, pending: 10 });
    let world = world(Policy { circuit_breaker, ..Policy::default() }).await;
    assert_eq!(call(&world.channel, 0, None).await, Code::Ok);
    let calls = (0..4).map(|_| {
        let channel = world.channel.clone();
        tokio::spawn(async move { call(&channel, 50, None).await })
    });
    let calls: Vec<_> = calls.collect();
    let answered = tokio::time::timeout(PATIENCE, futures_util::future::join_all(calls)).await;
    for code in answered.expect("each in its turn") {
        assert_eq!(code.expect("no panic"), Code::Ok);
    }
}
