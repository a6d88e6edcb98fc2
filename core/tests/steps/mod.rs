//! Random steps: what clients, the leader and faults might do next.
//!
//! A step names sessions and nodes by numbers; [`aim`] turns it into a command for those that
//! there are then, so that a good part of the steps hits something.

// Each test binary uses its part of this.
#![allow(dead_code)]

use bytes::Bytes;
use proptest::collection::vec;
use proptest::prelude::*;
use quorate_core::acl::{AclEntry, Identity, Permissions};
use quorate_core::command::{
    CloseReason, Command, Create, Guard, MultiOperation, Operation, Origin, RequestId, Stamp,
};
use quorate_core::error::{Error, ErrorKind};
use quorate_core::id::{AttachEpoch, MemberId, SessionId, Timestamp, WriteNumber, Zxid};
use quorate_core::settings::Setting;
use quorate_core::znode::CreateMode;

use crate::naive::{Kind, Model};

/// What happens next.
#[derive(Clone, Debug)]
pub struct Step {
    /// How far the leader's clock is from the last one; it may go back.
    pub tick: i64,
    pub who: u8,
    pub what: What,
}

/// Who does what. Sessions and nodes are counted around.
#[derive(Clone, Debug)]
pub enum What {
    Open { member: u64, timeout_ms: u32 },
    Attach { session: u8, member: u64, knows: bool },
    Write { session: u8, number: Numbering, is_late: bool, acknowledges: u8, operation: Operation },
    CloseOwn { session: u8, number: Numbering },
    Call { request: Option<(u8, i64)>, operation: Operation },
    CloseByPassword { session: u8, knows: bool },
    CloseByOperator { session: u8 },
    Expire { session: u8, is_late: bool },
    ExpireNode { node: u16, is_late: bool },
    Set(Setting),
    Publish(u8),
    Mark,
}

/// Which write number a write carries.
#[derive(Clone, Copy, Debug)]
pub enum Numbering {
    Next,
    /// So many before the next one.
    Repeat(u8),
    /// So many behind the next one.
    Gap(u8),
}

/// Random steps.
pub fn steps(count: usize) -> impl Strategy<Value = Vec<Step>> {
    let tick = prop_oneof![4 => Just(0i64), 3 => 0i64..2000, 1 => -3000i64..0];
    let who = prop_oneof![1 => 0u8..4, 1 => Just(4u8)];
    let step = (tick, who, what()).prop_map(|(tick, who, what)| Step { tick, who, what });
    // Without a session little happens.
    let open = |member| Step { tick: 0, who: 0, what: What::Open { member, timeout_ms: 5000 } };
    vec(step, 1..count - 1).prop_map(move |mut steps| {
        steps.splice(0..0, [open(1), open(2)]);
        steps
    })
}

fn what() -> impl Strategy<Value = What> {
    let numbering = || {
        prop_oneof![
            8 => Just(Numbering::Next),
            2 => (1u8..5).prop_map(Numbering::Repeat),
            1 => (1u8..3).prop_map(Numbering::Gap)
        ]
    };
    let late = || prop::bool::weighted(0.04);
    prop_oneof![
        4 => (1u64..4, 1000u32..9000).prop_map(|(member, timeout_ms)| What::Open { member, timeout_ms }),
        2 => (any::<u8>(), 1u64..4, prop::bool::weighted(0.8))
            .prop_map(|(session, member, knows)| What::Attach { session, member, knows }),
        40 => (any::<u8>(), numbering(), late(), 0u8..8, operation()).prop_map(
            |(session, number, is_late, acknowledges, operation)| What::Write {
                session, number, is_late, acknowledges, operation
            }
        ),
        1 => (any::<u8>(), numbering()).prop_map(|(session, number)| What::CloseOwn { session, number }),
        12 => (proptest::option::weighted(0.5, (0u8..6, -3000i64..3000)), operation())
            .prop_map(|(request, operation)| What::Call { request, operation }),
        1 => (any::<u8>(), any::<bool>())
            .prop_map(|(session, knows)| What::CloseByPassword { session, knows }),
        1 => any::<u8>().prop_map(|session| What::CloseByOperator { session }),
        1 => (any::<u8>(), any::<bool>()).prop_map(|(session, is_late)| What::Expire { session, is_late }),
        6 => (any::<u16>(), late()).prop_map(|(node, is_late)| What::ExpireNode { node, is_late }),
        1 => prop_oneof![
            (0u32..40).prop_map(Setting::ChangeValueBytes),
            (500i64..5000).prop_map(Setting::RequestWindowMs),
            (0u32..4).prop_map(Setting::RulesVersion)
        ]
        .prop_map(What::Set),
        1 => (0u8..3).prop_map(What::Publish),
        1 => Just(What::Mark),
    ]
}

