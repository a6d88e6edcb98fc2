//! Every fsync of one member fails. A member whose fsync failed must stop, and never try again as if it had worked: one that
//! still runs while others write is an error of its own. Then the disk works again, and the member is started.

use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::LocalBoxFuture;

use super::{Needs, Nemesis};
use crate::cluster::{Cluster, ClusterError};

/// How long a member may run on with a disk on which nothing is durable.
const STOP_PATIENCE: Duration = Duration::from_secs(20);

/// See the file's comment.
#[derive(Clone, Copy, Debug)]
pub struct FailingFsync;

impl Nemesis for FailingFsync {
    fn name(&self) -> &'static str {
        "failing-fsync"
    }

    fn about(&self) -> &'static str {
        "every fsync of one member fails: it must stop; then a restart"
    }

    fn needs(&self) -> Needs {
        Needs { faults: true, ..Needs::default() }
    }

    fn inflict<'a>(
        &'a self,
        cluster: &'a mut Cluster,
        random: &'a mut fastrand::Rng,
    ) -> LocalBoxFuture<'a, Result<Vec<u64>, ClusterError>> {
        async move {
            let victim = super::leader_or_any(cluster, random).await?;
            cluster.faults(victim)?.fail_sync(true)?;
            Ok(vec![victim])
        }
        .boxed_local()
    }

    fn heal<'a>(
        &'a self,
        cluster: &'a mut Cluster,
        members: &'a [u64],
    ) -> LocalBoxFuture<'a, Result<(), ClusterError>> {
        async move {
            for id in members {
                // Writes go on all the while, so there is something to sync.
                cluster.reap(*id, STOP_PATIENCE).await?;
                cluster.faults(*id)?.fail_sync(false)?;
            }
            super::launch(cluster, members).await
        }
        .boxed_local()
    }
}
