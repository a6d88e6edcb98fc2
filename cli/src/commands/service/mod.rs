//! `quorate service`: the registry's services and their instances.
//!
//! - [`register`]: an instance, for as long as the command runs or until it is removed;
//! - [`watch`](mod@watch): what changes; [`policy`]: how a service is to be called.

mod policy;
mod register;
mod watch;

use std::time::Duration;

use clap::{Args, Subcommand};
use quorate_core::registry::{Instance, ServiceName};
use quorate_proto::v1;
use serde::Serialize;

use crate::api::Call;
use crate::context::Context;
use crate::failure::{Failure, Outcome};
use crate::output::style::Style;
use crate::output::table::{Cell, Table};
use crate::values::parse_duration;

/// Register services' instances, find and follow them.
///
/// SERVICE is a name, or NAMESPACE/NAME.
#[derive(Args, Debug)]
pub struct ServiceArguments {
    #[command(subcommand)]
    command: ServiceCommand,
}

#[derive(Debug, Subcommand)]
enum ServiceCommand {
    Register(Box<register::RegisterArguments>),
    /// List the services.
    List {
        /// Of this namespace only.
        #[arg(long)]
        namespace: Option<String>,
    },
    /// Show a service's instances.
    Show {
        #[arg(value_parser = parse_service)]
        service: ServiceName,
        /// Only those to which new work may go.
        #[arg(long)]
        usable: bool,
        /// Only this zone.
        #[arg(long, default_value = "")]
        zone: String,
        /// Only those with this metadata; may be given several times.
        #[arg(long, value_name = "KEY=VALUE", value_parser = parse_pair)]
        meta: Vec<(String, String)>,
    },
    Watch(watch::WatchArguments),
    /// Ask an instance for no new work; it is removed after the window if it has not left.
    Drain {
        #[arg(value_parser = parse_service)]
        service: ServiceName,
        id: String,
        /// Absent: until it leaves.
        #[arg(long, value_parser = parse_duration)]
        window: Option<Duration>,
    },
    /// Take an instance out until `resume`.
    Maintenance {
        #[arg(value_parser = parse_service)]
        service: ServiceName,
        id: String,
    },
    /// End an instance's drain or maintenance.
    Resume {
        #[arg(value_parser = parse_service)]
        service: ServiceName,
        id: String,
    },
    /// Remove an instance, whoever registered it.
    Deregister {
        #[arg(value_parser = parse_service)]
        service: ServiceName,
        id: String,
    },
    Policy(Box<policy::PolicyArguments>),
}

/// A service's name on the command line.
pub fn parse_service(text: &str) -> Result<ServiceName, String> {
    text.parse().map_err(|error: quorate_core::error::Error| error.detail)
}

fn parse_pair(text: &str) -> Result<(String, String), String> {
    let (key, value) = text.split_once('=').ok_or("write KEY=VALUE")?;
    Ok((key.into(), value.into()))
}

#[derive(Debug, Serialize)]
struct ServicesJson {
    services: Vec<SummaryJson>,
    zxid: u64,
}

#[derive(Debug, Serialize)]
struct SummaryJson {
    namespace: String,
    service: String,
    version: u64,
    instances: u32,
    usable: u32,
    unreadable: u32,
}

#[derive(Debug, Serialize)]
struct ServiceJson {
    service: String,
    version: u64,
    zxid: u64,
    panicking: bool,
    instances: Vec<InstanceJson>,
}

/// An instance as it is printed.
#[derive(Debug, Serialize)]
pub struct InstanceJson {
    pub id: String,
    pub address: String,
    ports: std::collections::BTreeMap<String, u16>,
    status: &'static str,
    #[serde(skip_serializing_if = "String::is_empty")]
    reason: String,
    weight: u32,
    #[serde(skip_serializing_if = "String::is_empty")]
    zone: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    version: String,
    /// Empty: the one that is asked.
    #[serde(skip_serializing_if = "String::is_empty")]
    cluster: String,
    priority: u32,
    generation: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    load: Option<u32>,
    metadata: std::collections::BTreeMap<String, String>,
    registered_zxid: u64,
    changed_zxid: u64,
    session: String,
    #[serde(skip)]
    endpoint: String,
}

