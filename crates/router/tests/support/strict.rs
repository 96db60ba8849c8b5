//! A small reader of HTTP/1.1 responses that forgives nothing.

/// How the body was framed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Framed {
    /// There cannot be one, or none was announced.
    None,
    /// By Content-Length.
    Length,
    /// In chunks.
    Chunked,
    /// By the end of the connection.
    Close,
}

/// One final response, and the interim ones before it.
#[derive(Debug, Clone)]
pub struct Parsed {
    /// The statuses of the interim responses.
    pub interim: Vec<u16>,
    pub status: u16,
    /// Names in lower case.
    pub fields: Vec<(String, Vec<u8>)>,
    pub body: Vec<u8>,
    pub trailers: Vec<(String, Vec<u8>)>,
    pub framed: Framed,
    /// How many bytes all of it took.
    pub len: usize,
}

impl Parsed {
    /// The value of a field that comes once at the most.
    pub fn field(&self, name: &str) -> Option<&[u8]> {
        let mut values = self.fields.iter().filter(|(other, _)| other == name);
        let value = values.next().map(|(_, value)| value.as_slice());
        assert!(values.next().is_none(), "{name} comes more than once");
        value
    }

    /// Does the server say that the connection stays?
    pub fn keeps_alive(&self) -> bool {
        match self.field("connection") {
            Some(b"keep-alive") => true,
            Some(b"close") => false,
            other => panic!("Connection is {other:?}"),
        }
    }
}

/// Read one response from the front of `bytes`. `None`: so far it is well-formed, but there is more to
/// come. `ended`: no more bytes will come.
///
/// # Errors
/// What is not well-formed.
pub fn parse(bytes: &[u8], head_only: bool, ended: bool) -> Result<Option<Parsed>, String> {
    let mut interim = Vec::new();
    let mut at = 0;
    let (status, fields) = loop {
        let Some(head) = read_head(&bytes[at..])? else { return Ok(None) };
        at += head.len;
        if (100..200).contains(&head.status) {
            interim.push(head.status);
            if head.fields.iter().any(|(name, _)| name == "content-length" || name == "transfer-encoding") {
                return Err("an interim response with a body".to_owned());
            }
            continue;
        }
        break (head.status, head.fields);
    };
    let mut lengths = fields.iter().filter(|(name, _)| name == "content-length");
    let length = match lengths.next() {
        None => None,
        Some((_, value)) => {
            let text = std::str::from_utf8(value).map_err(|error| error.to_string())?;
            if text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_digit()) {
                return Err(format!("Content-Length {text:?}"));
            }
            Some(text.parse::<u64>().map_err(|error| error.to_string())?)
        }
    };
    if lengths.next().is_some() {
        return Err("two Content-Lengths".to_owned());
    }
    let codings: Vec<_> = fields.iter().filter(|(name, _)| name == "transfer-encoding").collect();
    let chunked = match codings.as_slice() {
        [] => false,
        [(_, value)] if value == b"chunked" => true,
        other => return Err(format!("Transfer-Encoding {other:?}")),
    };
    if chunked && length.is_some() {
        return Err("framed in two ways".to_owned());
    }
    if status == 204 && (chunked || length.is_some()) {
        return Err("a 204 with a body".to_owned());
    }
    let mut parsed = Parsed {
        interim,
        status,
        fields,
        body: Vec::new(),
        trailers: Vec::new(),
        framed: Framed::None,
        len: at,
    };
    if head_only || matches!(status, 204 | 304) {
        return Ok(Some(parsed));
    }
    let rest = &bytes[at..];
    if chunked {
        parsed.framed = Framed::Chunked;
        let Some(len) = read_chunks(rest, &mut parsed)? else { return Ok(None) };
        parsed.len += len;
    } else if let Some(length) = length {
        parsed.framed = Framed::Length;
        let length = usize::try_from(length).map_err(|error| error.to_string())?;
        let Some(body) = rest.get(..length) else { return Ok(None) };
        parsed.body = body.to_vec();
        parsed.len += length;
    } else {
        parsed.framed = Framed::Close;
        if !ended {
            return Ok(None);
        }
        parsed.body = rest.to_vec();
        parsed.len = bytes.len();
    }
    Ok(Some(parsed))
}

