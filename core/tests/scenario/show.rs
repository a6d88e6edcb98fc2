//! Prints what comes back, one line where possible.

use std::fmt::Write as _;

use bytes::Bytes;
use quorate_core::acl::{AclEntry, Permissions};
use quorate_core::change::{EventKind, Value, WatchEvent};
use quorate_core::error::Error;
use quorate_core::reply::{Attachment, Child, ReadResult, WriteReply, WriteResult};
use quorate_core::request::WatchId;
use quorate_core::znode::Stat;

/// How much of a Stat to print.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Detail {
    /// The version.
    Short,
    /// Everything.
    Full,
}

/// A write's reply with its transaction.
pub fn write_reply(reply: &WriteReply, detail: Detail) -> String {
    match &reply.result {
        Ok(result) => {
            let text = write_result(result, detail);
            match text.split_once('\n') {
                Some((first, rest)) => format!("{first} zxid={}\n{rest}", reply.zxid),
                None => format!("{text} zxid={}", reply.zxid),
            }
        }
        Err(error) => format!("{} zxid={}", refusal(error), reply.zxid),
    }
}

fn write_result(result: &WriteResult, detail: Detail) -> String {
    match result {
        WriteResult::Created { path, stat: of_node } if detail == Detail::Full => {
            format!("created {path} {}", stat(of_node, detail))
        }
        WriteResult::Created { path, .. } => format!("created {path}"),
        WriteResult::Deleted => "deleted".into(),
        WriteResult::DeletedRecursive { count } => format!("deleted {count}"),
        WriteResult::DataSet(of_node) => format!("set {}", stat(of_node, detail)),
        WriteResult::AclSet(of_node) if detail == Detail::Full => {
            format!("acl-set {}", stat(of_node, detail))
        }
        WriteResult::AclSet(of_node) => format!("acl-set aversion={}", of_node.aversion),
        WriteResult::Checked => "checked".into(),
        WriteResult::Multi(results) => {
            let mut text = format!("multi of {}", results.len());
            for result in results {
                let _ = write!(text, "\n  {}", write_result(result, detail));
            }
            text
        }
        WriteResult::SessionOpened(attached) => format!("opened {}", attachment(attached)),
        WriteResult::Attached(attached) => format!("attached {}", attachment(attached)),
        WriteResult::SessionClosed => "session closed".into(),
        WriteResult::Done => "done".into(),
    }
}

fn attachment(attached: &Attachment) -> String {
    let Attachment { session, timeout_ms, epoch, last_applied, .. } = attached;
    format!("session={session} epoch={} timeout={timeout_ms} last-write={}", epoch.0, last_applied.0)
}

/// A refusal: the kind, ZooKeeper's code, where in a multi. Details are for people and not promised.
pub fn refusal(error: &Error) -> String {
    let mut text = format!("{:?} {}", error.kind, error.kind.zookeeper_code());
    if let Some(index) = error.operation {
        let _ = write!(text, " at operation {index}");
    }
    text
}

