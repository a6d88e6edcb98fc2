//! `quorate snapshot inspect`: what a snapshot file holds, and whether it is whole.

use std::path::PathBuf;

use clap::Args;
use serde::Serialize;

use crate::context::Context;
use crate::failure::Outcome;
use crate::output::human::{now_ms, size, time};
use crate::output::json::hex;
use crate::output::style::Style;
use crate::output::table::{Cell, Table};
use crate::snapshot_file;

/// Look into a snapshot file, without a cluster: verify all of it, and say what it holds.
#[derive(Args, Debug)]
pub struct InspectArguments {
    /// The file.
    file: PathBuf,
}

#[derive(Debug, Serialize)]
struct InspectJson {
    file: String,
    bytes: u64,
    chunks: u64,
    records: u64,
    zxid: u64,
    time: i64,
    digest: String,
    znodes: u64,
    data_bytes: u64,
    sessions: u64,
    ephemerals: u64,
}

pub fn run(arguments: InspectArguments, context: &mut Context) -> Outcome {
    let snapshot = snapshot_file::read(&arguments.file)?;
    let (state, counts) = (&snapshot.state, snapshot.state.counts());
    let document = InspectJson {
        file: arguments.file.display().to_string(),
        bytes: snapshot.bytes,
        chunks: snapshot.chunks,
        records: snapshot.records,
        zxid: state.zxid().0,
        time: state.time().0,
        digest: hex(&snapshot.digest.0.to_be_bytes()),
        znodes: counts.znodes,
        data_bytes: counts.data_bytes,
        sessions: counts.sessions,
        ephemerals: counts.ephemerals,
    };
    context.output.show(&document, |style| {
        let volume =
            format!("{} ({} records, {} chunks)", size(document.bytes), document.records, document.chunks);
        let verdict = Cell::text("whole: every checksum and the digest match").painted(Style::good);
        let mut facts = vec![("file", Cell::text(&document.file).painted(Style::bold)), ("state", verdict)];
        let plain = [
            ("size", volume),
            ("transaction", document.zxid.to_string()),
            ("taken", time(state.time(), now_ms())),
            ("znodes", format!("{} ({} of data)", document.znodes, size(document.data_bytes))),
            ("sessions", format!("{} ({} ephemeral nodes)", document.sessions, document.ephemerals)),
            ("digest", document.digest.clone()),
        ];
        facts.extend(plain.map(|(name, value)| (name, Cell::text(value))));
        Table::facts(style, &facts)
    })
}
