//! Lists that transactions read and append to: strictly serializable, judged as Elle does.
//!
//! Every element is appended once, so a list that was read tells which transactions made it, in
//! which order. From that follow edges between transactions:
//!
//! - *ww*: an element directly behind another: its transaction came after the other's;
//! - *wr*: a list that ends with an element: its reader came after that element's transaction;
//! - *rw*: a list that lacks an element: its reader came before that element's transaction;
//! - *time*: one was answered before the other was asked.
//!
//! A cycle is an anomaly: of ww alone G0, of ww and wr G1c, with one rw G-single, with more G2; a
//! cycle that needs time is a violation of real time. Judged before: a list that read an element
//! twice, an element of a refused transaction (G1a) or of none, two reads of which neither begins
//! with the other (a lost update), a transaction seen by half.

use std::collections::{BTreeMap, BTreeSet};

use super::cycles::{Edge, Graph};
use super::{Anomaly, Checker, Verdict};
use crate::history::{History, Kind, Operation, Pair, Step};

/// See the file's comment.
#[derive(Clone, Copy, Debug)]
pub struct Append;

/// A transaction as the checker sees it.
struct Transaction<'a> {
    kind: Kind,
    begin: usize,
    end: Option<usize>,
    steps: &'a [Step],
}

impl Checker for Append {
    fn name(&self) -> &'static str {
        "append"
    }

    fn check(&self, history: &History) -> Verdict {
        let pairs = history.pairs();
        let transactions: Vec<Transaction<'_>> = pairs.iter().filter_map(transaction).collect();
        let known = transactions.iter().filter(|transaction| transaction.kind == Kind::Ok).count();
        if known == 0 {
            return Verdict::Unknown { reason: "no transaction was acknowledged".into() };
        }
        let mut judge = Judge { transactions: &transactions, anomalies: Vec::new() };
        let lists = judge.lists();
        judge.elements(&lists);
        judge.halves(&lists);
        judge.cycles(&lists);
        Verdict::of(judge.anomalies, format!("{known} transactions on {} lists", lists.len()))
    }
}

fn transaction<'a>(pair: &Pair<'a>) -> Option<Transaction<'a>> {
    let entry = match (pair.kind(), pair.completion) {
        (Kind::Ok, Some(completion)) => completion,
        _ => pair.invoke,
    };
    let Operation::Transaction { steps } = &entry.operation else { return None };
    let end = if pair.kind() == Kind::Ok { pair.end } else { None };
    Some(Transaction { kind: pair.kind(), begin: pair.begin, end, steps })
}

struct Judge<'a> {
    transactions: &'a [Transaction<'a>],
    anomalies: Vec<Anomaly>,
}

