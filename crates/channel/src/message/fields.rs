//! Header and trailer fields inside a message.

use super::coding::{Reader, TooLong};
use crate::Violation;

/// Fields (headers or trailers) inside a message, in order: each is a name and a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Fields<'a> {
    count: u16,
    /// `count` times: u16 length, u32 length, name, value. Checked when decoded.
    bytes: &'a [u8],
}

impl<'a> Fields<'a> {
    pub(super) fn decode(reader: &mut Reader<'a>) -> Result<Self, Violation> {
        let count = reader.u16()?;
        let bytes = reader.long_bytes()?;
        let mut inside = Reader(bytes);
        for _ in 0..count {
            Self::field(&mut inside)?;
        }
        inside.end()?;
        Ok(Self { count, bytes })
    }

    fn field(reader: &mut Reader<'a>) -> Result<(&'a [u8], &'a [u8]), Violation> {
        let (name, value) = (reader.u16()?, reader.u32()?);
        Ok((reader.bytes(usize::from(name))?, reader.bytes(value as usize)?))
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        usize::from(self.count)
    }

    /// Are there none?
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// The fields in order: name, value.
    pub fn iter(&self) -> impl Iterator<Item = (&'a [u8], &'a [u8])> + Clone + use<'a> {
        let mut reader = Reader(self.bytes);
        std::iter::from_fn(move || if reader.0.is_empty() { None } else { Self::field(&mut reader).ok() })
    }
}

/// Writes fields into a message, one by one.
#[derive(Debug)]
pub struct FieldsWriter<'a> {
    out: &'a mut Vec<u8>,
    start: usize,
    count: u16,
}

impl<'a> FieldsWriter<'a> {
    /// Begin at the end of `out`.
    pub fn new(out: &'a mut Vec<u8>) -> Self {
        let start = out.len();
        out.extend_from_slice(&[0; 6]);
        Self { out, start, count: 0 }
    }

    /// Add a field.
    ///
    /// # Errors
    /// [`TooLong`] for a name beyond 64 KiB or too many fields.
    pub fn push(&mut self, name: &[u8], value: &[u8]) -> Result<(), TooLong> {
        self.push_with(name, value, false)
    }

    /// Add a field, its name in lower case.
    ///
    /// # Errors
    /// As [`FieldsWriter::push`].
    pub fn push_lowercase(&mut self, name: &[u8], value: &[u8]) -> Result<(), TooLong> {
        self.push_with(name, value, true)
    }

    fn push_with(&mut self, name: &[u8], value: &[u8], lowercase: bool) -> Result<(), TooLong> {
        let (name_len, value_len) = (
            u16::try_from(name.len()).map_err(|_| TooLong)?,
            u32::try_from(value.len()).map_err(|_| TooLong)?,
        );
        self.count = self.count.checked_add(1).ok_or(TooLong)?;
        self.out.extend_from_slice(&name_len.to_le_bytes());
        self.out.extend_from_slice(&value_len.to_le_bytes());
        let from = self.out.len();
        self.out.extend_from_slice(name);
        if lowercase && let Some(name) = self.out.get_mut(from..) {
            name.make_ascii_lowercase();
        }
        self.out.extend_from_slice(value);
        Ok(())
    }

    /// Write down how many there were.
    ///
    /// # Errors
    /// [`TooLong`] when together they are beyond 4 GiB.
    pub fn finish(self) -> Result<(), TooLong> {
        let len = u32::try_from(self.out.len() - self.start - 6).map_err(|_| TooLong)?;
        let [c0, c1] = self.count.to_le_bytes();
        let [l0, l1, l2, l3] = len.to_le_bytes();
        if let Some(place) = self.out.get_mut(self.start..self.start + 6) {
            place.copy_from_slice(&[c0, c1, l0, l1, l2, l3]);
        }
        Ok(())
    }
}
