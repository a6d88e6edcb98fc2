//! SIGSTOP of one random member: its connections stay open and silent. Then SIGCONT.

use futures_util::FutureExt;
use futures_util::future::LocalBoxFuture;

use super::Nemesis;
use crate::cluster::{Cluster, ClusterError};

/// See the file's comment.
#[derive(Clone, Copy, Debug)]
pub struct Pause;

impl Nemesis for Pause {
    fn name(&self) -> &'static str {
        "pause"
    }

    fn about(&self) -> &'static str {
        "SIGSTOP of a random member, then SIGCONT"
    }

    fn inflict<'a>(
        &'a self,
        cluster: &'a mut Cluster,
        random: &'a mut fastrand::Rng,
    ) -> LocalBoxFuture<'a, Result<Vec<u64>, ClusterError>> {
        async move {
            let victim = super::any(cluster, random);
            cluster.pause(victim)?;
            Ok(vec![victim])
        }
        .boxed_local()
    }

    fn heal<'a>(
        &'a self,
        cluster: &'a mut Cluster,
        members: &'a [u64],
    ) -> LocalBoxFuture<'a, Result<(), ClusterError>> {
        async move { members.iter().try_for_each(|id| cluster.resume(*id)) }.boxed_local()
    }
}
