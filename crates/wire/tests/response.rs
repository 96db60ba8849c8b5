//! What goes out.
#![allow(clippy::unwrap_used)]

use std::num::NonZeroU64;

use wire::{
    BadResponse, Connection, ResponseFraming, ResponseHead, standard_reason, write_chunk, write_chunk_header,
    write_head, write_interim, write_last_chunk,
};

const DATE: &[u8; 29] = b"Mon, 23 Nov 2026 03:54:15 GMT";

const HEAD: ResponseHead<'_> = ResponseHead {
    status: 200,
    reason: b"",
    framing: ResponseFraming::Length(5),
    connection: Some(Connection::KeepAlive),
    date: DATE,
    server: b"remuda",
};

type Pairs<'a> = &'a [(&'a str, &'a str)];

fn pairs<'a>(fields: Pairs<'a>) -> impl Iterator<Item = (&'a [u8], &'a [u8])> + Clone {
    fields.iter().map(|(name, value)| (name.as_bytes(), value.as_bytes()))
}

/// Writes behind bytes that must stay as they are.
fn written(head: &ResponseHead<'_>, fields: Pairs<'_>) -> Result<String, BadResponse> {
    let mut out = b"before".to_vec();
    let result = write_head(&mut out, head, pairs(fields));
    let text = String::from_utf8(out).unwrap().strip_prefix("before").unwrap().to_owned();
    match result {
        Ok(()) => Ok(text),
        Err(bad) => {
            assert_eq!(text, "", "an invalid head was written in part");
            Err(bad)
        }
    }
}

#[test]
fn the_servers_fields_come_before_the_applications() {
    assert_eq!(
        written(&HEAD, &[("Content-Type", "text/plain"), ("X-A", " b ")]).unwrap(),
        "HTTP/1.1 200 OK\r\nServer: remuda\r\nDate: Mon, 23 Nov 2026 03:54:15 GMT\r\nConnection: keep-alive\r\n\
         Content-Length: 5\r\nContent-Type: text/plain\r\nX-A: b\r\n\r\n"
    );
}

#[test]
fn the_framing_says_how_the_body_ends() {
    let framed =
        |framing| written(&ResponseHead { framing, connection: None, server: b"", ..HEAD }, &[]).unwrap();
    let start = "HTTP/1.1 200 OK\r\nDate: Mon, 23 Nov 2026 03:54:15 GMT\r\n";
    assert_eq!(framed(ResponseFraming::None), format!("{start}\r\n"));
    assert_eq!(framed(ResponseFraming::Close), format!("{start}\r\n"));
    assert_eq!(framed(ResponseFraming::Chunked), format!("{start}Transfer-Encoding: chunked\r\n\r\n"));
    assert_eq!(
        framed(ResponseFraming::Length(u64::MAX)),
        format!("{start}Content-Length: 18446744073709551615\r\n\r\n")
    );
}

#[test]
fn server_and_date_of_the_application_win() {
    let text = written(&HEAD, &[("server", "mine"), ("DATE", "today")]).unwrap();
    assert_eq!(
        text,
        "HTTP/1.1 200 OK\r\nConnection: keep-alive\r\nContent-Length: 5\r\nserver: mine\r\nDATE: today\r\n\r\n"
    );
}

#[test]
fn fields_of_the_connection_are_not_the_applications() {
    let own = [
        ("Connection", "close"),
        ("keep-alive", "timeout=5"),
        ("Proxy-Authorization", "x"),
        ("Proxy-Connection", "keep-alive"),
        ("TE", "trailers"),
        ("Transfer-Encoding", "chunked"),
        ("Upgrade", "h2c"),
        ("Content-Length", "99"),
    ];
    assert_eq!(written(&HEAD, &own), written(&HEAD, &[]));
}

#[test]
fn a_repeated_field_stays_repeated() {
    let text = written(&HEAD, &[("Set-Cookie", "a=1"), ("Set-Cookie", "b=2")]).unwrap();
    assert!(text.ends_with("Set-Cookie: a=1\r\nSet-Cookie: b=2\r\n\r\n"));
}