impl Judge<'_> {
    fn anomaly(&mut self, what: String, transactions: &[usize]) {
        let entries: BTreeSet<usize> = transactions
            .iter()
            .flat_map(|index| [Some(self.transactions[*index].begin), self.transactions[*index].end])
            .flatten()
            .collect();
        self.anomalies.push(Anomaly::new(what, entries.into_iter().collect::<Vec<_>>()));
    }

    /// Each list as the longest read has it, what acknowledged transactions appended included. Reads
    /// that do not begin alike are anomalies.
    fn lists(&mut self) -> BTreeMap<u32, Vec<u64>> {
        let mut longest: BTreeMap<u32, (Vec<u64>, usize)> = BTreeMap::new();
        let transactions = self.transactions;
        for (index, transaction) in transactions.iter().enumerate() {
            for step in transaction.steps {
                let Some(before) = &step.before else { continue };
                let seen: Vec<u64> = before.iter().copied().chain(step.append).collect();
                let (list, reader) = longest.entry(step.list).or_insert_with(|| (Vec::new(), index));
                let shared = list.len().min(seen.len());
                if list[..shared] != seen[..shared] {
                    let what = format!("list {}: two reads, and neither begins with the other", step.list);
                    let other = *reader;
                    self.anomaly(what, &[other, index]);
                } else if seen.len() > list.len() {
                    (*list, *reader) = (seen, index);
                }
            }
        }
        longest.into_iter().map(|(list, (elements, _))| (list, elements)).collect()
    }

    /// Who appended each element, and to which list.
    fn writers(&self) -> BTreeMap<(u32, u64), usize> {
        let mut writers = BTreeMap::new();
        for (index, transaction) in self.transactions.iter().enumerate() {
            for step in transaction.steps {
                writers.extend(step.append.map(|element| ((step.list, element), index)));
            }
        }
        writers
    }

    fn elements(&mut self, lists: &BTreeMap<u32, Vec<u64>>) {
        let writers = self.writers();
        for (list, elements) in lists {
            let mut seen = BTreeSet::new();
            for element in elements {
                if !seen.insert(element) {
                    let known: Vec<usize> = writers.get(&(*list, *element)).copied().into_iter().collect();
                    self.anomaly(format!("list {list}: element {element} is there twice"), &known);
                }
                match writers.get(&(*list, *element)) {
                    None => self.anomaly(format!("list {list}: nobody appended {element}"), &[]),
                    Some(writer) if self.transactions[*writer].kind == Kind::Fail => {
                        let what = format!("list {list}: {element} was refused and is there (G1a)");
                        self.anomaly(what, &[*writer]);
                    }
                    Some(_) => {}
                }
            }
        }
    }

    /// Where it was first known of each element that it is there.
    fn first_seen(&self) -> BTreeMap<(u32, u64), usize> {
        let mut first_seen = BTreeMap::new();
        for transaction in self.transactions {
            let Some(end) = transaction.end else { continue };
            for step in transaction.steps {
                for element in step.before.iter().flatten() {
                    let seen = first_seen.entry((step.list, *element)).or_insert(end);
                    *seen = end.min(*seen);
                }
            }
        }
        first_seen
    }

    /// A transaction of which something is there is there as a whole, as far as lists were read after
    /// it was known: acknowledged, or seen in some list.
    fn halves(&mut self, lists: &BTreeMap<u32, Vec<u64>>) {
        let mut last_read: BTreeMap<u32, usize> = BTreeMap::new();
        for transaction in self.transactions.iter().filter(|transaction| transaction.kind == Kind::Ok) {
            for step in transaction.steps.iter().filter(|step| step.before.is_some()) {
                let read = last_read.entry(step.list).or_default();
                *read = (*read).max(transaction.begin);
            }
        }
        let first_seen = self.first_seen();
        let transactions = self.transactions;
        for (index, transaction) in transactions.iter().enumerate() {
            let there = |step: &Step| {
                step.append.map(|element| lists.get(&step.list).is_some_and(|list| list.contains(&element)))
            };
            let is_there = transaction.steps.iter().any(|step| there(step) == Some(true));
            // An acknowledged one must be there; an unknown one at least as a whole.
            if !is_there && transaction.kind != Kind::Ok {
                continue;
            }
            let seen = |step: &Step| first_seen.get(&(step.list, step.append?)).copied();
            let known = transaction.end.or_else(|| transaction.steps.iter().filter_map(seen).min());
            for step in transaction.steps {
                let was_read =
                    last_read.get(&step.list).is_some_and(|read| known.is_some_and(|known| *read > known));
                if there(step) == Some(false) && was_read {
                    let what = format!("list {}: of a transaction only a part is there", step.list);
                    self.anomaly(what, &[index]);
                }
            }
        }
    }

    fn cycles(&mut self, lists: &BTreeMap<u32, Vec<u64>>) {
        let writers = self.writers();
        let mut graph = Graph::new(self.transactions.len());
        for (list, elements) in lists {
            let order: Vec<Option<usize>> =
                elements.iter().map(|element| writers.get(&(*list, *element)).copied()).collect();
            for pair in order.windows(2) {
                if let [Some(before), Some(after)] = pair {
                    graph.edge(*before, *after, Edge::WriteWrite);
                }
            }
            for (index, transaction) in self.transactions.iter().enumerate() {
                let steps = transaction.steps.iter().filter(|step| step.list == *list);
                for before in steps.filter_map(|step| step.before.as_ref()) {
                    let known = before.len().min(order.len());
                    if let Some(Some(writer)) = order[..known].last() {
                        graph.edge(*writer, index, Edge::WriteRead);
                    }
                    if let Some(Some(writer)) = order.get(before.len()) {
                        graph.edge(index, *writer, Edge::ReadWrite);
                    }
                }
            }
        }
        let times: Vec<(usize, Option<usize>)> =
            self.transactions.iter().map(|transaction| (transaction.begin, transaction.end)).collect();
        for (name, cycle) in graph.cycles(&times) {
            self.anomaly(format!("{name}: {} transactions in a circle", cycle.len()), &cycle);
        }
    }
}
