//! Rules of single nodes: create, delete, set, check, guard.
//!
//! Each checks in ZooKeeper's order (clients see which error comes first, SEMANTICS.md 36–39) and
//! changes nothing before its last check has passed.

use bytes::Bytes;

use super::State;
use super::transaction::{Transaction, next_version};
use crate::acl::{self, AclEntry, Permissions};
use crate::command::{CONTENDER, Create, Guard, is_contender};
use crate::error::{Error, ErrorKind};
use crate::path;
use crate::reply::WriteResult;
use crate::tree::node::{Kind, Slot};

/// A session owns no more ephemerals than this; a further create is refused as
/// [`ErrorKind::TooLarge`]. They all go in one transaction when it ends, which nothing may interrupt.
pub const EPHEMERALS_MAX: usize = 100_000;

/// Paths of all nodes that go in one recursive delete are no longer than this together; beyond it is
/// refused as [`ErrorKind::TooLarge`]. Each becomes a change, and all changes are in memory at once.
const DELETE_PATH_BYTES_MAX: usize = 64 << 20;

/// TTLs are below this: 2^40 ms, some 34 years.
const TTL_END_MS: i64 = 1 << 40;

impl State {
    /// Creates a node of any mode.
    pub(super) fn create(
        &mut self,
        transaction: &mut Transaction<'_>,
        create: &Create,
    ) -> Result<WriteResult, Error> {
        if let Some(ttl_ms) = create.mode.ttl_ms()
            && !(0 < ttl_ms && ttl_ms < TTL_END_MS)
        {
            return Err(Error::new(ErrorKind::BadArguments, "ttl_ms must be between 1 and 2^40 - 1"));
        }
        if create.mode.is_ephemeral() && transaction.session.is_none() {
            return Err(Error::new(ErrorKind::BadArguments, "mode: an ephemeral needs a session"));
        }
        let (parent_path, _) = path::split_last(&create.path)?;
        let acl = acl::resolve(&create.acl, transaction.identities)?;
        let parent = self.find(parent_path, &create.path)?;
        self.demand(parent, Permissions::CREATE, transaction, &create.path)?;
        let numbered;
        let path = if create.mode.is_sequential() {
            numbered = format!("{}{:010}", create.path, self.tree.node(parent).creates);
            &numbered
        } else {
            &create.path
        };
        path::validate(path)?;
        if path == "/" || self.tree.child(parent, path::last_name(path)).is_some() {
            return Err(at(ErrorKind::NodeExists, path));
        }
        if matches!(self.tree.node(parent).kind(), Kind::Ephemeral(_)) {
            return Err(at(ErrorKind::NoChildrenForEphemerals, path));
        }
        if create.mode.is_ephemeral()
            && let Some(session) = transaction.session.and_then(|id| self.sessions.get(&id))
            && session.ephemerals.len() >= EPHEMERALS_MAX
        {
            let detail = format!("the session has {EPHEMERALS_MAX} ephemerals, the most it can");
            return Err(Error::new(ErrorKind::TooLarge, detail));
        }
        let growth = create.data.as_ref().map_or(0, Bytes::len) as i64;
        self.check_quota(path, 1, growth)?;
        self.check_quota_fill(transaction, path)?;
        let slot = self.insert_node(transaction, parent, path, &acl, create);
        Ok(WriteResult::Created { path: path.clone(), stat: self.tree.stat(slot) })
    }

    /// Deletes a childless node.
    pub(super) fn delete(
        &mut self,
        transaction: &mut Transaction<'_>,
        path: &str,
        version: i32,
    ) -> Result<WriteResult, Error> {
        let slot = self.find_to_delete(transaction, path, version)?;
        if self.tree.children_count(slot) > 0 {
            return Err(at(ErrorKind::NotEmpty, path));
        }
        self.remove_node(transaction, slot, path);
        Ok(WriteResult::Deleted)
    }

    /// Deletes a node and all below it, children before parents, siblings from the last name to the first.
    pub(super) fn delete_recursive(
        &mut self,
        transaction: &mut Transaction<'_>,
        path: &str,
        version: i32,
        limit: u32,
    ) -> Result<WriteResult, Error> {
        let top = self.find_to_delete(transaction, path, version)?;
        let (mut doomed, mut path_bytes) = (Vec::new(), 0);
        for slot in std::iter::once(top).chain(self.tree.descendants(top)) {
            if doomed.len() as u64 >= u64::from(limit) {
                let detail = format!("more than {limit} nodes would be deleted");
                return Err(Error::new(ErrorKind::TooLarge, detail));
            }
            path_bytes += self.tree.path_length(slot);
            if path_bytes > DELETE_PATH_BYTES_MAX {
                let detail =
                    format!("nodes with more than {DELETE_PATH_BYTES_MAX} bytes of paths would be deleted");
                return Err(Error::new(ErrorKind::TooLarge, detail));
            }
            doomed.push(slot);
        }
        for slot in &doomed {
            if self.tree.children_count(*slot) > 0 {
                self.demand(*slot, Permissions::DELETE, transaction, path)?;
            }
        }
        // Backwards, parents come after all below them.
        for slot in doomed.iter().rev() {
            let path = self.tree.path(*slot);
            self.remove_node(transaction, *slot, &path);
        }
        Ok(WriteResult::DeletedRecursive { count: doomed.len() as u32 })
    }

