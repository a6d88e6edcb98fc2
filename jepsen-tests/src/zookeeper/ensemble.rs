//! A real ZooKeeper ensemble: three of Debian's servers as processes of ours.

use std::fs::File;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::cluster::{ClusterError, Guard, PortBlock};

const JAVA: &str = "/usr/bin/java";
const CLASSES: &str = "/etc/zookeeper/conf:/usr/share/java/zookeeper.jar";
/// How long the servers may take to serve.
const PATIENCE: Duration = Duration::from_secs(60);
const SERVERS: u16 = 3;

/// Three servers; dropping it ends them.
#[derive(Debug)]
pub struct Ensemble {
    servers: Vec<(String, Child)>,
    // In this order: the processes first, then the guard that ends them otherwise, then their files.
    _guard: Guard,
    _ports: PortBlock,
    _folder: TempDir,
}

impl Ensemble {
    /// Starts them and waits until all serve.
    ///
    /// # Errors
    /// [`ClusterError`]; no ZooKeeper here is [`ClusterError::Impossible`].
    pub async fn start() -> Result<Ensemble, ClusterError> {
        if !Path::new(JAVA).exists() || !Path::new("/usr/share/java/zookeeper.jar").exists() {
            let what = "no ZooKeeper: apt-get install zookeeper default-jre-headless";
            return Err(ClusterError::Impossible(what.into()));
        }
        let folder = tempfile::tempdir()
            .map_err(|source| ClusterError::Files { path: std::env::temp_dir(), source })?;
        let ports = PortBlock::take()?;
        let mut guard = Guard::start(None, false)?;
        let peers: String = (0..SERVERS)
            .map(|index| {
                let (_, peer, election, _) = ports.member(index);
                format!("server.{}=127.0.0.1:{peer}:{election}\n", index + 1)
            })
            .collect();
        let mut servers = Vec::new();
        for index in 0..SERVERS {
            let client = ports.member(index).0;
            let child = serve(folder.path(), index + 1, client, &peers)
                .map_err(|source| ClusterError::Spawn { program: JAVA.into(), source })?;
            guard.add(child.id())?;
            servers.push((format!("127.0.0.1:{client}"), child));
        }
        let ensemble = Ensemble { servers, _guard: guard, _ports: ports, _folder: folder };
        let started = Instant::now();
        while ensemble.followers().await.len() + 1 < ensemble.servers.len() {
            if started.elapsed() > PATIENCE {
                let (what, detail) = ("ZooKeeper serves".into(), String::new());
                return Err(ClusterError::TooLate { what, patience: PATIENCE, detail });
            }
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
        Ok(ensemble)
    }

    /// All servers' client addresses.
    pub fn endpoints(&self) -> Vec<String> {
        self.servers.iter().map(|(endpoint, _)| endpoint.clone()).collect()
    }

    /// Which servers follow.
    pub async fn followers(&self) -> Vec<usize> {
        let mut followers = Vec::new();
        for (index, (endpoint, _)) in self.servers.iter().enumerate() {
            if srvr(endpoint).await.is_ok_and(|answer| answer.contains("Mode: follower")) {
                followers.push(index);
            }
        }
        followers
    }

    /// Stops a server where it stands, or lets it go on.
    ///
    /// # Errors
    /// [`ClusterError::Signal`].
    pub fn pause(&self, index: usize, stands_still: bool) -> Result<(), ClusterError> {
        let signal = if stands_still { Signal::STOP } else { Signal::CONT };
        let pid = Pid::from_child(&self.servers[index].1);
        let failed = |error: rustix::io::Errno| ClusterError::Signal {
            member: index as u64 + 1,
            reason: error.to_string(),
        };
        kill_process(pid, signal).map_err(failed)
    }
}

impl Drop for Ensemble {
    fn drop(&mut self) {
        for (endpoint, child) in &mut self.servers {
            if let Err(error) = child.kill().and_then(|()| child.wait().map(drop)) {
                eprintln!("ZooKeeper at {endpoint}: {error}");
            }
        }
    }
}

fn serve(folder: &Path, number: u16, client: u16, peers: &str) -> std::io::Result<Child> {
    let data = folder.join(format!("server-{number}"));
    std::fs::create_dir_all(&data)?;
    std::fs::write(data.join("myid"), number.to_string())?;
    let configuration = folder.join(format!("zoo-{number}.cfg"));
    let text = format!(
        "tickTime=1000\ninitLimit=20\nsyncLimit=10\ndataDir={}\nclientPort={client}\n\
         clientPortAddress=127.0.0.1\nmaxClientCnxns=0\nadmin.enableServer=false\n\
         4lw.commands.whitelist=*\n{peers}",
        data.display()
    );
    std::fs::write(&configuration, text)?;
    let log = File::create(folder.join(format!("server-{number}.log")))?;
    Command::new(JAVA)
        .args(["-Xmx256m", "-Dzookeeper.root.logger=WARN,CONSOLE", "-cp", CLASSES])
        .arg("org.apache.zookeeper.server.quorum.QuorumPeerMain")
        .arg(&configuration)
        .stdin(Stdio::null())
        .stdout(log.try_clone()?)
        .stderr(log)
        .spawn()
}

async fn srvr(endpoint: &str) -> std::io::Result<String> {
    let ask = async {
        let mut stream = TcpStream::connect(endpoint).await?;
        stream.write_all(b"srvr").await?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await?;
        Ok(answer)
    };
    tokio::time::timeout(Duration::from_secs(2), ask).await.map_err(std::io::Error::other)?
}
