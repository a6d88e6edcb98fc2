//! The house keeps its shape: rooms import only to their right, libraries stay in their rooms,
//! every file says what it is, and the documents' links lead somewhere.

use std::fs;
use std::path::{Path, PathBuf};

/// The rooms of the server, from the door inwards. A room may name only those after it.
const ROOMS: [&str; 6] = ["server", "frontends", "coordinator", "replica", "local_state", "sessions"];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("server/ stands in the workspace").into()
}

fn files_below(folder: &Path, ending: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let Ok(entries) = fs::read_dir(folder) else { return found };
    for entry in entries {
        let path = entry.expect("a readable folder").path();
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        if path.is_dir() && name != "target" && !name.starts_with('.') {
            found.extend(files_below(&path, ending));
        } else if name.ends_with(ending) {
            found.push(path);
        }
    }
    found.sort();
    found
}

fn read(path: &Path) -> String {
    fs::read_to_string(path).expect("a readable text file")
}

/// The code of a file: comment lines can name anything.
fn code(path: &Path) -> String {
    read(path).lines().filter(|line| !line.trim_start().starts_with("//")).collect::<Vec<_>>().join("\n")
}

fn room_of(path: &Path) -> Option<usize> {
    let inside = path.strip_prefix(root().join("server/src")).ok()?;
    let first = inside.components().next()?.as_os_str().to_str()?;
    ROOMS.iter().position(|room| *room == first.trim_end_matches(".rs"))
}

#[test]
fn rooms_import_only_to_their_right() {
    let mut wrong = Vec::new();
    for path in files_below(&root().join("server/src"), ".rs") {
        let Some(room) = room_of(&path) else { continue };
        let text = code(&path);
        for name in &ROOMS[..room] {
            if text.contains(&format!("crate::{name}::")) || text.contains(&format!("use crate::{name};")) {
                wrong.push(format!("{} ({}) names {name}", path.display(), ROOMS[room]));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn libraries_stay_in_their_rooms() {
    let rules: [(&str, &[&str]); 3] = [
        ("openraft::", &["replica/"]),
        ("sled::", &["replica/checkpoint"]),
        (
            "tonic::",
            &["frontends/grpc/", "replica/peer_transport.rs", "replica/peer_listener.rs", "server.rs"],
        ),
    ];
    let base = root().join("server/src");
    let mut wrong = Vec::new();
    for path in files_below(&base, ".rs") {
        let inside = path.strip_prefix(&base).expect("below src").display().to_string();
        let text = code(&path);
        for (library, homes) in rules {
            if text.contains(library) && !homes.iter().any(|home| inside.starts_with(home)) {
                wrong.push(format!("{inside} names {library}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn the_core_is_pure() {
    let forbidden = [
        "SystemTime",
        "std::time::Instant",
        "TcpStream",
        "std::fs",
        "std::thread",
        "tokio",
        "rand::",
        "async fn",
    ];
    for path in files_below(&root().join("core/src"), ".rs") {
        let text = code(&path);
        for word in forbidden {
            assert!(!text.contains(word), "{} names {word}", path.display());
        }
    }
}

#[test]
fn every_source_file_says_what_it_is() {
    let folders =
        ["core/src", "proto/src", "server/src", "client/src", "cli/src", "jepsen-tests/src", "bench/src"];
    let mut silent = Vec::new();
    for folder in folders {
        for path in files_below(&root().join(folder), ".rs") {
            if !read(&path).starts_with("//!") {
                silent.push(path.display().to_string());
            }
        }
    }
    assert!(silent.is_empty(), "these files do not open with //!: {silent:#?}");
}

#[test]
fn links_in_documents_lead_somewhere() {
    let mut broken = Vec::new();
    for path in files_below(&root(), ".md") {
        let text = read(&path);
        let folder = path.parent().expect("a file has a folder");
        for piece in text.split("](").skip(1) {
            let target = piece.split(')').next().unwrap_or_default();
            if target.starts_with("http") || target.starts_with('#') || target.is_empty() {
                continue;
            }
            let file = target.split('#').next().unwrap_or_default();
            if !folder.join(file).exists() {
                broken.push(format!("{}: {target}", path.display()));
            }
        }
    }
    assert!(broken.is_empty(), "{broken:#?}");
}
