//! kill -9 in the middle of appends and of checkpoints: what was acknowledged is there afterwards,
//! and nothing is there in part.
//!
//! The test runs itself as a child, which reports on its standard output what is durable; the
//! parent kills it at a random moment, opens what it left, and goes on from there. Fifty lives by
//! default; `QUORATE_KILL_CYCLES` asks for more.

mod storage_support;

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use openraft::storage::{IOFlushed, RaftLogReader, RaftLogStorage};
use openraft::type_config::TypeConfigExt;
use quorate_core::id::Zxid;
use quorate_core::record::RecordWrite;
use quorate_core::state::Digest;
use quorate_server::replica::checkpoint::{CheckpointMeta, CheckpointStore, SledCheckpoints};
use quorate_server::replica::log_store::{Begin, LogOptions, LogStore};
use quorate_server::replica::types::{StoredMembership, TypeConfig, Vote};
use storage_support::{Dice, entry, id};

const DIRECTORY: &str = "QUORATE_KILL_DIRECTORY";

/// A killed process leaves the page cache as it was, so memory serves as well as a disk, and faster.
fn scratch() -> tempfile::TempDir {
    let memory = Path::new("/dev/shm");
    if memory.is_dir() { tempfile::tempdir_in(memory) } else { tempfile::tempdir() }.expect("a directory")
}

fn cycles() -> u64 {
    std::env::var("QUORATE_KILL_CYCLES").ok().and_then(|count| count.parse().ok()).unwrap_or(50)
}

/// Runs a child, kills it after it has reported `reports` lines and a little more, and gives them.
fn run_and_kill(child: &str, directory: &Path, reports: u64, then: Duration) -> Vec<String> {
    let mut process = Command::new(std::env::current_exe().expect("this test"))
        .args(["--exact", child, "--ignored", "--nocapture", "--quiet"])
        .env(DIRECTORY, directory)
        .stdout(Stdio::piped())
        .stderr(Stdio::inherit())
        .spawn()
        .expect("a child");
    let output = process.stdout.take().expect("piped");
    let mut lines = BufReader::new(output).lines().map_while(Result::ok).filter(|line| line.contains('@'));
    let mut reported: Vec<String> = lines.by_ref().take(reports as usize).collect();
    assert_eq!(reported.len() as u64, reports, "the child ended by itself");
    std::thread::sleep(then);
    process.kill().expect("SIGKILL");
    process.wait().expect("dead");
    reported.extend(lines);
    reported
}

fn directory() -> PathBuf {
    PathBuf::from(std::env::var_os(DIRECTORY).expect("run by the parent"))
}

fn report(line: String) {
    // One write, so that a kill leaves a whole line or none.
    let mut output = std::io::stdout().lock();
    output
        .write_all(format!("@{line}\n").as_bytes())
        .and_then(|()| output.flush())
        .expect("the parent reads");
}

fn numbers(reported: &[String], name: &str) -> Vec<u64> {
    let prefix = format!("@{name} ");
    reported.iter().filter_map(|line| line.split_once(&prefix)?.1.parse().ok()).collect()
}

fn log_options(directory: &Path) -> LogOptions {
    let mut options = LogOptions::new(directory.join("log"));
    options.segment_bytes = 64 << 10;
    options.growth_bytes = 16 << 10;
    options
}

#[test]
#[ignore = "a child of `killed_appends_keep_what_was_acknowledged`"]
fn child_appends() {
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
    runtime.block_on(async {
        let directory = directory();
        let begin = if directory.join("log").exists() { Begin::Existing } else { Begin::New };
        let (mut log, _) = LogStore::open(log_options(&directory), begin).expect("opened");
        let mut next = log.get_log_state().await.expect("known").last_log_id.map_or(1, |last| last.index + 1);
        let mut dice = Dice(next);
        loop {
            let mut waiting = Vec::new();
            for _ in 0..1 + dice.below(20) {
                let count = 1 + dice.below(5);
                let entries: Vec<_> = (next..next + count).map(|i| entry(1, i, (i % 700) as usize)).collect();
                next += count;
                let (sender, answer) = TypeConfig::oneshot();
                log.append(entries, IOFlushed::signal(sender)).await.expect("accepted");
                waiting.push((answer, next - 1));
            }
            for (answer, last) in waiting {
                answer.await.expect("told").expect("durable");
                report(format!("entry {last}"));
            }
            if dice.below(10) == 0 {
                log.save_vote(&Vote::new(next, 1)).await.expect("durable");
                report(format!("vote {next}"));
            }
            if next > 400 {
                log.purge(id(1, next - 400)).await.expect("accepted");
            }
        }
    });
}

