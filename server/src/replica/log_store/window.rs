//! Reading a file from front to back through one buffer.

use std::io;

use crate::replica::files::File;

/// How much is read at once.
const STEP: usize = 1 << 20;

/// A part of a file in memory, moved forward as it is asked for what lies behind it.
pub struct Window<'a> {
    file: &'a dyn File,
    length: u64,
    start: u64,
    buffer: Vec<u8>,
}

impl<'a> Window<'a> {
    /// A window on a file of `length` bytes.
    pub fn new(file: &'a dyn File, length: u64) -> Window<'a> {
        Window { file, length, start: 0, buffer: Vec::new() }
    }

    /// The `count` bytes at `offset`; fewer if the file ends before.
    pub fn bytes(&mut self, offset: u64, count: usize) -> io::Result<&[u8]> {
        let end = (offset + count as u64).min(self.length);
        let offset = offset.min(end);
        if offset < self.start || end > self.start + self.buffer.len() as u64 {
            let wanted = ((end - offset) as usize).max(STEP).min((self.length - offset) as usize);
            self.buffer.resize(wanted, 0);
            let read = self.file.read_at(offset, &mut self.buffer)?;
            self.buffer.truncate(read);
            self.start = offset;
        }
        let from = (offset - self.start) as usize;
        let to = ((end - self.start) as usize).min(self.buffer.len());
        Ok(&self.buffer[from.min(to)..to])
    }
}
