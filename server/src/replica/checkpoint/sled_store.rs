//! Checkpoints in sled: one directory is current, named by a small file.
//!
//! ```text
//! <directory>/CURRENT                     the name of the current checkpoint, with a checksum
//! <directory>/checkpoint-<number>/        a sled directory (database.rs)
//! <directory>/checkpoint-run-<n>.qrun     changes of a large checkpoint being committed (runs.rs)
//! ```
//!
//! A small checkpoint becomes visible by one sled batch of blocks and meta. A large one would hold
//! too much memory in one batch, so it is written as sorted runs, then *decided* by one record in
//! sled, then applied block by block; a crash after the decision applies it again, and before it
//! nothing has happened. A whole new checkpoint is filled beside the current one and becomes
//! current when CURRENT is replaced.

use std::collections::BTreeMap;
use std::io;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard};

use quorate_core::record::RecordWrite;

use super::blocks::{self, BlockBuilder, BlockWrite};
use super::database::{Database, sync_directory};
use super::error::CheckpointError;
use super::runs::{self, Merge};
use super::{CheckpointMeta, CheckpointStore, Replacement, Ticket, Visitor};
use crate::replica::files::{self, DiskFiles, Files};

const CURRENT: &str = "CURRENT";
/// Changes are gathered in memory up to this many bytes; above, they go to a run file.
const GATHER_BYTES: usize = 8 << 20;
/// A checkpoint whose blocks have more bytes than this is committed by way of runs.
const BATCH_BYTES: usize = 8 << 20;
/// While runs are applied, so many bytes of changes are taken for one block at a time.
const STEP_BYTES: usize = 1 << 20;
/// What a gathered change costs besides its key and value.
const CHANGE_OVERHEAD: usize = 64;

/// Checkpoints in a directory. Clones share it.
#[derive(Clone)]
pub struct SledCheckpoints(Arc<Shared>);

struct Shared {
    directory: PathBuf,
    current: Mutex<Current>,
    gather_bytes: usize,
    batch_bytes: usize,
}

struct Current {
    number: u64,
    database: Arc<Database>,
    /// Raised by every begin and every replacement: only the latest ticket is good.
    ticket: u64,
    gathering: Gathering,
}

#[derive(Default)]
struct Gathering {
    changes: Vec<RecordWrite>,
    bytes: usize,
    runs: u32,
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
        if let Some((runs, meta)) = database.redo()? {
            apply_runs(&database, directory, runs)?;
            database.end_redo(&meta)?;
        }
        runs::remove_all(directory)?;
        remove_others(directory, number)?;
        let current =
            Current { number, database: Arc::new(database), ticket: 0, gathering: Gathering::default() };
        let current = Mutex::new(current);
        let shared = Shared { directory: directory.to_path_buf(), current, gather_bytes, batch_bytes };
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
        for name in names.iter().filter(|name| *name == CURRENT || name.starts_with("checkpoint-")) {
            let path = directory.join(name);
            DiskFiles.rename(&path, &aside.join(name)).map_err(CheckpointError::io("move aside", &path))?;
        }
        sync_directory(&aside)?;
        sync_directory(directory)?;
        Ok(aside)
    }

    fn current(&self) -> MutexGuard<'_, Current> {
        self.0.lock()
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Current> {
        self.current.lock().expect("no code panics while it holds the checkpoint")
    }

    /// The database, and what was gathered for `ticket`.
    fn take(&self, ticket: Ticket) -> Result<(Arc<Database>, Gathering), CheckpointError> {
        let mut current = self.lock();
        if current.ticket != ticket.0 {
            return Err(CheckpointError::Superseded);
        }
        let gathering = std::mem::take(&mut current.gathering);
        Ok((current.database.clone(), gathering))
    }

    fn put_back(&self, ticket: Ticket, gathering: Gathering) -> Result<(), CheckpointError> {
        let mut current = self.lock();
        if current.ticket != ticket.0 {
            return Err(CheckpointError::Superseded);
        }
        current.gathering = gathering;
        Ok(())
    }

    fn spill(&self, gathering: &mut Gathering) -> Result<(), CheckpointError> {
        sort(&mut gathering.changes);
        runs::write(&self.directory, gathering.runs, &gathering.changes)?;
        gathering.runs += 1;
        gathering.changes = Vec::new();
        gathering.bytes = 0;
        Ok(())
    }
}

