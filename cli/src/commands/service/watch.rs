//! `quorate service watch`: instances as they come, change and go, one a line.

use std::collections::BTreeMap;

use clap::Args;
use quorate_core::error::ErrorKind;
use quorate_core::registry::ServiceName;
use quorate_proto::convert::error_from_status;
use quorate_proto::v1;
use serde::Serialize;

use super::{InstanceJson, instance, paint_status, parse_service};
use crate::api::Call;
use crate::context::Context;
use crate::failure::{Failure, Outcome};

/// Print a service's instances as they come, change and go, until Ctrl-C.
///
/// A lost connection is replaced, and what happened meanwhile is told.
#[derive(Args, Debug)]
pub struct WatchArguments {
    #[arg(value_parser = parse_service)]
    service: ServiceName,
    /// End after so many lines.
    #[arg(short = 'n', long, value_name = "NUMBER", value_parser = clap::value_parser!(u64).range(1..))]
    count: Option<u64>,
}

/// One line.
#[derive(Debug, Serialize)]
struct NewsJson {
    /// `present` (when the watch began), `put`, `removed`, or `policy`.
    event: &'static str,
    version: u64,
    id: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    instance: Option<InstanceJson>,
}

pub async fn run(arguments: WatchArguments, context: &mut Context) -> Outcome {
    let WatchArguments { service, count } = arguments;
    let subject = service.to_string();
    let mut left = count.unwrap_or(u64::MAX);
    let mut version = None;
    // What has been told: after a snapshot only what differs is.
    let mut known: BTreeMap<String, u64> = BTreeMap::new();
    loop {
        let request = v1::WatchServiceRequest {
            namespace: service.namespace().into(),
            service: service.service().into(),
            filter: None,
            since_version: version,
            credentials: context.api.credentials(),
        };
        let mut stream = context
            .api
            .registry(Call::Read, async |client| client.watch_service(request.clone()).await)
            .await?
            .into_inner();
        if version.is_none() {
            context.output.note(&format!("watching {subject} (Ctrl-C ends it)"));
        }
        loop {
            let news = match stream.message().await {
                Ok(Some(news)) => news,
                Ok(None) => break,
                Err(status) => {
                    let error = error_from_status(&status);
                    if error.kind.is_retryable() || error.kind == ErrorKind::OutcomeUnknown {
                        break;
                    }
                    return Err(Failure::refused(&error, ""));
                }
            };
            let event = if version.is_none() { "present" } else { "put" };
            version = Some(news.version);
            let mut lines = Vec::new();
            if news.snapshot {
                let is_gone = |id: &&String| !news.put.iter().any(|instance| instance.id == **id);
                lines.extend(known.keys().filter(is_gone).cloned().map(|id| ("removed", id, None)));
            }
            lines.extend(news.removed.into_iter().map(|id| ("removed", id, None)));
            for put in news.put {
                if known.insert(put.id.clone(), put.changed_zxid) != Some(put.changed_zxid) {
                    lines.push((event, put.id.clone(), Some(instance(put)?)));
                }
            }
            if news.policy.is_some() || news.policy_removed {
                lines.push(("policy", String::new(), None));
            }
            for (event, id, instance) in lines {
                if event == "removed" && known.remove(&id).is_none() {
                    continue;
                }
                show(context, NewsJson { event, version: news.version, id, instance })?;
                left -= 1;
                if left == 0 {
                    return Ok(());
                }
            }
        }
    }
}

fn show(context: &Context, news: NewsJson) -> Outcome {
    context.output.show(&news, |style| {
        let version = news.version;
        match &news.instance {
            Some(instance) => {
                let status = paint_status(instance.status)(style, &format!("{:<11}", instance.status));
                format!("{version:>10}  {:<8} {status}  {}  {}", news.event, instance.id, instance.endpoint)
            }
            None if news.event == "removed" => {
                format!("{version:>10}  {} {:<11}  {}", style.bad("removed "), "", news.id)
            }
            None => format!("{version:>10}  {:<8}", news.event),
        }
    })
}
