//! SIGKILL of whoever leads, then a restart.

use futures_util::FutureExt;
use futures_util::future::LocalBoxFuture;

use super::Nemesis;
use crate::cluster::{Cluster, ClusterError};

/// See the file's comment.
#[derive(Clone, Copy, Debug)]
pub struct KillLeader;

impl Nemesis for KillLeader {
    fn name(&self) -> &'static str {
        "kill-leader"
    }

    fn about(&self) -> &'static str {
        "kill -9 of the leader, then a restart"
    }

    fn inflict<'a>(
        &'a self,
        cluster: &'a mut Cluster,
        random: &'a mut fastrand::Rng,
    ) -> LocalBoxFuture<'a, Result<Vec<u64>, ClusterError>> {
        let _ = random;
        async move {
            let leader = cluster.leader().await?;
            cluster.kill(leader)?;
            Ok(vec![leader])
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
