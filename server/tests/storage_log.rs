//! The log on a damaged, torn, full or crashing disk: the right entries, or a refusal that names
//! file and offset, never a wrong answer.

mod storage_support;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use openraft::storage::{RaftLogReader, RaftLogStorage};
use quorate_server::replica::files::{Fault, Files, MemoryFiles};
use quorate_server::replica::log_store::{Begin, LogError, LogOptions, LogStore, WriterMode};
use quorate_server::replica::types::{Entry, EntryPayload, Payload, Vote};
use storage_support::{Dice, append, block_on, entry, id, read_all};

const LOG: &str = "/log";

fn options(files: &MemoryFiles, segment_bytes: u64) -> LogOptions {
    LogOptions {
        directory: PathBuf::from(LOG),
        files: Arc::new(files.clone()),
        cache_bytes: 1 << 10,
        segment_bytes,
        growth_bytes: 4096,
        writer: WriterMode::Inline,
        fatal: Arc::new(|_| {}),
        sync_meter: None,
    }
}

fn create(files: &MemoryFiles, segment_bytes: u64) -> LogStore {
    LogStore::open(options(files, segment_bytes), Begin::New).expect("a new log").0
}

fn reopen(files: &MemoryFiles, segment_bytes: u64) -> Result<LogStore, LogError> {
    LogStore::open(options(files, segment_bytes), Begin::Existing).map(|(log, _)| log)
}

fn segment(number: u64) -> PathBuf {
    Path::new(LOG).join(format!("log-{number:016}.seg"))
}

/// Every entry, vote, purge and truncation of a log's life, and what it must amount to.
#[test]
fn what_was_acknowledged_is_there_after_a_restart() {
    let files = MemoryFiles::new();
    let mut log = create(&files, 2000);
    block_on(log.save_vote(&Vote::new(1, 1))).expect("saved");
    for index in 0..50 {
        append(&mut log, [entry(1, index, 100)]).expect("durable");
    }
    block_on(log.truncate_after(Some(id(1, 39)))).expect("truncated");
    append(&mut log, (40..60).map(|index| entry(2, index, 80))).expect("durable");
    block_on(log.save_vote(&Vote::new_committed(2, 3))).expect("saved");
    block_on(log.save_committed(Some(id(2, 45)))).expect("noted");
    block_on(log.purge(id(1, 20))).expect("purged");
    append(&mut log, [entry(2, 60, 10)]).expect("durable");
    let expected = read_all(&mut log);
    assert_eq!(expected.len(), 40);
    drop(log);
    files.crash(|| false);

    let mut log = reopen(&files, 2000).expect("whole");
    assert_eq!(read_all(&mut log), expected);
    let state = block_on(log.get_log_state()).expect("known");
    assert_eq!((state.last_purged_log_id, state.last_log_id), (Some(id(1, 20)), Some(id(2, 60))));
    assert_eq!(block_on(log.reader().read_vote()).expect("known"), Some(Vote::new_committed(2, 3)));
    assert_eq!(block_on(log.read_committed()).expect("known"), Some(id(2, 45)));
}

#[test]
fn a_commit_index_beyond_what_became_durable_is_forgotten() {
    let files = MemoryFiles::new();
    let mut log = create(&files, 1 << 20);
    append(&mut log, [entry(1, 1, 10)]).expect("durable");
    block_on(log.save_committed(Some(id(1, 1)))).expect("noted");
    block_on(log.flush()).expect("flushed");
    block_on(log.save_committed(Some(id(1, 9)))).expect("noted");
    append(&mut log, [entry(1, 2, 10)]).expect("durable");
    drop(log);
    let mut log = reopen(&files, 1 << 20).expect("whole");
    assert_eq!(block_on(log.read_committed()).expect("known"), Some(id(1, 1)));
}

#[test]
fn an_append_that_leaves_a_hole_or_overwrites_is_refused_and_changes_nothing() {
    let mut log = create(&MemoryFiles::new(), 1 << 20);
    append(&mut log, [entry(1, 1, 10), entry(1, 2, 10)]).expect("durable");
    for bad in [2, 3, 5] {
        assert!(append(&mut log, [entry(1, 3, 1), entry(1, bad, 10)]).is_err(), "index {bad}");
    }
    append(&mut log, [entry(1, 3, 10)]).expect("still works");
    assert_eq!(read_all(&mut log).len(), 3);
}

