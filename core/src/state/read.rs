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

/// An answer larger than this is refused, as soon as it is: nobody gathers it first. An encoded message
/// must not be larger than what clients take.
pub const ANSWER_BYTES_MAX: usize = 32 << 20;
/// What a child takes in an answer, beside its name and data.
const CHILD_BYTES: usize = 64;

/// A page with data, asked for with a limit, ends before it holds more than this (but holds one child at
/// least); `more` is true then. Without a limit all is asked for, and what does not fit is refused.
const PAGE_DATA_BYTES: usize = 1 << 20;

impl State {
    /// Answers a read. Watches are left by whoever keeps them; watch requests are not for the state.
    ///
    /// # Errors
    /// What the rules refuse; [`ErrorKind::TooLarge`] for an answer above [`ANSWER_BYTES_MAX`];
    /// [`ErrorKind::Unimplemented`] for watch requests.
    pub fn read(&self, request: &ReadRequest, caller: &Caller<'_>) -> Result<ReadResult, Error> {
        self.read_within(request, caller, &mut Room { bytes: ANSWER_BYTES_MAX, is_exceeded: false })
    }

    fn read_within(
        &self,
        request: &ReadRequest,
        caller: &Caller<'_>,
        room: &mut Room,
    ) -> Result<ReadResult, Error> {
        match request {
            ReadRequest::Get { path, .. } => {
                let slot = self.readable(path, Permissions::READ, caller)?;
                room.take(self.tree.data_length(slot))?;
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
                let page = (after.as_deref(), *limit);
                self.list(slot, page, (*with_stat, *with_data), caller, room)
            }
            ReadRequest::Ephemerals { prefix } => self.ephemerals_of(prefix, caller, room),
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
                let mut results = Vec::new();
                for request in requests {
                    let result = match request {
                        ReadRequest::Get { .. } | ReadRequest::List { .. } => {
                            self.read_within(request, caller, room)
                        }
                        _ => {
                            let detail = "a multi-read takes gets and lists only";
                            Err(Error::new(ErrorKind::BadArguments, detail))
                        }
                    };
                    // The answer as a whole is too large, not this part of it.
                    if room.is_exceeded {
                        return result;
                    }
                    results.push(result);
                }
                Ok(ReadResult::Multi(results))
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
        (after, limit): (Option<&str>, u32),
        (with_stat, with_data): (bool, bool),
        caller: &Caller<'_>,
        room: &mut Room,
    ) -> Result<ReadResult, Error> {
        let (limit, page_bytes) =
            if limit == 0 { (usize::MAX, usize::MAX) } else { (limit as usize, PAGE_DATA_BYTES) };
        let (mut children, mut more, mut data_bytes) = (Vec::new(), false, 0);
        for slot in self.tree.children(parent, after) {
            let is_shown =
                (with_stat || with_data) && self.permits(slot, Permissions::READ, caller.identities);
            let length = if with_data && is_shown { self.tree.data_length(slot) } else { 0 };
            data_bytes += length;
            if children.len() == limit || (!children.is_empty() && data_bytes > page_bytes) {
                more = true;
                break;
            }
            let data: Option<Bytes> = if with_data && is_shown { self.tree.data(slot) } else { None };
            let stat = (with_stat && is_shown).then(|| self.tree.stat(slot));
            let name = self.tree.node(slot).name();
            room.take(CHILD_BYTES + name.len() + length)?;
            children.push(Child { name: name.into(), stat, data });
        }
        Ok(ReadResult::Children { children, stat: self.tree.stat(parent), more })
    }

    fn ephemerals_of(&self, prefix: &str, caller: &Caller<'_>, room: &mut Room) -> Result<ReadResult, Error> {
        let Some(id) = caller.session else {
            return Err(Error::new(ErrorKind::BadArguments, "only a session has ephemerals"));
        };
        let slots = self.sessions.get(&id).into_iter().flat_map(|session| session.ephemerals.iter());
        let is_all = prefix.trim().is_empty() || prefix == "/";
        let mut paths = Vec::new();
        for path in slots.map(|slot| self.tree.path(*slot)) {
            if is_all || path.starts_with(prefix) {
                room.take(path.len())?;
                paths.push(path);
            }
        }
        paths.sort_unstable();
        Ok(ReadResult::Ephemerals(paths))
    }
}

/// What an answer may still take.
struct Room {
    bytes: usize,
    is_exceeded: bool,
}

impl Room {
    /// Takes room for a part of the answer.
    fn take(&mut self, bytes: usize) -> Result<(), Error> {
        match self.bytes.checked_sub(bytes) {
            Some(left) => self.bytes = left,
            None => {
                self.is_exceeded = true;
                let detail =
                    format!("answer: more than {ANSWER_BYTES_MAX} bytes; ask in pages (limit and after)");
                return Err(Error::new(ErrorKind::TooLarge, detail));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::acl::AclEntry;
    use crate::command::{Command, Create, MultiOperation, Operation, Origin, Stamp};
    use crate::id::MemberId;
    use crate::znode::CreateMode;

    #[test]
    fn an_answer_too_large_is_refused_before_it_is_gathered() {
        let mut state = State::new();
        let create = |path: String, mode| Create { path, data: None, acl: AclEntry::open(), mode };
        let children = (0..2_000).map(|number| format!("/many/{number:04}{}", "x".repeat(100)));
        let all = std::iter::once("/many".to_owned()).chain(children);
        let creates = all.map(|path| MultiOperation::Create(create(path, CreateMode::Persistent)));
        let operation = Operation::Multi(creates.collect());
        let origin = Origin::Call { member: MemberId(1), ticket: 1, request: None };
        state.apply(&Stamp::default(), &Command { origin, identities: Vec::new(), operation });
        let read = |request: &ReadRequest| state.read(request, &Caller { identities: &[], session: None });
        let list = ReadRequest::List {
            path: "/many".into(),
            after: None,
            limit: 0,
            with_stat: true,
            with_data: true,
            watch: None,
        };
        assert!(read(&list).is_ok());
        assert!(read(&ReadRequest::Multi(vec![list.clone(); 90])).is_ok(), "90 × 2,000 × 168 bytes");
        let refused = read(&ReadRequest::Multi(vec![list; 10_000])).expect_err("gigabytes");
        assert_eq!(refused.kind, ErrorKind::TooLarge);
    }
}
