use std::os::unix::fs::FileExt;

use channel::message::{Body, FieldsWriter, FileBody, Head, Section};
use proptest::prelude::*;

use super::*;
use crate::outgoing::tests::drain;

#[path = "../../tests/support/strict.rs"]
mod strict;

use strict::Framed;

const DATE: &[u8; 29] = b"Mon, 23 Nov 2026 03:54:15 GMT";
const OURS: Server<'static> = Server { date: DATE, name: b"remuda" };
const BOUNDS: Bounds<'static> = Bounds { memory: 1 << 20, spool: 1 << 30, directory: None };
const END: u16 = message::END;

const GET: Wanted = Wanted { http11: true, head_only: false, keep_alive: true };
const HEAD: Wanted = Wanted { head_only: true, ..GET };
const OLD: Wanted = Wanted { http11: false, ..GET };

fn response(wanted: Wanted) -> Response {
    Response { wanted, ..Response::default() }
}

fn on_head(
    response: &mut Response,
    status: u16,
    fields: &[(&str, &str)],
    data: &[u8],
    flags: u16,
) -> Option<Complaint> {
    let mut out = Vec::new();
    Head::start(&mut out, 1, status, b"").unwrap();
    let mut writer = FieldsWriter::new(&mut out);
    for (name, value) in fields {
        writer.push(name.as_bytes(), value.as_bytes()).unwrap();
    }
    writer.finish().unwrap();
    Head::set_flags(&mut out, flags, 0);
    out.extend_from_slice(data);
    response.on_head(&Head::decode(&out).unwrap(), OURS, BOUNDS, true)
}

fn on_body(response: &mut Response, data: &[u8], flags: u16) -> Option<Complaint> {
    response.on_body(&Body { id: 1, flags, elapsed: 0, data }, OURS, BOUNDS)
}

fn on_section(response: &mut Response, status: u16, fields: &[(&str, &str)]) -> Option<Complaint> {
    let mut out = Vec::new();
    Section::start(&mut out, 1, status);
    let mut writer = FieldsWriter::new(&mut out);
    for (name, value) in fields {
        writer.push(name.as_bytes(), value.as_bytes()).unwrap();
    }
    writer.finish().unwrap();
    let section = Section::decode(&out).unwrap();
    if status == 0 { response.on_trailers(&section) } else { response.on_interim(&section) }
}

fn on_file(response: &mut Response, contents: &[u8], offset: u64, len: u64, flags: u16) -> Option<Complaint> {
    let file = crate::spool::temporary_file(None).unwrap();
    file.write_all_at(contents, 0).unwrap();
    let file = file.try_clone().unwrap();
    response.on_file(&FileBody { id: 1, flags, elapsed: 0, offset, len }, file, OURS)
}

/// What the client gets so far.
fn text(response: &mut Response) -> String {
    String::from_utf8(drain(&mut response.out)).unwrap()
}

fn ours(status: &str, connection: &str) -> String {
    format!(
        "HTTP/1.1 {status}\r\nServer: remuda\r\nDate: Mon, 23 Nov 2026 03:54:15 GMT\r\nConnection: {connection}\r\n"
    )
}

#[test]
fn a_whole_body_gets_its_length() {
    let mut response = response(GET);
    assert_eq!(on_head(&mut response, 200, &[("Content-Type", "text/plain")], b"hello", END), None);
    let expected =
        ours("200 OK", "keep-alive") + "Content-Length: 5\r\nContent-Type: text/plain\r\n\r\nhello";
    assert_eq!(text(&mut response), expected);
    assert!(response.is_over() && response.keeps_alive() && !response.must_reset());
    assert_eq!((response.status, response.body_bytes), (200, 5));
}