#[test]
fn a_tail_that_contradicts_an_installed_snapshot_is_removed() {
    let files = MemoryFiles::new();
    let mut log = create(&files, 1 << 20);
    append(&mut log, (1..20).map(|index| entry(1, index, 10))).expect("durable");
    for untouched in [id(1, 15), id(2, 20), id(1, 25)] {
        block_on(log.settle_behind(untouched)).expect("settled");
        assert_eq!(read_all(&mut log).len(), 19, "{untouched}");
    }
    // Another leader's entry was committed there.
    block_on(log.settle_behind(id(3, 12))).expect("settled");
    assert_eq!(read_all(&mut log).last().map(|entry| entry.log_id), Some(id(1, 11)));
    block_on(log.purge(id(3, 12))).expect("purged");
    append(&mut log, [entry(3, 13, 10)]).expect("follows the snapshot");
    drop(log);
    let mut log = reopen(&files, 1 << 20).expect("whole");
    assert_eq!(read_all(&mut log), [entry(3, 13, 10)]);
}

/// The snapshot ends behind the log, or in the midst of what was never committed. Raft compares terms
/// first, so it takes such a log for the longer one either way.
#[test]
fn a_log_of_a_later_term_that_an_installed_snapshot_contradicts_is_removed_whole() {
    for end in [10, 8] {
        let files = MemoryFiles::new();
        let mut log = create(&files, 1 << 20);
        append(&mut log, (1..6).map(|index| entry(1, index, 10))).expect("durable");
        append(&mut log, (6..10).map(|index| entry(3, index, 10))).expect("durable");
        let applied = id(2, end);
        block_on(log.settle_behind(applied)).expect("settled");
        drop(log);
        files.crash(|| false);
        let mut log = reopen(&files, 1 << 20).expect("whole");
        let state = block_on(log.get_log_state()).expect("known");
        assert_eq!((state.last_purged_log_id, state.last_log_id), (Some(applied), Some(applied)));
        append(&mut log, [entry(4, end + 1, 10)]).expect("follows the snapshot");
        assert_eq!(read_all(&mut log), [entry(4, end + 1, 10)]);
    }
}

#[test]
fn purged_segments_are_deleted_and_the_vote_in_them_survives() {
    let files = MemoryFiles::new();
    let mut log = create(&files, 4096);
    block_on(log.save_vote(&Vote::new(7, 2))).expect("saved");
    for index in 0..200 {
        append(&mut log, [entry(7, index, 200)]).expect("durable");
    }
    let before = log.reader().figures();
    block_on(log.purge(id(7, 190))).expect("purged");
    append(&mut log, [entry(7, 200, 200)]).expect("durable");
    let after = log.reader().figures();
    assert!(before.segments > 5 && after.segments <= 2, "{before:?} {after:?}");
    assert!(files.contents(&segment(1)).is_none());
    drop(log);
    files.crash(|| false);
    let mut log = reopen(&files, 4096).expect("whole");
    assert_eq!(block_on(log.reader().read_vote()).expect("known"), Some(Vote::new(7, 2)));
    assert_eq!(read_all(&mut log).first().map(|entry| entry.log_id), Some(id(7, 191)));
}

/// Group commit: what is accepted while nothing is written becomes one batch, one sync.
#[test]
fn one_append_of_many_entries_is_one_sync() {
    let files = MemoryFiles::new();
    let mut log = create(&files, 1 << 20);
    let before = files.syncs();
    append(&mut log, (0..500).map(|index| entry(1, index, 50))).expect("durable");
    assert_eq!(files.syncs() - before, 1);
}

