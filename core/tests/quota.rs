//! A quota's usage is what there is, whatever happened, and a hard limit is never passed.

mod runs;

use proptest::collection::vec;
use proptest::prelude::*;
use quorate_core::acl::{AclEntry, Identity};
use quorate_core::command::{CloseReason, Command, Create, MultiOperation, Operation, Origin, Stamp};
use quorate_core::error::ErrorKind;
use quorate_core::id::{AttachEpoch, MemberId, SessionId, WriteNumber};
use quorate_core::reply::{ReadResult, WriteReply};
use quorate_core::request::ReadRequest;
use quorate_core::state::{Answer, Caller, State, StateLoader};
use quorate_core::znode::CreateMode;
use runs::config;

const COUNT_MAX: u64 = 8;
const BYTES_MAX: u64 = 60;
const STATS: &str = "/zookeeper/quota/q/zookeeper_stats";

#[derive(Clone, Debug)]
enum Step {
    Write(MultiOperation),
    Multi(Vec<MultiOperation>),
    DeleteAll(String),
    /// The session ends and its ephemerals go; another is opened.
    End,
    Restart,
}

fn path() -> impl Strategy<Value = String> {
    const PATHS: [&str; 9] = ["/q", "/q/a", "/q/b", "/q/a/c", "/q/a/d", "/q/b/c", "/qq", "/qq/a", "/other"];
    proptest::sample::select(&PATHS[..]).prop_map(str::to_owned)
}

fn operation() -> impl Strategy<Value = MultiOperation> {
    let data = || proptest::option::of(vec(b'x'..=b'z', 0..30).prop_map(Into::into));
    let mode = prop_oneof![
        Just(CreateMode::Persistent),
        Just(CreateMode::Ephemeral),
        Just(CreateMode::PersistentSequential)
    ];
    prop_oneof![
        4 => (path(), data(), mode).prop_map(|(path, data, mode)| {
            MultiOperation::Create(Create { path, data, acl: AclEntry::open(), mode })
        }),
        2 => (path(), data()).prop_map(|(path, data)| MultiOperation::SetData { path, data, version: -1 }),
        2 => path().prop_map(|path| MultiOperation::Delete { path, version: -1 }),
        1 => path().prop_map(|path| MultiOperation::Check { path, version: 0 }),
    ]
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        8 => operation().prop_map(Step::Write),
        4 => vec(operation(), 1..5).prop_map(Step::Multi),
        1 => path().prop_map(Step::DeleteAll),
        1 => Just(Step::End),
        1 => Just(Step::Restart),
    ]
}

struct Stage {
    state: State,
    session: u64,
    number: u64,
}

impl Stage {
    /// A quota on /q, which is there.
    fn new() -> Stage {
        let mut stage = Stage { state: State::new(), session: 0, number: 0 };
        stage.open();
        let limits = format!("count=-1,bytes=-1=;byteHardLimit={BYTES_MAX};countHardLimit={COUNT_MAX}");
        for (path, data) in [
            ("/q", ""),
            ("/zookeeper/quota/q", ""),
            ("/zookeeper/quota/q/zookeeper_limits", limits.as_str()),
            (STATS, ""),
        ] {
            let data = Some(data.to_owned().into());
            let mode = CreateMode::Persistent;
            let create = Create { path: path.into(), data, acl: AclEntry::open(), mode };
            assert!(stage.write(Operation::Create(create)).result.is_ok());
        }
        stage
    }

    fn open(&mut self) {
        self.session += 1;
        self.number = 0;
        let operation = Operation::OpenSession { timeout_ms: 5000, member: MemberId(1) };
        let origin = Origin::Call { member: MemberId(1), ticket: 0, request: None };
        self.state.apply(&Stamp::default(), &Command { origin, identities: Vec::new(), operation });
    }

    fn write(&mut self, operation: Operation) -> WriteReply {
        self.number += 1;
        let origin = Origin::Session {
            session: SessionId(self.session),
            epoch: AttachEpoch(1),
            number: WriteNumber(self.number),
            acknowledged: WriteNumber(self.number - 1),
        };
        let applied =
            self.state.apply(&Stamp::default(), &Command { origin, identities: Vec::new(), operation });
        match applied.answer {
            Answer::Reply(reply) => reply,
            other => panic!("a write in order was answered {other:?}"),
        }
    }

