//! The guard: a small shell that kills members whose harness has died.
//!
//! It reads which processes live from a pipe whose other end only the harness holds. However the
//! harness ends, panic and `kill -9` included, the pipe closes and the guard kills what is left,
//! unmounts and removes the cluster's disks, namespaces and folder. It runs in a process group of its own, so that Ctrl-C reaches the
//! harness first.

use std::io::Write;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};

use super::ClusterError;

const SCRIPT: &str = r#"
pids=""
namespaces=""
mounts=""
while read -r word what; do
  case "$word" in
    namespace) namespaces="$namespaces $what" ;;
    mount) mounts="$mounts$what
" ;;
    *)
      rest=""
      for known in $pids; do [ "$known" = "$what" ] || rest="$rest $known"; done
      pids="$rest"
      [ "$word" = add ] && pids="$pids $what"
      ;;
  esac
done
for pid in $pids; do kill -9 "$pid" 2>/dev/null; done
# One that was started and not told of yet: it serves from our folder.
[ -n "$1" ] && for process in /proc/[0-9]*; do
  if tr '\0' '\n' 2>/dev/null < "$process/cmdline" | grep -q -F -- "$1/member-"; then
    kill -9 "${process#/proc/}" 2>/dev/null
  fi
done
printf '%s' "$mounts" | while read -r mount; do
  while umount -l "$mount" 2>/dev/null; do :; done
done
for namespace in $namespaces; do ip netns del "$namespace" 2>/dev/null; done
[ "$2" = remove ] && rm -rf -- "$1"
exit 0
"#;

/// See the file's comment.
#[derive(Debug)]
pub(crate) struct Guard {
    shell: Child,
    pipe: Option<ChildStdin>,
}

impl Guard {
    /// Starts a guard. What serves from `folder`, if one is given, does not outlive it even if it was never
    /// told of; the folder is removed at the end if so wanted.
    pub(crate) fn start(folder: Option<&Path>, removes: bool) -> Result<Guard, ClusterError> {
        let folder = folder.map(Path::as_os_str).unwrap_or_default();
        let mut shell = Command::new("/bin/sh")
            .args(["-c", SCRIPT, "quorate-guard"])
            .arg(folder)
            .arg(if removes { "remove" } else { "keep" })
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .process_group(0)
            .spawn()
            .map_err(|source| ClusterError::Spawn { program: "/bin/sh".into(), source })?;
        let pipe = shell.stdin.take();
        Ok(Guard { shell, pipe })
    }

    /// This process must not outlive the harness.
    pub(crate) fn add(&mut self, pid: u32) -> Result<(), ClusterError> {
        self.tell("add", pid)
    }

    /// This process has been waited for: its number may soon be somebody else's.
    pub(crate) fn forget(&mut self, pid: u32) -> Result<(), ClusterError> {
        self.tell("forget", pid)
    }

    /// This network namespace must not outlive the harness.
    pub(super) fn namespace(&mut self, name: &str) -> Result<(), ClusterError> {
        self.tell("namespace", name)
    }

    /// What is mounted here must not outlive the harness.
    pub(super) fn mount(&mut self, folder: &Path) -> Result<(), ClusterError> {
        self.tell("mount", folder.display())
    }

    fn tell(&mut self, word: &str, what: impl std::fmt::Display) -> Result<(), ClusterError> {
        let Some(pipe) = &mut self.pipe else { return Ok(()) };
        writeln!(pipe, "{word} {what}")
            .map_err(|source| ClusterError::Spawn { program: "the guard".into(), source })
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        drop(self.pipe.take());
        // It ends when its pipe closes; not waiting would leave a zombie.
        if let Err(error) = self.shell.wait() {
            eprintln!("the guard could not be waited for: {error}");
        }
    }
}
