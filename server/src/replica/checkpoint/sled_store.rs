//! Checkpoints in sled: one directory is current, named by a small file.
//!
//! ```text
//! <directory>/CURRENT                     the name of the current checkpoint, with a checksum
//! <directory>/checkpoint-<number>/        a sled directory: blocks (database.rs)
//! <directory>/checkpoint-run-<n>.qrun     sorted changes over the blocks (runs.rs)
//! <directory>/MANIFEST                    which of them count, and what they lead to (manifest.rs)
//! ```
//!
//! A small checkpoint becomes visible by one sled batch of blocks and meta. A large one would
//! rewrite nearly every block, so it is written as sorted runs and *decided* by the manifest. The
//! runs stay over the blocks, and later checkpoints' over them. When there are many, one is made of
//! them, which has each key once; when they are as large as the blocks, new blocks are made of both. (The
//! log-structured merge of O'Neil et al. 1996; a pass through sled costs ten times what merging files
//! does.) A crash on the way means to do it again. A whole new checkpoint, such blocks or a snapshot from
//! a peer, is filled beside the current one and becomes current when CURRENT is replaced.
//!
//! sled keeps buffers and pages in memory for as long as it is open: some 80 MB under a large tree,
//! for seconds of work a minute. So it is open only while there is work.

use std::collections::BTreeMap;
use std::io;
use std::ops::{ControlFlow, Range};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, mpsc};

use quorate_core::record::RecordWrite;

use super::apply::{Overlay, cost, plan, sort};
use super::blocks::BlockBuilder;
use super::database::{Database, sync_directory};
use super::error::CheckpointError;
use super::manifest::{self, Manifest};
use super::runs;
use super::{CheckpointMeta, CheckpointStore, Replacement, Ticket, Visitor, try_visit};
use crate::replica::files::{self, DiskFiles, Files};

const CURRENT: &str = "CURRENT";
/// Changes are gathered in memory up to this many bytes; above, they go to a run file.
const GATHER_BYTES: usize = 8 << 20;
/// A checkpoint whose blocks have more bytes than this is committed by way of runs: no more than sled
/// takes in one step without filling many buffers (see database.rs).
const BATCH_BYTES: usize = 2 << 20;
/// More runs than this are made one: a start reads them all.
const RUNS_MAX: usize = 12;
/// Runs with more than so many times the blocks' bytes are applied as they are.
const RUNS_SHARE: u64 = 2;
/// So many blocks are read before the visitor has seen the ones before.
const BLOCKS_AHEAD: usize = 64;
/// A flush collects a part of sled's garbage, and none before its epoch has passed.
const GARBAGE_ROUNDS: usize = 64;

/// Checkpoints in a directory. Clones share it.
#[derive(Clone)]
pub struct SledCheckpoints(Arc<Shared>);

struct Shared {
    directory: PathBuf,
    /// The current checkpoint's sled while there is work. Locked before `current`, if both are.
    open: Mutex<Option<Arc<Database>>>,
    current: Mutex<Current>,
    gather_bytes: usize,
    batch_bytes: usize,
}

struct Current {
    number: u64,
    /// What it stands for.
    meta: Option<CheckpointMeta>,
    /// The numbers of the runs over its blocks.
    runs: Range<u32>,
    /// What its blocks have, as far as they were seen.
    blocks_bytes: u64,
    /// Raised by every begin and every replacement: only the latest ticket is good.
    ticket: u64,
    gathering: Gathering,
}

impl Current {
    fn grow(&mut self, bytes: i64) {
        self.blocks_bytes = self.blocks_bytes.saturating_add_signed(bytes);
    }
}

#[derive(Default)]
struct Gathering {
    changes: Vec<RecordWrite>,
    bytes: usize,
    /// The number of its next run; those of the checkpoints before come first.
    next_run: u32,
}

impl SledCheckpoints {
    /// Opens the directory, or begins it. Leftovers of what a crash interrupted are removed or
    /// completed.
    pub fn open(directory: &Path) -> Result<SledCheckpoints, CheckpointError> {
        SledCheckpoints::open_sized(directory, GATHER_BYTES, BATCH_BYTES)
    }

