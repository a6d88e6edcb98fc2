//! What a change of members moves: measured on keys, for plans and for comparing algorithms.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::Placement;

/// How keys spread over members.
#[derive(Clone, Debug, PartialEq)]
pub struct Spread {
    /// Keys of each member, in the order of members.
    pub keys: Vec<u64>,
    /// The fullest member's keys over its due share (by weight). 0 without keys.
    pub peak_to_mean: f64,
}

/// What moves between two placements.
#[derive(Clone, Debug, PartialEq)]
pub struct Movement {
    /// Keys looked at.
    pub keys: u64,
    /// Keys whose owner's id differs.
    pub moved: u64,
    /// Those of them that moved although both owners are there before and after: needless, unless
    /// weights changed.
    pub moved_between_stayers: u64,
    /// How many keys go from one member to another, by id.
    pub flows: BTreeMap<(Arc<str>, Arc<str>), u64>,
}

/// How these hashes spread.
pub fn spread(placement: &dyn Placement, hashes: &[u64]) -> Spread {
    let members = placement.members();
    let mut keys = vec![0u64; members.len()];
    for owner in hashes.iter().filter_map(|hash| placement.owner(*hash)) {
        keys[owner] += 1;
    }
    let total_weight: f64 = members.iter().map(|member| f64::from(member.weight)).sum();
    let peaks = members.iter().zip(&keys).map(|(member, keys)| {
        let due = hashes.len() as f64 * f64::from(member.weight) / total_weight;
        if due > 0.0 { *keys as f64 / due } else { 0.0 }
    });
    let peak_to_mean = peaks.fold(0.0, f64::max);
    Spread { keys, peak_to_mean }
}

/// What moves of these hashes when `before` becomes `after`.
pub fn movement(before: &dyn Placement, after: &dyn Placement, hashes: &[u64]) -> Movement {
    let (old, new) = (before.members(), after.members());
    let stays = |id: &Arc<str>| {
        let is_in = |members: &[super::Member]| members.binary_search_by(|member| member.id.cmp(id)).is_ok();
        is_in(old) && is_in(new)
    };
    let mut movement =
        Movement { keys: hashes.len() as u64, moved: 0, moved_between_stayers: 0, flows: BTreeMap::new() };
    for hash in hashes {
        let (Some(from), Some(to)) = (before.owner(*hash), after.owner(*hash)) else { continue };
        let (from, to) = (&old[from].id, &new[to].id);
        if from != to {
            movement.moved += 1;
            movement.moved_between_stayers += u64::from(stays(from) && stays(to));
            *movement.flows.entry((from.clone(), to.clone())).or_default() += 1;
        }
    }
    movement
}
