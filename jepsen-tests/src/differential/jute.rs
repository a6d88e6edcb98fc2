//! ZooKeeper's record encoding, as this client speaks it: big-endian, lengths before contents, −1 for
//! null. It can write wrong things too; reading is strict.

/// Appends fields to a record.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Writer(pub Vec<u8>);

impl Writer {
    /// A byte.
    pub fn byte(&mut self, value: u8) -> &mut Writer {
        self.0.push(value);
        self
    }

    /// A 32-bit integer.
    pub fn int(&mut self, value: i32) -> &mut Writer {
        self.0.extend(value.to_be_bytes());
        self
    }

    /// A 64-bit integer.
    pub fn long(&mut self, value: i64) -> &mut Writer {
        self.0.extend(value.to_be_bytes());
        self
    }

    /// A buffer or a string; null for none.
    pub fn bytes(&mut self, value: Option<&[u8]>) -> &mut Writer {
        match value {
            None => self.int(-1),
            Some(bytes) => {
                self.int(bytes.len() as i32);
                self.0.extend(bytes);
                self
            }
        }
    }

    /// A string.
    pub fn text(&mut self, value: &str) -> &mut Writer {
        self.bytes(Some(value.as_bytes()))
    }
}

/// Takes a record apart.
#[derive(Debug)]
pub struct Reader<'a>(pub &'a [u8]);

/// A record that ends early or holds a length that cannot be.
#[derive(Debug)]
pub struct Short;

impl<'a> Reader<'a> {
    fn take(&mut self, count: usize) -> Result<&'a [u8], Short> {
        let (head, rest) = self.0.split_at_checked(count).ok_or(Short)?;
        self.0 = rest;
        Ok(head)
    }

    /// A byte.
    pub fn byte(&mut self) -> Result<u8, Short> {
        Ok(self.take(1)?[0])
    }

    /// A 32-bit integer.
    pub fn int(&mut self) -> Result<i32, Short> {
        let bytes = self.take(4)?;
        Ok(i32::from_be_bytes(bytes.try_into().map_err(|_| Short)?))
    }

    /// A 64-bit integer.
    pub fn long(&mut self) -> Result<i64, Short> {
        let bytes = self.take(8)?;
        Ok(i64::from_be_bytes(bytes.try_into().map_err(|_| Short)?))
    }

    /// A buffer or a string.
    pub fn bytes(&mut self) -> Result<Option<&'a [u8]>, Short> {
        match self.int()? {
            -1 => Ok(None),
            length => self.take(usize::try_from(length).map_err(|_| Short)?).map(Some),
        }
    }

    /// A string; a null one shows as such.
    pub fn text(&mut self) -> Result<String, Short> {
        Ok(self.bytes()?.map_or_else(|| "(null)".into(), |bytes| String::from_utf8_lossy(bytes).into_owned()))
    }
}
