//! Ephemerals: every one belongs to a session that exists.

use quorate_core::id::SessionId;
use quorate_core::reply::ReadResult;
use quorate_core::request::ReadRequest;
use quorate_core::state::{Caller, State};

/// Looks at the children of a node after a session has ended.
pub fn check(state: &State, parent: &str) -> Result<(), String> {
    let list = ReadRequest::List {
        path: parent.to_owned(),
        after: None,
        limit: 0,
        with_stat: true,
        with_data: false,
        watch: None,
    };
    let Ok(ReadResult::Children { children, .. }) =
        state.read(&list, &Caller { identities: &[], session: None })
    else {
        return Ok(()); // not made yet
    };
    for child in children {
        let owner = child.stat.map_or(SessionId(0), |stat| stat.ephemeral_owner);
        if owner != SessionId(0) && state.session(owner).is_none() {
            return Err(format!("{parent}/{} belongs to session {owner}, which has ended", child.name));
        }
    }
    Ok(())
}
