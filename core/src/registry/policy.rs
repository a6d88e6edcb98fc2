//! How a service is to be called: one versioned object a service, watched with it.
//!
//! The version is its znode's; a change replaces the whole object, so a traffic split moves at once.

use serde::{Deserialize, Serialize};

use super::names::{check_count, check_label, check_range, check_text};
use crate::error::Error;
use crate::ring::size::{RING_POINTS_DEFAULT, RING_POINTS_MAX};
use crate::ring::{RingSize, Sizing};

/// Parts of a traffic split.
pub const SPLIT_MAX: usize = 32;
/// Zones and clusters of a failover order.
pub const FAILOVER_MAX: usize = 32;
/// The most that a policy may ask for as the ring's least points. So many are built for a single
/// instance, too, by each member and between its other work: larger rings are for many instances.
pub const RING_POINTS_MIN_MAX: u64 = 1 << 17;
/// Weights of a split.
pub const SPLIT_WEIGHT_MAX: u32 = 1_000_000;

/// How a service is to be called.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Policy {
    // The order is part of the stored format; a change of shape is a new format version.
    /// How an instance is picked.
    pub balancing: Balancing,
    /// Which port is meant; empty is each instance's main one.
    pub port: String,
    /// The ring's least points, up to [`RING_POINTS_MIN_MAX`]; 0 lets them follow from the members (see
    /// [`Sizing::Stable`]).
    pub ring_points_min: u64,
    /// The ring's most points.
    pub ring_points_max: u64,
    /// Which releases get which part of the traffic; empty is no split.
    pub split: Vec<Split>,
    /// Requests that one client may send.
    pub rate_limit: Option<RateLimit>,
    /// What one client may have under way to one instance.
    pub circuit_breaker: Option<CircuitBreaker>,
    /// How much a client may retry.
    pub retry_budget: RetryBudget,
    /// A request without an answer for so long is given up; 0 never.
    pub timeout_ms: u32,
    /// Own zone first, others when it is not enough.
    pub is_zone_aware: bool,
    /// Zones in the order of preference, behind a client's own.
    pub failover_zones: Vec<String>,
    /// Clusters in the order of preference, behind the instance's own.
    pub failover_clusters: Vec<String>,
    /// When clients put an instance aside.
    pub outlier: Outlier,
    /// With fewer usable than this part of all (in thousandths), all are used: checks that fail
    /// everywhere at once say more about the checks.
    pub panic_permille: u32,
}

/// How an instance is picked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Balancing {
    // The order is part of the stored format: append only.
    /// In turn.
    #[default]
    RoundRobin,
    /// In turn, by weight, evenly interleaved.
    WeightedRoundRobin,
    /// By chance.
    Random,
    /// By chance, by weight.
    WeightedRandom,
    /// Of two chosen by chance, the one with fewer requests under way.
    LeastRequest,
    /// Of two chosen by chance, the one with the lower peak-sensitive average latency.
    PeakEwma,
    /// Of two chosen by chance, the one that reports less load.
    LeastLoad,
    /// By key on the ring, with bounded loads.
    RingHash,
    /// By key in a Maglev table.
    Maglev,
}

/// One part of a traffic split.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Split {
    /// The instances' version.
    pub version: String,
    /// Relative to the other parts'.
    pub weight: u32,
}

/// A token bucket.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RateLimit {
    /// Tokens a second.
    pub per_second: u32,
    /// Tokens at most.
    pub burst: u32,
}

/// Bounds of what may be under way.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CircuitBreaker {
    /// Requests to one instance.
    pub requests: u32,
    /// Requests that wait for a place.
    pub pending: u32,
}

/// How much a client may retry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RetryBudget {
    /// Retries for each thousand requests.
    pub permille: u32,
    /// Retries a second that are always allowed.
    pub per_second_min: u32,
    /// Attempts of one request in all.
    pub attempts_max: u32,
}

/// When clients put an instance aside.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Outlier {
    /// After so many failures in a row; 0 never.
    pub failures: u32,
    /// For so long the first time, then twice, thrice, … as long.
    pub ejection_ms: u32,
    /// At most this part of all (in thousandths) at once.
    pub ejected_permille_max: u32,
    /// Back at full weight only after so long.
    pub slow_start_ms: u32,
}

impl Default for Policy {
    fn default() -> Policy {
        Policy {
            balancing: Balancing::RoundRobin,
            port: String::new(),
            ring_points_min: 0,
            ring_points_max: RING_POINTS_DEFAULT,
            split: Vec::new(),
            rate_limit: None,
            circuit_breaker: None,
            retry_budget: RetryBudget { permille: 200, per_second_min: 10, attempts_max: 3 },
            timeout_ms: 0,
            is_zone_aware: false,
            failover_zones: Vec::new(),
            failover_clusters: Vec::new(),
            outlier: Outlier {
                failures: 5,
                ejection_ms: 10_000,
                ejected_permille_max: 500,
                slow_start_ms: 10_000,
            },
            panic_permille: 500,
        }
    }
}

