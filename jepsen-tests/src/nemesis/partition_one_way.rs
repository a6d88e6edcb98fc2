//! One way only: what a random member sends to the others is lost, or what they send to it.

use futures_util::FutureExt;
use futures_util::future::LocalBoxFuture;

use super::{Needs, Nemesis};
use crate::cluster::{Cluster, ClusterError, Weather};

/// See the file's comment.
#[derive(Clone, Copy, Debug)]
pub struct PartitionOneWay;

impl Nemesis for PartitionOneWay {
    fn name(&self) -> &'static str {
        "partition-one-way"
    }

    fn about(&self) -> &'static str {
        "a random member is not heard, or does not hear"
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
            let victim = super::any(cluster, random);
            let hears = random.bool();
            let network = cluster.network()?;
            for other in cluster.running().into_iter().filter(|id| *id != victim) {
                let (from, to) = if hears { (victim, other) } else { (other, victim) };
                network.set(from, to, Weather::cut());
            }
            Ok(vec![victim])
        }
        .boxed_local()
    }
}
