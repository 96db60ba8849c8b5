//! What a frame says.
//!
//! To the worker: [`Request`] (`REQUEST`), [`Body`] (`BODY`), `CANCEL`, `HELLO`, `PING`, `STOP`.
//! To the router: [`Ready`] (`READY`), [`Head`] (`HEAD`), [`Body`] (`BODY`), [`FileBody`] (`FILE`),
//! [`Fields`] as trailers or as a 1xx (`TRAILERS`, `INTERIM`), `CREDIT`, [`Body`] without data for
//! the end of a request (`DONE`), `ABORT`.
//!
//! Integers are little-endian. A message is encoded into a buffer and pushed as one frame; it is
//! decoded from a private copy of the frame, and every length in it is checked.

use crate::Violation;

/// Router to worker: a [`Request`].
pub const REQUEST: u16 = 1;
/// Either way: a piece of a body, [`Body`].
pub const BODY: u16 = 2;
/// Router to worker: nobody waits for this request any more; payload [`Cancel`].
pub const CANCEL: u16 = 3;
/// Router to worker: a router has attached; the worker answers `READY`. No payload.
pub const HELLO: u16 = 4;
/// Router to worker: read this, to show that you can. No payload.
pub const PING: u16 = 5;
/// Router to worker: there will be no more requests; exit. No payload.
pub const STOP: u16 = 6;
/// Worker to router: [`Ready`].
pub const READY: u16 = 16;
/// Worker to router: a response's [`Head`], with its body or the beginning of it.
pub const HEAD: u16 = 17;
/// Worker to router: a file's contents are the next part of the body, [`FileBody`].
pub const FILE: u16 = 18;
/// Worker to router: trailer fields, [`Section`]; they come before the frame that ends the body.
pub const TRAILERS: u16 = 19;
/// Worker to router: an interim (1xx) response, [`Section`].
pub const INTERIM: u16 = 20;
/// Worker to router: the application has taken so many bytes of the request body, [`Credit`].
pub const CREDIT: u16 = 21;
/// Worker to router: the response ends here, unfinished: cut the connection (or 500 when no head
/// was sent). A [`Body`] whose data is ignored.
pub const ABORT: u16 = 22;

/// Flag of `HEAD`, `BODY`, `FILE`: the response's body is complete.
pub const END: u16 = 1;
/// Flag of `HEAD`, `BODY`, `FILE`, `ABORT`: the worker's slot is free. On the last frame of a request.
pub const DONE: u16 = 2;
/// Flag of `HEAD`: the response must not be kept back for more: it streams.
pub const STREAM: u16 = 4;

fn short() -> Violation {
    Violation("a message ends too early")
}

/// Reads a message from front to back.
#[derive(Debug, Clone, Copy)]
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn bytes(&mut self, len: usize) -> Result<&'a [u8], Violation> {
        let (bytes, rest) = self.0.split_at_checked(len).ok_or_else(short)?;
        self.0 = rest;
        Ok(bytes)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], Violation> {
        let (bytes, rest) = self.0.split_first_chunk::<N>().ok_or_else(short)?;
        self.0 = rest;
        Ok(*bytes)
    }

    fn u8(&mut self) -> Result<u8, Violation> {
        self.array::<1>().map(|[byte]| byte)
    }

    fn u16(&mut self) -> Result<u16, Violation> {
        self.array().map(u16::from_le_bytes)
    }

    fn u32(&mut self) -> Result<u32, Violation> {
        self.array().map(u32::from_le_bytes)
    }

    fn u64(&mut self) -> Result<u64, Violation> {
        self.array().map(u64::from_le_bytes)
    }

    fn short_bytes(&mut self) -> Result<&'a [u8], Violation> {
        let len = self.u16()?;
        self.bytes(usize::from(len))
    }

    fn long_bytes(&mut self) -> Result<&'a [u8], Violation> {
        let len = self.u32()?;
        self.bytes(len as usize)
    }
}

/// A value did not fit where the message wants it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TooLong;

impl std::fmt::Display for TooLong {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("too long for a channel message")
    }
}

impl std::error::Error for TooLong {}

fn put_short(out: &mut Vec<u8>, bytes: &[u8]) -> Result<(), TooLong> {
    let len = u16::try_from(bytes.len()).map_err(|_| TooLong)?;
    out.extend_from_slice(&len.to_le_bytes());
    out.extend_from_slice(bytes);
    Ok(())
}

fn put_long(out: &mut Vec<u8>, bytes: &[u8]) -> Result<(), TooLong> {
    let len = u32::try_from(bytes.len()).map_err(|_| TooLong)?;
    out.extend_from_slice(&len.to_le_bytes());
    out.extend_from_slice(bytes);
    Ok(())
}

/// Fields (headers or trailers) inside a message, in order: each is a name and a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Fields<'a> {
    count: u16,
    /// `count` times: u16 length, u32 length, name, value. Checked when decoded.
    bytes: &'a [u8],
}