#[test]
fn a_field_name_that_is_no_token_is_not_written() {
    for name in ["", "A B", "A:", "A\r\nB", "A\n", "\u{e9}", "A\0", "(A)"] {
        let escaped = name.as_bytes().escape_ascii().to_string();
        assert_eq!(
            written(&HEAD, &[("X", "y"), (name, "v")]),
            Err(BadResponse::FieldName(escaped)),
            "{name:?}"
        );
    }
}

#[test]
fn a_field_value_with_a_control_character_is_not_written_nor_told() {
    for value in ["a\r\nSet-Cookie: b=c", "a\nb", "a\rb", "a\0b", "\x7f", "a\x1b[31m", "\r\n\r\n<html>"] {
        let bad = written(&HEAD, &[("X", "y"), ("Location", value)]).unwrap_err();
        assert_eq!(bad, BadResponse::FieldValue("Location".to_owned()), "{value:?}");
        assert_eq!(bad.to_string(), "control character in the value of header \"Location\"");
    }
}

#[test]
fn a_value_may_hold_tabs_and_bytes_beyond_ascii() {
    assert!(written(&HEAD, &[("X", "a\tb \u{e9}")]).unwrap().contains("X: a\tb \u{e9}\r\n"));
}

#[test]
fn the_reason_is_the_applications_or_the_standard_one() {
    let line = |status, reason: &[u8]| {
        written(&ResponseHead { status, reason, ..HEAD }, &[])
            .map(|text| text.split_once("\r\n").unwrap().0.to_owned())
    };
    assert_eq!(line(200, b"Fine").unwrap(), "HTTP/1.1 200 Fine");
    assert_eq!(line(404, b"").unwrap(), "HTTP/1.1 404 Not Found");
    assert_eq!(line(799, b"").unwrap(), "HTTP/1.1 799 ");
    assert_eq!(line(200, b"OK\r\nX: y"), Err(BadResponse::Reason("OK\\r\\nX: y".to_owned())));
    for status in [0, 99, 1000, u16::MAX] {
        assert_eq!(line(status, b"OK"), Err(BadResponse::Status(status)));
    }
}

#[test]
fn every_standard_reason_is_writable() {
    for status in 100..=999 {
        assert!(wire::is_field_value(standard_reason(status).as_bytes()));
    }
}

#[test]
fn an_interim_response_has_only_its_own_fields() {
    let mut out = Vec::new();
    write_interim(&mut out, 100, pairs(&[])).unwrap();
    write_interim(&mut out, 103, pairs(&[("Link", "</s.css>; rel=preload"), ("Content-Length", "5")]))
        .unwrap();
    assert_eq!(
        String::from_utf8(out).unwrap(),
        "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </s.css>; rel=preload\r\n\r\n"
    );
}

#[test]
fn an_invalid_interim_response_is_not_written() {
    let mut out = Vec::new();
    for status in [99, 101, 200] {
        assert_eq!(write_interim(&mut out, status, pairs(&[])), Err(BadResponse::Status(status)));
    }
    assert!(write_interim(&mut out, 103, pairs(&[("Link", "a\r\nb")])).is_err());
    assert!(out.is_empty());
}

#[test]
fn chunk_headers_are_hexadecimal_without_leading_zeros() {
    for (length, expected) in
        [(1, "1\r\n"), (15, "f\r\n"), (16, "10\r\n"), (0xABC, "abc\r\n"), (u64::MAX, "ffffffffffffffff\r\n")]
    {
        let mut out = Vec::new();
        write_chunk_header(&mut out, NonZeroU64::new(length).unwrap());
        assert_eq!(String::from_utf8(out).unwrap(), expected);
    }
}

#[test]
fn an_empty_chunk_does_not_end_the_body() {
    let mut out = Vec::new();
    write_chunk(&mut out, b"");
    assert!(out.is_empty());
    write_chunk(&mut out, b"hello");
    write_last_chunk(&mut out, pairs(&[])).unwrap();
    assert_eq!(out, b"5\r\nhello\r\n0\r\n\r\n");
}

#[test]
fn trailers_follow_the_last_chunk() {
    let mut out = b"x".to_vec();
    assert!(write_last_chunk(&mut out, pairs(&[("A", "b"), ("C", "d\n")])).is_err());
    write_last_chunk(&mut out, pairs(&[("ETag", "\"a\""), ("Content-Length", "1")])).unwrap();
    assert_eq!(out, b"x0\r\nETag: \"a\"\r\n\r\n");
}
