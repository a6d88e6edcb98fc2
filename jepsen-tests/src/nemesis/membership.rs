//! A new member joins while clients work, gets a vote, and is taken out again; it may have become leader meanwhile.

use futures_util::FutureExt;
use futures_util::future::LocalBoxFuture;

use super::Nemesis;
use crate::cluster::{Cluster, ClusterError};

/// See the file's comment.
#[derive(Clone, Copy, Debug)]
pub struct Membership;

impl Nemesis for Membership {
    fn name(&self) -> &'static str {
        "membership"
    }

    fn about(&self) -> &'static str {
        "a new member joins, votes, and is taken out again"
    }

    fn inflict<'a>(
        &'a self,
        cluster: &'a mut Cluster,
        random: &'a mut fastrand::Rng,
    ) -> LocalBoxFuture<'a, Result<Vec<u64>, ClusterError>> {
        async move {
            let _ = random;
            let id = cluster.join().await?;
            Ok(vec![id])
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
                cluster.take_out(*id).await?;
            }
            Ok(())
        }
        .boxed_local()
    }
}
