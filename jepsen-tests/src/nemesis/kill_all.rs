//! SIGKILL of all members at once, then restarts: what was acknowledged is on the disks.

use futures_util::FutureExt;
use futures_util::future::LocalBoxFuture;

use super::Nemesis;
use crate::cluster::{Cluster, ClusterError};

/// See the file's comment.
#[derive(Clone, Copy, Debug)]
pub struct KillAll;

impl Nemesis for KillAll {
    fn name(&self) -> &'static str {
        "kill-all"
    }

    fn about(&self) -> &'static str {
        "kill -9 of all members at once, then restarts"
    }

    fn inflict<'a>(
        &'a self,
        cluster: &'a mut Cluster,
        random: &'a mut fastrand::Rng,
    ) -> LocalBoxFuture<'a, Result<Vec<u64>, ClusterError>> {
        async move {
            let _ = random;
            let ids = cluster.running();
            for id in &ids {
                cluster.kill(*id)?;
            }
            Ok(ids)
        }
        .boxed_local()
    }

    fn heal<'a>(
        &'a self,
        cluster: &'a mut Cluster,
        members: &'a [u64],
    ) -> LocalBoxFuture<'a, Result<(), ClusterError>> {
        super::launch(cluster, members).boxed_local()
    }
}