    /// Sets a node's data.
    pub(super) fn set_data(
        &mut self,
        transaction: &mut Transaction<'_>,
        path: &str,
        data: Option<&Bytes>,
        version: i32,
    ) -> Result<WriteResult, Error> {
        path::validate(path)?;
        let slot = self.find(path, path)?;
        self.demand(slot, Permissions::WRITE, transaction, path)?;
        let growth = data.map_or(0, Bytes::len) as i64 - self.tree.data_length(slot) as i64;
        self.check_quota(path, 0, growth)?;
        expect_version(version, self.tree.node(slot).version, path)?;
        Ok(WriteResult::DataSet(self.replace_data(transaction, slot, path, data)))
    }

    /// Sets a node's ACL. No watch hears of it.
    pub(super) fn set_acl(
        &mut self,
        transaction: &mut Transaction<'_>,
        path: &str,
        list: &[AclEntry],
        version: i32,
    ) -> Result<WriteResult, Error> {
        path::validate(path)?;
        let list = acl::resolve(list, transaction.identities)?;
        let slot = self.find(path, path)?;
        self.demand(slot, Permissions::ADMIN, transaction, path)?;
        expect_version(version, self.tree.node(slot).aversion, path)?;
        self.touch_node(slot);
        let acl = self.acquire_acl(&list);
        let node = self.tree.node_mut(slot);
        node.aversion = next_version(node.aversion);
        transaction.released_acls.push(std::mem::replace(&mut node.acl, acl));
        Ok(WriteResult::AclSet(self.tree.stat(slot)))
    }

    /// The node exists with this version.
    pub(super) fn check(
        &self,
        transaction: &Transaction<'_>,
        path: &str,
        version: i32,
    ) -> Result<WriteResult, Error> {
        path::validate(path)?;
        let slot = self.find(path, path)?;
        self.demand(slot, Permissions::READ, transaction, path)?;
        expect_version(version, self.tree.node(slot).version, path)?;
        Ok(WriteResult::Checked)
    }

    /// A condition beyond ZooKeeper's check. It needs READ, as it tells what a read would.
    pub(super) fn guard(&self, transaction: &Transaction<'_>, guard: &Guard) -> Result<WriteResult, Error> {
        let (Guard::Lock { path, .. }
        | Guard::Modified { path, .. }
        | Guard::Created { path, .. }
        | Guard::Absent { path }) = guard;
        path::validate(path)?;
        let slot = self.tree.lookup(path);
        if let Some(slot) = slot {
            self.demand(slot, Permissions::READ, transaction, path)?;
        }
        let holds = match (guard, slot) {
            (Guard::Absent { .. }, slot) => slot.is_none(),
            (_, None) => false,
            (Guard::Modified { zxid, .. }, Some(slot)) => self.tree.node(slot).mzxid == *zxid,
            (Guard::Created { zxid, .. }, Some(slot)) => self.tree.node(slot).czxid == *zxid,
            (Guard::Lock { token, .. }, Some(slot)) => {
                let holder = self.holder(slot);
                holder.is_some_and(|holder| self.tree.node(holder).czxid == *token)
            }
        };
        if holds { Ok(WriteResult::Checked) } else { Err(at(ErrorKind::GuardFailed, path)) }
    }

    /// Whose turn at a lock it is: the first contender's, or, where no child is named as contenders are,
    /// the first child's.
    fn holder(&self, lock: Slot) -> Option<Slot> {
        let next = self.tree.children(lock, Some(CONTENDER)).next();
        next.filter(|child| is_contender(self.tree.node(*child).name()))
            .or_else(|| self.tree.children(lock, None).next())
    }

    /// The node at `path`, or NoNode about the path that was asked for.
    pub(super) fn find(&self, path: &str, asked: &str) -> Result<Slot, Error> {
        self.tree.lookup(path).ok_or_else(|| at(ErrorKind::NoNode, asked))
    }

    /// Whether these identities have a permission on a node.
    pub(super) fn permits(
        &self,
        slot: Slot,
        wanted: Permissions,
        identities: &[crate::acl::Identity],
    ) -> bool {
        acl::permits(self.acls.list(self.tree.node(slot).acl), wanted, identities)
    }

