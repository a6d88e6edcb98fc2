//! Who is picked: one picker for each way of balancing, and a trait for others.
//!
//! A picker keeps no list of its own: it is asked with the candidates of the moment.

use std::fmt::Debug;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use quorate_core::registry::Balancing;
use quorate_core::ring::bounded::Slack;

use super::selection::{Candidate, Pool};

/// Picks one of the candidates.
///
/// An implementer is called for every request, from many tasks: it must be quick and must not block.
pub trait Picker: Send + Sync + Debug {
    /// The index of one of [`Choice::candidates`]; `None` if none will do.
    fn pick(&self, choice: &Choice<'_>) -> Option<usize>;
}

/// What a picker chooses from.
#[derive(Clone, Copy)]
pub struct Choice<'a> {
    pub(super) pool: &'a Pool,
    pub(super) hash: Option<u64>,
    pub(super) limit: u64,
}

impl Choice<'_> {
    /// In the order of their ids.
    pub fn candidates(&self) -> &[Candidate] {
        &self.pool.candidates
    }

    /// The place of the request's key, if it has one.
    pub fn hash(&self) -> Option<u64> {
        self.hash
    }

    /// Whether a candidate is connected, not put aside, and below the circuit breaker's limit.
    pub fn is_open(&self, index: usize) -> bool {
        let candidate = &self.pool.candidates[index];
        candidate.is_available() && candidate.in_flight() < self.limit
    }

    /// One by chance, by weight.
    pub fn weighted(&self) -> Option<usize> {
        let total = *self.pool.weights.last()?;
        let point = fastrand::u64(..total);
        Some(self.pool.weights.partition_point(|sum| *sum <= point))
    }

    /// The better of two chosen by chance, by weight.
    fn better_of_two(&self, cost: impl Fn(&Candidate) -> f64) -> Option<usize> {
        let (one, mut two) = (self.weighted()?, self.weighted()?);
        if one == two && self.pool.candidates.len() > 1 {
            two = (one + 1) % self.pool.candidates.len();
        }
        let cost = |index: usize| match self.is_open(index) {
            true => cost(&self.pool.candidates[index]),
            false => f64::INFINITY,
        };
        Some(if cost(two) < cost(one) { two } else { one })
    }
}

/// The picker of a way of balancing.
pub(super) fn of(balancing: Balancing) -> Arc<dyn Picker> {
    match balancing {
        Balancing::RoundRobin => Arc::new(RoundRobin::default()),
        Balancing::WeightedRoundRobin => Arc::new(WeightedRoundRobin::default()),
        Balancing::Random => Arc::new(Random),
        Balancing::WeightedRandom => Arc::new(WeightedRandom),
        Balancing::LeastRequest => Arc::new(LeastRequest),
        Balancing::PeakEwma => Arc::new(PeakEwma),
        Balancing::LeastLoad => Arc::new(LeastLoad),
        Balancing::RingHash | Balancing::Maglev => Arc::new(ByKey::default()),
    }
}

/// In turn.
#[derive(Debug)]
pub struct RoundRobin {
    turn: AtomicU64,
}

impl Default for RoundRobin {
    /// Begins anywhere, so that many clients do not all begin with the same instance.
    fn default() -> RoundRobin {
        RoundRobin { turn: AtomicU64::new(fastrand::u64(..1 << 32)) }
    }
}

impl Picker for RoundRobin {
    fn pick(&self, choice: &Choice<'_>) -> Option<usize> {
        let count = choice.candidates().len() as u64;
        (count > 0).then(|| (self.turn.fetch_add(1, Ordering::Relaxed) % count) as usize)
    }
}

/// In turn, by weight, evenly interleaved: each turn is a step of the golden ratio around a circle
/// on which every candidate has an arc of its weight. Steps of that length never bunch, so in any
/// run of picks each candidate has nearly its share, whatever the weights.
#[derive(Debug)]
pub struct WeightedRoundRobin {
    turn: AtomicU64,
}

impl Default for WeightedRoundRobin {
    fn default() -> WeightedRoundRobin {
        WeightedRoundRobin { turn: AtomicU64::new(fastrand::u64(..)) }
    }
}

/// 2⁶⁴ divided by the golden ratio.
const GOLDEN_STEP: u64 = 0x9e37_79b9_7f4a_7c15;

impl Picker for WeightedRoundRobin {
    fn pick(&self, choice: &Choice<'_>) -> Option<usize> {
        let total = *choice.pool.weights.last()?;
        let place = self.turn.fetch_add(GOLDEN_STEP, Ordering::Relaxed);
        let point = ((u128::from(place) * u128::from(total)) >> 64) as u64;
        Some(choice.pool.weights.partition_point(|sum| *sum <= point))
    }
}

/// By chance.
#[derive(Clone, Copy, Debug, Default)]
pub struct Random;

impl Picker for Random {
    fn pick(&self, choice: &Choice<'_>) -> Option<usize> {
        let count = choice.candidates().len();
        (count > 0).then(|| fastrand::usize(..count))
    }
}

/// By chance, by weight.
#[derive(Clone, Copy, Debug, Default)]
pub struct WeightedRandom;

impl Picker for WeightedRandom {
    fn pick(&self, choice: &Choice<'_>) -> Option<usize> {
        choice.weighted()
    }
}

/// Of two, the one with fewer requests under way for its weight.
#[derive(Clone, Copy, Debug, Default)]
pub struct LeastRequest;

impl Picker for LeastRequest {
    fn pick(&self, choice: &Choice<'_>) -> Option<usize> {
        choice.better_of_two(|candidate| (candidate.in_flight() + 1) as f64 / candidate.weight as f64)
    }
}

/// What one that has not answered yet is taken to need while requests wait for its first answer, in
/// seconds: more than any that answers.
const UNKNOWN: f64 = 1000.0;

/// Of two, the one with the lower latency times requests under way. One that was never asked comes
/// first; one that was, and has not answered yet, last.
#[derive(Clone, Copy, Debug, Default)]
pub struct PeakEwma;

impl Picker for PeakEwma {
    fn pick(&self, choice: &Choice<'_>) -> Option<usize> {
        choice.better_of_two(|candidate| {
            let in_flight = candidate.in_flight();
            let unknown = if in_flight == 0 { 0.0 } else { UNKNOWN };
            candidate.latency().unwrap_or(unknown) * (in_flight + 1) as f64
        })
    }
}

/// Of two, the one that reports less load; without a report it counts as half loaded.
#[derive(Clone, Copy, Debug, Default)]
pub struct LeastLoad;

impl Picker for LeastLoad {
    fn pick(&self, choice: &Choice<'_>) -> Option<usize> {
        choice.better_of_two(|candidate| f64::from(candidate.entry.instance.load.unwrap_or(500)))
    }
}

/// By key, on the ring or in the table, with bounded loads: whoever holds more than a quarter above
/// the mean of this client's requests passes on. A request without a key has one by chance.
#[derive(Clone, Copy, Debug, Default)]
pub struct ByKey {
    slack: Slack,
}

impl Picker for ByKey {
    fn pick(&self, choice: &Choice<'_>) -> Option<usize> {
        let hash = choice.hash.unwrap_or_else(|| fastrand::u64(..));
        let placed = choice.pool.in_flight() + 1;
        let total = *choice.pool.weights.last()?;
        let has_room = |index: usize| {
            let candidate = &choice.candidates()[index];
            let weight = u32::try_from(candidate.weight).unwrap_or(u32::MAX);
            choice.is_open(index) && candidate.in_flight() < self.slack.capacity(placed, weight, total)
        };
        choice.pool.walk(hash).find(|index| has_room(*index))
    }
}
