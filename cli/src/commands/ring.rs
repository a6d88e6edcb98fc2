//! `quorate ring`: which instance owns a key, and what a change would move.

use std::collections::BTreeMap;
use std::path::PathBuf;

use clap::{Args, Subcommand};
use quorate_core::registry::ServiceName;
use quorate_core::ring::movement::{movement, spread};
use quorate_core::ring::{Algorithm, Member, Placement, Ring, RingSize, Sizing, hash_key, picture};
use quorate_proto::v1;
use serde::Serialize;

use super::service::parse_service;
use crate::context::Context;
use crate::failure::{Failure, Outcome};
use crate::output::style::Style;
use crate::output::table::{Cell, Table};

/// Show who owns which keys of a service, and what a change would move.
#[derive(Args, Debug)]
pub struct RingArguments {
    #[command(subcommand)]
    command: RingCommand,
}

#[derive(Debug, Subcommand)]
enum RingCommand {
    /// Show a service's ring.
    Show {
        #[arg(value_parser = parse_service)]
        service: ServiceName,
        /// As it was at this version.
        #[arg(long, default_value = "0", hide_default_value = true)]
        version: u64,
        /// Write a picture of it here.
        #[arg(long, value_name = "FILE")]
        svg: Option<PathBuf>,
    },
    /// Show who owns keys.
    Locate {
        #[arg(value_parser = parse_service)]
        service: ServiceName,
        #[arg(required = true)]
        keys: Vec<String>,
        /// How many different instances, the owner first.
        #[arg(long, default_value = "1")]
        replicas: u32,
        /// By the ring at this version.
        #[arg(long, default_value = "0", hide_default_value = true)]
        version: u64,
    },
    Simulate(SimulateArguments),
}

/// Show what a change would move of your keys, by each algorithm.
///
/// Nothing is changed. The plan is that of the ring, which the cluster uses.
#[derive(Args, Debug)]
struct SimulateArguments {
    #[arg(value_parser = parse_service)]
    service: ServiceName,
    /// The keys, one a line.
    #[arg(long, value_name = "FILE")]
    keys: PathBuf,
    /// An instance that comes: ID=ADDRESS:PORT, or ID=ADDRESS:PORT*WEIGHT.
    #[arg(long, value_name = "ID=H:P[*W]", value_parser = parse_member)]
    add: Vec<Member>,
    /// An instance that goes.
    #[arg(long, value_name = "ID")]
    remove: Vec<String>,
}

fn parse_member(text: &str) -> Result<Member, String> {
    let usage = || "write ID=ADDRESS:PORT or ID=ADDRESS:PORT*WEIGHT".to_string();
    let (id, rest) = text.split_once('=').ok_or_else(usage)?;
    let (key, weight) = rest.split_once('*').unwrap_or((rest, "1"));
    if id.is_empty() || !key.contains(':') {
        return Err(usage());
    }
    Ok(Member::new(id, key, weight.parse().map_err(|_| usage())?))
}

pub async fn run(arguments: RingArguments, context: &mut Context) -> Outcome {
    match arguments.command {
        RingCommand::Show { service, version, svg } => show(context, service, version, svg).await,
        RingCommand::Locate { service, keys, replicas, version } => {
            locate(context, service, keys, replicas, version).await
        }
        RingCommand::Simulate(arguments) => simulate(context, arguments).await,
    }
}

async fn read(context: &mut Context, service: &ServiceName, version: u64) -> Outcome<v1::GetRingResponse> {
    let request = v1::GetRingRequest {
        namespace: service.namespace().into(),
        service: service.service().into(),
        version,
        credentials: context.api.credentials(),
    };
    let ring = context.api.ring(async |client| client.get_ring(request.clone()).await).await?;
    Ok(ring.into_inner())
}

/// The same ring, built here.
fn build(answer: &v1::GetRingResponse) -> Ring {
    let members: Vec<Member> = answer
        .members
        .iter()
        .map(|member| Member::new(member.instance_id.as_str(), member.endpoint.as_str(), member.weight))
        .collect();
    let size = RingSize { min: answer.min_ring_size, max: answer.max_ring_size };
    // Sizes that follow from the members go on doing so when the members change.
    let stable = Sizing::Stable { max: size.max };
    let weights: Vec<u32> = members.iter().map(|member| member.weight).collect();
    let sizing = if stable.resolve(&weights) == size { stable } else { Sizing::Fixed(size) };
    Ring::new(members, sizing)
}

#[derive(Debug, Serialize)]
struct RingJson {
    service: String,
    version: u64,
    points: u64,
    min_ring_size: u64,
    max_ring_size: u64,
    panicking: bool,
    draining: Vec<String>,
    members: Vec<MemberJson>,
}