#[test]
fn a_body_in_pieces_goes_in_chunks() {
    let mut response = response(GET);
    assert_eq!(on_head(&mut response, 200, &[], b"one", 0), None);
    assert_eq!(
        text(&mut response),
        ours("200 OK", "keep-alive") + "Transfer-Encoding: chunked\r\n\r\n3\r\none\r\n"
    );
    assert_eq!(on_body(&mut response, b"", 0), None);
    assert_eq!(text(&mut response), "");
    assert_eq!(on_body(&mut response, b"sixteen bytes!!!", 0), None);
    assert_eq!(text(&mut response), "10\r\nsixteen bytes!!!\r\n");
    assert!(!response.is_over());
    assert_eq!(on_body(&mut response, b"end", END), None);
    assert_eq!(text(&mut response), "3\r\nend\r\n0\r\n\r\n");
    assert!(response.is_over() && response.keeps_alive());
    assert_eq!(response.body_bytes, 22);
}

#[test]
fn a_declared_length_is_kept_and_said_once() {
    let mut response = response(GET);
    let fields = [("content-length", "6"), ("Content-Length", " 6 ")];
    assert_eq!(on_head(&mut response, 200, &fields, b"one", 0), None);
    assert_eq!(on_body(&mut response, b"two", END), None);
    assert_eq!(text(&mut response), ours("200 OK", "keep-alive") + "Content-Length: 6\r\n\r\nonetwo");
    assert!(response.keeps_alive());
}

#[test]
fn http_1_0_gets_a_length_or_the_end_of_the_connection() {
    let mut known = response(OLD);
    on_head(&mut known, 200, &[], b"one", END);
    assert_eq!(text(&mut known), ours("200 OK", "keep-alive") + "Content-Length: 3\r\n\r\none");
    assert!(known.keeps_alive());
    let mut unknown = response(OLD);
    on_head(&mut unknown, 200, &[], b"one", 0);
    assert!(unknown.must_reset());
    on_body(&mut unknown, b"two", END);
    assert!(unknown.must_reset(), "until all of it is written");
    assert_eq!(text(&mut unknown), ours("200 OK", "close") + "\r\nonetwo");
    assert!(unknown.is_over() && !unknown.keeps_alive() && !unknown.must_reset());
}

#[test]
fn a_client_that_wants_to_go_is_told_so() {
    let mut response = response(Wanted { keep_alive: false, ..GET });
    on_head(&mut response, 200, &[], b"", END);
    assert_eq!(text(&mut response), ours("200 OK", "close") + "Content-Length: 0\r\n\r\n");
    assert!(!response.keeps_alive());
}

#[test]
fn the_answer_to_head_says_the_length_and_has_no_body() {
    for (fields, data, flags, said) in [
        (&[][..], &b"12345"[..], END, "Content-Length: 5\r\n"),
        (&[], b"", END, ""),
        (&[], b"123", 0, ""),
        (&[("Content-Length", "99")], b"", END, "Content-Length: 99\r\n"),
        (&[("Content-Length", "99")], b"12345", 0, "Content-Length: 99\r\n"),
    ] {
        let mut response = response(HEAD);
        assert_eq!(on_head(&mut response, 200, fields, data, flags), None);
        assert_eq!(text(&mut response), ours("200 OK", "keep-alive") + said + "\r\n");
        // Nothing can be added to it: the client has all of it.
        assert!(response.is_over() && response.keeps_alive());
        assert_eq!(response.body_bytes, 0);
    }
}

#[test]
fn no_content_has_no_body_and_no_length() {
    for fields in [&[][..], &[("Content-Length", "5")]] {
        let mut response = response(GET);
        on_head(&mut response, 204, fields, b"12345", END);
        assert_eq!(text(&mut response), ours("204 No Content", "keep-alive") + "\r\n");
        assert!(response.is_over() && response.keeps_alive());
    }
}

#[test]
fn not_modified_has_no_body_but_may_say_a_length() {
    let mut bare = response(GET);
    on_head(&mut bare, 304, &[], b"12345", 0);
    assert_eq!(text(&mut bare), ours("304 Not Modified", "keep-alive") + "\r\n");
    let mut told = response(GET);
    on_head(&mut told, 304, &[("Content-Length", "5")], b"", END);
    assert_eq!(text(&mut told), ours("304 Not Modified", "keep-alive") + "Content-Length: 5\r\n\r\n");
    assert!(bare.is_over() && told.is_over());
}

