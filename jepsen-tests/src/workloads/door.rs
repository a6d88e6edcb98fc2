//! The door that a workload's clients go through: the SDK's gRPC, or the ZooKeeper protocol, of our
//! members or of a real ZooKeeper.
//!
//! [`Session`] has what both can do. Errors are the SDK's: a refusal, an unknown outcome, or a session
//! that is over.

use std::time::Duration;

use bytes::Bytes;
use quorate::{Client, CreateMode};
use serde::{Deserialize, Serialize};

/// How long connecting may take before the worker tries again.
const CONNECT_PATIENCE: Duration = Duration::from_secs(60);

/// Which door.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Door {
    /// The SDK's.
    #[default]
    Grpc,
    /// ZooKeeper's protocol.
    Zookeeper,
}

impl Door {
    /// Its name on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Door::Grpc => "grpc",
            Door::Zookeeper => "zookeeper",
        }
    }
}

/// A session at one of the doors.
#[derive(Clone, Debug)]
pub enum Session {
    /// The SDK's.
    Grpc(Client),
    /// ZooKeeper's protocol.
    Zookeeper(crate::zookeeper::Client),
}

/// A node as read.
#[derive(Clone, Debug)]
pub struct Seen {
    /// Its data.
    pub data: Bytes,
    /// How often it was set.
    pub version: i32,
    /// What the member had applied.
    pub zxid: u64,
}

/// What a write made.
#[derive(Clone, Debug)]
pub struct Made {
    /// The node's path.
    pub path: String,
    /// Its version.
    pub version: i32,
    /// The transaction.
    pub zxid: u64,
}

/// One operation of a transaction.
#[derive(Clone, Debug)]
pub enum Change {
    /// Sets a node that is at this version.
    Set(String, String, i32),
    /// Demands that a node is at this version.
    Check(String, i32),
}

impl Session {
    /// A session with any of these members.
    pub async fn open(door: Door, endpoints: &[String], timeout: Duration) -> quorate::Result<Session> {
        match door {
            Door::Grpc => {
                let builder = Client::builder().endpoints(endpoints.to_vec()).session_timeout(timeout);
                Ok(Session::Grpc(builder.connect_timeout(CONNECT_PATIENCE).connect().await?))
            }
            Door::Zookeeper => {
                let connecting = crate::zookeeper::Client::connect(endpoints, timeout, CONNECT_PATIENCE);
                Ok(Session::Zookeeper(connecting.await?))
            }
        }
    }

    /// Reads a node: through the SDK linearizably, else as the member has it.
    pub async fn get(&self, path: &str) -> quorate::Result<Seen> {
        match self {
            Session::Grpc(client) => {
                let node = client.get(path).await?;
                let data = node.data.unwrap_or_default();
                Ok(Seen { data, version: node.stat.version, zxid: node.zxid.0 })
            }
            Session::Zookeeper(client) => client.get(path).await,
        }
    }

    /// After this, reads show at least what was committed before it; the SDK's do so anyway.
    pub async fn sync(&self, path: &str) -> quorate::Result<()> {
        match self {
            Session::Grpc(_) => Ok(()),
            Session::Zookeeper(client) => client.sync(path).await,
        }
    }

    /// Sets a node; −1 is any version.
    pub async fn set(&self, path: &str, data: String, version: i32) -> quorate::Result<Made> {
        match self {
            Session::Grpc(client) => {
                let stat = client.set(path, data).version(version).await?;
                Ok(Made { path: path.into(), version: stat.version, zxid: stat.mzxid.0 })
            }
            Session::Zookeeper(client) => client.set(path, data, version).await,
        }
    }

    /// Creates a node.
    pub async fn create(&self, path: &str, data: String, mode: CreateMode) -> quorate::Result<Made> {
        match self {
            Session::Grpc(client) => {
                let created = client.create(path, data).mode(mode).await?;
                Ok(Made { path: created.path, version: 0, zxid: created.stat.czxid.0 })
            }
            Session::Zookeeper(client) => client.create(path, data, mode).await,
        }
    }

    /// Creates what is missing of a path.
    pub async fn ensure_path(&self, path: &str) -> quorate::Result<()> {
        let ends = path.match_indices('/').skip(1).map(|(index, _)| index).chain([path.len()]);
        for end in ends {
            match self.create(&path[..end], String::new(), CreateMode::Persistent).await {
                Err(error) if error.kind() != quorate::ErrorKind::NodeExists => return Err(error),
                _ => {}
            }
        }
        Ok(())
    }

    /// Deletes a node, whatever its version.
    pub async fn delete(&self, path: &str) -> quorate::Result<()> {
        match self {
            Session::Grpc(client) => client.delete(path).await.map(|_| ()),
            Session::Zookeeper(client) => client.delete(path).await,
        }
    }

    /// Lists a node's children, and what the member had applied; as fresh as [`Session::get`].
    pub async fn list(&self, path: &str) -> quorate::Result<(Vec<String>, u64)> {
        match self {
            Session::Grpc(client) => {
                let list = client.list(path).await?;
                Ok((list.names().map(str::to_owned).collect(), list.zxid.0))
            }
            Session::Zookeeper(client) => client.list(path).await,
        }
    }

    /// All of these changes or none.
    pub async fn transaction(&self, changes: Vec<Change>) -> quorate::Result<u64> {
        match self {
            Session::Grpc(client) => {
                let mut transaction = client.transaction();
                for change in changes {
                    transaction = match change {
                        Change::Set(path, data, version) => transaction.set_version(&path, data, version),
                        Change::Check(path, version) => transaction.check(&path, version),
                    };
                }
                Ok(transaction.send().await?.zxid.0)
            }
            Session::Zookeeper(client) => client.multi(changes).await,
        }
    }

    /// Ends it.
    pub async fn close(self) -> quorate::Result<()> {
        match self {
            Session::Grpc(client) => client.close().await,
            Session::Zookeeper(client) => client.close().await,
        }
    }
}