    fn demand(
        &self,
        slot: Slot,
        wanted: Permissions,
        transaction: &Transaction<'_>,
        path: &str,
    ) -> Result<(), Error> {
        if self.permits(slot, wanted, transaction.identities) {
            Ok(())
        } else {
            Err(at(ErrorKind::NoAuth, path))
        }
    }

    fn find_to_delete(&self, transaction: &Transaction<'_>, path: &str, version: i32) -> Result<Slot, Error> {
        if path::is_reserved(path) {
            return Err(Error::new(ErrorKind::BadArguments, format!("{path} is reserved")));
        }
        let (parent_path, _) = path::split_last(path)?;
        let parent = self.find(parent_path, path)?;
        // In this order, nobody without DELETE learns from a refusal what is there.
        self.demand(parent, Permissions::DELETE, transaction, path)?;
        // By the whole path, not as a child of what its beginning names: "//a" is no name of "/a".
        let slot = self.find(path, path)?;
        expect_version(version, self.tree.node(slot).version, path)?;
        Ok(slot)
    }
}

fn expect_version(expected: i32, version: i32, path: &str) -> Result<(), Error> {
    if expected == -1 || expected == version {
        return Ok(());
    }
    let detail = format!("{} has version {version}, expected {expected}", path::excerpt(path));
    Err(Error::new(ErrorKind::BadVersion, detail))
}

/// A refusal that names the path.
pub(super) fn at(kind: ErrorKind, path: &str) -> Error {
    Error::new(kind, path::excerpt(path))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::command::{Command, MultiOperation, Operation, Origin, Stamp};
    use crate::id::MemberId;
    use crate::reply::WriteReply;
    use crate::state::Answer;
    use crate::znode::CreateMode;

    fn write(state: &mut State, operation: MultiOperation) -> WriteResult {
        let origin = Origin::Call { member: MemberId(1), ticket: 1, request: None };
        let operation = Operation::Multi(vec![operation]);
        let applied = state.apply(&Stamp::default(), &Command { origin, identities: Vec::new(), operation });
        match applied.answer {
            Answer::Reply(WriteReply { result: Ok(WriteResult::Multi(mut results)), .. }) => {
                results.remove(0)
            }
            other => panic!("a good write was answered {other:?}"),
        }
    }

    fn create(path: &str, mode: CreateMode) -> MultiOperation {
        MultiOperation::Create(Create { path: path.into(), data: None, acl: AclEntry::open(), mode })
    }

    #[test]
    fn counters_wrap_where_clients_expect_it() {
        let mut state = State::new();
        write(&mut state, create("/p", CreateMode::Persistent));
        let slot = state.tree.lookup("/p").expect("just created");
        state.touch_node(slot);
        state.tree.node_mut(slot).creates = i32::MAX;
        state.settle();
        for expected in ["/p/n-2147483647", "/p/n--2147483648", "/p/n--2147483647"] {
            match write(&mut state, create("/p/n-", CreateMode::PersistentSequential)) {
                WriteResult::Created { path, .. } => assert_eq!(path, expected),
                other => panic!("a create was answered {other:?}"),
            }
        }
        for (version, expected) in [(i32::MAX, i32::MIN), (-3, -2), (-2, 0)] {
            state.touch_node(slot);
            state.tree.node_mut(slot).version = version;
            state.settle();
            match write(&mut state, MultiOperation::SetData { path: "/p".into(), data: None, version: -1 }) {
                WriteResult::DataSet(stat) => assert_eq!(stat.version, expected),
                other => panic!("a set was answered {other:?}"),
            }
        }
        assert_eq!(state.digest(), state.recompute_digest());
    }

    #[test]
    fn a_recursive_delete_is_bounded_by_the_bytes_of_paths_too() {
        let mut state = State::new();
        let top = format!("/{}", "x".repeat(4_000));
        write(&mut state, create(&top, CreateMode::Persistent));
        let origin = Origin::Call { member: MemberId(1), ticket: 1, request: None };
        let mut apply = |operation| {
            let command = Command { origin: origin.clone(), identities: Vec::new(), operation };
            match state.apply(&Stamp::default(), &command).answer {
                Answer::Reply(reply) => reply.result,
                other => panic!("a call was answered {other:?}"),
            }
        };
        let nodes = DELETE_PATH_BYTES_MAX / 4_000;
        let creates = (0..nodes).map(|node| create(&format!("{top}/{node}"), CreateMode::Persistent));
        assert!(apply(Operation::Multi(creates.collect())).is_ok());
        let mut delete_all = |path: &str| {
            apply(Operation::DeleteRecursive { path: path.into(), version: -1, limit: 100_000 })
                .map_err(|error| error.kind)
        };
        assert_eq!(delete_all(&top), Err(ErrorKind::TooLarge));
        assert_eq!(delete_all(&format!("{top}/7")), Ok(WriteResult::DeletedRecursive { count: 1 }));
    }
}
