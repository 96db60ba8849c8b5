//! What is not served is answered once, and nothing behind it is ever looked at.

use std::time::{Duration, Instant};

use crate::house::House;

const BEHIND: &str = "GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n";

/// The request is refused with this status, and what follows it is not served.
fn refused(house: &mut House, request: &str, status: u16) {
    let mut client = house.connect();
    client.send(format!("{request}{BEHIND}"));
    client.is_refused(status);
}

#[test]
fn whatever_cannot_be_framed_in_one_way_is_refused() {
    let mut house = House::open(|_| {});
    let mut worker = house.worker(1);
    for (request, status) in [
        ("GET / HTTP/1.1\r\n\r\n", 400),
        ("GET / HTTP/1.1\nHost: a\n\n", 400),
        ("GET  / HTTP/1.1\r\nHost: a\r\n\r\n", 400),
        ("GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", 400),
        ("GET / HTTP/1.1\r\nHost : a\r\n\r\n", 400),
        ("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\n", 400),
        ("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: +1\r\n\r\n", 400),
        ("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n", 400),
        ("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip, chunked\r\n\r\n", 501),
        ("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n1;\n\r\nx\r\n", 400),
        ("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nxy", 400),
        ("CONNECT a:1 HTTP/1.1\r\nHost: a\r\n\r\n", 501),
        ("GET / HTTP/2.0\r\nHost: a\r\n\r\n", 505),
        ("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nExpect: something\r\n\r\n", 417),
    ] {
        refused(&mut house, request, status);
    }
    assert!(worker.has_nothing());
    // The house still stands.
    let mut client = house.connect();
    client.get("/");
    let asked = worker.expect("/");
    worker.answer(&asked, b"ok");
    client.response();
}

#[test]
fn whatever_is_too_large_is_refused() {
    let mut house = House::open(|options| options["limit_request_body"] = 1000.into());
    let worker = &mut house.worker(1);
    let line = format!("GET /{} HTTP/1.1\r\nHost: a\r\n\r\n", "x".repeat(5000));
    refused(&mut house, &line, 414);
    let field = format!("GET / HTTP/1.1\r\nHost: a\r\nX: {}\r\n\r\n", "x".repeat(9000));
    refused(&mut house, &field, 431);
    let fields = format!("GET / HTTP/1.1\r\nHost: a\r\n{}\r\n", "X: y\r\n".repeat(100));
    refused(&mut house, &fields, 431);
    refused(&mut house, "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1001\r\n\r\n", 413);
    let chunks = format!("3e9\r\n{}\r\n0\r\n\r\n", "x".repeat(1001));
    let chunked = format!("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n{chunks}");
    refused(&mut house, &chunked, 413);
    assert!(worker.has_nothing());
}

#[test]
fn a_client_that_waits_for_100_with_too_large_a_body_is_refused_at_once() {
    let house = House::open(|options| options["limit_request_body"] = 1000.into());
    let mut client = house.connect();
    client.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1001\r\nExpect: 100-continue\r\n\r\n");
    let response = client.response();
    assert_eq!((response.interim.len(), response.status), (0, 413));
    client.is_closed();
}

#[test]
fn the_answer_to_a_refused_head_request_has_no_body() {
    let house = House::open(|options| options["limit_request_body"] = 1000.into());
    let mut client = house.connect();
    client.send("HEAD / HTTP/1.1\r\nHost: a\r\nContent-Length: 1001\r\n\r\n");
    let response = client.response_to("HEAD");
    assert_eq!(response.status, 413);
    client.is_closed();
}

#[test]
fn a_refusal_survives_what_the_client_still_sends() {
    let house = House::open(|options| options["limit_request_body"] = 1000.into());
    let mut client = house.connect();
    client.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 2000000\r\n\r\n");
    // Into a connection that was answered already: without patience on the other side, a reset.
    client.send(vec![b'x'; 2_000_000]);
    let response = client.response();
    assert_eq!(response.status, 413);
}

#[test]
fn what_was_asked_before_a_bad_request_is_answered_first() {
    let mut house = House::open(|_| {});
    let mut worker = house.worker(1);
    let mut client = house.connect();
    client.send("GET /good HTTP/1.1\r\nHost: a\r\n\r\nBAD\r\n\r\nGET /behind HTTP/1.1\r\nHost: a\r\n\r\n");
    let asked = worker.expect("/good");
    worker.answer(&asked, b"good");
    assert_eq!(client.response().body, b"good");
    client.is_refused(400);
    assert!(worker.has_nothing());
}

#[test]
fn a_head_that_drips_is_refused_at_its_deadline() {
    let house = House::open(|options| options["header_timeout"] = 0.6.into());
    let mut client = house.connect();
    client.stream.set_read_timeout(Some(Duration::from_millis(30))).unwrap();
    let begun = Instant::now();
    client.send("GET / HTTP/1.1\r\nHost: a\r\n");
    // Each byte is in time; all of them together are not.
    let mut answer = Vec::new();
    while answer.is_empty() {
        use std::io::{Read, Write};
        assert!(begun.elapsed() < crate::house::PATIENCE, "never refused");
        let _ = client.stream.write_all(b"X");
        let mut buffer = [0; 1024];
        if let Ok(got) = client.stream.read(&mut buffer) {
            assert!(got > 0, "closed without an answer");
            answer.extend_from_slice(&buffer[..got]);
        }
    }
    assert!(begun.elapsed() >= Duration::from_millis(550));
    assert!(answer.starts_with(b"HTTP/1.1 408 "), "{:?}", String::from_utf8_lossy(&answer));
}

#[test]
fn a_refusal_is_a_warning_with_address_and_reason() {
    let mut house = House::open(|options| {
        options["limit_request_body"] = 1000.into();
        options["loglevel"] = "warning".into();
    });
    refused(&mut house, "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1001\r\n\r\n", 413);
    let errors = house.errors();
    let expected = "[WARNING] Invalid request from ip=127.0.0.1: body larger than limit_request_body\n";
    assert!(errors.ends_with(expected), "{errors}");
    assert_eq!(errors.lines().count(), 1, "{errors}");
}

#[test]
fn a_connection_that_says_nothing_is_closed_without_a_word() {
    let house = House::open(|options| options["header_timeout"] = 0.3.into());
    let mut client = house.connect();
    client.is_closed();
}
