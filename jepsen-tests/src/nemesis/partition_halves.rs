//! The members in two halves that hear nothing of each other; clients reach both.

use futures_util::FutureExt;
use futures_util::future::LocalBoxFuture;

use super::{Needs, Nemesis};
use crate::cluster::{Cluster, ClusterError};

/// See the file's comment.
#[derive(Clone, Copy, Debug)]
pub struct PartitionHalves;

impl Nemesis for PartitionHalves {
    fn name(&self) -> &'static str {
        "partition-halves"
    }

    fn about(&self) -> &'static str {
        "the members in two halves, at random"
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
            let few = ids.split_off(ids.len() / 2 + 1);
            super::cut_between(cluster.network()?, &ids, &few);
            Ok(few)
        }
        .boxed_local()
    }
}