    fn step(&mut self, step: Step) {
        let before = self.usage();
        let operation = match step {
            Step::Write(operation) => alone(operation),
            Step::Multi(operations) => Operation::Multi(operations),
            Step::DeleteAll(path) => Operation::DeleteRecursive { path, version: -1, limit: 100 },
            Step::End => {
                let reason = CloseReason::ByOwner;
                self.write(Operation::CloseSession { session: SessionId(self.session), reason });
                return self.open();
            }
            Step::Restart => return self.restart(),
        };
        let reply = self.write(operation);
        if reply.result.is_err() {
            assert_eq!(self.usage(), before, "a refusal changed the usage");
        }
    }

    fn restart(&mut self) {
        let mut loader = StateLoader::new();
        for record in self.state.all_records() {
            loader.push(&record.key, &record.value).expect("records of a state load");
        }
        self.state = loader.finish().expect("records of a state load");
    }

    fn check(&self) {
        let (count, bytes) = self.usage();
        assert_eq!(self.data(STATS), format!("count={count},bytes={bytes}"));
        assert!(count <= COUNT_MAX && bytes <= BYTES_MAX, "{count} nodes, {bytes} bytes");
        assert_eq!(self.state.digest(), self.state.recompute_digest());
    }

    /// Nodes and bytes at and below /q, counted one by one.
    fn usage(&self) -> (u64, u64) {
        let mut left = vec!["/q".to_owned()];
        let (mut count, mut bytes) = (0, 0);
        while let Some(path) = left.pop() {
            let Ok(ReadResult::Data { data, .. }) =
                self.read(ReadRequest::Get { path: path.clone(), watch: None })
            else {
                continue;
            };
            count += 1;
            bytes += data.map_or(0, |data| data.len() as u64);
            let list = ReadRequest::List {
                path: path.clone(),
                after: None,
                limit: 0,
                with_stat: false,
                with_data: false,
                watch: None,
            };
            if let Ok(ReadResult::Children { children, .. }) = self.read(list) {
                left.extend(children.iter().map(|child| format!("{path}/{}", child.name)));
            }
        }
        (count, bytes)
    }

    fn data(&self, path: &str) -> String {
        match self.read(ReadRequest::Get { path: path.into(), watch: None }) {
            Ok(ReadResult::Data { data: Some(data), .. }) => String::from_utf8_lossy(&data).into_owned(),
            other => panic!("{path} reads as {other:?}"),
        }
    }

    fn read(&self, request: ReadRequest) -> Result<ReadResult, quorate_core::error::Error> {
        let nobody: [Identity; 0] = [];
        self.state.read(&request, &Caller { identities: &nobody, session: None })
    }
}

fn alone(operation: MultiOperation) -> Operation {
    match operation {
        MultiOperation::Create(create) => Operation::Create(create),
        MultiOperation::Delete { path, version } => Operation::Delete { path, version },
        MultiOperation::SetData { path, data, version } => Operation::SetData { path, data, version },
        other => Operation::Multi(vec![other]),
    }
}

proptest! {
    #![proptest_config(config(64))]

    #[test]
    fn usage_is_what_there_is(steps in vec(step(), 1..60)) {
        let mut stage = Stage::new();
        for step in steps {
            stage.step(step);
            stage.check();
        }
    }
}

#[test]
fn a_transaction_counts_a_large_subtree_once_and_again_but_not_without_end() {
    let mut stage = Stage::new();
    let create = |path: String| {
        MultiOperation::Create(Create {
            path,
            data: None,
            acl: AclEntry::open(),
            mode: CreateMode::Persistent,
        })
    };
    stage.write(alone(create("/a".into())));
    for round in 0..6 {
        let creates = (0..10_000).map(|node| create(format!("/a/{round}-{node}"))).collect();
        assert!(stage.write(Operation::Multi(creates)).result.is_ok());
    }
    stage.write(alone(create("/zookeeper/quota/a".into())));
    let stats = "/zookeeper/quota/a/zookeeper_stats";
    let again = [create(stats.into()), MultiOperation::Delete { path: stats.into(), version: -1 }];
    let refusal = stage.write(Operation::Multi(again.iter().cycle().take(10_000).cloned().collect()));
    let error = refusal.result.expect_err("this would take minutes");
    assert_eq!((error.kind, error.operation), (ErrorKind::TooLarge, Some(4)));
    // What was taken back can be had in a transaction of its own.
    assert!(stage.write(alone(again[0].clone())).result.is_ok());
    assert_eq!(stage.data(stats), "count=60001,bytes=0");
    assert_eq!(stage.state.digest(), stage.state.recompute_digest());
}
