//! The guard: a small shell that ends members whose bench has died.
//!
//! It reads which processes live from a pipe whose other end only the bench holds. However the
//! bench ends, `kill -9` included, the pipe closes, the guard kills what is left and removes the
//! folder. It has a process group of its own, so that Ctrl-C does not reach it first.

use std::io::Write;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};

use crate::failure::Outcome;

const SCRIPT: &str = r#"
pids=" "
while read -r word pid; do
  case "$word" in
    add) pids="$pids$pid " ;;
    forget) pids="${pids%% $pid *} ${pids#* $pid }" ;;
  esac
done
for pid in $pids; do kill -9 "$pid" 2>/dev/null; done
rm -rf -- "$1"
"#;

/// See the file's comment.
pub(super) struct Guard {
    shell: Child,
    pipe: Option<ChildStdin>,
}

impl Guard {
    /// Starts a guard that removes `folder` at the end.
    pub(super) fn start(folder: &Path) -> Outcome<Guard> {
        let mut shell = Command::new("/bin/sh")
            .args(["-c", SCRIPT, "quorate-bench-guard"])
            .arg(folder)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .process_group(0)
            .spawn()?;
        let pipe = shell.stdin.take();
        Ok(Guard { shell, pipe })
    }

    /// This process must not outlive the bench.
    pub(super) fn add(&mut self, pid: u32) -> Outcome<()> {
        self.tell("add", pid)
    }

    /// This process has been waited for: its number may soon be somebody else's.
    pub(super) fn forget(&mut self, pid: u32) -> Outcome<()> {
        self.tell("forget", pid)
    }

    fn tell(&mut self, word: &str, pid: u32) -> Outcome<()> {
        if let Some(pipe) = &mut self.pipe {
            writeln!(pipe, "{word} {pid}")?;
        }
        Ok(())
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        drop(self.pipe.take());
        if let Err(error) = self.shell.wait() {
            eprintln!("the guard could not be waited for: {error}");
        }
    }
}