#[test]
fn what_is_longer_than_its_length_is_cut_off() {
    let mut head = response(GET);
    let complaint = on_head(&mut head, 200, &[("Content-Length", "3")], b"12345", 0);
    assert_eq!(complaint, Some(Complaint::TooLong));
    assert!(text(&mut head).ends_with("\r\n\r\n123"));
    assert!(head.is_over() && head.keeps_alive());
    let mut later = response(GET);
    assert_eq!(on_head(&mut later, 200, &[("Content-Length", "3")], b"123", 0), None);
    assert!(!later.is_over());
    assert_eq!(on_body(&mut later, b"45", END), Some(Complaint::TooLong));
    assert!(text(&mut later).ends_with("\r\n\r\n123"));
    let mut file = response(GET);
    on_head(&mut file, 200, &[("Content-Length", "3")], b"1", 0);
    assert_eq!(on_file(&mut file, b"2345", 0, 4, END), Some(Complaint::TooLong));
    assert!(text(&mut file).ends_with("\r\n\r\n123"));
}

#[test]
fn what_is_shorter_than_its_length_is_cut() {
    let mut response = response(GET);
    let complaint = on_head(&mut response, 200, &[("Content-Length", "5")], b"123", END);
    assert_eq!(complaint, Some(Complaint::TooShort(2)));
    assert!(response.is_cut() && !response.keeps_alive());
}

#[test]
fn a_length_that_is_not_one_number_is_a_500() {
    for fields in [
        &[("Content-Length", "")][..],
        &[("Content-Length", "+5")],
        &[("Content-Length", "5, 5")],
        &[("Content-Length", "18446744073709551616")],
        &[("Content-Length", "5"), ("Content-Length", "6")],
    ] {
        let mut response = response(GET);
        assert_eq!(on_head(&mut response, 200, fields, b"12345", END), Some(Complaint::BadLength));
        let expected = ours("500 Internal Server Error", "keep-alive")
            + "Content-Length: 26\r\nContent-Type: text/plain; charset=utf-8\r\n\r\n500 Internal Server Error\n";
        assert_eq!(text(&mut response), expected);
        assert!(response.is_over() && response.keeps_alive());
    }
}

#[test]
fn a_head_that_cannot_be_sent_is_a_500() {
    for (status, fields) in [
        (99, &[][..]),
        (100, &[]),
        (101, &[]),
        (1000, &[]),
        (200, &[("X", "a\r\nb")]),
        (200, &[("X Y", "a")]),
        (200, &[("", "a")]),
    ] {
        let mut response = response(OLD);
        let complaint = on_head(&mut response, status, fields, b"half", 0);
        assert!(matches!(complaint, Some(Complaint::BadHead(_))), "{status} {fields:?}: {complaint:?}");
        assert!(text(&mut response).starts_with("HTTP/1.1 500 "));
        assert!(response.is_over() && !response.must_reset());
    }
}

#[test]
fn what_belongs_to_the_connection_is_not_the_applications() {
    let mut response = response(GET);
    let fields =
        [("Transfer-Encoding", "gzip"), ("Connection", "keep-alive"), ("Keep-Alive", "1"), ("X", "y")];
    on_head(&mut response, 200, &fields, b"", END);
    assert_eq!(text(&mut response), ours("200 OK", "keep-alive") + "Content-Length: 0\r\nX: y\r\n\r\n");
    assert!(response.keeps_alive());
}

#[test]
fn a_transfer_encoding_of_the_application_does_not_touch_its_length() {
    let mut response = response(GET);
    let fields = [("Transfer-Encoding", "chunked"), ("Content-Length", "1")];
    on_head(&mut response, 200, &fields, b"x", END);
    assert_eq!(text(&mut response), ours("200 OK", "keep-alive") + "Content-Length: 1\r\n\r\nx");
}

