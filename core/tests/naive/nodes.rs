//! What writes do to nodes, by the checklist's items 27–39, 55–61.

use quorate_core::acl::{AclEntry, Identity};
use quorate_core::change::ChangeKind;
use quorate_core::command::{Create, Guard, MultiOperation};
use quorate_core::reply::WriteResult;
use quorate_core::znode::CreateMode;

use super::{Kind, Model, Node, Refusal, Transaction, may, parent_of};

const READ: u8 = 1;
const WRITE: u8 = 2;
const CREATE: u8 = 4;
const DELETE: u8 = 8;
const ADMIN: u8 = 16;

impl Model {
    pub fn create(
        &mut self,
        transaction: &mut Transaction<'_>,
        create: &Create,
    ) -> Result<WriteResult, Refusal> {
        let Create { path, data, acl, mode } = create;
        if let CreateMode::Ttl { ttl_ms } | CreateMode::TtlSequential { ttl_ms } = mode
            && !(1..1 << 40).contains(ttl_ms)
        {
            return Err(Refusal::BadArguments);
        }
        let kind = match (mode, transaction.session) {
            (CreateMode::Ephemeral | CreateMode::EphemeralSequential, None) => {
                return Err(Refusal::BadArguments);
            }
            (CreateMode::Ephemeral | CreateMode::EphemeralSequential, Some(owner)) => Kind::Ephemeral(owner),
            (CreateMode::Container, _) => Kind::Container,
            (CreateMode::Ttl { .. } | CreateMode::TtlSequential { .. }, _) => Kind::Ttl,
            (CreateMode::Persistent | CreateMode::PersistentSequential, _) => Kind::Persistent,
        };
        if !path.contains('/') || path.contains('\0') {
            return Err(Refusal::BadArguments);
        }
        let acl = stored_acl(acl, transaction.identities)?;
        let above = &path[..path.rfind('/').expect("looked for above")];
        let parent = self.at(above).ok_or(Refusal::NoNode)?;
        if !may(&parent.acl, CREATE, transaction.identities) {
            return Err(Refusal::NoAuth);
        }
        let path = match mode {
            CreateMode::PersistentSequential
            | CreateMode::EphemeralSequential
            | CreateMode::TtlSequential { .. } => format!("{path}{:010}", parent.creates),
            _ => path.clone(),
        };
        check_path(&path)?;
        if self.nodes.contains_key(&path) {
            return Err(Refusal::NodeExists);
        }
        if matches!(parent.kind, Kind::Ephemeral(_)) {
            return Err(Refusal::NoChildrenForEphemerals);
        }
        let (zxid, time) = (transaction.zxid, self.time);
        let node = Node {
            data: data.clone(),
            acl,
            kind,
            czxid: zxid,
            mzxid: zxid,
            pzxid: zxid,
            ctime: time,
            mtime: time,
            version: 0,
            aversion: 0,
            creates: 0,
        };
        self.nodes.insert(path.clone(), node);
        let parent = self.nodes.get_mut(parent_of(&path)).expect("looked up above");
        parent.creates += 1;
        parent.pzxid = zxid;
        self.note(transaction, ChangeKind::Created, &path);
        Ok(WriteResult::Created { stat: self.stat(&path), path })
    }

    pub fn delete(
        &mut self,
        transaction: &mut Transaction<'_>,
        path: &str,
        version: i32,
    ) -> Result<WriteResult, Refusal> {
        self.may_delete(transaction, path, version)?;
        if !self.children(path).is_empty() {
            return Err(Refusal::NotEmpty);
        }
        self.remove(transaction, path);
        Ok(WriteResult::Deleted)
    }

    pub fn delete_recursive(
        &mut self,
        transaction: &mut Transaction<'_>,
        path: &str,
        version: i32,
        limit: u32,
    ) -> Result<WriteResult, Refusal> {
        self.may_delete(transaction, path, version)?;
        let below = self.descendants(path);
        let count = below.len() as u32 + 1;
        if count > limit {
            return Err(Refusal::TooLarge);
        }
        for parent in below.iter().map(|path| parent_of(path)) {
            if !may(&self.nodes[parent].acl, DELETE, transaction.identities) {
                return Err(Refusal::NoAuth);
            }
        }
        self.remove_all(transaction, path);
        Ok(WriteResult::DeletedRecursive { count })
    }

