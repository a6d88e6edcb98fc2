//! `quorate service policy`: how a service is to be called.

use std::time::Duration;

use clap::Args;
use quorate_core::registry::policy::{CircuitBreaker, RateLimit, RetryBudget, Split};
use quorate_core::registry::{Balancing, Policy, ServiceName};
use quorate_proto::v1;
use serde::Serialize;

use super::parse_service;
use crate::api::Call;
use crate::context::Context;
use crate::failure::{Failure, Outcome};
use crate::output::table::{Cell, Table};
use crate::values::parse_duration;

/// Show or change how a service is to be called.
///
/// Without options it is shown. Options change what they name; the whole object is replaced in one
/// transaction, and only if nobody else has changed it meanwhile.
#[derive(Args, Debug)]
pub struct PolicyArguments {
    #[arg(value_parser = parse_service)]
    service: ServiceName,
    /// round-robin, weighted-round-robin, random, weighted-random, least-request, peak-ewma,
    /// least-load, ring-hash or maglev.
    #[arg(long, value_parser = parse_balancing)]
    balancing: Option<Balancing>,
    /// Traffic by release: v1=90,v2=10; empty ends the split.
    #[arg(long, value_name = "RELEASE=WEIGHT,…")]
    split: Option<String>,
    /// A request without an answer for so long is given up; 0s never.
    #[arg(long = "request-timeout", value_parser = parse_duration)]
    request_timeout: Option<Duration>,
    /// Which port is called, by name; empty is each instance's main one.
    #[arg(long)]
    port: Option<String>,
    /// Requests that one client may send: a second, and at once; none ends it.
    #[arg(long, value_name = "PER_SECOND:BURST|none", value_parser = parse_rate_limit)]
    rate_limit: Option<Setting<RateLimit>>,
    /// What one client may have under way to one instance, and may let wait; none ends it.
    #[arg(long, value_name = "REQUESTS:WAITING|none", value_parser = parse_circuit_breaker)]
    circuit_breaker: Option<Setting<CircuitBreaker>>,
    /// How much a client may retry: of each thousand requests, a second in any case, and attempts
    /// of one request in all.
    #[arg(long, value_name = "PERMILLE:PER_SECOND:ATTEMPTS", value_parser = parse_retries)]
    retries: Option<RetryBudget>,
    /// A client puts an instance aside after so many failures in a row; 0 never.
    #[arg(long, value_name = "FAILURES")]
    eject_after: Option<u32>,
    /// For so long the first time, then twice as long, and so on.
    #[arg(long, value_name = "TIME", value_parser = parse_duration)]
    eject_for: Option<Duration>,
    /// At most this part of all at once.
    #[arg(long, value_name = "PERMILLE")]
    ejected_max: Option<u32>,
    /// Back at full weight after so long.
    #[arg(long, value_name = "TIME", value_parser = parse_duration)]
    slow_start: Option<Duration>,
    /// Own zone first.
    #[arg(long, value_name = "true|false")]
    zone_aware: Option<bool>,
    /// Zones in the order of preference, behind a client's own; empty ends it.
    #[arg(long, value_name = "ZONE,…")]
    failover_zones: Option<String>,
    /// Clusters in the order of preference, behind the own; empty ends it.
    #[arg(long, value_name = "CLUSTER,…")]
    failover_clusters: Option<String>,
    /// The ring's least points (0 lets them follow from the instances) and most.
    #[arg(long, value_name = "LEAST:MOST", value_parser = parse_ring_points)]
    ring_points: Option<(u64, u64)>,
    /// With fewer usable than this part of all, all are used.
    #[arg(long, value_name = "PERMILLE")]
    panic: Option<u32>,
    /// Forget the policy: the default is in force again.
    #[arg(long)]
    remove: bool,
}

/// What is set, or ended.
#[derive(Clone, Copy, Debug)]
struct Setting<T>(Option<T>);

/// Whole numbers with colons between.
fn parse_numbers<const N: usize>(text: &str, form: &str) -> Result<[u64; N], String> {
    let numbers: Option<Vec<u64>> = text.split(':').map(|part| part.parse().ok()).collect();
    numbers
        .and_then(|numbers| numbers.try_into().ok())
        .ok_or_else(|| format!("write {form}, in whole numbers"))
}

fn parse_small<const N: usize>(text: &str, form: &str) -> Result<[u32; N], String> {
    let numbers = parse_numbers::<N>(text, form)?;
    let most = numbers.iter().copied().max().unwrap_or_default();
    match u32::try_from(most) {
        Ok(_) => Ok(numbers.map(|number| number as u32)),
        Err(_) => Err(format!("{most} is too large")),
    }
}

