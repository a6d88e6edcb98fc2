//! Aims: what Quorate is meant to reach against its peers, and whether a report shows it.

use crate::targets::Protocol;
use crate::workloads::Figures;

use super::{Pick, Report};

/// How a figure is compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Direction {
    /// At least so many times the other's.
    AtLeast,
    /// At most this part of the other's.
    AtMost,
}

/// One line.
pub(super) struct Aim<'a> {
    pub(super) what: &'static str,
    pub(super) ours: (&'a str, Protocol, Pick),
    pub(super) theirs: (&'a str, Protocol, Pick),
    pub(super) direction: Direction,
    /// What must be reached, and what is aimed at.
    pub(super) wanted: (f64, f64),
}

impl Aim<'_> {
    /// The ratio, if the report has both.
    pub(super) fn ratio(&self, report: &Report) -> Option<f64> {
        report.ratio(self.ours, self.theirs)
    }

    pub(super) fn is_met(&self, ratio: f64, wanted: f64) -> bool {
        match self.direction {
            Direction::AtLeast => ratio >= wanted,
            Direction::AtMost => ratio <= wanted,
        }
    }
}

fn throughput(figures: &Figures) -> Option<f64> {
    figures.throughput
}

fn p50(figures: &Figures) -> Option<f64> {
    figures.p50
}

fn p99(figures: &Figures) -> Option<f64> {
    figures.p99
}

fn server_cpu(figures: &Figures) -> Option<f64> {
    figures.server_cpu
}

fn resident(figures: &Figures) -> Option<f64> {
    figures.resident
}

/// All lines; the memory's label says how many nodes there were.
pub(super) fn all(memory_label: &str) -> Vec<Aim<'_>> {
    use Direction::{AtLeast, AtMost};
    use Protocol::{Etcd, Quorate, QuorateZookeeper, Zookeeper};
    let same = |what, label, pick, other, direction, wanted| Aim {
        what,
        ours: (label, Quorate, pick),
        theirs: (label, other, pick),
        direction,
        wanted,
    };
    let door = |what, label, pick, direction, wanted| Aim {
        what,
        ours: (label, QuorateZookeeper, pick),
        theirs: (label, Zookeeper, pick),
        direction,
        wanted,
    };
    let throughput: Pick = throughput;
    let (p50, p99, server_cpu, resident): (Pick, Pick, Pick, Pick) = (p50, p99, server_cpu, resident);
    vec![
        same("set 8 × 32", "set", throughput, Zookeeper, AtLeast, (5.0, 10.0)),
        same("set 8 × 32", "set", throughput, Etcd, AtLeast, (5.0, 10.0)),
        same("create 8 × 32", "create", throughput, Zookeeper, AtLeast, (5.0, 10.0)),
        same("create 8 × 32", "create", throughput, Etcd, AtLeast, (5.0, 10.0)),
        same("set p50, 1 in flight", "set, 1 in flight", p50, Zookeeper, AtMost, (0.9, 0.6)),
        same("get, local", "get, local", throughput, Zookeeper, AtLeast, (5.0, 12.0)),
        same("get, linearizable", "get, linearizable", throughput, Etcd, AtLeast, (10.0, 25.0)),
        same("mixed 90/10", "mixed 90/10", throughput, Zookeeper, AtLeast, (4.0, 10.0)),
        same("set p99, 8 × 32", "set", p99, Zookeeper, AtMost, (0.25, 0.1)),
        same("server CPU a set", "set", server_cpu, Zookeeper, AtMost, (0.2, 0.083)),
        same("server CPU a set", "set", server_cpu, Etcd, AtMost, (0.2, 0.083)),
        same("server CPU a get, local", "get, local", server_cpu, Zookeeper, AtMost, (0.2, 0.083)),
        same("server CPU a get, linearizable", "get, linearizable", server_cpu, Etcd, AtMost, (0.2, 0.083)),
        same("fan-out, send to last, p50", "fan-out, send to last", p50, Zookeeper, AtMost, (0.6, 0.25)),
        same("fan-out, send to last, p99", "fan-out, send to last", p99, Zookeeper, AtMost, (0.6, 0.25)),
        same("fan-out, send to last, p50", "fan-out, send to last", p50, Etcd, AtMost, (0.6, 0.25)),
        same("fan-out, send to last, p99", "fan-out, send to last", p99, Etcd, AtMost, (0.6, 0.25)),
        same("ephemeral churn", "ephemeral churn", throughput, Zookeeper, AtLeast, (4.0, 10.0)),
        same("lock hand-over", "lock hand-over", throughput, Zookeeper, AtLeast, (4.0, 10.0)),
        same("failover, median", "failover", p50, Zookeeper, AtMost, (1.0, 0.5)),
        same("failover, median", "failover", p50, Etcd, AtMost, (1.0, 0.15)),
        Aim {
            what: "memory against live heap",
            ours: (memory_label, Quorate, resident),
            theirs: ("memory, live heap", Zookeeper, resident),
            direction: AtMost,
            wanted: (1.0, 0.5),
        },
        same("memory", memory_label, resident, Etcd, AtMost, (1.0, 0.3)),
        same("restart", "restart of a follower", p50, Zookeeper, AtMost, (1.0, 0.25)),
        same("restart", "restart of a follower", p50, Etcd, AtMost, (1.0, 0.4)),
        Aim {
            what: "server CPU a set, large tree against small",
            ours: ("set in a large tree", Quorate, server_cpu),
            theirs: ("set in a small tree", Quorate, server_cpu),
            direction: AtMost,
            wanted: (1.3, 1.05),
        },
        same("unary create against put", "unary create", throughput, Etcd, AtLeast, (3.0, 6.0)),
        door("ZooKeeper door: set 8 × 32", "set", throughput, AtLeast, (4.0, 4.0)),
        door("ZooKeeper door: get, local", "get, local", throughput, AtLeast, (2.0, 2.0)),
        door("ZooKeeper door: server CPU a set", "set", server_cpu, AtMost, (0.25, 0.25)),
        door("ZooKeeper door: server CPU a get, local", "get, local", server_cpu, AtMost, (0.25, 0.25)),
    ]
}