impl InstanceJson {
    /// Where its main port is.
    pub fn endpoint(&self) -> &str {
        &self.endpoint
    }
}

/// An instance from the wire.
pub fn instance(wire: v1::Instance) -> Outcome<InstanceJson> {
    let (registered_zxid, changed_zxid, session) = (wire.registered_zxid, wire.changed_zxid, wire.session_id);
    let instance = Instance::try_from(wire)
        .map_err(|error| Failure::other(format!("a member's answer makes no sense: {error}")))?;
    let (status, endpoint) = (instance.status().name(), instance.endpoint(""));
    Ok(InstanceJson {
        id: instance.id,
        address: instance.address,
        ports: instance.ports,
        status,
        reason: instance.reason,
        weight: instance.weight,
        zone: instance.locality.zone,
        version: instance.version,
        cluster: instance.cluster,
        priority: instance.priority,
        generation: instance.generation,
        load: instance.load,
        metadata: instance.metadata,
        registered_zxid,
        changed_zxid,
        session: match session {
            0 => String::new(),
            session => quorate_core::id::SessionId(session).to_string(),
        },
        endpoint,
    })
}

/// The colour of a status.
pub fn paint_status(status: &str) -> fn(&Style, &str) -> String {
    match status {
        "passing" => Style::good,
        "critical" => Style::bad,
        _ => Style::warn,
    }
}

pub async fn run(arguments: ServiceArguments, context: &mut Context) -> Outcome {
    match arguments.command {
        ServiceCommand::Register(arguments) => register::run(*arguments, context).await,
        ServiceCommand::List { namespace } => list(context, namespace).await,
        ServiceCommand::Show { service, usable, zone, meta } => {
            let filter = v1::InstanceFilter {
                usable_only: usable,
                zone,
                version: String::new(),
                metadata: meta.into_iter().collect(),
            };
            show(context, service, filter).await
        }
        ServiceCommand::Watch(arguments) => watch::run(arguments, context).await,
        ServiceCommand::Drain { service, id, window } => {
            let window_ms = window.unwrap_or_default().as_millis();
            let window_ms = u32::try_from(window_ms).unwrap_or(u32::MAX);
            set_mode(context, service, id, v1::Mode::Draining, window_ms).await
        }
        ServiceCommand::Maintenance { service, id } => {
            set_mode(context, service, id, v1::Mode::Maintenance, 0).await
        }
        ServiceCommand::Resume { service, id } => set_mode(context, service, id, v1::Mode::Serving, 0).await,
        ServiceCommand::Deregister { service, id } => deregister(context, service, id).await,
        ServiceCommand::Policy(arguments) => policy::run(*arguments, context).await,
    }
}

async fn list(context: &mut Context, namespace: Option<String>) -> Outcome {
    let request = v1::ListServicesRequest {
        namespace: namespace.unwrap_or_default(),
        consistency: context.api.consistency(),
        credentials: context.api.credentials(),
    };
    let answer = context.api.registry(Call::Read, async |client| client.list_services(request.clone()).await);
    let answer = answer.await?.into_inner();
    context.api.saw(answer.zxid);
    let summary = |service: v1::ServiceSummary| SummaryJson {
        namespace: service.namespace,
        service: service.service,
        version: service.version,
        instances: service.instances,
        usable: service.usable,
        unreadable: service.unreadable,
    };
    let services = answer.services.into_iter().map(summary).collect();
    let document = ServicesJson { services, zxid: answer.zxid };
    context.output.show(&document, |style| {
        if document.services.is_empty() {
            return style.dim("no services");
        }
        let mut table = Table::new(&["NAMESPACE", "SERVICE", "INSTANCES", "USABLE", "VERSION"]);
        for service in &document.services {
            let is_short = service.usable < service.instances;
            table.row(vec![
                Cell::text(&service.namespace),
                Cell::text(&service.service),
                Cell::number(service.instances),
                Cell::number(service.usable).painted(if is_short { Style::warn } else { Style::good }),
                Cell::number(service.version),
            ]);
        }
        table.render(style)
    })
}

