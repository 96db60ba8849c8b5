//! A response, on its way to the router; and a body, either way.

use super::coding::{Reader, TooLong, put_short};
use super::fields::Fields;
use crate::Violation;

/// A piece of a body, either way. 16 bytes and the data.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Body<'a> {
    /// The request that it belongs to.
    pub id: u64,
    /// [`END`] on the last piece of a body (either way), [`DONE`] when the slot is free.
    pub flags: u16,
    /// With [`DONE`]: how long the request took in the worker, in microseconds.
    pub elapsed: u32,
    /// The bytes.
    pub data: &'a [u8],
}

impl<'a> Body<'a> {
    /// The message without its data, which is pushed as the frame's second part.
    #[must_use]
    pub fn prefix(id: u64, flags: u16, elapsed: u32) -> [u8; 16] {
        let [a, b, c, d, e, f, g, h] = id.to_le_bytes();
        let [i, j] = flags.to_le_bytes();
        let [k, l, m, n] = elapsed.to_le_bytes();
        [a, b, c, d, e, f, g, h, i, j, 0, 0, k, l, m, n]
    }

    /// Read a `BODY` or `ABORT` message.
    ///
    /// # Errors
    /// A [`Violation`] when it is not one.
    pub fn decode(message: &'a [u8]) -> Result<Self, Violation> {
        let mut reader = Reader(message);
        let (id, flags, _, elapsed) = (reader.u64()?, reader.u16()?, reader.u16()?, reader.u32()?);
        Ok(Self { id, flags, elapsed, data: reader.0 })
    }
}

/// A response's head and the beginning of its body.
#[derive(Debug, Clone, Copy)]
pub struct Head<'a> {
    /// The request that is answered.
    pub id: u64,
    /// [`END`], [`DONE`], [`STREAM`].
    pub flags: u16,
    /// With [`DONE`]: how long the request took in the worker, in microseconds.
    pub elapsed: u32,
    /// The status code. Not checked here.
    pub status: u16,
    /// The reason phrase; empty for the standard one.
    pub reason: &'a [u8],
    /// The header fields as the application set them. Not checked here.
    pub fields: Fields<'a>,
    /// The beginning of the body, or with [`END`] all of it.
    pub data: &'a [u8],
}

impl<'a> Head<'a> {
    /// Begin a `HEAD` message in `out`, which is emptied. The fields follow with a
    /// [`FieldsWriter`]; the data is pushed as the frame's second part.
    ///
    /// # Errors
    /// [`TooLong`] for a reason beyond 64 KiB.
    pub fn start(out: &mut Vec<u8>, id: u64, status: u16, reason: &[u8]) -> Result<(), TooLong> {
        out.clear();
        out.extend_from_slice(&Body::prefix(id, 0, 0));
        out.extend_from_slice(&status.to_le_bytes());
        put_short(out, reason)
    }

    /// Set the flags, and how long the request took, in an encoded message.
    pub fn set_flags(out: &mut [u8], flags: u16, elapsed: u32) {
        if let Some(place) = out.get_mut(8..10) {
            place.copy_from_slice(&flags.to_le_bytes());
        }
        if let Some(place) = out.get_mut(12..16) {
            place.copy_from_slice(&elapsed.to_le_bytes());
        }
    }

    /// Read a `HEAD` message.
    ///
    /// # Errors
    /// A [`Violation`] when it is not one.
    pub fn decode(message: &'a [u8]) -> Result<Self, Violation> {
        let Body { id, flags, elapsed, data } = Body::decode(message)?;
        let mut reader = Reader(data);
        Ok(Self {
            id,
            flags,
            elapsed,
            status: reader.u16()?,
            reason: reader.short_bytes()?,
            fields: Fields::decode(&mut reader)?,
            data: reader.0,
        })
    }
}

/// Fields on their own: the trailers of a response, or an interim response.
#[derive(Debug, Clone, Copy)]
pub struct Section<'a> {
    /// The request that is answered.
    pub id: u64,
    /// The status of an interim response; 0 for trailers.
    pub status: u16,
    /// The fields. Not checked here.
    pub fields: Fields<'a>,
}

impl<'a> Section<'a> {
    /// Begin the message in `out`, which is emptied; the fields follow with a [`FieldsWriter`].
    pub fn start(out: &mut Vec<u8>, id: u64, status: u16) {
        out.clear();
        out.extend_from_slice(&id.to_le_bytes());
        out.extend_from_slice(&status.to_le_bytes());
    }

    /// Read a `TRAILERS` or `INTERIM` message.
    ///
    /// # Errors
    /// A [`Violation`] when it is not one.
    pub fn decode(message: &'a [u8]) -> Result<Self, Violation> {
        let mut reader = Reader(message);
        let (id, status) = (reader.u64()?, reader.u16()?);
        let fields = Fields::decode(&mut reader)?;
        reader.end()?;
        Ok(Self { id, status, fields })
    }
}

/// A part of a file as the next part of a body. Its descriptor travels beside the ring.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FileBody {
    /// The request that is answered.
    pub id: u64,
    /// [`END`], [`DONE`].
    pub flags: u16,
    /// With [`DONE`]: how long the request took in the worker, in microseconds.
    pub elapsed: u32,
    /// Where in the file it begins.
    pub offset: u64,
    /// How many bytes.
    pub len: u64,
}

impl FileBody {
    /// The message.
    #[must_use]
    pub fn encode(&self) -> [u8; 32] {
        let mut out = [0; 32];
        let (prefix, rest) = out.split_at_mut(16);
        prefix.copy_from_slice(&Body::prefix(self.id, self.flags, self.elapsed));
        let (offset, len) = rest.split_at_mut(8);
        offset.copy_from_slice(&self.offset.to_le_bytes());
        len.copy_from_slice(&self.len.to_le_bytes());
        out
    }

    /// Read a `FILE` message.
    ///
    /// # Errors
    /// A [`Violation`] when it is not one.
    pub fn decode(message: &[u8]) -> Result<Self, Violation> {
        let Body { id, flags, elapsed, data } = Body::decode(message)?;
        let mut reader = Reader(data);
        let (offset, len) = (reader.u64()?, reader.u64()?);
        reader.end()?;
        Ok(Self { id, flags, elapsed, offset, len })
    }
}
