//! The head of a request: request line, fields, and what they mean for the connection.
//!
//! ```text
//! HTTP-message   = start-line CRLF *( field-line CRLF ) CRLF [ message-body ]    RFC 9112 2.1
//! request-line   = method SP request-target SP HTTP-version                      RFC 9112 3
//! request-target = origin-form / absolute-form / authority-form / asterisk-form  RFC 9112 3.2
//! HTTP-version   = "HTTP" "/" DIGIT "." DIGIT                                    RFC 9112 2.3
//! ```
//!
//! Rules beyond the grammar:
//!
//! - A line ends with CRLF, never with CR or LF alone (RFC 9112 2.2). One empty line before the
//!   request line is skipped (2.2: "at least one").
//! - Between the parts of the request line stands one SP, not "any whitespace" (RFC 9112 3 lets a
//!   recipient choose).
//! - HTTP/1.2 to 1.9 are read as 1.1 (RFC 9110 2.5: "process the message as if it was in the
//!   highest minor version"). HTTP/0.9, HTTP/2.0 with its preface, and all others: 505.
//! - CONNECT is refused with 501: a server of resources has nothing to tunnel to, and 405 would
//!   promise other methods for that target. So the authority-form has no place, and `*` belongs to
//!   OPTIONS (RFC 9112 3.2.4).
//! - An HTTP/1.1 request has exactly one Host field, and any Host is a valid one (RFC 9112 3.2).
//!   The authority of an absolute target replaces it (3.2.2).
//! - How the body is framed is said once: see [`framing`](crate::framing).
//!
//! Theory: a state machine that walks over the buffer and never goes back. Each state scans for the
//! end of one part within an area that ends where the part's limit ends. If the area ends first, it
//! is either the limit, an error, or the buffer, and the reader waits. What is beyond a limit is
//! never looked at, and the meaning of a field is judged when its line is complete. So the verdict
//! depends on the bytes alone, not on the pieces they came in.

use crate::authority::is_host;
use crate::control::Control;
use crate::fields::{Event, FieldReader, Fields, SectionLimits};
use crate::framing::Framing;
use crate::grammar::{target_span, token_span};
use crate::limits::Limits;
use crate::reject::{Kind, Reject};

/// "A server that receives a method longer than any that it implements SHOULD respond with a 501"
/// (RFC 9112 3). The longest that is registered, UPDATEREDIRECTREF, has 17 bytes.
const METHOD_MAX: usize = 32;

/// `HTTP/1.1` and CRLF.
const VERSION_LINE: usize = 10;

/// The version that a request is served as.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Version {
    /// HTTP/1.0
    Http10,
    /// HTTP/1.1, and whatever minor version comes after it.
    Http11,
}

/// The form of the request target (RFC 9112 3.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// `/path?query`
    Origin,
    /// `http://host/path?query`
    Absolute,
    /// `*`, of OPTIONS.
    Asterisk,
}

/// A request's head, borrowed from the buffer that it was read from.
#[derive(Clone, Debug)]
pub struct Head<'a> {
    /// As sent; methods are case-sensitive.
    pub method: &'a [u8],
    /// The request target as sent; it may have bytes beyond ASCII.
    pub target: &'a [u8],
    /// The form of `target`.
    pub form: Form,
    /// The path of the target, not decoded. Never empty: `/` where an absolute target has none, `*`
    /// for OPTIONS of a whole server in either form.
    pub path: &'a [u8],
    /// What follows the first `?` of the target; empty also where there is none.
    pub query: &'a [u8],
    /// `host[:port]` of an absolute target.
    pub authority: Option<&'a [u8]>,
    /// `host[:port]` that the request is for: that of an absolute target, else the Host field. Only
    /// HTTP/1.0 may have none.
    pub host: Option<&'a [u8]>,
    /// The version to serve it as.
    pub version: Version,
    /// How the body is framed.
    pub framing: Framing,
    /// Whether the client lets the connection stay (RFC 9112 9.3). `close` wins over `keep-alive`.
    pub keep_alive: bool,
    /// Whether the client waits for a 100 before it sends its body (RFC 9110 10.1.1). False in
    /// HTTP/1.0, and where there is no body to wait for.
    pub expect_continue: bool,
    /// The first Upgrade field, where Connection names it (RFC 9110 7.8). None in HTTP/1.0.
    pub upgrade: Option<&'a [u8]>,
    fields: Fields<'a>,
}

