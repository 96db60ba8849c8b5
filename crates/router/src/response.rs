//! A response on its way from a worker to an HTTP/1 client: framed here, whatever the worker's
//! class and the application's habits.

use std::fs::File;

use channel::message;
use wire::{BadResponse, Connection, ResponseFraming, ResponseHead};

use crate::outgoing::{Bounds, Outgoing};
use crate::spool::cannot_store;

/// What the request asks of its response.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Wanted {
    /// HTTP/1.1: chunks are understood.
    pub http11: bool,
    /// HEAD: no body.
    pub head_only: bool,
    /// The connection may stay.
    pub keep_alive: bool,
}

impl Default for Wanted {
    fn default() -> Self {
        Self { http11: true, head_only: false, keep_alive: true }
    }
}

/// What the server itself says in each head.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Server<'a> {
    /// The Date field.
    pub date: &'a [u8; 29],
    /// The Server field.
    pub name: &'a [u8],
}

/// The name in the Server field.
pub(crate) const SERVER: &[u8] = b"remuda";

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum State {
    /// No byte of the final head yet.
    #[default]
    Waiting,
    /// The head is out; so many bytes of the body are still owed.
    Length(u64),
    /// The head is out; the body goes in chunks.
    Chunked,
    /// The head is out; the body ends with the connection.
    Close,
    /// Complete.
    Ended,
    /// It ends here, unfinished: the connection must be closed after what is written.
    Cut,
}

impl State {
    /// So many bytes are still owed. Whoever has given more than enough is not asked for the end.
    fn owed(left: u64, surplus: bool) -> Self {
        if surplus { Self::Ended } else { Self::Length(left) }
    }
}

/// Something to tell the error log about an application's response.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Complaint {
    /// The application set something that cannot be sent; the client gets 500.
    BadHead(BadResponse),
    /// Its Content-Length is not a number, or there are several; the client gets 500.
    BadLength,
    /// It gave more body than its Content-Length; the rest was cut off.
    TooLong,
    /// It gave less body than its Content-Length; the connection is closed.
    TooShort(u64),
    /// It gave a head twice, or a body before a head.
    OutOfOrder,
    /// What the client is slow to read cannot be kept in a file: its worker waits for it.
    NoSpool(String),
}

impl std::fmt::Display for Complaint {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::BadHead(bad) => write!(f, "the application's response cannot be sent: {bad}"),
            Self::BadLength => f.write_str("the application's Content-Length is not one number"),
            Self::TooLong => {
                f.write_str("the response is longer than its Content-Length: the rest was cut off")
            }
            Self::TooShort(missing) => {
                write!(
                    f,
                    "the response is {missing} bytes shorter than its Content-Length: the connection was closed"
                )
            }
            Self::NoSpool(why) => {
                write!(f, "the response cannot be spooled, so its worker waits for the client: {why}")
            }
            Self::OutOfOrder => f.write_str("the worker sent parts of a response out of order"),
        }
    }
}

/// One response.
#[derive(Debug, Default)]
pub(crate) struct Response {
    /// What the request asked for.
    pub wanted: Wanted,
    /// What waits to be written.
    pub out: Outgoing,
    state: State,
    /// The status of the final response; 0 while there is none.
    pub status: u16,
    /// Bytes of body that the client was given.
    pub body_bytes: u64,
    /// The application's fields, kept when the access log asks for some.
    logged_fields: Option<Vec<u8>>,
    trailers: Vec<u8>,
    /// The body ends with the connection: a connection that ends early must be reset.
    unframed: bool,
}

impl Response {
    /// Begin with the response to another request.
    pub fn reset(&mut self, wanted: Wanted) {
        let out = std::mem::take(&mut self.out);
        *self = Self { wanted, out, ..Self::default() };
    }

    /// Has the final head been sent (or put in line)?
    pub fn has_begun(&self) -> bool {
        self.state != State::Waiting
    }

    /// Is there nothing more to come from the worker?
    pub fn is_over(&self) -> bool {
        matches!(self.state, State::Ended | State::Cut)
    }

    /// Was it cut short?
    pub fn is_cut(&self) -> bool {
        self.state == State::Cut
    }

