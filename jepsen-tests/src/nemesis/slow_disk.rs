//! Every fsync of one member, the leader as often as not, takes long.

use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::LocalBoxFuture;

use super::{Needs, Nemesis};
use crate::cluster::{Cluster, ClusterError};

/// See the file's comment.
#[derive(Clone, Copy, Debug)]
pub struct SlowDisk;

impl Nemesis for SlowDisk {
    fn name(&self) -> &'static str {
        "slow-disk"
    }

    fn about(&self) -> &'static str {
        "every fsync of one member takes 20 to 300 ms"
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
            cluster.faults(victim)?.slow_sync(Duration::from_millis(random.u64(20..300)))?;
            Ok(vec![victim])
        }
        .boxed_local()
    }
}
