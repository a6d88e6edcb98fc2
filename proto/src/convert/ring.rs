//! Rings on the wire.

use quorate_core::registry::{Service, Status};
use quorate_core::ring::Placement;

use crate::v1;

/// A service's ring: all that is needed to build it.
pub fn ring(service: &Service) -> v1::GetRingResponse {
    let current = service.ring();
    let members = current.ring.members().iter().zip(current.ring.shares()).enumerate();
    let members = members.map(|(index, (member, share))| v1::RingMember {
        instance_id: member.id.to_string(),
        endpoint: member.key.to_string(),
        weight: member.weight,
        points: current.ring.points_of(index),
        share_millionths: (share * 1e6).round() as u32,
    });
    let draining = service.entries().iter().filter(|entry| entry.instance.status() == Status::Draining);
    v1::GetRingResponse {
        version: service.version().0,
        min_ring_size: current.ring.size().min,
        max_ring_size: current.ring.size().max,
        members: members.collect(),
        points: current.ring.len() as u64,
        panicking: current.is_panicking,
        draining: draining.map(|entry| entry.instance.id.clone()).collect(),
    }
}
