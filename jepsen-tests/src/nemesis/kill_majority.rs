//! SIGKILL of a majority at once: nothing may be acknowledged until it is back.

use futures_util::FutureExt;
use futures_util::future::LocalBoxFuture;

use super::Nemesis;
use crate::cluster::{Cluster, ClusterError};

/// See the file's comment.
#[derive(Clone, Copy, Debug)]
pub struct KillMajority;

impl Nemesis for KillMajority {
    fn name(&self) -> &'static str {
        "kill-majority"
    }

    fn about(&self) -> &'static str {
        "kill -9 of a random majority at once, then restarts"
    }

    fn inflict<'a>(
        &'a self,
        cluster: &'a mut Cluster,
        random: &'a mut fastrand::Rng,
    ) -> LocalBoxFuture<'a, Result<Vec<u64>, ClusterError>> {
        async move {
            let mut ids = cluster.running();
            random.shuffle(&mut ids);
            ids.truncate(ids.len() / 2 + 1);
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