    /// The same with other bounds, so that tests reach the paths of large checkpoints.
    pub fn open_sized(
        directory: &Path,
        gather_bytes: usize,
        batch_bytes: usize,
    ) -> Result<SledCheckpoints, CheckpointError> {
        make_directory(directory)?;
        let number = match read_current(directory)? {
            Some(number) => number,
            None => begin_first(directory)?,
        };
        let path = directory.join(name_of(number));
        if !Database::exists(&path) {
            let what = format!("{CURRENT} names it, but sled's files are not there");
            return Err(CheckpointError::damaged(&path, what));
        }
        let database = Database::open(&path)?;
        let (runs, meta) = match Manifest::read(directory)? {
            Some(manifest) if manifest.checkpoint == number => (manifest.runs, Some(manifest.meta)),
            _ => {
                Manifest::remove(directory)?;
                (0..0, database.meta()?)
            }
        };
        runs::remove_all_but(directory, &runs)?;
        remove_others(directory, number)?;
        let current =
            Current { number, meta, runs, blocks_bytes: 0, ticket: 0, gathering: Gathering::default() };
        let shared = Shared {
            directory: directory.to_path_buf(),
            open: Mutex::new(Some(Arc::new(database))),
            current: Mutex::new(current),
            gather_bytes,
            batch_bytes,
        };
        Ok(SledCheckpoints(Arc::new(shared)))
    }

    /// Moves everything aside, so that the directory begins anew: for a member whose state can be
    /// had from elsewhere. Tells where the old one is now; it is never removed by us. The caller has
    /// no store open on the directory.
    pub fn set_aside(directory: &Path) -> Result<PathBuf, CheckpointError> {
        let free = (1_u32..).map(|number| directory.join(format!("damaged-{number}")));
        let aside = free.into_iter().find(|path| !path.exists()).expect("numbers do not run out");
        DiskFiles.create_directory(&aside).map_err(CheckpointError::io("create", &aside))?;
        let names = DiskFiles.list(directory).map_err(CheckpointError::io("list", directory))?;
        for name in names.iter().filter(|name| is_ours(name)) {
            let path = directory.join(name);
            DiskFiles.rename(&path, &aside.join(name)).map_err(CheckpointError::io("move aside", &path))?;
        }
        sync_directory(&aside)?;
        sync_directory(directory)?;
        Ok(aside)
    }

    fn current(&self) -> MutexGuard<'_, Current> {
        self.0.current()
    }

    fn write(&self, mut gathering: Gathering, meta: &CheckpointMeta) -> Result<(), CheckpointError> {
        let shared = &self.0;
        let before = self.current().runs.clone();
        if before.is_empty() && gathering.next_run == before.end {
            sort(&mut gathering.changes);
            let database = shared.database()?;
            if let Some(plan) = plan(&database, &gathering.changes, shared.batch_bytes)? {
                database.commit(plan.writes, meta)?;
                let mut current = self.current();
                current.meta = Some(meta.clone());
                current.grow(plan.growth);
                return Ok(());
            }
        }
        shared.spill(&mut gathering)?;
        sync_directory(&shared.directory)?;
        shared.decide(before.start..gathering.next_run, meta)?;
        self.compact(meta)
    }

    /// Keeps the runs few, and no larger than the blocks, as far as there is room for that: the
    /// checkpoint is durable without.
    fn compact(&self, meta: &CheckpointMeta) -> Result<(), CheckpointError> {
        let directory = &self.0.directory;
        let (runs, blocks_bytes) = {
            let current = self.current();
            (current.runs.clone(), current.blocks_bytes)
        };
        let bytes = runs::bytes(directory, &runs)?;
        if bytes > blocks_bytes.saturating_mul(RUNS_SHARE) && self.apply_runs(bytes, meta)? {
            return Ok(());
        }
        if runs.len() <= RUNS_MAX {
            return Ok(());
        }
        let merged = runs.end..runs.end + 1;
        if self.0.if_room(bytes, || runs::merge(directory, &runs, merged.start))?.is_none() {
            return Ok(());
        }
        self.0.decide(merged.clone(), meta)?;
        runs::remove_all_but(directory, &merged)?;
        let bytes = runs::bytes(directory, &merged)?;
        if bytes > blocks_bytes {
            self.apply_runs(bytes, meta)?;
        }
        Ok(())
    }

    /// Makes new blocks of blocks and runs, which are so many bytes, and has them take the place of both;
    /// false if there is no room. Nothing is written over the old blocks: after a power loss at any
    /// point, or without room, they and the runs are as they were.
    fn apply_runs(&self, runs_bytes: u64, meta: &CheckpointMeta) -> Result<bool, CheckpointError> {
        let bytes = runs_bytes.saturating_add(self.current().blocks_bytes);
        let Some(applied) = self.0.if_room(bytes, || self.applied(meta))? else { return Ok(false) };
        applied.finish()?;
        Ok(true)
    }

    /// All of the current checkpoint as blocks, durable beside it.
    fn applied(&self, meta: &CheckpointMeta) -> Result<Box<dyn Replacement>, CheckpointError> {
        let mut replacement = self.begin_replacement()?;
        try_visit(self, |key, value| replacement.add(key, value))?;
        replacement.seal(meta)?;
        Ok(replacement)
    }
}

