//! `quorate snapshot restore`: handed to `quorated restore`, which knows the files on the disk.

use std::path::PathBuf;
use std::process::Command;

use clap::Args;

use crate::failure::{Failure, Outcome};

/// Make a new cluster's first member out of a snapshot file (runs quorated restore).
///
/// Restoring is offline: a new cluster id, no sessions, no ephemeral nodes.
#[derive(Args, Debug)]
pub struct RestoreArguments {
    /// The file.
    file: PathBuf,
    /// The new member's data directory; it must be empty or absent.
    #[arg(long)]
    data_dir: PathBuf,
    /// Further options of quorated restore, such as --member-id 1 --config quorate.toml.
    #[arg(last = true)]
    options: Vec<String>,
}

pub fn run(arguments: RestoreArguments) -> Outcome {
    let RestoreArguments { file, data_dir, options } = arguments;
    std::fs::metadata(&file)
        .map_err(|error| Failure::usage(format!("cannot read {}: {error}", file.display())))?;
    let program = server_program();
    let status = Command::new(&program)
        .arg("restore")
        .arg("--snapshot")
        .arg(&file)
        .arg("--data-dir")
        .arg(&data_dir)
        .args(options)
        .status();
    match status {
        Ok(status) if status.success() => Ok(()),
        Ok(status) => {
            Err(Failure::Silent(status.code().and_then(|code| u8::try_from(code).ok()).unwrap_or(1)))
        }
        Err(error) => {
            Err(Failure::other(format!("cannot run {}: {error}", program.display())).with_hint(format!(
                "run it where the server is installed: quorated restore --snapshot {} --data-dir {}",
                file.display(),
                data_dir.display()
            )))
        }
    }
}

/// `quorated` beside ourselves, or else wherever the system finds it.
fn server_program() -> PathBuf {
    let name = format!("quorated{}", std::env::consts::EXE_SUFFIX);
    let beside =
        std::env::current_exe().ok().map(|own| own.with_file_name(&name)).filter(|path| path.exists());
    beside.unwrap_or_else(|| name.into())
}
