//! A model of the rules, written from the checklist and not from the core: plain maps, whole copies
//! instead of undo, everything computed when it is asked for. Slow, and easy to believe.
//!
//! [`sessions`] and [`nodes`] are what commands do, [`watches`] is who hears of it.

// Each test binary uses its part of this.
#![allow(dead_code)]

pub mod nodes;
pub mod sessions;
pub mod watches;

use std::collections::BTreeMap;

use bytes::Bytes;
use quorate_core::acl::{AclEntry, Identity, Permissions};
use quorate_core::change::{Change, ChangeKind, Value};
use quorate_core::command::RequestId;
use quorate_core::error::ErrorKind;
use quorate_core::id::{Position, SessionId, Timestamp, Zxid};
use quorate_core::reply::WriteReply;
use quorate_core::settings::Settings;
use quorate_core::znode::Stat;

/// Everything replicated.
#[derive(Clone, Debug)]
pub struct Model {
    pub zxid: u64,
    pub time: i64,
    pub nodes: BTreeMap<String, Node>,
    pub sessions: BTreeMap<u64, Session>,
    pub last_session: u64,
    pub requests: BTreeMap<RequestId, WriteReply>,
    /// Request ids issued before this are forgotten.
    pub forgotten_before: i64,
    pub settings: Settings,
    /// How many changes there were, ever.
    pub changes: u64,
}

/// A node.
#[derive(Clone, Debug)]
pub struct Node {
    pub data: Option<Bytes>,
    pub acl: Vec<AclEntry>,
    pub kind: Kind,
    pub czxid: u64,
    pub mzxid: u64,
    pub pzxid: u64,
    pub ctime: i64,
    pub mtime: i64,
    pub version: i32,
    pub aversion: i32,
    /// Children ever created.
    pub creates: i32,
}

/// What a node's life depends on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Persistent,
    Ephemeral(u64),
    Container,
    Ttl,
}

/// A session.
#[derive(Clone, Debug)]
pub struct Session {
    /// Learned from the first answer: the model cannot guess it either.
    pub password: [u8; 16],
    pub member: u64,
    pub epoch: u64,
    pub timeout_ms: u32,
    pub last_applied: u64,
    /// Replies that the client has not acknowledged.
    pub replies: BTreeMap<u64, WriteReply>,
}

/// A refusal: details are for people, so the model has none.
pub type Refusal = ErrorKind;

/// A transaction under way.
pub struct Transaction<'a> {
    pub zxid: u64,
    pub session: Option<u64>,
    pub identities: &'a [Identity],
    pub changes: Vec<Change>,
}

impl Model {
    /// A new cluster.
    pub fn new() -> Model {
        let read_only =
            vec![AclEntry { permissions: Permissions::READ, scheme: "world".into(), id: "anyone".into() }];
        let node = |acl| Node {
            data: Some(Bytes::new()),
            acl,
            kind: Kind::Persistent,
            czxid: 0,
            mzxid: 0,
            pzxid: 0,
            ctime: 0,
            mtime: 0,
            version: 0,
            aversion: 0,
            creates: 0,
        };
        let mut nodes = BTreeMap::new();
        for path in ["/", "/zookeeper", "/zookeeper/quota"] {
            nodes.insert(path.to_owned(), node(AclEntry::open()));
        }
        nodes.insert("/zookeeper/config".to_owned(), node(read_only));
        Model {
            zxid: 0,
            time: 0,
            nodes,
            sessions: BTreeMap::new(),
            last_session: 0,
            requests: BTreeMap::new(),
            forgotten_before: i64::MIN,
            settings: Settings::default(),
            changes: 0,
        }
    }

    /// The node that a path names; the empty path is the root.
    pub fn at(&self, path: &str) -> Option<&Node> {
        self.nodes.get(if path.is_empty() { "/" } else { path })
    }

    /// Names of a node's children.
    pub fn children(&self, path: &str) -> Vec<String> {
        let prefix = if path == "/" { "/".to_owned() } else { format!("{path}/") };
        let below = self.nodes.keys().filter_map(|path| path.strip_prefix(&prefix));
        below.filter(|rest| !rest.is_empty() && !rest.contains('/')).map(str::to_owned).collect()
    }

    /// Paths of everything below a node.
    pub fn descendants(&self, path: &str) -> Vec<String> {
        let prefix = if path == "/" { "/".to_owned() } else { format!("{path}/") };
        self.nodes.keys().filter(|path| path.starts_with(&prefix) && *path != "/").cloned().collect()
    }

    /// What clients see of a node that is there.
    pub fn stat(&self, path: &str) -> Stat {
        let node = &self.nodes[path];
        let children = self.children(path).len() as i32;
        // The reserved nodes were not created by anybody, but they are children all the same.
        let creates = node.creates;
        Stat {
            czxid: Zxid(node.czxid),
            mzxid: Zxid(node.mzxid),
            pzxid: Zxid(node.pzxid),
            ctime: Timestamp(node.ctime),
            mtime: Timestamp(node.mtime),
            version: node.version,
            cversion: 2 * creates - children,
            aversion: node.aversion,
            ephemeral_owner: match node.kind {
                Kind::Ephemeral(owner) => SessionId(owner),
                _ => SessionId(0),
            },
            data_length: node.data.as_ref().map_or(0, Bytes::len) as i32,
            num_children: children,
        }
    }

    /// Notes what happened to a node; to be called after the change, or before a deletion.
    fn note(&self, transaction: &mut Transaction<'_>, kind: ChangeKind, path: &str) {
        let node = &self.nodes[path];
        let data = match kind {
            ChangeKind::Deleted => None,
            _ => node.data.clone(),
        };
        let bytes_max = self.settings.change_value_bytes as usize;
        let value = match data {
            Some(data) if data.len() > bytes_max => Value::NotKept,
            data => Value::Kept(data),
        };
        transaction.changes.push(Change {
            position: Position { zxid: Zxid(transaction.zxid), ordinal: transaction.changes.len() as u32 },
            kind,
            path: path.into(),
            stat: self.stat(path),
            value,
            acl: node.acl.clone().into(),
            parent_acl: self.nodes[parent_of(path)].acl.clone().into(),
        });
    }
}

/// The path above one; the root's is the root.
pub fn parent_of(path: &str) -> &str {
    match path.rfind('/') {
        None | Some(0) => "/",
        Some(slash) => &path[..slash],
    }
}

/// Whether somebody with these identities may do any of `wanted`.
pub fn may(list: &[AclEntry], wanted: u8, identities: &[Identity]) -> bool {
    let is = |scheme: &str, id: &str| identities.iter().any(|who| who.scheme == scheme && who.id == id);
    is("super", "")
        || list.iter().any(|entry| {
            entry.permissions.0 & wanted != 0
                && match entry.scheme.as_str() {
                    "world" => true,
                    "ip" => entry.id == "10.0.0.0/8" && is("ip", "10.0.0.1"),
                    scheme => is(scheme, &entry.id),
                }
        })
}