    /// Would the end of the connection now pass for the end of the body?
    pub fn must_reset(&self) -> bool {
        self.unframed && (self.state != State::Ended || !self.out.is_empty())
    }

    /// May the connection be used again after this response?
    pub fn keeps_alive(&self) -> bool {
        self.state == State::Ended && self.wanted.keep_alive
    }

    /// An application's field that was kept for the access log.
    pub fn logged_field(&self, wanted: &[u8]) -> Option<&[u8]> {
        let lines = self.logged_fields.as_deref()?.split(|byte| *byte == b'\n');
        lines
            .filter_map(|line| {
                let colon = line.iter().position(|byte| *byte == b':')?;
                let (name, value) = line.split_at_checked(colon)?;
                name.eq_ignore_ascii_case(wanted).then(|| value.get(1..).unwrap_or_default())
            })
            .next()
    }

    /// A response of the router's own, when the application's has not begun; a cut otherwise.
    pub fn fail(&mut self, status: u16, server: Server<'_>, retry_after: Option<u32>) {
        if self.has_begun() {
            if self.state != State::Ended {
                self.state = State::Cut;
            }
            return;
        }
        let reason = wire::standard_reason(status);
        let body = format!("{status} {reason}\n");
        let retry = retry_after.map(|seconds| seconds.to_string());
        let fields: [(&[u8], &[u8]); 2] = [
            (b"Content-Type", b"text/plain; charset=utf-8"),
            (b"Retry-After", retry.as_deref().unwrap_or_default().as_bytes()),
        ];
        let count = if retry.is_some() { 2 } else { 1 };
        let head = self.head(status, b"", ResponseFraming::Length(body.len() as u64), server);
        let only_head = self.wanted.head_only;
        let written = self.out.with_tail(|out| {
            let written = wire::write_head(out, &head, fields.into_iter().take(count));
            if !only_head {
                out.extend_from_slice(body.as_bytes());
            }
            written
        });
        self.status = status;
        self.body_bytes = if only_head { 0 } else { body.len() as u64 };
        self.state = if written.is_ok() { State::Ended } else { State::Cut };
    }

