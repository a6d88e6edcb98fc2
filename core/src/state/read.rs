//! Reads: what a caller may see of the state as it is now. Nothing here changes anything.

use bytes::Bytes;

use super::node_rules::at;
use super::{Caller, State};
use crate::acl::{self, Permissions};
use crate::error::{Error, ErrorKind};
use crate::reply::{Child, ReadResult, SessionInfo};
use crate::request::ReadRequest;
use crate::tree::ROOT;
use crate::tree::node::Slot;

/// A page with data ends before it holds more than this (but holds one child at least), so that
/// no list's answer grows without bound; `more` is true then.
const PAGE_DATA_BYTES: usize = 1 << 20;

impl State {
    /// Answers a read. Watches are left by whoever keeps them; watch requests are not for the state.
    ///
    /// # Errors
    /// What the rules refuse; [`ErrorKind::Unimplemented`] for watch requests.
    pub fn read(&self, request: &ReadRequest, caller: &Caller<'_>) -> Result<ReadResult, Error> {
        match request {
            ReadRequest::Get { path, .. } => {
                let slot = self.readable(path, Permissions::READ, caller)?;
                Ok(ReadResult::Data { data: self.tree.data(slot), stat: self.tree.stat(slot) })
            }
            ReadRequest::Exists { path, .. } => {
                if path.contains('\0') {
                    return Err(Error::new(ErrorKind::BadArguments, "path contains a NUL character"));
                }
                let slot = self.readable(path, Permissions::READ, caller)?;
                Ok(ReadResult::Exists(self.tree.stat(slot)))
            }
            ReadRequest::GetAcl { path } => self.read_acl(path, caller),
            ReadRequest::List { path, after, limit, with_stat, with_data, .. } => {
                let slot = self.readable(path, Permissions::READ, caller)?;
                Ok(self.list(slot, after.as_deref(), *limit, *with_stat, *with_data, caller))
            }
            ReadRequest::Ephemerals { prefix } => self.ephemerals_of(prefix, caller),
            ReadRequest::CountDescendants { path } => {
                let slot = self.readable(path, Permissions::READ, caller)?;
                let count = if slot == ROOT {
                    self.tree.count() - 1
                } else {
                    self.tree.descendants(slot).count() as u64
                };
                Ok(ReadResult::Count(count))
            }
            ReadRequest::Multi(requests) => {
                let results = requests.iter().map(|request| match request {
                    ReadRequest::Get { .. } | ReadRequest::List { .. } => self.read(request, caller),
                    _ => Err(Error::new(ErrorKind::BadArguments, "a multi-read takes gets and lists only")),
                });
                Ok(ReadResult::Multi(results.collect()))
            }
            ReadRequest::WhoAmI => Ok(ReadResult::Identities(caller.identities.to_vec())),
            ReadRequest::Sync { path } => Ok(ReadResult::Synced(path.clone())),
            ReadRequest::Sessions => {
                let sessions = self.sessions().map(|view| SessionInfo {
                    session: view.session,
                    member: view.member,
                    epoch: view.epoch,
                    timeout_ms: view.timeout_ms,
                    ephemerals: view.ephemerals,
                });
                Ok(ReadResult::Sessions(sessions.collect()))
            }
            ReadRequest::AddWatch { .. }
            | ReadRequest::RemoveWatch { .. }
            | ReadRequest::CheckWatch { .. } => {
                Err(Error::new(ErrorKind::Unimplemented, "watches are kept beside the state"))
            }
        }
    }

    /// The node at a path, not validated (SEMANTICS.md 39), if the caller has any of `wanted`.
    fn readable(&self, path: &str, wanted: Permissions, caller: &Caller<'_>) -> Result<Slot, Error> {
        let slot = self.find(path, path)?;
        if self.permits(slot, wanted, caller.identities) {
            Ok(slot)
        } else {
            Err(at(ErrorKind::NoAuth, path))
        }
    }

    fn read_acl(&self, path: &str, caller: &Caller<'_>) -> Result<ReadResult, Error> {
        let slot = self.readable(path, Permissions::READ.union(Permissions::ADMIN), caller)?;
        let list = self.acls.list(self.tree.node(slot).acl);
        let is_admin = self.permits(slot, Permissions::ADMIN, caller.identities);
        let acl = if is_admin { list.to_vec() } else { acl::masked(list) };
        Ok(ReadResult::Acl { acl, stat: self.tree.stat(slot) })
    }

    fn list(
        &self,
        parent: Slot,
        after: Option<&str>,
        limit: u32,
        with_stat: bool,
        with_data: bool,
        caller: &Caller<'_>,
    ) -> ReadResult {
        let limit = if limit == 0 { usize::MAX } else { limit as usize };
        let (mut children, mut more, mut data_bytes) = (Vec::new(), false, 0);
        for slot in self.tree.children(parent, after) {
            let is_shown =
                (with_stat || with_data) && self.permits(slot, Permissions::READ, caller.identities);
            let length = if with_data && is_shown { self.tree.data_length(slot) } else { 0 };
            data_bytes += length;
            if children.len() == limit || (!children.is_empty() && data_bytes > PAGE_DATA_BYTES) {
                more = true;
                break;
            }
            let data: Option<Bytes> = if with_data && is_shown { self.tree.data(slot) } else { None };
            let stat = (with_stat && is_shown).then(|| self.tree.stat(slot));
            children.push(Child { name: self.tree.node(slot).name().into(), stat, data });
        }
        ReadResult::Children { children, stat: self.tree.stat(parent), more }
    }

    fn ephemerals_of(&self, prefix: &str, caller: &Caller<'_>) -> Result<ReadResult, Error> {
        let Some(id) = caller.session else {
            return Err(Error::new(ErrorKind::BadArguments, "only a session has ephemerals"));
        };
        let slots = self.sessions.get(&id).into_iter().flat_map(|session| session.ephemerals.iter());
        let is_all = prefix.trim().is_empty() || prefix == "/";
        let mut paths: Vec<String> = slots
            .map(|slot| self.tree.path(*slot))
            .filter(|path| is_all || path.starts_with(prefix))
            .collect();
        paths.sort_unstable();
        Ok(ReadResult::Ephemerals(paths))
    }
}