impl Shared {
    fn current(&self) -> MutexGuard<'_, Current> {
        self.current.lock().expect("no code panics while it holds the checkpoint")
    }

    fn open(&self) -> MutexGuard<'_, Option<Arc<Database>>> {
        self.open.lock().expect("no code panics while it holds the checkpoint")
    }

    /// The current checkpoint's database, opened if it rests.
    fn database(&self) -> Result<Arc<Database>, CheckpointError> {
        let mut open = self.open();
        if let Some(database) = &*open {
            return Ok(database.clone());
        }
        let (number, meta, runs) = {
            let current = self.current();
            (current.number, current.meta.clone(), current.runs.clone())
        };
        let path = self.directory.join(name_of(number));
        let database = Database::open(&path)?;
        if runs.is_empty() && database.meta()? != meta {
            return Err(CheckpointError::damaged(&path, "it is not what it was when it was closed"));
        }
        Ok(open.insert(Arc::new(database)).clone())
    }

    /// What was gathered for `ticket`.
    fn take(&self, ticket: Ticket) -> Result<Gathering, CheckpointError> {
        let mut current = self.current();
        if current.ticket != ticket.0 {
            return Err(CheckpointError::Superseded);
        }
        Ok(std::mem::take(&mut current.gathering))
    }

    fn put_back(&self, ticket: Ticket, gathering: Gathering) -> Result<(), CheckpointError> {
        let mut current = self.current();
        if current.ticket != ticket.0 {
            return Err(CheckpointError::Superseded);
        }
        current.gathering = gathering;
        Ok(())
    }

    /// Makes these runs count, durably and at once.
    fn decide(&self, runs: Range<u32>, meta: &CheckpointMeta) -> Result<(), CheckpointError> {
        let checkpoint = self.current().number;
        Manifest { checkpoint, runs: runs.clone(), meta: meta.clone() }.write(&self.directory)?;
        let mut current = self.current();
        current.meta = Some(meta.clone());
        current.runs = runs;
        Ok(())
    }

    /// Does what takes up to so many bytes of the disk and can wait; `None` if it must for lack of room.
    /// As much should be left: the log needs room too.
    fn if_room<T>(
        &self,
        bytes: u64,
        work: impl FnOnce() -> Result<T, CheckpointError>,
    ) -> Result<Option<T>, CheckpointError> {
        let free = free_bytes(&self.directory);
        let waits = |why: &dyn std::fmt::Display| {
            tracing::warn!(
                needed_mb = bytes >> 20,
                free_mb = free >> 20,
                "the changes of the last checkpoints stay in files of their own: {why}. They are safe there, but take \
                    room, and time at a start; make room"
            );
        };
        if free / 2 < bytes {
            waits(&"the disk has too little room to put them in order");
            return Ok(None);
        }
        match work() {
            Err(error) if error.is_lack_of_room() => {
                waits(&error);
                Ok(None)
            }
            done => done.map(Some),
        }
    }

    fn spill(&self, gathering: &mut Gathering) -> Result<(), CheckpointError> {
        sort(&mut gathering.changes);
        runs::write(&self.directory, gathering.next_run, &gathering.changes)?;
        gathering.next_run += 1;
        gathering.changes = Vec::new();
        gathering.bytes = 0;
        Ok(())
    }
}

impl CheckpointStore for SledCheckpoints {
    fn meta(&self) -> Result<Option<CheckpointMeta>, CheckpointError> {
        Ok(self.current().meta.clone())
    }

    fn begin(&self) -> Result<Ticket, CheckpointError> {
        let mut current = self.current();
        current.ticket += 1;
        current.gathering = Gathering { next_run: current.runs.end, ..Gathering::default() };
        Ok(Ticket(current.ticket))
    }

