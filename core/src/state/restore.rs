//! A state taken out of its cluster, as the beginning of a new one.
//!
//! Whoever still holds a view of the old cluster must never take it for the new one's: sessions and
//! their ephemerals are gone, remembered requests too, watches get "gap", and the transaction
//! counter jumps far beyond anything that the old cluster can have reached meanwhile.

use super::{LoadError, State, StateLoader};
use crate::change_log::ChangeLog;
use crate::command::{CloseReason, Command, Operation, Origin, Stamp};
use crate::id::{Position, SessionId, Timestamp, Zxid};
use crate::request_table::RequestTable;

/// How far the transaction counter jumps: at a million writes a second, twelve days of them.
const ZXID_JUMP: u64 = 1 << 40;

impl State {
    /// The same tree, ACLs and settings without anything that belongs to connections.
    ///
    /// # Errors
    /// Only if the state contradicts itself.
    pub fn into_restored(mut self) -> Result<State, LoadError> {
        let stamp = Stamp { time: self.time, entropy: [0; 16] };
        let sessions: Vec<SessionId> = self.sessions().map(|session| session.session).collect();
        for session in sessions {
            let operation = Operation::CloseSession { session, reason: CloseReason::ByOperator };
            self.apply(&stamp, &Command { origin: Origin::House, identities: Vec::new(), operation });
        }
        self.zxid = Zxid(self.zxid.0 + ZXID_JUMP);
        // Emptied by its own rule, so that ACLs that only changes still used go with them.
        let bytes_max = std::mem::take(&mut self.settings.change_log_bytes);
        self.trim_change_log();
        self.settings.change_log_bytes = bytes_max;
        self.changes = ChangeLog::starting_at(0, Position::after(self.zxid));
        self.forget_members();
        // Nobody knows any more which of the old cluster's requests took effect: not "new", but "unknown".
        self.requests = RequestTable::with_floor(Timestamp(self.time.0.saturating_add(1)));
        // Read anew from its records, so that the digest is of what is there now.
        let mut loader = StateLoader::new();
        for record in self.all_records() {
            loader.push(&record.key, &record.value)?;
        }
        loader.finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::acl::{AclEntry, Permissions};
    use crate::command::Create;
    use crate::error::ErrorKind;
    use crate::id::{AttachEpoch, MemberId, WriteNumber};
    use crate::reply::{ReadResult, WriteResult};
    use crate::request::ReadRequest;
    use crate::state::{Answer, Caller};
    use crate::znode::CreateMode;

    fn create(path: &str, mode: CreateMode) -> Operation {
        Operation::Create(Create { path: path.into(), data: None, acl: AclEntry::open(), mode })
    }

    #[test]
    fn a_restored_state_keeps_the_tree_and_nothing_of_connections() {
        let mut state = State::new();
        let stamp = Stamp::default();
        let call = |ticket| Origin::Call { member: MemberId(1), ticket, request: None };
        let mut apply = |origin, operation| {
            state.apply(&stamp, &Command { origin, identities: Vec::new(), operation }).answer
        };
        let opened = apply(call(1), Operation::OpenSession { timeout_ms: 4000, member: MemberId(1) });
        let Answer::Reply(reply) = opened else { panic!("a session opens: {opened:?}") };
        let Ok(WriteResult::SessionOpened(attachment)) = reply.result else { panic!("opened") };
        apply(call(2), create("/kept", CreateMode::Persistent));
        let published = |version: u64| Operation::PublishConfig {
            text: format!("server.1=h:1:2:participant\nused=1,2\nversion={version:x}\n").into(),
        };
        apply(call(2), published(5_000_000));
        // An ACL that only the change log still uses at the end.
        let entry = AclEntry { permissions: Permissions::ALL, scheme: "digest".into(), id: "u:h".into() };
        let acl = vec![entry];
        let (path, mode) = ("/removed".to_owned(), CreateMode::Persistent);
        apply(call(3), Operation::Create(Create { path: path.clone(), data: None, acl, mode }));
        apply(call(4), Operation::Delete { path, version: -1 });
        let origin = Origin::Session {
            session: attachment.session,
            epoch: AttachEpoch(1),
            number: WriteNumber(1),
            acknowledged: WriteNumber(0),
        };
        apply(origin, create("/gone", CreateMode::Ephemeral));
        let before = state.zxid();

        let mut restored = state.into_restored().expect("it is whole");
        let exists = |path: &str| {
            let request = ReadRequest::Exists { path: path.into(), watch: None };
            restored.read(&request, &Caller { identities: &[], session: None }).is_ok()
        };
        assert!(exists("/kept") && !exists("/gone"));
        assert_eq!(restored.sessions().count(), 0);
        assert!(restored.zxid().0 >= before.0 + ZXID_JUMP);
        assert_eq!(restored.digest(), restored.recompute_digest());
        let members = |state: &State| {
            let request = ReadRequest::Get { path: "/zookeeper/config".into(), watch: None };
            match state.read(&request, &Caller { identities: &[], session: None }) {
                Ok(ReadResult::Data { data, .. }) => data,
                other => panic!("it is readable: {other:?}"),
            }
        };
        assert_eq!(members(&restored), None, "the old cluster's members are nobody here");
        let operation = published(1);
        restored.apply(&stamp, &Command { origin: call(1), identities: Vec::new(), operation });
        assert!(members(&restored).is_some(), "the new cluster's first publication counts");
        assert_eq!(restored.digest(), restored.recompute_digest());
        let gap = restored.changes_since(Position::after(Zxid(before.0 + 5))).err();
        assert_eq!(gap.map(|error| error.kind), Some(ErrorKind::WatchGap));
    }
}
