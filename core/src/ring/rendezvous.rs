//! Rendezvous hashing (Thaler & Ravishankar 1998), weighted: every member bids, the highest wins.
//!
//! Movement is exactly minimal for any change of weight; a look-up costs one bid a member.
//! A bid is −weight / ln(u), u being a hash in (0, 1); the logarithm is made of basic operations, so
//! that two machines never disagree.

use std::sync::Arc;

use xxhash_rust::xxh64::xxh64;

use super::{Member, Placement, sorted};

/// Members that bid for keys.
#[derive(Clone, Debug)]
pub struct Rendezvous {
    members: Arc<[Member]>,
    seeds: Vec<u64>,
}

impl Rendezvous {
    /// The order of the members does not matter.
    pub fn new(members: impl IntoIterator<Item = Member>) -> Rendezvous {
        let members = sorted(members);
        let seeds = members.iter().map(|member| xxh64(member.key.as_bytes(), 0)).collect();
        Rendezvous { members, seeds }
    }

    fn bid(&self, member: usize, hash: u64) -> f64 {
        let mixed = mix(hash ^ self.seeds[member]);
        // 53 bits and a half: neither 0 nor 1.
        let unit = ((mixed >> 11) as f64 + 0.5) / (1u64 << 53) as f64;
        -f64::from(self.members[member].weight) / natural_logarithm(unit)
    }
}

impl Placement for Rendezvous {
    fn members(&self) -> &[Member] {
        &self.members
    }

    fn owner(&self, hash: u64) -> Option<usize> {
        let mut best: Option<(f64, usize)> = None;
        for member in 0..self.members.len() {
            let bid = self.bid(member, hash);
            if best.is_none_or(|(highest, _)| bid > highest) {
                best = Some((bid, member));
            }
        }
        best.map(|(_, member)| member)
    }

    fn walk(&self, hash: u64) -> Box<dyn Iterator<Item = usize> + '_> {
        let mut bids: Vec<(f64, usize)> =
            (0..self.members.len()).map(|member| (self.bid(member, hash), member)).collect();
        bids.sort_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1)));
        Box::new(bids.into_iter().map(|(_, member)| member))
    }
}

/// Spreads 64 bits over 64 bits, one to one (the finisher of SplitMix64).
pub(super) fn mix(mut bits: u64) -> u64 {
    bits = bits.wrapping_add(0x9e37_79b9_7f4a_7c15);
    bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    bits ^ (bits >> 31)
}

/// ln of a positive, normal number: the exponent's part, and the series of the inverse hyperbolic
/// tangent for the rest. The platform's own may differ in the last bit between machines.
fn natural_logarithm(value: f64) -> f64 {
    let bits = value.to_bits();
    let mut exponent = ((bits >> 52) & 0x7ff) as i64 - 1023;
    let mut rest = f64::from_bits((bits & ((1 << 52) - 1)) | (1023 << 52));
    if rest > std::f64::consts::SQRT_2 {
        rest /= 2.0;
        exponent += 1;
    }
    let tangent = (rest - 1.0) / (rest + 1.0);
    let square = tangent * tangent;
    let mut sum = 0.0;
    for odd in [21, 19, 17, 15, 13, 11, 9, 7, 5, 3, 1] {
        sum = sum * square + 1.0 / f64::from(odd);
    }
    exponent as f64 * std::f64::consts::LN_2 + 2.0 * tangent * sum
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_logarithm_is_right() {
        for value in [1e-300, 1e-16, 0.1, 0.5, 0.70, 0.71, 0.9, 0.999_999_999, 1.0, 2.5, 1e9] {
            let (ours, theirs) = (natural_logarithm(value), value.ln());
            assert!((ours - theirs).abs() <= 1e-14 * theirs.abs().max(1e-9), "{value}: {ours} {theirs}");
        }
    }
}