    fn stage(&self, ticket: Ticket, writes: Vec<RecordWrite>) -> Result<(), CheckpointError> {
        let mut gathering = self.0.take(ticket)?;
        gathering.bytes += writes.iter().map(cost).sum::<usize>();
        gathering.changes.extend(writes);
        if gathering.bytes >= self.0.gather_bytes {
            self.0.spill(&mut gathering)?;
        }
        self.0.put_back(ticket, gathering)
    }

    fn commit(&self, ticket: Ticket, meta: &CheckpointMeta) -> Result<(), CheckpointError> {
        let gathering = self.0.take(ticket)?;
        self.write(gathering, meta)
    }

    fn visit(&self, visitor: Visitor<'_>) -> Result<(), CheckpointError> {
        let database = self.0.database()?;
        let runs = self.0.current().runs.clone();
        // Half of the time goes into sled, half into what the visitor does: two threads share it.
        std::thread::scope(|scope| {
            let (sender, blocks) = mpsc::sync_channel(BLOCKS_AHEAD);
            let reading = &database;
            scope.spawn(move || {
                let mut block = reading.first_block().transpose();
                while let Some(found) = block {
                    block = match &found {
                        Ok((key, _)) => reading.block_above(key).transpose(),
                        Err(_) => None,
                    };
                    if sender.send(found).is_err() {
                        break;
                    }
                }
            });
            let mut overlay = Overlay::open(&self.0.directory, &runs)?;
            let mut bytes = 0;
            for block in blocks {
                let block = block?;
                bytes += block.1.len() as u64;
                for record in database.open_block(&block)? {
                    let (key, value) = record.map_err(|error| database.block_error(error))?;
                    if overlay.visit(key, value, visitor)? == ControlFlow::Break(()) {
                        return Ok(());
                    }
                }
            }
            self.0.current().blocks_bytes = bytes;
            overlay.visit_rest(visitor)
        })
    }

    fn rest(&self) {
        // Taken out first: sled writes to its files and waits for its threads when the last handle goes.
        let database = self.0.open().take();
        drop(database);
        // What sled has thrown away waits for somebody to pass by, and nobody will until the next time.
        for _ in 0..GARBAGE_ROUNDS {
            crossbeam_epoch::pin().flush();
        }
    }

    fn begin_replacement(&self) -> Result<Box<dyn Replacement>, CheckpointError> {
        let directory = &self.0.directory;
        let newest = checkpoints_in(directory)?.into_keys().max().unwrap_or(0);
        let number = newest + 1;
        let path = directory.join(name_of(number));
        let database = Database::open(&path).inspect_err(|_| remove_unfinished(&path))?;
        Ok(Box::new(SledReplacement {
            shared: self.0.clone(),
            number,
            path,
            database: Some(database),
            builder: BlockBuilder::default(),
            bytes: 0,
            sealed: None,
        }))
    }
}

struct SledReplacement {
    shared: Arc<Shared>,
    number: u64,
    path: PathBuf,
    /// `None` once it became the current one.
    database: Option<Database>,
    builder: BlockBuilder,
    bytes: u64,
    /// What it stands for, once it is whole and durable.
    sealed: Option<CheckpointMeta>,
}

impl Replacement for SledReplacement {
    fn add(&mut self, key: &[u8], value: &[u8]) -> Result<(), CheckpointError> {
        let (Some(block), Some(database)) = (self.builder.push(key, value), &self.database) else {
            return Ok(());
        };
        self.bytes += block.value.as_ref().map_or(0, Vec::len) as u64;
        database.write(block)
    }

    fn seal(&mut self, meta: &CheckpointMeta) -> Result<(), CheckpointError> {
        let last = self.builder.finish();
        self.bytes += last.as_ref().and_then(|block| block.value.as_ref()).map_or(0, Vec::len) as u64;
        let Some(database) = &self.database else { return Err(CheckpointError::Superseded) };
        database.commit(last.into_iter().collect(), meta)?;
        sync_directory(&self.shared.directory)?;
        self.sealed = Some(meta.clone());
        Ok(())
    }

