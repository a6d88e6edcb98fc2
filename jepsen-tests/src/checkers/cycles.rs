//! Circles among transactions, and what each is called.
//!
//! Who came before whom in time is said with few edges: the ends of all transactions in their order
//! are a chain of its own; each transaction leads to its end, and the last end before a beginning
//! leads to the transaction that began there.

use std::collections::BTreeMap;

/// Why one transaction came before another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Edge {
    /// It wrote what the other wrote over.
    WriteWrite,
    /// It wrote what the other read.
    WriteRead,
    /// It read what the other then wrote over.
    ReadWrite,
    /// It was over before the other began.
    Time,
}

/// Transactions and edges between them.
pub(super) struct Graph {
    count: usize,
    edges: BTreeMap<usize, Vec<(usize, Edge)>>,
}

impl Graph {
    pub(super) fn new(count: usize) -> Graph {
        Graph { count, edges: BTreeMap::new() }
    }

    /// Nobody comes before itself.
    pub(super) fn edge(&mut self, from: usize, to: usize, edge: Edge) {
        if from != to {
            self.edges.entry(from).or_default().push((to, edge));
        }
    }

    /// The circles, one for each knot of transactions, by the least that explains it. `times` are the
    /// beginnings and ends.
    pub(super) fn cycles(mut self, times: &[(usize, Option<usize>)]) -> Vec<(&'static str, Vec<usize>)> {
        let kinds: [(&'static str, &[Edge]); 3] = [
            ("G0", &[Edge::WriteWrite]),
            ("G1c", &[Edge::WriteWrite, Edge::WriteRead]),
            ("", &[Edge::WriteWrite, Edge::WriteRead, Edge::ReadWrite]),
        ];
        let mut found = Vec::new();
        for (name, edges) in kinds {
            for knot in self.knots(edges, self.count) {
                let name = if name.is_empty() { self.name_with_reads(&knot) } else { name };
                found.push((name, knot));
            }
            if !found.is_empty() {
                return found;
            }
        }
        let nodes = self.count + self.add_time(times);
        let all = [Edge::WriteWrite, Edge::WriteRead, Edge::ReadWrite, Edge::Time];
        let knots = self.knots(&all, nodes).into_iter();
        knots
            .map(|mut knot| {
                knot.retain(|node| *node < self.count);
                ("against real time", knot)
            })
            .collect()
    }

    /// Adds the chain of ends; returns how many nodes that took.
    fn add_time(&mut self, times: &[(usize, Option<usize>)]) -> usize {
        let mut ends: Vec<(usize, usize)> =
            times.iter().enumerate().filter_map(|(index, (_, end))| Some(((*end)?, index))).collect();
        ends.sort_unstable();
        for (place, (_, transaction)) in ends.iter().enumerate() {
            self.edge(*transaction, self.count + place, Edge::Time);
            if place + 1 < ends.len() {
                self.edge(self.count + place, self.count + place + 1, Edge::Time);
            }
        }
        for (index, (begin, _)) in times.iter().enumerate() {
            let before = ends.partition_point(|(end, _)| end < begin);
            if before > 0 {
                self.edge(self.count + before - 1, index, Edge::Time);
            }
        }
        ends.len()
    }

    /// With one edge of a read that was written over the rest of the circle needs none: G-single.
    fn name_with_reads(&self, knot: &[usize]) -> &'static str {
        let others = [Edge::WriteWrite, Edge::WriteRead];
        for from in knot {
            for (to, edge) in self.edges.get(from).into_iter().flatten() {
                if *edge == Edge::ReadWrite && knot.contains(to) && self.reaches(*to, *from, &others) {
                    return "G-single";
                }
            }
        }
        "G2"
    }

    fn reaches(&self, from: usize, to: usize, allowed: &[Edge]) -> bool {
        let mut seen = std::collections::BTreeSet::from([from]);
        let mut left = vec![from];
        while let Some(node) = left.pop() {
            if node == to {
                return true;
            }
            for (next, edge) in self.edges.get(&node).into_iter().flatten() {
                if allowed.contains(edge) && seen.insert(*next) {
                    left.push(*next);
                }
            }
        }
        false
    }

    /// Nodes that all lead to each other, in groups of two or more (Tarjan's search, with a stack of
    /// its own: circles may be as long as the history).
    fn knots(&self, allowed: &[Edge], nodes: usize) -> Vec<Vec<usize>> {
        const UNSEEN: usize = usize::MAX;
        let mut order = vec![UNSEEN; nodes];
        let mut low = vec![0; nodes];
        let mut is_open = vec![false; nodes];
        let (mut open, mut knots, mut count) = (Vec::new(), Vec::new(), 0);
        let none = Vec::new();
        for root in 0..nodes {
            if order[root] != UNSEEN {
                continue;
            }
            let mut path = vec![(root, 0)];
            while let Some((node, next)) = path.last_mut() {
                let node = *node;
                if *next == 0 {
                    (order[node], low[node]) = (count, count);
                    count += 1;
                    open.push(node);
                    is_open[node] = true;
                }
                let edges = self.edges.get(&node).unwrap_or(&none);
                match edges.get(*next) {
                    Some((to, edge)) => {
                        *next += 1;
                        if !allowed.contains(edge) {
                            // Counted, so that the node is not begun again.
                        } else if order[*to] == UNSEEN {
                            path.push((*to, 0));
                        } else if is_open[*to] {
                            low[node] = low[node].min(order[*to]);
                        }
                    }
                    None => {
                        path.pop();
                        if let Some((above, _)) = path.last() {
                            low[*above] = low[*above].min(low[node]);
                        }
                        if low[node] == order[node] {
                            let from = open.iter().rposition(|other| *other == node).unwrap_or(0);
                            let knot = open.split_off(from);
                            knot.iter().for_each(|node| is_open[*node] = false);
                            if knot.len() > 1 {
                                knots.push(knot);
                            }
                        }
                    }
                }
            }
        }
        knots
    }
}