struct Head {
    status: u16,
    fields: Vec<(String, Vec<u8>)>,
    len: usize,
}

/// The line that begins at the front, without its CRLF. `None`: it is not complete.
fn line(bytes: &[u8]) -> Result<Option<&[u8]>, String> {
    let end = bytes.iter().position(|byte| *byte == b'\n' || *byte == b'\r' || *byte == 0);
    match end {
        None => Ok(None),
        Some(end) if bytes[end] == b'\r' => match bytes.get(end + 1) {
            None => Ok(None),
            Some(b'\n') => Ok(Some(&bytes[..end])),
            Some(_) => Err("CR alone".to_owned()),
        },
        Some(end) => Err(format!("byte {} in a line", bytes[end])),
    }
}

fn read_head(bytes: &[u8]) -> Result<Option<Head>, String> {
    let start = b"HTTP/1.1 ";
    let common = start.len().min(bytes.len());
    if bytes[..common] != start[..common] {
        return Err(format!("no status line: {:?}", String::from_utf8_lossy(&bytes[..bytes.len().min(40)])));
    }
    let Some(first) = line(bytes)? else { return Ok(None) };
    let code = first.get(9..12).ok_or("no status")?;
    if !code.iter().all(u8::is_ascii_digit) || first.get(12) != Some(&b' ') {
        return Err("a malformed status line".to_owned());
    }
    let status = std::str::from_utf8(code).unwrap().parse().unwrap();
    let mut at = first.len() + 2;
    let Some((fields, len)) = read_fields(&bytes[at..])? else { return Ok(None) };
    at += len;
    Ok(Some(Head { status, fields, len: at }))
}

type Fields = Vec<(String, Vec<u8>)>;

fn read_fields(bytes: &[u8]) -> Result<Option<(Fields, usize)>, String> {
    let mut fields = Vec::new();
    let mut at = 0;
    loop {
        let Some(line) = line(&bytes[at..])? else { return Ok(None) };
        at += line.len() + 2;
        if line.is_empty() {
            return Ok(Some((fields, at)));
        }
        let colon = line.iter().position(|byte| *byte == b':').ok_or("a field without a colon")?;
        let name = &line[..colon];
        let is_token = |byte: &u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(byte);
        if name.is_empty() || !name.iter().all(is_token) {
            return Err(format!("the name {:?}", String::from_utf8_lossy(name)));
        }
        let name = String::from_utf8(name.to_ascii_lowercase()).unwrap();
        fields.push((name, line[colon + 1..].trim_ascii().to_vec()));
    }
}

fn read_chunks(bytes: &[u8], parsed: &mut Parsed) -> Result<Option<usize>, String> {
    let mut at = 0;
    loop {
        let Some(size) = line(&bytes[at..])? else { return Ok(None) };
        if size.is_empty() || !size.iter().all(u8::is_ascii_hexdigit) {
            return Err(format!("the chunk size {:?}", String::from_utf8_lossy(size)));
        }
        at += size.len() + 2;
        let size = u64::from_str_radix(std::str::from_utf8(size).unwrap(), 16).map_err(|e| e.to_string())?;
        if size == 0 {
            let Some((trailers, len)) = read_fields(&bytes[at..])? else { return Ok(None) };
            parsed.trailers = trailers;
            return Ok(Some(at + len));
        }
        let size = usize::try_from(size).map_err(|error| error.to_string())?;
        let Some(data) = bytes[at..].get(..size) else { return Ok(None) };
        parsed.body.extend_from_slice(data);
        at += size;
        let end = &bytes[at..];
        match end {
            [b'\r', b'\n', ..] => at += 2,
            [] | [b'\r'] => return Ok(None),
            _ => return Err("a chunk without its end".to_owned()),
        }
    }
}