    fn finish(mut self: Box<Self>) -> Result<(), CheckpointError> {
        let (Some(database), Some(meta)) = (self.database.take(), self.sealed.take()) else {
            return Err(CheckpointError::Superseded);
        };
        let directory = &self.shared.directory;
        write_current(directory, self.number)?;
        let (old, number) = {
            let mut open = self.shared.open();
            let mut current = self.shared.current();
            current.ticket += 1;
            current.gathering = Gathering::default();
            let number = std::mem::replace(&mut current.number, self.number);
            current.meta = Some(meta);
            (current.runs, current.blocks_bytes) = (0..0, self.bytes);
            (open.replace(Arc::new(database)), number)
        };
        // sled stops its threads when the last handle goes.
        drop(old);
        // They belong to the old one, which the manifest names.
        Manifest::remove(directory)?;
        runs::remove_all_but(directory, &(0..0))?;
        // Nothing else: another replacement may be on its way beside this one.
        let old = directory.join(name_of(number));
        DiskFiles.remove_directory(&old).map_err(CheckpointError::io("remove", &old))
    }
}

impl Drop for SledReplacement {
    fn drop(&mut self) {
        if self.database.take().is_some() {
            remove_unfinished(&self.path);
        }
    }
}

fn remove_unfinished(path: &Path) {
    if let Err(error) = DiskFiles.remove_directory(path) {
        // It is removed at the next open at the latest.
        tracing::warn!(path = %path.display(), %error, "an unfinished checkpoint could not be removed");
    }
}

/// What a file system without an answer has is without bounds.
fn free_bytes(directory: &Path) -> u64 {
    rustix::fs::statvfs(directory).map_or(u64::MAX, |disk| disk.f_bavail.saturating_mul(disk.f_frsize))
}

fn is_ours(name: &str) -> bool {
    name == CURRENT || name == manifest::NAME || name.starts_with("checkpoint-")
}

fn name_of(number: u64) -> String {
    format!("checkpoint-{number:010}")
}

fn parse_name(name: &str) -> Option<u64> {
    name.strip_prefix("checkpoint-").filter(|digits| digits.len() == 10)?.parse().ok()
}

fn checkpoints_in(directory: &Path) -> Result<BTreeMap<u64, PathBuf>, CheckpointError> {
    let names = DiskFiles.list(directory).map_err(CheckpointError::io("list", directory))?;
    let found = names.iter().filter_map(|name| Some((parse_name(name)?, directory.join(name))));
    Ok(found.collect())
}

fn make_directory(directory: &Path) -> Result<(), CheckpointError> {
    DiskFiles.create_directory(directory).map_err(CheckpointError::io("create", directory))?;
    directory.parent().map_or(Ok(()), sync_directory)
}

/// There is no CURRENT: nothing was ever completed here, or it was lost.
fn begin_first(directory: &Path) -> Result<u64, CheckpointError> {
    for path in checkpoints_in(directory)?.values() {
        // Ours is only what a crash left before CURRENT was first written: without a meta.
        if Database::exists(path) && Database::open(path)?.meta()?.is_some() {
            let what = format!("it holds a checkpoint, but {CURRENT} beside it is missing");
            return Err(CheckpointError::damaged(path, what));
        }
        DiskFiles.remove_directory(path).map_err(CheckpointError::io("remove", path))?;
    }
    Database::open(&directory.join(name_of(1)))?.sync()?;
    sync_directory(directory)?;
    write_current(directory, 1)?;
    Ok(1)
}

fn remove_others(directory: &Path, current: u64) -> Result<(), CheckpointError> {
    for (number, path) in checkpoints_in(directory)? {
        if number != current {
            DiskFiles.remove_directory(&path).map_err(CheckpointError::io("remove", &path))?;
        }
    }
    Ok(())
}

fn read_current(directory: &Path) -> Result<Option<u64>, CheckpointError> {
    let path = directory.join(CURRENT);
    let bytes = match files::read_whole(&DiskFiles, &path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(CheckpointError::io("read", &path)(error)),
    };
    let damaged = || CheckpointError::damaged_file(&path, 0, "it does not name a checkpoint");
    let text = String::from_utf8(bytes).map_err(|_| damaged())?;
    let (name, sum) = text.trim_end().split_once(' ').ok_or_else(damaged)?;
    if sum != format!("{:08x}", crc32fast::hash(name.as_bytes())) {
        return Err(damaged());
    }
    parse_name(name).ok_or_else(damaged).map(Some)
}

