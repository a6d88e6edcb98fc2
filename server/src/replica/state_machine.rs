//! Committed entries on their way to the local state, in log order.
//!
//! openraft calls this from one task, so "what has been applied" and "freeze it now" never race.
//! What it reports as applied after a restart is what the durable checkpoint holds: everything
//! above is applied again from the log. Next room: local_state.

use std::io;
use std::sync::Arc;

use futures_util::{Stream, StreamExt};
use openraft::entry::RaftEntry;
use openraft::storage::{EntryResponder, RaftSnapshotBuilder, RaftStateMachine};
use openraft::{EntryPayload, OptionalSend};
use quorate_core::batch::Batch;

use super::snapshots::{Snapshot, SnapshotHandle, Snapshots};
use super::types::{LogId, SnapshotMeta, StoredMembership, TypeConfig};
use crate::local_state::LocalState;
use crate::metrics::Metrics;

/// What openraft drives.
#[derive(Debug)]
pub struct StateMachine {
    local: Arc<LocalState>,
    snapshots: Arc<Snapshots>,
    metrics: Metrics,
    applied: Option<LogId>,
    membership: StoredMembership,
}

impl StateMachine {
    /// Around a state that was loaded up to `applied`.
    pub fn new(
        local: Arc<LocalState>,
        snapshots: Arc<Snapshots>,
        metrics: Metrics,
        applied: Option<LogId>,
        membership: StoredMembership,
    ) -> StateMachine {
        StateMachine { local, snapshots, metrics, applied, membership }
    }

    fn meta(&self) -> SnapshotMeta {
        SnapshotMeta { last_log_id: self.applied, last_membership: self.membership.clone() }
    }

    fn apply_payload(&self, index: u64, payload: &bytes::Bytes) -> io::Result<()> {
        let _timer = self.metrics.apply.start_timer();
        let undecodable = |error: &dyn std::fmt::Display| {
            io::Error::new(
                io::ErrorKind::InvalidData,
                format!(
                    "log entry {index} cannot be understood: {error}. It was written by a newer version, or the log is \
                     damaged: upgrade this member, or replace it (quorate cluster replace)"
                ),
            )
        };
        let (stamp, commands) = Batch::parse(payload).map_err(|error| undecodable(&error))?;
        // All or nothing: an entry that cannot be decoded to its end must not be half applied.
        let commands: Vec<_> = commands.collect::<Result<_, _>>().map_err(|error| undecodable(&error))?;
        self.local.apply(index, &stamp, &commands);
        Ok(())
    }
}

impl RaftStateMachine<TypeConfig> for StateMachine {
    type SnapshotData = SnapshotHandle;
    type SnapshotBuilder = CheckpointBuilder;

    async fn applied_state(&mut self) -> Result<(Option<LogId>, StoredMembership), io::Error> {
        Ok((self.applied, self.membership.clone()))
    }

    async fn apply<Strm>(&mut self, mut entries: Strm) -> Result<(), io::Error>
    where
        Strm: Stream<Item = Result<EntryResponder<TypeConfig>, io::Error>> + Unpin + OptionalSend,
    {
        while let Some(next) = entries.next().await {
            let (entry, responder) = next?;
            let log_id = entry.log_id();
            match entry.payload {
                EntryPayload::Blank => self.local.apply_nothing(log_id.index()),
                EntryPayload::Normal(payload) => self.apply_payload(log_id.index(), &payload.0)?,
                EntryPayload::Membership(membership) => {
                    self.membership = StoredMembership::new(Some(log_id), membership);
                    self.local.apply_nothing(log_id.index());
                }
            }
            self.applied = Some(log_id);
            if let Some(responder) = responder {
                responder.send(());
            }
        }
        Ok(())
    }

    async fn try_create_snapshot_builder(&mut self, _force: bool) -> Option<CheckpointBuilder> {
        let builder = CheckpointBuilder { snapshots: self.snapshots.clone(), meta: self.meta() };
        self.snapshots.freeze(&builder.meta).then_some(builder)
    }

    async fn get_snapshot_builder(&mut self) -> CheckpointBuilder {
        let builder = CheckpointBuilder { snapshots: self.snapshots.clone(), meta: self.meta() };
        self.snapshots.freeze(&builder.meta);
        builder
    }

    async fn install_snapshot(
        &mut self,
        meta: &SnapshotMeta,
        snapshot: SnapshotHandle,
    ) -> Result<(), io::Error> {
        let state = self.snapshots.install(snapshot).await?;
        let index = meta.last_log_id.as_ref().map_or(0, |log_id| log_id.index());
        self.local.install(state, index);
        self.applied = meta.last_log_id;
        self.membership = meta.last_membership.clone();
        Ok(())
    }

    async fn get_current_snapshot(&mut self) -> Result<Option<Snapshot>, io::Error> {
        Ok(self.snapshots.current())
    }
}

/// Waits for the checkpoint that was frozen when this was made.
#[derive(Debug)]
pub struct CheckpointBuilder {
    snapshots: Arc<Snapshots>,
    meta: SnapshotMeta,
}

impl RaftSnapshotBuilder<TypeConfig> for CheckpointBuilder {
    type SnapshotData = SnapshotHandle;

    async fn build_snapshot(&mut self) -> Result<Snapshot, io::Error> {
        self.snapshots.write_frozen().await?;
        Ok(Snapshot { meta: self.meta.clone(), snapshot: SnapshotHandle::Checkpoint })
    }
}
