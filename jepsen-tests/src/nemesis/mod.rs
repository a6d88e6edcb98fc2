//! Nemeses: faults, and how they are healed. One a file.
//!
//! A nemesis hurts members and puts them right again; when and how often is [`Schedule`]'s, drawn from
//! the seed before the run begins, so that the same seed gives the same faults at the same times.

pub mod kill_leader;
pub mod kill_majority;
pub mod kill_one;
pub mod none;
pub mod pause;

use std::time::Duration;

use futures_util::future::LocalBoxFuture;

use crate::cluster::{Cluster, ClusterError};

/// A kind of fault.
pub trait Nemesis {
    /// Its name on the command line.
    fn name(&self) -> &'static str;
    /// One line for `list`.
    fn about(&self) -> &'static str;
    /// Does its worst; returns whom it hurt. Nobody: there is nothing to note or heal.
    fn inflict<'a>(
        &'a self,
        cluster: &'a mut Cluster,
        random: &'a mut fastrand::Rng,
    ) -> LocalBoxFuture<'a, Result<Vec<u64>, ClusterError>>;
    /// Puts them right again, and waits until they are.
    fn heal<'a>(
        &'a self,
        cluster: &'a mut Cluster,
        members: &'a [u64],
    ) -> LocalBoxFuture<'a, Result<(), ClusterError>>;
}

/// All nemeses.
pub fn all() -> Vec<Box<dyn Nemesis>> {
    vec![
        Box::new(none::Nothing),
        Box::new(kill_one::KillOne),
        Box::new(kill_leader::KillLeader),
        Box::new(kill_majority::KillMajority),
        Box::new(pause::Pause),
    ]
}

/// When faults begin and how long they last.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Schedule {
    /// For each fault: how long after the one before was healed it begins, how long it lasts, and
    /// which of the nemeses inflicts it.
    pub faults: Vec<(Duration, Duration, usize)>,
}

impl Schedule {
    /// Draws faults for a run of this length among so many nemeses.
    pub fn draw(seed: u64, length: Duration, nemeses: usize) -> Schedule {
        let mut random = fastrand::Rng::with_seed(seed ^ 0x6e65_6d65_7369_7300);
        let mut faults = Vec::new();
        let mut at = Duration::ZERO;
        loop {
            let pause = Duration::from_millis(random.u64(1_500..4_000));
            let lasts = Duration::from_millis(random.u64(500..5_000));
            at += pause + lasts;
            // The last seconds are for showing that the cluster has recovered.
            if at + Duration::from_secs(3) > length || nemeses == 0 {
                return Schedule { faults };
            }
            faults.push((pause, lasts, random.usize(..nemeses)));
        }
    }
}

/// Starts dead members and waits until they have a quorum.
async fn start_again(cluster: &mut Cluster, members: &[u64]) -> Result<(), ClusterError> {
    for id in members {
        cluster.launch(*id)?;
    }
    for id in members {
        cluster.wait_ready(*id).await?;
    }
    Ok(())
}
