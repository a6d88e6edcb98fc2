//! Every frame takes long, and not equally long: between members as between them and the clients.

use futures_util::FutureExt;
use futures_util::future::LocalBoxFuture;

use super::{Needs, Nemesis};
use crate::cluster::{Cluster, ClusterError, Weather};

/// See the file's comment.
#[derive(Clone, Copy, Debug)]
pub struct Delay;

impl Nemesis for Delay {
    fn name(&self) -> &'static str {
        "delay"
    }

    fn about(&self) -> &'static str {
        "every frame is late, by 5 to 120 ms"
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
            let weather = {
                let least = random.u64(5..40);
                Weather { delay_ms: (least, least + random.u64(1..80)), ..Weather::default() }
            };
            super::weather_between_all(cluster, weather)
        }
        .boxed_local()
    }
}
