//! Which code a result is about: a stamp of the committed server code, so that results of older code
//! are known for what they are.
//!
//! The stamp is made of git's hashes of the folders whose code runs in a member. It is the same on
//! every branch that has the same code; with uncommitted changes there is none, and nothing counts.

use std::path::Path;
use std::process::Command;

/// The folders whose code runs in a member.
const FOLDERS: [&str; 3] = ["core", "proto", "server"];

/// What a result is stamped with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stamp {
    /// Of the server's code: equal for equal code.
    pub code: String,
    /// The commit, for people.
    pub commit: String,
}

/// The stamp of this checkout.
///
/// # Errors
/// No git, no checkout, or uncommitted changes in the server's code.
pub fn stamp() -> Result<Stamp, String> {
    let changed = git(&[&["status", "--porcelain", "--"], &FOLDERS[..]].concat())?;
    if !changed.is_empty() {
        return Err(format!("uncommitted changes in the server's code:\n{changed}"));
    }
    let trees: Vec<String> = FOLDERS.iter().map(|folder| format!("HEAD:{folder}/src")).collect();
    let mut arguments = vec!["rev-parse"];
    // The protocol's words are not below src/.
    arguments.extend(trees.iter().filter(|tree| !tree.contains("proto")).map(String::as_str));
    arguments.push("HEAD:proto");
    let hashes = git(&arguments)?;
    let code = format!("{:012x}", xxhash_rust::xxh64::xxh64(hashes.as_bytes(), 0) >> 16);
    Ok(Stamp { code, commit: git(&["rev-parse", "--short", "HEAD"])?.trim().to_owned() })
}

/// When the server's code was last changed, in seconds since 1970.
///
/// # Errors
/// As for [`stamp`].
pub fn last_change() -> Result<u64, String> {
    let time = git(&[&["log", "-1", "--format=%ct", "--"], &FOLDERS[..]].concat())?;
    time.trim().parse().map_err(|_| format!("git: {time:?} is no time"))
}

fn git(arguments: &[&str]) -> Result<String, String> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let output = Command::new("git").arg("-C").arg(folder).args(arguments).output();
    let output = output.map_err(|error| format!("git: {error}"))?;
    match output.status.success() {
        true => Ok(String::from_utf8_lossy(&output.stdout).into_owned()),
        false => Err(format!("git {}: {}", arguments.join(" "), String::from_utf8_lossy(&output.stderr))),
    }
}