impl CheckpointStore for SledCheckpoints {
    fn meta(&self) -> Result<Option<CheckpointMeta>, CheckpointError> {
        let database = self.current().database.clone();
        database.meta()
    }

    fn begin(&self) -> Result<Ticket, CheckpointError> {
        let mut current = self.current();
        current.ticket += 1;
        current.gathering = Gathering::default();
        Ok(Ticket(current.ticket))
    }

    fn stage(&self, ticket: Ticket, writes: Vec<RecordWrite>) -> Result<(), CheckpointError> {
        let (_, mut gathering) = self.0.take(ticket)?;
        gathering.bytes += writes.iter().map(cost).sum::<usize>();
        gathering.changes.extend(writes);
        if gathering.bytes >= self.0.gather_bytes {
            self.0.spill(&mut gathering)?;
        }
        self.0.put_back(ticket, gathering)
    }

    fn commit(&self, ticket: Ticket, meta: &CheckpointMeta) -> Result<(), CheckpointError> {
        let (database, mut gathering) = self.0.take(ticket)?;
        if gathering.runs == 0 {
            sort(&mut gathering.changes);
            if let Some(writes) = plan(&database, &gathering.changes, self.0.batch_bytes)? {
                return database.commit(writes, meta);
            }
        }
        self.0.spill(&mut gathering)?;
        sync_directory(&self.0.directory)?;
        database.begin_redo(gathering.runs, meta)?;
        apply_runs(&database, &self.0.directory, gathering.runs)?;
        database.end_redo(meta)?;
        runs::remove_all(&self.0.directory)
    }

    fn visit(&self, visitor: Visitor<'_>) -> Result<(), CheckpointError> {
        let database = self.current().database.clone();
        let mut block = database.first_block()?;
        while let Some(found) = block {
            for record in database.open_block(&found)? {
                let (key, value) = record.map_err(|error| database.block_error(error))?;
                if visitor(key, value) == ControlFlow::Break(()) {
                    return Ok(());
                }
            }
            block = database.block_above(&found.0)?;
        }
        Ok(())
    }

