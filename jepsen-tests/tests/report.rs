//! The page of a run shows what a sceptic asks for: who says what is wrong, when, and how to see it again.

mod story;

use jepsen_tests::checkers::linearizable::Linearizable;
use jepsen_tests::checkers::{Finding, judge};
use jepsen_tests::history::{History, Kind, NEMESIS, Operation};
use jepsen_tests::report;
use jepsen_tests::run::{Outcome, Plan};
use jepsen_tests::workloads::Door;
use story::Story;

fn read(value: Option<(u64, i32)>) -> Operation {
    Operation::Read { key: 1, value }
}

fn write(value: u64, version: Option<i32>) -> Operation {
    Operation::Write { key: 1, value, version }
}

fn fault(healed: bool) -> Operation {
    Operation::Fault { nemesis: "isolate-leader".into(), healed, members: vec![2] }
}

fn page(history: &History) -> String {
    let findings: Vec<Finding> = judge(&[Box::new(Linearizable { initial: (0, 0) })], history);
    let plan = Plan {
        workload: "register".into(),
        nemesis: vec!["isolate-leader".into()],
        members: 3,
        time_ms: 1_000,
        seed: 77,
        workers: 2,
        rate: 10,
        door: Door::Grpc,
    };
    let outcome =
        Outcome { plan, wires: "loopback".into(), findings, panics: Vec::new(), operations: 2, faults: 1 };
    report::html(&outcome, history)
}

#[test]
fn an_anomaly_is_drawn_as_a_timeline_with_its_faults_and_listed() {
    let story = Story::default()
        .entry(NEMESIS, Kind::Info, fault(false), None)
        .alone(1, write(5, None), write(5, Some(1)))
        .alone(2, read(None), read(Some((0, 0))))
        .entry(NEMESIS, Kind::Info, fault(true), None);
    let page = page(&story.0);
    assert!(page.contains("not valid") && page.contains("--seed 77"), "{page}");
    let anomaly = page.split("<h2>Anomalies found by linearizable</h2>").nth(1).expect("a part of its own");
    let drawing = anomaly.split("</svg>").next().expect("a drawing");
    for shown in ["process 1", "process 2", "isolate-leader of [2]", "stroke='#b3261e'", "read "] {
        assert!(drawing.contains(shown), "{shown}: {drawing}");
    }
    assert!(anomaly.contains("<span class=hit>"), "{anomaly}");
}

#[test]
fn a_run_without_anomalies_shows_none() {
    let story = Story::default().alone(1, write(5, None), write(5, Some(1)));
    let page = page(&story.0);
    assert!(page.contains("class=valid") && !page.contains("Anomalies found"), "{page}");
}
