//! The body reader, rule by rule. Every body here is read whole, byte by byte, and with bytes
//! behind it; the three must agree.
#![allow(clippy::unwrap_used, clippy::panic)]

mod support;

use support::{Body, body_with};
use wire::body::EXTENSION_ALLOWANCE;
use wire::{BodyReader, Framing, Limits};

#[track_caller]
fn chunked(bytes: &str) -> Body {
    body_with(Framing::Chunked, bytes.as_bytes(), &Limits::default())
}

#[track_caller]
fn data(bytes: &str) -> String {
    match chunked(bytes) {
        Body::Complete { data, .. } => String::from_utf8(data).unwrap(),
        other => panic!("{other:?}"),
    }
}

#[track_caller]
fn status_with(bytes: &str, limits: &Limits) -> u16 {
    match body_with(Framing::Chunked, bytes.as_bytes(), limits) {
        Body::Refused { reject, .. } => reject.status(),
        other => panic!("{bytes:?}: {other:?}"),
    }
}

#[track_caller]
fn status(bytes: &str) -> u16 {
    status_with(bytes, &Limits::default())
}

#[test]
fn no_body_is_done_at_once() {
    for framing in [Framing::None, Framing::Length(0)] {
        assert!(BodyReader::new(framing).is_done());
        let expected = Body::Complete { data: vec![], trailers: vec![], end: 0 };
        assert_eq!(body_with(framing, b"GET /next", &Limits::default()), expected);
    }
}

#[test]
fn a_length_is_read_to_its_last_byte_and_no_further() {
    let expected = Body::Complete { data: b"hello".to_vec(), trailers: vec![], end: 5 };
    assert_eq!(body_with(Framing::Length(5), b"hello", &Limits::default()), expected);
    let expected = Body::Incomplete { data: b"hell".to_vec() };
    assert_eq!(body_with(Framing::Length(5), b"hell", &Limits::default()), expected);
}

#[test]
fn chunks_are_joined() {
    assert_eq!(data("5\r\nhello\r\n7\r\n, world\r\n0\r\n\r\n"), "hello, world");
    assert_eq!(data("0\r\n\r\n"), "");
    assert_eq!(data("A\r\n0123456789\r\na\r\n0123456789\r\n000\r\n\r\n"), "01234567890123456789");
    assert_eq!(data("0000000000000005\r\nhello\r\n0000000000000000\r\n\r\n"), "hello");
}

#[test]
fn chunk_data_may_look_like_chunks() {
    assert_eq!(data("7\r\n0\r\n\r\n\r\n\r\n0\r\n\r\n"), "0\r\n\r\n\r\n");
}

#[test]
fn a_chunk_size_is_hexadecimal_digits_only() {
    for size in [
        "",
        " 5",
        "5 ",
        "+5",
        "-5",
        "0x5",
        "5_0",
        "g",
        "\t5",
        "5\t",
        "\u{665}",
        "5h",
        "0 ",
        "00000000000000005",
        "5\0",
        "8000000000000000",
        "ffffffffffffffff",
        "10000000000000000",
    ] {
        assert_eq!(status(&format!("{size}\r\nhello\r\n0\r\n\r\n")), 400, "{size:?}");
    }
}

#[test]
fn an_endless_chunk_size_is_refused() {
    assert_eq!(status(&"0".repeat(17)), 400);
    assert_eq!(status(&"1".repeat(17)), 400);
}

#[test]
fn every_line_of_a_chunk_ends_with_crlf() {
    for body in [
        "5\nhello\r\n0\r\n\r\n",
        "5\rhello\r\n0\r\n\r\n",
        "5\r\nhello\n0\r\n\r\n",
        "5\r\nhello\r0\r\n\r\n",
        "5\r\nhello0\r\n\r\n",
        "5\r\nhello!\r\n0\r\n\r\n",
        "5\r\nhello\r\n0\n\r\n",
        "5\r\nhello\r\n0\r\n\n",
        "5\r\nhello\r\n0\r\n\rx",
        "5\r\nhello\r\n\r\n0\r\n\r\n",
        "\r\n5\r\nhello\r\n0\r\n\r\n",
        "5\r\r\nhello\r\n0\r\n\r\n",
    ] {
        assert_eq!(status(body), 400, "{body:?}");
    }
}

#[test]
fn chunk_extensions_are_ignored() {
    assert_eq!(data("5;a\r\nhello\r\n0;b=c;d=\"e f\"\r\n\r\n"), "hello");
    assert_eq!(data("5;\r\nhello\r\n0\r\n\r\n"), "hello");
    assert_eq!(data("5;a=\u{e9}\t;\r\nhello\r\n0\r\n\r\n"), "hello");
}

