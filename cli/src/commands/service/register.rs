//! `quorate service register`: an instance, for as long as the command runs or until it is removed.

use std::collections::BTreeMap;
use std::time::Duration;

use clap::Args;
use quorate_core::registry::instance::WEIGHT_MAX;
use quorate_core::registry::names::check_range;
use quorate_core::registry::{Check, CheckKind, Instance, Locality, ServiceName};
use quorate_proto::v1;

use super::{ChangedJson, parse_pair, parse_service};
use crate::api::{Api, Call};
use crate::child;
use crate::context::Context;
use crate::failure::{Failure, Outcome};
use crate::values::parse_duration;

/// Register an instance, and keep it until Ctrl-C.
///
/// The instance goes when the command ends; killed, after the time to live. With --lasting it stays
/// until it is removed, and the cluster can check it.
#[derive(Args, Debug)]
pub struct RegisterArguments {
    #[arg(value_parser = parse_service)]
    service: ServiceName,
    /// Unique within the service; a DNS label.
    id: String,
    /// Where it is: an IP address or host name.
    #[arg(long, default_value = "127.0.0.1")]
    address: String,
    /// Its ports: a number (named main) or NAME=NUMBER; may be given several times.
    #[arg(long, value_name = "[NAME=]PORT", required = true, value_parser = parse_port)]
    port: Vec<(String, u16)>,
    /// Its share relative to the others'.
    #[arg(long, default_value = "1", value_parser = parse_weight)]
    weight: u32,
    /// What is spoken there: grpc, http, …
    #[arg(long, default_value = "")]
    protocol: String,
    /// The provider's region.
    #[arg(long, default_value = "")]
    region: String,
    /// The zone within it.
    #[arg(long, default_value = "")]
    zone: String,
    /// Within the zone.
    #[arg(long, default_value = "")]
    sub_zone: String,
    /// The cluster that it belongs to; empty is this one.
    #[arg(long, default_value = "")]
    cluster: String,
    /// Lower is used first; higher ones when lower ones are not enough.
    #[arg(long, default_value = "0")]
    priority: u32,
    /// Which release it runs.
    #[arg(long, default_value = "")]
    release: String,
    /// For selectors and people; may be given several times.
    #[arg(long, value_name = "KEY=VALUE", value_parser = parse_pair)]
    meta: Vec<(String, String)>,
    /// Replaces one of the same id with a lower generation.
    #[arg(long, default_value = "0")]
    generation: u64,
    /// How long it outlives a silent owner (the cluster clamps it: 4s to 40s).
    #[arg(long, default_value = "10s", value_parser = parse_duration, conflicts_with = "lasting")]
    ttl: Duration,
    /// It stays until it is removed.
    #[arg(long)]
    lasting: bool,
    /// The cluster checks it: tcp, http:/PATH or grpc[:SERVICE].
    #[arg(long, value_parser = parse_check)]
    check: Option<CheckKind>,
    /// From one check to the next.
    #[arg(long, default_value = "10s", value_parser = parse_duration, requires = "check")]
    check_interval: Duration,
    /// An answer later than this is none.
    #[arg(long, value_parser = parse_duration, requires = "check")]
    check_timeout: Option<Duration>,
    /// So many good ones in a row make it passing.
    #[arg(long, requires = "check")]
    check_rise: Option<u32>,
    /// So many bad ones in a row make it critical.
    #[arg(long, requires = "check")]
    check_fall: Option<u32>,
    /// Critical for so long, it is removed.
    #[arg(long, value_parser = parse_duration, requires = "check")]
    remove_after: Option<Duration>,
}

fn parse_port(text: &str) -> Result<(String, u16), String> {
    let (name, port) = text.split_once('=').unwrap_or(("main", text));
    let port: u16 = port.parse().map_err(|_| "a port is a number between 1 and 65535".to_string())?;
    Ok((name.into(), port))
}

fn parse_weight(text: &str) -> Result<u32, String> {
    let weight: u64 = text.parse().map_err(|_| "a weight is a whole number".to_string())?;
    check_range("weight", weight, 1, WEIGHT_MAX.into()).map_err(|error| error.detail)?;
    Ok(weight as u32)
}

