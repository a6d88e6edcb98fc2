//! The registry's words: instances, policies, filters.

use std::collections::BTreeMap;

use quorate_core::registry::instance::{Check, CheckKind, Health, Instance, Locality, Mode, Status};
use quorate_core::registry::policy::{
    Balancing, CircuitBreaker, Outlier, Policy, RateLimit, RetryBudget, Split,
};
use quorate_core::registry::{Entry, Filter, Service};
use quorate_core::ring::size::RING_POINTS_DEFAULT;

use super::{WireError, required};
use crate::v1;

/// What an instance's check is when a field is 0.
fn or_default(value: u32, default: u32) -> u32 {
    if value == 0 { default } else { value }
}

macro_rules! enums {
    ($wire:ty, $core:ty: $($there:ident => $here:ident,)*) => {
        impl From<$core> for $wire {
            fn from(value: $core) -> $wire {
                match value { $(<$core>::$here => <$wire>::$there,)* }
            }
        }

        impl From<$wire> for $core {
            fn from(value: $wire) -> $core {
                match value { $(<$wire>::$there => <$core>::$here,)* }
            }
        }
    };
}

enums! { v1::Health, Health:
    Passing => Passing,
    Warning => Warning,
    Critical => Critical,
}

enums! { v1::Balancing, Balancing:
    RoundRobin => RoundRobin,
    WeightedRoundRobin => WeightedRoundRobin,
    Random => Random,
    WeightedRandom => WeightedRandom,
    LeastRequest => LeastRequest,
    PeakEwma => PeakEwma,
    LeastLoad => LeastLoad,
    RingHash => RingHash,
    Maglev => Maglev,
}

impl From<Status> for v1::InstanceStatus {
    fn from(status: Status) -> v1::InstanceStatus {
        match status {
            Status::Passing => v1::InstanceStatus::Passing,
            Status::Warning => v1::InstanceStatus::Warning,
            Status::Critical => v1::InstanceStatus::Critical,
            Status::Draining => v1::InstanceStatus::Draining,
            Status::Maintenance => v1::InstanceStatus::Maintenance,
        }
    }
}

/// A health on the wire.
pub fn health(value: i32) -> Result<Health, WireError> {
    let known = v1::Health::try_from(value);
    Ok(known.map_err(|_| WireError::UnknownValue { field: "health", value })?.into())
}

/// A mode on the wire, with its window.
pub fn mode(value: i32, window_ms: u32) -> Result<Mode, WireError> {
    match v1::Mode::try_from(value) {
        Ok(v1::Mode::Serving) => Ok(Mode::Serving),
        Ok(v1::Mode::Draining) => Ok(Mode::Draining { window_ms }),
        Ok(v1::Mode::Maintenance) => Ok(Mode::Maintenance),
        Err(_) => Err(WireError::UnknownValue { field: "mode", value }),
    }
}

impl From<Instance> for v1::Instance {
    fn from(instance: Instance) -> v1::Instance {
        let status = v1::InstanceStatus::from(instance.status());
        let (mode, drain_window_ms) = match instance.mode {
            Mode::Serving => (v1::Mode::Serving, 0),
            Mode::Draining { window_ms } => (v1::Mode::Draining, window_ms),
            Mode::Maintenance => (v1::Mode::Maintenance, 0),
        };
        let Locality { region, zone, sub_zone } = instance.locality;
        v1::Instance {
            id: instance.id,
            address: instance.address,
            ports: instance.ports.into_iter().map(|(name, port)| (name, port.into())).collect(),
            protocol: instance.protocol,
            weight: Some(instance.weight),
            locality: Some(v1::Locality { region, zone, sub_zone }),
            metadata: instance.metadata.into_iter().collect(),
            version: instance.version,
            generation: instance.generation,
            health: v1::Health::from(instance.health).into(),
            reason: instance.reason,
            mode: mode.into(),
            drain_window_ms,
            load: instance.load,
            cluster: instance.cluster,
            priority: instance.priority,
            check: instance.check.map(Into::into),
            status: status.into(),
            registered_zxid: 0,
            changed_zxid: 0,
            session_id: 0,
        }
    }
}

impl From<&Entry> for v1::Instance {
    fn from(entry: &Entry) -> v1::Instance {
        v1::Instance {
            registered_zxid: entry.registered.0,
            changed_zxid: entry.changed.0,
            session_id: entry.owner.0,
            ..entry.instance.clone().into()
        }
    }
}

impl TryFrom<v1::Instance> for Instance {
    type Error = WireError;