#[test]
fn a_chunk_extension_holds_no_control_character() {
    for hidden in ["\n", "\0", "\r", "\x7f", "\x0b", "a\nb", "\"\n\"", "\r\r\n", "\x1f"] {
        assert_eq!(status(&format!("5;{hidden}\r\nhello\r\n0\r\n\r\n")), 400, "{hidden:?}");
        assert_eq!(status(&format!("5\r\nhello\r\n0;{hidden}\r\n\r\n")), 400, "{hidden:?}");
    }
}

#[test]
fn a_long_chunk_extension_is_refused_before_it_ends() {
    let limits = Limits { chunk_extension: 4, ..Limits::default() };
    let fits = body_with(Framing::Chunked, b"1;1234\r\nx\r\n0;1234\r\n\r\n", &limits);
    assert!(matches!(fits, Body::Complete { .. }));
    assert_eq!(status_with("1;12345\r\nx\r\n0\r\n\r\n", &limits), 400);
    assert_eq!(status_with("1;12345", &limits), 400);
    assert_eq!(status(&format!("1;{}", "a".repeat(257))), 400);
}

#[test]
fn extensions_must_not_outweigh_the_data() {
    let extension = "a".repeat(200);
    let light = format!("c8;{extension}\r\n{extension}\r\n").repeat(1000) + "0\r\n\r\n";
    assert_eq!(data(&light).len(), 200_000);
    let heavy = format!("1;{extension}\r\nx\r\n").repeat(1000) + "0\r\n\r\n";
    let Body::Refused { data, reject } = chunked(&heavy) else { panic!("not refused") };
    assert_eq!(reject.status(), 400);
    assert_eq!(data.len() as u64, EXTENSION_ALLOWANCE / 200);
}

#[test]
fn trailers_are_kept_apart() {
    let Body::Complete { data, trailers, end } = chunked("1\r\nx\r\n0\r\nETag: \"a\" \r\nX-Sum:1\r\n\r\n")
    else {
        panic!("not complete")
    };
    assert_eq!((data.as_slice(), end), (&b"x"[..], 32));
    let expected = [("ETag", "\"a\""), ("X-Sum", "1")].map(|(n, v)| (n.to_owned(), v.to_owned()));
    assert_eq!(trailers, expected);
}

#[test]
fn a_trailer_obeys_the_grammar_of_fields() {
    for trailer in ["A : b", " A: b", "A", ": b", "A: \0", "A: b\n", "A: b\rC: d", "A: b\r\n c", "A\n: b"] {
        assert_eq!(status(&format!("0\r\n{trailer}\r\n\r\n")), 400, "{trailer:?}");
    }
}

#[test]
fn a_trailer_that_would_change_the_framing_or_the_sender_is_refused() {
    for name in ["Transfer-Encoding", "content-length", "HOST", "Trailer", "Authorization", "TE"] {
        assert_eq!(status(&format!("0\r\n{name}: 1\r\n\r\n")), 400, "{name}");
    }
}

#[test]
fn trailers_over_their_limits_are_refused_before_they_end() {
    let limits = Limits { trailers: 20, trailer_fields: 2, ..Limits::default() };
    let outcome =
        |trailers: &str| body_with(Framing::Chunked, format!("0\r\n{trailers}").as_bytes(), &limits);
    assert!(matches!(outcome("A: 1\r\nB: 1234567\r\n\r\n"), Body::Complete { .. }));
    assert_eq!(status_with("0\r\nA: 1\r\nB: 12345678\r\n\r\n", &limits), 431);
    assert_eq!(status_with("0\r\nA: 1\r\nB: 12345678\r\n\r", &limits), 431);
    assert_eq!(status_with("0\r\nA:1\r\nB:2\r\nC", &limits), 431);
    assert_eq!(status(&format!("0\r\nA: {}", "b".repeat(8190))), 431);
}

#[test]
fn an_unfinished_body_is_not_done() {
    for body in [
        "",
        "5",
        "5\r",
        "5\r\n",
        "5\r\nhel",
        "5\r\nhello",
        "5\r\nhello\r",
        "5\r\nhello\r\n",
        "0",
        "0\r\n",
        "0\r\n\r",
    ] {
        assert!(matches!(chunked(body), Body::Incomplete { .. }), "{body:?}");
    }
    assert!(matches!(chunked("0\r\nA: b\r\n"), Body::Incomplete { .. }));
}
