//! The generated code of all packages. Its style is its generator's, so the lints stay outside.

#![allow(clippy::all, clippy::unwrap_used, missing_docs, rustdoc::all)]

include!(concat!(env!("OUT_DIR"), "/all.rs"));
