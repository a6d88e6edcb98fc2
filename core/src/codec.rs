//! The few primitives that records are written with: postcard's rules, by hand on the hot path.
//!
//! Integers are LEB128 varints (signed ones in zigzag), byte strings carry their length first.
//! Decoding never reads past the end and never allocates more than the input holds.

use std::fmt;

/// Why bytes could not be decoded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DecodeError {
    what: &'static str,
}

impl DecodeError {
    /// Names what was being decoded.
    pub(crate) fn new(what: &'static str) -> DecodeError {
        DecodeError { what }
    }
}

impl fmt::Display for DecodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "not decodable: {}", self.what)
    }
}

impl std::error::Error for DecodeError {}

/// Integers gathered on the stack, to be appended at once.
pub(crate) struct Integers<const N: usize> {
    bytes: [u8; N],
    length: usize,
}

impl<const N: usize> Integers<N> {
    /// None yet. N must hold all that will be put: ten bytes for each of 64 bits, five for 32.
    pub fn new() -> Integers<N> {
        Integers { bytes: [0; N], length: 0 }
    }

    /// Adds an unsigned integer.
    #[inline]
    pub fn put_u64(&mut self, mut value: u64) {
        while value >= 0x80 {
            self.bytes[self.length] = value as u8 | 0x80;
            self.length += 1;
            value >>= 7;
        }
        self.bytes[self.length] = value as u8;
        self.length += 1;
    }

    /// Adds a signed integer.
    #[inline]
    pub fn put_i64(&mut self, value: i64) {
        self.put_u64(((value << 1) ^ (value >> 63)) as u64);
    }

    /// All that was put.
    pub fn as_slice(&self) -> &[u8] {
        &self.bytes[..self.length]
    }
}

/// Appends an unsigned integer.
pub(crate) fn put_u64(out: &mut Vec<u8>, value: u64) {
    if value < 0x80 {
        out.push(value as u8);
        return;
    }
    let mut integers = Integers::<10>::new();
    integers.put_u64(value);
    out.extend_from_slice(integers.as_slice());
}

/// Appends a byte string with its length.
pub(crate) fn put_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    put_u64(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

/// Takes values off the front of some bytes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Reader<'a> {
    rest: &'a [u8],
    what: &'static str,
}

impl<'a> Reader<'a> {
    /// Reads `bytes`; errors name `what`.
    pub fn new(bytes: &'a [u8], what: &'static str) -> Reader<'a> {
        Reader { rest: bytes, what }
    }

    /// What has not been read.
    pub fn rest(&self) -> &'a [u8] {
        self.rest
    }

    /// Whether all has been read.
    pub fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    /// The error for whatever is wrong here.
    pub fn error(&self) -> DecodeError {
        DecodeError::new(self.what)
    }

    /// The next `length` bytes.
    pub fn take(&mut self, length: usize) -> Result<&'a [u8], DecodeError> {
        let (taken, rest) = self.rest.split_at_checked(length).ok_or(self.error())?;
        self.rest = rest;
        Ok(taken)
    }

    /// The next bytes as an array.
    pub fn array<const N: usize>(&mut self) -> Result<[u8; N], DecodeError> {
        let taken = self.take(N)?;
        Ok(taken.try_into().expect("exactly N bytes were taken"))
    }

    /// One byte.
    pub fn u8(&mut self) -> Result<u8, DecodeError> {
        Ok(self.take(1)?[0])
    }

    /// An unsigned integer.
    pub fn u64(&mut self) -> Result<u64, DecodeError> {
        let mut value = 0u64;
        for place in 0..10 {
            let byte = self.u8()?;
            if place == 9 && byte > 1 {
                return Err(self.error());
            }
            value |= u64::from(byte & 0x7f) << (place * 7);
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err(self.error())
    }

    /// An unsigned integer of 32 bits.
    pub fn u32(&mut self) -> Result<u32, DecodeError> {
        u32::try_from(self.u64()?).map_err(|_| self.error())
    }

    /// A signed integer.
    pub fn i64(&mut self) -> Result<i64, DecodeError> {
        let value = self.u64()?;
        Ok((value >> 1) as i64 ^ -((value & 1) as i64))
    }

    /// A signed integer of 32 bits.
    pub fn i32(&mut self) -> Result<i32, DecodeError> {
        i32::try_from(self.i64()?).map_err(|_| self.error())
    }

    /// A byte string.
    pub fn bytes(&mut self) -> Result<&'a [u8], DecodeError> {
        let length = usize::try_from(self.u64()?).map_err(|_| self.error())?;
        self.take(length)
    }

    /// A string.
    pub fn str(&mut self) -> Result<&'a str, DecodeError> {
        std::str::from_utf8(self.bytes()?).map_err(|_| self.error())
    }

    /// Succeeds if all has been read.
    pub fn finish(self) -> Result<(), DecodeError> {
        if self.rest.is_empty() { Ok(()) } else { Err(self.error()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn integers_are_written_as_postcard_writes_them() {
        for value in [0, 1, 127, 128, 300, 1 << 40, u64::MAX, u64::MAX - 1] {
            let (mut out, mut signed) = (Vec::new(), Vec::new());
            put_u64(&mut out, value);
            assert_eq!(out, postcard::to_stdvec(&value).expect("integers encode"));
            assert_eq!(Reader::new(&out, "test").u64(), Ok(value));
            let mut integers = Integers::<10>::new();
            integers.put_i64(value as i64);
            signed.extend_from_slice(integers.as_slice());
            assert_eq!(signed, postcard::to_stdvec(&(value as i64)).expect("integers encode"));
            assert_eq!(Reader::new(&signed, "test").i64(), Ok(value as i64));
        }
    }

    #[test]
    fn hostile_bytes_give_errors() {
        assert!(Reader::new(&[0xff; 10], "test").u64().is_err());
        assert!(Reader::new(&[0x80], "test").u64().is_err());
        assert!(Reader::new(&[0xff, 0xff, 0xff, 0xff, 0x0f, 1], "test").bytes().is_err());
        assert!(Reader::new(&[1, 0xff], "test").str().is_err());
        assert!(Reader::new(&[1], "test").finish().is_err());
    }
}