fn operation() -> impl Strategy<Value = Operation> {
    prop_oneof![
        10 => create().prop_map(Operation::Create),
        4 => (path(), version()).prop_map(|(path, version)| Operation::Delete { path, version }),
        2 => (path(), version(), 0u32..12)
            .prop_map(|(path, version, limit)| Operation::DeleteRecursive { path, version, limit }),
        5 => (path(), data(), version())
            .prop_map(|(path, data, version)| Operation::SetData { path, data, version }),
        2 => (path(), acl(), version()).prop_map(|(path, acl, version)| Operation::SetAcl { path, acl, version }),
        5 => vec(multi_operation(), 0..6).prop_map(Operation::Multi),
        1 => prop_oneof![Just(ErrorKind::TooLarge), Just(ErrorKind::Overloaded)]
            .prop_map(|kind| Operation::Refused(kind.into())),
    ]
}

fn multi_operation() -> impl Strategy<Value = MultiOperation> {
    prop_oneof![
        4 => create().prop_map(MultiOperation::Create),
        2 => (path(), version()).prop_map(|(path, version)| MultiOperation::Delete { path, version }),
        3 => (path(), data(), version())
            .prop_map(|(path, data, version)| MultiOperation::SetData { path, data, version }),
        1 => (path(), version()).prop_map(|(path, version)| MultiOperation::Check { path, version }),
        1 => (path(), 0u64..8, 0u8..4).prop_map(|(path, zxid, guard)| {
            let zxid = Zxid(zxid);
            MultiOperation::Guard(match guard {
                0 => Guard::Lock { path, token: zxid },
                1 => Guard::Modified { path, zxid },
                2 => Guard::Created { path, zxid },
                _ => Guard::Absent { path },
            })
        }),
    ]
}

fn create() -> impl Strategy<Value = Create> {
    let mode = prop_oneof![
        5 => Just(CreateMode::Persistent),
        2 => Just(CreateMode::PersistentSequential),
        3 => Just(CreateMode::Ephemeral),
        2 => Just(CreateMode::EphemeralSequential),
        2 => Just(CreateMode::Container),
        2 => prop_oneof![9 => 1i64..5000, 1 => Just(0i64)].prop_map(|ttl_ms| CreateMode::Ttl { ttl_ms }),
        1 => Just(CreateMode::TtlSequential { ttl_ms: 100 }),
    ];
    (new_path(), data(), acl(), mode).prop_map(|(path, data, acl, mode)| Create { path, data, acl, mode })
}

/// Where to create: `?7/b` is a child of the seventh node that there is.
fn new_path() -> impl Strategy<Value = String> {
    let name = || prop_oneof![4 => Just("a"), 4 => Just("b"), 4 => Just("c"), 2 => Just("n-"), 2 => Just("lock-"), 1 => Just("")];
    prop_oneof![
        12 => (any::<u16>(), name()).prop_map(|(node, name)| format!("?{node}/{name}")),
        6 => prop_oneof![Just("/a"), Just("/b"), Just("/a/b"), Just("/a/b/c")].prop_map(str::to_owned),
        1 => any_path(),
    ]
}

/// What to do something to: mostly a node that there is, `?7`.
fn path() -> impl Strategy<Value = String> {
    prop_oneof![
        16 => (any::<u16>()).prop_map(|node| format!("?{node}")),
        1 => new_path(),
        1 => any_path(),
    ]
}

fn any_path() -> impl Strategy<Value = String> {
    const PATHS: [&str; 15] = [
        "/",
        "",
        "a",
        "/a/",
        "//",
        "//a",
        "//zookeeper",
        "//zookeeper/config",
        "/a/./b",
        "/a\0",
        "/\u{1}",
        "/zookeeper",
        "/zookeeper/config",
        "/zookeeper/x",
        "/missing/b",
    ];
    proptest::sample::select(&PATHS[..]).prop_map(str::to_owned)
}

fn data() -> impl Strategy<Value = Option<Bytes>> {
    prop_oneof![
        10 => Just(None),
        40 => vec(b'a'..=b'z', 0..24).prop_map(|data| Some(data.into())),
        // Beyond what one record holds.
        1 => (60_000usize..200_000).prop_map(|size| Some(vec![b'x'; size].into()))
    ]
}

fn version() -> impl Strategy<Value = i32> {
    prop_oneof![3 => Just(-1), 2 => 0i32..3]
}