    fn try_from(wire: v1::Instance) -> Result<Instance, WireError> {
        let mut ports = BTreeMap::new();
        for (name, port) in wire.ports {
            let problem = "has a port beyond 65535";
            let port =
                port.try_into().map_err(|_| WireError::Malformed { field: "instance.ports", problem })?;
            ports.insert(name, port);
        }
        let v1::Locality { region, zone, sub_zone } = wire.locality.unwrap_or_default();
        Ok(Instance {
            id: wire.id,
            address: wire.address,
            ports,
            protocol: wire.protocol,
            weight: wire.weight.unwrap_or(1),
            locality: Locality { region, zone, sub_zone },
            metadata: wire.metadata.into_iter().collect(),
            version: wire.version,
            generation: wire.generation,
            health: health(wire.health)?,
            reason: wire.reason,
            mode: mode(wire.mode, wire.drain_window_ms)?,
            load: wire.load,
            cluster: wire.cluster,
            priority: wire.priority,
            check: wire.check.map(TryInto::try_into).transpose()?,
        })
    }
}

/// An instance with what the cluster knows of it.
pub fn entry(wire: v1::Instance) -> Result<Entry, WireError> {
    use quorate_core::id::{SessionId, Zxid};
    let (registered, changed) = (Zxid(wire.registered_zxid), Zxid(wire.changed_zxid));
    let owner = SessionId(wire.session_id);
    Ok(Entry { registered, changed, owner, version: 0, instance: wire.try_into()? })
}

impl From<Check> for v1::HealthCheck {
    fn from(check: Check) -> v1::HealthCheck {
        use v1::health_check::Kind;
        let kind = match check.kind {
            CheckKind::Tcp => Kind::Tcp(v1::TcpCheck {}),
            CheckKind::Http { path } => Kind::Http(v1::HttpCheck { path }),
            CheckKind::Grpc { service } => Kind::Grpc(v1::GrpcCheck { service }),
        };
        v1::HealthCheck {
            kind: Some(kind),
            port: check.port,
            interval_ms: check.interval_ms,
            timeout_ms: check.timeout_ms,
            rise: check.rise,
            fall: check.fall,
            remove_after_ms: check.remove_after_ms,
        }
    }
}

impl TryFrom<v1::HealthCheck> for Check {
    type Error = WireError;

    fn try_from(wire: v1::HealthCheck) -> Result<Check, WireError> {
        use v1::health_check::Kind;
        let kind = match required(wire.kind, "instance.check.kind")? {
            Kind::Tcp(v1::TcpCheck {}) => CheckKind::Tcp,
            Kind::Http(v1::HttpCheck { path }) => CheckKind::Http { path },
            Kind::Grpc(v1::GrpcCheck { service }) => CheckKind::Grpc { service },
        };
        let default = Check::new(CheckKind::Tcp);
        Ok(Check {
            kind,
            port: wire.port,
            interval_ms: or_default(wire.interval_ms, default.interval_ms),
            timeout_ms: or_default(wire.timeout_ms, default.timeout_ms),
            rise: or_default(wire.rise, default.rise),
            fall: or_default(wire.fall, default.fall),
            remove_after_ms: wire.remove_after_ms,
        })
    }
}

impl From<v1::InstanceFilter> for Filter {
    fn from(wire: v1::InstanceFilter) -> Filter {
        Filter {
            usable_only: wire.usable_only,
            zone: wire.zone,
            version: wire.version,
            metadata: wire.metadata.into_iter().collect(),
        }
    }
}

impl From<&Service> for v1::ServiceSummary {
    fn from(service: &Service) -> v1::ServiceSummary {
        let usable = Filter { usable_only: true, ..Filter::default() };
        v1::ServiceSummary {
            namespace: service.name().namespace().into(),
            service: service.name().service().into(),
            version: service.version().0,
            instances: service.entries().len() as u32,
            usable: service.filtered(&usable).count() as u32,
            unreadable: service.unreadable(),
        }
    }
}