#[test]
fn killed_appends_keep_what_was_acknowledged() {
    let scratch = scratch();
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
    let mut dice = Dice(42);
    let (mut voted, mut torn) = (0, 0);
    for cycle in 0..cycles() {
        let wait = Duration::from_micros(dice.below(3000));
        let reported = run_and_kill("child_appends", scratch.path(), 1 + dice.below(60), wait);
        let acknowledged = numbers(&reported, "entry").into_iter().max().expect("an entry at least");
        voted = numbers(&reported, "vote").into_iter().max().unwrap_or(voted);
        let (mut log, opened) = LogStore::open(log_options(scratch.path()), Begin::Existing)
            .unwrap_or_else(|error| panic!("cycle {cycle}: {error}"));
        torn += u32::from(opened.cut.is_some());
        runtime.block_on(async {
            let state = log.get_log_state().await.expect("known");
            let last = state.last_log_id.expect("entries").index;
            assert!(
                last >= acknowledged,
                "cycle {cycle}: {last} is the last, {acknowledged} was acknowledged"
            );
            let first = state.last_purged_log_id.map_or(1, |purged| purged.index + 1);
            let found = log.reader().try_get_log_entries(..).await.expect("readable");
            let expected: Vec<_> = (first..=last).map(|i| entry(1, i, (i % 700) as usize)).collect();
            assert!(found == expected, "cycle {cycle}: the entries are not those appended");
            let vote = log.reader().read_vote().await.expect("known").map_or(0, |vote| vote.leader_id().term);
            assert!(vote >= voted, "cycle {cycle}: vote {vote} after {voted}");
            assert!(log.reader().figures().segments < 20, "purged segments are deleted");
        });
    }
    println!("{} lives, {torn} torn ends", cycles());
}

/// What checkpoint `number` changes: half the time a few records, half the time many.
fn changes(number: u64) -> Vec<RecordWrite> {
    let mut dice = Dice(number);
    let count = if number.is_multiple_of(2) { 20 } else { 2000 };
    let mut changes = Vec::new();
    for _ in 0..count {
        let key = (dice.below(3000) as u32).to_be_bytes();
        let length = if dice.below(200) == 0 { 60_000 } else { dice.below(300) };
        let value = (dice.below(4) > 0).then(|| vec![number as u8 | 1; length as usize].into());
        changes.push(RecordWrite { key: [&[4_u8][..], &key].concat().into(), value });
    }
    changes
}

fn apply(model: &mut BTreeMap<Vec<u8>, Vec<u8>>, number: u64) {
    for change in changes(number) {
        match change.value {
            Some(value) => model.insert(change.key.to_vec(), value.to_vec()),
            None => model.remove(&change.key[..]),
        };
    }
}

fn meta(number: u64) -> CheckpointMeta {
    CheckpointMeta {
        applied: id(1, number),
        membership: StoredMembership::default(),
        zxid: Zxid(number),
        digest: Digest(u128::from(number)),
    }
}

fn open_checkpoints(directory: &Path) -> SledCheckpoints {
    // So small that the large ones go by way of runs.
    SledCheckpoints::open_sized(&directory.join("state"), 128 << 10, 256 << 10).expect("opened")
}

#[test]
#[ignore = "a child of `killed_checkpoints_are_whole`"]
fn child_checkpoints() {
    let store = open_checkpoints(&directory());
    let mut number = store.meta().expect("known").map_or(0, |meta| meta.applied.index);
    report("open 0".into());
    loop {
        number += 1;
        let ticket = store.begin().expect("begun");
        for part in changes(number).chunks(100) {
            store.stage(ticket, part.to_vec()).expect("staged");
        }
        store.commit(ticket, &meta(number)).expect("durable");
        report(format!("checkpoint {number}"));
        if number.is_multiple_of(16) {
            let mut replacement = store.begin_replacement().expect("begun");
            let mut records = BTreeMap::new();
            (1..=number + 1).for_each(|number| apply(&mut records, number));
            for (key, value) in &records {
                replacement.add(key, value).expect("added");
            }
            number += 1;
            replacement.seal(&meta(number)).expect("durable");
            replacement.finish().expect("current");
            report(format!("checkpoint {number}"));
        }
    }
}

#[test]
fn killed_checkpoints_are_whole() {
    let scratch = scratch();
    let mut dice = Dice(7);
    let (mut model, mut modelled, mut durable) = (BTreeMap::new(), 0, 0);
    for cycle in 0..cycles() {
        let wait = Duration::from_millis(dice.below(40));
        let reported = run_and_kill("child_checkpoints", scratch.path(), 1 + dice.below(4), wait);
        durable = numbers(&reported, "checkpoint").into_iter().max().unwrap_or(durable);
        let store = open_checkpoints(scratch.path());
        let found = store.meta().expect("known").map_or(0, |meta| meta.applied.index);
        assert!(found >= durable, "cycle {cycle}: at {found}, but {durable} was durable");
        while modelled < found {
            modelled += 1;
            apply(&mut model, modelled);
        }
        let mut records = BTreeMap::new();
        store
            .visit(&mut |key, value| {
                records.insert(key.to_vec(), value.to_vec());
                ControlFlow::Continue(())
            })
            .expect("readable");
        assert!(records == model, "cycle {cycle}: the records are not those of checkpoint {found}");
    }
    println!("{} lives, {modelled} checkpoints", cycles());
}
