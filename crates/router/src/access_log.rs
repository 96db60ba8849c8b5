//! The access log: a format compiled once, a line rendered for each request.
//!
//! The format is gunicorn's, `%(x)s` with the atom `x`:
//!
//! | atom | meaning |
//! |---|---|
//! | h | address of the peer |
//! | l | always `-` |
//! | u | user name of Basic authentication |
//! | t | local time at logging, `[23/Nov/2026:03:54:15 +0000]` |
//! | r | request line |
//! | m | method |
//! | U | path, as sent |
//! | q | query, without the `?` |
//! | H | protocol, `HTTP/1.1` |
//! | s | status |
//! | B, b | bytes of the response's body |
//! | f | Referer |
//! | a | User-Agent |
//! | T, M, D | duration in whole seconds, milliseconds, microseconds |
//! | L | duration in seconds with six decimals |
//! | Q | time in the queue, in milliseconds with three decimals |
//! | w | process id of the worker |
//! | p | the same in angle brackets |
//! | {name}i | request field |
//! | {name}o | response field |
//! | {name}e | always `-`: the environ exists in the worker only |
//!
//! What is not there is `-`. What came from outside is escaped: quotes, backslashes, control
//! characters and all bytes beyond ASCII, so a line is one line and a quoted string ends where it
//! ends. `%%` is a percent sign, and `%(D)d` is the same as `%(D)s`.
//!
//! The format `json` is one JSON object a line instead, see [`AccessLog::write`].

use std::time::Duration;

use crate::clock::Clock;

/// Looks up a field by its name in lower case.
pub type Lookup<'a> = &'a dyn Fn(&[u8]) -> Option<&'a [u8]>;

/// What is known of a request when it is over.
#[derive(Clone, Copy)]
pub struct Entry<'a> {
    /// Shows the time of logging.
    pub clock: &'a Clock,
    /// The address of the peer as text; none on a unix socket.
    pub remote: Option<&'a str>,
    /// As sent.
    pub method: &'a [u8],
    /// The request target as sent.
    pub target: &'a [u8],
    /// The path of the target, as sent.
    pub path: &'a [u8],
    /// The query of the target, without the `?`.
    pub query: &'a [u8],
    /// Such as `HTTP/1.1`.
    pub version: &'a [u8],
    /// The status of the response.
    pub status: u16,
    /// Bytes of the body that were sent, framing not counted; none if there was no response.
    pub sent: Option<u64>,
    /// From the first byte of the request to the last byte of the response.
    pub duration: Duration,
    /// How long the request waited for a free slot; none if it never was queued.
    pub queued: Option<Duration>,
    /// The process id of the worker; none if no worker had it.
    pub worker: Option<u32>,
    /// The fields of the request.
    pub request: Lookup<'a>,
    /// The fields of the response.
    pub response: Lookup<'a>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Piece {
    Literal(Vec<u8>),
    Remote,
    Missing,
    User,
    Time,
    RequestLine,
    Method,
    Path,
    Query,
    Version,
    Status,
    Sent,
    Seconds,
    Milliseconds,
    Microseconds,
    DecimalSeconds,
    Queued,
    Worker,
    BracketedWorker,
    RequestField(Vec<u8>),
    ResponseField(Vec<u8>),
}

/// How lines are rendered.
#[derive(Clone, Debug)]
pub struct AccessLog {
    style: Style,
}

#[derive(Clone, Debug)]
enum Style {
    Text(Vec<Piece>),
    Json,
}

impl AccessLog {
    /// Compiles a format.
    ///
    /// # Errors
    ///
    /// One line that names what is wrong with it.
    pub fn compile(format: &str) -> Result<AccessLog, String> {
        let style = match format {
            "json" => Style::Json,
            text => Style::Text(parse(text).map_err(|fault| format!("access_log_format: {fault}"))?),
        };
        Ok(AccessLog { style })
    }

    /// Whether [`write`](AccessLog::write) looks at fields of the response: else none need to be
    /// kept until then.
    #[must_use]
    pub fn reads_response_fields(&self) -> bool {
        match &self.style {
            Style::Text(pieces) => pieces.iter().any(|piece| matches!(piece, Piece::ResponseField(_))),
            Style::Json => false,
        }
    }