impl From<Policy> for v1::Policy {
    fn from(policy: Policy) -> v1::Policy {
        let split = policy.split.into_iter();
        let (budget, outlier) = (policy.retry_budget, policy.outlier);
        v1::Policy {
            balancing: v1::Balancing::from(policy.balancing).into(),
            port: policy.port,
            ring_points_min: policy.ring_points_min,
            ring_points_max: policy.ring_points_max,
            split: split.map(|Split { version, weight }| v1::TrafficSplit { version, weight }).collect(),
            rate_limit: policy
                .rate_limit
                .map(|RateLimit { per_second, burst }| v1::RateLimit { per_second, burst }),
            circuit_breaker: policy
                .circuit_breaker
                .map(|CircuitBreaker { requests, pending }| v1::CircuitBreaker { requests, pending }),
            retry_budget: Some(v1::RetryBudget {
                permille: budget.permille,
                per_second_min: budget.per_second_min,
                attempts_max: budget.attempts_max,
            }),
            timeout_ms: policy.timeout_ms,
            zone_aware: policy.is_zone_aware,
            failover_zones: policy.failover_zones,
            failover_clusters: policy.failover_clusters,
            outlier: Some(v1::OutlierEjection {
                failures: outlier.failures,
                ejection_ms: outlier.ejection_ms,
                ejected_permille_max: outlier.ejected_permille_max,
                slow_start_ms: outlier.slow_start_ms,
            }),
            panic_permille: Some(policy.panic_permille),
        }
    }
}

impl TryFrom<v1::Policy> for Policy {
    type Error = WireError;

    fn try_from(wire: v1::Policy) -> Result<Policy, WireError> {
        let default = Policy::default();
        let balancing = v1::Balancing::try_from(wire.balancing)
            .map_err(|_| WireError::UnknownValue { field: "policy.balancing", value: wire.balancing })?;
        let split = wire.split.into_iter();
        Ok(Policy {
            balancing: balancing.into(),
            port: wire.port,
            ring_points_min: wire.ring_points_min,
            ring_points_max: match wire.ring_points_max {
                0 => RING_POINTS_DEFAULT,
                points => points,
            },
            split: split.map(|v1::TrafficSplit { version, weight }| Split { version, weight }).collect(),
            rate_limit: wire
                .rate_limit
                .map(|v1::RateLimit { per_second, burst }| RateLimit { per_second, burst }),
            circuit_breaker: wire
                .circuit_breaker
                .map(|v1::CircuitBreaker { requests, pending }| CircuitBreaker { requests, pending }),
            retry_budget: wire.retry_budget.map_or(default.retry_budget, |budget| RetryBudget {
                permille: budget.permille,
                per_second_min: budget.per_second_min,
                attempts_max: budget.attempts_max,
            }),
            timeout_ms: wire.timeout_ms,
            is_zone_aware: wire.zone_aware,
            failover_zones: wire.failover_zones,
            failover_clusters: wire.failover_clusters,
            outlier: wire.outlier.map_or(default.outlier, |outlier| Outlier {
                failures: outlier.failures,
                ejection_ms: outlier.ejection_ms,
                ejected_permille_max: outlier.ejected_permille_max,
                slow_start_ms: outlier.slow_start_ms,
            }),
            panic_permille: wire.panic_permille.unwrap_or(default.panic_permille),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn instances_and_policies_survive_the_wire() {
        let mut instance = Instance::new("a", "::1", 80);
        instance.mode = Mode::Draining { window_ms: 7 };
        instance.health = Health::Warning;
        instance.check = Some(Check::new(CheckKind::Grpc { service: "x".into() }));
        instance.metadata.insert("team".into(), "blue".into());
        let wire = v1::Instance::from(instance.clone());
        assert_eq!(wire.status(), v1::InstanceStatus::Draining);
        assert_eq!(Instance::try_from(wire), Ok(instance));
        let policy = Policy {
            balancing: Balancing::RingHash,
            split: vec![Split { version: "v2".into(), weight: 5 }],
            rate_limit: Some(RateLimit { per_second: 5, burst: 6 }),
            ..Policy::default()
        };
        assert_eq!(Policy::try_from(v1::Policy::from(policy.clone())), Ok(policy));
        assert_eq!(Policy::try_from(v1::Policy::default()), Ok(Policy::default()));
    }

    #[test]
    fn what_cannot_be_is_refused() {
        let wire = v1::Instance { ports: [("main".into(), 65_536)].into(), ..v1::Instance::default() };
        assert!(Instance::try_from(wire).is_err());
        assert!(Instance::try_from(v1::Instance { health: 9, ..Default::default() }).is_err());
        assert!(Instance::try_from(v1::Instance { mode: -1, ..Default::default() }).is_err());
        assert!(
            Instance::try_from(v1::Instance {
                check: Some(v1::HealthCheck::default()),
                ..Default::default()
            })
            .is_err()
        );
        assert!(Policy::try_from(v1::Policy { balancing: 99, ..Default::default() }).is_err());
    }
}
