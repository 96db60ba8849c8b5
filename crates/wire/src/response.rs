//! Responses and their chunks, written into a buffer.
//!
//! What an application puts out is checked here as strictly as what a client sends in: a CR or LF
//! in a field would split the response, and an invalid head is never written in part.
//!
//! ```text
//! status-line = HTTP-version SP status-code SP [ reason-phrase ] CRLF            RFC 9112 4
//! ```
//!
//! The version is always HTTP/1.1, also to a client that speaks 1.0: "the highest version to which
//! the server is conformant" (RFC 9110 6.2).

use std::fmt;
use std::num::NonZeroU64;

use crate::grammar::{is_field_value, is_token, trim};

/// How the body of a response is framed. The caller knows: it depends on the request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ResponseFraming {
    /// There is no body and no field speaks of one: 1xx, 204, 304 and what a HEAD leaves open.
    None,
    /// `Content-Length: n`. Also for HEAD and 304, where no body follows.
    Length(u64),
    /// `Transfer-Encoding: chunked`. Never to HTTP/1.0.
    Chunked,
    /// The body ends when the connection does (RFC 9112 6.3, rule 8).
    Close,
}

/// What the response says about the connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Connection {
    /// `Connection: keep-alive`
    KeepAlive,
    /// `Connection: close`
    Close,
}

/// What the server itself puts into the head of a response.
#[derive(Clone, Debug)]
pub struct ResponseHead<'a> {
    /// 100 to 999.
    pub status: u16,
    /// The reason phrase; if empty, the standard one.
    pub reason: &'a [u8],
    /// How the body is framed.
    pub framing: ResponseFraming,
    /// Whether the connection stays; `None` says nothing.
    pub connection: Option<Connection>,
    /// The Date field, unless the application sends one: an IMF-fixdate.
    pub date: &'a [u8; 29],
    /// The Server field, unless the application sends one or this is empty.
    pub server: &'a [u8],
}

/// A head that an application must not send. Nothing of it was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BadResponse {
    /// The status is not one of 100 to 999, or, for an interim response, of 100 to 199 without 101.
    Status(u16),
    /// The reason phrase has a control character.
    Reason(String),
    /// This field name is not a token.
    FieldName(String),
    /// The value of the field of this name has a control character. The value is not told: it may
    /// be a secret.
    FieldValue(String),
}

impl fmt::Display for BadResponse {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            BadResponse::Status(status) => write!(f, "invalid status {status}"),
            BadResponse::Reason(reason) => {
                write!(f, "control character in the reason phrase \"{reason}\"")
            }
            BadResponse::FieldName(name) => write!(f, "invalid header name \"{name}\""),
            BadResponse::FieldValue(name) => {
                write!(f, "control character in the value of header \"{name}\"")
            }
        }
    }
}

impl std::error::Error for BadResponse {}

fn escaped(bytes: &[u8]) -> String {
    bytes.escape_ascii().to_string()
}

/// Writes the head of a final response: status line, Server, Date, Connection, framing, then
/// `fields`.
///
/// Of `fields` are left out those that speak of this connection (RFC 9110 7.6.1) or of the framing,
/// Content-Length included: `head` says these. `fields` is walked twice.
///
/// # Errors
///
/// [`BadResponse`] if the head may not be sent; `out` is then as it was.
pub fn write_head<'f, F>(out: &mut Vec<u8>, head: &ResponseHead<'_>, fields: F) -> Result<(), BadResponse>
where
    F: Iterator<Item = (&'f [u8], &'f [u8])> + Clone,
{
    let start = out.len();
    let written = write_final(out, head, fields);
    if written.is_err() {
        out.truncate(start);
    }
    written
}