#[test]
fn after_a_failed_write_or_sync_nothing_is_written_and_the_member_is_told_once() {
    for fault in [Fault::SyncFails, Fault::WriteFails] {
        let files = MemoryFiles::new();
        let told = Arc::new(AtomicUsize::new(0));
        let mut options = options(&files, 1 << 20);
        let count = told.clone();
        options.fatal = Arc::new(move |error| {
            assert!(error.to_string().contains("log-0000000000000001.seg"), "{error}");
            count.fetch_add(1, Ordering::SeqCst);
        });
        let mut log = LogStore::open(options, Begin::New).expect("a new log").0;
        append(&mut log, [entry(1, 1, 10)]).expect("durable");
        files.inject(fault);
        assert!(append(&mut log, [entry(1, 2, 10)]).is_err(), "{fault:?}");
        // The disk works again, but what it holds is unknown.
        let syncs = files.syncs();
        assert!(append(&mut log, [entry(1, 3, 10)]).is_err());
        assert!(block_on(log.save_vote(&Vote::new(9, 9))).is_err());
        assert!(block_on(log.flush()).is_err());
        assert_eq!((files.syncs(), told.load(Ordering::SeqCst)), (syncs, 1));
        drop(log);
        files.crash(|| false);
        let mut log = reopen(&files, 1 << 20).expect("whole");
        assert_eq!(read_all(&mut log), [entry(1, 1, 10)], "{fault:?}");
    }
}

/// Power goes at every point of a log's life, and each unsynced sector survives or not as the dice
/// fall: whatever was acknowledged is there, and nothing else but what was being written.
#[test]
fn power_loss_at_any_point_keeps_what_was_acknowledged() {
    let mut dice = Dice(1);
    for round in 0..400 {
        let files = MemoryFiles::new();
        // Small segments, so that the power also goes while one is begun.
        let mut log = create(&files, 700);
        let mut acknowledged: Vec<Entry> = Vec::new();
        let steps = dice.below(40);
        for _ in 0..steps {
            let next = acknowledged.len() as u64;
            let batch: Vec<Entry> =
                (next..next + 1 + dice.below(3)).map(|i| entry(1, i, dice.below(700) as usize)).collect();
            append(&mut log, batch.clone()).expect("durable");
            acknowledged.extend(batch);
        }
        // The last one is caught by the power loss: its sync never returns.
        let next = acknowledged.len() as u64;
        let caught: Vec<Entry> =
            (next..next + 1 + dice.below(4)).map(|i| entry(1, i, dice.below(2000) as usize)).collect();
        files.inject(Fault::SyncFails);
        assert!(append(&mut log, caught.clone()).is_err());
        drop(log);
        files.crash(|| dice.below(2) == 0);

        let mut log = reopen(&files, 700).unwrap_or_else(|error| panic!("round {round}: {error}"));
        let found = read_all(&mut log);
        assert_eq!(found[..acknowledged.len()], acknowledged, "round {round}");
        let rest = &found[acknowledged.len()..];
        assert!(rest.is_empty() || rest == caught, "round {round}: one batch is there whole or not at all");
        // And it goes on.
        append(&mut log, [entry(2, found.len() as u64, 10)]).expect("durable");
        drop(log);
        let mut log = reopen(&files, 700).expect("whole");
        assert_eq!(read_all(&mut log).len(), found.len() + 1);
    }
}

/// A member is killed before a sync, or a sync fails; the next start finds what the kernel remembers
/// and Raft relies on it. Then the power goes: nothing that a start has found may be gone. The sync
/// is one of a batch's, of a new segment's or of a seal's; some starts fail at one of theirs.
#[test]
fn what_a_start_has_found_outlasts_a_power_loss() {
    let mut dice = Dice(2);
    for round in 0..500 {
        let files = MemoryFiles::new();
        let mut log = create(&files, 700);
        let mut expected: Vec<Entry> = Vec::new();
        let fault = [Fault::KilledBeforeSync, Fault::SyncFails][round % 2];
        files.inject_at(1 + dice.below(12), fault);
        let caught = loop {
            let next = expected.len() as u64;
            let batch: Vec<Entry> =
                (next..next + 1 + dice.below(3)).map(|i| entry(1, i, dice.below(700) as usize)).collect();
            match append(&mut log, batch.clone()) {
                Ok(()) => expected.extend(batch),
                Err(_) => break batch,
            }
        };
        drop(log);
        if dice.below(3) == 0 {
            files.crash(|| dice.below(2) == 0);
        }
        for _ in 0..dice.below(3) {
            files.inject_at(
                1 + dice.below(2),
                [Fault::KilledBeforeSync, Fault::SyncFails][dice.below(2) as usize],
            );
            assert!(reopen(&files, 700).is_err(), "round {round}: a start syncs");
        }

        let mut log = reopen(&files, 700).unwrap_or_else(|error| panic!("round {round}: {error}"));
        let found = read_all(&mut log);
        assert_eq!(found[..expected.len()], expected, "round {round}");
        let rest = &found[expected.len()..];
        assert!(rest.is_empty() || rest == caught, "round {round}: one batch is there whole or not at all");
        expected = found;
        for _ in 0..dice.below(3) {
            let next = entry(2, expected.len() as u64, dice.below(300) as usize);
            append(&mut log, [next.clone()]).expect("durable");
            expected.push(next);
        }
        drop(log);
        files.crash(|| dice.below(2) == 0);
        let mut log = reopen(&files, 700).unwrap_or_else(|error| panic!("round {round}: {error}"));
        assert_eq!(read_all(&mut log), expected, "round {round}");
    }
}

