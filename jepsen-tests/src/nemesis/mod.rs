//! Nemeses: faults, and how they are healed. One a file.
//!
//! A nemesis hurts members and puts them right again; when and how often is [`Schedule`]'s, drawn from
//! the seed before the run begins, so that the same seed gives the same faults at the same times.

pub mod bit_rot;
pub mod clock_drift;
pub mod clock_jump;
pub mod delay;
pub mod disk_full;
pub mod duplication;
pub mod failing_fsync;
pub mod isolate_leader;
pub mod kill_all;
pub mod kill_leader;
pub mod kill_majority;
pub mod kill_one;
mod log_files;
pub mod loss;
pub mod lost_disk;
pub mod membership;
pub mod none;
pub mod partition_bridge;
pub mod partition_clients;
pub mod partition_halves;
pub mod partition_one_way;
pub mod partition_ring;
pub mod pause;
pub mod reordering;
pub mod rolling_restart;
pub mod slow_disk;
pub mod snapshot;
pub mod torn_tail;

use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::LocalBoxFuture;

use crate::cluster::{Cluster, ClusterError, Network, Options, Weather};

/// What a nemesis needs of a cluster; the rest of a run's needs are its own.
#[derive(Clone, Copy, Debug, Default)]
pub struct Needs {
    /// A network of the members' own.
    pub network: bool,
    /// Clocks and fsyncs that can be made to misbehave.
    pub faults: bool,
    /// A small disk each, of so many megabytes.
    pub disk_mb: Option<u64>,
}

impl Needs {
    /// Adds them to a cluster's options.
    pub fn add_to(self, mut options: Options) -> Options {
        options.network |= self.network;
        options.faults |= self.faults;
        options.disk_mb = options.disk_mb.max(self.disk_mb);
        options
    }
}

/// A kind of fault.
pub trait Nemesis {
    /// Its name on the command line.
    fn name(&self) -> &'static str;
    /// One line for `list`.
    fn about(&self) -> &'static str;
    /// What it needs of a cluster.
    fn needs(&self) -> Needs {
        Needs::default()
    }
    /// Does its worst; returns whom it hurt. Nobody: there is nothing to note or heal.
    fn inflict<'a>(
        &'a self,
        cluster: &'a mut Cluster,
        random: &'a mut fastrand::Rng,
    ) -> LocalBoxFuture<'a, Result<Vec<u64>, ClusterError>>;
    /// Ends the fault and does not wait for the cluster: its time to recover counts from here. Where
    /// only the network, clocks or fsyncs were hurt, that is to calm those.
    fn heal<'a>(
        &'a self,
        cluster: &'a mut Cluster,
        members: &'a [u64],
    ) -> LocalBoxFuture<'a, Result<(), ClusterError>> {
        async move { cluster.calm(members) }.boxed_local()
    }
    /// Waits until the healed are well again.
    fn settle<'a>(
        &'a self,
        cluster: &'a mut Cluster,
        members: &'a [u64],
    ) -> LocalBoxFuture<'a, Result<(), ClusterError>> {
        let _ = members;
        cluster.wait_all_ready().boxed_local()
    }
}

/// All nemeses.
pub fn all() -> Vec<Box<dyn Nemesis>> {
    vec![
        Box::new(none::Nothing),
        Box::new(kill_one::KillOne),
        Box::new(kill_leader::KillLeader),
        Box::new(kill_majority::KillMajority),
        Box::new(kill_all::KillAll),
        Box::new(rolling_restart::RollingRestart),
        Box::new(pause::Pause),
        Box::new(partition_halves::PartitionHalves),
        Box::new(isolate_leader::IsolateLeader),
        Box::new(partition_ring::PartitionRing),
        Box::new(partition_bridge::PartitionBridge),
        Box::new(partition_one_way::PartitionOneWay),
        Box::new(partition_clients::PartitionClients),
        Box::new(delay::Delay),
        Box::new(loss::Loss),
        Box::new(duplication::Duplication),
        Box::new(reordering::Reordering),
        Box::new(clock_jump::ClockJump),
        Box::new(clock_drift::ClockDrift),
        Box::new(slow_disk::SlowDisk),
        Box::new(failing_fsync::FailingFsync),
        Box::new(disk_full::DiskFull),
        Box::new(torn_tail::TornTail),
        Box::new(bit_rot::BitRot),
        Box::new(lost_disk::LostDisk),
        Box::new(membership::Membership),
        Box::new(snapshot::Snapshot),
    ]
}