fn write_final<'f, F>(out: &mut Vec<u8>, head: &ResponseHead<'_>, fields: F) -> Result<(), BadResponse>
where
    F: Iterator<Item = (&'f [u8], &'f [u8])> + Clone,
{
    write_status_line(out, head.status, head.reason)?;
    let (mut has_server, mut has_date) = (head.server.is_empty(), false);
    for (name, _) in fields.clone() {
        match name.len() {
            4 => has_date |= name.eq_ignore_ascii_case(b"date"),
            6 => has_server |= name.eq_ignore_ascii_case(b"server"),
            _ => {}
        }
    }
    if !has_server {
        write_field(out, b"Server", head.server)?;
    }
    if !has_date {
        write_field(out, b"Date", head.date)?;
    }
    match head.connection {
        Some(Connection::KeepAlive) => out.extend_from_slice(b"Connection: keep-alive\r\n"),
        Some(Connection::Close) => out.extend_from_slice(b"Connection: close\r\n"),
        None => {}
    }
    match head.framing {
        ResponseFraming::Length(length) => {
            out.extend_from_slice(b"Content-Length: ");
            out.extend_from_slice(itoa::Buffer::new().format(length).as_bytes());
            out.extend_from_slice(b"\r\n");
        }
        ResponseFraming::Chunked => out.extend_from_slice(b"Transfer-Encoding: chunked\r\n"),
        ResponseFraming::None | ResponseFraming::Close => {}
    }
    for (name, value) in fields {
        if !is_servers_own(name) {
            write_field(out, name, value)?;
        }
    }
    out.extend_from_slice(b"\r\n");
    Ok(())
}

/// Writes an interim response (RFC 9110 15.2), such as `100` without fields or `103` with Link
/// fields. Not to HTTP/1.0.
///
/// # Errors
///
/// [`BadResponse`] if it may not be sent; `out` is then as it was. 101 is refused: it is the last
/// word of HTTP/1 on a connection, not an interim one.
pub fn write_interim<'f, F>(out: &mut Vec<u8>, status: u16, fields: F) -> Result<(), BadResponse>
where
    F: Iterator<Item = (&'f [u8], &'f [u8])>,
{
    if !(100..200).contains(&status) || status == 101 {
        return Err(BadResponse::Status(status));
    }
    let start = out.len();
    let written = write_status_line(out, status, b"")
        .and_then(|()| write_fields(out, fields.filter(|(name, _)| !is_servers_own(name))));
    if written.is_err() {
        out.truncate(start);
    }
    written
}

/// What ends the data of a chunk.
pub const CHUNK_END: &[u8] = b"\r\n";

/// Writes what comes before the data of a chunk; [`CHUNK_END`] comes behind it. A chunk of no bytes
/// would end the body.
pub fn write_chunk_header(out: &mut Vec<u8>, length: NonZeroU64) {
    let digits = (u64::BITS - length.leading_zeros()).div_ceil(4);
    for place in (0..digits).rev() {
        // Lossless: four bits.
        let digit = (length.get() >> (4 * place) & 0xF) as u8;
        out.push(if digit < 10 { b'0' + digit } else { b'a' + digit - 10 });
    }
    out.extend_from_slice(b"\r\n");
}

/// Writes `data` as a chunk, or nothing if there is none.
pub fn write_chunk(out: &mut Vec<u8>, data: &[u8]) {
    if let Some(length) = NonZeroU64::new(data.len() as u64) {
        write_chunk_header(out, length);
        out.extend_from_slice(data);
        out.extend_from_slice(CHUNK_END);
    }
}

/// Writes the end of a chunked body, with trailer fields if there are any.
///
/// # Errors
///
/// [`BadResponse`] if a trailer may not be sent; `out` is then as it was.
pub fn write_last_chunk<'f, F>(out: &mut Vec<u8>, trailers: F) -> Result<(), BadResponse>
where
    F: Iterator<Item = (&'f [u8], &'f [u8])>,
{
    let start = out.len();
    out.extend_from_slice(b"0\r\n");
    let written = write_fields(out, trailers.filter(|(name, _)| !is_servers_own(name)));
    if written.is_err() {
        out.truncate(start);
    }
    written
}

/// Fields that concern this connection or the framing (RFC 9110 7.6.1), so that they are not the
/// application's to set; and one that belongs to requests alone (11.7.2). Proxy-Authenticate may be
/// sent by an application that is a proxy (11.7.1).
fn is_servers_own(name: &[u8]) -> bool {
    let is = |other: &[u8]| name.eq_ignore_ascii_case(other);
    match name.len() {
        2 => is(b"te"),
        7 => is(b"upgrade"),
        10 => is(b"connection") || is(b"keep-alive"),
        14 => is(b"content-length"),
        16 => is(b"proxy-connection"),
        17 => is(b"transfer-encoding"),
        19 => is(b"proxy-authorization"),
        _ => false,
    }
}