impl<'a> Fields<'a> {
    fn decode(reader: &mut Reader<'a>) -> Result<Self, Violation> {
        let count = reader.u16()?;
        let bytes = reader.long_bytes()?;
        let mut inside = Reader(bytes);
        for _ in 0..count {
            Self::field(&mut inside)?;
        }
        if !inside.0.is_empty() {
            return Err(Violation("fields are longer than their count"));
        }
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

const NO_LENGTH: u64 = u64::MAX;

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
        out.extend_from_slice(&line.content_length.unwrap_or(NO_LENGTH).to_le_bytes());
        out.extend_from_slice(&[0, line.version, u8::from(line.https)]);
        out.extend_from_slice(&line.peer_port.to_le_bytes());
        out.extend_from_slice(&line.server_port.to_le_bytes());
        put_short(out, line.method)?;
        put_short(out, line.peer)?;
        put_short(out, line.server)?;
        put_short(out, line.script_name)?;
        put_long(out, line.target)?;
        put_long(out, line.path)?;
        put_long(out, line.query)
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
        let (kind, version, https) = (reader.u8()?, reader.u8()?, reader.u8()? != 0);
        let (peer_port, server_port) = (reader.u16()?, reader.u16()?);
        let line = RequestLine {
            version,
            https,
            peer_port,
            server_port,
            content_length: (length != NO_LENGTH).then_some(length),
            method: reader.short_bytes()?,
            peer: reader.short_bytes()?,
            server: reader.short_bytes()?,
            script_name: reader.short_bytes()?,
            target: reader.long_bytes()?,
            path: reader.long_bytes()?,
            query: reader.long_bytes()?,
        };
        Ok(Self {
            id,
            line,
            fields: Fields::decode(&mut reader)?,
            payload: match kind {
                0 => Payload::Inline(reader.0),
                1 => Payload::Descriptor(len),
                2 => Payload::Stream,
                _ => return Err(Violation("an unknown kind of request body")),
            },
        })
    }
}

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
        Ok(Self { id: reader.u64()?, status: reader.u16()?, fields: Fields::decode(&mut reader)? })
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
        Ok(Self { id, flags, elapsed, offset: reader.u64()?, len: reader.u64()? })
    }
}

/// The worker can take requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ready {
    /// The generation that it answers to.
    pub generation: u32,
    /// How many requests it still holds, all of an earlier generation.
    pub busy: u32,
}

impl Ready {
    /// The message.
    #[must_use]
    pub fn encode(&self) -> [u8; 8] {
        let [a, b, c, d] = self.generation.to_le_bytes();
        let [e, f, g, h] = self.busy.to_le_bytes();
        [a, b, c, d, e, f, g, h]
    }

    /// Read a `READY` message.
    ///
    /// # Errors
    /// A [`Violation`] when it is not one.
    pub fn decode(message: &[u8]) -> Result<Self, Violation> {
        let mut reader = Reader(message);
        Ok(Self { generation: reader.u32()?, busy: reader.u32()? })
    }
}

/// The application has taken so many bytes of a streamed request body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Credit {
    /// The request.
    pub id: u64,
    /// Bytes taken since the last credit.
    pub bytes: u64,
}

impl Credit {
    /// The message.
    #[must_use]
    pub fn encode(&self) -> [u8; 16] {
        let mut out = [0; 16];
        let (id, bytes) = out.split_at_mut(8);
        id.copy_from_slice(&self.id.to_le_bytes());
        bytes.copy_from_slice(&self.bytes.to_le_bytes());
        out
    }

    /// Read a `CREDIT` message.
    ///
    /// # Errors
    /// A [`Violation`] when it is not one.
    pub fn decode(message: &[u8]) -> Result<Self, Violation> {
        let mut reader = Reader(message);
        Ok(Self { id: reader.u64()?, bytes: reader.u64()? })
    }
}

/// Why a request is cancelled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reason {
    /// The client has left (or the connection was cut).
    ClientLeft,
    /// `request_timeout` is over: the client has got 504.
    Timeout,
}

/// Nobody waits for a request any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cancel {
    /// The request.
    pub id: u64,
    /// Why.
    pub reason: Reason,
}

impl Cancel {
    /// The message.
    #[must_use]
    pub fn encode(&self) -> [u8; 9] {
        let [a, b, c, d, e, f, g, h] = self.id.to_le_bytes();
        [a, b, c, d, e, f, g, h, u8::from(self.reason == Reason::Timeout)]
    }

    /// Read a `CANCEL` message.
    ///
    /// # Errors
    /// A [`Violation`] when it is not one.
    pub fn decode(message: &[u8]) -> Result<Self, Violation> {
        let mut reader = Reader(message);
        let id = reader.u64()?;
        let reason = if reader.u8()? == 0 { Reason::ClientLeft } else { Reason::Timeout };
        Ok(Self { id, reason })
    }
}
