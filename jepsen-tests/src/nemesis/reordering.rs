//! Frames are overtaken by those behind them.

use futures_util::FutureExt;
use futures_util::future::LocalBoxFuture;

use super::{Needs, Nemesis};
use crate::cluster::{Cluster, ClusterError, Weather};

/// See the file's comment.
#[derive(Clone, Copy, Debug)]
pub struct Reordering;

impl Nemesis for Reordering {
    fn name(&self) -> &'static str {
        "reordering"
    }

    fn about(&self) -> &'static str {
        "many frames are overtaken by later ones"
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
            let weather = Weather { overtaken: random.u32(100..400), ..Weather::default() };
            super::weather_between_all(cluster, weather)
        }
        .boxed_local()
    }
}
