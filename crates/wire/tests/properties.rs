//! What must hold for all bytes and all ways of cutting them into pieces.
#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

mod support;

use proptest::prelude::*;
use support::{Body, Outcome, read_body, read_in_pieces, verdict};
use wire::{
    Connection, Framing, Limits, ResponseFraming, ResponseHead, is_field_value, is_token, write_chunk,
    write_head, write_last_chunk,
};

type Pairs = Vec<(String, String)>;
/// Status, reason and fields.
type Response = (u16, Vec<u8>, Vec<(Vec<u8>, Vec<u8>)>);

fn field() -> impl Strategy<Value = (String, String)> {
    (
        "x-[!#$%&'*+.^_`|~0-9A-Za-z-]{1,20}",
        "([!-~\u{80}-\u{ff}]([ -~\t\u{80}-\u{ff}]{0,60}[!-~\u{80}-\u{ff}])?)?",
    )
}

fn fields() -> impl Strategy<Value = Pairs> {
    prop::collection::vec(field(), 0..12)
}

fn latin1(text: &str) -> Vec<u8> {
    text.chars().map(|c| u8::try_from(c).unwrap()).collect()
}

#[derive(Clone, Debug)]
struct Request {
    method: String,
    path: String,
    query: Option<String>,
    host: String,
    fields: Pairs,
    body: Framing,
    white_space: (String, String),
}

fn request() -> impl Strategy<Value = Request> {
    (
        "[A-Z-]{1,10}".prop_filter("CONNECT is refused", |method| method != "CONNECT"),
        "/[!\"$-\\]_-~]{0,40}".prop_map(|path| path.replace('?', "")),
        prop::option::of("[!\"$-~]{0,40}"),
        "[a-z0-9.-]{1,20}(:[0-9]{1,4})?",
        fields(),
        prop_oneof![
            Just(Framing::None),
            (0..=i64::MAX as u64).prop_map(Framing::Length),
            Just(Framing::Chunked)
        ],
        ("[ \t]{0,3}", "[ \t]{0,3}"),
    )
        .prop_map(|(method, path, query, host, fields, body, white_space)| Request {
            method,
            path,
            query,
            host,
            fields,
            body,
            white_space,
        })
}

impl Request {
    fn target(&self) -> String {
        match &self.query {
            Some(query) => format!("{}?{query}", self.path),
            None => self.path.clone(),
        }
    }

    fn all_fields(&self) -> Pairs {
        let mut all = vec![("Host".to_owned(), self.host.clone())];
        all.extend(self.fields.iter().cloned());
        match self.body {
            Framing::None => {}
            Framing::Length(length) => all.push(("content-length".to_owned(), length.to_string())),
            Framing::Chunked => all.push(("transfer-encoding".to_owned(), "CHUNKED".to_owned())),
        }
        all
    }

    fn bytes(&self) -> Vec<u8> {
        let (before, after) = &self.white_space;
        let mut text = format!("{} {} HTTP/1.1\r\n", self.method, self.target());
        for (name, value) in self.all_fields() {
            text += &format!("{name}:{before}{value}{after}\r\n");
        }
        latin1(&(text + "\r\n"))
    }
}

fn cuts(most: usize) -> impl Strategy<Value = Vec<prop::sample::Index>> {
    prop::collection::vec(any::<prop::sample::Index>(), 0..most)
}

fn places(cuts: &[prop::sample::Index], length: usize) -> Vec<usize> {
    let mut places: Vec<usize> = cuts.iter().map(|cut| cut.index(length + 1)).collect();
    places.sort_unstable();
    places
}

/// Bytes that get far into the readers: pieces of requests and of mistakes.
fn hostile() -> impl Strategy<Value = Vec<u8>> {
    let piece = prop_oneof![
        8 => prop::sample::select(vec![
            "GET ", "POST ", "OPTIONS ", "/", "* ", "http://", "a", " HTTP/1.1\r\n", " HTTP/1.0\r\n", "Host: a\r\n", "\r\n",
            "\r", "\n", ":", " ", "\t", "Content-Length: ", "5", "\r\n\r\n", "Transfer-Encoding: chunked\r\n", "Expect: ",
            "100-continue\r\n", "Connection: close\r\n", "Upgrade: x\r\n", ",", ";", "\"", "0\r\n", "ffff", "x: y\r\n", "[::1]",
            "@", "%", "\0",
        ]).prop_map(|piece| piece.as_bytes().to_vec()),
        1 => prop::collection::vec(any::<u8>(), 1..8),
    ];
    prop::collection::vec(piece, 0..24).prop_map(|pieces| pieces.concat())
}

