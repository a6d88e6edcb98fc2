//! `quorate snapshot save`: a consistent snapshot of the whole state, streamed into a file.
//!
//! The file appears under its name only when it is complete and on the disk. It has what ACLs protect
//! and the secrets of sessions, so nobody but its owner may read it.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};

use clap::Args;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use quorate_proto::convert::error_from_status;
use quorate_proto::v1;
use serde::Serialize;
use tonic::Streaming;

use crate::api::Call;
use crate::context::Context;
use crate::failure::{Failure, Outcome};
use crate::output::human::size;
use crate::output::json::hex;

/// Save a consistent snapshot of the whole state.
#[derive(Args, Debug)]
pub struct SaveArguments {
    /// The file to write.
    file: PathBuf,
    /// Replace the file if it exists.
    #[arg(short, long)]
    force: bool,
}

#[derive(Debug, Serialize)]
struct SavedJson {
    file: String,
    bytes: u64,
    applied_index: u64,
    zxid: u64,
    digest: String,
}

pub async fn run(arguments: SaveArguments, context: &mut Context) -> Outcome {
    let SaveArguments { file, force } = arguments;
    if !force && file.exists() {
        return Err(Failure::conflict(format!("{} exists; --force replaces it", file.display())));
    }
    let partial = Partial::create(&file)?;
    let request = v1::SnapshotRequest {};
    let parts = context.api.cluster(Call::Read, async |client| client.snapshot(request).await).await?;
    let document = receive(context, parts.into_inner(), partial, &file).await?;
    context.output.show(&document, |style| {
        format!(
            "saved {} ({}) as of transaction {}\n{}",
            document.file,
            size(document.bytes),
            document.zxid,
            style.dim(&format!("digest {}", document.digest)),
        )
    })
}

async fn receive(
    context: &Context,
    mut parts: Streaming<v1::SnapshotChunk>,
    mut partial: Partial,
    file: &Path,
) -> Outcome<SavedJson> {
    let bar = progress(context);
    let mut document = SavedJson {
        file: file.display().to_string(),
        bytes: 0,
        applied_index: 0,
        zxid: 0,
        digest: String::new(),
    };
    loop {
        let part = tokio::time::timeout(context.timeout(), parts.message())
            .await
            .map_err(|_| Failure::unavailable("the member has stopped sending; nothing was saved"))?
            .map_err(|status| Failure::refused(&error_from_status(&status), ""))?;
        let Some(part) = part else { break };
        if crc32fast::hash(&part.data) != part.crc32 {
            return Err(Failure::other("a part was damaged on its way; nothing was saved"));
        }
        partial.file.write_all(&part.data).map_err(|error| partial.failed(&error))?;
        document.bytes += part.data.len() as u64;
        (document.applied_index, document.zxid) = (part.applied_index, part.zxid);
        if !part.digest.is_empty() {
            document.digest = hex(&part.digest);
        }
        bar.set_position(document.bytes);
    }
    bar.finish_and_clear();
    if document.digest.is_empty() {
        return Err(Failure::unavailable(
            "the stream ended before the end of the snapshot; nothing was saved",
        ));
    }
    partial.finish(file)?;
    Ok(document)
}

fn progress(context: &Context) -> ProgressBar {
    let bar = ProgressBar::no_length();
    if !context.output.shows_progress() {
        bar.set_draw_target(ProgressDrawTarget::hidden());
    }
    let style =
        ProgressStyle::with_template("{spinner} saving  {binary_bytes}  {binary_bytes_per_sec}  {elapsed}");
    bar.set_style(style.expect("the template is well-formed"));
    bar
}

/// A file that is not complete yet; removed unless it gets there.
struct Partial {
    file: File,
    path: PathBuf,
    is_done: bool,
}

impl Partial {
    fn create(target: &Path) -> Outcome<Partial> {
        let name = target.file_name().ok_or_else(|| Failure::usage("name a file, not a directory"))?;
        let mut partial = name.to_os_string();
        partial.push(format!(".{}.partial", std::process::id()));
        let path = target.with_file_name(partial);
        // Left behind under the same process id; whatever else is in the way is told below.
        let _ = std::fs::remove_file(&path);
        let mut options = OpenOptions::new();
        // A file, or a link, that somebody else has put there is not written to.
        options.write(true).create_new(true);
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
        match options.open(&path) {
            Ok(file) => Ok(Partial { file, path, is_done: false }),
            Err(error) => Err(Failure::usage(format!("cannot write {}: {error}", path.display()))),
        }
    }

    /// On the disk first, then under its name.
    fn finish(mut self, target: &Path) -> Outcome {
        let synced = self.file.sync_all().and_then(|()| std::fs::rename(&self.path, target));
        synced.map_err(|error| self.failed(&error))?;
        self.is_done = true;
        let folder =
            target.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
        // Where folders cannot be synced, their file system does it itself.
        let _ = File::open(folder).and_then(|folder| folder.sync_all());
        Ok(())
    }

    fn failed(&self, error: &std::io::Error) -> Failure {
        Failure::other(format!("cannot write {}: {error}; nothing was saved", self.path.display()))
    }
}

impl Drop for Partial {
    fn drop(&mut self) {
        if !self.is_done {
            // What cannot be removed has a name that says what it is.
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_finished_leaves_nothing() {
        let directory = tempfile::tempdir().expect("a directory");
        let target = directory.path().join("snapshot");
        drop(Partial::create(&target).expect("created"));
        let count = || std::fs::read_dir(directory.path()).expect("readable").count();
        assert_eq!(count(), 0);
        Partial::create(&target).expect("created").finish(&target).expect("finished");
        assert!(target.exists());
        assert_eq!(count(), 1);
    }

    #[cfg(unix)]
    #[test]
    fn nobody_but_its_owner_may_read_a_snapshot() {
        use std::os::unix::fs::PermissionsExt;

        let directory = tempfile::tempdir().expect("a directory");
        let target = directory.path().join("snapshot");
        let mode = |path: &Path| std::fs::metadata(path).expect("it is there").permissions().mode() & 0o777;
        std::fs::write(&target, "replaced").expect("written");
        let left_behind = directory.path().join(format!("snapshot.{}.partial", std::process::id()));
        std::fs::write(&left_behind, "longer than what is saved now").expect("written");
        for path in [&target, &left_behind] {
            std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o666)).expect("ours");
        }
        let mut partial = Partial::create(&target).expect("created");
        assert_eq!(mode(&partial.path), 0o600);
        partial.file.write_all(b"saved").expect("written");
        partial.finish(&target).expect("finished");
        assert_eq!(mode(&target), 0o600);
        assert_eq!(std::fs::read(&target).expect("readable"), b"saved");
    }

    #[test]
    fn a_bad_place_is_a_usage_error() {
        for target in ["/no/such/folder/snapshot", "/"] {
            assert_eq!(Partial::create(Path::new(target)).err().expect(target).exit_code(), 2);
        }
    }
}
