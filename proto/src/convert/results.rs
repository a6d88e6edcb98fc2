//! What writes and reads give back.

use quorate_core::acl::Identity;
use quorate_core::error::Error;
use quorate_core::id::{AttachEpoch, MemberId, SessionId};
use quorate_core::reply::{Attachment, Child, ReadResult, SessionInfo, WriteResult};
use quorate_core::znode::Stat;

use super::{WireError, required};
use crate::v1;
use crate::v1::read_result::Result as WireRead;
use crate::v1::write_result::Result as WireWrite;

fn stat(stat: Option<v1::Stat>) -> Result<Stat, WireError> {
    Ok(required(stat, "stat")?.into())
}

impl From<WriteResult> for v1::WriteResult {
    fn from(result: WriteResult) -> v1::WriteResult {
        let result = match result {
            WriteResult::Created { path, stat } => {
                WireWrite::Created(v1::Created { path, stat: Some(stat.into()) })
            }
            WriteResult::Deleted => WireWrite::Deleted(v1::Done {}),
            WriteResult::DeletedRecursive { count } => WireWrite::DeletedRecursive(count),
            WriteResult::DataSet(stat) => WireWrite::DataSet(stat.into()),
            WriteResult::AclSet(stat) => WireWrite::AclSet(stat.into()),
            WriteResult::Checked => WireWrite::Checked(v1::Done {}),
            WriteResult::Multi(results) => {
                WireWrite::Multi(v1::MultiResult { results: results.into_iter().map(Into::into).collect() })
            }
            WriteResult::SessionClosed => WireWrite::SessionClosed(v1::Done {}),
            // Attachments answer a Connect and travel as Connected; no reply carries their password.
            WriteResult::Done | WriteResult::SessionOpened(_) | WriteResult::Attached(_) => {
                WireWrite::Done(v1::Done {})
            }
        };
        v1::WriteResult { result: Some(result) }
    }
}

impl TryFrom<v1::WriteResult> for WriteResult {
    type Error = WireError;

    fn try_from(result: v1::WriteResult) -> Result<WriteResult, WireError> {
        Ok(match required(result.result, "write.result")? {
            WireWrite::Created(created) => {
                WriteResult::Created { path: created.path, stat: stat(created.stat)? }
            }
            WireWrite::Deleted(v1::Done {}) => WriteResult::Deleted,
            WireWrite::DeletedRecursive(count) => WriteResult::DeletedRecursive { count },
            WireWrite::DataSet(stat) => WriteResult::DataSet(stat.into()),
            WireWrite::AclSet(stat) => WriteResult::AclSet(stat.into()),
            WireWrite::Checked(v1::Done {}) => WriteResult::Checked,
            WireWrite::Multi(multi) => WriteResult::Multi(
                multi.results.into_iter().map(TryInto::try_into).collect::<Result<_, WireError>>()?,
            ),
            WireWrite::SessionClosed(v1::Done {}) => WriteResult::SessionClosed,
            WireWrite::Done(v1::Done {}) => WriteResult::Done,
        })
    }
}

impl From<ReadResult> for v1::ReadResult {
    fn from(result: ReadResult) -> v1::ReadResult {
        let result = match result {
            ReadResult::Data { data, stat } => WireRead::Data(v1::NodeData { data, stat: Some(stat.into()) }),
            ReadResult::Exists(stat) => WireRead::Exists(stat.into()),
            ReadResult::Acl { acl, stat } => {
                WireRead::Acl(v1::NodeAcl { acl: Some(acl.into()), stat: Some(stat.into()) })
            }
            ReadResult::Children { children, stat, more } => WireRead::Children(v1::Children {
                children: children.into_iter().map(Into::into).collect(),
                stat: Some(stat.into()),
                more,
            }),
            ReadResult::Ephemerals(paths) => WireRead::Ephemerals(v1::Paths { paths }),
            ReadResult::Count(count) => WireRead::Count(count),
            ReadResult::Multi(outcomes) => WireRead::Multi(v1::MultiReadResult {
                outcomes: outcomes.into_iter().map(read_outcome_to_wire).collect(),
            }),
            ReadResult::Identities(identities) => WireRead::Identities(v1::Identities {
                identities: identities.into_iter().map(Into::into).collect(),
            }),
            ReadResult::Synced(path) => WireRead::Synced(path),
            ReadResult::Watch => WireRead::Watch(v1::Done {}),
            ReadResult::Sessions(sessions) => {
                WireRead::Sessions(v1::Sessions { sessions: sessions.into_iter().map(Into::into).collect() })
            }
        };
        v1::ReadResult { result: Some(result) }
    }
}