fn acl() -> impl Strategy<Value = Vec<AclEntry>> {
    let entry = |permissions: u8, scheme: &str, id: &str| AclEntry {
        permissions: Permissions(permissions),
        scheme: scheme.into(),
        id: id.into(),
    };
    prop_oneof![
        20 => Just(AclEntry::open()),
        1 => Just(vec![entry(31, "digest", "bob:hash")]),
        1 => Just(vec![entry(1, "world", "anyone"), entry(31, "digest", "bob:hash"), entry(1, "world", "anyone")]),
        1 => Just(vec![entry(31, "auth", ""), entry(5, "ip", "10.0.0.0/8")]),
        1 => (0u8..32).prop_map(move |permissions| vec![entry(permissions, "world", "anyone")]),
        1 => prop_oneof![
            Just(vec![]),
            Just(vec![AclEntry { permissions: Permissions::ALL, scheme: "nobody".into(), id: "x".into() }])
        ],
    ]
}

/// Everybody who writes here: nobody, an address, bob, bob and eve, root, nobody.
pub fn identities(who: u8) -> Vec<Identity> {
    let is = |scheme: &str, id: &str| Identity { scheme: scheme.into(), id: id.into() };
    match who {
        1 => vec![is("ip", "10.0.0.1")],
        2 => vec![is("ip", "10.0.0.1"), is("digest", "bob:hash")],
        3 => vec![is("digest", "bob:hash"), is("digest", "eve:hash")],
        4 => vec![is("super", "")],
        _ => vec![],
    }
}

/// The command that a step means now; `None` if there is nothing to do it to.
pub fn aim(step: &Step, clock: &mut i64, count: u64, model: &Model) -> Option<(Stamp, Command)> {
    *clock = (*clock + step.tick).max(1);
    let mut entropy = [0; 16];
    entropy[..8].copy_from_slice(&count.to_le_bytes());
    let stamp = Stamp { time: Timestamp(*clock), entropy };
    let call = |request| Origin::Call { member: MemberId(1), ticket: count, request };
    let (origin, operation) = match &step.what {
        What::Open { member, timeout_ms } => {
            (call(None), Operation::OpenSession { timeout_ms: *timeout_ms, member: MemberId(*member) })
        }
        What::Attach { session, member, knows } => {
            let id = pick_session(model, *session)?;
            let password = if *knows { model.sessions.get(&id)?.password } else { [7; 16] };
            let (session, member) = (SessionId(id), MemberId(*member));
            (call(None), Operation::Attach { session, password, member, timeout_ms: 5000 })
        }
        What::Write { session, number, is_late, acknowledges, operation } => {
            let id = pick_session(model, *session)?;
            (origin(model, id, *number, *is_late, *acknowledges), operation.clone())
        }
        What::CloseOwn { session, number } => {
            let id = pick_session(model, *session)?;
            let close = Operation::CloseSession { session: SessionId(id), reason: CloseReason::ByOwner };
            (origin(model, id, *number, false, 0), close)
        }
        What::Call { request, operation } => {
            let request = request.map(|(name, issued)| {
                // The same name is issued at one of few times, so that it comes again.
                let issued = Timestamp((*clock + issued) / 4000 * 4000);
                RequestId { issued, nonce: [name; 16] }
            });
            (call(request), operation.clone())
        }
        What::CloseByPassword { session, knows } => {
            let id = pick_session(model, *session)?;
            let password = if *knows { model.sessions.get(&id)?.password } else { [7; 16] };
            let reason = CloseReason::ByPassword(password);
            (call(None), Operation::CloseSession { session: SessionId(id), reason })
        }
        What::CloseByOperator { session } => {
            let session = SessionId(pick_session(model, *session)?);
            (call(None), Operation::CloseSession { session, reason: CloseReason::ByOperator })
        }
        What::Expire { session, is_late } => {
            let id = pick_session(model, *session)?;
            let epoch = model.sessions.get(&id).map_or(1, |session| session.epoch) - u64::from(*is_late);
            let reason = CloseReason::Expired { epoch: AttachEpoch(epoch) };
            (Origin::House, Operation::CloseSession { session: SessionId(id), reason })
        }
        What::ExpireNode { node, is_late } => {
            let path = pick_expirable(model, *node)?;
            let node = &model.nodes[&path];
            let (czxid, mzxid) = (Zxid(node.czxid), Zxid(node.mzxid));
            let pzxid = Zxid(node.pzxid + u64::from(*is_late));
            (Origin::House, Operation::ExpireNode { path, czxid, mzxid, pzxid })
        }
        What::Set(setting) => (Origin::House, Operation::Set(setting.clone())),
        What::Publish(text) => (Origin::House, Operation::PublishConfig { text: vec![*text; 3].into() }),
        What::Mark => (Origin::House, Operation::DigestMark),
    };
    let operation = aimed(operation, model);
    Some((stamp, Command { origin, identities: identities(step.who), operation }))
}

