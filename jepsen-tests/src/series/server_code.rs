//! Which code a result is about: a stamp of the committed code that is under test, so that results of
//! older code are known for what they are, and the programs that are made of it.
//!
//! The stamp is made of git's hashes of what ends up in a member or in the SDK, through which the
//! workloads work. It is the same on every branch that has the same code; with uncommitted changes
//! there is none, and nothing counts.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::cluster::Binaries;

/// What ends up in a member; what is not there does not count.
const SERVER: [&str; 10] = [
    "Cargo.lock",
    "Cargo.toml",
    "core/Cargo.toml",
    "core/src",
    "proto",
    "server/Cargo.toml",
    "server/build.rs",
    "server/allocator",
    "server/src",
    "rust-toolchain.toml",
];
/// The SDK, whose locks, elections and registry are under test like the server: part of the harness,
/// with the core and the protocol that it is made of.
const SDK: [&str; 2] = ["client/Cargo.toml", "client/src"];

/// What a result is stamped with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stamp {
    /// Of the code under test: equal for equal code.
    pub code: String,
    /// The commit, for people.
    pub commit: String,
}

/// The stamp of this checkout.
///
/// # Errors
/// No git, no checkout, or uncommitted changes in the code under test.
pub fn stamp() -> Result<Stamp, String> {
    let paths = [&SERVER[..], &SDK].concat();
    let changed = git(&[&["status", "--porcelain", "--"], &paths[..]].concat())?;
    if !changed.is_empty() {
        return Err(format!("uncommitted changes in the code under test:\n{changed}"));
    }
    let hashes = git(&[&["ls-tree", "HEAD", "--"], &paths[..]].concat())?;
    let code = format!("{:012x}", xxhash_rust::xxh64::xxh64(hashes.as_bytes(), 0) >> 16);
    Ok(Stamp { code, commit: git(&["rev-parse", "--short", "HEAD"])?.trim().to_owned() })
}

/// The programs of a series: those that it starts, and itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Programs {
    paths: [PathBuf; 3],
    hash: String,
}

impl Programs {
    /// Finds the programs and sees to it that they are no older than the code they are made of.
    ///
    /// # Errors
    /// There is none, or it is older: its results would not be this code's.
    pub fn find() -> Result<Programs, String> {
        let Binaries { quorated, quorate } = Binaries::find().map_err(|error| error.to_string())?;
        let harness = std::env::current_exe().map_err(|error| format!("the running executable: {error}"))?;
        is_built_of(&quorated, &SERVER)?;
        for through in [&quorate, &harness] {
            is_built_of(through, &[&SERVER[..], &SDK].concat())?;
        }
        let paths = [quorated, quorate, harness];
        let hash = contents(&paths)?;
        Ok(Programs { paths, hash })
    }

    /// A hash of their contents when they were found.
    pub fn hash(&self) -> &str {
        &self.hash
    }

    /// That they are still those that were found.
    ///
    /// # Errors
    /// One was built anew meanwhile, or is gone.
    pub fn are_unchanged(&self) -> Result<(), String> {
        match contents(&self.paths)? == self.hash {
            true => Ok(()),
            false => Err("a program was built anew meanwhile: its results would be another code's".into()),
        }
    }
}

fn contents(paths: &[PathBuf]) -> Result<String, String> {
    let mut hasher = xxhash_rust::xxh64::Xxh64::new(0);
    for path in paths {
        hasher.update(&std::fs::read(path).map_err(|error| format!("{}: {error}", path.display()))?);
    }
    Ok(format!("{:012x}", hasher.digest() >> 16))
}

/// That a program is younger than the last change of what it is made of, in the files as in git.
fn is_built_of(program: &Path, paths: &[&str]) -> Result<(), String> {
    let built = modified(program)?;
    let committed = git(&[&["log", "-1", "--format=%ct", "--"], paths].concat())?;
    let seconds = committed.trim().parse().map_err(|_| format!("git: {committed:?} is no time"))?;
    let mut newest = (UNIX_EPOCH + Duration::from_secs(seconds), "the last commit".to_owned());
    for file in git(&[&["ls-files", "-z", "--"], paths].concat())?.split_terminator('\0') {
        newest = newest.max((modified(&root().join(file))?, file.to_owned()));
    }
    let (changed, by) = newest;
    match built < changed {
        // Cargo goes by contents for some files, and then sees nothing to do.
        true => Err(format!(
            "{} is older than {by}: build it (after a touch of its main.rs if cargo finds nothing to do)",
            program.display()
        )),
        false => Ok(()),
    }
}

fn modified(path: &Path) -> Result<SystemTime, String> {
    let modified = std::fs::metadata(path).and_then(|metadata| metadata.modified());
    modified.map_err(|error| format!("{}: {error}", path.display()))
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn git(arguments: &[&str]) -> Result<String, String> {
    let output = Command::new("git").arg("-C").arg(root()).args(arguments).output();
    let output = output.map_err(|error| format!("git: {error}"))?;
    match output.status.success() {
        true => Ok(String::from_utf8_lossy(&output.stdout).into_owned()),
        false => Err(format!("git {}: {}", arguments.join(" "), String::from_utf8_lossy(&output.stderr))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn programs_that_are_built_anew_are_noticed() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let paths = ["quorated", "quorate", "jepsen-tests"].map(|name| folder.path().join(name));
        paths.iter().for_each(|path| std::fs::write(path, "first").expect("writes"));
        let programs = Programs { hash: contents(&paths).expect("reads"), paths };
        assert_eq!(programs.are_unchanged(), Ok(()));
        std::fs::write(&programs.paths[2], "later").expect("writes");
        assert!(programs.are_unchanged().is_err());
    }

    #[test]
    fn a_program_that_is_older_than_a_changed_file_is_refused() {
        let program = tempfile::NamedTempFile::new().expect("a temporary file");
        let source = modified(&root().join("core/Cargo.toml")).expect("is there");
        let committed = git(&["log", "-1", "--format=%ct", "--", "core/Cargo.toml"]).expect("a checkout");
        let committed = UNIX_EPOCH + Duration::from_secs(committed.trim().parse().expect("a time"));
        let is_built_at = |time: SystemTime| {
            program.as_file().set_modified(time).expect("a time");
            is_built_of(program.path(), &["core/Cargo.toml"])
        };
        let last = source.max(committed);
        assert_eq!(is_built_at(last + Duration::from_secs(1)), Ok(()));
        assert!(is_built_at(last - Duration::from_secs(1)).is_err());
    }
}
