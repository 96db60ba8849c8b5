//! The head reader, rule by rule. Every head here is read whole, byte by byte, and with bytes
//! behind it; the three must agree.

mod support;

use support::{Outcome, head, refused, status, verdict};
use wire::{Form, Framing, Limits, Version};

fn with_line(line: &str) -> Vec<u8> {
    format!("{line}\r\nHost: a\r\n\r\n").into_bytes()
}

#[track_caller]
fn assert_statuses(expected: u16, heads: &[&str]) {
    for head in heads {
        assert_eq!(status(head.as_bytes()), expected, "{head:?}");
    }
}

#[test]
fn a_simple_request_is_read() {
    let seen = head(b"GET /a/b?c=d&e HTTP/1.1\r\nHost: example.com:8000\r\nX-A:  1 \t\r\nx-b:\r\n\r\n");
    assert_eq!(seen.method, "GET");
    assert_eq!(seen.target, "/a/b?c=d&e");
    assert_eq!((seen.form, seen.path.as_str(), seen.query.as_str()), (Form::Origin, "/a/b", "c=d&e"));
    assert_eq!(seen.host.as_deref(), Some("example.com:8000"));
    assert_eq!(seen.authority, None);
    assert_eq!(seen.version, Version::Http11);
    assert_eq!(seen.framing, Framing::None);
    assert!(seen.keep_alive);
    assert!(!seen.expect_continue);
    assert_eq!(seen.upgrade, None);
    let fields: Vec<_> = seen.fields.iter().map(|(n, v)| (n.as_str(), v.as_str())).collect();
    assert_eq!(fields, [("Host", "example.com:8000"), ("X-A", "1"), ("x-b", "")]);
}

#[test]
fn http_1_0_needs_no_host_and_does_not_stay() {
    let seen = head(b"GET / HTTP/1.0\r\n\r\n");
    assert_eq!((seen.version, seen.host, seen.keep_alive), (Version::Http10, None, false));
    assert!(head(b"GET / HTTP/1.0\r\nConnection: Keep-Alive\r\n\r\n").keep_alive);
}

#[test]
fn a_later_minor_version_is_read_as_1_1() {
    assert_eq!(head(&with_line("GET / HTTP/1.2")).version, Version::Http11);
    assert_eq!(head(&with_line("GET / HTTP/1.9")).version, Version::Http11);
    assert_statuses(400, &["GET / HTTP/1.9\r\n\r\n"]);
}

#[test]
fn other_major_versions_get_505() {
    assert_statuses(
        505,
        &[
            "GET / HTTP/0.9\r\n\r\n",
            "GET / HTTP/2.0\r\n\r\n",
            "GET / HTTP/3.1\r\n\r\n",
            "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
            "GET /\r\n\r\n",
            "GET /\r\n",
        ],
    );
}

#[test]
fn a_malformed_version_gets_400() {
    for line in [
        "GET / http/1.1",
        "GET / HTTP/11",
        "GET / HTTP/1",
        "GET / HTTP/1.",
        "GET / HTTP/1.10",
        "GET / HTTP/01.1",
        "GET / HTTP/1,1",
        "GET / HTTP/a.b",
        "GET / HTTPS/1.1",
        "GET / HTTP 1.1",
        "GET / HTTP/1.1 ",
        "GET / HTTP/1.1\t",
        "GET / ",
        "GET / x",
        "GET / HTTP/-1.1",
        "GET / HTTP/1.1 x",
        "GET / HTTP/\u{661}.1",
    ] {
        assert_eq!(status(&with_line(line)), 400, "{line:?}");
    }
}

#[test]
fn a_wrong_version_is_refused_before_its_line_ends() {
    assert_statuses(
        400,
        &["GET / X", "GET / HTTP/x", "GET / HTTP/1x", "GET / HTTP/1.1\r\r", "GET / HTTP/1.1\n"],
    );
}