/// When faults begin and how long they last.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Schedule {
    /// For each fault: how long after the one before was healed it begins, how long it lasts, and
    /// which of the nemeses inflicts it.
    pub faults: Vec<(Duration, Duration, usize)>,
}

/// A run that is long enough ends with so much time without faults: more than the cluster has to recover.
const CALM_END: Duration = Duration::from_secs(12);

impl Schedule {
    /// Draws faults for a run of this length among so many nemeses.
    pub fn draw(seed: u64, length: Duration, nemeses: usize) -> Schedule {
        let mut random = fastrand::Rng::with_seed(seed ^ 0x6e65_6d65_7369_7300);
        let calm_end = Schedule::calm_end(length);
        let mut faults = Vec::new();
        let mut at = Duration::ZERO;
        loop {
            let pause = Duration::from_millis(random.u64(1_500..4_000));
            let lasts = Duration::from_millis(random.u64(500..5_000));
            at += pause + lasts;
            // The last seconds are for showing that the cluster has recovered.
            if at + calm_end > length || nemeses == 0 {
                return Schedule { faults };
            }
            faults.push((pause, lasts, random.usize(..nemeses)));
        }
    }

    /// How long a run of this length stays without faults at its end.
    pub fn calm_end(length: Duration) -> Duration {
        if length >= 4 * CALM_END { CALM_END } else { Duration::from_secs(3) }
    }

    /// Where a fault's own choices come from: how many of them there are may depend on what it finds
    /// on a disk, and the faults behind it must not.
    pub fn choices(seed: u64, index: usize) -> fastrand::Rng {
        let index = index as u64 + 1;
        fastrand::Rng::with_seed((seed ^ 0x6661_756c_7473).wrapping_mul(1_000_003) ^ index)
    }
}

/// Starts dead members.
async fn launch(cluster: &mut Cluster, members: &[u64]) -> Result<(), ClusterError> {
    members.iter().try_for_each(|id| cluster.launch(*id))
}

/// Starts a dead member to which nothing was done after all, and waits until it has a quorum; nobody
/// was hurt.
async fn unhurt(cluster: &mut Cluster, member: u64) -> Result<Vec<u64>, ClusterError> {
    cluster.restart(member).await?;
    Ok(Vec::new())
}

/// Nothing gets through between the members of one group and those of the other.
fn cut_between(network: &Network, one: &[u64], other: &[u64]) {
    for left in one {
        for right in other {
            network.set(*left, *right, Weather::cut());
            network.set(*right, *left, Weather::cut());
        }
    }
}

/// The same weather everywhere, between members and between them and the clients; whom it hurts.
fn weather_between_all(cluster: &Cluster, weather: Weather) -> Result<Vec<u64>, ClusterError> {
    let network = cluster.network()?;
    let ids = cluster.running();
    for from in &ids {
        network.set_clients(*from, weather);
        ids.iter().filter(|to| *to != from).for_each(|to| network.set(*from, *to, weather));
    }
    Ok(ids)
}

/// Some of the members: at least one, possibly all.
fn some(ids: &[u64], random: &mut fastrand::Rng) -> Vec<u64> {
    let mut ids = ids.to_vec();
    random.shuffle(&mut ids);
    ids.truncate(random.usize(1..=ids.len()));
    ids
}

/// A random member.
fn any(cluster: &Cluster, random: &mut fastrand::Rng) -> u64 {
    let ids = cluster.running();
    ids[random.usize(..ids.len())]
}

/// The leader as often as not, else a random member.
async fn leader_or_any(cluster: &Cluster, random: &mut fastrand::Rng) -> Result<u64, ClusterError> {
    let any = any(cluster, random);
    if random.bool() { cluster.leader().await } else { Ok(any) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_fault_draws_depends_on_no_fault_before_it() {
        let draws = |index| Schedule::choices(7, index).u64(..);
        assert_eq!(draws(3), draws(3));
        let mut all: Vec<u64> = (0..100).map(draws).collect();
        all.sort_unstable();
        all.dedup();
        assert_eq!(all.len(), 100);
    }

    #[test]
    fn a_minute_ends_with_more_calm_than_a_cluster_may_take_to_recover() {
        assert_eq!(Schedule::calm_end(Duration::from_secs(60)), Duration::from_secs(12));
        assert_eq!(Schedule::calm_end(Duration::from_secs(12)), Duration::from_secs(3));
    }
}
