//! How changes get into the stored blocks: few of them as one batch. Many are runs, which are read as an
//! [`Overlay`] over the blocks, also when new blocks are made of both.

use std::ops::{ControlFlow, Range};
use std::path::Path;

use quorate_core::record::RecordWrite;

use super::Visitor;
use super::blocks::{self, BlockWrite};
use super::database::{Block, Database};
use super::error::CheckpointError;
use super::runs::Merge;

/// What a gathered change costs besides its key and value.
const CHANGE_OVERHEAD: usize = 64;

/// What sorted changes amount to.
pub struct Plan {
    /// The blocks to write.
    pub writes: Vec<BlockWrite>,
    /// How many bytes the blocks grow by.
    pub growth: i64,
}

/// The plan for sorted changes; `None` if it has more than `bytes_max`.
pub fn plan(
    database: &Database,
    changes: &[RecordWrite],
    bytes_max: usize,
) -> Result<Option<Plan>, CheckpointError> {
    let (mut writes, mut bytes, mut growth, mut rest) = (Vec::new(), 0, 0, changes);
    while let Some(first) = rest.first() {
        let block = database.block_for(&first.key)?;
        let upper = database.block_above(&first.key)?;
        let inside = |change: &RecordWrite| upper.as_ref().is_none_or(|(upper, _)| change.key < upper[..]);
        let count = rest.iter().take_while(|change| inside(change)).count();
        let (here, behind) = rest.split_at(count);
        let updated = update(database, &first.key, block.as_ref(), here)?;
        bytes += bytes_of(&updated);
        growth += growth_of(block.as_ref(), &updated);
        if bytes > bytes_max {
            return Ok(None);
        }
        writes.extend(updated);
        rest = behind;
    }
    Ok(Some(Plan { writes, growth }))
}

fn growth_of(block: Option<&Block>, writes: &[BlockWrite]) -> i64 {
    bytes_of(writes) as i64 - block.map_or(0, |(_, value)| value.len() as i64)
}

fn bytes_of(writes: &[BlockWrite]) -> usize {
    writes.iter().map(|write| write.value.as_ref().map_or(0, Vec::len)).sum()
}

fn update(
    database: &Database,
    first: &[u8],
    block: Option<&Block>,
    changes: &[RecordWrite],
) -> Result<Vec<BlockWrite>, CheckpointError> {
    let (key, value) = match block {
        Some((key, value)) => (&key[..], Some(&value[..])),
        None => (first, None),
    };
    blocks::update(key, value, changes).map_err(|error| database.block_error(error))
}

/// Sorts changes by key; of several to one key the last counts.
pub fn sort(changes: &mut Vec<RecordWrite>) {
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

/// What a gathered change holds in memory, roughly.
pub fn cost(change: &RecordWrite) -> usize {
    change.key.len() + change.value.as_ref().map_or(0, |value| value.len()) + CHANGE_OVERHEAD
}

/// Runs that are not applied yet, over the records that they change.
pub struct Overlay(Option<Merge>);

impl Overlay {
    /// With these runs, or none.
    pub fn open(directory: &Path, runs: &Range<u32>) -> Result<Overlay, CheckpointError> {
        Ok(Overlay((!runs.is_empty()).then(|| Merge::open(directory, runs)).transpose()?))
    }

    /// Visits the changed records up to a stored one, and that unless it has been changed.
    pub fn visit(
        &mut self,
        key: &[u8],
        value: &[u8],
        visitor: Visitor<'_>,
    ) -> Result<ControlFlow<()>, CheckpointError> {
        while let Some(merge) = &mut self.0
            && merge.peek().is_some_and(|changed| changed[..] <= *key)
        {
            let Some(change) = merge.next()? else { break };
            let is_same = change.key == key;
            if visit_change(&change, visitor) == ControlFlow::Break(()) {
                return Ok(ControlFlow::Break(()));
            }
            if is_same {
                return Ok(ControlFlow::Continue(()));
            }
        }
        Ok(visitor(key, value))
    }

    /// Visits the changed records behind the last stored one.
    pub fn visit_rest(&mut self, visitor: Visitor<'_>) -> Result<(), CheckpointError> {
        let Some(merge) = &mut self.0 else { return Ok(()) };
        while let Some(change) = merge.next()? {
            if visit_change(&change, visitor) == ControlFlow::Break(()) {
                break;
            }
        }
        Ok(())
    }
}

/// A removed record is not visited.
fn visit_change(change: &RecordWrite, visitor: Visitor<'_>) -> ControlFlow<()> {
    change.value.as_ref().map_or(ControlFlow::Continue(()), |value| visitor(&change.key, value))
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
