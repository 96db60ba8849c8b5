//! What the fields of a head say about the connection, rule by rule. Every head here is read
//! whole, byte by byte, and with bytes behind it; the three must agree.

mod support;

use support::{Outcome, head, status, verdict};
use wire::Framing;

/// A request line and Host, with more fields.
fn with(fields: &str) -> Vec<u8> {
    format!("POST /form HTTP/1.1\r\nHost: a\r\n{fields}\r\n").into_bytes()
}

#[track_caller]
fn assert_statuses(expected: u16, heads: &[&str]) {
    for head in heads {
        assert_eq!(status(head.as_bytes()), expected, "{head:?}");
    }
}

#[track_caller]
fn assert_field_statuses(expected: u16, fields: &[&str]) {
    for field in fields {
        assert_eq!(status(&with(field)), expected, "{field:?}");
    }
}

#[test]
fn a_field_name_is_a_token_before_a_colon() {
    assert_field_statuses(
        400,
        &[
            ": b\r\n",
            "A : b\r\n",
            "A\t: b\r\n",
            " A: b\r\n",
            "\tA: b\r\n",
            "A b: c\r\n",
            "A\r\n",
            "A;: b\r\n",
            "A\0: b\r\n",
            "\u{e9}: b\r\n",
            "(A): b\r\n",
            "A@: b\r\n",
            "\"A\": b\r\n",
            "A=b\r\n",
        ],
    );
}

#[test]
fn a_folded_line_is_refused() {
    assert_field_statuses(400, &["A: b\r\n c\r\n", "A: b\r\n\tc\r\n", "A:\r\n b\r\n", "A: b\r\n \r\n"]);
    assert_statuses(400, &["GET / HTTP/1.0\r\n A: b\r\n\r\n"]);
}

#[test]
fn a_field_value_has_no_control_character_but_tab() {
    for byte in (0u8..=255).filter(|&b| b != b'\r' && b != b'\n') {
        let head = [b"GET / HTTP/1.0\r\nA: 12345678", &[byte][..], b"b\r\n\r\n"].concat();
        if byte == b'\t' || (byte >= b' ' && byte != 0x7F) {
            assert!(matches!(verdict(&head), Outcome::Complete(_)), "{byte:#x}");
        } else {
            assert_eq!(status(&head), 400, "{byte:#x}");
        }
    }
}

#[test]
fn an_http_1_1_request_has_exactly_one_valid_host() {
    assert_statuses(
        400,
        &[
            "GET / HTTP/1.1\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n",
            "GET / HTTP/1.0\r\nhost: a\r\nHOST: b\r\n\r\n",
            "GET / HTTP/1.1\r\nHost:\r\n\r\n",
            "GET / HTTP/1.0\r\nHost: \r\n\r\n",
            "GET / HTTP/1.1\r\nHost: a b\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: a, b\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: u@a\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: a/b\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: http://a\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: [::1\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: a:99999\r\n\r\n",
            "GET http://a/ HTTP/1.1\r\n\r\n",
            "GET http://a/ HTTP/1.1\r\nHost: a b\r\n\r\n",
        ],
    );
}

#[test]
fn a_length_frames_the_body() {
    assert_eq!(head(&with("Content-Length: 42\r\n")).framing, Framing::Length(42));
    assert_eq!(head(&with("content-length:0\r\n")).framing, Framing::Length(0));
    assert_eq!(head(b"POST / HTTP/1.0\r\nContent-Length: 7\r\n\r\n").framing, Framing::Length(7));
}

#[test]
fn a_length_that_is_not_one_number_is_refused() {
    assert_field_statuses(
        400,
        &[
            "Content-Length: 5\r\nContent-Length: 5\r\n",
            "Content-Length: 5\r\nContent-Length: 6\r\n",
            "Content-Length: 5, 5\r\n",
            "Content-Length: +5\r\n",
            "Content-Length: -5\r\n",
            "Content-Length: 1_0\r\n",
            "Content-Length:\r\n",
            "Content-Length: 0x5\r\n",
            "Content-Length: 5 5\r\n",
            "Content-Length: five\r\n",
            "Content-Length: \u{662}\r\n",
        ],
    );
    assert_field_statuses(
        413,
        &["Content-Length: 9223372036854775808\r\n", "Content-Length: 99999999999999999999999\r\n"],
    );
}

