//! Where the real programs are: `quorated` and `quorate`.
//!
//! In this order: the environment (QUORATED, QUORATE), the folder of the running executable's own
//! profile (target/debug or target/release), and, if they are missing there, one `cargo build`.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use super::ClusterError;

/// Both programs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Binaries {
    /// The server.
    pub quorated: PathBuf,
    /// The command line.
    pub quorate: PathBuf,
}

impl Binaries {
    /// Finds the programs, or builds them once.
    ///
    /// # Errors
    /// [`ClusterError::Binaries`]: neither found nor built; says where it looked.
    pub fn find() -> Result<Binaries, ClusterError> {
        static FOUND: OnceLock<Result<Binaries, String>> = OnceLock::new();
        FOUND.get_or_init(find_or_build).clone().map_err(ClusterError::Binaries)
    }
}

fn find_or_build() -> Result<Binaries, String> {
    let executable = std::env::current_exe().map_err(|error| format!("the running executable: {error}"))?;
    let profile = profile_folder(&executable).ok_or_else(|| {
        format!("{} is in no target folder; set QUORATED and QUORATE", executable.display())
    })?;
    let locate = |variable: &str, name: &str| match std::env::var_os(variable) {
        Some(path) => PathBuf::from(path),
        None => profile.join(name),
    };
    let binaries =
        Binaries { quorated: locate("QUORATED", "quorated"), quorate: locate("QUORATE", "quorate") };
    if !(binaries.quorated.is_file() && binaries.quorate.is_file()) {
        build(profile)?;
    }
    for path in [&binaries.quorated, &binaries.quorate] {
        if !path.is_file() {
            return Err(format!("{} is missing, and `cargo build` did not make it", path.display()));
        }
    }
    Ok(binaries)
}

/// target/debug for target/debug/deps/some_test and for target/debug/jepsen-tests.
fn profile_folder(executable: &Path) -> Option<&Path> {
    let folder = executable.parent()?;
    if folder.ends_with("deps") { folder.parent() } else { Some(folder) }
}

fn build(profile: &Path) -> Result<(), String> {
    let target = profile.parent().ok_or("the profile's folder has no parent")?;
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(cargo);
    command
        .args(["build", "-p", "quorate-server", "-p", "quorate-cli", "--manifest-path"])
        .arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("../Cargo.toml"))
        .arg("--target-dir")
        .arg(target);
    if profile.ends_with("release") {
        command.arg("--release");
    }
    match command.status() {
        Ok(status) if status.success() => Ok(()),
        Ok(status) => Err(format!("{command:?}: {status}")),
        Err(error) => Err(format!("{command:?}: {error}")),
    }
}