    /// Children before parents, siblings from the last name to the first.
    fn remove_all(&mut self, transaction: &mut Transaction<'_>, path: &str) {
        for name in self.children(path).into_iter().rev() {
            self.remove_all(transaction, &format!("{path}/{name}"));
        }
        self.remove(transaction, path);
    }

    fn may_delete(&self, transaction: &Transaction<'_>, path: &str, version: i32) -> Result<(), Refusal> {
        if ["/", "/zookeeper", "/zookeeper/quota", "/zookeeper/config"].contains(&path)
            || !path.contains('/')
            || path.contains('\0')
        {
            return Err(Refusal::BadArguments);
        }
        let above = &path[..path.rfind('/').expect("looked for above")];
        let parent = self.at(above).ok_or(Refusal::NoNode)?;
        if !may(&parent.acl, DELETE, transaction.identities) {
            return Err(Refusal::NoAuth);
        }
        let node = self.nodes.get(path).ok_or(Refusal::NoNode)?;
        expect(version, node.version)
    }

    /// Takes a childless node away.
    pub fn remove(&mut self, transaction: &mut Transaction<'_>, path: &str) {
        self.note(transaction, ChangeKind::Deleted, path);
        self.nodes.remove(path).expect("the caller has looked");
        self.nodes.get_mut(parent_of(path)).expect("every node has a parent").pzxid = transaction.zxid;
    }

    pub fn set_data(
        &mut self,
        transaction: &mut Transaction<'_>,
        path: &str,
        data: Option<bytes::Bytes>,
        version: i32,
    ) -> Result<WriteResult, Refusal> {
        check_path(path)?;
        let node = self.nodes.get(path).ok_or(Refusal::NoNode)?;
        if !may(&node.acl, WRITE, transaction.identities) {
            return Err(Refusal::NoAuth);
        }
        expect(version, node.version)?;
        self.put_data(transaction, path, data);
        Ok(WriteResult::DataSet(self.stat(path)))
    }

    /// Changes a node's data.
    pub fn put_data(&mut self, transaction: &mut Transaction<'_>, path: &str, data: Option<bytes::Bytes>) {
        let time = self.time;
        let node = self.nodes.get_mut(path).expect("the caller has looked");
        node.data = data;
        node.version += 1;
        (node.mzxid, node.mtime) = (transaction.zxid, time);
        self.note(transaction, ChangeKind::DataChanged, path);
    }

    pub fn set_acl(
        &mut self,
        transaction: &mut Transaction<'_>,
        path: &str,
        acl: &[AclEntry],
        version: i32,
    ) -> Result<WriteResult, Refusal> {
        check_path(path)?;
        let acl = stored_acl(acl, transaction.identities)?;
        let node = self.nodes.get_mut(path).ok_or(Refusal::NoNode)?;
        if !may(&node.acl, ADMIN, transaction.identities) {
            return Err(Refusal::NoAuth);
        }
        expect(version, node.aversion)?;
        node.acl = acl;
        node.aversion += 1;
        Ok(WriteResult::AclSet(self.stat(path)))
    }

    /// All or nothing: what happened before the failure is forgotten with the copy.
    pub fn multi(
        &mut self,
        transaction: &mut Transaction<'_>,
        operations: &[MultiOperation],
    ) -> Result<WriteResult, (Refusal, Option<u32>)> {
        let before = self.nodes.clone();
        let mut results = Vec::new();
        for (index, operation) in operations.iter().enumerate() {
            let result = match operation {
                MultiOperation::Create(create) => self.create(transaction, create),
                MultiOperation::Delete { path, version } => self.delete(transaction, path, *version),
                MultiOperation::SetData { path, data, version } => {
                    self.set_data(transaction, path, data.clone(), *version)
                }
                MultiOperation::Check { path, version } => self.check(transaction, path, *version),
                MultiOperation::Guard(guard) => self.guard(transaction, guard),
            };
            match result {
                Ok(result) => results.push(result),
                Err(kind) => {
                    self.nodes = before;
                    transaction.changes.clear();
                    return Err((kind, Some(index as u32)));
                }
            }
        }
        Ok(WriteResult::Multi(results))
    }

