//! Both servers: Debian's ZooKeeper, alone, and one member of Quorate; with a clean disk each, and the
//! superuser `super:test`.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use super::Failure;
use crate::cluster::{Binaries, Guard, PortBlock};

const JAVA: &str = "/usr/bin/java";
const CLASSES: &str = "/etc/zookeeper/conf:/usr/share/java/zookeeper.jar";
/// The digest of super:test.
const SUPER_DIGEST: &str = "super:D/InIHSb7yEEbrWz8b9l71RjZJU=";
/// How long a server may take to serve.
const PATIENCE: Duration = Duration::from_secs(60);
/// Pause between two questions whether it does.
const ASK_AGAIN: Duration = Duration::from_millis(50);

/// Two servers; those started here end when this is dropped.
#[derive(Debug)]
pub struct Servers {
    /// ZooKeeper's client address.
    pub zookeeper: String,
    /// Quorate's.
    pub quorate: String,
    versions: String,
    _started: Option<Started>,
}

#[derive(Debug)]
struct Started {
    children: Vec<std::process::Child>,
    // In this order: the processes first, then the guard that ends them otherwise, then their files.
    _guard: Guard,
    _ports: PortBlock,
    _folder: TempDir,
}

impl Servers {
    /// Servers that run already.
    pub fn given(zookeeper: &str, quorate: &str) -> Servers {
        let versions = describe(zookeeper, quorate);
        Servers { zookeeper: zookeeper.into(), quorate: quorate.into(), versions, _started: None }
    }

    /// Starts both.
    ///
    /// # Errors
    /// Says which, and how to install what is missing.
    pub fn start(jars: Option<&Path>) -> Result<Servers, Failure> {
        let is_missing = jars.is_none() && !Path::new("/usr/share/java/zookeeper.jar").exists();
        if !Path::new(JAVA).exists() || is_missing {
            return Err(Failure::Servers(
                "no ZooKeeper: apt-get install zookeeper default-jre-headless, or give --zookeeper and --quorate"
                    .into(),
            ));
        }
        let failed = |reason: String| Failure::Servers(reason);
        let binaries = Binaries::find().map_err(|error| failed(error.to_string()))?;
        let ports = PortBlock::take().map_err(|error| failed(error.to_string()))?;
        let folder = tempfile::tempdir().map_err(|error| failed(error.to_string()))?;
        let guard = Guard::start(None, false).map_err(|error| failed(error.to_string()))?;
        let ((client, peer, http, _), (zookeeper, quorate, _, _)) = (ports.member(0), ports.member(1));
        let address = |port: u16| format!("127.0.0.1:{port}");
        let mut started = Started { children: Vec::new(), _guard: guard, _ports: ports, _folder: folder };

        let data = started._folder.path().join("zookeeper");
        std::fs::create_dir_all(&data).map_err(|error| failed(error.to_string()))?;
        let configuration = started._folder.path().join("zoo.cfg");
        let text = format!(
            "tickTime=2000\ndataDir={}\nclientPort={zookeeper}\nclientPortAddress=127.0.0.1\nmaxClientCnxns=0\n\
             admin.enableServer=false\n4lw.commands.whitelist=*\n",
            data.display()
        );
        std::fs::write(&configuration, text).map_err(|error| failed(error.to_string()))?;
        let mut java = Command::new(JAVA);
        java.args(["-Xmx500m", "-Dzookeeper.root.logger=ERROR,CONSOLE", "-Dzookeeper.forceSync=no"])
            .arg("-Dzookeeper.extendedTypesEnabled=true")
            // Nodes go when a test says so, not by the clock.
            .arg("-Dznode.container.checkIntervalMs=100000000")
            .arg(format!("-Dzookeeper.DigestAuthenticationProvider.superDigest={SUPER_DIGEST}"))
            .args(["-cp", &jars.map_or(CLASSES.into(), |jars| format!("{}/*", jars.display()))])
            .arg("org.apache.zookeeper.server.quorum.QuorumPeerMain")
            .arg(&configuration);
        started.spawn(java, "zookeeper")?;

        let mut quorated = Command::new(&binaries.quorated);
        quorated
            .args(["serve", "--member-id", "1", "--data-dir"])
            .arg(started._folder.path().join("quorate"))
            .args(["--client-listen", &address(client), "--peer-listen", &address(peer)])
            .args(["--http-listen", &address(http), "--zookeeper-listen", &address(quorate)])
            .env("QUORATE_SUPER_DIGEST", SUPER_DIGEST);
        started.spawn(quorated, "quorate")?;

        let (zookeeper, quorate) = (address(zookeeper), address(quorate));
        wait_for(&zookeeper, |answer| answer.contains("Mode: "))?;
        // Its first transaction publishes the membership; after it, all are the test's.
        wait_for(&quorate, |answer| answer.contains("Mode: ") && !answer.contains("Zxid: 0x0\n"))?;
        let versions = describe(&zookeeper, &quorate);
        Ok(Servers { zookeeper, quorate, versions, _started: Some(started) })
    }

    /// Whether this is 3.9 or later.
    pub fn is_3_9(&self) -> bool {
        !self.versions.starts_with("3.8")
    }

    /// Which versions.
    pub fn describe(&self) -> &str {
        &self.versions
    }
}

impl Started {
    fn spawn(&mut self, mut command: Command, name: &str) -> Result<(), Failure> {
        let failed = |error: std::io::Error| Failure::Servers(format!("{name}: {error}"));
        let log = std::fs::File::create(self._folder.path().join(format!("{name}.log"))).map_err(failed)?;
        let child = command
            .stdin(Stdio::null())
            .stdout(log.try_clone().map_err(failed)?)
            .stderr(log)
            .spawn()
            .map_err(failed)?;
        self._guard.add(child.id()).map_err(|error| Failure::Servers(error.to_string()))?;
        self.children.push(child);
        Ok(())
    }
}

impl Drop for Started {
    fn drop(&mut self) {
        for child in &mut self.children {
            if let Some(pid) = Pid::from_raw(child.id().cast_signed()) {
                let _ = kill_process(pid, Signal::KILL); // it may have ended by itself
            }
            let _ = child.wait();
        }
    }
}

/// Asks a four-letter word.
fn ask(address: &str, word: &str) -> std::io::Result<String> {
    let address: SocketAddr = address.parse().map_err(std::io::Error::other)?;
    let mut stream = TcpStream::connect_timeout(&address, Duration::from_secs(5))?;
    stream.set_read_timeout(Some(Duration::from_secs(5)))?;
    stream.write_all(word.as_bytes())?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer)
}

fn wait_for(address: &str, is_ready: impl Fn(&str) -> bool) -> Result<(), Failure> {
    let started = Instant::now();
    loop {
        match ask(address, "srvr") {
            Ok(answer) if is_ready(&answer) => return Ok(()),
            Ok(answer) if started.elapsed() > PATIENCE => {
                return Err(Failure::Servers(format!("{address} does not serve: {answer}")));
            }
            Err(error) if started.elapsed() > PATIENCE => {
                return Err(Failure::Servers(format!("{address}: {error}")));
            }
            _ => std::thread::sleep(ASK_AGAIN),
        }
    }
}

fn describe(zookeeper: &str, quorate: &str) -> String {
    let version = |address: &str| {
        let answer = ask(address, "srvr").unwrap_or_default();
        let line = answer.lines().next().unwrap_or("no answer");
        line.trim_start_matches("Zookeeper version: ").split(',').next().unwrap_or_default().to_owned()
    };
    format!("{} against {}", version(zookeeper), version(quorate))
}
