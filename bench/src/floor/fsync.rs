//! The disk's floor: 4 KiB written and fdatasynced, again and again, into a growing file and into
//! one whose blocks exist.

use std::fs::File;
use std::io::{Seek, SeekFrom, Write};
use std::time::{Duration, Instant};

use crate::failure::Outcome;
use crate::workloads::{Figures, Meter, histogram};

const BLOCK: [u8; 4096] = [7; 4096];
/// Blocks of the preallocated file: 16 MiB.
const BLOCKS: u64 = 4096;

pub(super) fn run(duration: Duration) -> Outcome<Vec<Figures>> {
    let folder = tempfile::Builder::new().prefix("quorate-bench-").tempdir()?;
    let appended = measure("fdatasync, appending", File::create(folder.path().join("a"))?, duration, None)?;
    let mut file = File::create(folder.path().join("b"))?;
    for _ in 0..BLOCKS {
        file.write_all(&BLOCK)?;
    }
    file.sync_all()?;
    let preallocated = measure("fdatasync, preallocated", file, duration, Some(BLOCKS))?;
    Ok(vec![appended, preallocated])
}

fn measure(label: &str, mut file: File, duration: Duration, wrap: Option<u64>) -> Outcome<Figures> {
    let mut times = histogram();
    let meter = Meter::start(&[]);
    let until = meter.started() + duration;
    let mut count = 0_u64;
    while Instant::now() < until {
        if wrap.is_some_and(|blocks| count.is_multiple_of(blocks)) {
            file.seek(SeekFrom::Start(0))?;
        }
        let started = Instant::now();
        file.write_all(&BLOCK)?;
        file.sync_data()?;
        times.record(u64::try_from(started.elapsed().as_micros())?.max(1))?;
        count += 1;
    }
    Ok(meter.finish(label, count).with_times(&times))
}