    fn check(&self, transaction: &Transaction<'_>, path: &str, version: i32) -> Result<WriteResult, Refusal> {
        check_path(path)?;
        let node = self.nodes.get(path).ok_or(Refusal::NoNode)?;
        if !may(&node.acl, READ, transaction.identities) {
            return Err(Refusal::NoAuth);
        }
        expect(version, node.version)?;
        Ok(WriteResult::Checked)
    }

    fn guard(&self, transaction: &Transaction<'_>, guard: &Guard) -> Result<WriteResult, Refusal> {
        let (Guard::Lock { path, .. }
        | Guard::Modified { path, .. }
        | Guard::Created { path, .. }
        | Guard::Absent { path }) = guard;
        check_path(path)?;
        let node = self.nodes.get(path);
        if node.is_some_and(|node| !may(&node.acl, READ, transaction.identities)) {
            return Err(Refusal::NoAuth);
        }
        let holds = match guard {
            Guard::Absent { .. } => node.is_none(),
            Guard::Created { zxid, .. } => node.is_some_and(|node| node.czxid == zxid.0),
            Guard::Modified { zxid, .. } => node.is_some_and(|node| node.mzxid == zxid.0),
            Guard::Lock { token, .. } => self.holder(path) == Some(token.0),
        };
        if holds { Ok(WriteResult::Checked) } else { Err(Refusal::GuardFailed) }
    }

    /// The fencing token of a lock's holder.
    pub fn holder(&self, path: &str) -> Option<u64> {
        let (contenders, others): (Vec<_>, Vec<_>) =
            self.children(path).into_iter().partition(|name| name.starts_with("lock-") && name != "lock-");
        let first = contenders.into_iter().min().or(others.into_iter().min())?;
        let path = if path == "/" { format!("/{first}") } else { format!("{path}/{first}") };
        Some(self.nodes[&path].czxid)
    }
}

fn expect(expected: i32, version: i32) -> Result<(), Refusal> {
    if expected == -1 || expected == version { Ok(()) } else { Err(Refusal::BadVersion) }
}

/// Item 37, as far as the test's paths go.
fn check_path(path: &str) -> Result<(), Refusal> {
    let names = match path.strip_prefix('/') {
        Some("") => return Ok(()),
        Some(names) => names,
        None => return Err(Refusal::BadArguments),
    };
    let is_bad =
        |name: &str| name.is_empty() || name == "." || name == ".." || name.contains(char::is_control);
    if names.split('/').any(is_bad) { Err(Refusal::BadArguments) } else { Ok(()) }
}

/// Item 61.
fn stored_acl(list: &[AclEntry], identities: &[Identity]) -> Result<Vec<AclEntry>, Refusal> {
    let mut stored: Vec<AclEntry> = Vec::new();
    for entry in list {
        match entry.scheme.as_str() {
            "world" | "digest" | "ip" => stored.push(entry.clone()),
            "auth" => {
                let proved: Vec<_> = identities.iter().filter(|who| who.scheme == "digest").collect();
                if proved.is_empty() {
                    return Err(Refusal::InvalidAcl);
                }
                for who in proved {
                    let (scheme, id) = (who.scheme.clone(), who.id.clone());
                    stored.push(AclEntry { permissions: entry.permissions, scheme, id });
                }
            }
            _ => return Err(Refusal::InvalidAcl),
        }
    }
    let mut once: Vec<AclEntry> = Vec::new();
    for entry in stored {
        if !once.contains(&entry) {
            once.push(entry);
        }
    }
    if once.is_empty() { Err(Refusal::InvalidAcl) } else { Ok(once) }
}