    fn head<'a>(
        &self,
        status: u16,
        reason: &'a [u8],
        framing: ResponseFraming,
        server: Server<'a>,
    ) -> ResponseHead<'a> {
        let keeps = self.wanted.keep_alive && framing != ResponseFraming::Close;
        let connection = match (keeps, self.wanted.http11) {
            // Persistence is the default of HTTP/1.1 (RFC 9112 9.3), but the classic clients of
            // benchmarks and scripts look for the word.
            (true, _) => Connection::KeepAlive,
            (false, _) => Connection::Close,
        };
        ResponseHead {
            status,
            reason,
            framing,
            connection: Some(connection),
            date: server.date,
            server: server.name,
        }
    }

    /// The worker's `HEAD`.
    pub fn on_head(
        &mut self,
        head: &message::Head<'_>,
        server: Server<'_>,
        bounds: Bounds<'_>,
        keep_fields: bool,
    ) -> Option<Complaint> {
        if self.has_begun() {
            self.fail(500, server, None);
            return Some(Complaint::OutOfOrder);
        }
        if (100..200).contains(&head.status) {
            self.fail(500, server, None);
            return Some(Complaint::BadHead(BadResponse::Status(head.status)));
        }
        let Declared { length: declared, close, named } = match Declared::read(head.fields) {
            Ok(declared) => declared,
            Err(complaint) => {
                self.fail(500, server, None);
                return Some(complaint);
            }
        };
        self.wanted.keep_alive &= !close;
        let ends = head.flags & message::END != 0;
        let (framing, state) = self.framing(head.status, declared, ends, head.data.len() as u64);
        if framing == ResponseFraming::Close {
            self.wanted.keep_alive = false;
            self.unframed = true;
        }
        let ours = self.head(head.status, head.reason, framing, server);
        let fields =
            head.fields.iter().filter(|(name, _)| !named.iter().any(|one| one.eq_ignore_ascii_case(name)));
        let written = self.out.with_tail(|out| wire::write_head(out, &ours, fields));
        if let Err(bad) = written {
            self.unframed = false;
            self.fail(500, server, None);
            return Some(Complaint::BadHead(bad));
        }
        self.status = head.status;
        self.state = state;
        if keep_fields {
            let mut kept = Vec::new();
            for (name, value) in head.fields.iter() {
                kept.extend_from_slice(name);
                kept.push(b':');
                kept.extend_from_slice(value);
                kept.push(b'\n');
            }
            self.logged_fields = Some(kept);
        }
        let complaint = self.data(head.data, bounds);
        let ended = if ends { self.end() } else { None };
        complaint.or(ended)
    }

    /// How the body goes out, RFC 9112 6.3 seen from the sender.
    fn framing(
        &self,
        status: u16,
        declared: Option<u64>,
        ends: bool,
        given: u64,
    ) -> (ResponseFraming, State) {
        if matches!(status, 204 | 304) {
            // RFC 9110 15.3.5, 15.4.5: no content; and a 204 must not carry a Content-Length (8.6).
            let framing = match declared {
                Some(length) if status == 304 => ResponseFraming::Length(length),
                _ => ResponseFraming::None,
            };
            // Nothing more goes out, whatever the application gives.
            return (framing, State::Ended);
        }
        if self.wanted.head_only {
            let framing = match declared {
                Some(length) => ResponseFraming::Length(length),
                // An application that leaves the body away itself gives no length to go by.
                None if ends && given > 0 => ResponseFraming::Length(given),
                None => ResponseFraming::None,
            };
            return (framing, State::Ended);
        }
        match declared {
            Some(length) => (ResponseFraming::Length(length), State::Length(length)),
            None if ends => (ResponseFraming::Length(given), State::Length(given)),
            None if self.wanted.http11 => (ResponseFraming::Chunked, State::Chunked),
            None => (ResponseFraming::Close, State::Close),
        }
    }

    /// The worker's `BODY`.
    pub fn on_body(
        &mut self,
        body: &message::Body<'_>,
        server: Server<'_>,
        bounds: Bounds<'_>,
    ) -> Option<Complaint> {
        if let Some(complaint) = self.misplaced(server) {
            return Some(complaint);
        }
        let complaint = self.data(body.data, bounds);
        let ended = if body.flags & message::END != 0 { self.end() } else { None };
        complaint.or(ended)
    }

    /// The worker's `FILE`, with its descriptor.
    pub fn on_file(&mut self, part: &message::FileBody, file: File, server: Server<'_>) -> Option<Complaint> {
        if let Some(complaint) = self.misplaced(server) {
            return Some(complaint);
        }
        let mut complaint = None;
        let len = match self.state {
            State::Length(left) => {
                if part.len > left {
                    complaint = Some(Complaint::TooLong);
                }
                let len = part.len.min(left);
                self.state = State::owed(left - len, part.len > left);
                len
            }
            State::Chunked | State::Close => part.len,
            _ => 0,
        };
        if let Some(size) = std::num::NonZeroU64::new(len) {
            let chunked = self.state == State::Chunked;
            if chunked {
                self.out.with_tail(|out| wire::write_chunk_header(out, size));
            }
            self.out.push_file(file, part.offset, len);
            if chunked {
                self.out.with_tail(|out| out.extend_from_slice(wire::CHUNK_END));
            }
            self.body_bytes = self.body_bytes.saturating_add(len);
        }
        let ended = if part.flags & message::END != 0 { self.end() } else { None };
        complaint.or(ended)
    }

    /// The worker's `TRAILERS`: kept until the body ends; dropped where there are no chunks.
    pub fn on_trailers(&mut self, section: &message::Section<'_>) -> Option<Complaint> {
        if self.state != State::Chunked {
            return None;
        }
        self.trailers.clear();
        let written = wire::write_last_chunk(&mut self.trailers, section.fields.iter());
        written.err().map(Complaint::BadHead)
    }

    /// The worker's `INTERIM`, for clients that know such (RFC 9110 15.2).
    pub fn on_interim(&mut self, section: &message::Section<'_>) -> Option<Complaint> {
        if self.has_begun() || !self.wanted.http11 {
            return None;
        }
        let written =
            self.out.with_tail(|out| wire::write_interim(out, section.status, section.fields.iter()));
        written.err().map(Complaint::BadHead)
    }

    fn misplaced(&mut self, server: Server<'_>) -> Option<Complaint> {
        if self.state == State::Waiting {
            self.fail(500, server, None);
            return Some(Complaint::OutOfOrder);
        }
        None
    }

    fn data(&mut self, data: &[u8], bounds: Bounds<'_>) -> Option<Complaint> {
        if data.is_empty() {
            return None;
        }
        let mut complaint = None;
        match self.state {
            State::Length(left) => {
                let fits = usize::try_from(left).unwrap_or(usize::MAX).min(data.len());
                if fits < data.len() {
                    complaint = Some(Complaint::TooLong);
                }
                self.out.push(&[data.get(..fits).unwrap_or_default()], bounds);
                self.state = State::owed(left - fits as u64, fits < data.len());
                self.body_bytes += fits as u64;
            }
            State::Chunked => {
                if let Some(size) = std::num::NonZeroU64::new(data.len() as u64) {
                    let mut header = Vec::with_capacity(18);
                    wire::write_chunk_header(&mut header, size);
                    self.out.push(&[&header, data, wire::CHUNK_END], bounds);
                    self.body_bytes += data.len() as u64;
                }
            }
            State::Close => {
                self.out.push(&[data], bounds);
                self.body_bytes += data.len() as u64;
            }
            State::Waiting | State::Ended | State::Cut => {}
        }
        complaint.or_else(|| {
            let error = self.out.take_trouble()?;
            Some(Complaint::NoSpool(cannot_store(bounds.directory, &error)))
        })
    }

    fn end(&mut self) -> Option<Complaint> {
        let state = std::mem::replace(&mut self.state, State::Ended);
        match state {
            State::Length(left) if left > 0 => {
                self.state = State::Cut;
                return Some(Complaint::TooShort(left));
            }
            State::Chunked => {
                let trailers = std::mem::take(&mut self.trailers);
                self.out.with_tail(|out| {
                    if trailers.is_empty() {
                        out.extend_from_slice(b"0\r\n\r\n");
                    } else {
                        out.extend_from_slice(&trailers);
                    }
                });
            }
            State::Cut => self.state = State::Cut,
            _ => {}
        }
        None
    }

    /// The worker cannot finish: cut what has begun, or say 500.
    pub fn on_abort(&mut self, server: Server<'_>) {
        self.fail(500, server, None);
    }
}