#[test]
fn one_empty_line_before_the_request_line_is_skipped() {
    let seen = head(b"\r\nGET /x HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_eq!((seen.path.as_str(), seen.end), ("/x", 30));
    assert_statuses(
        400,
        &["\r\n\r\nGET / HTTP/1.0\r\n\r\n", "\nGET / HTTP/1.0\r\n\r\n", "\rGET / HTTP/1.0\r\n\r\n"],
    );
}

#[test]
fn exactly_one_space_separates_the_parts_of_the_request_line() {
    assert_statuses(
        400,
        &[
            " GET / HTTP/1.0\r\n\r\n",
            "GET  / HTTP/1.0\r\n\r\n",
            "GET /  HTTP/1.0\r\n\r\n",
            "GET\t/ HTTP/1.0\r\n\r\n",
            "GET /\tHTTP/1.0\r\n\r\n",
            "GET / HTTP/1.0 \r\n\r\n",
            "GET\r\n\r\n",
            "GET \r\n\r\n",
            "GET / a HTTP/1.0\r\n\r\n",
            "GET\x0b/ HTTP/1.0\r\n\r\n",
            "GET /\x0cHTTP/1.0\r\n\r\n",
        ],
    );
}

#[test]
fn a_method_is_a_token() {
    for line in ["G,T /", "G(T /", "\"GET\" /", "G\0T /", "G\u{e9}T /", ": /", "@ /", "[GET] /"] {
        assert_eq!(status(&with_line(&format!("{line} HTTP/1.1"))), 400, "{line:?}");
    }
    assert_eq!(head(&with_line("M-SEARCH / HTTP/1.1")).method, "M-SEARCH");
    assert_eq!(head(&with_line("get / HTTP/1.1")).method, "get");
}

#[test]
fn an_endless_method_gets_501() {
    let longest = "A".repeat(32);
    assert_eq!(head(&with_line(&format!("{longest} / HTTP/1.1"))).method, longest);
    assert_eq!(status("A".repeat(33).as_bytes()), 501);
}

#[test]
fn a_tls_hello_on_a_plain_port_gets_400() {
    assert_eq!(status(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"), 400);
}

#[test]
fn connect_is_not_implemented() {
    assert_eq!(status(b"CONNECT example.com:443 HTTP/1.1\r\nHost: example.com:443\r\n\r\n"), 501);
}

#[test]
fn a_target_has_no_control_no_space_and_no_fragment() {
    for byte in (0u8..=255).filter(|&b| b != b' ' && b != b'\r' && b != b'\n') {
        let head = [b"GET /a", &[byte][..], b"b HTTP/1.0\r\n\r\n"].concat();
        if (byte.is_ascii_graphic() && byte != b'#') || !byte.is_ascii() {
            assert!(matches!(verdict(&head), Outcome::Complete(_)), "{byte:#x}");
        } else {
            assert_eq!(status(&head), 400, "{byte:#x}");
        }
    }
}

#[test]
fn an_absolute_target_replaces_the_host() {
    let seen = head(b"GET http://example.com:81/p?q HTTP/1.1\r\nHost: other\r\n\r\n");
    assert_eq!(seen.form, Form::Absolute);
    assert_eq!(seen.authority.as_deref(), Some("example.com:81"));
    assert_eq!(seen.host.as_deref(), Some("example.com:81"));
    assert_eq!((seen.path.as_str(), seen.query.as_str()), ("/p", "q"));
    let seen = head(b"GET HTTPS://[::1]?q=/ HTTP/1.0\r\n\r\n");
    assert_eq!(seen.host.as_deref(), Some("[::1]"));
    assert_eq!((seen.path.as_str(), seen.query.as_str()), ("/", "q=/"));
}

#[test]
fn an_absolute_target_needs_a_served_scheme_and_an_authority() {
    for target in [
        "ftp://a/",
        "http:///p",
        "http://",
        "http:/a",
        "http:a",
        "https://u@a/",
        "http://u:p@a/",
        "http://a:b/",
        "http://a b/",
        "http://[::1/",
        "ws://a/",
        "httpx://a/",
        "//",
        "http://a\\b/",
    ] {
        let outcome = verdict(&with_line(&format!("GET {target} HTTP/1.1")));
        if target == "//" {
            assert!(matches!(outcome, Outcome::Complete(_)));
        } else {
            assert_eq!(refused(outcome).status(), 400, "{target:?}");
        }
    }
}

#[test]
fn an_authority_alone_is_no_target() {
    for target in ["example.com", "example.com:80", "a", "?q", "[::1]:80", "**", "*/", "-"] {
        assert_eq!(status(&with_line(&format!("GET {target} HTTP/1.1"))), 400, "{target:?}");
    }
}

#[test]
fn an_asterisk_belongs_to_options() {
    let seen = head(&with_line("OPTIONS * HTTP/1.1"));
    assert_eq!((seen.form, seen.path.as_str(), seen.query.as_str()), (Form::Asterisk, "*", ""));
    let seen = head(&with_line("OPTIONS http://a HTTP/1.1"));
    assert_eq!((seen.form, seen.path.as_str()), (Form::Absolute, "*"));
    assert_eq!(status(&with_line("GET * HTTP/1.1")), 400);
    assert_eq!(status(&with_line("OPTIONS *a HTTP/1.1")), 400);
}

#[test]
fn a_line_ends_with_crlf_only() {
    assert_statuses(
        400,
        &[
            "GET / HTTP/1.0\n\n",
            "GET / HTTP/1.0\r\r\n",
            "GET / HTTP/1.0\rA: b\r\n\r\n",
            "GET / HTTP/1.0\r\nA: b\n\r\n",
            "GET / HTTP/1.0\r\nA: b\r\n\n",
            "GET / HTTP/1.0\r\nA: b\r\r\n\r\n",
            "GET / HTTP/1.0\r\nA: b\rC: d\r\n\r\n",
            "GET / HTTP/1.0\r\nA\n: b\r\n\r\n",
            "GET / HTTP/1.0\r\nA\r: b\r\n\r\n",
            "GET / HTTP/1.0\r\nA: \nb\r\n\r\n",
            "GET / HTTP/1.0\r\nA: b\r\n\rC: d\r\n\r\n",
            "GET /\n HTTP/1.0\r\n\r\n",
            "GE\nT / HTTP/1.0\r\n\r\n",
        ],
    );
}

#[test]
fn a_request_line_over_its_limit_gets_414_before_it_ends() {
    let limits = Limits { request_line: 20, ..Limits::default() };
    let fits = b"GET /67890 HTTP/1.0x"; // 20 bytes, one too many for its form
    assert_eq!(fits.len(), 20);
    let outcome = |head: &[u8]| support::verdict_with(head, &limits);
    assert!(matches!(outcome(b"GET /678901 HTTP/1.0\r\n\r\n"), Outcome::Complete(_)));
    assert_eq!(refused(outcome(b"GET /6789012 HTTP/1.0\r\n\r\n")).status(), 414);
    assert!(matches!(outcome(b"GET /67890123456789012"[..21].as_ref()), Outcome::Incomplete));
    assert_eq!(refused(outcome(b"GET /67890123456789012")).status(), 414);
    assert_eq!(status(&[b"GET /".as_slice(), &[b'a'; 5000]].concat()), 414);
}

#[test]
fn a_field_over_its_limit_gets_431_before_it_ends() {
    let limits = Limits { field_size: 10, ..Limits::default() };
    let outcome =
        |fields: &str| support::verdict_with(format!("GET / HTTP/1.0\r\n{fields}").as_bytes(), &limits);
    assert!(matches!(outcome("A: 45678\r\n\r\n"), Outcome::Complete(_)));
    assert_eq!(refused(outcome("A: 456789\r\n\r\n")).status(), 431);
    assert_eq!(refused(outcome("A: 4567890")).status(), 431);
    assert_eq!(refused(outcome("ABCDEFGHIJ")).status(), 431);
    assert_eq!(refused(outcome("A:        ")).status(), 431);
    assert!(matches!(outcome("A: 456789"), Outcome::Incomplete));
}

#[test]
fn too_many_fields_get_431_at_the_first_byte_too_many() {
    let limits = Limits { fields: 2, ..Limits::default() };
    let outcome =
        |fields: &str| support::verdict_with(format!("GET / HTTP/1.0\r\n{fields}").as_bytes(), &limits);
    assert!(matches!(outcome("A: 1\r\nB: 2\r\n\r\n"), Outcome::Complete(_)));
    assert_eq!(refused(outcome("A: 1\r\nB: 2\r\nC")).status(), 431);
    assert_eq!(status(format!("GET / HTTP/1.0\r\n{}\r\n", "A: 1\r\n".repeat(101)).as_bytes()), 431);
}

#[test]
fn a_head_over_its_limit_gets_431() {
    let limits = Limits { head: 40, ..Limits::default() };
    let outcome =
        |fields: &str| support::verdict_with(format!("GET / HTTP/1.0\r\n{fields}").as_bytes(), &limits);
    assert!(matches!(outcome("A: 1\r\nB: 12345678901\r\n\r\n"), Outcome::Complete(_)));
    assert_eq!(refused(outcome("A: 1\r\nB: 123456789012\r\n\r\n")).status(), 431);
    assert_eq!(refused(outcome("A: 1\r\nB: 2\r\nC: 3\r\nD: 4\r\n")).status(), 431);
}

#[test]
fn a_head_without_limits_is_still_bounded_by_its_offsets() {
    let limits = Limits {
        request_line: usize::MAX,
        fields: usize::MAX,
        field_size: usize::MAX,
        head: usize::MAX,
        ..Limits::default()
    };
    let long = format!("GET /{} HTTP/1.0\r\nA: {}\r\n\r\n", "a".repeat(100_000), "b".repeat(100_000));
    assert!(matches!(support::verdict_with(long.as_bytes(), &limits), Outcome::Complete(_)));
}

#[test]
fn an_error_stays_until_reset() {
    let limits = Limits::default();
    let mut reader = wire::HeadReader::new();
    let bad = b"GET / HTTP/1.0\r\nA : b\r\n";
    let reject = reader.read(bad, &limits).unwrap_err();
    assert_eq!(reader.read(b"GET / HTTP/1.0\r\n\r\n", &limits), Err(reject));
    reader.reset();
    assert_eq!(reader.read(b"GET / HTTP/1.0\r\n\r\n", &limits), Ok(Some(18)));
    assert_eq!(reader.read(b"GET / HTTP/1.0\r\n\r\n", &limits), Ok(Some(18)));
}

#[test]
fn nothing_is_left_of_a_request_after_reset() {
    let limits = Limits::default();
    let mut reader = wire::HeadReader::new();
    let first = b"POST http://a/?q HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nConnection: close, upgrade\r\n\
                  Upgrade: x\r\nExpect: 100-continue\r\nContent-Type: a/b\r\n\r\n";
    assert_eq!(reader.read(first, &limits), Ok(Some(first.len())));
    reader.reset();
    let second = b"GET /s HTTP/1.1\r\nHost: b\r\nContent-Type: a/b\r\nContent-Length: 3\r\n\r\n";
    assert_eq!(reader.read(second, &limits), Ok(Some(second.len())));
    let seen = support::Seen::of(&reader.head(second), second.len());
    assert_eq!(seen, head(second));
}

#[test]
fn a_reject_says_what_is_wrong_without_the_bytes() {
    let reject = refused(verdict(b"GET / HTTP/1.0\r\nContent-Length: 5\r\nContent-Length: 5\r\n\r\n"));
    assert_eq!(reject.status(), 400);
    assert_eq!(reject.to_string(), "more than one Content-Length field");
}
