//! A majority ring: the members in a circle, each hears only the nearest, as many as a majority needs; no two have the
//! same majority. With three members it is the loss of one link.

use futures_util::FutureExt;
use futures_util::future::LocalBoxFuture;

use super::{Needs, Nemesis};
use crate::cluster::{Cluster, ClusterError, Weather};

/// See the file's comment.
#[derive(Clone, Copy, Debug)]
pub struct PartitionRing;

impl Nemesis for PartitionRing {
    fn name(&self) -> &'static str {
        "partition-ring"
    }

    fn about(&self) -> &'static str {
        "every member sees a majority, no two the same"
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
            let count = ids.len();
            // To each side so many that they and the member itself are a majority.
            let reach = count.div_ceil(4);
            let network = cluster.network()?;
            for (index, one) in ids.iter().enumerate() {
                for (place, other) in ids.iter().enumerate() {
                    let apart = index.abs_diff(place);
                    if apart.min(count - apart) > reach || count == 3 && index + place == 1 {
                        network.set(*one, *other, Weather::cut());
                    }
                }
            }
            Ok(ids)
        }
        .boxed_local()
    }
}
