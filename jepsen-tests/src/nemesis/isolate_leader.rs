//! The leader alone, all others together; clients reach it still, and it must notice that it leads no more.
//! One time in three clients do not reach it either.

use futures_util::FutureExt;
use futures_util::future::LocalBoxFuture;

use super::{Needs, Nemesis};
use crate::cluster::{Cluster, ClusterError, Weather};

/// See the file's comment.
#[derive(Clone, Copy, Debug)]
pub struct IsolateLeader;

impl Nemesis for IsolateLeader {
    fn name(&self) -> &'static str {
        "isolate-leader"
    }

    fn about(&self) -> &'static str {
        "the leader cut off from the others, now and then from the clients too"
    }

    fn needs(&self) -> Needs {
        Needs { network: true, ..Needs::default() }
    }

    fn inflict<'a>(
        &'a self,
        cluster: &'a mut Cluster,
        random: &'a mut fastrand::Rng,
    ) -> LocalBoxFuture<'a, Result<Vec<u64>, ClusterError>> {
        async move {
            let leader = cluster.leader().await?;
            let others: Vec<u64> = cluster.running().into_iter().filter(|id| *id != leader).collect();
            super::cut_between(cluster.network()?, &[leader], &others);
            if random.u32(..3) == 0 {
                cluster.network()?.set_clients(leader, Weather::cut());
            }
            Ok(vec![leader])
        }
        .boxed_local()
    }
}
