//! Every member is asked to stop (SIGTERM) and started again, one after the other, as for an upgrade.
//! One that ends with anything but success is told by [`Cluster::panics`].

use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::LocalBoxFuture;

use super::Nemesis;
use crate::cluster::{Cluster, ClusterError};

/// How long a member may take to end when it is asked to.
const STOP_PATIENCE: Duration = Duration::from_secs(20);

/// See the file's comment.
#[derive(Clone, Copy, Debug)]
pub struct RollingRestart;

impl Nemesis for RollingRestart {
    fn name(&self) -> &'static str {
        "rolling-restart"
    }

    fn about(&self) -> &'static str {
        "SIGTERM and restart of every member, one after the other"
    }

    fn inflict<'a>(
        &'a self,
        cluster: &'a mut Cluster,
        random: &'a mut fastrand::Rng,
    ) -> LocalBoxFuture<'a, Result<Vec<u64>, ClusterError>> {
        async move {
            let mut ids = cluster.running();
            random.shuffle(&mut ids);
            cluster.terminate(ids[0], STOP_PATIENCE).await?;
            Ok(ids)
        }
        .boxed_local()
    }

    fn heal<'a>(
        &'a self,
        cluster: &'a mut Cluster,
        members: &'a [u64],
    ) -> LocalBoxFuture<'a, Result<(), ClusterError>> {
        async move {
            let mut down = members[0];
            for id in &members[1..] {
                cluster.restart(down).await?;
                cluster.terminate(*id, STOP_PATIENCE).await?;
                down = *id;
            }
            // The last one's recovery is the cluster's.
            cluster.launch(down)
        }
        .boxed_local()
    }
}
