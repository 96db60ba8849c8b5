//! Responses, as the client sees them.

use std::io::Write;

use channel::message;

use crate::fake::{ALL, DONE, END};
use crate::house::{House, eventually};
use crate::strict::Framed;

#[test]
fn a_response_that_is_yielded_leaves_piece_by_piece() {
    let mut house = House::open(|_| {});
    let mut worker = house.worker(1);
    let mut client = house.connect();
    client.get("/");
    let asked = worker.expect("/");
    worker.head(asked.id, 200, &[], b"", 0);
    client.until(b"Transfer-Encoding: chunked\r\n");
    worker.body(asked.id, b"one", 0);
    client.until(b"3\r\none\r\n");
    worker.body(asked.id, b"two", 0);
    client.until(b"3\r\ntwo\r\n");
    worker.section(message::TRAILERS, asked.id, 0, &[("X-Sum", "6")]);
    worker.body(asked.id, b"", ALL);
    let response = client.response();
    assert_eq!((response.framed, response.body.as_slice()), (Framed::Chunked, &b"onetwo"[..]));
    assert_eq!(response.trailers, [("x-sum".to_owned(), b"6".to_vec())]);
    assert!(response.keeps_alive());
}

#[test]
fn a_client_of_http_1_0_gets_no_chunks() {
    let mut house = House::open(|_| {});
    let mut worker = house.worker(1);
    let mut client = house.connect();
    client.send("GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n");
    let asked = worker.expect("/");
    worker.head(asked.id, 200, &[], b"one", 0);
    worker.body(asked.id, b"two", ALL);
    let response = client.response();
    assert_eq!((response.framed, response.body.as_slice()), (Framed::Close, &b"onetwo"[..]));
    assert!(!response.keeps_alive());
}

#[test]
fn a_response_without_a_length_that_is_cut_resets_its_connection() {
    let mut house = House::open(|_| {});
    let mut worker = house.worker(1);
    let mut client = house.connect();
    client.send("GET / HTTP/1.0\r\n\r\n");
    let asked = worker.expect("/");
    worker.head(asked.id, 200, &[], b"one", 0);
    client.until(b"one");
    worker.abort(asked.id);
    // An orderly end would be the end of the body.
    assert!(client.rest().1);
}

#[test]
fn a_response_that_is_cut_does_not_pass_for_complete() {
    let mut house = House::open(|_| {});
    let mut worker = house.worker(1);
    for fields in [&[][..], &[("Content-Length", "10")][..]] {
        let mut client = house.connect();
        client.get("/");
        let asked = worker.expect("/");
        worker.head(asked.id, 200, fields, b"one", 0);
        client.until(b"one");
        worker.abort(asked.id);
        let (bytes, _) = client.rest();
        let parsed = crate::strict::parse(&bytes, false, true).unwrap();
        assert!(parsed.is_none(), "{parsed:?}");
    }
}

#[test]
fn the_answer_to_head_has_no_body_and_the_connection_goes_on() {
    let mut house = House::open(|_| {});
    let mut worker = house.worker(1);
    let mut client = house.connect();
    client.send("HEAD /1 HTTP/1.1\r\nHost: a\r\n\r\n");
    let asked = worker.expect("/1");
    worker.answer(&asked, b"12345");
    let response = client.response_to("HEAD");
    assert_eq!(response.field("content-length"), Some(&b"5"[..]));
    client.get("/2");
    let asked = worker.expect("/2");
    worker.answer(&asked, b"2");
    assert_eq!(client.response().body, b"2");
}

#[test]
fn a_head_request_does_not_wait_for_an_endless_body() {
    let mut house = House::open(|_| {});
    let mut worker = house.worker(1);
    let mut client = house.connect();
    client.send("HEAD /endless HTTP/1.1\r\nHost: a\r\n\r\n");
    let asked = worker.expect("/endless");
    worker.head(asked.id, 200, &[], b"", 0);
    client.response_to("HEAD");
    eventually("the worker is told", || worker.flow(asked.id) & channel::memory::CANCELLED != 0);
    // The slot is busy until the worker says so.
    client.get("/next");
    worker.body(asked.id, b"", DONE);
    let asked = worker.expect("/next");
    worker.answer(&asked, b"ok");
    assert_eq!(client.response().body, b"ok");
}

#[test]
fn a_body_longer_than_its_length_is_cut_off_and_logged() {
    let mut house = House::open(|_| {});
    let mut worker = house.worker(1);
    let mut client = house.connect();
    client.get("/long");
    let asked = worker.expect("/long");
    worker.head(asked.id, 200, &[("Content-Length", "3")], b"12345", ALL);
    assert_eq!(client.response().body, b"123");
    client.get("/next");
    let asked = worker.expect("/next");
    worker.answer(&asked, b"ok");
    assert_eq!(client.response().body, b"ok");
    assert!(house.errors().contains("GET /long: the response is longer than its Content-Length"));
}