#[test]
fn an_application_may_close_the_connection() {
    for value in ["close", "Close", "keep-alive, close", " , close"] {
        let mut response = response(GET);
        on_head(&mut response, 200, &[("Connection", value), ("X", "y")], b"x", END);
        assert_eq!(text(&mut response), ours("200 OK", "close") + "Content-Length: 1\r\nX: y\r\n\r\nx");
        assert!(response.is_over() && !response.is_cut() && !response.keeps_alive(), "{value}");
    }
}

#[test]
fn fields_that_connection_names_end_here() {
    let mut response = response(GET);
    let fields =
        [("X-Hop", "1"), ("connection", "x-hop, Upgrade"), ("Upgrade", "h2c"), ("X-HOP", "2"), ("X", "y")];
    on_head(&mut response, 200, &fields, b"", END);
    assert_eq!(text(&mut response), ours("200 OK", "keep-alive") + "Content-Length: 0\r\nX: y\r\n\r\n");
}

#[test]
fn a_proxy_may_ask_for_authentication() {
    let mut response = response(GET);
    on_head(&mut response, 407, &[("Proxy-Authenticate", "Basic")], b"", END);
    assert!(text(&mut response).contains("\r\nProxy-Authenticate: Basic\r\n"));
}

#[test]
fn parts_out_of_order_are_an_error() {
    let mut early = response(GET);
    assert_eq!(on_body(&mut early, b"x", 0), Some(Complaint::OutOfOrder));
    assert!(text(&mut early).starts_with("HTTP/1.1 500 "));
    let mut twice = response(GET);
    on_head(&mut twice, 200, &[], b"x", 0);
    assert_eq!(on_head(&mut twice, 200, &[], b"x", 0), Some(Complaint::OutOfOrder));
    assert!(twice.is_cut());
    let mut file = response(GET);
    assert_eq!(on_file(&mut file, b"x", 0, 1, END), Some(Complaint::OutOfOrder));
    assert!(text(&mut file).starts_with("HTTP/1.1 500 "));
}

#[test]
fn the_routers_own_answer_says_when_to_come_back_and_knows_head() {
    let mut busy = response(GET);
    busy.fail(503, OURS, Some(1));
    let expected = ours("503 Service Unavailable", "keep-alive")
        + "Content-Length: 24\r\nContent-Type: text/plain; charset=utf-8\r\nRetry-After: 1\r\n\r\n503 Service Unavailable\n";
    assert_eq!(text(&mut busy), expected);
    assert_eq!((busy.status, busy.body_bytes), (503, 24));
    let mut head = response(HEAD);
    head.fail(502, OURS, None);
    assert!(
        text(&mut head).ends_with("Content-Length: 16\r\nContent-Type: text/plain; charset=utf-8\r\n\r\n")
    );
    assert_eq!(head.body_bytes, 0);
}

#[test]
fn a_failure_cuts_what_has_begun_and_leaves_what_is_complete() {
    let mut begun = response(GET);
    on_head(&mut begun, 200, &[], b"x", 0);
    begun.fail(502, OURS, None);
    assert!(begun.is_cut() && !begun.keeps_alive());
    assert_eq!(begun.status, 200);
    let mut complete = response(GET);
    on_head(&mut complete, 200, &[], b"x", END);
    complete.fail(502, OURS, None);
    assert!(!complete.is_cut());
}

#[test]
fn trailers_come_behind_the_last_chunk() {
    let mut response = response(GET);
    on_head(&mut response, 200, &[], b"", 0);
    assert_eq!(on_section(&mut response, 0, &[("X-Sum", "6"), ("Content-Length", "1")]), None);
    on_body(&mut response, b"x", END);
    assert!(text(&mut response).ends_with("\r\n\r\n1\r\nx\r\n0\r\nX-Sum: 6\r\n\r\n"));
}

#[test]
fn trailers_that_split_the_response_are_left_away_and_complained_about() {
    let mut response = response(GET);
    on_head(&mut response, 200, &[], b"", 0);
    let complaint = on_section(&mut response, 0, &[("X", "a\r\nb")]);
    assert!(matches!(complaint, Some(Complaint::BadHead(_))));
    on_body(&mut response, b"x", END);
    assert!(text(&mut response).ends_with("\r\n\r\n1\r\nx\r\n0\r\n\r\n"));
}

