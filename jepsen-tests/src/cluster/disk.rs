//! A small disk for each member, so that one can fill up without the machine's doing so: a file
//! system in memory, of a size of its own, mounted where the member keeps its data.
//!
//! What it cannot show is what a power failure does: the simulation does that. Its name in the list
//! of mounts carries the cluster's port block, so that what a killed harness left can be told.

use std::io::{self, Write};
use std::path::Path;
use std::process::Command;

use super::{ClusterError, ports};

const PREFIX: &str = "quorate-jepsen-";
/// The file that fills a disk.
const BALLAST: &str = "ballast";

/// Mounts a disk of so many megabytes.
pub(super) fn mount(block: u16, id: u64, folder: &Path, megabytes: u64) -> Result<(), ClusterError> {
    std::fs::create_dir_all(folder).map_err(|source| ClusterError::Files { path: folder.into(), source })?;
    let output = Command::new("mount")
        .args(["-t", "tmpfs", "-o"])
        .arg(format!("size={megabytes}m"))
        .arg(format!("{PREFIX}{block}-{id}"))
        .arg(folder)
        .output()
        .map_err(|source| ClusterError::Spawn { program: "mount".into(), source })?;
    match output.status.success() {
        true => Ok(()),
        false => Err(ClusterError::Impossible(String::from_utf8_lossy(&output.stderr).trim().to_owned())),
    }
}

/// Unmounts what harnesses left that were killed: whatever carries a block that nobody has locked,
/// and everything of `own`, which the caller has locked.
pub(super) fn sweep(own: u16) {
    let mounts = std::fs::read_to_string("/proc/mounts").unwrap_or_default();
    for line in mounts.lines() {
        let mut words = line.split(' ');
        let (Some(name), Some(folder)) = (words.next(), words.next()) else { continue };
        let block = name.strip_prefix(PREFIX).and_then(|rest| rest.split('-').next()?.parse().ok());
        let Some(block) = block else { continue };
        let lock = if block == own { None } else { ports::try_lock(block) };
        if block == own || lock.is_some() {
            let unmounted = Command::new("umount").args(["-l", folder]).status();
            if !unmounted.is_ok_and(|status| status.success()) {
                eprintln!("{folder} could not be unmounted");
            }
        }
    }
}

/// Fills the disk on which `folder` is until nothing more fits.
///
/// # Errors
/// Anything but "no space left".
pub fn fill(folder: &Path) -> io::Result<()> {
    let mut file = std::fs::File::create(folder.join(BALLAST))?;
    // Large pieces first, then small ones: nothing is left over.
    for piece in [1 << 20, 4096, 64] {
        let bytes = vec![0x5a; piece];
        loop {
            match file.write_all(&bytes) {
                Ok(()) => {}
                Err(error) if error.kind() == io::ErrorKind::StorageFull => break,
                Err(error) => return Err(error),
            }
        }
    }
    Ok(())
}

/// Gives the space back that [`fill`] took.
///
/// # Errors
/// The file cannot be removed.
pub fn relieve(folder: &Path) -> io::Result<()> {
    std::fs::remove_file(folder.join(BALLAST))
}

/// Removes all that is in a folder, if it is there; it goes too unless something is mounted on it.
pub(super) fn empty(folder: &Path) -> io::Result<()> {
    match std::fs::remove_dir_all(folder) {
        Err(error) if matches!(error.kind(), io::ErrorKind::ResourceBusy | io::ErrorKind::NotFound) => Ok(()),
        other => other,
    }
}