fn small_limits() -> impl Strategy<Value = Limits> {
    (1..60usize, 0..5usize, 1..40usize, 1..120usize, 0..12usize, 0..60usize).prop_map(
        |(request_line, fields, field_size, head, chunk_extension, trailers)| Limits {
            request_line,
            fields,
            field_size,
            head,
            chunk_extension,
            trailers,
            trailer_fields: fields,
        },
    )
}

fn any_limits() -> impl Strategy<Value = Limits> {
    prop_oneof![Just(Limits::default()), small_limits()]
}

/// Reads a response head as strictly as a client could.
fn parse_response(bytes: &[u8]) -> Option<Response> {
    let text = bytes.strip_suffix(b"\r\n\r\n")?;
    let mut lines = Vec::new();
    let mut rest = text;
    while let Some(end) = rest.windows(2).position(|pair| pair == b"\r\n") {
        lines.push(&rest[..end]);
        rest = &rest[end + 2..];
    }
    lines.push(rest);
    if lines.iter().any(|line| line.iter().any(|&b| (b < b' ' && b != b'\t') || b == 0x7F)) {
        return None;
    }
    let line = lines[0].strip_prefix(b"HTTP/1.1 ")?;
    let status = std::str::from_utf8(line.get(..3)?).ok()?.parse().ok()?;
    let reason = line.get(3..)?.strip_prefix(b" ")?.to_vec();
    let fields = lines[1..]
        .iter()
        .map(|line| {
            let colon = line.iter().position(|&b| b == b':')?;
            let (name, value) = (&line[..colon], line[colon + 1..].strip_prefix(b" ")?);
            is_token(name).then(|| (name.to_vec(), value.to_vec()))
        })
        .collect::<Option<_>>()?;
    Some((status, reason, fields))
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_valid_head_is_read_as_it_was_meant_however_it_is_cut(request in request(), cuts in cuts(8)) {
        let bytes = request.bytes();
        let whole = verdict(&bytes);
        prop_assert_eq!(&read_in_pieces(&bytes, places(&cuts, bytes.len()), &Limits::default()), &whole);
        let Outcome::Complete(seen) = whole else { return Err(TestCaseError::fail(format!("{whole:?}"))) };
        prop_assert_eq!(seen.end, bytes.len());
        prop_assert_eq!(seen.target, request.target());
        prop_assert_eq!(seen.query, request.query.clone().unwrap_or_default());
        prop_assert_eq!(seen.host.as_deref(), Some(request.host.as_str()));
        prop_assert_eq!(seen.framing, request.body);
        prop_assert_eq!(seen.fields, request.all_fields());
        prop_assert_eq!(seen.path, request.path);
        prop_assert_eq!(seen.method, request.method);
    }

    #[test]
    fn arbitrary_bytes_get_the_same_verdict_however_they_are_cut(
        bytes in hostile(), cuts in cuts(8), limits in any_limits(),
    ) {
        let whole = read_in_pieces(&bytes, [], &limits);
        prop_assert_eq!(&read_in_pieces(&bytes, places(&cuts, bytes.len()), &limits), &whole);
        prop_assert_eq!(&read_in_pieces(&bytes, 0..bytes.len(), &limits), &whole);
    }

    #[test]
    fn a_complete_head_keeps_what_it_promises(bytes in hostile(), limits in any_limits()) {
        if let Outcome::Complete(seen) = read_in_pieces(&bytes, [], &limits) {
            prop_assert!(seen.end <= limits.head);
            prop_assert!(seen.fields.len() <= limits.fields);
            prop_assert!(is_token(seen.method.as_bytes()));
            prop_assert!(!seen.path.is_empty());
            let lengths = seen.fields.iter().filter(|(name, _)| name.eq_ignore_ascii_case("content-length")).count();
            let codings = seen.fields.iter().filter(|(name, _)| name.eq_ignore_ascii_case("transfer-encoding")).count();
            let expected = match seen.framing {
                Framing::None => (0, 0),
                Framing::Length(_) => (1, 0),
                Framing::Chunked => (0, 1),
            };
            prop_assert_eq!((lengths, codings), expected);
            for (name, value) in &seen.fields {
                prop_assert!(is_token(name.as_bytes()));
                prop_assert!(is_field_value(&latin1(value)));
            }
        }
    }

    #[test]
    fn arbitrary_chunks_get_the_same_verdict_however_they_are_cut(
        bytes in hostile(), cuts in cuts(8), limits in any_limits(),
    ) {
        let bytes = [b"5\r\nhello\r\n".as_slice(), &bytes].concat();
        let whole = read_body(Framing::Chunked, &bytes, [], &limits);
        prop_assert_eq!(&read_body(Framing::Chunked, &bytes, places(&cuts, bytes.len()), &limits), &whole);
        prop_assert_eq!(&read_body(Framing::Chunked, &bytes, 0..bytes.len(), &limits), &whole);
    }

    #[test]
    fn what_is_written_in_chunks_is_read_back_however_it_is_cut(
        pieces in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..300), 0..8),
        trailers in fields(), cuts in cuts(12), behind in hostile(),
    ) {
        let mut bytes = Vec::new();
        for piece in &pieces {
            write_chunk(&mut bytes, piece);
        }
        let raw: Vec<_> = trailers.iter().map(|(name, value)| (latin1(name), latin1(value))).collect();
        write_last_chunk(&mut bytes, raw.iter().map(|(n, v)| (n.as_slice(), v.as_slice()))).unwrap();
        let expected = Body::Complete { data: pieces.concat(), trailers, end: bytes.len() };
        bytes.extend_from_slice(&behind);
        let read = read_body(Framing::Chunked, &bytes, places(&cuts, bytes.len()), &Limits::default());
        prop_assert_eq!(read, expected);
    }

    #[test]
    fn a_length_takes_exactly_its_bytes(
        data in prop::collection::vec(any::<u8>(), 0..300), behind in prop::collection::vec(any::<u8>(), 0..20), cuts in cuts(6),
    ) {
        let bytes = [data.as_slice(), &behind].concat();
        let read = read_body(Framing::Length(data.len() as u64), &bytes, places(&cuts, bytes.len()), &Limits::default());
        prop_assert_eq!(read, Body::Complete { end: data.len(), data, trailers: vec![] });
    }

    #[test]
    fn a_written_response_is_read_back(
        status in 100u16..=999, reason in "[!-~][ -~]{0,20}", fields in fields(), length in any::<u64>(),
    ) {
        let head = ResponseHead {
            status,
            reason: reason.as_bytes(),
            framing: ResponseFraming::Length(length),
            connection: Some(Connection::Close),
            date: b"Mon, 23 Nov 2026 03:54:15 GMT",
            server: b"remuda",
        };
        let mut expected: Vec<_> = [
            ("Server", "remuda"), ("Date", "Mon, 23 Nov 2026 03:54:15 GMT"), ("Connection", "close"),
            ("Content-Length", &length.to_string()),
        ].map(|(n, v)| (n.as_bytes().to_vec(), v.as_bytes().to_vec())).to_vec();
        expected.extend(fields.iter().map(|(name, value)| (latin1(name), latin1(value))));
        let mut out = Vec::new();
        write_head(&mut out, &head, expected[4..].iter().map(|(n, v)| (n.as_slice(), v.as_slice()))).unwrap();
        prop_assert_eq!(parse_response(&out), Some((status, reason.into_bytes(), expected)));
    }

    #[test]
    fn whatever_an_application_sends_is_written_strictly_or_not_at_all(
        reason in prop::collection::vec(any::<u8>(), 0..10),
        fields in prop::collection::vec(
            (prop_oneof![3 => "[A-Za-z-]{1,8}".prop_map(String::into_bytes), 1 => prop::collection::vec(any::<u8>(), 0..8)],
             prop_oneof![3 => "[ -~]{0,20}".prop_map(String::into_bytes), 1 => prop::collection::vec(any::<u8>(), 0..20)]),
            0..6,
        ),
    ) {
        let head = ResponseHead {
            status: 200,
            reason: &reason,
            framing: ResponseFraming::Chunked,
            connection: None,
            date: b"Mon, 23 Nov 2026 03:54:15 GMT",
            server: b"remuda",
        };
        let mut out = Vec::new();
        match write_head(&mut out, &head, fields.iter().map(|(n, v)| (n.as_slice(), v.as_slice()))) {
            Ok(()) => {
                let (_, _, seen) = parse_response(&out).unwrap();
                prop_assert_eq!(seen.iter().filter(|(n, _)| n.eq_ignore_ascii_case(b"transfer-encoding")).count(), 1);
                prop_assert!(!seen.iter().any(|(n, _)| n.eq_ignore_ascii_case(b"content-length")));
            }
            Err(_) => prop_assert!(out.is_empty()),
        }
    }
}
