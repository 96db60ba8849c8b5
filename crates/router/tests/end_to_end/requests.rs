//! One connection and its requests.

use crate::house::{House, eventually};

#[test]
fn a_connection_stays_for_the_next_request() {
    let mut house = House::open(|_| {});
    let mut worker = house.worker(1);
    let mut client = house.connect();
    for path in ["/one", "/two", "/three"] {
        client.get(path);
        let asked = worker.expect(path);
        assert_eq!((asked.method.as_str(), asked.query.as_str()), ("GET", ""));
        worker.answer(&asked, path.as_bytes());
        let response = client.response();
        assert_eq!(response.body, path.as_bytes());
        assert!(response.keeps_alive());
    }
}

#[test]
fn a_request_is_read_byte_by_byte() {
    let mut house = House::open(|_| {});
    let mut worker = house.worker(1);
    let mut client = house.connect();
    for byte in b"POST /x?y=1 HTTP/1.1\r\nHost: a\r\nX-Thing: 1\r\nContent-Length: 5\r\n\r\nhello" {
        client.send([*byte]);
    }
    let asked = worker.expect("/x");
    assert_eq!((asked.query.as_str(), asked.body.as_slice()), ("y=1", &b"hello"[..]));
    assert_eq!(asked.content_length, Some(5));
    assert!(asked.fields.contains(&("x-thing".to_owned(), "1".to_owned())));
    worker.answer(&asked, b"ok");
    assert_eq!(client.response().body, b"ok");
}

#[test]
fn pipelined_requests_are_answered_in_order() {
    let mut house = House::open(|_| {});
    let mut worker = house.worker(4);
    let mut client = house.connect();
    let all: String = (0..50).map(|n| format!("GET /{n} HTTP/1.1\r\nHost: a\r\n\r\n")).collect();
    client.send(all);
    for n in 0..50 {
        let asked = worker.expect(&format!("/{n}"));
        // One after the other: nothing is begun before the response in front of it is there.
        assert!(worker.has_nothing());
        worker.answer(&asked, format!("{n}").as_bytes());
    }
    for n in 0..50 {
        assert_eq!(client.response().body, format!("{n}").as_bytes());
    }
}

#[test]
fn pipelined_requests_are_answered_after_the_client_has_said_its_last() {
    let mut house = House::open(|_| {});
    let mut worker = house.worker(1);
    let mut client = house.connect();
    client.send("GET /1 HTTP/1.1\r\nHost: a\r\n\r\nGET /2 HTTP/1.1\r\nHost: a\r\n\r\n");
    let asked = worker.expect("/1");
    client.finish();
    worker.answer(&asked, b"1");
    let asked = worker.expect("/2");
    worker.answer(&asked, b"2");
    assert_eq!(client.response().body, b"1");
    assert_eq!(client.response().body, b"2");
    client.is_closed();
}

#[test]
fn a_client_that_asks_for_it_is_told_goodbye() {
    let mut house = House::open(|_| {});
    let mut worker = house.worker(1);
    let mut client = house.connect();
    client.send("GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
    let asked = worker.expect("/");
    worker.answer(&asked, b"bye");
    let response = client.response();
    assert!(!response.keeps_alive());
    client.is_closed();
}

#[test]
fn a_connection_of_http_1_0_stays_only_when_asked_to() {
    let mut house = House::open(|_| {});
    let mut worker = house.worker(1);
    let mut client = house.connect();
    client.send("GET /1 HTTP/1.0\r\nConnection: keep-alive\r\n\r\n");
    let asked = worker.expect("/1");
    worker.answer(&asked, b"1");
    assert!(client.response().keeps_alive());
    client.send("GET /2 HTTP/1.0\r\n\r\n");
    let asked = worker.expect("/2");
    worker.answer(&asked, b"2");
    assert!(!client.response().keeps_alive());
    client.is_closed();
}

#[test]
fn keepalive_zero_closes_after_each_response() {
    let mut house = House::open(|options| options["keepalive"] = 0.0.into());
    let mut worker = house.worker(1);
    let mut client = house.connect();
    client.get("/");
    let asked = worker.expect("/");
    worker.answer(&asked, b"1");
    assert!(!client.response().keeps_alive());
    client.is_closed();
}

#[test]
fn an_idle_connection_is_closed_without_a_word() {
    let mut house = House::open(|options| options["keepalive"] = 0.3.into());
    let mut worker = house.worker(1);
    let mut client = house.connect();
    client.get("/");
    let asked = worker.expect("/");
    worker.answer(&asked, b"1");
    assert!(client.response().keeps_alive());
    client.is_closed();
}

#[test]
fn a_request_has_one_line_in_the_access_log() {
    let mut house = House::open(|_| {});
    let mut worker = house.worker(1);
    let mut client = house.connect();
    client.get("/logged");
    let asked = worker.expect("/logged");
    worker.answer(&asked, b"12345");
    client.response();
    client.send("BAD\r\n");
    client.is_refused(400);
    // Answered, but with nobody there any more.
    let mut client = house.connect();
    client.get("/left");
    let asked = worker.expect("/left");
    drop(client);
    worker.answer(&asked, b"12");
    eventually("three lines", || house.accesses().lines().count() == 3);
    assert_eq!(house.accesses(), "GET /logged 200 5\n- - 400 16\nGET /left 200 2\n");
}