fn parse_rate_limit(text: &str) -> Result<Setting<RateLimit>, String> {
    if text == "none" {
        return Ok(Setting(None));
    }
    let [per_second, burst] = parse_small(text, "PER_SECOND:BURST, or none")?;
    Ok(Setting(Some(RateLimit { per_second, burst })))
}

fn parse_circuit_breaker(text: &str) -> Result<Setting<CircuitBreaker>, String> {
    if text == "none" {
        return Ok(Setting(None));
    }
    let [requests, pending] = parse_small(text, "REQUESTS:WAITING, or none")?;
    Ok(Setting(Some(CircuitBreaker { requests, pending })))
}

fn parse_retries(text: &str) -> Result<RetryBudget, String> {
    let [permille, per_second_min, attempts_max] = parse_small(text, "PERMILLE:PER_SECOND:ATTEMPTS")?;
    Ok(RetryBudget { permille, per_second_min, attempts_max })
}

fn parse_ring_points(text: &str) -> Result<(u64, u64), String> {
    let [least, most] = parse_numbers(text, "LEAST:MOST")?;
    Ok((least, most))
}

fn parse_names(text: &str) -> Vec<String> {
    text.split(',').filter(|name| !name.is_empty()).map(Into::into).collect()
}

fn milliseconds(duration: Duration) -> u32 {
    u32::try_from(duration.as_millis()).unwrap_or(u32::MAX)
}

fn parse_balancing(text: &str) -> Result<Balancing, String> {
    let found = Balancing::ALL.into_iter().find(|balancing| balancing.name() == text);
    found.ok_or_else(|| Balancing::ALL.map(Balancing::name).join(", "))
}

fn parse_split(text: &str) -> Outcome<Vec<Split>> {
    let part = |part: &str| {
        let (version, weight) = part.split_once('=')?;
        Some(Split { version: version.into(), weight: weight.parse().ok()? })
    };
    let parts = text.split(',').filter(|text| !text.is_empty());
    let parts: Option<Vec<Split>> = parts.map(part).collect();
    parts.ok_or_else(|| Failure::usage(format!("--split {text}: write RELEASE=WEIGHT,…")))
}

#[derive(Debug, Serialize)]
struct PolicyJson {
    service: String,
    version: Option<i32>,
    changed_zxid: u64,
    balancing: &'static str,
    split: Vec<(String, u32)>,
    timeout_ms: u32,
    port: String,
    rate_limit: Option<RateLimitJson>,
    circuit_breaker: Option<CircuitBreakerJson>,
    zone_aware: bool,
    failover_zones: Vec<String>,
    failover_clusters: Vec<String>,
    panic_permille: u32,
    retries_permille: u32,
    retries_per_second_min: u32,
    attempts_max: u32,
    ejected_after_failures: u32,
    ejection_ms: u32,
    ejected_permille_max: u32,
    slow_start_ms: u32,
    ring_points_min: u64,
    ring_points_max: u64,
}

#[derive(Debug, Serialize)]
struct RateLimitJson {
    per_second: u32,
    burst: u32,
}

#[derive(Debug, Serialize)]
struct CircuitBreakerJson {
    requests: u32,
    waiting: u32,
}

impl PolicyArguments {
    /// Changes what the options name.
    fn apply(&self, policy: &mut Policy) -> Outcome {
        if let Some(balancing) = self.balancing {
            policy.balancing = balancing;
        }
        if let Some(split) = &self.split {
            policy.split = parse_split(split)?;
        }
        if let Some(timeout) = self.request_timeout {
            policy.timeout_ms = milliseconds(timeout);
        }
        if let Some(port) = &self.port {
            policy.port.clone_from(port);
        }
        if let Some(Setting(limit)) = self.rate_limit {
            policy.rate_limit = limit;
        }
        if let Some(Setting(breaker)) = self.circuit_breaker {
            policy.circuit_breaker = breaker;
        }
        policy.retry_budget = self.retries.unwrap_or(policy.retry_budget);
        policy.outlier.failures = self.eject_after.unwrap_or(policy.outlier.failures);
        policy.outlier.ejection_ms = self.eject_for.map_or(policy.outlier.ejection_ms, milliseconds);
        policy.outlier.ejected_permille_max = self.ejected_max.unwrap_or(policy.outlier.ejected_permille_max);
        policy.outlier.slow_start_ms = self.slow_start.map_or(policy.outlier.slow_start_ms, milliseconds);
        policy.is_zone_aware = self.zone_aware.unwrap_or(policy.is_zone_aware);
        if let Some(zones) = &self.failover_zones {
            policy.failover_zones = parse_names(zones);
        }
        if let Some(clusters) = &self.failover_clusters {
            policy.failover_clusters = parse_names(clusters);
        }
        if let Some((least, most)) = self.ring_points {
            (policy.ring_points_min, policy.ring_points_max) = (least, most);
        }
        policy.panic_permille = self.panic.unwrap_or(policy.panic_permille);
        Ok(())
    }
}

