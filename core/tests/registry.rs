//! The registry over the real state: registrations are writes, deaths are sessions' ends, and
//! whoever follows the changes has what whoever loads has.

use std::sync::Arc;

use quorate_core::acl::AclEntry;
use quorate_core::change::{ChangeKind, Value};
use quorate_core::command::{CloseReason, Command, Create, Operation, Origin, Stamp};
use quorate_core::error::ErrorKind;
use quorate_core::id::{MemberId, SessionId, WriteNumber, Zxid};
use quorate_core::registry::{
    Balancing, Catalog, Filter, Health, Instance, Mode, Policy, Service, ServiceName, layout, registration,
};
use quorate_core::reply::{ReadResult, WriteResult};
use quorate_core::request::ReadRequest;
use quorate_core::ring::Placement;
use quorate_core::state::{Answer, Caller, State};
use quorate_core::znode::CreateMode;

/// A state, and a catalog that follows its changes.
struct World {
    state: State,
    followed: Catalog,
    written: std::collections::BTreeMap<SessionId, u64>,
}

impl World {
    fn new() -> World {
        World { state: State::new(), followed: Catalog::default(), written: Default::default() }
    }

    fn apply(&mut self, origin: Origin, operation: Operation) -> Result<WriteResult, ErrorKind> {
        let applied =
            self.state.apply(&Stamp::default(), &Command { origin, identities: Vec::new(), operation });
        for change in &applied.changes {
            let zxid = change.position.zxid;
            match (&change.kind, &change.value) {
                (ChangeKind::Deleted, _) => self.followed.remove(&change.path, zxid),
                (_, Value::Kept(data)) => self.followed.put(&change.path, data.as_deref(), &change.stat),
                (_, Value::NotKept) => {
                    let read = ReadRequest::Get { path: change.path.to_string(), watch: None };
                    let caller = Caller { identities: &[], session: None };
                    let Ok(ReadResult::Data { data, stat }) = self.state.read(&read, &caller) else {
                        panic!("a node that was just written is there");
                    };
                    self.followed.put(&change.path, data.as_deref(), &stat);
                }
            }
        }
        self.followed.settle();
        match applied.answer {
            Answer::Reply(reply) => reply.result.map_err(|error| error.kind),
            other => panic!("{other:?}"),
        }
    }

    fn write(&mut self, operation: Operation) -> Result<WriteResult, ErrorKind> {
        self.apply(Origin::House, operation)
    }

    fn open_session(&mut self) -> SessionId {
        let origin = Origin::Call { member: MemberId(1), ticket: 1, request: None };
        match self.apply(origin, Operation::OpenSession { timeout_ms: 4000, member: MemberId(1) }) {
            Ok(WriteResult::SessionOpened(attachment)) => attachment.session,
            other => panic!("{other:?}"),
        }
    }

    fn write_in(&mut self, session: SessionId, operation: Operation) -> Result<WriteResult, ErrorKind> {
        let number = self.written.entry(session).or_default();
        *number += 1;
        let epoch = self.state.session(session).expect("open").epoch;
        let number = WriteNumber(*number);
        self.apply(Origin::Session { session, epoch, number, acknowledged: WriteNumber(0) }, operation)
    }

    fn make_parents(&mut self, service: &ServiceName) {
        for (path, is_container) in service.parents() {
            let mode = if is_container { CreateMode::Container } else { CreateMode::Persistent };
            let create = Create { path, data: None, acl: AclEntry::open(), mode };
            let created = self.write(Operation::Create(create));
            assert!(matches!(created, Ok(_) | Err(ErrorKind::NodeExists)));
        }
    }

    fn register(
        &mut self,
        service: &ServiceName,
        instance: &Instance,
        session: Option<SessionId>,
    ) -> Result<WriteResult, ErrorKind> {
        self.make_parents(service);
        let existing = self.service(service).and_then(|service| service.entry(&instance.id).cloned());
        let operation = registration::register(service, instance, session, existing.as_deref());
        let operation = operation.map_err(|error| error.kind)?;
        match session {
            Some(session) => self.write_in(session, operation),
            None => self.write(operation),
        }
    }