#[derive(Debug, Serialize)]
struct MemberJson {
    id: String,
    endpoint: String,
    weight: u32,
    points: u32,
    share: f64,
}

async fn show(context: &mut Context, service: ServiceName, version: u64, svg: Option<PathBuf>) -> Outcome {
    let answer = read(context, &service, version).await?;
    if let Some(file) = &svg {
        let title = format!("{service}, version {}", answer.version);
        std::fs::write(file, picture::svg(&build(&answer), &title))
            .map_err(|error| Failure::other(format!("{}: {error}", file.display())))?;
        context.output.note(&format!("the picture is in {}", file.display()));
    }
    let member = |member: v1::RingMember| MemberJson {
        id: member.instance_id,
        endpoint: member.endpoint,
        weight: member.weight,
        points: member.points,
        share: f64::from(member.share_millionths) / 1e6,
    };
    let document = RingJson {
        service: service.to_string(),
        version: answer.version,
        points: answer.points,
        min_ring_size: answer.min_ring_size,
        max_ring_size: answer.max_ring_size,
        panicking: answer.panicking,
        draining: answer.draining,
        members: answer.members.into_iter().map(member).collect(),
    };
    context.output.show(&document, |style| {
        if document.members.is_empty() {
            return style.dim(&format!("{} has nobody on its ring", document.service));
        }
        let mut table = Table::new(&["ID", "ENDPOINT", "WEIGHT", "POINTS", "SHARE"]);
        for member in &document.members {
            table.row(vec![
                Cell::text(&member.id),
                Cell::text(&member.endpoint),
                Cell::number(member.weight),
                Cell::number(member.points),
                Cell::number(format!("{:.1} %", member.share * 100.0)),
            ]);
        }
        let mut text = table.render(style);
        text += &style.dim(&format!("version {}, {} points\n", document.version, document.points));
        for id in &document.draining {
            text += &style.warn(&format!("{id} drains: its keys' new owners must wait until it is gone\n"));
        }
        text
    })
}

#[derive(Debug, Serialize)]
struct LocationJson {
    key: String,
    hash: String,
    version: u64,
    owners: Vec<OwnerJson>,
    #[serde(skip_serializing_if = "Option::is_none")]
    handing_over: Option<String>,
}

#[derive(Debug, Serialize)]
struct OwnerJson {
    id: String,
    endpoint: String,
}

async fn locate(
    context: &mut Context,
    service: ServiceName,
    keys: Vec<String>,
    replicas: u32,
    version: u64,
) -> Outcome {
    let mut documents = Vec::new();
    for key in keys {
        let request = v1::LocateRequest {
            namespace: service.namespace().into(),
            service: service.service().into(),
            key: key.clone().into(),
            replicas,
            version,
            consistency: context.api.consistency(),
            credentials: context.api.credentials(),
        };
        let answer = context.api.ring(async |client| client.locate(request.clone()).await).await?;
        let answer = answer.into_inner();
        if answer.owners.is_empty() {
            return Err(Failure::not_found(format!("{service} has nobody to own {key}")));
        }
        let owner = |instance: v1::Instance| {
            let shown = super::service::instance(instance)?;
            Ok(OwnerJson { endpoint: shown.endpoint().into(), id: shown.id })
        };
        documents.push(LocationJson {
            key,
            hash: format!("{:016x}", answer.hash),
            version: answer.version,
            owners: answer.owners.into_iter().map(owner).collect::<Outcome<_>>()?,
            handing_over: answer.handing_over.map(|instance| instance.id),
        });
    }
    context.output.show(&documents, |style| {
        let mut table = Table::new(&["KEY", "OWNER", "ENDPOINT", "STAND-INS", "VERSION"]);
        for location in &documents {
            let stand_ins: Vec<&str> = location.owners[1..].iter().map(|owner| owner.id.as_str()).collect();
            table.row(vec![
                Cell::text(&location.key),
                Cell::text(&location.owners[0].id).painted(Style::good),
                Cell::text(&location.owners[0].endpoint),
                Cell::text(stand_ins.join(" ")),
                Cell::number(location.version),
            ]);
        }
        let waiting = documents.iter().filter_map(|location| {
            let draining = location.handing_over.as_ref()?;
            Some(style.warn(&format!("{}: waits for {draining}, which drains\n", location.key)))
        });
        waiting.fold(table.render(style), |text, line| text + &line)
    })
}

#[derive(Debug, Serialize)]
struct SimulationJson {
    service: String,
    version: u64,
    keys: u64,
    algorithms: Vec<ComparisonJson>,
    /// The ring's plan: how many keys go from whom to whom.
    plan: Vec<FlowJson>,
}

#[derive(Debug, Serialize)]
struct ComparisonJson {
    algorithm: &'static str,
    moved: u64,
    moved_between_stayers: u64,
    peak_to_mean_before: f64,
    peak_to_mean_after: f64,
}

