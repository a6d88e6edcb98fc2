//! `quorate service policy`: how a service is to be called.

use std::time::Duration;

use clap::Args;
use quorate_core::registry::policy::Split;
use quorate_core::registry::{Balancing, Policy, ServiceName};
use quorate_proto::v1;
use serde::Serialize;

use super::parse_service;
use crate::api::Call;
use crate::context::Context;
use crate::failure::{Failure, Outcome};
use crate::output::table::Table;
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
    /// Own zone first.
    #[arg(long, value_name = "true|false")]
    zone_aware: Option<bool>,
    /// With fewer usable than this part of all, all are used.
    #[arg(long, value_name = "PERMILLE")]
    panic: Option<u32>,
    /// Forget the policy: the default is in force again.
    #[arg(long)]
    remove: bool,
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
    zone_aware: bool,
    panic_permille: u32,
    retries_permille: u32,
    attempts_max: u32,
    ejected_after_failures: u32,
    ring_points_max: u64,
}

pub async fn run(arguments: PolicyArguments, context: &mut Context) -> Outcome {
    let service = arguments.service.clone();
    let subject = service.to_string();
    let (mut policy, version, changed_zxid) = read(context, &service).await?;
    if arguments.remove {
        return write(context, &service, None, version).await;
    }
    let before = policy.clone();
    if let Some(balancing) = arguments.balancing {
        policy.balancing = balancing;
    }
    if let Some(split) = &arguments.split {
        policy.split = parse_split(split)?;
    }
    if let Some(timeout) = arguments.request_timeout {
        policy.timeout_ms = u32::try_from(timeout.as_millis()).unwrap_or(u32::MAX);
    }
    policy.is_zone_aware = arguments.zone_aware.unwrap_or(policy.is_zone_aware);
    policy.panic_permille = arguments.panic.unwrap_or(policy.panic_permille);
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
        zone_aware: policy.is_zone_aware,
        panic_permille: policy.panic_permille,
        retries_permille: policy.retry_budget.permille,
        attempts_max: policy.retry_budget.attempts_max,
        ejected_after_failures: policy.outlier.failures,
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
            ("zone-aware", document.zone_aware.to_string()),
            ("panic below", format!("{} ‰ usable", document.panic_permille)),
            ("retries", format!("{} ‰, {} attempts", document.retries_permille, document.attempts_max)),
            ("ejected after", format!("{} failures", document.ejected_after_failures)),
        ];
        Table::facts(style, &facts)
    })
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