    /// Appends one line, its line end included.
    ///
    /// In JSON the members are `time` (RFC 3339), `remote_addr`, `user`, `method`, `path`, `query`,
    /// `protocol`, `status`, `bytes`, `referer`, `user_agent`, `duration` and `queue` (seconds) and
    /// `worker` (process id). What is not there is null. Bytes that are no UTF-8 are read as
    /// Latin-1.
    pub fn write(&self, out: &mut Vec<u8>, entry: &Entry<'_>) {
        match &self.style {
            Style::Text(pieces) => {
                for piece in pieces {
                    write_piece(out, piece, entry);
                }
            }
            Style::Json => write_json(out, entry),
        }
        out.push(b'\n');
    }
}

const AUTHORIZATION: &[u8] = b"authorization";
const REFERER: &[u8] = b"referer";
const USER_AGENT: &[u8] = b"user-agent";

fn parse(format: &str) -> Result<Vec<Piece>, String> {
    let mut pieces = Vec::new();
    let mut literal = Vec::new();
    let mut rest = format;
    while let Some((before, after)) = rest.split_once('%') {
        literal.extend_from_slice(before.as_bytes());
        if let Some(after) = after.strip_prefix('%') {
            literal.push(b'%');
            rest = after;
            continue;
        }
        let (name, after) = after
            .strip_prefix('(')
            .and_then(|after| after.split_once(')'))
            .ok_or("a % is followed neither by (atom)s nor by another %")?;
        let piece = atom(name)?;
        rest = after.strip_prefix(['s', 'd']).ok_or_else(|| format!("%({name}) is not followed by s"))?;
        if !literal.is_empty() {
            pieces.push(Piece::Literal(std::mem::take(&mut literal)));
        }
        pieces.push(piece);
    }
    literal.extend_from_slice(rest.as_bytes());
    if literal.iter().any(|&b| b == b'\n' || b == b'\r') {
        return Err("a record is one line, so the format must be one".to_owned());
    }
    if !literal.is_empty() {
        pieces.push(Piece::Literal(literal));
    }
    Ok(pieces)
}

fn atom(name: &str) -> Result<Piece, String> {
    if let Some((field, kind)) = name.strip_prefix('{').and_then(|name| name.split_once('}')) {
        let field = field.to_ascii_lowercase().into_bytes();
        return match kind {
            "i" => Ok(Piece::RequestField(field)),
            "o" => Ok(Piece::ResponseField(field)),
            "e" => Ok(Piece::Missing),
            _ => Err(format!("unknown atom {name:?}: {{name}} is followed by i, o or e")),
        };
    }
    Ok(match name {
        "h" => Piece::Remote,
        "l" => Piece::Missing,
        "u" => Piece::User,
        "t" => Piece::Time,
        "r" => Piece::RequestLine,
        "m" => Piece::Method,
        "U" => Piece::Path,
        "q" => Piece::Query,
        "H" => Piece::Version,
        "s" => Piece::Status,
        "B" | "b" => Piece::Sent,
        "f" => Piece::RequestField(REFERER.to_vec()),
        "a" => Piece::RequestField(USER_AGENT.to_vec()),
        "T" => Piece::Seconds,
        "M" => Piece::Milliseconds,
        "D" => Piece::Microseconds,
        "L" => Piece::DecimalSeconds,
        "Q" => Piece::Queued,
        "w" => Piece::Worker,
        "p" => Piece::BracketedWorker,
        _ => {
            return Err(format!(
                "unknown atom {name:?}: there are h l u t r m U q H s B b f a T M D L p Q w, \
                 {{name}}i, {{name}}o and {{name}}e"
            ));
        }
    })
}

