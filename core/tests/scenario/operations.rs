//! Turns the words of a write into an operation: `create /a data=x seq`, `multi … ; …`.

use bytes::Bytes;
use quorate_core::acl::{AclEntry, Permissions};
use quorate_core::command::{Create, Guard, MultiOperation, Operation};
use quorate_core::error::{Error, ErrorKind};
use quorate_core::id::Zxid;
use quorate_core::znode::CreateMode;

use super::words::Words;

/// The write that a verb and its words ask for; `None` if the verb is no write.
pub fn operation(verb: &str, words: &mut Words) -> Option<Operation> {
    Some(match verb {
        "create" => Operation::Create(create(words)),
        "delete" => Operation::Delete { path: words.next(), version: version(words) },
        "delete-all" => Operation::DeleteRecursive {
            path: words.next(),
            version: version(words),
            limit: words.number("limit").unwrap_or(1000),
        },
        "set" => {
            let path = words.next();
            Operation::SetData { path, data: data(words), version: version(words) }
        }
        "set-acl" => {
            let path = words.next();
            Operation::SetAcl { path, acl: acl(words), version: version(words) }
        }
        "refused" => Operation::Refused(Error::new(ErrorKind::TooLarge, words.next())),
        "multi" => {
            let parts = std::iter::from_fn(|| words.next_part());
            Operation::Multi(parts.map(multi_operation).collect())
        }
        _ => return None,
    })
}

fn multi_operation(mut words: Words) -> MultiOperation {
    let operation = match words.next().as_str() {
        "create" => MultiOperation::Create(create(&mut words)),
        "delete" => MultiOperation::Delete { path: words.next(), version: version(&mut words) },
        "set" => {
            let path = words.next();
            MultiOperation::SetData { path, data: data(&mut words), version: version(&mut words) }
        }
        "check" => MultiOperation::Check { path: words.next(), version: version(&mut words) },
        "guard" => MultiOperation::Guard(guard(&mut words)),
        verb => panic!("a multi cannot {verb}"),
    };
    words.finish();
    operation
}

fn guard(words: &mut Words) -> Guard {
    let (kind, path) = (words.next(), words.next());
    let mut zxid = |name| Zxid(words.number(name).unwrap_or_else(|| panic!("guard {kind} needs {name}=")));
    match kind.as_str() {
        "lock" => Guard::Lock { token: zxid("token"), path },
        "modified" => Guard::Modified { zxid: zxid("zxid"), path },
        "created" => Guard::Created { zxid: zxid("zxid"), path },
        "absent" => Guard::Absent { path },
        _ => panic!("no guard is called {kind}"),
    }
}

fn create(words: &mut Words) -> Create {
    let path = words.next();
    Create { path, data: data(words), acl: acl(words), mode: mode(words) }
}

fn mode(words: &mut Words) -> CreateMode {
    let ttl_ms = words.number("ttl");
    let (ephemeral, sequential) = (words.flag("eph"), words.flag("seq"));
    let container = words.flag("container");
    match (ttl_ms, ephemeral, sequential, container) {
        (None, false, false, false) => CreateMode::Persistent,
        (None, false, true, false) => CreateMode::PersistentSequential,
        (None, true, false, false) => CreateMode::Ephemeral,
        (None, true, true, false) => CreateMode::EphemeralSequential,
        (None, false, false, true) => CreateMode::Container,
        (Some(ttl_ms), false, false, false) => CreateMode::Ttl { ttl_ms },
        (Some(ttl_ms), false, true, false) => CreateMode::TtlSequential { ttl_ms },
        _ => panic!("no node is all of that"),
    }
}

/// `data=x`, `size=1000`, `null`, or nothing: empty.
fn data(words: &mut Words) -> Option<Bytes> {
    if words.flag("null") {
        return None;
    }
    if let Some(size) = words.number("size") {
        return Some(vec![b'x'; size].into());
    }
    Some(words.option("data").unwrap_or_default().into())
}

fn version(words: &mut Words) -> i32 {
    words.number("version").unwrap_or(-1)
}

/// `acl=world:anyone:r,digest:bob:hash:cdrwa`, `acl=none`, or nothing: open.
fn acl(words: &mut Words) -> Vec<AclEntry> {
    match words.option("acl") {
        None => AclEntry::open(),
        Some(list) if list == "none" => Vec::new(),
        Some(list) => list.split(',').map(entry).collect(),
    }
}

fn entry(text: &str) -> AclEntry {
    let (who, permissions) = text.rsplit_once(':').expect("an ACL entry is scheme:id:permissions");
    let (scheme, id) = who.split_once(':').expect("an ACL entry is scheme:id:permissions");
    let permissions = permissions.chars().map(permission).fold(Permissions(0), Permissions::union);
    AclEntry { permissions, scheme: scheme.into(), id: id.into() }
}

fn permission(letter: char) -> Permissions {
    match letter {
        'r' => Permissions::READ,
        'w' => Permissions::WRITE,
        'c' => Permissions::CREATE,
        'd' => Permissions::DELETE,
        'a' => Permissions::ADMIN,
        _ => panic!("no permission is called {letter}"),
    }
}
