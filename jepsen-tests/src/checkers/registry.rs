//! A service's followers converge: when nothing changes any more all know the same instances, those that
//! the members have, and agree which owns which key; what was registered for good is among them, what was
//! taken out is not.
//!
//! A list without a ring is the members' own. Fewer than two followers cannot agree.

use std::collections::BTreeMap;

use super::{Anomaly, Checker, Verdict};
use crate::history::{History, Kind, Operation};

/// See the file's comment.
#[derive(Clone, Copy, Debug)]
pub struct Registry;

impl Checker for Registry {
    fn name(&self) -> &'static str {
        "registry"
    }

    fn check(&self, history: &History) -> Verdict {
        // How each instance stands, by its last operation, and where that ended.
        let mut instances: BTreeMap<u64, (Operation, Kind, usize)> = BTreeMap::new();
        let mut views: Vec<(usize, &Vec<u64>, u64)> = Vec::new();
        let mut truths: Vec<(usize, &Vec<u64>)> = Vec::new();
        for pair in history.pairs() {
            let end = pair.end.unwrap_or(pair.begin);
            match &pair.completion.unwrap_or(pair.invoke).operation {
                operation @ (Operation::Register { instance } | Operation::Deregister { instance }) => {
                    instances.insert(*instance, (operation.clone(), pair.kind(), end));
                }
                Operation::Follow { instances: Some(known), ring: Some(ring) } if pair.kind() == Kind::Ok => {
                    views.push((end, known, *ring));
                }
                Operation::Follow { instances: Some(held), ring: None } if pair.kind() == Kind::Ok => {
                    truths.push((end, held));
                }
                _ => {}
            }
        }
        let mut anomalies = Vec::new();
        let Some((first, known, ring)) = views.first() else {
            return Verdict::Unknown { reason: "no follower told what it knows".into() };
        };
        for (end, other, other_ring) in &views[1..] {
            if other != known {
                let what = format!("followers know different instances: {known:?} and {other:?}");
                anomalies.push(Anomaly::new(what, [*first, *end]));
            } else if other_ring != ring {
                anomalies.push(Anomaly::new("followers disagree which owns which key", [*first, *end]));
            }
        }
        for (end, held) in &truths {
            if held != known {
                let what = format!("a follower knows {known:?}, the members have {held:?}");
                anomalies.push(Anomaly::new(what, [*first, *end]));
            }
        }
        for (instance, (operation, kind, end)) in &instances {
            let is_there = known.contains(instance);
            match (operation, kind) {
                (Operation::Deregister { .. }, Kind::Ok) if is_there => {
                    let what = format!("instance {instance} was taken out and is there");
                    anomalies.push(Anomaly::new(what, [*end, *first]));
                }
                (Operation::Register { .. }, Kind::Fail) if is_there => {
                    let what = format!("instance {instance} was refused and is there");
                    anomalies.push(Anomaly::new(what, [*end, *first]));
                }
                _ => {}
            }
        }
        for instance in known.iter().filter(|instance| !instances.contains_key(instance)) {
            anomalies.push(Anomaly::new(format!("nobody registered instance {instance}"), [*first]));
        }
        // The lasting one belongs to no session: it must be there whatever happened.
        if let Some((_, Kind::Ok, end)) = instances.get(&0)
            && !known.contains(&0)
        {
            anomalies.push(Anomaly::new("the lasting instance is gone", [*end, *first]));
        }
        if anomalies.is_empty() {
            if views.len() < 2 {
                return Verdict::Unknown { reason: "only one follower told what it knows".into() };
            }
            if truths.is_empty() {
                return Verdict::Unknown { reason: "the members were not asked what they have".into() };
            }
        }
        Verdict::of(
            anomalies,
            format!(
                "{} registrations, {} followers agree on {} instances",
                instances.len(),
                views.len(),
                known.len()
            ),
        )
    }
}
