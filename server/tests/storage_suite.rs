//! openraft's own conformance suite on our log, with a small state machine beside it.
//!
//! The state machine here only remembers; the real one is tested where it lives.

use std::io;
use std::sync::Arc;

use futures_util::{Stream, TryStreamExt};
use openraft::storage::{EntryResponder, RaftSnapshotBuilder, RaftStateMachine, Snapshot};
use openraft::testing::log::{StoreBuilder, Suite};
use quorate_server::replica::log_store::{Begin, LogOptions, LogStore, Pace, WriterMode};
use quorate_server::replica::types::{EntryPayload, LogId, SnapshotMeta, StoredMembership, TypeConfig};

#[derive(Clone, Default)]
struct Remembers {
    applied: Option<LogId>,
    membership: StoredMembership,
    snapshot: Option<SnapshotMeta>,
}

type NoSnapshot = openraft::type_config::alias::SnapshotOf<TypeConfig, ()>;

impl RaftSnapshotBuilder<TypeConfig> for Remembers {
    type SnapshotData = ();

    async fn build_snapshot(&mut self) -> io::Result<NoSnapshot> {
        let meta = SnapshotMeta { last_log_id: self.applied, last_membership: self.membership.clone() };
        Ok(Snapshot { meta, snapshot: () })
    }
}

/// A builder that leaves its snapshot with the state machine, as the suite expects.
struct Builder(std::sync::Arc<std::sync::Mutex<Remembers>>);

impl RaftSnapshotBuilder<TypeConfig> for Builder {
    type SnapshotData = ();

    async fn build_snapshot(&mut self) -> io::Result<NoSnapshot> {
        let mut copy = self.0.lock().expect("not poisoned").clone();
        let built = copy.build_snapshot().await?;
        self.0.lock().expect("not poisoned").snapshot = Some(built.meta.clone());
        Ok(built)
    }
}

#[derive(Default)]
struct Machine(std::sync::Arc<std::sync::Mutex<Remembers>>);

impl RaftStateMachine<TypeConfig> for Machine {
    type SnapshotData = ();
    type SnapshotBuilder = Builder;

    async fn applied_state(&mut self) -> io::Result<(Option<LogId>, StoredMembership)> {
        let inner = self.0.lock().expect("not poisoned");
        Ok((inner.applied, inner.membership.clone()))
    }

    async fn apply<S>(&mut self, mut entries: S) -> io::Result<()>
    where
        S: Stream<Item = io::Result<EntryResponder<TypeConfig>>> + Unpin + Send,
    {
        while let Some((entry, responder)) = entries.try_next().await? {
            let mut inner = self.0.lock().expect("not poisoned");
            inner.applied = Some(entry.log_id);
            if let EntryPayload::Membership(membership) = entry.payload {
                inner.membership = StoredMembership::new(Some(entry.log_id), membership);
            }
            drop(inner);
            if let Some(responder) = responder {
                responder.send(());
            }
        }
        Ok(())
    }

    async fn get_snapshot_builder(&mut self) -> Builder {
        Builder(self.0.clone())
    }

    async fn install_snapshot(&mut self, meta: &SnapshotMeta, _data: ()) -> io::Result<()> {
        let mut inner = self.0.lock().expect("not poisoned");
        inner.applied = meta.last_log_id;
        inner.membership = meta.last_membership.clone();
        inner.snapshot = Some(meta.clone());
        Ok(())
    }

    async fn get_current_snapshot(&mut self) -> io::Result<Option<NoSnapshot>> {
        let inner = self.0.lock().expect("not poisoned");
        Ok(inner.snapshot.clone().map(|meta| Snapshot { meta, snapshot: () }))
    }
}

struct OnDisk(WriterMode);

impl StoreBuilder<TypeConfig, LogStore, Machine, tempfile::TempDir> for OnDisk {
    async fn build(
        &self,
    ) -> Result<(tempfile::TempDir, LogStore, Machine), openraft::StorageError<TypeConfig>> {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let mut options = LogOptions::new(directory.path().join("log"));
        options.writer = self.0.clone();
        // So small that rotation and reads from the disk take part.
        options.segment_bytes = 512;
        options.cache_bytes = 256;
        let (log, _) = LogStore::open(options, Begin::New).expect("a new log");
        Ok((directory, log, Machine::default()))
    }
}

#[tokio::test]
async fn openraft_accepts_the_log_with_its_writer_thread() {
    Suite::test_all(OnDisk(WriterMode::Thread)).await.expect("the suite passes");
}

#[tokio::test]
async fn openraft_accepts_the_log_written_inline() {
    Suite::test_all(OnDisk(WriterMode::Inline)).await.expect("the suite passes");
}

#[tokio::test]
async fn openraft_accepts_the_log_written_by_a_task() {
    let pace = Pace {
        spawn: Arc::new(|task| drop(tokio::spawn(task))),
        pause: Arc::new(|| std::time::Duration::ZERO),
    };
    Suite::test_all(OnDisk(WriterMode::Task(pace))).await.expect("the suite passes");
}