/// So many fields that Connection names are left out, as each is looked for among all others.
const MOST_NAMED: usize = 16;

/// What the application's fields say about the framing and the connection.
#[derive(Default)]
struct Declared<'a> {
    length: Option<u64>,
    /// The connection is to be closed after the response.
    close: bool,
    /// Fields that Connection names: they are for whoever receives them first, which is this server
    /// (RFC 9110 7.6.1: "remove any header or trailer field(s) from the message with the same name as
    /// the connection-option").
    named: Vec<&'a [u8]>,
}

impl<'a> Declared<'a> {
    fn read(fields: message::Fields<'a>) -> Result<Self, Complaint> {
        let mut declared = Self::default();
        for (name, value) in fields.iter() {
            match name.len() {
                10 if name.eq_ignore_ascii_case(b"connection") => declared.connection(value),
                14 if name.eq_ignore_ascii_case(b"content-length") => declared.length(value)?,
                _ => {}
            }
        }
        Ok(declared)
    }

    fn connection(&mut self, value: &'a [u8]) {
        for option in value.split(|byte| *byte == b',').map(<[u8]>::trim_ascii) {
            if option.eq_ignore_ascii_case(b"close") {
                self.close = true;
            } else if !option.is_empty()
                && !option.eq_ignore_ascii_case(b"keep-alive")
                && self.named.len() < MOST_NAMED
            {
                self.named.push(option);
            }
        }
    }

    fn length(&mut self, value: &[u8]) -> Result<(), Complaint> {
        let digits = value.trim_ascii();
        if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
            return Err(Complaint::BadLength);
        }
        let length = std::str::from_utf8(digits).ok().and_then(|text| text.parse::<u64>().ok());
        let length = length.ok_or(Complaint::BadLength)?;
        if self.length.is_some_and(|earlier| earlier != length) {
            return Err(Complaint::BadLength);
        }
        self.length = Some(length);
        Ok(())
    }
}

#[cfg(test)]
mod tests;
