//! What build.rs generates from proto/. Nothing is written here.

#![allow(missing_docs, clippy::all)]

include!(concat!(env!("OUT_DIR"), "/all.rs"));