impl TryFrom<v1::ReadResult> for ReadResult {
    type Error = WireError;

    fn try_from(result: v1::ReadResult) -> Result<ReadResult, WireError> {
        Ok(match required(result.result, "read.result")? {
            WireRead::Data(node) => ReadResult::Data { data: node.data, stat: stat(node.stat)? },
            WireRead::Exists(stat) => ReadResult::Exists(stat.into()),
            WireRead::Acl(node) => {
                ReadResult::Acl { acl: required(node.acl, "acl")?.try_into()?, stat: stat(node.stat)? }
            }
            WireRead::Children(page) => ReadResult::Children {
                children: page.children.into_iter().map(Into::into).collect(),
                stat: stat(page.stat)?,
                more: page.more,
            },
            WireRead::Ephemerals(paths) => ReadResult::Ephemerals(paths.paths),
            WireRead::Count(count) => ReadResult::Count(count),
            WireRead::Multi(multi) => ReadResult::Multi(
                multi.outcomes.into_iter().map(read_outcome).collect::<Result<_, WireError>>()?,
            ),
            WireRead::Identities(identities) => ReadResult::Identities(
                identities.identities.into_iter().map(Into::into).collect::<Vec<Identity>>(),
            ),
            WireRead::Synced(path) => ReadResult::Synced(path),
            WireRead::Watch(v1::Done {}) => ReadResult::Watch,
            WireRead::Sessions(sessions) => {
                ReadResult::Sessions(sessions.sessions.into_iter().map(Into::into).collect())
            }
        })
    }
}

fn read_outcome_to_wire(outcome: Result<ReadResult, Error>) -> v1::ReadOutcome {
    use v1::read_outcome::Outcome;
    let outcome = match outcome {
        Ok(result) => Outcome::Result(result.into()),
        Err(error) => Outcome::Error(error.into()),
    };
    v1::ReadOutcome { outcome: Some(outcome) }
}

fn read_outcome(outcome: v1::ReadOutcome) -> Result<Result<ReadResult, Error>, WireError> {
    use v1::read_outcome::Outcome;
    Ok(match required(outcome.outcome, "outcomes.outcome")? {
        Outcome::Result(result) => Ok(result.try_into()?),
        Outcome::Error(error) => Err(error.try_into()?),
    })
}

impl From<Child> for v1::Child {
    fn from(child: Child) -> v1::Child {
        v1::Child { name: child.name, stat: child.stat.map(Into::into), data: child.data }
    }
}

impl From<v1::Child> for Child {
    fn from(child: v1::Child) -> Child {
        Child { name: child.name, stat: child.stat.map(Into::into), data: child.data }
    }
}

impl From<SessionInfo> for v1::SessionInfo {
    fn from(info: SessionInfo) -> v1::SessionInfo {
        v1::SessionInfo {
            session_id: info.session.0,
            member_id: info.member.0,
            epoch: info.epoch.0,
            timeout_ms: info.timeout_ms,
            ephemerals: info.ephemerals,
        }
    }
}

impl From<v1::SessionInfo> for SessionInfo {
    fn from(info: v1::SessionInfo) -> SessionInfo {
        SessionInfo {
            session: SessionId(info.session_id),
            member: MemberId(info.member_id),
            epoch: AttachEpoch(info.epoch),
            timeout_ms: info.timeout_ms,
            ephemerals: info.ephemerals,
        }
    }
}

/// The greeting for a session that was opened or attached here.
pub fn connected(attachment: Attachment, member: MemberId, zxid: quorate_core::id::Zxid) -> v1::Connected {
    v1::Connected {
        session_id: attachment.session.0,
        password: bytes::Bytes::copy_from_slice(&attachment.password),
        timeout_ms: attachment.timeout_ms,
        epoch: attachment.epoch.0,
        last_applied_write: attachment.last_applied.0,
        member_id: member.0,
        zxid: zxid.0,
    }
}