    fn begin_replacement(&self) -> Result<Box<dyn Replacement>, CheckpointError> {
        let directory = &self.0.directory;
        let newest = checkpoints_in(directory)?.into_keys().max().unwrap_or(0);
        let number = newest + 1;
        let path = directory.join(name_of(number));
        let database = Database::open(&path)?;
        Ok(Box::new(SledReplacement {
            shared: self.0.clone(),
            number,
            path,
            database: Some(database),
            builder: BlockBuilder::default(),
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
}

impl Replacement for SledReplacement {
    fn add(&mut self, key: &[u8], value: &[u8]) -> Result<(), CheckpointError> {
        match (self.builder.push(key, value), &self.database) {
            (Some(block), Some(database)) => database.write(block),
            _ => Ok(()),
        }
    }

    fn finish(mut self: Box<Self>, meta: &CheckpointMeta) -> Result<(), CheckpointError> {
        let last = self.builder.finish();
        let Some(database) = self.database.take() else { return Err(CheckpointError::Superseded) };
        database.commit(last.into_iter().collect(), meta)?;
        let directory = &self.shared.directory;
        sync_directory(directory)?;
        write_current(directory, self.number)?;
        let old = {
            let mut current = self.shared.lock();
            current.ticket += 1;
            current.gathering = Gathering::default();
            current.number = self.number;
            std::mem::replace(&mut current.database, Arc::new(database))
        };
        // sled stops its threads when the last handle goes.
        drop(old);
        runs::remove_all(directory)?;
        remove_others(directory, self.number)
    }
}

impl Drop for SledReplacement {
    fn drop(&mut self) {
        if self.database.take().is_some()
            && let Err(error) = DiskFiles.remove_directory(&self.path)
        {
            // It is removed at the next open at the latest.
            tracing::warn!(path = %self.path.display(), %error, "an unfinished checkpoint could not be removed");
        }
    }
}

/// The block writes that sorted changes amount to; `None` if they have more than `bytes_max`.
fn plan(
    database: &Database,
    changes: &[RecordWrite],
    bytes_max: usize,
) -> Result<Option<Vec<BlockWrite>>, CheckpointError> {
    let (mut writes, mut bytes, mut rest) = (Vec::new(), 0, changes);
    while let Some(first) = rest.first() {
        let block = database.block_for(&first.key)?;
        let upper = database.block_above(&first.key)?;
        let inside = |change: &RecordWrite| upper.as_ref().is_none_or(|(upper, _)| change.key < upper[..]);
        let count = rest.iter().take_while(|change| inside(change)).count();
        let (here, behind) = rest.split_at(count);
        let updated = update(database, &first.key, block.as_ref(), here)?;
        bytes += updated.iter().map(|write| write.value.as_ref().map_or(0, Vec::len)).sum::<usize>();
        if bytes > bytes_max {
            return Ok(None);
        }
        writes.extend(updated);
        rest = behind;
    }
    Ok(Some(writes))
}

/// Applies runs block by block. May be repeated after a crash at any point.
fn apply_runs(database: &Database, directory: &Path, count: u32) -> Result<(), CheckpointError> {
    let mut merge = Merge::open(directory, count)?;
    while let Some(first) = merge.peek().cloned() {
        let block = database.block_for(&first)?;
        let upper = database.block_above(&first)?;
        let (mut here, mut bytes) = (Vec::new(), 0);
        while bytes < STEP_BYTES
            && merge.peek().is_some_and(|key| upper.as_ref().is_none_or(|(upper, _)| *key < upper[..]))
        {
            let Some(change) = merge.next()? else { break };
            bytes += cost(&change);
            here.push(change);
        }
        database.write_together(update(database, &first, block.as_ref(), &here)?)?;
    }
    Ok(())
}

fn update(
    database: &Database,
    first: &[u8],
    block: Option<&super::database::Block>,
    changes: &[RecordWrite],
) -> Result<Vec<BlockWrite>, CheckpointError> {
    let (key, value) = match block {
        Some((key, value)) => (&key[..], Some(&value[..])),
        None => (first, None),
    };
    blocks::update(key, value, changes).map_err(|error| database.block_error(error))
}

/// Sorts changes by key; of several to one key the last counts.
fn sort(changes: &mut Vec<RecordWrite>) {
    changes.sort_by(|a, b| a.key.cmp(&b.key));
    // `dedup_by` hands over the later one first and removes it, so it is swapped to the front.
    changes.dedup_by(|later, earlier| {
        let same = later.key == earlier.key;
        if same {
            std::mem::swap(later, earlier);
        }
        same
    });
}

fn cost(change: &RecordWrite) -> usize {
    change.key.len() + change.value.as_ref().map_or(0, |value| value.len()) + CHANGE_OVERHEAD
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
    use super::*;

    #[test]
    fn of_several_changes_to_a_key_the_last_counts() {
        let change = |key: &'static [u8], value: &'static [u8]| RecordWrite {
            key: key.into(),
            value: Some(value.into()),
        };
        let mut changes =
            vec![change(b"b", b"1"), change(b"a", b"1"), change(b"b", b"2"), change(b"b", b"3")];
        sort(&mut changes);
        assert_eq!(changes, [change(b"a", b"1"), change(b"b", b"3")]);
    }
}
