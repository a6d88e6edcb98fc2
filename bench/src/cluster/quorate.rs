//! Quorate's members: `quorated serve` with nothing but addresses, so with its own defaults.

use std::path::Path;
use std::process::Command;

use quorate::Client;
use quorate::proto::StatusRequest;
use quorate::proto::cluster_client::ClusterClient;

use super::{MEMBERS, Plan, ports::PortBlock};
use crate::failure::Outcome;

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

/// Whether the member behind this endpoint leads.
pub(super) async fn leads(endpoint: &str) -> Outcome<bool> {
    let channel = Client::builder().endpoints([endpoint]).channel().await?;
    let status = ClusterClient::new(channel).status(StatusRequest {}).await?.into_inner();
    Ok(status.leader_id == Some(status.member_id))
}

pub(super) fn description(quorated: &Path) -> (String, String) {
    let asked = Command::new(quorated).arg("--version").output();
    let version = match asked {
        Ok(output) => String::from_utf8_lossy(&output.stdout).trim().to_owned(),
        Err(error) => format!("quorated, version unknown: {error}"),
    };
    (version, "addresses only; defaults for the rest (fsync before every acknowledgement)".into())
}
