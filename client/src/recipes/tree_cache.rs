//! A cache of a subtree, kept up to date by one recursive watch.
//!
//! Invariants:
//! - an entry is replaced or removed only by what is newer than it;
//! - the watch stands before the first read, so no change falls between them. (A node that was
//!   deleted while the cache was being filled may be shown until the watch has told of it.)

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, PoisonError, RwLock};

use bytes::Bytes;
use quorate_core::change::{EventKind, Value};
use quorate_core::error::ErrorKind;
use quorate_core::id::{Position, Zxid};
use quorate_core::request::Consistency;
use quorate_core::znode::Stat;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::contender::child;
use crate::client::Client;
use crate::error::{Error, Result};
use crate::watch::{NodeEvent, Watch, WatchEvent};

/// A node in the cache.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CachedNode {
    /// Its data; null is not empty.
    pub data: Option<Bytes>,
    /// Its Stat when it or its data last changed. (Its children's changes are not followed in it.)
    pub stat: Stat,
}

/// A subtree in memory. Reading it costs no network; it is as fresh as the events that have
/// arrived. Dropping it ends the watch.
#[derive(Debug)]
pub struct TreeCache {
    nodes: Arc<RwLock<BTreeMap<String, CachedNode>>>,
    /// What the cache shows, and why it no longer follows.
    version: watch::Receiver<(Zxid, Option<Error>)>,
    task: JoinHandle<()>,
}

impl TreeCache {
    /// Reads the subtree at `path`, which need not exist, and follows it.
    ///
    /// # Errors
    /// The session's end, `NoAuth`.
    ///
    /// # Cancel safety
    /// Nothing is left behind.
    pub async fn start(client: &Client, path: impl Into<String>) -> Result<TreeCache> {
        let path = path.into();
        let watch = client.watch(&path).recursive().with_value().await?;
        let nodes = Arc::default();
        let (sender, version) = watch::channel((client.last_zxid(), None));
        let mut follower = Follower { client: client.clone(), path, watch, nodes: Arc::clone(&nodes) };
        follower.read_all().await?;
        sender.send_replace((client.last_zxid(), None));
        let task = tokio::spawn(async move {
            let error = loop {
                match follower.step().await {
                    Ok(zxid) => drop(sender.send_replace((zxid, None))),
                    Err(error) => break error,
                }
            };
            sender.send_modify(|(_, end)| *end = Some(error));
        });
        Ok(TreeCache { nodes, version, task })
    }

    /// A node.
    pub fn get(&self, path: &str) -> Option<CachedNode> {
        self.nodes.read().unwrap_or_else(PoisonError::into_inner).get(path).cloned()
    }

    /// All nodes of the subtree, in the order of their paths.
    pub fn snapshot(&self) -> BTreeMap<String, CachedNode> {
        self.nodes.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The names of a node's children, in order.
    pub fn children(&self, path: &str) -> Vec<String> {
        let prefix = child(path, "");
        let nodes = self.nodes.read().unwrap_or_else(PoisonError::into_inner);
        let below = nodes.range(prefix.clone()..).take_while(|(path, _)| path.starts_with(&prefix));
        below
            .map(|(path, _)| &path[prefix.len()..])
            .filter(|rest| !rest.is_empty() && !rest.contains('/'))
            .map(str::to_string)
            .collect()
    }

    /// Waits until the cache has changed since the last call (or since the start); the transaction
    /// that it shows now.
    ///
    /// # Errors
    /// The cache is no longer kept up to date: the session is over.
    ///
    /// # Cancel safety
    /// Nothing is lost.
    pub async fn changed(&mut self) -> Result<Zxid> {
        self.version.changed().await.map_err(|_| Error::Closed)?;
        match &*self.version.borrow_and_update() {
            (zxid, None) => Ok(*zxid),
            (_, Some(error)) => Err(error.clone()),
        }
    }
}

impl Drop for TreeCache {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Keeps the cache up to date.
struct Follower {
    client: Client,
    path: String,
    watch: Watch,
    nodes: Arc<RwLock<BTreeMap<String, CachedNode>>>,
}

impl Follower {
    async fn step(&mut self) -> Result<Zxid> {
        match self.watch.next().await {
            Some(Ok(WatchEvent::Node(event))) => self.apply(event).await,
            Some(Ok(WatchEvent::Gap(Position { zxid, .. }))) => {
                let there = self.read_all().await?;
                // What went in the gap goes now; what stayed was there all the time.
                let mut nodes = self.nodes.write().unwrap_or_else(PoisonError::into_inner);
                nodes.retain(|path, _| there.contains(path));
                Ok(zxid)
            }
            Some(Err(error)) => Err(error),
            None => Err(Error::Closed),
        }
    }

    async fn apply(&mut self, event: NodeEvent) -> Result<Zxid> {
        let NodeEvent { position, kind, path, stat, value } = event;
        match kind {
            EventKind::NodeCreated | EventKind::NodeDataChanged => match value {
                Some(Value::Kept(data)) => self.put(path, CachedNode { data, stat }),
                Some(Value::NotKept) | None => {
                    self.read(&path).await?;
                }
            },
            EventKind::NodeDeleted => {
                let mut nodes = self.nodes.write().unwrap_or_else(PoisonError::into_inner);
                // What was read later than this deletion may be the node's successor.
                if nodes.get(&path).is_some_and(|node| node.stat.czxid < position.zxid) {
                    nodes.remove(&path);
                }
            }
            EventKind::NodeChildrenChanged => {}
        }
        Ok(position.zxid)
    }

    /// Reads the whole subtree, level by level; which paths are there.
    async fn read_all(&mut self) -> Result<BTreeSet<String>> {
        let mut level = if self.read(&self.path).await? { vec![self.path.clone()] } else { Vec::new() };
        let mut there: BTreeSet<String> = level.iter().cloned().collect();
        while !level.is_empty() {
            let lists: Vec<_> = level
                .iter()
                .map(|path| {
                    let list = self.client.list(path).with_stat().with_data();
                    // Queued at once, but each may see what this session writes meanwhile.
                    list.consistency(Consistency::Session).into_future()
                })
                .collect();
            let mut next = Vec::new();
            for (parent, list) in level.iter().zip(lists) {
                let children = match list.await {
                    Ok(list) => list.children,
                    // Deleted meanwhile: the watch tells.
                    Err(error) if error.kind() == ErrorKind::NoNode => continue,
                    Err(error) => return Err(error),
                };
                for found in children {
                    let path = child(parent, &found.name);
                    // What may not be read, and what is below it, is left out.
                    let Some(stat) = found.stat else { continue };
                    if stat.num_children > 0 {
                        next.push(path.clone());
                    }
                    there.insert(path.clone());
                    self.put(path, CachedNode { data: found.data, stat });
                }
            }
            level = next;
        }
        Ok(there)
    }

    /// Reads one node; whether it exists.
    async fn read(&self, path: &str) -> Result<bool> {
        match self.client.get(path).consistency(Consistency::Session).await {
            Ok(node) => {
                self.put(path.to_string(), CachedNode { data: node.data, stat: node.stat });
                Ok(true)
            }
            Err(error) if error.kind() == ErrorKind::NoNode => Ok(false),
            Err(error) => Err(error),
        }
    }

    fn put(&self, path: String, node: CachedNode) {
        let mut nodes = self.nodes.write().unwrap_or_else(PoisonError::into_inner);
        if nodes.get(&path).is_none_or(|known| known.stat.mzxid <= node.stat.mzxid) {
            nodes.insert(path, node);
        }
    }
}
