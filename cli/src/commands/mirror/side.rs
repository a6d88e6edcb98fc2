//! A tree that is read and written: a ZooKeeper ensemble's, or a Quorate cluster's.

use std::collections::BTreeSet;
use std::future::IntoFuture;
use std::sync::{Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use quorate::{AclEntry, ErrorKind, Permissions};
use zookeeper_client as zk;

#[cfg(test)]
use super::memory::Memory;
use crate::failure::{Failure, Outcome};
use crate::values::AuthArgument;

/// See the file's comment.
#[derive(Debug)]
pub(super) struct Side {
    tree: Tree,
    /// The lasting nodes that were found here.
    found: Mutex<BTreeSet<String>>,
}

#[derive(Debug)]
enum Tree {
    ZooKeeper(zk::Client),
    Quorate(quorate::Client),
    #[cfg(test)]
    Memory(Memory),
}

/// One node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Node {
    pub data: Bytes,
    pub acl: Vec<AclEntry>,
    pub children: Vec<String>,
    pub is_ephemeral: bool,
}

impl Side {
    /// A session with an ensemble.
    pub async fn zookeeper(servers: &str, auth: &[AuthArgument]) -> Outcome<Side> {
        let mut connector = zk::Client::connector().with_fail_eagerly();
        for auth in auth {
            connector = connector.with_auth(&auth.scheme, auth.credential.as_ref());
        }
        match connector.connect(servers).await {
            Ok(client) => Ok(Side::of(Tree::ZooKeeper(client))),
            Err(error) => Err(Failure::unavailable(format!("no ZooKeeper at {servers}: {error}"))),
        }
    }

    /// A cluster.
    pub fn quorate(client: quorate::Client) -> Side {
        Side::of(Tree::Quorate(client))
    }

    /// A tree of a test's own.
    #[cfg(test)]
    pub fn memory(tree: Memory) -> Side {
        Side::of(Tree::Memory(tree))
    }

    fn of(tree: Tree) -> Side {
        Side { tree, found: Mutex::default() }
    }

    /// The lasting nodes that were found here and not forgotten since.
    pub fn found(&self) -> MutexGuard<'_, BTreeSet<String>> {
        self.found.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Everything of a node; `None` if it is missing.
    pub async fn read(&self, path: &str) -> Outcome<Option<Node>> {
        let node = self.look(path).await?;
        if node.as_ref().is_some_and(|node| !node.is_ephemeral) {
            self.found().insert(path.to_owned());
        }
        Ok(node)
    }

    /// As [`read`](Side::read), for a copy or a comparison: one whose digests are kept from us can be
    /// neither.
    pub async fn read_whole(&self, path: &str) -> Outcome<Option<Node>> {
        let node = self.read(path).await?;
        let is_copied = node.as_ref().filter(|node| !node.is_ephemeral);
        if is_copied.is_some_and(|node| node.acl.iter().any(is_masked)) {
            return Err(self.masked(path));
        }
        Ok(node)
    }

    fn masked(&self, path: &str) -> Failure {
        let why = "the digests of its ACL show only to who may change it (ADMIN)";
        match &self.tree {
            Tree::ZooKeeper(_) => Failure::other(format!("ZooKeeper: {path}: {why}")).with_hint(PROVE),
            _ => {
                let error = quorate_core::error::Error::new(ErrorKind::NoAuth, format!("{path}: {why}"));
                Failure::refused(&error, path)
            }
        }
    }

    async fn look(&self, path: &str) -> Outcome<Option<Node>> {
        match &self.tree {
            Tree::ZooKeeper(client) => {
                let (data, children, acl) = futures_util::join!(
                    client.get_data(path),
                    client.list_children(path),
                    client.get_acl(path)
                );
                if [data.as_ref().err(), children.as_ref().err(), acl.as_ref().err()]
                    .contains(&Some(&zk::Error::NoNode))
                {
                    return Ok(None);
                }
                let failed = |error| zookeeper_failure(&error, path);
                let (data, stat) = data.map_err(failed)?;
                let (children, (acl, _)) = (children.map_err(failed)?, acl.map_err(failed)?);
                Ok(Some(Node {
                    data: data.into(),
                    acl: acl.iter().map(entry_of).collect(),
                    children,
                    is_ephemeral: stat.ephemeral_owner != 0,
                }))
            }
            Tree::Quorate(client) => {
                // Other copies write on this client meanwhile: nothing hangs on what of it these see.
                let (node, children) = (client.get(path).into_future(), client.list(path).into_future());
                let (node, children, acl) =
                    futures_util::join!(node, children, client.acl(path).into_future());
                let is_missing = |kind: Option<ErrorKind>| kind == Some(ErrorKind::NoNode);
                if is_missing(node.as_ref().err().map(quorate::Error::kind))
                    || is_missing(children.as_ref().err().map(quorate::Error::kind))
                    || is_missing(acl.as_ref().err().map(quorate::Error::kind))
                {
                    return Ok(None);
                }
                let failed = |error| Failure::from_client(&error, path);
                let (node, children) = (node.map_err(failed)?, children.map_err(failed)?);
                let (acl, _) = acl.map_err(failed)?;
                Ok(Some(Node {
                    data: node.data.unwrap_or_default(),
                    acl,
                    children: children.names().map(Into::into).collect(),
                    is_ephemeral: node.stat.ephemeral_owner.0 != 0,
                }))
            }
            #[cfg(test)]
            Tree::Memory(tree) => {
                tokio::task::yield_now().await;
                Ok(tree.read(path))
            }
        }
    }