fn write_current(directory: &Path, number: u64) -> Result<(), CheckpointError> {
    let path = directory.join(CURRENT);
    let name = name_of(number);
    let text = format!("{name} {:08x}\n", crc32fast::hash(name.as_bytes()));
    files::replace_whole(&DiskFiles, &path, text.as_bytes()).map_err(CheckpointError::io("write", &path))
}

#[cfg(test)]
mod tests {
    use openraft::vote::RaftLeaderId;
    use quorate_core::id::Zxid;
    use quorate_core::state::Digest;

    use super::*;
    use crate::replica::types::{LeaderId, LogId, StoredMembership};

    fn meta(index: u64) -> CheckpointMeta {
        let applied = LogId { leader_id: LeaderId::new(1, 1).to_committed(), index };
        CheckpointMeta {
            applied,
            membership: StoredMembership::default(),
            zxid: Zxid(index),
            digest: Digest(index.into()),
        }
    }

    fn change(key: u8, value: Option<u8>) -> RecordWrite {
        RecordWrite { key: vec![1, key].into(), value: value.map(|value| vec![value; 100].into()) }
    }

    fn contents(store: &SledCheckpoints) -> BTreeMap<u8, u8> {
        let mut all = BTreeMap::new();
        let visited = store.visit(&mut |key, value| {
            assert!(all.insert(key[1], value[0]).is_none(), "every record once");
            ControlFlow::Continue(())
        });
        visited.expect("whole");
        all
    }

    /// Changes every `step`th key from `first` on: to `round`, or away with it where the key is even
    /// in an odd round.
    fn changes(round: u8, first: u8, step: usize) -> Vec<RecordWrite> {
        let keys = (first..=250).step_by(step);
        keys.map(|key| change(key, (round.is_multiple_of(2) || !key.is_multiple_of(2)).then_some(round)))
            .collect()
    }

    fn note(model: &mut BTreeMap<u8, u8>, changes: &[RecordWrite]) {
        for change in changes {
            match &change.value {
                Some(value) => model.insert(change.key[1], value[0]),
                None => model.remove(&change.key[1]),
            };
        }
    }

    fn checkpoint(store: &SledCheckpoints, writes: Vec<RecordWrite>, index: u64) {
        let ticket = store.begin().expect("begun");
        store.stage(ticket, writes).expect("staged");
        store.commit(ticket, &meta(index)).expect("durable");
    }

    #[test]
    fn runs_stay_over_the_blocks_until_they_are_as_large_and_are_read_all_along() {
        let directory = tempfile::tempdir().expect("a directory");
        let open = || SledCheckpoints::open_sized(directory.path(), 1000, 1000).expect("opens");
        let mut model = BTreeMap::new();
        let (mut most_runs, mut times_merged, mut times_applied) = (0, 0, 0);
        let mut store = open();
        for round in 1..=120_u8 {
            let before = store.current().runs.clone();
            let changes = changes(round, round % 7, 3 + usize::from(round) % 60);
            note(&mut model, &changes);
            checkpoint(&store, changes, round.into());
            let runs = store.current().runs.clone();
            most_runs = most_runs.max(runs.len());
            times_merged += usize::from(runs.len() == 1 && before.len() > 1);
            times_applied += usize::from(runs.is_empty() && !before.is_empty());
            if round.is_multiple_of(8) {
                drop(store);
                store = open();
            }
            if round.is_multiple_of(15) {
                store.rest();
            }
            assert_eq!(store.meta().expect("readable"), Some(meta(round.into())));
            assert_eq!(contents(&store), model, "round {round}");
        }
        assert!(
            most_runs > RUNS_MAX / 2 && times_merged > 1 && times_applied > 1,
            "{most_runs} runs, merged {times_merged} times, applied {times_applied} times"
        );
    }

