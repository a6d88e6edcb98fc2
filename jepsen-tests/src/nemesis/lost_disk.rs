//! A member is killed and its disk is gone. The operator replaces it: same address, empty disk, new id.

use futures_util::FutureExt;
use futures_util::future::LocalBoxFuture;

use super::Nemesis;
use crate::cluster::{Cluster, ClusterError};

/// See the file's comment.
#[derive(Clone, Copy, Debug)]
pub struct LostDisk;

impl Nemesis for LostDisk {
    fn name(&self) -> &'static str {
        "lost-disk"
    }

    fn about(&self) -> &'static str {
        "kill -9 of one member, its disk wiped, replaced under a new id"
    }

    fn inflict<'a>(
        &'a self,
        cluster: &'a mut Cluster,
        random: &'a mut fastrand::Rng,
    ) -> LocalBoxFuture<'a, Result<Vec<u64>, ClusterError>> {
        async move {
            let victim = super::leader_or_any(cluster, random).await?;
            cluster.kill(victim)?;
            cluster.wipe(victim)?;
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
                cluster.replace(*id).await?;
            }
            Ok(())
        }
        .boxed_local()
    }
}