    /// Makes a node; one that somebody else has just made will do. False if its parent is missing, or
    /// is a session's.
    pub async fn create(&self, path: &str, node: &Node) -> Outcome<bool> {
        match &self.tree {
            Tree::ZooKeeper(client) => {
                let acl: Vec<zk::Acl> = node.acl.iter().map(acl_of).collect();
                let options = zk::CreateMode::Persistent.with_acls(zk::Acls::new(&acl));
                match client.create(path, &node.data, &options).await {
                    Ok(_) | Err(zk::Error::NodeExists) => Ok(true),
                    Err(zk::Error::NoNode | zk::Error::NoChildrenForEphemerals) => Ok(false),
                    Err(error) => Err(zookeeper_failure(&error, path)),
                }
            }
            Tree::Quorate(client) => match client.create(path, node.data.clone()).acl(node.acl.clone()).await
            {
                Ok(_) => Ok(true),
                Err(error) => match error.kind() {
                    ErrorKind::NodeExists => Ok(true),
                    ErrorKind::NoNode | ErrorKind::NoChildrenForEphemerals => Ok(false),
                    _ => Err(Failure::from_client(&error, path)),
                },
            },
            #[cfg(test)]
            Tree::Memory(tree) => Ok(tree.create(path, node)),
        }
    }

    /// Sets a node's data.
    pub async fn set(&self, path: &str, data: &Bytes) -> Outcome {
        match &self.tree {
            Tree::ZooKeeper(client) => {
                let set = client.set_data(path, data, None).await;
                set.map(|_| ()).map_err(|error| zookeeper_failure(&error, path))
            }
            Tree::Quorate(client) => {
                let set = client.set(path, data.clone()).await;
                set.map(|_| ()).map_err(|error| Failure::from_client(&error, path))
            }
            #[cfg(test)]
            Tree::Memory(tree) => {
                tree.change(path, |node| node.data = data.clone());
                Ok(())
            }
        }
    }

    /// Sets a node's ACL.
    pub async fn set_acl(&self, path: &str, acl: &[AclEntry]) -> Outcome {
        match &self.tree {
            Tree::ZooKeeper(client) => {
                let acl: Vec<zk::Acl> = acl.iter().map(acl_of).collect();
                let set = client.set_acl(path, &acl, None).await;
                set.map(|_| ()).map_err(|error| zookeeper_failure(&error, path))
            }
            Tree::Quorate(client) => {
                let set = client.set_acl(path, acl.to_vec()).await;
                set.map(|_| ()).map_err(|error| Failure::from_client(&error, path))
            }
            #[cfg(test)]
            Tree::Memory(tree) => {
                tree.change(path, |node| node.acl = acl.to_vec());
                Ok(())
            }
        }
    }

    /// Removes a node; false if it was missing, or has children.
    pub async fn delete(&self, path: &str) -> Outcome<bool> {
        match &self.tree {
            Tree::ZooKeeper(client) => match client.delete(path, None).await {
                Ok(()) => Ok(true),
                Err(zk::Error::NoNode | zk::Error::NotEmpty) => Ok(false),
                Err(error) => Err(zookeeper_failure(&error, path)),
            },
            Tree::Quorate(client) => match client.delete(path).await {
                Ok(_) => Ok(true),
                Err(error) if matches!(error.kind(), ErrorKind::NoNode | ErrorKind::NotEmpty) => Ok(false),
                Err(error) => Err(Failure::from_client(&error, path)),
            },
            #[cfg(test)]
            Tree::Memory(tree) => Ok(tree.delete(path)),
        }
    }

    /// All changes of a tree from now on.
    pub async fn changes(&self, path: &str) -> Outcome<zk::PersistentWatcher> {
        match &self.tree {
            Tree::ZooKeeper(client) => {
                let watch = client.watch(path, zk::AddWatchMode::PersistentRecursive).await;
                watch.map_err(|error| zookeeper_failure(&error, path))
            }
            _ => Err(Failure::usage("only an import follows")),
        }
    }
}

/// What to do about a refusal of ZooKeeper's.
const PROVE: &str = "prove who may: --zookeeper-auth digest:USER:PASSWORD, the superuser for all";

/// Whether an entry shows without its digest, which is 28 letters long.
fn is_masked(entry: &AclEntry) -> bool {
    entry.scheme == "digest" && entry.id.ends_with(":x")
}

fn zookeeper_failure(error: &zk::Error, path: &str) -> Failure {
    let message = format!("ZooKeeper: {path}: {error}");
    match error {
        zk::Error::NoAuth => Failure::other(message).with_hint(PROVE),
        // The crate's own are those of the socket.
        zk::Error::NoHosts
        | zk::Error::Timeout
        | zk::Error::ConnectionLoss
        | zk::Error::SessionExpired
        | zk::Error::Custom(_) => Failure::unavailable(message),
        _ => Failure::other(message),
    }
}

const BITS: [(zk::Permission, Permissions); 5] = [
    (zk::Permission::READ, Permissions::READ),
    (zk::Permission::WRITE, Permissions::WRITE),
    (zk::Permission::CREATE, Permissions::CREATE),
    (zk::Permission::DELETE, Permissions::DELETE),
    (zk::Permission::ADMIN, Permissions::ADMIN),
];

fn entry_of(acl: &zk::Acl) -> AclEntry {
    let granted = BITS.iter().filter(|(theirs, _)| acl.permission().has(*theirs));
    let permissions = granted.fold(Permissions(0), |all, (_, ours)| all.union(*ours));
    AclEntry { permissions, scheme: acl.scheme().into(), id: acl.id().into() }
}

fn acl_of(entry: &AclEntry) -> zk::Acl {
    let granted = BITS.iter().filter(|(_, ours)| entry.permissions.intersects(*ours));
    let permission = granted.fold(zk::Permission::NONE, |all, (theirs, _)| all | *theirs);
    zk::Acl::new(permission, zk::AuthId::new(&entry.scheme, &entry.id))
}