    #[test]
    fn runs_that_a_crash_interrupted_while_they_were_applied_are_read_and_applied_again() {
        let directory = tempfile::tempdir().expect("a directory");
        let open = || SledCheckpoints::open_sized(directory.path(), 1000, 1000).expect("opens");
        let mut model = BTreeMap::new();
        {
            let store = open();
            let writes: Vec<RecordWrite> = (0..250).map(|key| change(key, Some(1))).collect();
            note(&mut model, &writes);
            checkpoint(&store, writes, 1);
            assert_eq!(contents(&store), model);
            let few = changes(3, 0, 10);
            note(&mut model, &few);
            checkpoint(&store, few, 2);
            assert!(!store.current().runs.is_empty(), "they stay over the blocks");
            // They are applied; then the member dies before the new blocks are current.
            std::mem::forget(store.applied(&meta(2)).expect("applied"));
            store.rest();
        }
        for _ in 0..2 {
            let store = open();
            assert_eq!((store.meta().expect("readable"), contents(&store)), (Some(meta(2)), model.clone()));
            store.rest();
            assert_eq!(contents(&store), model);
        }
        let store = open();
        assert_eq!(contents(&store), model);
        let all = |round| (0..250).map(|key| change(key, Some(round))).collect::<Vec<_>>();
        for round in 9..13 {
            note(&mut model, &all(round));
            checkpoint(&store, all(round), round.into());
            assert_eq!(contents(&store), model);
        }
        assert!(store.current().runs.len() <= 2, "twice the blocks: they were applied");
    }

    /// Blocks that are written over one by one could be lost with the power, and nothing else has them.
    #[test]
    fn applying_runs_leaves_the_blocks_below_them_as_they_are() {
        let directory = tempfile::tempdir().expect("a directory");
        let store = SledCheckpoints::open_sized(directory.path(), 1000, 50_000).expect("opens");
        let all = |value| (0..250).map(|key| change(key, Some(value))).collect::<Vec<_>>();
        checkpoint(&store, all(1)[..2].to_vec(), 1);
        store.rest();
        let (before, kept) = (directory.path().join(name_of(1)), directory.path().join("kept"));
        std::fs::create_dir(&kept).expect("made");
        std::fs::hard_link(before.join("db"), kept.join("db")).expect("linked");
        std::fs::copy(before.join("conf"), kept.join("conf")).expect("copied");
        checkpoint(&store, all(2), 2);
        assert!(store.current().runs.is_empty(), "they were applied");
        assert_eq!((contents(&store).len(), before.exists()), (250, false));
        let below = Database::open(&kept).expect("as it was");
        assert_eq!(below.meta().expect("readable"), Some(meta(1)));
        let block = below.first_block().expect("readable").expect("a block");
        assert_eq!(below.open_block(&block).expect("whole").count(), 2);
        assert_eq!(below.block_above(&block.0).expect("readable"), None);
    }

    #[test]
    fn what_has_no_room_and_can_wait_is_no_failure() {
        let directory = tempfile::tempdir().expect("a directory");
        let store = SledCheckpoints::open(directory.path()).expect("opens");
        let refused = |kind: io::ErrorKind| {
            let error = CheckpointError::io("write", directory.path())(kind.into());
            store.0.if_room(1, || Err::<(), _>(error))
        };
        assert!(matches!(refused(io::ErrorKind::StorageFull), Ok(None)));
        assert!(refused(io::ErrorKind::Other).is_err(), "a disk that fails is another matter");
        let asked = store.0.if_room(u64::MAX, || -> Result<(), _> { panic!("it is not even tried") });
        assert!(matches!(asked, Ok(None)));
        assert!(matches!(store.0.if_room(1, || Ok(7)), Ok(Some(7))));
    }

    #[test]
    fn a_manifest_of_a_checkpoint_that_was_replaced_means_nothing() {
        let directory = tempfile::tempdir().expect("a directory");
        let open = || SledCheckpoints::open_sized(directory.path(), 1000, 1000).expect("opens");
        let store = open();
        checkpoint(&store, (0..250).map(|key| change(key, Some(1))).collect(), 1);
        assert_eq!(contents(&store).len(), 250);
        checkpoint(&store, changes(2, 0, 10), 2);
        let left_behind = std::fs::read(directory.path().join(manifest::NAME)).expect("runs stand over it");
        let run = std::fs::read(directory.path().join(runs::file_name(0))).expect("a run");
        let mut replacement = store.begin_replacement().expect("begun");
        replacement.add(&[1, 7], &[7; 100]).expect("added");
        replacement.seal(&meta(9)).expect("durable");
        replacement.finish().expect("current");
        drop(store);
        // A crash between the replacement and the tidying behind it.
        std::fs::write(directory.path().join(manifest::NAME), left_behind).expect("written");
        std::fs::write(directory.path().join(runs::file_name(0)), run).expect("written");
        let store = open();
        assert_eq!(store.meta().expect("readable"), Some(meta(9)));
        assert_eq!(contents(&store), BTreeMap::from([(7, 7)]));
        assert!(!directory.path().join(manifest::NAME).exists());
    }
}