impl<'a> Head<'a> {
    /// The fields in their order, name as sent, value trimmed.
    #[must_use]
    pub fn fields(&self) -> Fields<'a> {
        self.fields.clone()
    }
}

#[derive(Clone, Copy, Debug, Default)]
struct Span {
    start: usize,
    end: usize,
}

impl Span {
    #[inline]
    fn of(self, buf: &[u8]) -> &[u8] {
        buf.get(self.start..self.end).unwrap_or_default()
    }
}

#[derive(Clone, Copy, Debug, Default)]
enum State {
    #[default]
    Begin,
    EmptyLine,
    Method,
    Target,
    Version,
    Fields,
    Done(usize),
    Failed(Kind),
}

/// Reads the head of one request from a buffer that grows. [`reset`](HeadReader::reset) makes it
/// ready for the next one and keeps its memory.
#[derive(Debug)]
pub struct HeadReader {
    state: State,
    /// What is before this offset has been read.
    at: usize,
    /// Where the request line starts.
    line: usize,
    method: Span,
    target: Span,
    authority: Span,
    path: Span,
    query: Span,
    form: Form,
    version: Version,
    control: Control,
    fields: FieldReader,
}

impl Default for HeadReader {
    fn default() -> Self {
        HeadReader::new()
    }
}

impl HeadReader {
    /// A reader at the start of a head. Allocates nothing until it sees a field.
    #[must_use]
    pub fn new() -> Self {
        HeadReader {
            state: State::Begin,
            at: 0,
            line: 0,
            method: Span::default(),
            target: Span::default(),
            authority: Span::default(),
            path: Span::default(),
            query: Span::default(),
            form: Form::Origin,
            version: Version::Http11,
            control: Control::default(),
            fields: FieldReader::default(),
        }
    }

    /// Makes the reader ready for a new head that starts at offset 0 of a buffer.
    pub fn reset(&mut self) {
        self.state = State::Begin;
        self.at = 0;
        self.control = Control::default();
    }

    /// Reads on. `buf` begins with the same bytes as in the call before and may have more behind
    /// them.
    ///
    /// `Some(n)`: the head is complete and is the first `n` bytes of `buf`. `None`: it needs more
    /// bytes.
    ///
    /// # Errors
    ///
    /// The request is not to be served. The same error is returned until
    /// [`reset`](HeadReader::reset).
    #[inline]
    pub fn read(&mut self, buf: &[u8], limits: &Limits) -> Result<Option<usize>, Reject> {
        match self.advance(buf, limits) {
            Ok(end) => Ok(end),
            Err(kind) => {
                self.state = State::Failed(kind);
                Err(kind.into())
            }
        }
    }

    /// The parts of the head, once [`read`](HeadReader::read) has returned `Some`; `buf` begins
    /// with the same bytes. Before that the parts are incomplete, but harmless to look at.
    #[must_use]
    pub fn head<'a>(&'a self, buf: &'a [u8]) -> Head<'a> {
        let control = &self.control;
        let framing = control.framing();
        let authority = (self.form == Form::Absolute).then(|| self.authority.of(buf));
        let path = match self.path.of(buf) {
            [] if self.method.of(buf) == b"OPTIONS" && self.query.start == self.query.end => b"*",
            [] => b"/",
            path => path,
        };
        let is_http11 = self.version == Version::Http11;
        Head {
            method: self.method.of(buf),
            target: self.target.of(buf),
            form: self.form,
            path,
            query: self.query.of(buf),
            authority,
            host: authority.or_else(|| control.host.map(|span| span.value(buf))),
            version: self.version,
            framing,
            keep_alive: !control.close && (is_http11 || control.keep_alive),
            expect_continue: control.expect_continue
                && is_http11
                && !matches!(framing, Framing::None | Framing::Length(0)),
            upgrade: control
                .upgrade
                .filter(|_| control.upgrade_option && is_http11)
                .map(|span| span.value(buf)),
            fields: self.fields.fields(buf),
        }
    }