pub async fn run(arguments: PolicyArguments, context: &mut Context) -> Outcome {
    let service = arguments.service.clone();
    let subject = service.to_string();
    let (mut policy, version, changed_zxid) = read(context, &service).await?;
    if arguments.remove {
        return write(context, &service, None, version).await;
    }
    let before = policy.clone();
    arguments.apply(&mut policy)?;
    if policy != before {
        policy.validate().map_err(|error| Failure::refused(&error, ""))?;
        return write(context, &service, Some(policy), version).await;
    }
    let split = policy.split.iter().map(|part| (part.version.clone(), part.weight)).collect();
    let document = PolicyJson {
        service: subject,
        version,
        changed_zxid,
        balancing: policy.balancing.name(),
        split,
        timeout_ms: policy.timeout_ms,
        port: policy.port,
        rate_limit: policy
            .rate_limit
            .map(|limit| RateLimitJson { per_second: limit.per_second, burst: limit.burst }),
        circuit_breaker: policy
            .circuit_breaker
            .map(|breaker| CircuitBreakerJson { requests: breaker.requests, waiting: breaker.pending }),
        zone_aware: policy.is_zone_aware,
        failover_zones: policy.failover_zones,
        failover_clusters: policy.failover_clusters,
        panic_permille: policy.panic_permille,
        retries_permille: policy.retry_budget.permille,
        retries_per_second_min: policy.retry_budget.per_second_min,
        attempts_max: policy.retry_budget.attempts_max,
        ejected_after_failures: policy.outlier.failures,
        ejection_ms: policy.outlier.ejection_ms,
        ejected_permille_max: policy.outlier.ejected_permille_max,
        slow_start_ms: policy.outlier.slow_start_ms,
        ring_points_min: policy.ring_points_min,
        ring_points_max: policy.ring_points_max,
    };
    context.output.show(&document, |style| {
        let split: Vec<String> =
            document.split.iter().map(|(version, weight)| format!("{version}={weight}")).collect();
        let facts = [
            (
                "version",
                document.version.map_or("none set: the default".into(), |version| version.to_string()),
            ),
            ("balancing", document.balancing.to_string()),
            ("split", if split.is_empty() { "none".into() } else { split.join(",") }),
            (
                "timeout",
                if document.timeout_ms == 0 { "none".into() } else { format!("{} ms", document.timeout_ms) },
            ),
            ("port", or_word(&document.port, "the main one")),
            (
                "rate limit",
                document.rate_limit.as_ref().map_or("none".into(), |limit| {
                    format!("{} a second, {} at once, a client", limit.per_second, limit.burst)
                }),
            ),
            (
                "circuit breaker",
                document.circuit_breaker.as_ref().map_or("none".into(), |breaker| {
                    format!("{} under way to an instance, {} wait", breaker.requests, breaker.waiting)
                }),
            ),
            ("zone-aware", document.zone_aware.to_string()),
            ("failover zones", or_word(&document.failover_zones.join(","), "any order")),
            ("failover clusters", or_word(&document.failover_clusters.join(","), "any order")),
            ("panic below", format!("{} ‰ usable", document.panic_permille)),
            (
                "retries",
                format!(
                    "{} ‰, {} a second in any case, {} attempts",
                    document.retries_permille, document.retries_per_second_min, document.attempts_max
                ),
            ),
            (
                "ejected",
                format!(
                    "after {} failures for {} ms, at most {} ‰; back at full weight after {} ms",
                    document.ejected_after_failures,
                    document.ejection_ms,
                    document.ejected_permille_max,
                    document.slow_start_ms
                ),
            ),
            (
                "ring points",
                match document.ring_points_min {
                    0 => format!("by the instances, at most {}", document.ring_points_max),
                    least => format!("{least} to {}", document.ring_points_max),
                },
            ),
        ];
        Table::facts(style, &facts.map(|(name, value)| (name, Cell::text(value))))
    })
}

