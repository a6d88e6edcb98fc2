//! Frames get lost, more or fewer of them; the kernels send them again, later.

use futures_util::FutureExt;
use futures_util::future::LocalBoxFuture;

use super::{Needs, Nemesis};
use crate::cluster::{Cluster, ClusterError, Weather};

/// See the file's comment.
#[derive(Clone, Copy, Debug)]
pub struct Loss;

impl Nemesis for Loss {
    fn name(&self) -> &'static str {
        "loss"
    }

    fn about(&self) -> &'static str {
        "5 to 30 % of all frames are lost"
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
            let weather = Weather { lost: random.u32(50..300), ..Weather::default() };
            super::weather_between_all(cluster, weather)
        }
        .boxed_local()
    }
}