    #[inline]
    fn advance(&mut self, buf: &[u8], limits: &Limits) -> Result<Option<usize>, Kind> {
        let head_end = limits.head.min(u32::MAX as usize);
        if !matches!(self.state, State::Fields | State::Done(_) | State::Failed(_))
            && !self.request_line(buf, limits, head_end)?
        {
            return Ok(None);
        }
        match self.state {
            State::Done(end) => return Ok(Some(end)),
            State::Failed(kind) => return Err(kind),
            _ => {}
        }
        let section = SectionLimits {
            count: limits.fields,
            too_many: Kind::TooManyFields,
            line: limits.field_size,
            end: head_end,
            too_large: Kind::HeadTooLarge,
        };
        loop {
            match self.fields.next(buf, &section)? {
                Event::Field(span) => self.control.note(buf, span, self.version)?,
                Event::More => return Ok(None),
                Event::End(end) => {
                    // RFC 9112 3.2: "A server MUST respond with a 400 (Bad Request) status code to
                    // any HTTP/1.1 request message that lacks a Host header field".
                    if self.control.host.is_none() && self.version == Version::Http11 {
                        return Err(Kind::HostMissing);
                    }
                    self.state = State::Done(end);
                    return Ok(Some(end));
                }
            }
        }
    }

    /// Reads on in the request line; whether it is complete.
    #[inline]
    fn request_line(&mut self, buf: &[u8], limits: &Limits, head_end: usize) -> Result<bool, Kind> {
        if matches!(self.state, State::Begin | State::EmptyLine) && !self.begin(buf)? {
            return Ok(false);
        }
        let stop = self.line.saturating_add(limits.request_line).saturating_add(2).min(head_end);
        let area = buf.get(..stop).unwrap_or(buf);
        loop {
            let rest = area.get(self.at..).unwrap_or_default();
            match self.state {
                State::Method => {
                    self.at += token_span(rest);
                    if self.at - self.line > METHOD_MAX {
                        return Err(Kind::MethodTooLong);
                    }
                    match area.get(self.at) {
                        None => break,
                        Some(b' ') if self.at > self.line => {}
                        Some(b'\n') => return Err(Kind::BareLf),
                        Some(_) => return Err(Kind::Method),
                    }
                    self.method = Span { start: self.line, end: self.at };
                    if self.method.of(buf) == b"CONNECT" {
                        return Err(Kind::Connect);
                    }
                    self.at += 1;
                    self.target.start = self.at;
                    self.state = State::Target;
                }
                State::Target => {
                    self.at += target_span(rest);
                    match area.get(self.at) {
                        None => break,
                        Some(b' ') if self.at > self.target.start => {}
                        Some(b'\r') if self.at > self.target.start => {
                            return Err(Kind::VersionMissing);
                        }
                        Some(b'\n') => return Err(Kind::BareLf),
                        Some(_) => return Err(Kind::Target),
                    }
                    self.target.end = self.at;
                    self.at += 1;
                    self.state = State::Version;
                }
                State::Version => {
                    let Some(version) = version(rest)? else { break };
                    self.version = version;
                    self.at += VERSION_LINE;
                    self.split_target(buf)?;
                    self.fields.begin(self.at);
                    self.state = State::Fields;
                    return Ok(true);
                }
                _ => return Ok(true),
            }
        }
        if area.len() < stop {
            return Ok(false);
        }
        Err(if stop < head_end { Kind::RequestLineTooLong } else { Kind::RequestLineBeyondHead })
    }

    /// Skips one empty line; whether the request line begins at `self.at`.
    fn begin(&mut self, buf: &[u8]) -> Result<bool, Kind> {
        if matches!(self.state, State::Begin) {
            match buf.first() {
                None => return Ok(false),
                Some(b'\r') => self.state = State::EmptyLine,
                Some(_) => self.line = 0,
            }
        }
        if matches!(self.state, State::EmptyLine) {
            match (buf.get(1), buf.get(2)) {
                (None, _) | (Some(b'\n'), None) => return Ok(false),
                (Some(b'\n'), Some(b'\r')) => return Err(Kind::EmptyLines),
                (Some(b'\n'), Some(_)) => self.line = 2,
                (Some(_), _) => return Err(Kind::BareCr),
            }
        }
        self.at = self.line;
        self.state = State::Method;
        Ok(true)
    }

