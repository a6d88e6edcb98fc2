//! A dead member's log files, damaged as disks damage them: a write that was cut short, a bit that
//! turned over. Knows of the format (docs/formats.md) where batches begin and end, nothing else.

use std::io;
use std::path::{Path, PathBuf};

const SEGMENT_HEADER: usize = 64;
const BATCH_HEADER: usize = 24;
const BATCH_MAGIC: &[u8] = b"QBAT";
const END_MARK: u8 = 0xa5;

/// A disk writes this much at once or not at all.
const SECTOR: usize = 512;
/// A segment grows by whole pages, before anything is written into them.
const PAGE: usize = 4096;

/// Writes the next batch as a power failure in the middle of its write leaves it: some of its
/// sectors, in no order, at least one of them there and at least one missing; whether there is any
/// batch for it to be the next of.
pub(super) fn tear(folder: &Path, random: &mut fastrand::Rng) -> io::Result<bool> {
    let Some(path) = segments(folder)?.pop() else { return Ok(false) };
    let mut bytes = std::fs::read(&path)?;
    let batches = batches(&bytes);
    let Some((last, end)) = batches.last().copied() else { return Ok(false) };
    let number = bytes[16..24].to_vec();
    let sequence = u64_at(&bytes, last + 8) + 1;
    let body: Vec<u8> = (0..random.usize(SECTOR..4_000)).map(|_| random.u8(1..)).collect();
    let mut batch = BATCH_MAGIC.to_vec();
    batch.extend((body.len() as u32).to_le_bytes());
    batch.extend(sequence.to_le_bytes());
    batch.extend(checksum(&[&number, &sequence.to_le_bytes(), &body]).to_le_bytes());
    batch.extend(checksum(&[&number, &batch]).to_le_bytes());
    batch.extend(body);
    batch.push(END_MARK);
    if bytes.len() < end + batch.len() {
        bytes.resize((end + batch.len()).next_multiple_of(PAGE), 0);
    }
    let sectors: Vec<usize> = (end / SECTOR..=(end + batch.len() - 1) / SECTOR).collect();
    // More than a sector long, it lies in two at least.
    let missing = random.usize(..sectors.len());
    let there = (missing + random.usize(1..sectors.len())) % sectors.len();
    for (index, sector) in sectors.into_iter().enumerate() {
        if index == missing || index != there && random.bool() {
            continue;
        }
        let from = (sector * SECTOR).max(end);
        let to = ((sector + 1) * SECTOR).min(end + batch.len());
        bytes[from..to].copy_from_slice(&batch[from - end..to - end]);
    }
    std::fs::write(&path, bytes)?;
    Ok(true)
}

/// Turns one bit over, of a batch that is not the last one; whether there is any such batch.
pub(super) fn flip(folder: &Path, random: &mut fastrand::Rng) -> io::Result<bool> {
    let Some(path) = segments(folder)?.pop() else { return Ok(false) };
    let mut bytes = std::fs::read(&path)?;
    let batches = batches(&bytes);
    let Some((_, earlier)) = batches.split_last().filter(|(_, earlier)| !earlier.is_empty()) else {
        return Ok(false);
    };
    let (begin, _) = earlier[random.usize(..earlier.len())];
    let length = BATCH_HEADER + u32_at(&bytes, begin + 4) as usize;
    bytes[begin + random.usize(..length)] ^= 1 << random.u32(..8);
    std::fs::write(&path, bytes)?;
    Ok(true)
}

/// The segments, the newest last.
fn segments(folder: &Path) -> io::Result<Vec<PathBuf>> {
    let mut paths: Vec<PathBuf> =
        std::fs::read_dir(folder)?.map(|entry| entry.map(|entry| entry.path())).collect::<Result<_, _>>()?;
    paths.retain(|path| path.extension().is_some_and(|extension| extension == "seg"));
    paths.sort();
    Ok(paths)
}

/// Where each batch begins and ends.
fn batches(bytes: &[u8]) -> Vec<(usize, usize)> {
    let mut batches = Vec::new();
    let mut place = SEGMENT_HEADER;
    while bytes.get(place..place + 4) == Some(BATCH_MAGIC) && place + BATCH_HEADER < bytes.len() {
        let end = (place + BATCH_HEADER + u32_at(bytes, place + 4) as usize + 1).next_multiple_of(8);
        if end > bytes.len() {
            break;
        }
        batches.push((place, end));
        place = end;
    }
    batches
}

fn u32_at(bytes: &[u8], place: usize) -> u32 {
    u32::from_le_bytes(bytes[place..place + 4].try_into().expect("four bytes"))
}

fn u64_at(bytes: &[u8], place: usize) -> u64 {
    u64::from_le_bytes(bytes[place..place + 8].try_into().expect("eight bytes"))
}

fn checksum(parts: &[&[u8]]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    parts.iter().for_each(|part| hasher.update(part));
    hasher.finalize()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A folder with one segment of so many batches in a file of whole pages.
    fn log(count: u64) -> (tempfile::TempDir, PathBuf) {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let mut bytes = vec![0; SEGMENT_HEADER];
        for sequence in 1..=count {
            let body = vec![7; 100 + sequence as usize];
            bytes.extend(BATCH_MAGIC);
            bytes.extend((body.len() as u32).to_le_bytes());
            bytes.extend(sequence.to_le_bytes());
            bytes.extend([0; 8]);
            bytes.extend(&body);
            bytes.push(END_MARK);
            bytes.resize(bytes.len().next_multiple_of(8), 0);
        }
        bytes.resize(bytes.len().next_multiple_of(PAGE), 0);
        let path = folder.path().join("1.seg");
        std::fs::write(&path, bytes).expect("writes");
        (folder, path)
    }

    #[test]
    fn a_torn_batch_is_there_in_part_and_never_whole_whatever_the_coins_say() {
        for seed in 0..500 {
            let (folder, path) = log(1 + seed % 30);
            let before = std::fs::read(&path).expect("reads");
            let (_, end) = *batches(&before).last().expect("a batch");
            assert!(tear(folder.path(), &mut fastrand::Rng::with_seed(seed)).expect("tears"));
            let after = std::fs::read(&path).expect("reads");
            assert_eq!(before[..end], after[..end], "seed {seed}: what is durable stays");
            let written = after[end..].iter().filter(|byte| **byte != 0).count();
            // A whole one has no zeros but in its header.
            let is_whole = after[end..].starts_with(BATCH_MAGIC)
                && after[end + BATCH_HEADER..]
                    .iter()
                    .take(u32_at(&after, end + 4) as usize + 1)
                    .all(|byte| *byte != 0);
            assert!(written > 0 && !is_whole, "seed {seed}: {written} bytes written");
        }
    }

    #[test]
    fn a_log_without_a_batch_is_neither_torn_nor_flipped() {
        let (folder, _) = log(0);
        let mut random = fastrand::Rng::with_seed(1);
        assert!(!tear(folder.path(), &mut random).expect("reads"));
        assert!(!flip(folder.path(), &mut random).expect("reads"));
        let empty = tempfile::tempdir().expect("a temporary folder");
        assert!(!tear(empty.path(), &mut random).expect("reads"));
    }
}