impl Policy {
    /// Accepts a policy within all bounds.
    ///
    /// # Errors
    /// [`crate::error::ErrorKind::BadArguments`] or `TooLarge`, naming the field and the limit.
    pub fn validate(&self) -> Result<(), Error> {
        if !self.port.is_empty() {
            check_label("policy.port", &self.port)?;
        }
        check_range("policy.ring_points_max", self.ring_points_max, 1, RING_POINTS_MAX)?;
        let min_max = self.ring_points_max.min(RING_POINTS_MIN_MAX);
        check_range("policy.ring_points_min", self.ring_points_min, 0, min_max)?;
        check_count("policy.split", self.split.len(), SPLIT_MAX)?;
        for part in &self.split {
            check_text("policy.split.version", &part.version, super::instance::TEXT_BYTES_MAX)?;
            check_range("policy.split.weight", part.weight.into(), 0, SPLIT_WEIGHT_MAX.into())?;
        }
        let most = u64::from(u32::MAX);
        if !self.split.is_empty() {
            let total = self.split.iter().map(|part| u64::from(part.weight)).sum();
            check_range("policy.split weights in all", total, 1, most)?;
        }
        if let Some(limit) = self.rate_limit {
            check_range("policy.rate_limit.per_second", limit.per_second.into(), 1, most)?;
            check_range("policy.rate_limit.burst", limit.burst.into(), 1, most)?;
        }
        if let Some(breaker) = self.circuit_breaker {
            check_range("policy.circuit_breaker.requests", breaker.requests.into(), 1, most)?;
        }
        check_range("policy.retry_budget.permille", self.retry_budget.permille.into(), 0, 10_000)?;
        check_range("policy.retry_budget.attempts_max", self.retry_budget.attempts_max.into(), 1, 10)?;
        for (field, names) in [
            ("policy.failover_zones", &self.failover_zones),
            ("policy.failover_clusters", &self.failover_clusters),
        ] {
            check_count(field, names.len(), FAILOVER_MAX)?;
            names.iter().try_for_each(|name| check_label(field, name))?;
        }
        check_range("policy.outlier.ejection_ms", self.outlier.ejection_ms.into(), 0, 3_600_000)?;
        check_range(
            "policy.outlier.ejected_permille_max",
            self.outlier.ejected_permille_max.into(),
            0,
            1000,
        )?;
        check_range("policy.panic_permille", self.panic_permille.into(), 0, 1000)
    }

    /// How the service's ring is sized.
    pub fn sizing(&self) -> Sizing {
        match self.ring_points_min {
            0 => Sizing::Stable { max: self.ring_points_max },
            min => Sizing::Fixed(RingSize { min, max: self.ring_points_max }),
        }
    }
}

impl Balancing {
    /// All of them.
    pub const ALL: [Balancing; 9] = [
        Balancing::RoundRobin,
        Balancing::WeightedRoundRobin,
        Balancing::Random,
        Balancing::WeightedRandom,
        Balancing::LeastRequest,
        Balancing::PeakEwma,
        Balancing::LeastLoad,
        Balancing::RingHash,
        Balancing::Maglev,
    ];

    /// As people write it.
    pub fn name(self) -> &'static str {
        match self {
            Balancing::RoundRobin => "round-robin",
            Balancing::WeightedRoundRobin => "weighted-round-robin",
            Balancing::Random => "random",
            Balancing::WeightedRandom => "weighted-random",
            Balancing::LeastRequest => "least-request",
            Balancing::PeakEwma => "peak-ewma",
            Balancing::LeastLoad => "least-load",
            Balancing::RingHash => "ring-hash",
            Balancing::Maglev => "maglev",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::ErrorKind;

    #[test]
    fn a_policy_asks_for_no_ring_that_is_large_whatever_the_instances_are() {
        let policy = |min, max| Policy { ring_points_min: min, ring_points_max: max, ..Policy::default() };
        // Envoy's own, gRPC's cap, and as much as may be.
        for (min, max) in [(1024, RING_POINTS_MAX), (4096, 4096), (RING_POINTS_MIN_MAX, RING_POINTS_MAX)] {
            policy(min, max).validate().expect("a good one");
        }
        for (min, max) in [(RING_POINTS_MIN_MAX + 1, RING_POINTS_MAX), (RING_POINTS_MAX, RING_POINTS_MAX)] {
            let error = policy(min, max).validate().expect_err("refused");
            assert_eq!(error.kind, ErrorKind::BadArguments);
            let said = error.to_string();
            assert!(said.contains("policy.ring_points_min") && said.contains("131072"), "{said}");
        }
        assert!(policy(5000, 4096).validate().expect_err("refused").to_string().contains("4096"));
    }
}
