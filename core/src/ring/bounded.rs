//! Consistent hashing with bounded loads (Mirrokni, Thorup & Zadimoghaddam 2016) over any placement.
//!
//! With m keys or requests placed on n members, none holds more than ⌈c·m/n⌉ (by weight:
//! ⌈c·m·w/W⌉): one that is full passes on to whoever stands in for it at that hash.

use super::Placement;

/// c, in thousandths: how far above the mean a member may go. At least 1000.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Slack(u32);

impl Default for Slack {
    /// A quarter above the mean.
    fn default() -> Slack {
        Slack(1250)
    }
}

impl Slack {
    /// From thousandths; below 1000, where not everything would find a place, it is 1000.
    pub fn permille(permille: u32) -> Slack {
        Slack(permille.max(1000))
    }

    /// The most that a member may hold when `placed` are placed in all, itself counted.
    pub fn capacity(self, placed: u64, weight: u32, total_weight: u64) -> u64 {
        let wanted = u128::from(self.0) * u128::from(placed) * u128::from(weight);
        wanted.div_ceil(1000 * u128::from(total_weight.max(1))) as u64
    }
}

/// The member for one more at this hash, given what each holds now and what all hold together.
///
/// `total_weight` is the sum of the members' weights. `None` only without members.
pub fn pick(
    placement: &dyn Placement,
    hash: u64,
    slack: Slack,
    total_weight: u64,
    held_by_all: u64,
    held: impl Fn(usize) -> u64,
) -> Option<usize> {
    let members = placement.members();
    let has_room =
        |member: usize| held(member) < slack.capacity(held_by_all + 1, members[member].weight, total_weight);
    let owner = placement.owner(hash)?;
    if has_room(owner) {
        return Some(owner);
    }
    // Figures that change while they are read may leave nobody with room: then the owner it is.
    Some(placement.walk(hash).find(|member| has_room(*member)).unwrap_or(owner))
}

/// The sum of a placement's weights.
pub fn total_weight(placement: &dyn Placement) -> u64 {
    placement.members().iter().map(|member| u64::from(member.weight)).sum()
}
