//! A member's birth and its cluster's founding, on disk: `<data-dir>/founding`.
//!
//! Written when an empty directory is first used (phase founding), and again when the member may
//! take part. Text, so that an operator can read it; its last line is a checksum of the others.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

use super::files::{self, Files};
use super::founding::Birth;

const NAME: &str = "founding";
const FORMAT: &str = "quorate founding 1";

/// What the file says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BirthRecord {
    /// The cluster's id.
    pub cluster: u128,
    /// Whose disk this is.
    pub id: u64,
    /// This disk's birth.
    pub birth: Birth,
    /// The founders' births; empty until this member may take part.
    pub births: BTreeMap<u64, Birth>,
    /// Whether this member may take part.
    pub is_member: bool,
}

/// Why the file cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum BirthFileError {
    /// The disk refused.
    #[error("{path}: {source}")]
    Io {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// It is not what was written.
    #[error(
        "{path}: line {line} is damaged. The file says whether this disk may vote; restore the directory from \
         a copy made while the member was stopped, or replace the member (quorate cluster replace)"
    )]
    Damaged {
        /// The file.
        path: PathBuf,
        /// The first line that is wrong.
        line: usize,
    },
}

/// Reads the file; `None` if there is none.
pub fn read(files: &dyn Files, directory: &Path) -> Result<Option<BirthRecord>, BirthFileError> {
    let path = directory.join(NAME);
    match files::read_whole(files, &path) {
        Ok(bytes) => {
            // What is not text is damaged in its first line.
            let parsed = std::str::from_utf8(&bytes).map_err(|_| 1).and_then(parse);
            parsed.map(Some).map_err(|line| BirthFileError::Damaged { path, line })
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(BirthFileError::Io { path, source }),
    }
}

/// Writes the file: whole and durable, or not at all.
pub fn write(files: &dyn Files, directory: &Path, record: &BirthRecord) -> Result<(), BirthFileError> {
    let path = directory.join(NAME);
    let written = files.create_directory(directory).and_then(|()| {
        files::replace_whole(files, &path, show(record).as_bytes())?;
        // The directory itself may be new as well.
        match directory.parent().filter(|parent| !parent.as_os_str().is_empty()) {
            Some(parent) => files.sync_directory(parent),
            None => Ok(()),
        }
    });
    written.map_err(|source| BirthFileError::Io { path, source })
}

fn show(record: &BirthRecord) -> String {
    let mut text = format!(
        "{FORMAT}\ncluster {:032x}\nid {}\nmember {}\nbirth {:032x}\n",
        record.cluster, record.id, record.is_member, record.birth
    );
    for (member, birth) in &record.births {
        text.push_str(&format!("founder {member} {birth:032x}\n"));
    }
    let sum = crc32fast::hash(text.as_bytes());
    text.push_str(&format!("sum {sum:08x}\n"));
    text
}

/// The record, or the number of the first line that is wrong.
fn parse(text: &str) -> Result<BirthRecord, usize> {
    let lines = text.lines().count();
    let (body, sum) = text.trim_end_matches('\n').rsplit_once('\n').ok_or(1_usize)?;
    let body = &text[..body.len() + 1];
    let expected = sum.strip_prefix("sum ").and_then(|sum| u32::from_str_radix(sum, 16).ok());
    if expected != Some(crc32fast::hash(body.as_bytes())) {
        return Err(lines);
    }
    let mut record = BirthRecord { cluster: 0, id: 0, birth: 0, births: BTreeMap::new(), is_member: false };
    for (index, line) in body.lines().enumerate() {
        let mut words = line.split(' ');
        let (name, mut word) = (words.next(), || words.next().ok_or(index + 1));
        match (name, index) {
            (_, 0) if line == FORMAT => {}
            (Some("cluster"), 1) => record.cluster = hex(word()?).ok_or(index + 1)?,
            (Some("id"), 2) => record.id = word()?.parse().map_err(|_| index + 1)?,
            (Some("member"), 3) => record.is_member = word()?.parse().map_err(|_| index + 1)?,
            (Some("birth"), 4) => record.birth = hex(word()?).ok_or(index + 1)?,
            (Some("founder"), 5..) => {
                let member = word()?.parse().map_err(|_| index + 1)?;
                record.births.insert(member, hex(word()?).ok_or(index + 1)?);
            }
            _ => return Err(index + 1),
        }
    }
    Ok(record)
}

fn hex(word: &str) -> Option<u128> {
    u128::from_str_radix(word, 16).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record() -> BirthRecord {
        let births = BTreeMap::from([(1, 7), (2, u128::MAX)]);
        BirthRecord { cluster: 0xabc, id: 1, birth: 7, births, is_member: true }
    }

    #[test]
    fn what_was_written_is_read() {
        assert_eq!(parse(&show(&record())), Ok(record()));
    }

    #[test]
    fn every_damaged_byte_is_noticed() {
        let text = show(&record());
        for index in 0..text.len() {
            let mut bytes = text.clone().into_bytes();
            bytes[index] ^= 1;
            if let Ok(damaged) = String::from_utf8(bytes) {
                assert!(parse(&damaged).is_err(), "byte {index}: {damaged}");
            }
        }
        for length in 0..text.len() - 1 {
            assert!(parse(&text[..length]).is_err(), "cut to {length}");
        }
    }
}