#[test]
fn trailers_have_no_place_without_chunks() {
    let mut response = response(GET);
    on_head(&mut response, 200, &[("Content-Length", "1")], b"", 0);
    on_section(&mut response, 0, &[("X", "a")]);
    on_body(&mut response, b"x", END);
    assert!(text(&mut response).ends_with("Content-Length: 1\r\n\r\nx"));
}

#[test]
fn an_interim_response_is_for_clients_that_know_it_and_comes_first() {
    let mut new = response(GET);
    assert_eq!(on_section(&mut new, 103, &[("Link", "</a>")]), None);
    assert_eq!(text(&mut new), "HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n");
    assert!(!new.has_begun());
    on_head(&mut new, 200, &[], b"", 0);
    text(&mut new);
    assert_eq!(on_section(&mut new, 103, &[]), None);
    assert_eq!(text(&mut new), "", "too late");
    let mut old = response(OLD);
    assert_eq!(on_section(&mut old, 103, &[]), None);
    assert_eq!(text(&mut old), "");
    let mut bad = response(GET);
    assert!(on_section(&mut bad, 101, &[]).is_some());
    assert_eq!(text(&mut bad), "");
}

#[test]
fn a_file_is_a_part_of_the_body_like_any_other() {
    let mut chunked = response(GET);
    on_head(&mut chunked, 200, &[], b"a", 0);
    on_file(&mut chunked, b"0123456789", 2, 5, 0);
    on_file(&mut chunked, b"", 0, 0, 0);
    on_body(&mut chunked, b"b", END);
    assert!(text(&mut chunked).ends_with("\r\n\r\n1\r\na\r\n5\r\n23456\r\n1\r\nb\r\n0\r\n\r\n"));
    assert_eq!(chunked.body_bytes, 7);
    let mut head = response(HEAD);
    on_head(&mut head, 200, &[("Content-Length", "5")], b"", 0);
    assert_eq!(on_file(&mut head, b"01234", 0, 5, END), None);
    assert!(text(&mut head).ends_with("Content-Length: 5\r\n\r\n"));
}

#[test]
fn the_lengths_of_files_do_not_overflow_anything() {
    let mut response = response(GET);
    on_head(&mut response, 200, &[], b"", 0);
    on_file(&mut response, b"", 0, u64::MAX, 0);
    on_file(&mut response, b"", u64::MAX, u64::MAX, 0);
    assert_eq!(response.body_bytes, u64::MAX);
}

#[test]
fn a_response_begins_anew_and_keeps_what_is_not_written_yet() {
    let mut response = response(OLD);
    on_head(&mut response, 200, &[("X", "y")], b"one", 0);
    response.fail(500, OURS, None);
    assert_eq!(response.logged_field(b"x"), Some(&b"y"[..]));
    response.reset(GET);
    assert!(!response.has_begun() && !response.must_reset() && !response.is_cut());
    assert_eq!((response.status, response.body_bytes, response.logged_field(b"x")), (0, 0, None));
    assert!(text(&mut response).ends_with("one"));
}

/// What a worker may say, honest or not.
#[derive(Debug, Clone)]
enum Said {
    Head { status: u16, fields: Vec<(String, String)>, data: Vec<u8>, flags: u16 },
    Body { data: Vec<u8>, flags: u16 },
    File { len: u64, missing: bool, flags: u16 },
    Trailers(Vec<(String, String)>),
    Interim(u16, Vec<(String, String)>),
    Abort,
    Fail(u16),
}

fn fields() -> impl Strategy<Value = Vec<(String, String)>> {
    let name = prop_oneof![
        4 => "[A-Za-z-]{1,8}",
        1 => Just("Content-Length".to_owned()),
        1 => Just("Transfer-Encoding".to_owned()),
        1 => "[ -~\r\n]{0,4}",
    ];
    let value = prop_oneof![4 => "[ -~]{0,12}", 2 => "[0-9]{1,3}", 1 => "[ -~\r\n\0]{0,6}"];
    proptest::collection::vec((name, value), 0..3)
}