    fn service(&self, name: &ServiceName) -> Option<Arc<Service>> {
        self.followed.service(name).cloned()
    }

    /// Loads a catalog from the tree, as a member does that has just started.
    fn load(&self) -> Catalog {
        let mut catalog = Catalog::default();
        let mut open = vec![layout::ROOT.to_string()];
        while let Some(path) = open.pop() {
            let list = ReadRequest::List {
                path: path.clone(),
                after: None,
                limit: 0,
                with_stat: true,
                with_data: true,
                watch: None,
            };
            let caller = Caller { identities: &[], session: None };
            let Ok(ReadResult::Children { children, .. }) = self.state.read(&list, &caller) else { continue };
            for child in children {
                let path = format!("{path}/{}", child.name);
                catalog.put(&path, child.data.as_deref(), &child.stat.expect("asked for"));
                open.push(path);
            }
        }
        catalog.settle();
        catalog
    }

    fn check_that_loading_finds_the_same(&self) {
        let loaded = self.load();
        let show = |catalog: &Catalog| -> Vec<String> {
            let show = |service: &Arc<Service>| {
                let (name, version) = (service.name().to_string(), service.version());
                format!("{name} {version} {:?} {:?}", service.entries(), service.policy_entry())
            };
            catalog.services().map(show).collect()
        };
        assert_eq!(show(&loaded), show(&self.followed));
    }
}

fn name(text: &str) -> ServiceName {
    text.parse().expect("a valid name")
}

fn instance(id: &str) -> Instance {
    Instance::new(id, "10.0.0.1", 8000)
}

#[test]
fn an_instance_lives_with_its_session() {
    let (mut world, orders) = (World::new(), name("orders"));
    let session = world.open_session();
    world.register(&orders, &instance("a"), Some(session)).expect("registers");
    world.register(&orders, &instance("b"), None).expect("registers");
    assert_eq!(world.service(&orders).expect("there").entries().len(), 2);
    world.check_that_loading_finds_the_same();
    let close = Operation::CloseSession { session, reason: CloseReason::ByOperator };
    world.write(close).expect("closes");
    let service = world.service(&orders).expect("there");
    assert_eq!(service.entries().len(), 1);
    assert_eq!(service.version(), world.state.zxid());
    world.check_that_loading_finds_the_same();
}

#[test]
fn duplicates_are_refused_and_higher_generations_replace() {
    let (mut world, orders) = (World::new(), name("shop/orders"));
    let (first, second) = (world.open_session(), world.open_session());
    let mut record = instance("a");
    record.generation = 7;
    world.register(&orders, &record, Some(first)).expect("registers");
    // The owner may change its record; nobody else may take its name.
    record.weight = 5;
    world.register(&orders, &record, Some(first)).expect("updates");
    assert_eq!(world.register(&orders, &record, Some(second)), Err(ErrorKind::NodeExists));
    record.generation = 6;
    assert_eq!(world.register(&orders, &record, Some(second)), Err(ErrorKind::NodeExists));
    record.generation = 8;
    let before = world.service(&orders).expect("there");
    world.register(&orders, &record, Some(second)).expect("replaces");
    let after = world.service(&orders).expect("there");
    assert_eq!(after.entry("a").expect("there").owner, second);
    // At once: nobody saw the service without it.
    assert_eq!(after.since(&before).removed, Vec::<String>::new());
    assert_eq!(after.since(&before).put.len(), 1);
    // The former owner's end takes nothing with it.
    let close = Operation::CloseSession { session: first, reason: CloseReason::ByOperator };
    world.write(close).expect("closes");
    assert_eq!(world.service(&orders).expect("there").entries().len(), 1);
    world.check_that_loading_finds_the_same();
}

