//! One call: picked, sent, and sent again where that is safe and the budget allows.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use quorate_core::registry::policy::{CircuitBreaker, RateLimit, RetryBudget};
use quorate_core::ring::hash_key;
use tokio::time::Instant;
use tonic::body::Body;
use tonic::{Code, Status};
use tower::Service;
use tower::retry::budget::{Budget, TpsBudget};

use super::body::{Replayed, Tracked, code_of};
use super::selection::Candidate;
use super::target::Target;
use super::{Balanced, Key, Shared};

/// How long a request counts for the retries that it allows.
const BUDGET_WINDOW: Duration = Duration::from_secs(10);

/// What the policy in force lets this client do.
#[derive(Default)]
pub(super) struct Budgets {
    current: Mutex<Option<(RetryBudget, Arc<TpsBudget>)>>,
    tokens: Mutex<Option<Tokens>>,
    waiting: AtomicU64,
}

/// A token bucket.
struct Tokens {
    limit: RateLimit,
    left: f64,
    filled: Instant,
}

impl Budgets {
    /// Takes a token, if the policy limits requests and there is one.
    fn admit(&self, limit: Option<RateLimit>) -> Result<(), Status> {
        let Some(limit) = limit else { return Ok(()) };
        let now = Instant::now();
        let mut tokens = self.tokens.lock().unwrap_or_else(PoisonError::into_inner);
        let full = Tokens { limit, left: limit.burst.into(), filled: now };
        let bucket = match tokens.take() {
            Some(known) if known.limit == limit => tokens.insert(known),
            _ => tokens.insert(full),
        };
        let more = now.duration_since(bucket.filled).as_secs_f64() * f64::from(limit.per_second);
        (bucket.left, bucket.filled) = ((bucket.left + more).min(limit.burst.into()), now);
        if bucket.left < 1.0 {
            let detail = format!("over the policy's {} requests a second", limit.per_second);
            return Err(Status::resource_exhausted(detail));
        }
        bucket.left -= 1.0;
        Ok(())
    }

    /// A place among those who wait for an instance, if the policy has one left.
    fn wait(&self, breaker: Option<CircuitBreaker>) -> Result<Waiting<'_>, Status> {
        let before = self.waiting.fetch_add(1, Ordering::Relaxed);
        let waiting = Waiting(self);
        match breaker {
            Some(breaker) if before >= breaker.pending.into() => {
                Err(Status::resource_exhausted("the policy's circuit breaker is open"))
            }
            _ => Ok(waiting),
        }
    }

    fn of(&self, wanted: RetryBudget) -> Arc<TpsBudget> {
        let mut current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        match &*current {
            Some((known, budget)) if *known == wanted => budget.clone(),
            _ => {
                let part = wanted.permille as f32 / 1000.0;
                let least = wanted.per_second_min.min(1_000_000);
                let budget = Arc::new(TpsBudget::new(BUDGET_WINDOW, least, part));
                *current = Some((wanted, budget.clone()));
                budget
            }
        }
    }
}

/// One that waits; dropping it gives up its place.
struct Waiting<'a>(&'a Budgets);

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.waiting.fetch_sub(1, Ordering::Relaxed);
    }
}

impl fmt::Debug for Budgets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Budgets").finish_non_exhaustive()
    }
}

/// A request under way to an instance; what is not finished when it is dropped was given up by the
/// caller, and says nothing about the instance.
#[derive(Debug)]
pub(super) struct InFlight {
    target: Arc<Target>,
    since: Instant,
}

impl InFlight {
    fn new(target: &Arc<Target>) -> InFlight {
        target.begin();
        InFlight { target: target.clone(), since: Instant::now() }
    }

    /// It was answered with this code.
    pub(super) fn finish(self, code: Code) {
        let latency = self.since.elapsed();
        match code {
            // What the instance, not the request, is to blame for.
            Code::Unavailable | Code::DeadlineExceeded | Code::Internal | Code::DataLoss => {
                self.target.fail(latency);
            }
            _ => self.target.succeed(latency),
        }
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.target.end();
    }
}

impl Service<http::Request<Body>> for Balanced {
    type Response = http::Response<Body>;
    type Error = Status;
    type Future = Pin<Box<dyn Future<Output = Result<http::Response<Body>, Status>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Status>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        let shared = self.shared.clone();
        Box::pin(async move { shared.call(request).await })
    }
}

impl Shared {
    async fn call(&self, request: http::Request<Body>) -> Result<http::Response<Body>, Status> {
        let (limit, timeout_ms) = {
            let selection = self.current.load();
            (selection.policy().rate_limit, selection.policy().timeout_ms)
        };
        self.budget.admit(limit)?;
        self.attempts(request, Deadline::after(timeout_ms)).await
    }

    async fn attempts(
        &self,
        request: http::Request<Body>,
        deadline: Deadline,
    ) -> Result<http::Response<Body>, Status> {
        let (parts, body) = request.into_parts();
        let key = parts.extensions.get::<Key>().map(|key| key.0.clone());
        let header = self.header.as_ref().and_then(|name| parts.headers.get(name));
        let hash = key.map(hash_key).or_else(|| header.map(|value| hash_key(value.as_bytes())));
        let body = Replayed::new(body);
        let retries = self.current.load().policy().retry_budget;
        let budget = self.budget.of(retries);
        budget.deposit();
        let mut attempt = 1;
        loop {
            let candidate = deadline.limit(self.candidate(hash)).await??;
            let copy = body.again().ok_or_else(|| Status::internal("a lost body is not sent again"))?;
            let mut again = http::Request::new(Body::new(copy));
            *again.method_mut() = parts.method.clone();
            *again.uri_mut() = parts.uri.clone();
            *again.headers_mut() = parts.headers.clone();
            *again.extensions_mut() = parts.extensions.clone();
            let failure = match send(&candidate, again, deadline).await {
                Ok(response) => match code_of(response.headers()) {
                    Code::Unavailable => Err(response),
                    _ => return Ok(response),
                },
                // There is no time left for another attempt.
                Err(status) if status.code() == Code::DeadlineExceeded => return Err(status),
                Err(status) => Ok(status),
            };
            let may_repeat = match &failure {
                // The instance itself refused: a repeat is as good as the caller says.
                Err(_) => self.retries_unanswered && body.again().is_some(),
                Ok(_) => body.is_untouched() || self.retries_unanswered && body.again().is_some(),
            };
            if !may_repeat || attempt >= retries.attempts_max || !budget.withdraw() {
                return match failure {
                    Err(response) => Ok(response),
                    Ok(status) => Err(status),
                };
            }
            attempt += 1;
        }
    }

