//! How large a ring is: points for each member by gRFC A42's arithmetic.
//!
//! A42 makes a ring of at least `min` points in which the lightest member has a whole number of
//! them, unless that passes `max`. With a fixed `min` the points of *every* member change with the
//! number of members, and keys move between members that stay. [`Sizing::Stable`] chooses `min` so
//! that a member's points depend on its own weight only: then a newcomer takes keys and gives none.
//! (With unequal weights A42's floating point may round by one point a member.)

/// Points of a member of average weight, before they are rounded up to a power of two a unit of weight.
pub const POINTS: u64 = 256;
/// The largest ring there is, as in Envoy.
pub const RING_POINTS_MAX: u64 = 8 << 20;
/// The largest ring unless a policy says otherwise: 12 MiB of memory.
pub const RING_POINTS_DEFAULT: u64 = 1 << 20;

/// A42's two parameters. Whoever builds a ring of the same members in the same order with these gets
/// the same ring.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RingSize {
    /// `min_ring_size`.
    pub min: u64,
    /// `max_ring_size`: beyond it members get fewer points, and movement is no longer minimal.
    pub max: u64,
}

/// How a ring's size follows from its members.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sizing {
    /// Each member's points depend on its own weight only, as long as the ring has room.
    Stable {
        /// The largest ring.
        max: u64,
    },
    /// These parameters, however many members there are.
    Fixed(RingSize),
}

impl Default for Sizing {
    fn default() -> Sizing {
        Sizing::Stable { max: RING_POINTS_DEFAULT }
    }
}

impl Sizing {
    /// The parameters for members of these weights.
    pub fn resolve(self, weights: &[u32]) -> RingSize {
        match self {
            Sizing::Fixed(size) => size.clamped(),
            Sizing::Stable { max } => RingSize::stable(weights, max),
        }
    }
}

impl RingSize {
    /// Sizes in which the lightest member has `weight × unit` points, `unit` being a power of two
    /// that gives members [`POINTS`] or more on average. It changes only when the average weight
    /// passes a power of two.
    fn stable(weights: &[u32], max: u64) -> RingSize {
        let max = max.clamp(1, RING_POINTS_MAX);
        let total: u64 = weights.iter().map(|weight| u64::from(*weight)).sum();
        let Some(lightest) = weights.iter().min() else { return RingSize { min: 1, max } };
        let wanted = (POINTS * weights.len() as u64).div_ceil(total.max(1));
        let unit = wanted.next_power_of_two();
        let lightest_points = (u64::from(*lightest) * unit) as f64;
        // A42 rounds the lightest member's points up: half a point less hits the whole number
        // whatever the division's last bit is.
        let min = (lightest_points - 0.5) * (total as f64 / f64::from(*lightest));
        RingSize { min: (min.round() as u64).clamp(1, max), max }
    }

    fn clamped(self) -> RingSize {
        let max = self.max.clamp(1, RING_POINTS_MAX);
        RingSize { min: self.min.clamp(1, max), max }
    }

    /// Each member's points, in the order of the members.
    pub fn points(self, weights: &[u32]) -> Vec<u32> {
        let total: f64 = weights.iter().map(|weight| f64::from(*weight)).sum();
        let Some(lightest) = weights.iter().min() else { return Vec::new() };
        let lightest_share = f64::from(*lightest) / total;
        let scale = ((lightest_share * self.min as f64).ceil() / lightest_share).min(self.max as f64);
        let (mut target, mut reached) = (0.0, 0u64);
        let points = weights.iter().map(|weight| {
            target += scale * (f64::from(*weight) / total);
            let before = reached;
            // A42 counts up while `reached < target`.
            reached = reached.max(target.ceil() as u64);
            (reached - before) as u32
        });
        points.collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_weights_get_the_same_points_whatever_their_number() {
        for members in 1..=2000 {
            for weight in [1, 3, 8, 100, 1000] {
                let weights = vec![weight; members];
                let points = Sizing::Stable { max: RING_POINTS_MAX }.resolve(&weights).points(&weights);
                let unit = POINTS.div_ceil(u64::from(weight)).next_power_of_two();
                let expected = (unit * u64::from(weight)) as u32;
                if u64::from(expected) * members as u64 > RING_POINTS_MAX {
                    continue;
                }
                // A power of two comes out exactly; else rounding may give one member a point more.
                let slack = u32::from(!expected.is_power_of_two());
                assert!(
                    points.iter().all(|points| points.abs_diff(expected) <= slack),
                    "{members} of {weight}: {points:?}"
                );
            }
        }
    }

    #[test]
    fn a_ring_never_passes_its_maximum() {
        for max in [1, 7, 1000, 4096] {
            for members in [1usize, 2, 3, 49, 500] {
                let weights: Vec<u32> = (1..=members as u32).collect();
                let points = Sizing::Stable { max }.resolve(&weights).points(&weights);
                assert!(points.iter().map(|points| u64::from(*points)).sum::<u64>() <= max + 1);
            }
        }
        assert!(Sizing::default().resolve(&[]).points(&[]).is_empty());
    }

    #[test]
    fn a_fixed_size_is_that_of_a42() {
        let size = RingSize { min: 1024, max: 8 << 20 };
        assert_eq!(size.points(&[1, 1, 1, 1]), [256; 4]);
        assert_eq!(size.points(&[1, 1, 1]), [342; 3]);
        assert_eq!(size.points(&[1, 2, 3]), [171, 342, 513]);
        assert_eq!(RingSize { min: 4, max: 4 }.points(&[1, 1, 1]), [2, 1, 1]);
    }
}
