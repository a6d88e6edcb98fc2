//! ZooKeeper's members: Debian's package, its sample configuration, and what three of them on one
//! machine need.

use std::path::{Path, PathBuf};
use std::process::Command;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::{MEMBERS, Plan, package_version, ports::PortBlock};
use crate::failure::Outcome;

const CLASSES: &str = "/etc/zookeeper/conf:/usr/share/java/zookeeper.jar";
/// Upstream's start script gives a server 1,000 MB; Debian's gives a quarter of the machine.
const HEAP: &str = "-Xmx1000m";

pub(super) fn plan(folder: &Path, ports: &PortBlock) -> Outcome<Vec<Plan>> {
    let servers: String = (0..MEMBERS)
        .map(|index| format!("server.{}={}:{}\n", index + 1, ports.address(index, 1), ports.port(index, 2)))
        .collect();
    let mut plans = Vec::new();
    for index in 0..MEMBERS {
        let data = folder.join(format!("member-{}", index + 1));
        std::fs::create_dir_all(&data)?;
        std::fs::write(data.join("myid"), (index + 1).to_string())?;
        let configuration = folder.join(format!("zoo-{}.cfg", index + 1));
        // The first three are the sample's; a fan-out has more than 60 clients on one address.
        let text = format!(
            "tickTime=2000\ninitLimit=10\nsyncLimit=5\ndataDir={}\nclientPort={}\n\
             clientPortAddress=127.0.0.1\nmaxClientCnxns=0\nadmin.enableServer=false\n{servers}",
            data.display(),
            ports.port(index, 0),
        );
        std::fs::write(&configuration, text)?;
        let arguments = [
            HEAP,
            "-Dzookeeper.root.logger=WARN,CONSOLE",
            &format!("-Dzookeeper.log.dir={}", folder.display()),
            "-cp",
            CLASSES,
            "org.apache.zookeeper.server.quorum.QuorumPeerMain",
            &configuration.display().to_string(),
        ];
        plans.push(Plan {
            program: PathBuf::from("/usr/bin/java"),
            arguments: arguments.map(str::to_owned).to_vec(),
            endpoint: ports.address(index, 0),
        });
    }
    Ok(plans)
}

/// Whether the member behind this endpoint leads: the four-letter word `srvr` tells.
pub(super) async fn leads(endpoint: &str) -> Outcome<bool> {
    let mut stream = TcpStream::connect(endpoint).await?;
    stream.write_all(b"srvr").await?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await?;
    Ok(answer.contains("Mode: leader"))
}

/// MiB of live objects of the largest of these processes, by the JDK's `jcmd` if there is one.
/// Asking for it collects garbage.
pub(super) fn live_heap_mib(pids: &[u32]) -> Option<f64> {
    let heaps = pids.iter().filter_map(|pid| {
        let output = Command::new("jcmd").args([&pid.to_string(), "GC.class_histogram"]).output().ok()?;
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let total = text.lines().rev().find(|line| line.starts_with("Total"))?;
        total.split_whitespace().nth(2)?.parse::<f64>().ok()
    });
    heaps.reduce(f64::max).map(|bytes| bytes / f64::from(1 << 20))
}

pub(super) fn description() -> (String, String) {
    let asked = Command::new("/usr/bin/java").arg("-version").output();
    let java = match asked {
        Ok(output) => String::from_utf8_lossy(&output.stderr).lines().next().unwrap_or_default().to_owned(),
        Err(error) => error.to_string(),
    };
    let settings =
        format!("zoo.cfg of the package (forceSync on), maxClientCnxns=0, admin server off, {HEAP}, {java}");
    (package_version("zookeeper"), settings)
}