/// A small log of three segments, the entries in it, and how many bytes of each file matter.
fn small_log() -> (MemoryFiles, Vec<Entry>) {
    let files = MemoryFiles::new();
    let mut log = create(&files, 400);
    block_on(log.save_vote(&Vote::new(1, 1))).expect("saved");
    let entries: Vec<Entry> = (0..12).map(|index| entry(1, index, 60)).collect();
    for entry in &entries {
        append(&mut log, [entry.clone()]).expect("durable");
    }
    (files, entries)
}

fn segments_of(files: &MemoryFiles) -> Vec<PathBuf> {
    files.list(Path::new(LOG)).expect("a directory").iter().map(|name| Path::new(LOG).join(name)).collect()
}

/// How many bytes of a segment are not just zeros behind its last batch.
fn used(segment: &[u8]) -> usize {
    segment.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1)
}

#[derive(Debug, PartialEq, Eq)]
enum Verdict {
    Opened,
    Refused,
}

/// The entries found are exactly those written, but for the last few that may be missing; or the
/// refusal names the file and an offset.
fn judge(files: &MemoryFiles, entries: &[Entry], damaged: &Path, may_miss: usize, what: &str) -> Verdict {
    match reopen(files, 400) {
        Ok(mut log) => {
            let found = read_all(&mut log);
            let missing = entries.len() - found.len().min(entries.len());
            assert_eq!(
                found[..],
                entries[..entries.len() - missing],
                "{what}: entries are not those written"
            );
            assert!(missing <= may_miss, "{what}: {missing} entries are missing");
            Verdict::Opened
        }
        Err(error) => {
            let text = error.to_string();
            let name = damaged.file_name().and_then(|name| name.to_str()).expect("a name");
            let names_next = matches!(error, LogError::Missing { .. });
            assert!(text.contains(name) || names_next, "{what}: {text}");
            assert!(text.contains("offset") || names_next, "{what}: {text}");
            Verdict::Refused
        }
    }
}

#[test]
fn every_flipped_bit_is_refused_or_harmless() {
    let (pristine, entries) = small_log();
    let paths = segments_of(&pristine);
    assert!(paths.len() >= 3);
    for (position, path) in paths.iter().enumerate() {
        let good = pristine.contents(path).expect("a segment");
        let used = used(&good).next_multiple_of(8);
        // Behind what is used are zeros, hundreds of sectors alike: the first and the last of them.
        let zeros = [used * 8..(used + 64) * 8, (good.len() - 8) * 8..good.len() * 8];
        for bit in (0..used * 8).chain(zeros.into_iter().flatten()) {
            let files = copy(&pristine, &paths);
            let mut bad = good.clone();
            bad[bit / 8] ^= 1 << (bit % 8);
            files.overwrite(path, bad);
            let what = format!("segment {position} bit {bit} of {}", used * 8);
            // No single flipped bit looks like a write that was cut short: nothing may be missing.
            let verdict = judge(&files, &entries, path, 0, &what);
            // Behind the last batch, and behind a seal, there is nothing to damage.
            assert_eq!(verdict == Verdict::Opened, bit >= used * 8, "{what}");
        }
    }
}

#[test]
fn every_truncation_is_refused_or_harmless() {
    let (pristine, entries) = small_log();
    let paths = segments_of(&pristine);
    for (position, path) in paths.iter().enumerate() {
        let good = pristine.contents(path).expect("a segment");
        for length in 0..good.len() {
            let files = copy(&pristine, &paths);
            files.overwrite(path, good[..length].to_vec());
            let what = format!("segment {position} cut to {length}");
            let verdict = judge(&files, &entries, path, 0, &what);
            // Whole pages of the zeros behind the last batch are no loss; no other length is a segment's.
            let is_harmless = length >= used(&good) && length % 4096 == 0;
            assert_eq!(verdict == Verdict::Opened, is_harmless, "{what}");
        }
        let files = copy(&pristine, &paths);
        files.remove(path).expect("removed");
        assert!(reopen(&files, 400).is_err(), "segment {position} removed");
    }
}