fn said() -> impl Strategy<Value = Said> {
    let data = || proptest::collection::vec(any::<u8>(), 0..40);
    let status = prop_oneof![4 => Just(200), 2 => 100..600_u16, 1 => any::<u16>()];
    let flags = || 0..8_u16;
    prop_oneof![
        3 => (status, fields(), data(), flags())
            .prop_map(|(status, fields, data, flags)| Said::Head { status, fields, data, flags }),
        4 => (data(), flags()).prop_map(|(data, flags)| Said::Body { data, flags }),
        1 => (0..50_u64, any::<bool>(), flags())
            .prop_map(|(len, missing, flags)| Said::File { len, missing, flags }),
        1 => fields().prop_map(Said::Trailers),
        1 => (99..201_u16, fields()).prop_map(|(status, fields)| Said::Interim(status, fields)),
        1 => Just(Said::Abort),
        1 => (500..505_u16).prop_map(Said::Fail),
    ]
}

fn borrowed(fields: &[(String, String)]) -> Vec<(&str, &str)> {
    fields.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect()
}

proptest! {
    #[test]
    fn whatever_a_worker_says_the_client_gets_a_response_or_a_cut(
        http11: bool, head_only: bool, keep_alive: bool, all in proptest::collection::vec(said(), 0..8),
    ) {
        let mut response = response(Wanted { http11, head_only, keep_alive });
        let mut is_file_short = false;
        for said in &all {
            // The router stops listening then.
            if response.is_over() {
                break;
            }
            match said {
                Said::Head { status, fields, data, flags } => {
                    on_head(&mut response, *status, &borrowed(fields), data, *flags);
                }
                Said::Body { data, flags } => {
                    on_body(&mut response, data, *flags);
                }
                Said::File { len, missing, flags } => {
                    let has = if *missing { len / 2 } else { *len };
                    let before = response.body_bytes;
                    on_file(&mut response, &vec![b'f'; has as usize], 0, *len, *flags);
                    is_file_short |= response.has_begun() && response.body_bytes - before > has;
                }
                Said::Trailers(fields) => {
                    on_section(&mut response, 0, &borrowed(fields));
                }
                Said::Interim(status, fields) => {
                    on_section(&mut response, (*status).max(1), &borrowed(fields));
                }
                Said::Abort => response.on_abort(OURS),
                Said::Fail(status) => response.fail(*status, OURS, Some(1)),
            }
        }
        let (status, body_bytes, over, cut) =
            (response.status, response.body_bytes, response.is_over(), response.is_cut());
        let keeps = response.keeps_alive();
        let (bytes, ended) = crate::outgoing::tests::drain_until_error(&mut response.out);
        prop_assert_eq!(!ended, is_file_short && !response.out.is_empty());
        if bytes.is_empty() {
            prop_assert!(!over);
            return Ok(());
        }
        let complete = over && !cut && ended;
        // An orderly end, where the router makes one.
        let orderly = complete || !response.must_reset();
        let parsed = strict::parse(&bytes, head_only, orderly);
        prop_assert!(parsed.is_ok(), "{:?}: {:?}", parsed, String::from_utf8_lossy(&bytes));
        let parsed = parsed.unwrap();
        if complete {
            let parsed = parsed.expect("complete");
            prop_assert_eq!(parsed.len, bytes.len(), "more than one response");
            prop_assert_eq!(parsed.status, status);
            prop_assert_eq!(parsed.body.len() as u64, body_bytes);
            prop_assert_eq!(parsed.keeps_alive(), keeps);
            prop_assert!(http11 || parsed.framed != Framed::Chunked);
            prop_assert!(http11 || parsed.interim.is_empty());
            prop_assert!(parsed.framed != Framed::Close || !keeps);
        } else {
            prop_assert!(!keeps || !ended);
            prop_assert!(head_only || parsed.is_none(), "what is cut passes for complete: {:?}", parsed);
        }
    }
}