fn parse_check(text: &str) -> Result<CheckKind, String> {
    match text.split_once(':').unwrap_or((text, "")) {
        ("tcp", "") => Ok(CheckKind::Tcp),
        ("http", path) => Ok(CheckKind::Http { path: if path.is_empty() { "/" } else { path }.into() }),
        ("grpc", service) => Ok(CheckKind::Grpc { service: service.into() }),
        _ => Err("write tcp, http:/PATH or grpc[:SERVICE]".into()),
    }
}

impl RegisterArguments {
    fn instance(&self) -> Outcome<Instance> {
        let milliseconds = |time: Duration| u32::try_from(time.as_millis()).unwrap_or(u32::MAX);
        let interval_ms = milliseconds(self.check_interval);
        let check = self.check.clone().map(|kind| {
            let check = Check::new(kind);
            Check {
                interval_ms,
                timeout_ms: match self.check_timeout {
                    Some(timeout) => milliseconds(timeout),
                    None => check.timeout_ms.min(interval_ms.max(1000)),
                },
                rise: self.check_rise.unwrap_or(check.rise),
                fall: self.check_fall.unwrap_or(check.fall),
                remove_after_ms: self.remove_after.map_or(check.remove_after_ms, milliseconds),
                ..check
            }
        });
        let instance = Instance {
            ports: self.port.iter().cloned().collect::<BTreeMap<String, u16>>(),
            weight: self.weight,
            protocol: self.protocol.clone(),
            locality: Locality {
                region: self.region.clone(),
                zone: self.zone.clone(),
                sub_zone: self.sub_zone.clone(),
            },
            metadata: self.meta.iter().cloned().collect(),
            version: self.release.clone(),
            cluster: self.cluster.clone(),
            priority: self.priority,
            generation: self.generation,
            check,
            ..Instance::new(&self.id, &self.address, 1)
        };
        // What the cluster would refuse is said before anything is sent.
        instance.validate().map_err(|error| Failure::refused(&error, ""))?;
        Ok(instance)
    }
}

pub async fn run(arguments: RegisterArguments, context: &mut Context) -> Outcome {
    let instance = arguments.instance()?;
    let RegisterArguments { service, id, ttl, lasting, .. } = arguments;
    let ttl_ms = if lasting { 0 } else { u32::try_from(ttl.as_millis()).unwrap_or(u32::MAX).max(1) };
    let request = v1::RegisterRequest {
        namespace: service.namespace().into(),
        service: service.service().into(),
        instance: Some(instance.into()),
        ttl_ms,
        lease: None,
        request_id: Api::request_id()?,
        credentials: context.api.credentials(),
    };
    let answer = context
        .api
        .registry(Call::NamedWrite, async |client| client.register(request.clone()).await)
        .await?
        .into_inner();
    context.api.saw(answer.zxid);
    let document = ChangedJson { service: service.to_string(), id, zxid: answer.zxid };
    context.output.show(&document, |_| format!("{} of {} is registered", document.id, document.service))?;
    let Some(lease) = answer.lease else { return Ok(()) };
    context.output.note("kept until Ctrl-C");
    let outcome = child::unless_stopped(keep(context, &lease)).await;
    // Leaving at once rather than after the time to live; if it cannot be told, that does it.
    let request = v1::DeregisterRequest { lease: Some(lease), ..Default::default() };
    let leaving =
        context.api.registry(Call::NamedWrite, async |client| client.deregister(request.clone()).await);
    let _ = tokio::time::timeout(Duration::from_secs(2), leaving).await;
    outcome.and_then(|kept| kept)
}

/// Heartbeats, until the lease is lost.
async fn keep(context: &mut Context, lease: &v1::Lease) -> Outcome {
    let pause = Duration::from_millis(u64::from(lease.ttl_ms) / 3);
    // Another member is asked before the lease is over.
    context.api.hurry(pause);
    loop {
        tokio::time::sleep(pause).await;
        let request = v1::HeartbeatRequest { lease: Some(lease.clone()) };
        context.api.registry(Call::Read, async |client| client.heartbeat(request.clone()).await).await?;
    }
}