fn or_word(text: &str, word: &str) -> String {
    if text.is_empty() { word.into() } else { text.into() }
}

/// The policy in force, its version if one is set, and the transaction that set it.
async fn read(context: &mut Context, service: &ServiceName) -> Outcome<(Policy, Option<i32>, u64)> {
    let request = v1::GetPolicyRequest {
        namespace: service.namespace().into(),
        service: service.service().into(),
        consistency: context.api.consistency(),
        credentials: context.api.credentials(),
    };
    let answer = context.api.registry(Call::Read, async |client| client.get_policy(request.clone()).await);
    match answer.await {
        Ok(answer) => {
            let answer = answer.into_inner();
            let policy = Policy::try_from(answer.policy.unwrap_or_default())
                .map_err(|error| Failure::other(format!("a member's answer makes no sense: {error}")))?;
            Ok((policy, Some(answer.version), answer.changed_zxid))
        }
        Err(Failure::Told { kind: "no_node", .. }) => Ok((Policy::default(), None, 0)),
        Err(failure) => Err(failure),
    }
}

async fn write(
    context: &mut Context,
    service: &ServiceName,
    policy: Option<Policy>,
    version: Option<i32>,
) -> Outcome {
    let is_removed = policy.is_none();
    let request = v1::SetPolicyRequest {
        namespace: service.namespace().into(),
        service: service.service().into(),
        policy: policy.map(Into::into),
        version,
        credentials: context.api.credentials(),
    };
    let subject = service.to_string();
    let answer = context.api.registry(Call::Write, async |client| client.set_policy(request.clone()).await);
    let zxid = answer.await?.into_inner().zxid;
    context.api.saw(zxid);
    let document = serde_json::json!({ "service": subject, "zxid": zxid });
    context.output.show(&document, |_| match is_removed {
        true => format!("the policy of {subject} is removed"),
        false => format!("the policy of {subject} is set"),
    })
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        arguments: PolicyArguments,
    }

    fn applied(options: &str) -> Policy {
        let words = ["policy", "orders"].into_iter().chain(options.split_whitespace());
        let mut policy = Policy::default();
        Line::try_parse_from(words).expect("valid").arguments.apply(&mut policy).expect("applied");
        policy
    }

    #[test]
    fn every_part_of_a_policy_can_be_set_and_ended() {
        let policy = applied(
            "--balancing ring-hash --split v1=90,v2=10 --request-timeout 2s --port admin --rate-limit 100:20 \
             --circuit-breaker 64:8 --retries 100:5:4 --eject-after 7 --eject-for 3s --ejected-max 300 \
             --slow-start 4s --zone-aware true --failover-zones a,b --failover-clusters c --panic 250 \
             --ring-points 1024:4096",
        );
        policy.validate().expect("within bounds");
        let default = Policy::default();
        assert_eq!(policy.balancing, Balancing::RingHash);
        assert_eq!((policy.split.len(), policy.timeout_ms, policy.port.as_str()), (2, 2000, "admin"));
        assert_eq!(policy.rate_limit, Some(RateLimit { per_second: 100, burst: 20 }));
        assert_eq!(policy.circuit_breaker, Some(CircuitBreaker { requests: 64, pending: 8 }));
        let retries = RetryBudget { permille: 100, per_second_min: 5, attempts_max: 4 };
        assert_eq!(policy.retry_budget, retries);
        assert_ne!(policy.outlier, default.outlier);
        assert_eq!((policy.outlier.failures, policy.outlier.ejection_ms), (7, 3000));
        assert_eq!((policy.outlier.ejected_permille_max, policy.outlier.slow_start_ms), (300, 4000));
        assert!(policy.is_zone_aware);
        assert_eq!(
            (policy.failover_zones.concat(), policy.failover_clusters.concat()),
            ("ab".into(), "c".into())
        );
        assert_eq!(
            (policy.panic_permille, policy.ring_points_min, policy.ring_points_max),
            (250, 1024, 4096)
        );
        assert_eq!(applied("--rate-limit none --circuit-breaker none --failover-zones= --split="), default);
    }

    #[test]
    fn what_is_no_number_is_a_usage_error() {
        for options in
            ["--rate-limit 5", "--rate-limit x:1", "--retries 1:2", "--circuit-breaker 4294967296:1"]
        {
            let words = ["policy", "orders"].into_iter().chain(options.split_whitespace());
            assert!(Line::try_parse_from(words).is_err(), "{options}");
        }
    }
}
