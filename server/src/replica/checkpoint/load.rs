//! From the stored checkpoint to a state in memory, verified.

use quorate_core::state::{State, StateLoader};

use super::{CheckpointError, CheckpointMeta, CheckpointStore, try_visit};
use crate::replica::types::LogId;

/// Loads the durable checkpoint; `None` if there was never one.
///
/// # Errors
///
/// `Damaged` if the records are not a state's, or not the state that the checkpoint stands for.
/// `place` names the store for people; for `index_seed` see [`State::with_index_seed`].
pub fn load_state(
    store: &dyn CheckpointStore,
    place: &std::path::Path,
    index_seed: u64,
) -> Result<Option<(State, CheckpointMeta)>, CheckpointError> {
    let Some(meta) = store.meta()? else { return Ok(None) };
    let mut loader = StateLoader::with_index_seed(index_seed);
    try_visit(store, |key, value| {
        loader.push(key, value).map_err(|error| CheckpointError::damaged(place, error.to_string()))
    })?;
    let state = loader.finish().map_err(|error| CheckpointError::damaged(place, error.to_string()))?;
    check_state(&state, &meta).map_err(|what| CheckpointError::damaged(place, what))?;
    Ok(Some((state, meta)))
}

/// Whether a loaded state is the one that `meta` promises. The loader has summed the digest up
/// from the records, so this compares what is stored with what was in memory when it was written.
pub(crate) fn check_state(state: &State, meta: &CheckpointMeta) -> Result<(), String> {
    if state.zxid() != meta.zxid {
        return Err(format!("its records end at zxid {}, not {}", state.zxid(), meta.zxid));
    }
    if state.digest() != meta.digest {
        return Err(format!("its records have digest {:032x}, not {:032x}", state.digest().0, meta.digest.0));
    }
    Ok(())
}

/// Refuses a checkpoint that the log cannot continue: starting from it, or from nothing, would
/// silently skip the entries in between.
pub fn check_reaches(
    meta: Option<&CheckpointMeta>,
    log_purged: Option<LogId>,
    place: &std::path::Path,
) -> Result<(), CheckpointError> {
    let applied = meta.map(|meta| meta.applied.index);
    match log_purged {
        Some(purged) if applied.is_none_or(|applied| applied < purged.index) => {
            let stands =
                applied.map_or("there is none".into(), |index| format!("it stands at entry {index}"));
            let what = format!("the log was purged up to entry {}, but {stands}", purged.index);
            Err(CheckpointError::damaged(place, what))
        }
        _ => Ok(()),
    }
}
