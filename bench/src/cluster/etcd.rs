//! etcd's members: Debian's package with nothing but addresses, so with its own defaults.

use std::path::{Path, PathBuf};

use super::{MEMBERS, Plan, package_version, ports::PortBlock};
use crate::failure::Outcome;
use crate::targets::etcd_status;

pub(super) fn plan(folder: &Path, ports: &PortBlock) -> Vec<Plan> {
    let peers: Vec<String> = (0..MEMBERS)
        .map(|index| format!("member-{}=http://{}", index + 1, ports.address(index, 1)))
        .collect();
    let member = |index: usize| {
        let name = format!("member-{}", index + 1);
        let client = format!("http://{}", ports.address(index, 0));
        let peer = format!("http://{}", ports.address(index, 1));
        let arguments = [
            "--name",
            &name,
            "--data-dir",
            &folder.join(&name).display().to_string(),
            "--listen-client-urls",
            &client,
            "--advertise-client-urls",
            &client,
            "--listen-peer-urls",
            &peer,
            "--initial-advertise-peer-urls",
            &peer,
            "--initial-cluster",
            &peers.join(","),
        ];
        Plan {
            program: PathBuf::from("/usr/bin/etcd"),
            arguments: arguments.map(str::to_owned).to_vec(),
            endpoint: ports.address(index, 0),
        }
    };
    (0..MEMBERS).map(member).collect()
}

/// Whether the member behind this endpoint leads.
pub(super) async fn leads(endpoint: &str) -> Outcome<bool> {
    let status = etcd_status(endpoint).await?;
    Ok(status.header.is_some_and(|header| header.member_id == status.leader))
}

pub(super) fn description() -> (String, String) {
    (package_version("etcd-server"), "addresses only; defaults for the rest (fsync on)".into())
}