#[test]
fn one_final_chunked_frames_the_body() {
    assert_eq!(head(&with("Transfer-Encoding: chunked\r\n")).framing, Framing::Chunked);
    assert_eq!(head(&with("TRANSFER-ENCODING:\tChunked \r\n")).framing, Framing::Chunked);
}

#[test]
fn any_other_transfer_encoding_is_refused() {
    assert_field_statuses(
        400,
        &[
            "Transfer-Encoding: chunked, chunked\r\n",
            "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n",
            "Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n",
            "Transfer-Encoding:\r\n",
            "Transfer-Encoding: ,chunked\r\n",
            "Transfer-Encoding: chunked;a=b\r\n",
            "Transfer-Encoding: \"chunked\"\r\n",
            "Transfer-Encoding: chunked\x0b\r\n",
            "Transfer-Encoding: chunked\r\n \r\n",
            "Transfer-Encoding : chunked\r\n",
        ],
    );
    assert_field_statuses(
        501,
        &[
            "Transfer-Encoding: gzip, chunked\r\n",
            "Transfer-Encoding: chunked, gzip\r\n",
            "Transfer-Encoding: identity\r\n",
            "Transfer-Encoding: identity, chunked\r\n",
            "Transfer-Encoding: xchunked\r\n",
            "Transfer-Encoding: gzip\r\nTransfer-Encoding: chunked\r\n",
        ],
    );
    assert_statuses(400, &["POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n"]);
}

#[test]
fn a_body_framed_in_two_ways_is_refused() {
    assert_field_statuses(
        400,
        &[
            "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n",
            "Transfer-Encoding: chunked\r\nContent-Length: 5\r\n",
            "Transfer-Encoding: chunked\r\nContent-Length: 0\r\n",
        ],
    );
}

#[test]
fn a_repeated_content_type_is_refused() {
    assert_field_statuses(400, &["Content-Type: a/b\r\ncontent-type: a/b\r\n"]);
}

#[test]
fn close_wins_over_keep_alive() {
    for (fields, stays) in [
        ("", true),
        ("Connection: close\r\n", false),
        ("Connection: Close\r\n", false),
        ("Connection: keep-alive\r\n", true),
        ("Connection: keep-alive, close\r\n", false),
        ("Connection: close\r\nConnection: keep-alive\r\n", false),
        ("Connection: keep-alive\r\nConnection: foo , CLOSE\r\n", false),
        ("Connection: closed\r\n", true),
        ("Connection:\r\n", true),
        ("Connection: , ,TE\r\n", true),
    ] {
        assert_eq!(head(&with(fields)).keep_alive, stays, "{fields:?}");
    }
    assert_field_statuses(
        400,
        &["Connection: close;a\r\n", "Connection: keep alive\r\n", "Connection: \"close\"\r\n"],
    );
}

#[test]
fn only_a_body_that_is_to_come_is_worth_a_100() {
    assert!(head(&with("Expect: 100-Continue\r\nContent-Length: 1\r\n")).expect_continue);
    assert!(head(&with("Transfer-Encoding: chunked\r\nExpect: 100-continue\r\n")).expect_continue);
    assert!(!head(&with("Expect: 100-continue\r\n")).expect_continue);
    assert!(!head(&with("Expect: 100-continue\r\nContent-Length: 0\r\n")).expect_continue);
    assert!(!head(b"POST / HTTP/1.0\r\nExpect: 100-continue\r\nContent-Length: 1\r\n\r\n").expect_continue);
}

#[test]
fn an_unknown_expectation_gets_417() {
    assert_field_statuses(
        417,
        &[
            "Expect: 200-ok\r\n",
            "Expect:\r\n",
            "Expect: 100-continue, x\r\n",
            "Expect: 100-continue\r\nExpect: 100-continue\r\n",
        ],
    );
}

#[test]
fn an_upgrade_counts_only_if_connection_names_it() {
    let asked = head(&with("Upgrade: websocket\r\nConnection: keep-alive, Upgrade\r\n"));
    assert_eq!(asked.upgrade.as_deref(), Some("websocket"));
    assert_eq!(head(&with("Upgrade: websocket\r\n")).upgrade, None);
    assert_eq!(head(&with("Connection: upgrade\r\n")).upgrade, None);
    let old = head(b"GET / HTTP/1.0\r\nUpgrade: h2c\r\nConnection: upgrade\r\n\r\n");
    assert_eq!(old.upgrade, None);
}
