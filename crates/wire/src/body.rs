//! The body of a request, as its framing says.
//!
//! ```text
//! chunked-body = *chunk last-chunk trailer-section CRLF                          RFC 9112 7.1
//! chunk        = chunk-size [ chunk-ext ] CRLF chunk-data CRLF
//! chunk-size   = 1*HEXDIG
//! last-chunk   = 1*("0") [ chunk-ext ] CRLF
//! chunk-ext    = *( BWS ";" BWS chunk-ext-name [ BWS "=" BWS chunk-ext-val ] )   RFC 9112 7.1.1
//! ```
//!
//! A chunk size is hexadecimal digits and nothing else: no sign, no `0x`, no white space before the
//! CRLF or the `;`. Extensions are ignored ("MUST ignore unrecognized chunk extensions", 7.1.1),
//! which makes them a place to hide things: they hold no control character, no CR and no LF, and
//! what they may weigh is bounded. Trailers are kept apart and never become header fields (7.1.2).

use std::ops::Range;

use crate::fields::{Event, FieldReader, Fields, SectionLimits};
use crate::framing::Framing;
use crate::grammar::value_span;
use crate::limits::Limits;
use crate::reject::{Kind, Reject};

/// Bytes of chunk extensions that a body may have beyond the bytes of its data. RFC 9112 7.1.1: "A
/// server ought to limit the total length of chunk extensions received in a request to an amount
/// reasonable for the services provided".
pub const EXTENSION_ALLOWANCE: u64 = 4096;

/// Digits of a chunk size. Leading zeros count: an endless row of them is no number.
const SIZE_DIGITS: u8 = 16;

/// Trailer fields that would change what has been decided already: framing, routing, who is asking
/// (RFC 9110 6.5.1).
const FORBIDDEN_TRAILERS: [&[u8]; 6] =
    [b"host", b"content-length", b"transfer-encoding", b"trailer", b"authorization", b"te"];

/// What one call of [`BodyReader::read`] found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    /// Bytes of the input that are read and done with.
    pub consumed: usize,
    /// The part of the input that is body data, within the consumed bytes; may be empty.
    pub data: Range<usize>,
    /// The body is complete; what follows the consumed bytes is the next message.
    pub done: bool,
}

#[derive(Clone, Copy, Debug)]
enum State {
    /// So many bytes to go.
    Length(u64),
    Size {
        size: u64,
        digits: u8,
    },
    Extension {
        size: u64,
        room: u64,
    },
    SizeEnd {
        size: u64,
    },
    Data(u64),
    DataCr,
    DataLf,
    AfterLastChunk,
    NoTrailers,
    Trailers,
    Done,
    Failed(Kind),
}

#[derive(Debug, Default)]
struct Trailers {
    buf: Vec<u8>,
    reader: FieldReader,
}

/// Reads one body. It copies nothing but trailers and allocates for nothing else.
#[derive(Debug)]
pub struct BodyReader {
    state: State,
    data: u64,
    extensions: u64,
    trailers: Option<Box<Trailers>>,
}

impl BodyReader {
    /// A reader for a body framed so.
    #[must_use]
    pub fn new(framing: Framing) -> Self {
        let state = match framing {
            Framing::None | Framing::Length(0) => State::Done,
            Framing::Length(length) => State::Length(length),
            Framing::Chunked => State::Size { size: 0, digits: 0 },
        };
        BodyReader { state, data: 0, extensions: 0, trailers: None }
    }

    /// Whether the body is complete; at once if it has no bytes.
    #[must_use]
    pub fn is_done(&self) -> bool {
        matches!(self.state, State::Done)
    }

    /// Bytes to go of a body with a Content-Length: each of them is data, so whoever reads may put
    /// them where they belong. `None` for other bodies.
    #[must_use]
    pub fn plain_left(&self) -> Option<u64> {
        match self.state {
            State::Length(left) => Some(left),
            _ => None,
        }
    }

    /// Bytes of data so far.
    #[must_use]
    pub fn received(&self) -> u64 {
        self.data
    }

    /// Reads on in `input`, which begins with the first byte not yet consumed. A step ends where
    /// data ends, so call again with the rest while there is one and the body is not done. Only
    /// empty input or a complete body consume nothing.
    ///
    /// # Errors
    ///
    /// The body is malformed. The same error is returned from then on.
    pub fn read(&mut self, input: &[u8], limits: &Limits) -> Result<Step, Reject> {
        match self.advance(input, limits) {
            Ok((consumed, data)) => {
                let start = consumed - data;
                Ok(Step { consumed, data: start..consumed, done: self.is_done() })
            }
            Err(kind) => {
                self.state = State::Failed(kind);
                Err(kind.into())
            }
        }
    }