#[test]
fn a_torn_end_is_cut_at_every_length_and_only_there() {
    let (pristine, entries) = small_log();
    let paths = segments_of(&pristine);
    let last = paths.last().expect("segments");
    let good = pristine.contents(last).expect("a segment");
    let used = used(&good);
    // Where the last batch starts: its magic's last occurrence.
    let start = good.windows(4).rposition(|window| window == b"QBAT").expect("a batch");
    for written in start..used {
        let files = copy(&pristine, &paths);
        let mut torn = good.clone();
        torn[written..].fill(0);
        files.overwrite(last, torn);
        let mut log = reopen(&files, 400).unwrap_or_else(|error| panic!("{written}: {error}"));
        assert_eq!(read_all(&mut log), entries[..entries.len() - 1], "written up to {written}");
        append(&mut log, [entry(5, 11, 300)]).expect("durable");
        drop(log);
        let mut log = reopen(&files, 400).expect("whole");
        assert_eq!(read_all(&mut log).len(), entries.len());
    }
}

/// A batch as the log writes them, as whoever knows segment and sequence number can make one.
fn forged_batch(segment: u64, sequence: u64, body: &[u8], is_whole: bool) -> Vec<u8> {
    let crc = |parts: &[&[u8]]| crc32fast::hash(&parts.concat()).to_le_bytes();
    let mut bytes = b"QBAT".to_vec();
    bytes.extend((body.len() as u32).to_le_bytes());
    bytes.extend(sequence.to_le_bytes());
    let body_crc = crc(&[&segment.to_le_bytes(), &sequence.to_le_bytes(), body]);
    bytes.extend(if is_whole { body_crc } else { [0; 4] });
    bytes.extend(crc(&[&segment.to_le_bytes(), &bytes]));
    bytes.extend(body);
    bytes.push(0xa5);
    bytes.resize(bytes.len().next_multiple_of(8), 0x55);
    bytes
}

/// A log of three entries, and one more whose value is full of `forged`, in every alignment.
fn log_with_forged_value(forged: &[u8]) -> (MemoryFiles, Vec<Entry>) {
    let files = MemoryFiles::new();
    let mut log = create(&files, 1 << 20);
    let mut entries: Vec<Entry> = (0..3).map(|index| entry(1, index, 60)).collect();
    for entry in &entries {
        append(&mut log, [entry.clone()]).expect("durable");
    }
    let one_alignment = [&forged.repeat(2000 / forged.len())[..], &[0x55]].concat();
    let value = one_alignment.repeat(8);
    let payload = EntryPayload::Normal(Payload(value.into()));
    entries.push(Entry { log_id: id(1, 3), payload });
    append(&mut log, [entries[3].clone()]).expect("durable");
    (files, entries)
}

/// What stands in a client's value is no evidence of anything: not while the torn batch's header
/// says that it is a value, and without the header only if number and checksum are right.
#[test]
fn a_torn_batch_is_cut_whatever_looks_like_a_batch_in_its_value() {
    // The torn batch is the fifth: the log's state and three entries are before it.
    let whole = forged_batch(1, 6, b"body", true);
    let far = forged_batch(1, 1 << 40, b"body", true);
    let past = forged_batch(1, 5, b"body", true);
    let hollow = forged_batch(1, 6, b"body", false);
    for (forged, keeps_header) in [(whole, true), (far, false), (past, false), (hollow, false)] {
        let (pristine, entries) = log_with_forged_value(&forged);
        let good = pristine.contents(&segment(1)).expect("a segment");
        let used = used(&good);
        let batch = forged_batch(1, 5, &[], true)[..4].to_vec();
        let starts: Vec<usize> = (64..used).step_by(8).filter(|at| good[*at..].starts_with(&batch)).collect();
        // State, three entries, and then the one that is torn.
        let start = starts[4];
        let torn = |range: std::ops::Range<usize>| {
            let files = copy(&pristine, &[segment(1)]);
            let mut bytes = good.clone();
            bytes[range].fill(0);
            files.overwrite(&segment(1), bytes);
            files
        };
        let sectors = (start / 512 + 1..used / 512).map(|sector| sector * 512..sector * 512 + 512);
        let header = (!keeps_header).then_some(start..(start / 512 + 1) * 512);
        let cuts = (start..used).step_by(7).map(|at| at..used);
        for range in sectors.chain(header).chain(cuts) {
            let files = torn(range.clone());
            let mut log = reopen(&files, 1 << 20).unwrap_or_else(|error| panic!("{range:?}: {error}"));
            assert_eq!(read_all(&mut log), entries[..3], "{range:?}");
        }
    }
}

