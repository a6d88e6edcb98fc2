//! Quorate's members: `quorated serve` with nothing but addresses, so with its own defaults.

use std::path::Path;
use std::process::Command;

use quorate::Client;
use quorate::proto::StatusRequest;
use quorate::proto::cluster_client::ClusterClient;

use super::{MEMBERS, Plan, ports::PortBlock};
use crate::failure::Outcome;

/// How its ZooKeeper door is opened: a fan-out has more than 60 clients on one address.
pub(super) const DOOR: &str = "zookeeper_listen, zookeeper_connections = 100000; ";

pub(super) fn plan(quorated: &Path, folder: &Path, ports: &PortBlock) -> Vec<Plan> {
    let founders: Vec<String> = (0..MEMBERS)
        .map(|index| format!("{}={}/{}", index + 1, ports.address(index, 1), ports.address(index, 0)))
        .collect();
    let member = |index: usize| {
        let arguments = [
            "serve",
            "--member-id",
            &(index + 1).to_string(),
            "--data-dir",
            &folder.join(format!("member-{}", index + 1)).display().to_string(),
            "--initial-cluster",
            &founders.join(","),
            "--client-listen",
            &ports.address(index, 0),
            "--peer-listen",
            &ports.address(index, 1),
            "--http-listen",
            &ports.address(index, 2),
        ];
        Plan {
            program: quorated.to_owned(),
            arguments: arguments.map(str::to_owned).to_vec(),
            endpoint: ports.address(index, 0),
        }
    };
    (0..MEMBERS).map(member).collect()
}

/// The same with their ZooKeeper doors open, and clients sent there.
pub(super) fn plan_with_door(quorated: &Path, folder: &Path, ports: &PortBlock) -> Vec<Plan> {
    let mut plans = plan(quorated, folder, ports);
    for (index, plan) in plans.iter_mut().enumerate() {
        plan.endpoint = ports.address(index, 3);
        let door = ["--zookeeper-connections", "100000", "--zookeeper-listen", &plan.endpoint];
        plan.arguments.extend(door.map(str::to_owned));
    }
    plans
}

/// Whether the member behind this endpoint leads.
pub(super) async fn leads(endpoint: &str) -> Outcome<bool> {
    let channel = Client::builder().endpoints([endpoint]).channel().await?;
    let status = ClusterClient::new(channel).status(StatusRequest {}).await?.into_inner();
    Ok(status.leader_id == Some(status.member_id))
}

/// Its version, and what was set.
pub(super) fn description(quorated: &Path, set: &str) -> (String, String) {
    let asked = Command::new(quorated).arg("--version").output();
    let version = match asked {
        Ok(output) => String::from_utf8_lossy(&output.stdout).trim().to_owned(),
        Err(error) => format!("quorated, version unknown: {error}"),
    };
    (version, format!("{set}addresses only; defaults for the rest (fsync before every acknowledgement)"))
}
