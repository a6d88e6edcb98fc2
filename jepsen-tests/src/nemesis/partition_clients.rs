//! Clients do not reach a random member, nor it them; the members hear each other.

use futures_util::FutureExt;
use futures_util::future::LocalBoxFuture;

use super::{Needs, Nemesis};
use crate::cluster::{Cluster, ClusterError, Weather};

/// See the file's comment.
#[derive(Clone, Copy, Debug)]
pub struct PartitionClients;

impl Nemesis for PartitionClients {
    fn name(&self) -> &'static str {
        "partition-clients"
    }

    fn about(&self) -> &'static str {
        "clients cut off from a random member"
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
            cluster.network()?.set_clients(victim, Weather::cut());
            Ok(vec![victim])
        }
        .boxed_local()
    }
}
