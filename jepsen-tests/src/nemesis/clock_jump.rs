//! The wall clocks of some members jump, up to an hour either way, and back again at the end.

use futures_util::FutureExt;
use futures_util::future::LocalBoxFuture;

use super::{Needs, Nemesis};
use crate::cluster::{Cluster, ClusterError};

/// See the file's comment.
#[derive(Clone, Copy, Debug)]
pub struct ClockJump;

impl Nemesis for ClockJump {
    fn name(&self) -> &'static str {
        "clock-jump"
    }

    fn about(&self) -> &'static str {
        "wall clocks of some members jump by up to an hour, then back"
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
                cluster.faults(*id)?.jump(random.i64(-3_600..=3_600))?;
            }
            Ok(victims)
        }
        .boxed_local()
    }
}