#[test]
fn a_body_shorter_than_its_length_ends_the_connection_and_is_logged() {
    let mut house = House::open(|_| {});
    let mut worker = house.worker(1);
    let mut client = house.connect();
    client.get("/short");
    let asked = worker.expect("/short");
    worker.head(asked.id, 200, &[("Content-Length", "5")], b"123", ALL);
    let (bytes, _) = client.rest();
    assert!(crate::strict::parse(&bytes, false, true).unwrap().is_none());
    assert!(house.errors().contains("GET /short: the response is 2 bytes shorter"));
}

#[test]
fn a_head_that_splits_the_response_is_a_500() {
    let mut house = House::open(|_| {});
    let mut worker = house.worker(1);
    let mut client = house.connect();
    client.get("/");
    let asked = worker.expect("/");
    worker.head(asked.id, 200, &[("X", "a\r\nSet-Cookie: b")], b"hello", ALL);
    let response = client.response();
    assert_eq!((response.status, response.keeps_alive()), (500, true));
    assert!(response.field("set-cookie").is_none());
}

#[test]
fn a_worker_that_leaves_a_response_out_is_a_500() {
    let mut house = House::open(|_| {});
    let mut worker = house.worker(1);
    let mut client = house.connect();
    client.get("/");
    let asked = worker.expect("/");
    worker.body(asked.id, b"", DONE);
    assert_eq!(client.response().status, 500);
}

#[test]
fn an_interim_response_comes_before_the_final_one() {
    let mut house = House::open(|_| {});
    let mut worker = house.worker(1);
    let mut client = house.connect();
    client.get("/");
    let asked = worker.expect("/");
    worker.section(message::INTERIM, asked.id, 103, &[("Link", "</style.css>")]);
    client.until(b"HTTP/1.1 103 Early Hints\r\nLink: </style.css>\r\n\r\n");
    worker.answer(&asked, b"ok");
    let response = client.response();
    assert_eq!((response.interim.as_slice(), response.status), (&[103][..], 200));
}

#[test]
fn a_file_is_sent_by_the_router_and_its_worker_is_free_at_once() {
    for sendfile in [true, false] {
        let mut house = House::open(|options| options["sendfile"] = sendfile.into());
        let mut worker = house.worker(1);
        let contents: Vec<u8> = (0..5_000_000_u32).map(|n| (n % 241) as u8).collect();
        let path = house.directory.0.join("file");
        std::fs::File::create(&path).unwrap().write_all(&contents).unwrap();
        let file = std::fs::File::open(&path).unwrap();
        let (mut slow, mut other) = (house.connect(), house.connect());
        slow.get("/file");
        let asked = worker.expect("/file");
        worker.head(asked.id, 200, &[("Content-Length", "4999990")], b"", 0);
        worker.file(asked.id, &file, 10, 4_999_990, ALL);
        drop(file);
        other.get("/other");
        let asked = worker.expect("/other");
        worker.answer(&asked, b"ok");
        assert_eq!(other.response().body, b"ok");
        assert!(slow.response().body == contents[10..]);
    }
}

#[test]
fn files_and_bytes_in_chunks_keep_their_order() {
    let mut house = House::open(|_| {});
    let mut worker = house.worker(1);
    let path = house.directory.0.join("file");
    std::fs::File::create(&path).unwrap().write_all(b"0123456789").unwrap();
    let file = std::fs::File::open(&path).unwrap();
    let mut client = house.connect();
    client.get("/");
    let asked = worker.expect("/");
    worker.head(asked.id, 200, &[], b"a", 0);
    worker.file(asked.id, &file, 0, 5, 0);
    worker.body(asked.id, b"b", 0);
    worker.file(asked.id, &file, 5, 5, 0);
    worker.body(asked.id, b"c", ALL);
    let response = client.response();
    assert_eq!((response.framed, response.body.as_slice()), (Framed::Chunked, &b"a01234b56789c"[..]));
}

#[test]
fn a_file_shorter_than_announced_cuts_the_response() {
    let mut house = House::open(|_| {});
    let mut worker = house.worker(1);
    let path = house.directory.0.join("file");
    std::fs::File::create(&path).unwrap().write_all(b"0123456789").unwrap();
    let file = std::fs::File::open(&path).unwrap();
    let mut client = house.connect();
    client.get("/cut");
    let asked = worker.expect("/cut");
    worker.head(asked.id, 200, &[("Content-Length", "20")], b"", 0);
    worker.file(asked.id, &file, 0, 20, END);
    worker.body(asked.id, b"", DONE);
    let (bytes, _) = client.rest();
    assert!(bytes.ends_with(b"0123456789"));
    assert!(crate::strict::parse(&bytes, false, true).unwrap().is_none());
    eventually("it is logged", || house.errors().contains("GET /cut: a file became shorter"));
}