    /// The trailer fields, once the body is done. They are not header fields and must not become
    /// any.
    #[must_use]
    pub fn trailers(&self) -> Option<Fields<'_>> {
        let trailers = self.trailers.as_deref()?;
        Some(trailers.reader.fields(&trailers.buf))
    }

    /// How many bytes are consumed, and how many of them, the last ones, are data.
    fn advance(&mut self, input: &[u8], limits: &Limits) -> Result<(usize, usize), Kind> {
        let mut at = 0;
        loop {
            let rest = input.get(at..).unwrap_or_default();
            let Some(&first) = rest.first() else {
                return Ok((at, 0));
            };
            match self.state {
                State::Done => return Ok((at, 0)),
                State::Failed(kind) => return Err(kind),
                State::Length(left) | State::Data(left) => {
                    let taken = left.min(rest.len() as u64);
                    self.data += taken;
                    let is_chunk = matches!(self.state, State::Data(_));
                    self.state = match left - taken {
                        0 if is_chunk => State::DataCr,
                        0 => State::Done,
                        left if is_chunk => State::Data(left),
                        left => State::Length(left),
                    };
                    // Lossless: not more than `rest.len()`.
                    let taken = taken as usize;
                    return Ok((at + taken, taken));
                }
                State::Size { size, digits } => {
                    self.state = match first {
                        b'\r' if digits > 0 => State::SizeEnd { size },
                        b';' if digits > 0 => State::Extension { size, room: self.extension_room(limits) },
                        b'\n' => return Err(Kind::BareLf),
                        _ => {
                            let digit = hex(first).filter(|_| digits < SIZE_DIGITS).ok_or(Kind::ChunkSize)?;
                            // The same bound as for Content-Length.
                            let size = (size.checked_mul(16).map(|size| size | digit))
                                .filter(|&size| size <= i64::MAX as u64)
                                .ok_or(Kind::ChunkSize)?;
                            State::Size { size, digits: digits + 1 }
                        }
                    };
                    at += 1;
                }
                State::Extension { size, room } => {
                    // Not beyond the room, so that the verdict does not depend on the pieces.
                    let area = rest.get(..usize::try_from(room).unwrap_or(usize::MAX)).unwrap_or(rest);
                    let taken = value_span(area);
                    at += taken;
                    self.extensions += taken as u64;
                    let room = room - taken as u64;
                    self.state = match area.get(taken) {
                        None if room == 0 => return Err(Kind::ChunkExtensionTooLarge),
                        None => State::Extension { size, room },
                        Some(b'\r') => {
                            at += 1;
                            State::SizeEnd { size }
                        }
                        Some(b'\n') => return Err(Kind::BareLf),
                        Some(_) => return Err(Kind::ChunkExtension),
                    };
                }
                State::SizeEnd { size } => {
                    if first != b'\n' {
                        return Err(Kind::BareCr);
                    }
                    at += 1;
                    self.state = if size == 0 { State::AfterLastChunk } else { State::Data(size) };
                }
                State::DataCr => {
                    if first != b'\r' {
                        return Err(Kind::ChunkEnd);
                    }
                    at += 1;
                    self.state = State::DataLf;
                }
                State::DataLf => {
                    if first != b'\n' {
                        return Err(Kind::ChunkEnd);
                    }
                    at += 1;
                    self.state = State::Size { size: 0, digits: 0 };
                }
                State::AfterLastChunk if first == b'\r' => {
                    at += 1;
                    self.state = State::NoTrailers;
                }
                State::AfterLastChunk => self.state = State::Trailers,
                State::NoTrailers => {
                    if first != b'\n' {
                        return Err(Kind::BareCr);
                    }
                    at += 1;
                    self.state = State::Done;
                }
                State::Trailers => at += self.read_trailers(rest, limits)?,
            }
        }
    }

    /// Bytes that the extensions of a chunk that begins now may have, with the CR behind them.
    fn extension_room(&self, limits: &Limits) -> u64 {
        let total = EXTENSION_ALLOWANCE.saturating_add(self.data).saturating_sub(self.extensions);
        total.min(limits.chunk_extension as u64).saturating_add(1)
    }

    /// Reads on in the trailer section; how many bytes of `input` belong to it.
    fn read_trailers(&mut self, input: &[u8], limits: &Limits) -> Result<usize, Kind> {
        let section = SectionLimits {
            count: limits.trailer_fields,
            too_many: Kind::TooManyTrailers,
            line: limits.field_size,
            end: limits.trailers.min(u32::MAX as usize),
            too_large: Kind::TrailersTooLarge,
        };
        let trailers = self.trailers.get_or_insert_default();
        let before = trailers.buf.len();
        let room = section.end.saturating_sub(before);
        trailers.buf.extend_from_slice(input.get(..room).unwrap_or(input));
        loop {
            match trailers.reader.next(&trailers.buf, &section)? {
                Event::Field(span) => {
                    let name = span.name(&trailers.buf);
                    if FORBIDDEN_TRAILERS.iter().any(|forbidden| name.eq_ignore_ascii_case(forbidden)) {
                        return Err(Kind::TrailerName);
                    }
                }
                Event::More => return Ok(trailers.buf.len() - before),
                Event::End(end) => {
                    trailers.buf.truncate(end);
                    self.state = State::Done;
                    return Ok(end - before);
                }
            }
        }
    }
}

fn hex(byte: u8) -> Option<u64> {
    char::from(byte).to_digit(16).map(u64::from)
}
