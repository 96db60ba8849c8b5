//! A request, on its way to the worker.

use super::coding::{Reader, TooLong, put_long, put_part, put_short};
use super::fields::Fields;
use crate::Violation;

/// How a request's body comes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Payload<'a> {
    /// It is here (or there is none).
    Inline(&'a [u8]),
    /// It is a file of so many bytes, whose descriptor travels beside the ring.
    Descriptor(u64),
    /// It follows in `BODY` frames.
    Stream,
}

/// Everything of a request but its fields and its payload.
#[derive(Debug, Clone, Copy)]
pub struct RequestLine<'a> {
    /// The HTTP version times ten: 10, 11, 20.
    pub version: u8,
    /// Did the client speak TLS, to us or to a proxy that we trust?
    pub https: bool,
    /// The method as sent.
    pub method: &'a [u8],
    /// The target as sent (RAW_URI).
    pub target: &'a [u8],
    /// The path part of the target, still percent-encoded.
    pub path: &'a [u8],
    /// The query part of the target, without the `?`.
    pub query: &'a [u8],
    /// SCRIPT_NAME from a proxy that we trust, or empty.
    pub script_name: &'a [u8],
    /// The client's address, or empty on a unix socket.
    pub peer: &'a [u8],
    /// The client's port, or 0.
    pub peer_port: u16,
    /// The address that was connected to: a host, or the path of a unix socket.
    pub server: &'a [u8],
    /// The port that was connected to, or 0 on a unix socket.
    pub server_port: u16,
    /// Content-Length as the client declared it, if it did.
    pub content_length: Option<u64>,
}

/// A request, independent of the protocol that brought it.
#[derive(Debug, Clone, Copy)]
pub struct Request<'a> {
    /// Which request this is; every frame about it names it. The low 16 bits are its slot.
    pub id: u64,
    /// Method, target, addresses.
    pub line: RequestLine<'a>,
    /// The header fields, names in lower case, in order.
    pub fields: Fields<'a>,
    /// The body.
    pub payload: Payload<'a>,
}

/// In the byte of flags: the client spoke TLS.
const HTTPS: u8 = 1;
/// In the byte of flags: the client declared a Content-Length.
const HAS_LENGTH: u8 = 2;
/// In the byte of flags: the path is what the target begins with, and only its length is told. So a
/// long target takes its own room once.
const PATH_BEGINS: u8 = 4;
/// In the byte of flags: the query is what the target ends with, and only its length is told.
const QUERY_ENDS: u8 = 8;

impl<'a> Request<'a> {
    /// Begin a `REQUEST` message in `out`, which is emptied: the id (0 until
    /// [`Request::set_id`]), the payload's kind (inline until [`Request::set_payload`]) and the
    /// line. The fields follow with a [`FieldsWriter`]; what comes behind them is the inline body.
    ///
    /// # Errors
    /// [`TooLong`] when a part is beyond its bound.
    pub fn start(out: &mut Vec<u8>, line: &RequestLine<'_>) -> Result<(), TooLong> {
        out.clear();
        out.extend_from_slice(&0_u64.to_le_bytes());
        out.extend_from_slice(&0_u64.to_le_bytes());
        out.extend_from_slice(&line.content_length.unwrap_or(0).to_le_bytes());
        let https = if line.https { HTTPS } else { 0 };
        let has_length = if line.content_length.is_some() { HAS_LENGTH } else { 0 };
        let path_begins = if line.target.starts_with(line.path) { PATH_BEGINS } else { 0 };
        let query_ends = if line.target.ends_with(line.query) { QUERY_ENDS } else { 0 };
        out.extend_from_slice(&[0, line.version, https | has_length | path_begins | query_ends]);
        out.extend_from_slice(&line.peer_port.to_le_bytes());
        out.extend_from_slice(&line.server_port.to_le_bytes());
        put_short(out, line.method)?;
        put_short(out, line.peer)?;
        put_short(out, line.server)?;
        put_short(out, line.script_name)?;
        put_long(out, line.target)?;
        put_part(out, line.path, path_begins != 0)?;
        put_part(out, line.query, query_ends != 0)
    }

    /// Name the request in its encoded message.
    pub fn set_id(out: &mut [u8], id: u64) {
        if let Some(place) = out.get_mut(..8) {
            place.copy_from_slice(&id.to_le_bytes());
        }
    }

    /// Say in its encoded message how long the body is, once that is known.
    pub fn set_content_length(out: &mut [u8], length: u64) {
        if let Some(place) = out.get_mut(16..24) {
            place.copy_from_slice(&length.to_le_bytes());
        }
        if let Some(flags) = out.get_mut(26) {
            *flags |= HAS_LENGTH;
        }
    }

    /// Say in its encoded message how the body comes; an inline one is appended by the caller.
    pub fn set_payload(out: &mut [u8], payload: &Payload<'_>) {
        let (kind, len) = match payload {
            Payload::Inline(_) => (0, 0),
            Payload::Descriptor(len) => (1, *len),
            Payload::Stream => (2, 0),
        };
        if let Some(place) = out.get_mut(8..16) {
            place.copy_from_slice(&len.to_le_bytes());
        }
        if let Some(place) = out.get_mut(24) {
            *place = kind;
        }
    }

    /// Read a `REQUEST` message.
    ///
    /// # Errors
    /// A [`Violation`] when it is not one.
    pub fn decode(message: &'a [u8]) -> Result<Self, Violation> {
        let mut reader = Reader(message);
        let (id, len, length) = (reader.u64()?, reader.u64()?, reader.u64()?);
        let (kind, version, flags) = (reader.u8()?, reader.u8()?, reader.u8()?);
        let (peer_port, server_port) = (reader.u16()?, reader.u16()?);
        let (method, peer) = (reader.short_bytes()?, reader.short_bytes()?);
        let (server, script_name) = (reader.short_bytes()?, reader.short_bytes()?);
        let target = reader.long_bytes()?;
        let beyond = || Violation("a part of a target is longer than it");
        let path = if flags & PATH_BEGINS == 0 {
            reader.long_bytes()?
        } else {
            target.get(..reader.u32()? as usize).ok_or_else(beyond)?
        };
        let query = if flags & QUERY_ENDS == 0 {
            reader.long_bytes()?
        } else {
            let start = target.len().checked_sub(reader.u32()? as usize).ok_or_else(beyond)?;
            target.get(start..).ok_or_else(beyond)?
        };
        let line = RequestLine {
            version,
            https: flags & HTTPS != 0,
            peer_port,
            server_port,
            content_length: (flags & HAS_LENGTH != 0).then_some(length),
            method,
            peer,
            server,
            script_name,
            target,
            path,
            query,
        };
        let fields = Fields::decode(&mut reader)?;
        let payload = match kind {
            0 => return Ok(Self { id, line, fields, payload: Payload::Inline(reader.0) }),
            1 => Payload::Descriptor(len),
            2 => Payload::Stream,
            _ => return Err(Violation("an unknown kind of request body")),
        };
        reader.end()?;
        Ok(Self { id, line, fields, payload })
    }
}