#[derive(Debug, Serialize)]
struct FlowJson {
    from: String,
    to: String,
    keys: u64,
}

async fn simulate(context: &mut Context, arguments: SimulateArguments) -> Outcome {
    let SimulateArguments { service, keys, add, remove } = arguments;
    if add.is_empty() && remove.is_empty() {
        return Err(Failure::usage("nothing to simulate: give --add or --remove"));
    }
    let text = std::fs::read_to_string(&keys)
        .map_err(|error| Failure::other(format!("{}: {error}", keys.display())))?;
    let hashes: Vec<u64> = text.lines().filter(|key| !key.is_empty()).map(hash_key).collect();
    let answer = read(context, &service, 0).await?;
    let ring = build(&answer);
    let mut after: BTreeMap<_, Member> =
        ring.members().iter().map(|member| (member.id.clone(), member.clone())).collect();
    for id in &remove {
        if after.remove(id.as_str()).is_none() {
            return Err(Failure::not_found(format!("{service} has no {id} on its ring")));
        }
    }
    after.extend(add.into_iter().map(|member| (member.id.clone(), member)));
    let after: Vec<Member> = after.into_values().collect();
    let mut plan = Vec::new();
    let mut algorithms = Vec::new();
    for algorithm in Algorithm::ALL {
        let old = algorithm.build(ring.members().iter().cloned(), ring.sizing());
        let new = algorithm.build(after.clone(), ring.sizing());
        let moved = movement(&*old, &*new, &hashes);
        algorithms.push(ComparisonJson {
            algorithm: algorithm.name(),
            moved: moved.moved,
            moved_between_stayers: moved.moved_between_stayers,
            peak_to_mean_before: spread(&*old, &hashes).peak_to_mean,
            peak_to_mean_after: spread(&*new, &hashes).peak_to_mean,
        });
        if algorithm == Algorithm::Ring {
            let flow = |((from, to), keys): (&(std::sync::Arc<str>, std::sync::Arc<str>), &u64)| FlowJson {
                from: from.to_string(),
                to: to.to_string(),
                keys: *keys,
            };
            plan = moved.flows.iter().map(flow).collect();
        }
    }
    let document = SimulationJson {
        service: service.to_string(),
        version: answer.version,
        keys: hashes.len() as u64,
        algorithms,
        plan,
    };
    context.output.show(&document, |style| {
        let part = |moved: u64| format!("{:.1} %", 100.0 * moved as f64 / document.keys.max(1) as f64);
        let mut table = Table::new(&["ALGORITHM", "MOVED", "OF ALL", "NEEDLESS", "PEAK/MEAN", "THEN"]);
        for row in &document.algorithms {
            table.row(vec![
                Cell::text(row.algorithm),
                Cell::number(row.moved),
                Cell::number(part(row.moved)),
                Cell::number(row.moved_between_stayers),
                Cell::number(format!("{:.2}", row.peak_to_mean_before)),
                Cell::number(format!("{:.2}", row.peak_to_mean_after)),
            ]);
        }
        let mut text = table.render(style);
        let mut flows = Table::new(&["FROM", "TO", "KEYS"]);
        for flow in &document.plan {
            flows.row(vec![Cell::text(&flow.from), Cell::text(&flow.to), Cell::number(flow.keys)]);
        }
        if !document.plan.is_empty() {
            text += "\n";
            text += &flows.render(style);
        }
        text
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn members_are_parsed() {
        let member = parse_member("d=10.0.0.4:8080*3").expect("parses");
        assert_eq!((&*member.id, &*member.key, member.weight), ("d", "10.0.0.4:8080", 3));
        assert_eq!(parse_member("d=[::1]:80").expect("parses").weight, 1);
        for bad in ["", "d", "d=", "=a:1", "d=a:1*x", "d=a"] {
            assert!(parse_member(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn the_ring_built_here_is_the_members() {
        for sizing in [Sizing::default(), Sizing::Fixed(RingSize { min: 1000, max: 2000 })] {
            let members = [Member::new("a", "10.0.0.1:80", 1), Member::new("b", "10.0.0.2:80", 3)];
            let ring = Ring::new(members, sizing);
            let answer = v1::GetRingResponse {
                min_ring_size: ring.size().min,
                max_ring_size: ring.size().max,
                members: ring
                    .members()
                    .iter()
                    .map(|member| v1::RingMember {
                        instance_id: member.id.to_string(),
                        endpoint: member.key.to_string(),
                        weight: member.weight,
                        ..Default::default()
                    })
                    .collect(),
                ..Default::default()
            };
            assert!(build(&answer) == ring);
            assert_eq!(build(&answer).sizing(), sizing);
        }
    }
}