/// Damage in the middle stays damage, however a sector or a length was lost.
#[test]
fn a_lost_sector_before_the_last_batch_is_refused() {
    let files = MemoryFiles::new();
    let mut log = create(&files, 1 << 20);
    for index in 0..60 {
        append(&mut log, [entry(1, index, 10 + (index as usize * 37) % 300)]).expect("durable");
    }
    let good = files.contents(&segment(1)).expect("a segment");
    let last = good.windows(4).rposition(|window| window == b"QBAT").expect("a batch");
    for sector in 0..last / 512 {
        let files = copy(&files, &[segment(1)]);
        let mut bad = good.clone();
        bad[sector * 512..sector * 512 + 512].fill(0);
        files.overwrite(&segment(1), bad);
        let error = reopen(&files, 1 << 20).map(drop).expect_err("damage");
        assert!(error.to_string().contains("offset"), "sector {sector}: {error}");
    }
}

#[test]
fn a_missing_or_empty_log_is_not_a_fresh_one() {
    let files = MemoryFiles::new();
    assert!(matches!(reopen(&files, 400), Err(LogError::Missing { .. })));
    files.create_directory(Path::new(LOG)).expect("a directory");
    assert!(matches!(reopen(&files, 400), Err(LogError::Missing { .. })));
    files.overwrite(&segment(1), Vec::new());
    assert!(matches!(reopen(&files, 400), Err(LogError::Damaged { .. })));
    let (files, _) = small_log();
    let fresh = LogStore::open(options(&files, 400), Begin::New);
    assert!(matches!(fresh, Err(LogError::NotEmpty { .. })));
}

#[test]
fn an_unknown_format_is_named_as_such() {
    let (files, _) = small_log();
    let path = segments_of(&files).pop().expect("a segment");
    let mut bytes = files.contents(&path).expect("a segment");
    bytes[8] = 2;
    let crc = crc32fast::hash(&bytes[..60]);
    bytes[60..64].copy_from_slice(&crc.to_le_bytes());
    files.overwrite(&path, bytes);
    assert!(matches!(reopen(&files, 400), Err(LogError::UnknownFormat { version: 2, .. })));
}

#[test]
fn entries_are_read_back_from_disk_and_memory_alike_in_every_range() {
    let files = MemoryFiles::new();
    let mut log = create(&files, 3000);
    let entries: Vec<Entry> = (5..105).map(|index| entry(1, index, (index as usize * 37) % 400)).collect();
    for chunk in entries.chunks(7) {
        append(&mut log, chunk.to_vec()).expect("durable");
    }
    let mut reader = log.reader();
    for start in (0..110).step_by(3) {
        for end in (start..112).step_by(7) {
            let found = block_on(reader.try_get_log_entries(start..end)).expect("readable");
            let expected: Vec<Entry> =
                entries.iter().filter(|entry| (start..end).contains(&entry.log_id.index)).cloned().collect();
            assert_eq!(found, expected, "{start}..{end}");
        }
    }
    // Damage after the open is noticed when the entry is read.
    let path = segment(1);
    let mut bytes = files.contents(&path).expect("a segment");
    let at = bytes.len() / 2;
    let at = bytes[..at].iter().rposition(|byte| *byte != 0).expect("an entry");
    bytes[at] ^= 1;
    drop(log);
    files.overwrite(&path, bytes);
    assert!(reopen(&files, 3000).is_err());
}

fn copy(files: &MemoryFiles, paths: &[PathBuf]) -> MemoryFiles {
    let copy = MemoryFiles::new();
    copy.create_directory(Path::new(LOG)).expect("a directory");
    for path in paths {
        copy.overwrite(path, files.contents(path).expect("a segment"));
    }
    copy
}
