//! All clocks of some members, the monotonic ones too, run faster or slower than the others': by up to 5 %, a hundred times
//! what a real crystal does.

use futures_util::FutureExt;
use futures_util::future::LocalBoxFuture;

use super::{Needs, Nemesis};
use crate::cluster::{Cluster, ClusterError};

/// See the file's comment.
#[derive(Clone, Copy, Debug)]
pub struct ClockDrift;

impl Nemesis for ClockDrift {
    fn name(&self) -> &'static str {
        "clock-drift"
    }

    fn about(&self) -> &'static str {
        "clocks of some members, the monotonic ones too, run up to 5 % fast or slow"
    }

    fn needs(&self) -> Needs {
        Needs { faults: true, ..Needs::default() }
    }

    fn inflict<'a>(
        &'a self,
        cluster: &'a mut Cluster,
        random: &'a mut fastrand::Rng,
    ) -> LocalBoxFuture<'a, Result<Vec<u64>, ClusterError>> {
        async move {
            let victims = super::some(&cluster.running(), random);
            for id in &victims {
                cluster.faults(*id)?.drift(random.i64(-50_000..=50_000))?;
            }
            Ok(victims)
        }
        .boxed_local()
    }
}