/// What was read.
pub fn read_result(result: &Result<ReadResult, Error>, detail: Detail) -> String {
    let result = match result {
        Ok(result) => result,
        Err(error) => return refusal(error),
    };
    match result {
        ReadResult::Data { data, stat: of_node } => {
            format!("{} {}", value(data.as_ref()), stat(of_node, detail))
        }
        ReadResult::Exists(of_node) => format!("exists {}", stat(of_node, detail)),
        ReadResult::Acl { acl: list, stat: of_node } => {
            let rest = match detail {
                Detail::Short => format!("aversion={}", of_node.aversion),
                Detail::Full => stat(of_node, detail),
            };
            format!("acl {} {rest}", acl(list))
        }
        ReadResult::Children { children, stat: of_node, more } => {
            let mut text = format!("children ({})", children.len());
            for one in children {
                let _ = write!(text, " {}", child(one, detail));
            }
            if *more {
                text.push_str(" more");
            }
            if detail == Detail::Full {
                let _ = write!(text, " | {}", stat(of_node, detail));
            }
            text
        }
        ReadResult::Ephemerals(paths) => {
            format!("ephemerals ({}) {}", paths.len(), paths.join(" ")).trim().into()
        }
        ReadResult::Count(count) => format!("count {count}"),
        ReadResult::Multi(results) => {
            let mut text = format!("multi of {}", results.len());
            for result in results {
                let _ = write!(text, "\n  {}", read_result(result, detail));
            }
            text
        }
        ReadResult::Identities(list) => {
            let list: Vec<String> = list.iter().map(|who| format!("{}:{}", who.scheme, who.id)).collect();
            format!("identities {}", list.join(" "))
        }
        ReadResult::Synced(path) => format!("synced {path}"),
        ReadResult::Watch => "ok".into(),
        ReadResult::Sessions(list) => {
            let mut text = format!("sessions ({})", list.len());
            for one in list {
                let (session, member, epoch) = (one.session, one.member, one.epoch.0);
                let (timeout, ephemerals) = (one.timeout_ms, one.ephemerals);
                let _ = write!(
                    text,
                    "\n  {session} member={member} epoch={epoch} timeout={timeout} ephemerals={ephemerals}"
                );
            }
            text
        }
    }
}

fn child(child: &Child, detail: Detail) -> String {
    let mut parts = Vec::new();
    if let Some(data) = &child.data {
        parts.push(value(Some(data)));
    }
    if let Some(of_node) = &child.stat {
        parts.push(stat(of_node, detail));
    }
    match parts.is_empty() {
        true => child.name.clone(),
        false => format!("{}({})", child.name, parts.join(" ")),
    }
}

fn value(data: Option<&Bytes>) -> String {
    match data {
        None => "null".into(),
        Some(data) if data.len() > 40 => format!("{} bytes", data.len()),
        Some(data) => format!("\"{}\"", String::from_utf8_lossy(data)),
    }
}

fn stat(stat: &Stat, detail: Detail) -> String {
    if detail == Detail::Short {
        return format!("version={}", stat.version);
    }
    format!(
        "czxid={} mzxid={} pzxid={} ctime={} mtime={} version={} cversion={} aversion={} owner={} length={} children={}",
        stat.czxid,
        stat.mzxid,
        stat.pzxid,
        stat.ctime.0,
        stat.mtime.0,
        stat.version,
        stat.cversion,
        stat.aversion,
        stat.ephemeral_owner,
        stat.data_length,
        stat.num_children
    )
}

fn acl(list: &[AclEntry]) -> String {
    let show = |entry: &AclEntry| {
        let bits = [
            (Permissions::CREATE, 'c'),
            (Permissions::DELETE, 'd'),
            (Permissions::READ, 'r'),
            (Permissions::WRITE, 'w'),
            (Permissions::ADMIN, 'a'),
        ];
        let letters = bits.iter().filter(|(bit, _)| entry.permissions.intersects(*bit));
        let letters: String = letters.map(|(_, letter)| *letter).collect();
        format!("{}:{}:{letters}", entry.scheme, entry.id)
    };
    list.iter().map(show).collect::<Vec<_>>().join(",")
}

/// An event: what, where, its position, the watches (unless it is the nameless one), the value if wanted.
pub fn event(event: &WatchEvent) -> String {
    let body = &event.body;
    let mut text =
        format!("{:?} {} at {}.{}", body.kind, body.path, body.position.zxid, body.position.ordinal);
    if event.watches != [WatchId(0)] {
        let ids: Vec<String> = event.watches.iter().map(|id| id.0.to_string()).collect();
        let _ = write!(text, " watch={}", ids.join(","));
    }
    // Who hears that children changed gets no value: it would be the child's.
    if event.with_value && body.kind != EventKind::NodeChildrenChanged {
        let value = match &body.value {
            Value::Kept(data) => value(data.as_ref()),
            Value::NotKept => "not kept".into(),
        };
        let _ = write!(text, " value={value}");
    }
    text
}