async fn show(context: &mut Context, service: ServiceName, filter: v1::InstanceFilter) -> Outcome {
    let request = v1::DiscoverRequest {
        namespace: service.namespace().into(),
        service: service.service().into(),
        filter: Some(filter),
        consistency: context.api.consistency(),
        credentials: context.api.credentials(),
    };
    let subject = service.to_string();
    let answer = context.api.registry(Call::Read, async |client| client.discover(request.clone()).await);
    let answer = answer.await?.into_inner();
    context.api.saw(answer.zxid);
    let document = ServiceJson {
        service: subject,
        version: answer.version,
        zxid: answer.zxid,
        panicking: answer.panicking,
        instances: answer.instances.into_iter().map(instance).collect::<Outcome<_>>()?,
    };
    context.output.show(&document, |style| {
        if document.instances.is_empty() {
            return style.dim(&format!("{} has no instances", document.service));
        }
        let mut text = table_of(&document.instances).render(style);
        if document.panicking {
            text += &style.bad("too few are usable: callers use all that do not drain\n");
        }
        text
    })
}

fn table_of(instances: &[InstanceJson]) -> Table {
    let mut table = Table::new(&["ID", "ENDPOINT", "STATUS", "WEIGHT", "ZONE", "VERSION", "SESSION", "NOTE"]);
    for instance in instances {
        let meta = instance.metadata.iter().map(|(key, value)| format!("{key}={value}"));
        let note: Vec<String> =
            (!instance.reason.is_empty()).then(|| instance.reason.clone()).into_iter().chain(meta).collect();
        table.row(vec![
            Cell::text(&instance.id),
            Cell::text(&instance.endpoint),
            Cell::text(instance.status).painted(paint_status(instance.status)),
            Cell::number(instance.weight),
            Cell::text(&instance.zone),
            Cell::text(&instance.version),
            Cell::text(&instance.session),
            Cell::text(note.join(" ")),
        ]);
    }
    table
}

/// What a change of one instance prints.
#[derive(Debug, Serialize)]
pub struct ChangedJson {
    pub service: String,
    pub id: String,
    pub zxid: u64,
}

async fn set_mode(
    context: &mut Context,
    service: ServiceName,
    id: String,
    mode: v1::Mode,
    drain_window_ms: u32,
) -> Outcome {
    let request = v1::SetModeRequest {
        namespace: service.namespace().into(),
        service: service.service().into(),
        instance_id: id.clone(),
        mode: mode.into(),
        drain_window_ms,
        credentials: context.api.credentials(),
    };
    // Setting a mode again is harmless.
    let answer =
        context.api.registry(Call::NamedWrite, async |client| client.set_mode(request.clone()).await);
    let zxid = answer.await?.into_inner().zxid;
    context.api.saw(zxid);
    let document = ChangedJson { service: service.to_string(), id, zxid };
    let verb = match mode {
        v1::Mode::Serving => "serves again",
        v1::Mode::Draining => "drains",
        v1::Mode::Maintenance => "is in maintenance",
    };
    context.output.show(&document, |_| format!("{} of {} {verb}", document.id, document.service))
}

async fn deregister(context: &mut Context, service: ServiceName, id: String) -> Outcome {
    let request = v1::DeregisterRequest {
        namespace: service.namespace().into(),
        service: service.service().into(),
        instance_id: id.clone(),
        lease: None,
        credentials: context.api.credentials(),
    };
    let answer =
        context.api.registry(Call::NamedWrite, async |client| client.deregister(request.clone()).await);
    let zxid = answer.await?.into_inner().zxid;
    if zxid == 0 {
        return Err(Failure::not_found(format!("{service} has no instance {id}")));
    }
    context.api.saw(zxid);
    let document = ChangedJson { service: service.to_string(), id, zxid };
    context.output.show(&document, |_| format!("{} of {} is gone", document.id, document.service))
}