#[test]
fn what_was_judged_of_a_registration_does_not_touch_the_one_in_its_place() {
    let (mut world, orders) = (World::new(), name("orders"));
    let (first, second) = (world.open_session(), world.open_session());
    let old = Instance { health: Health::Critical, ..instance("a") };
    world.register(&orders, &old, Some(first)).expect("registers");
    let judged = world.service(&orders).expect("there").entry("a").expect("there").clone();
    let new = Instance { generation: 1, address: "10.0.0.2".into(), ..old.clone() };
    world.register(&orders, &new, Some(second)).expect("replaces");
    let standing = world.service(&orders).expect("there").entry("a").expect("there").clone();
    assert_eq!(standing.version, judged.version, "or the version alone would tell them apart");
    // What a check found, the old process's update and farewell, and a generation between.
    let found = Instance { health: Health::Passing, ..old.clone() };
    let update = Instance { weight: 5, ..old.clone() };
    let between = Instance { generation: 1, ..old.clone() };
    let late = [
        (first, registration::change(&orders, &judged, &found).expect("valid")),
        (first, registration::register(&orders, &update, Some(first), Some(&judged)).expect("its owner")),
        (first, registration::register(&orders, &between, Some(first), Some(&judged)).expect("higher")),
        (first, registration::deregister(&orders, &judged)),
    ];
    for (session, write) in late {
        assert_eq!(world.write_in(session, write.clone()), Err(ErrorKind::GuardFailed), "{write:?}");
        assert_eq!(world.service(&orders).expect("there").entry("a"), Some(&standing));
    }
    // A change of the same registration is told as such.
    let change = registration::change(&orders, &standing, &Instance { weight: 2, ..new.clone() });
    world.write(change.expect("valid")).expect("changes");
    assert_eq!(world.write(registration::deregister(&orders, &standing)), Err(ErrorKind::BadVersion));
    let changed = world.service(&orders).expect("there").entry("a").expect("there").clone();
    world.write(registration::deregister(&orders, &changed)).expect("removes");
    assert!(world.service(&orders).expect("there").entries().is_empty());
}

#[test]
fn a_version_is_answered_or_gone_but_never_wrong() {
    let (mut world, orders) = (World::new(), name("orders"));
    let mut owners = Vec::new();
    for id in 0..40 {
        let mut record = instance(&format!("i{id}"));
        record.address = format!("10.0.0.{id}");
        world.register(&orders, &record, None).expect("registers");
        let service = world.service(&orders).expect("there");
        owners.push((service.version(), service.ring().locate(b"key", 1)[0].instance.id.clone()));
    }
    let mut gone = 0;
    for (version, owner) in &owners {
        match world.followed.service_at(&orders, *version) {
            Ok(found) => {
                let found = found.expect("there");
                assert_eq!(
                    (found.version(), &found.ring().locate(b"key", 1)[0].instance.id),
                    (*version, owner)
                );
            }
            Err(error) => {
                assert_eq!(error.kind, ErrorKind::WatchGap);
                gone += 1;
            }
        }
    }
    assert_eq!(gone, 40 - 17);
    // In force since its version, until the next.
    let later = Zxid(world.state.zxid().0 + 100);
    let found = world.followed.service_at(&orders, later).expect("in force").expect("there");
    assert_eq!(found.version(), owners.last().expect("some").0);
}

#[test]
fn the_critical_are_left_out_until_too_many_are() {
    let (mut world, orders) = (World::new(), name("orders"));
    let set = |world: &mut World, id: &str, health, mode| {
        let mut record = instance(id);
        record.address = format!("{id}.example");
        (record.health, record.mode) = (health, mode);
        world.register(&orders, &record, None).expect("registers");
    };
    let serving = |world: &World| {
        let (entries, is_panicking) = world.service(&orders).expect("there").serving();
        (entries.iter().map(|entry| entry.instance.id.clone()).collect::<String>(), is_panicking)
    };
    for id in ["a", "b", "c", "d"] {
        set(&mut world, id, Health::Passing, Mode::Serving);
    }
    set(&mut world, "a", Health::Critical, Mode::Serving);
    assert_eq!(serving(&world), ("bcd".into(), false));
    set(&mut world, "b", Health::Warning, Mode::Maintenance);
    assert_eq!(serving(&world), ("cd".into(), false));
    set(&mut world, "c", Health::Critical, Mode::Serving);
    assert_eq!(serving(&world), ("acd".into(), true), "one of three is less than half");
    let usable = Filter { usable_only: true, ..Filter::default() };
    assert_eq!(world.service(&orders).expect("there").filtered(&usable).count(), 1);
}

