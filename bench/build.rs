//! Generates the etcd client and the echo service from proto/, without a protoc on the machine.

use std::error::Error;

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo:rerun-if-changed=proto");
    let mut compiler = protox::Compiler::new(["proto"])?;
    compiler.include_imports(true).open_files(["etcd.proto", "etcd_lock.proto", "echo.proto"])?;
    tonic_prost_build::configure()
        .bytes(".")
        .include_file("all.rs")
        .compile_fds(compiler.file_descriptor_set())?;
    Ok(())
}
