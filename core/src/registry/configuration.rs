//! Configuration on the same tree: named values with a bounded history.
//!
//! ```text
//!   /quorate/config/<name>                  the value now; its version is the revision − 1
//!   /quorate/config/<name>/<revision>       each of the last revisions, ten digits
//! ```
//!
//! A change is one transaction: the value, its revision beside it, and the oldest revision's end. It
//! names the version that it judged, so of two at once one is refused and looks again.

use bytes::Bytes;

use super::names::check_label;
use crate::acl::AclEntry;
use crate::command::{Create, MultiOperation};
use crate::error::{Error, ErrorKind};
use crate::znode::CreateMode;

/// What all values are below.
pub const ROOT: &str = "/quorate/config";
/// Revisions kept of each value.
pub const REVISIONS: u32 = 32;
/// Bytes of a value: its history is kept too.
pub const VALUE_BYTES_MAX: usize = 64 * 1024;

/// The node of a value. A name is DNS labels with dots between.
///
/// # Errors
/// [`ErrorKind::BadArguments`] or [`ErrorKind::TooLarge`], naming the field.
pub fn path(name: &str) -> Result<String, Error> {
    super::names::check_text("name", name, 253)?;
    name.split('.').try_for_each(|label| check_label("name", label))?;
    Ok(format!("{ROOT}/{name}"))
}

/// The node of a revision.
///
/// # Errors
/// As [`path()`].
pub fn revision_path(name: &str, revision: u32) -> Result<String, Error> {
    Ok(format!("{}/{revision:010}", path(name)?))
}

/// The transaction that puts a value. `current` is the standing value's node version, `kept` the
/// revisions beside it, in order. The new revision comes with it.
///
/// # Errors
/// As [`path()`]; [`ErrorKind::TooLarge`] for the value.
pub fn put(
    name: &str,
    value: Bytes,
    current: Option<i32>,
    kept: &[u32],
) -> Result<(u32, Vec<MultiOperation>), Error> {
    let path = path(name)?;
    if value.len() > VALUE_BYTES_MAX {
        let detail = format!("bytes of value: {}, at most {VALUE_BYTES_MAX}", value.len());
        return Err(Error::new(ErrorKind::TooLarge, detail));
    }
    let create = |path: String, data: Bytes| {
        let mode = CreateMode::Persistent;
        MultiOperation::Create(Create { path, data: Some(data), acl: AclEntry::open(), mode })
    };
    let revision = current.map_or(1, |version| version as u32 + 2);
    let mut operations = vec![match current {
        None => create(path.clone(), value.clone()),
        Some(version) => MultiOperation::SetData { path: path.clone(), data: Some(value.clone()), version },
    }];
    operations.push(create(format!("{path}/{revision:010}"), value));
    let surplus = (kept.len() + 1).saturating_sub(REVISIONS as usize);
    for oldest in &kept[..surplus.min(kept.len())] {
        operations.push(MultiOperation::Delete { path: format!("{path}/{oldest:010}"), version: -1 });
    }
    Ok((revision, operations))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_keeps_its_history_bounded() {
        let (revision, operations) = put("orders.timeouts", "1s".into(), None, &[]).expect("valid");
        assert_eq!((revision, operations.len()), (1, 2));
        let kept: Vec<u32> = (1..=REVISIONS).collect();
        let (revision, operations) =
            put("orders.timeouts", "2s".into(), Some(REVISIONS as i32 - 1), &kept).expect("valid");
        assert_eq!(revision, REVISIONS + 1);
        let oldest = revision_path("orders.timeouts", 1).expect("valid");
        assert_eq!(operations[2..], [MultiOperation::Delete { path: oldest, version: -1 }]);
    }

    #[test]
    fn hostile_names_and_large_values_are_refused() {
        for name in ["", ".", "a..b", "a/b", "../x", "A", "a.", &"x".repeat(300)] {
            assert!(path(name).is_err(), "{name:?}");
        }
        let large = Bytes::from(vec![0; VALUE_BYTES_MAX + 1]);
        assert_eq!(put("a", large, None, &[]).expect_err("too large").kind, ErrorKind::TooLarge);
    }
}