#[test]
fn a_draining_owner_is_named_until_it_is_gone() {
    let (mut world, orders) = (World::new(), name("orders"));
    for id in ["a", "b", "c"] {
        let mut record = instance(id);
        record.address = format!("{id}.example");
        world.register(&orders, &record, None).expect("registers");
    }
    let hashes: Vec<u64> = (0..500u64).map(|key| quorate_core::ring::hash_key(key.to_string())).collect();
    let service = world.service(&orders).expect("there");
    let ring = service.ring();
    assert!(hashes.iter().all(|hash| service.handing_over(*hash).is_none()));
    let mut record = service.entry("b").expect("there").instance.clone();
    record.mode = Mode::Draining { window_ms: 1000 };
    let change = registration::change(&orders, service.entry("b").expect("there"), &record).expect("valid");
    world.write(change).expect("drains");
    let draining = world.service(&orders).expect("there");
    for hash in &hashes {
        let owned = ring.entries[ring.ring.owner(*hash).expect("owned")].instance.id == "b";
        assert_eq!(draining.handing_over(*hash).is_some(), owned);
        let owner = draining.ring().ring.owner(*hash).expect("owned");
        assert_ne!(draining.ring().entries[owner].instance.id, "b");
    }
    let remove = registration::deregister(&orders, draining.entry("b").expect("there"));
    world.write(remove).expect("leaves");
    let after = world.service(&orders).expect("there");
    assert!(hashes.iter().all(|hash| after.handing_over(*hash).is_none()));
}

#[test]
fn policies_and_strays_are_followed_and_an_empty_service_is_forgotten() {
    let (mut world, orders) = (World::new(), name("orders"));
    world.register(&orders, &instance("a"), None).expect("registers");
    let policy = Policy { balancing: Balancing::Maglev, ..Policy::default() };
    let create = |path: String, data: &[u8]| {
        let data = Some(data.to_vec().into());
        Operation::Create(Create { path, data, acl: AclEntry::open(), mode: CreateMode::Persistent })
    };
    world.write(create(orders.policy_path(), &policy.encode())).expect("creates");
    assert_eq!(world.service(&orders).expect("there").policy(), policy);
    // What others write by hand harms nobody.
    world.write(create(orders.instance_path("junk"), b"not a record")).expect("creates");
    world.write(create(orders.instance_path("liar"), &instance("other").encode())).expect("creates");
    world.write(create(format!("{}/notes", orders.path()), b"")).expect("creates");
    let service = world.service(&orders).expect("there");
    assert_eq!((service.entries().len(), service.unreadable()), (1, 2));
    assert_eq!(service.version(), world.state.zxid());
    world.check_that_loading_finds_the_same();
    // Metadata beyond what the change log keeps is read from the node.
    let mut large = instance("large");
    large.metadata.insert("notes".into(), "x".repeat(10_000));
    world.register(&orders, &large, None).expect("registers");
    world.check_that_loading_finds_the_same();
    let last = world.service(&orders).expect("there").version();
    let all = Operation::DeleteRecursive { path: orders.path(), version: -1, limit: 100 };
    world.write(all).expect("deletes");
    assert!(world.service(&orders).is_none());
    world.check_that_loading_finds_the_same();
    // Whoever had a version of it cannot be told that nothing has changed since.
    for catalog in [&world.followed, &world.load()] {
        for version in [last, world.state.zxid()] {
            let gap = catalog.service_at(&orders, version).expect_err("not remembered");
            assert_eq!(gap.kind, ErrorKind::WatchGap);
        }
        assert!(catalog.service_at(&name("never"), Zxid(0)).expect("nothing to remember").is_none());
    }
}
