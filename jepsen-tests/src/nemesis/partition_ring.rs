//! A majority ring: the members in a circle, each hears only the nearest, as many as a majority needs; no two have the
//! same majority. With three members it is the loss of one link.

use futures_util::FutureExt;
use futures_util::future::LocalBoxFuture;

use super::{Needs, Nemesis};
use crate::cluster::{Cluster, ClusterError, Weather};

/// See the file's comment.
#[derive(Clone, Copy, Debug)]
pub struct PartitionRing;

impl Nemesis for PartitionRing {
    fn name(&self) -> &'static str {
        "partition-ring"
    }

    fn about(&self) -> &'static str {
        "every member sees a majority, no two the same"
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
            let mut ids = cluster.running();
            random.shuffle(&mut ids);
            let cuts = cuts(ids.len());
            let network = cluster.network()?;
            for (one, other) in &cuts {
                network.set(ids[*one], ids[*other], Weather::cut());
            }
            // Two members are no ring.
            Ok(if cuts.is_empty() { Vec::new() } else { ids })
        }
        .boxed_local()
    }
}

/// Who does not hear whom, by their places in a circle of so many; both ways.
fn cuts(count: usize) -> Vec<(usize, usize)> {
    // To each side so many that they and the member itself are a majority.
    let reach = (count / 2).div_ceil(2);
    let is_cut = |(one, other): &(usize, usize)| {
        let apart = one.abs_diff(*other);
        apart.min(count - apart) > reach || count == 3 && one + other == 1
    };
    (0..count).flat_map(|one| (0..count).map(move |other| (one, other))).filter(is_cut).collect()
}

#[cfg(test)]
mod tests {
    use super::cuts;

    #[test]
    fn some_pair_is_cut_and_every_member_still_reaches_a_majority() {
        for count in 3..=9 {
            let cuts = cuts(count);
            assert!(!cuts.is_empty(), "{count} members");
            for one in 0..count {
                let lost = cuts.iter().filter(|(from, _)| *from == one).count();
                assert!(count - lost > count / 2, "member {one} of {count} reaches {}", count - lost);
                let deaf = cuts.iter().filter(|(_, to)| *to == one).count();
                assert_eq!(lost, deaf, "member {one} of {count}");
            }
        }
    }

    #[test]
    fn two_members_are_no_ring() {
        assert!(cuts(1).is_empty() && cuts(2).is_empty());
    }
}
