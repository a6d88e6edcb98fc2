//! Compiles shim/faults.c, which the harness puts into members to make clocks and disks misbehave.
//!
//! A linker is where Rust is, and it is a C compiler: `cc`. Without one the harness works, and says
//! that those faults are not possible.

use std::path::PathBuf;
use std::process::Command;

fn main() {
    println!("cargo::rerun-if-changed=shim/faults.c");
    let Some(folder) = std::env::var_os("OUT_DIR").map(PathBuf::from) else { return };
    let library = folder.join("faults.so");
    let compiled = Command::new("cc")
        .args(["-O2", "-Wall", "-shared", "-fPIC", "-o"])
        .arg(&library)
        .args(["shim/faults.c", "-ldl"])
        .status();
    if !compiled.is_ok_and(|status| status.success()) {
        println!("cargo::warning=shim/faults.c was not compiled: no clock or fsync faults");
        if let Err(error) = std::fs::write(&library, b"") {
            println!("cargo::error={}: {error}", library.display());
        }
    }
}
