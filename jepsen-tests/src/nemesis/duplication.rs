//! Frames arrive twice, also those that open and close connections. Behind proxies there are no
//! frames: nothing is inflicted there.

use futures_util::FutureExt;
use futures_util::future::LocalBoxFuture;

use super::{Needs, Nemesis};
use crate::cluster::{Cluster, ClusterError, Weather};

/// See the file's comment.
#[derive(Clone, Copy, Debug)]
pub struct Duplication;

impl Nemesis for Duplication {
    fn name(&self) -> &'static str {
        "duplication"
    }

    fn about(&self) -> &'static str {
        "every second frame or so arrives twice"
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
            // A proxy moves bytes of streams, of which none can arrive twice.
            if !cluster.network()?.moves_frames() {
                return Ok(Vec::new());
            }
            let weather = Weather { doubled: random.u32(300..700), ..Weather::default() };
            super::weather_between_all(cluster, weather)
        }
        .boxed_local()
    }
}