fn write_piece(out: &mut Vec<u8>, piece: &Piece, entry: &Entry<'_>) {
    let duration = entry.duration;
    match piece {
        Piece::Literal(text) => out.extend_from_slice(text),
        Piece::Missing => out.push(b'-'),
        Piece::Remote => write_field(out, entry.remote.map(str::as_bytes)),
        Piece::User => {
            let user = (entry.request)(AUTHORIZATION).and_then(basic_user);
            write_field(out, user.as_deref());
        }
        Piece::Time => out.extend_from_slice(entry.clock.access_stamp()),
        Piece::RequestLine => {
            escape(out, entry.method);
            out.push(b' ');
            escape(out, entry.target);
            out.push(b' ');
            escape(out, entry.version);
        }
        Piece::Method => escape(out, entry.method),
        Piece::Path => escape(out, entry.path),
        Piece::Query => escape(out, entry.query),
        Piece::Version => escape(out, entry.version),
        Piece::Status => write_number(out, entry.status.into()),
        Piece::Sent => match entry.sent {
            Some(sent) => write_number(out, sent),
            None => out.push(b'-'),
        },
        Piece::Seconds => write_number(out, duration.as_secs()),
        Piece::Milliseconds => write_number(out, clamped(duration.as_millis())),
        Piece::Microseconds => write_number(out, clamped(duration.as_micros())),
        Piece::DecimalSeconds => write_decimal(out, duration.as_secs(), duration.subsec_micros(), 6),
        Piece::Queued => match entry.queued {
            Some(queued) => {
                let micros = clamped(queued.as_micros());
                // Lossless: below 1000.
                write_decimal(out, micros / 1000, (micros % 1000) as u32, 3);
            }
            None => out.push(b'-'),
        },
        Piece::Worker => match entry.worker {
            Some(worker) => write_number(out, worker.into()),
            None => out.push(b'-'),
        },
        Piece::BracketedWorker => match entry.worker {
            Some(worker) => {
                out.push(b'<');
                write_number(out, worker.into());
                out.push(b'>');
            }
            None => out.push(b'-'),
        },
        Piece::RequestField(name) => write_field(out, (entry.request)(name)),
        Piece::ResponseField(name) => write_field(out, (entry.response)(name)),
    }
}

fn clamped(number: u128) -> u64 {
    u64::try_from(number).unwrap_or(u64::MAX)
}

fn write_number(out: &mut Vec<u8>, number: u64) {
    out.extend_from_slice(itoa::Buffer::new().format(number).as_bytes());
}

/// Writes `whole.fraction`, the fraction with so many digits.
fn write_decimal(out: &mut Vec<u8>, whole: u64, fraction: u32, digits: usize) {
    write_number(out, whole);
    out.push(b'.');
    let mut buffer = itoa::Buffer::new();
    let fraction = buffer.format(fraction);
    out.resize(out.len() + digits.saturating_sub(fraction.len()), b'0');
    out.extend_from_slice(fraction.as_bytes());
}

fn write_field(out: &mut Vec<u8>, value: Option<&[u8]>) {
    match value {
        Some(value) => escape(out, value),
        None => out.push(b'-'),
    }
}

/// Writes bytes from outside: printable ASCII as it is, `\"` and `\\`, `\xHH` for the rest.
fn escape(out: &mut Vec<u8>, mut bytes: &[u8]) {
    let plain = |&b: &u8| matches!(b, b' '..=b'~') && b != b'"' && b != b'\\';
    loop {
        let end = bytes.iter().position(|b| !plain(b)).unwrap_or(bytes.len());
        let (head, tail) = bytes.split_at(end);
        out.extend_from_slice(head);
        let Some((&byte, rest)) = tail.split_first() else {
            return;
        };
        if byte == b'"' || byte == b'\\' {
            out.extend_from_slice(&[b'\\', byte]);
        } else {
            out.extend_from_slice(b"\\x");
            out.extend_from_slice(&hex(byte));
        }
        bytes = rest;
    }
}

fn hex(byte: u8) -> [u8; 2] {
    [byte >> 4, byte & 15].map(|digit| if digit < 10 { b'0' + digit } else { b'a' + digit - 10 })
}

/// credentials = "Basic" 1*SP token68, which is user-id ":" password in Base64 (RFC 7617 2). None
/// if it is anything else.
fn basic_user(credentials: &[u8]) -> Option<Vec<u8>> {
    let (scheme, rest) = credentials.split_at_checked(5)?;
    if !scheme.eq_ignore_ascii_case(b"basic") || rest.first() != Some(&b' ') {
        return None;
    }
    let mut decoded = base64(rest.trim_ascii())?;
    let colon = decoded.iter().position(|&b| b == b':')?;
    decoded.truncate(colon);
    (!decoded.is_empty()).then_some(decoded)
}

