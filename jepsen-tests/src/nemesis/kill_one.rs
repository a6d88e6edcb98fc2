//! SIGKILL of one random member, then a restart.

use futures_util::FutureExt;
use futures_util::future::LocalBoxFuture;

use super::Nemesis;
use crate::cluster::{Cluster, ClusterError};

/// See the file's comment.
#[derive(Clone, Copy, Debug)]
pub struct KillOne;

impl Nemesis for KillOne {
    fn name(&self) -> &'static str {
        "kill-one"
    }

    fn about(&self) -> &'static str {
        "kill -9 of a random member, then a restart"
    }

    fn inflict<'a>(
        &'a self,
        cluster: &'a mut Cluster,
        random: &'a mut fastrand::Rng,
    ) -> LocalBoxFuture<'a, Result<Vec<u64>, ClusterError>> {
        async move {
            let victim = super::any(cluster, random);
            cluster.kill(victim)?;
            Ok(vec![victim])
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
