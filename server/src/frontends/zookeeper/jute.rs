//! Jute, ZooKeeper's record encoding: big-endian integers, length-prefixed buffers, strings and
//! vectors, −1 for a null one. Only bytes here; what records there are is [`super::records`].

use bytes::{Buf, BufMut, Bytes, BytesMut};

/// The bytes are not the record that was expected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Malformed;

/// Takes a whole frame off the front of what has come, and makes room for the rest of one that has not;
/// an error if its length is negative or more than `bytes_max`.
pub fn take_frame(buffer: &mut BytesMut, bytes_max: usize) -> Result<Option<Bytes>, Malformed> {
    let Some(length) = buffer.first_chunk::<4>() else { return Ok(None) };
    let length = usize::try_from(i32::from_be_bytes(*length)).map_err(|_| Malformed)?;
    if length > bytes_max {
        return Err(Malformed);
    }
    if buffer.len() < 4 + length {
        buffer.reserve(4 + length - buffer.len());
        return Ok(None);
    }
    let mut frame = buffer.split_to(4 + length);
    Ok(Some(frame.split_off(4).freeze()))
}

/// Takes a record apart. Every length is checked against what is there before anything is made of it.
#[derive(Debug)]
pub struct Reader {
    rest: Bytes,
}

impl Reader {
    /// Over one frame.
    pub fn new(frame: Bytes) -> Reader {
        Reader { rest: frame }
    }

    /// Bytes not read yet.
    pub fn remaining(&self) -> usize {
        self.rest.len()
    }

    /// A 32-bit integer.
    pub fn int(&mut self) -> Result<i32, Malformed> {
        self.rest.try_get_i32().map_err(|_| Malformed)
    }

    /// A 64-bit integer.
    pub fn long(&mut self) -> Result<i64, Malformed> {
        self.rest.try_get_i64().map_err(|_| Malformed)
    }

    /// A boolean.
    pub fn boolean(&mut self) -> Result<bool, Malformed> {
        self.rest.try_get_u8().map(|byte| byte != 0).map_err(|_| Malformed)
    }

    /// A buffer, sharing the frame's memory; `None` for a null one.
    pub fn buffer(&mut self) -> Result<Option<Bytes>, Malformed> {
        let length = self.int()?;
        if length == -1 {
            return Ok(None);
        }
        match usize::try_from(length) {
            Ok(length) if length <= self.rest.len() => Ok(Some(self.rest.split_to(length))),
            _ => Err(Malformed),
        }
    }

    /// A string that may be null. What is no UTF-8 becomes U+FFFD, as it does in Java: no path has it.
    pub fn nullable_string(&mut self) -> Result<Option<String>, Malformed> {
        let bytes = self.buffer()?;
        Ok(bytes.map(|bytes| String::from_utf8_lossy(&bytes).into_owned()))
    }

    /// A string; a null one is malformed.
    pub fn string(&mut self) -> Result<String, Malformed> {
        self.nullable_string()?.ok_or(Malformed)
    }

    /// A vector whose elements take at least `element_bytes` each; one of a negative count is empty.
    pub fn vector<T>(
        &mut self,
        element_bytes: usize,
        mut element: impl FnMut(&mut Reader) -> Result<T, Malformed>,
    ) -> Result<Vec<T>, Malformed> {
        let count = self.int()?;
        let count = usize::try_from(count).unwrap_or(0);
        if count > self.rest.len() / element_bytes.max(1) {
            return Err(Malformed);
        }
        (0..count).map(|_| element(self)).collect()
    }
}

/// Puts a buffer, −1 for none.
pub fn put_buffer(out: &mut BytesMut, bytes: Option<&[u8]>) {
    match bytes {
        None => out.put_i32(-1),
        Some(bytes) => {
            out.put_i32(i32::try_from(bytes.len()).unwrap_or(i32::MAX));
            out.put_slice(bytes);
        }
    }
}

/// Puts a string.
pub fn put_string(out: &mut BytesMut, text: &str) {
    put_buffer(out, Some(text.as_bytes()));
}

/// Puts a vector.
pub fn put_vector<T>(out: &mut BytesMut, elements: &[T], mut put: impl FnMut(&mut BytesMut, &T)) {
    out.put_i32(i32::try_from(elements.len()).unwrap_or(i32::MAX));
    for element in elements {
        put(out, element);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_put_is_read() {
        let mut out = BytesMut::new();
        put_string(&mut out, "/a");
        put_buffer(&mut out, None);
        put_buffer(&mut out, Some(b""));
        put_vector(&mut out, &["x", "y"], |out, text| put_string(out, text));
        let mut reader = Reader::new(out.freeze());
        assert_eq!(reader.string(), Ok("/a".into()));
        assert_eq!(reader.buffer(), Ok(None));
        assert_eq!(reader.buffer(), Ok(Some(Bytes::new())));
        assert_eq!(reader.vector(4, Reader::string), Ok(vec!["x".into(), "y".into()]));
        assert_eq!(reader.remaining(), 0);
    }

    #[test]
    fn lengths_beyond_the_frame_are_refused() {
        for length in [5_i32, i32::MAX, -2, i32::MIN] {
            let mut frame = length.to_be_bytes().to_vec();
            frame.extend(b"abcd");
            assert_eq!(Reader::new(frame.clone().into()).buffer(), Err(Malformed), "{length}");
            let elements = if length < 0 { Ok(Vec::new()) } else { Err(Malformed) };
            assert_eq!(Reader::new(frame.into()).vector(4, Reader::int), elements, "{length}");
        }
        assert_eq!(Reader::new(Bytes::from_static(b"abc")).int(), Err(Malformed));
        assert_eq!(Reader::new(Bytes::from_static(&[0, 0, 0, 1, 0xff])).string(), Ok("\u{fffd}".into()));
        assert_eq!(Reader::new(Bytes::from_static(&[0xff; 4])).string(), Err(Malformed));
    }
}