/// Decodes Base64 (RFC 4648 4), with or without its padding.
fn base64(text: &[u8]) -> Option<Vec<u8>> {
    let text = text.strip_suffix(b"==").or_else(|| text.strip_suffix(b"=")).unwrap_or(text);
    let mut decoded = Vec::with_capacity(text.len() / 4 * 3 + 2);
    for quad in text.chunks(4) {
        let mut bits = 0u32;
        for &b in quad {
            let six = match b {
                b'A'..=b'Z' => b - b'A',
                b'a'..=b'z' => b - b'a' + 26,
                b'0'..=b'9' => b - b'0' + 52,
                b'+' => 62,
                b'/' => 63,
                _ => return None,
            };
            bits = bits << 6 | u32::from(six);
        }
        let [_, a, b, c] = (bits << (6 * (4 - quad.len()))).to_be_bytes();
        match quad.len() {
            4 => decoded.extend_from_slice(&[a, b, c]),
            3 => decoded.extend_from_slice(&[a, b]),
            2 => decoded.push(a),
            _ => return None,
        }
    }
    Some(decoded)
}

fn write_json(out: &mut Vec<u8>, entry: &Entry<'_>) {
    let user = (entry.request)(AUTHORIZATION).and_then(basic_user);
    let texts: [(&str, Option<&[u8]>); 9] = [
        ("time", Some(entry.clock.rfc3339())),
        ("remote_addr", entry.remote.map(str::as_bytes)),
        ("user", user.as_deref()),
        ("method", Some(entry.method)),
        ("path", Some(entry.path)),
        ("query", Some(entry.query)),
        ("protocol", Some(entry.version)),
        ("referer", (entry.request)(REFERER)),
        ("user_agent", (entry.request)(USER_AGENT)),
    ];
    for (place, (name, text)) in texts.into_iter().enumerate() {
        out.extend_from_slice(if place == 0 { b"{\"" } else { b",\"" });
        out.extend_from_slice(name.as_bytes());
        out.extend_from_slice(b"\":");
        match text {
            Some(text) => json_string(out, text),
            None => out.extend_from_slice(b"null"),
        }
    }
    let numbers = [
        ("status", Some(entry.status.into())),
        ("bytes", entry.sent),
        ("worker", entry.worker.map(u64::from)),
    ];
    for (name, number) in numbers {
        json_name(out, name);
        match number {
            Some(number) => write_number(out, number),
            None => out.extend_from_slice(b"null"),
        }
    }
    for (name, duration) in [("duration", Some(entry.duration)), ("queue", entry.queued)] {
        json_name(out, name);
        match duration {
            Some(duration) => write_decimal(out, duration.as_secs(), duration.subsec_micros(), 6),
            None => out.extend_from_slice(b"null"),
        }
    }
    out.push(b'}');
}

fn json_name(out: &mut Vec<u8>, name: &str) {
    out.extend_from_slice(b",\"");
    out.extend_from_slice(name.as_bytes());
    out.extend_from_slice(b"\":");
}

/// Writes a JSON string. All control characters are escaped, also those beyond ASCII, which JSON
/// would let through to a terminal.
fn json_string(out: &mut Vec<u8>, bytes: &[u8]) {
    out.push(b'"');
    match std::str::from_utf8(bytes) {
        Ok(text) => text.chars().for_each(|c| json_char(out, c)),
        Err(_) => bytes.iter().for_each(|&b| json_char(out, b.into())),
    }
    out.push(b'"');
}

fn json_char(out: &mut Vec<u8>, c: char) {
    match c {
        '"' => out.extend_from_slice(b"\\\""),
        '\\' => out.extend_from_slice(b"\\\\"),
        // Below 256: control characters are in the first two blocks.
        c if c.is_control() => {
            out.extend_from_slice(b"\\u00");
            out.extend_from_slice(&hex(c as u8));
        }
        c => out.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes()),
    }
}

#[cfg(test)]
mod tests;
