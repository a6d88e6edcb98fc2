//! Two halves that hear nothing of each other, and one member that hears both.

use futures_util::FutureExt;
use futures_util::future::LocalBoxFuture;

use super::{Needs, Nemesis};
use crate::cluster::{Cluster, ClusterError};

/// See the file's comment.
#[derive(Clone, Copy, Debug)]
pub struct PartitionBridge;

impl Nemesis for PartitionBridge {
    fn name(&self) -> &'static str {
        "partition-bridge"
    }

    fn about(&self) -> &'static str {
        "two halves and one member between them that sees both"
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
            let mut ids = cluster.running();
            random.shuffle(&mut ids);
            let bridge = ids.pop().into_iter().collect();
            let other = ids.split_off(ids.len() / 2);
            super::cut_between(cluster.network()?, &ids, &other);
            Ok(bridge)
        }
        .boxed_local()
    }
}