fn origin(model: &Model, id: u64, number: Numbering, is_late: bool, acknowledges: u8) -> Origin {
    let (last, epoch) =
        model.sessions.get(&id).map_or((0, 1), |session| (session.last_applied, session.epoch));
    let number = match number {
        Numbering::Next => last + 1,
        Numbering::Repeat(back) => (last + 1).saturating_sub(back.into()).max(1),
        Numbering::Gap(ahead) => last + 1 + u64::from(ahead),
    };
    Origin::Session {
        session: SessionId(id),
        epoch: AttachEpoch(epoch - u64::from(is_late)),
        number: WriteNumber(number),
        acknowledged: WriteNumber(last.saturating_sub(acknowledges.into())),
    }
}

/// Mostly one that there is, sometimes one that was or will be.
fn pick_session(model: &Model, session: u8) -> Option<u64> {
    let ids: Vec<u64> = model.sessions.keys().copied().collect();
    match ids.len() {
        0 if model.last_session == 0 => None,
        0 => Some(u64::from(session) % (model.last_session + 1) + 1),
        _ if session >= 250 => Some(u64::from(session) % (model.last_session + 1) + 1),
        count => Some(ids[usize::from(session) % count]),
    }
}

/// The reserved nodes only now and then.
fn pick_node(model: &Model, node: u16) -> String {
    let place = usize::from(node);
    let made: Vec<&String> = model.nodes.keys().filter(|path| model.nodes[*path].czxid > 0).collect();
    if made.is_empty() || place % 16 == 15 {
        model.nodes.keys().nth(place / 16 % model.nodes.len()).expect("counted around").clone()
    } else {
        made[place / 16 % made.len()].clone()
    }
}

fn pick_expirable(model: &Model, node: u16) -> Option<String> {
    let is_expirable = |kind: Kind| matches!(kind, Kind::Ttl | Kind::Container);
    let all: Vec<_> = model.nodes.iter().filter(|(_, node)| is_expirable(node.kind)).collect();
    match all.len() {
        0 => None,
        _ if node.is_multiple_of(8) => Some(pick_node(model, node)),
        count => Some(all[usize::from(node) % count].0.clone()),
    }
}

fn aimed(mut operation: Operation, model: &Model) -> Operation {
    match &mut operation {
        Operation::Create(create) => aim_path(&mut create.path, model),
        Operation::Delete { path, .. }
        | Operation::DeleteRecursive { path, .. }
        | Operation::SetData { path, .. }
        | Operation::SetAcl { path, .. } => aim_path(path, model),
        Operation::Multi(operations) => {
            for operation in operations {
                match operation {
                    MultiOperation::Create(create) => aim_path(&mut create.path, model),
                    MultiOperation::Delete { path, .. }
                    | MultiOperation::SetData { path, .. }
                    | MultiOperation::Check { path, .. } => aim_path(path, model),
                    MultiOperation::Guard(guard) => aim_guard(guard, model),
                }
            }
        }
        _ => {}
    }
    operation
}

fn aim_path(path: &mut String, model: &Model) {
    let Some(rest) = path.strip_prefix('?') else { return };
    let (node, name) = rest.split_once('/').map_or((rest, None), |(node, name)| (node, Some(name)));
    let node = pick_node(model, node.parse().expect("made of a number"));
    *path = match name {
        None => node,
        // Five levels are enough to find what goes wrong with levels.
        Some(name) if node == "/" || node.matches('/').count() > 4 => format!("/{name}"),
        Some(name) => format!("{node}/{name}"),
    };
}

/// Some guards hold.
fn aim_guard(guard: &mut Guard, model: &Model) {
    let (Guard::Lock { path, .. }
    | Guard::Modified { path, .. }
    | Guard::Created { path, .. }
    | Guard::Absent { path }) = guard;
    aim_path(path, model);
    let path = path.clone();
    let node = model.nodes.get(&path);
    match guard {
        Guard::Lock { token, .. } if token.0 > 2 => *token = Zxid(model.holder(&path).unwrap_or(0)),
        Guard::Modified { zxid, .. } if zxid.0 > 2 => *zxid = Zxid(node.map_or(0, |node| node.mzxid)),
        Guard::Created { zxid, .. } if zxid.0 > 2 => *zxid = Zxid(node.map_or(0, |node| node.czxid)),
        _ => {}
    }
}

/// An error without its words, which are for people.
pub fn bare(error: &Error) -> Error {
    Error { detail: String::new(), ..error.clone() }
}
