//! The power fails in the middle of a write: behind what is durable the log has some sectors of the
//! next batch. The member must cut that off and start.

use futures_util::FutureExt;
use futures_util::future::LocalBoxFuture;

use super::{Nemesis, log_files};
use crate::cluster::{Cluster, ClusterError};

/// See the file's comment.
#[derive(Clone, Copy, Debug)]
pub struct TornTail;

impl Nemesis for TornTail {
    fn name(&self) -> &'static str {
        "torn-tail"
    }

    fn about(&self) -> &'static str {
        "kill -9 of one member, some sectors of a batch at the end of its log, a restart"
    }

    fn inflict<'a>(
        &'a self,
        cluster: &'a mut Cluster,
        random: &'a mut fastrand::Rng,
    ) -> LocalBoxFuture<'a, Result<Vec<u64>, ClusterError>> {
        async move {
            let victim = super::leader_or_any(cluster, random).await?;
            cluster.kill(victim)?;
            let folder = cluster.member(victim).data_dir.join("log");
            let torn = log_files::tear(&folder, random);
            match torn.map_err(|source| ClusterError::Files { path: folder, source })? {
                true => Ok(vec![victim]),
                // A segment without any batch: nothing was torn.
                false => super::unhurt(cluster, victim).await,
            }
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