fn write_status_line(out: &mut Vec<u8>, status: u16, reason: &[u8]) -> Result<(), BadResponse> {
    if !(100..=999).contains(&status) {
        return Err(BadResponse::Status(status));
    }
    if !is_field_value(reason) {
        return Err(BadResponse::Reason(escaped(reason)));
    }
    out.extend_from_slice(b"HTTP/1.1 ");
    out.extend_from_slice(itoa::Buffer::new().format(status).as_bytes());
    out.push(b' ');
    out.extend_from_slice(if reason.is_empty() { standard_reason(status).as_bytes() } else { reason });
    out.extend_from_slice(b"\r\n");
    Ok(())
}

fn write_fields<'f>(
    out: &mut Vec<u8>,
    fields: impl Iterator<Item = (&'f [u8], &'f [u8])>,
) -> Result<(), BadResponse> {
    for (name, value) in fields {
        write_field(out, name, value)?;
    }
    out.extend_from_slice(b"\r\n");
    Ok(())
}

#[inline]
fn write_field(out: &mut Vec<u8>, name: &[u8], value: &[u8]) -> Result<(), BadResponse> {
    if !is_token(name) {
        return Err(BadResponse::FieldName(escaped(name)));
    }
    if !is_field_value(value) {
        return Err(BadResponse::FieldValue(escaped(name)));
    }
    let value = trim(value);
    out.reserve(name.len() + value.len() + 4);
    out.extend_from_slice(name);
    out.extend_from_slice(b": ");
    out.extend_from_slice(value);
    out.extend_from_slice(b"\r\n");
    Ok(())
}

/// The reason phrase that RFC 9110 or its registry gives to a status; empty for one that is not
/// registered.
#[must_use]
pub fn standard_reason(status: u16) -> &'static str {
    match status {
        100 => "Continue",
        101 => "Switching Protocols",
        102 => "Processing",
        103 => "Early Hints",
        200 => "OK",
        201 => "Created",
        202 => "Accepted",
        203 => "Non-Authoritative Information",
        204 => "No Content",
        205 => "Reset Content",
        206 => "Partial Content",
        207 => "Multi-Status",
        208 => "Already Reported",
        226 => "IM Used",
        300 => "Multiple Choices",
        301 => "Moved Permanently",
        302 => "Found",
        303 => "See Other",
        304 => "Not Modified",
        305 => "Use Proxy",
        307 => "Temporary Redirect",
        308 => "Permanent Redirect",
        400 => "Bad Request",
        401 => "Unauthorized",
        402 => "Payment Required",
        403 => "Forbidden",
        404 => "Not Found",
        405 => "Method Not Allowed",
        406 => "Not Acceptable",
        407 => "Proxy Authentication Required",
        408 => "Request Timeout",
        409 => "Conflict",
        410 => "Gone",
        411 => "Length Required",
        412 => "Precondition Failed",
        413 => "Content Too Large",
        414 => "URI Too Long",
        415 => "Unsupported Media Type",
        416 => "Range Not Satisfiable",
        417 => "Expectation Failed",
        418 => "I'm a Teapot",
        421 => "Misdirected Request",
        422 => "Unprocessable Content",
        423 => "Locked",
        424 => "Failed Dependency",
        425 => "Too Early",
        426 => "Upgrade Required",
        428 => "Precondition Required",
        429 => "Too Many Requests",
        431 => "Request Header Fields Too Large",
        451 => "Unavailable For Legal Reasons",
        500 => "Internal Server Error",
        501 => "Not Implemented",
        502 => "Bad Gateway",
        503 => "Service Unavailable",
        504 => "Gateway Timeout",
        505 => "HTTP Version Not Supported",
        506 => "Variant Also Negotiates",
        507 => "Insufficient Storage",
        508 => "Loop Detected",
        510 => "Not Extended",
        511 => "Network Authentication Required",
        _ => "",
    }
}