    /// Tells the form of the target and finds its parts.
    fn split_target(&mut self, buf: &[u8]) -> Result<(), Kind> {
        let target = self.target.of(buf);
        let mut path = self.target.start;
        self.form = match target {
            [b'/', ..] => Form::Origin,
            b"*" if self.method.of(buf) == b"OPTIONS" => Form::Asterisk,
            _ => {
                let scheme = scheme(target).ok_or(Kind::TargetForm)?;
                let rest = target.get(scheme..).unwrap_or_default();
                let length = rest.iter().position(|b| matches!(b, b'/' | b'?')).unwrap_or(rest.len());
                if !is_host(rest.get(..length).unwrap_or_default()) {
                    return Err(Kind::TargetAuthority);
                }
                self.authority = Span { start: path + scheme, end: path + scheme + length };
                path = self.authority.end;
                Form::Absolute
            }
        };
        let end = self.target.end;
        let rest = buf.get(path..end).unwrap_or_default();
        let (path_end, query) = match memchr::memchr(b'?', rest) {
            Some(mark) => (path + mark, path + mark + 1),
            None => (end, end),
        };
        self.path = Span { start: path, end: path_end };
        self.query = Span { start: query, end };
        Ok(())
    }
}

/// Reads `HTTP/1.1` and CRLF. A wrong byte is an error at once, however few have come.
fn version(rest: &[u8]) -> Result<Option<Version>, Kind> {
    for (place, &byte) in rest.iter().take(VERSION_LINE).enumerate() {
        let fits = match place {
            5 | 7 => byte.is_ascii_digit(),
            8 if byte == b'\n' => return Err(Kind::BareLf),
            9 if byte != b'\n' => return Err(Kind::BareCr),
            _ => b"HTTP/1.1\r\n".get(place) == Some(&byte),
        };
        if !fits {
            return Err(Kind::Version);
        }
    }
    match rest.get(..VERSION_LINE) {
        None => Ok(None),
        Some([.., b'1', b'.', b'0', _, _]) => Ok(Some(Version::Http10)),
        Some([.., b'1', b'.', _, _, _]) => Ok(Some(Version::Http11)),
        Some(_) => Err(Kind::VersionUnsupported),
    }
}

/// The length of `http://` or `https://` at the start of `target`. No other scheme is served here.
fn scheme(target: &[u8]) -> Option<usize> {
    [&b"http://"[..], b"https://"]
        .into_iter()
        .find_map(|scheme| target.get(..scheme.len())?.eq_ignore_ascii_case(scheme).then_some(scheme.len()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::body::BodyReader;
    use crate::grammar::work;

    /// Bytes that the scanners look at while `bytes` come one at a time; one call may look at one
    /// more than it takes.
    fn work_of_reading(bytes: &[u8]) -> usize {
        let limits = Limits { request_line: usize::MAX, field_size: usize::MAX, ..Limits::default() };
        let mut reader = HeadReader::new();
        work::take();
        for end in 1..=bytes.len() {
            assert_eq!(reader.read(bytes.get(..end).unwrap(), &limits), Ok(None));
        }
        work::take()
    }

    #[test]
    fn reading_byte_by_byte_costs_linear_work() {
        let long = 60_000;
        for head in [
            [b"GET /", "a".repeat(long).as_bytes()].concat(),
            [b"GET / HTTP/1.1\r\n", "a".repeat(long).as_bytes()].concat(),
            [b"GET / HTTP/1.1\r\nA:", " \t".repeat(long / 2).as_bytes()].concat(),
            [b"GET / HTTP/1.1\r\nA: ", "b\t".repeat(long / 2).as_bytes()].concat(),
            [b"GET / HTTP/1.1\r\n", "A: b  \r\n".repeat(99).as_bytes()].concat(),
            [b"GET / HTTP/1.1\r\nA: b", " ".repeat(long).as_bytes(), b"\r\n"].concat(),
        ] {
            let work = work_of_reading(&head);
            assert!(work <= 4 * head.len(), "{work} for {} bytes", head.len());
        }
    }

    #[test]
    fn chunks_byte_by_byte_cost_linear_work() {
        let chunk = format!("1;{}\r\nx\r\n", "a".repeat(3));
        let bytes = [chunk.repeat(1000).as_bytes(), b"0\r\n", "A: b \r\n".repeat(99).as_bytes()].concat();
        let mut reader = BodyReader::new(Framing::Chunked);
        work::take();
        for byte in bytes.chunks(1) {
            assert_eq!(reader.read(byte, &Limits::default()).unwrap().consumed, 1);
        }
        let work = work::take();
        assert!(work <= 4 * bytes.len(), "{work} for {} bytes", bytes.len());
    }
}