    /// Picks somebody, waiting for one if there is nobody.
    async fn candidate(&self, hash: Option<u64>) -> Result<Candidate, Status> {
        if let Some(candidate) = self.current.load().pick(hash) {
            return Ok(candidate.clone());
        }
        let _place = self.budget.wait(self.current.load().policy().circuit_breaker)?;
        let mut ready = self.ready.clone();
        let waiting = async {
            loop {
                ready.borrow_and_update();
                let freed = self.freed.notified();
                tokio::pin!(freed);
                // Before looking: each end from here on wakes somebody who waits, and two wake two.
                freed.as_mut().enable();
                if let Some(candidate) = self.current.load().pick(hash) {
                    return Some(candidate.clone());
                }
                tokio::select! {
                    changed = ready.changed() => changed.ok()?,
                    () = freed => {}
                }
            }
        };
        match tokio::time::timeout(self.wait, waiting).await {
            Ok(Some(candidate)) => Ok(candidate),
            Ok(None) | Err(_) => {
                self.changed.notify_one();
                Err(Status::unavailable("no instance of the service can take the request"))
            }
        }
    }
}

/// Until when the policy lets a request wait for its answer.
#[derive(Clone, Copy)]
struct Deadline {
    until: Option<Instant>,
    timeout_ms: u32,
}

impl Deadline {
    /// 0: never.
    fn after(timeout_ms: u32) -> Deadline {
        let until = Instant::now() + Duration::from_millis(timeout_ms.into());
        Deadline { until: (timeout_ms > 0).then_some(until), timeout_ms }
    }

    async fn limit<T>(self, work: impl Future<Output = T>) -> Result<T, Status> {
        let Some(until) = self.until else { return Ok(work.await) };
        let done = tokio::time::timeout_at(until, work).await;
        let timeout_ms = self.timeout_ms;
        done.map_err(|_| Status::deadline_exceeded(format!("no answer within the policy's {timeout_ms} ms")))
    }
}

/// One attempt.
async fn send(
    candidate: &Candidate,
    request: http::Request<Body>,
    deadline: Deadline,
) -> Result<http::Response<Body>, Status> {
    let Some((number, mut channel)) = candidate.target.channel() else {
        return Err(Status::unavailable("the connection broke"));
    };
    let in_flight = InFlight::new(&candidate.target);
    let sent = async {
        std::future::poll_fn(|context| channel.poll_ready(context)).await?;
        channel.call(request).await
    };
    match deadline.limit(sent).await {
        Ok(Ok(response)) => {
            let has_ended = response.headers().contains_key("grpc-status");
            let code = code_of(response.headers());
            let (parts, body) = response.into_parts();
            let body = match has_ended {
                true => {
                    in_flight.finish(code);
                    body
                }
                false => Body::new(Tracked::new(body, in_flight)),
            };
            Ok(http::Response::from_parts(parts, body))
        }
        // The caller's own deadline: the instance was too slow for it, and its connection stands.
        Ok(Err(error)) if is_timeout(&error) => {
            in_flight.finish(Code::DeadlineExceeded);
            Err(Status::deadline_exceeded("no answer within the request's own deadline"))
        }
        Ok(Err(error)) => {
            candidate.target.break_off(number);
            in_flight.finish(Code::Unavailable);
            let id = &candidate.entry.instance.id;
            Err(Status::unavailable(format!("instance {id}: {}", chain(&error))))
        }
        Err(status) => {
            in_flight.finish(Code::DeadlineExceeded);
            Err(status)
        }
    }
}

/// Whether a request's own deadline (`grpc-timeout`) has passed.
fn is_timeout(error: &(dyn std::error::Error + 'static)) -> bool {
    let mut causes = std::iter::successors(Some(error), |error| error.source());
    causes.any(|error| error.is::<tonic::TimeoutExpired>())
}

/// An error with its causes: tonic's own text names none.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text += &format!(": {error}");
        cause = error.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn requests_are_limited_as_the_policy_says() {
        let budgets = Budgets::default();
        let limit = Some(RateLimit { per_second: 10, burst: 3 });
        let admitted = |count: usize| (0..count).filter(|_| budgets.admit(limit).is_ok()).count();
        assert_eq!(admitted(10), 3);
        tokio::time::advance(Duration::from_millis(200)).await;
        assert_eq!(admitted(10), 2);
        tokio::time::advance(Duration::from_secs(60)).await;
        assert_eq!(admitted(10), 3);
        assert!(budgets.admit(None).is_ok());
    }

    #[test]
    fn only_so_many_wait() {
        let budgets = Budgets::default();
        let breaker = Some(CircuitBreaker { requests: 1, pending: 1 });
        let first = budgets.wait(breaker).expect("a place");
        assert!(budgets.wait(breaker).is_err());
        drop(first);
        assert!(budgets.wait(breaker).is_ok());
    }
}
