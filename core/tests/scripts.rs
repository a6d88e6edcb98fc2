//! Runs the scenario scripts in scripts/: acceptance tests of the rules that read without Rust.
//!
//! Each file holds one scenario: a header comment that names the items of the semantics checklist
//! it shows (`# SEMANTICS 27, 28`), then blocks of commands, `---` and what they answer.
//! scripts/README.md tells the commands. Every script runs twice: as it is, and with the state
//! written to records and loaded again after every command, which must change nothing.
//!
//! `UPDATE_SCRIPTS=1 cargo test -p quorate-core --test scripts` rewrites the expectations. Read the
//! difference against the checklist before you keep it: the checklist is right, not the output.

mod scenario;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use scenario::script::Script;
use scenario::world::{Restarts, World};

/// The items of the checklist that concern the core, wholly or in part.
fn items_of_the_core() -> BTreeSet<u32> {
    let ranges = [8..=8, 10..=13, 16..=18, 20..=22, 27..=63, 66..=66, 68..=68, 70..=71, 73..=74];
    ranges.into_iter().flatten().collect()
}

fn files() -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/scripts");
    let entries = std::fs::read_dir(&folder).expect("the folder of scripts is beside this file");
    let mut files: Vec<PathBuf> = entries
        .map(|entry| entry.expect("the folder can be read").path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "script"))
        .collect();
    files.sort();
    assert!(!files.is_empty(), "no scripts in {}", folder.display());
    files
}

fn load(file: &Path) -> Script {
    let text = std::fs::read_to_string(file).expect("a listed file can be read");
    Script::parse(&text).unwrap_or_else(|error| panic!("{}: {error}", file.display()))
}

#[test]
fn scripts_answer_what_they_say() {
    let update = std::env::var_os("UPDATE_SCRIPTS").is_some();
    let mut failures = Vec::new();
    for file in files() {
        let script = load(&file);
        let played = script.play(&mut World::new(Restarts::Never));
        if update {
            // By renaming, as other tests may read the files at the same time.
            let fresh = file.with_extension("fresh");
            std::fs::write(&fresh, played.text()).expect("the folder of scripts can be written");
            std::fs::rename(&fresh, &file).expect("the folder of scripts can be written");
        } else if let Some(difference) = script.difference(&played) {
            failures.push(format!("{}:{difference}", file.display()));
        }
    }
    assert!(failures.is_empty(), "{} scripts differ\n\n{}", failures.len(), failures.join("\n\n"));
}

#[test]
fn a_restart_after_every_command_changes_nothing() {
    for file in files() {
        let script = load(&file);
        let played = script.play(&mut World::new(Restarts::AfterEveryCommand));
        let steady = script.play(&mut World::new(Restarts::Never));
        if let Some(difference) = steady.difference(&played) {
            panic!("{}: with restarts:{difference}", file.display());
        }
    }
}

#[test]
fn every_item_of_the_core_has_a_script() {
    let told: BTreeSet<u32> = files().iter().flat_map(|file| load(file).items()).collect();
    let missing: Vec<u32> = items_of_the_core().difference(&told).copied().collect();
    assert!(missing.is_empty(), "no script names the items {missing:?}");
    let strange: Vec<u32> = told.difference(&items_of_the_core()).copied().collect();
    assert!(strange.is_empty(), "scripts name items that do not concern the core: {strange:?}");
}
