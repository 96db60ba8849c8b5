//! Requests that wait for a slot.

use std::time::Duration;

use crate::house::{House, eventually};

#[test]
fn a_worker_gets_a_request_only_when_it_has_a_slot() {
    let mut house = House::open(|_| {});
    let mut worker = house.worker(2);
    let mut clients: Vec<_> = (0..4).map(|_| house.connect()).collect();
    for (n, client) in clients.iter_mut().enumerate() {
        client.get(&format!("/{n}"));
        if n < 2 {
            // In this order, so that the test knows who waits.
            continue;
        }
    }
    let one = worker.request();
    let two = worker.request();
    std::thread::sleep(Duration::from_millis(100));
    assert!(worker.has_nothing());
    worker.answer(&one, b"");
    let three = worker.request();
    worker.answer(&two, b"");
    let four = worker.request();
    let mut paths = [&one, &two, &three, &four].map(|asked| asked.path.clone());
    paths.sort();
    assert_eq!(paths, ["/0", "/1", "/2", "/3"]);
    worker.answer(&three, b"");
    worker.answer(&four, b"");
    for client in &mut clients {
        assert_eq!(client.response().status, 200);
    }
}

#[test]
fn a_free_worker_takes_what_a_busy_one_cannot() {
    let mut house = House::open(|_| {});
    let (mut one, mut two) = (house.worker(1), house.worker(1));
    let (mut first, mut second) = (house.connect(), house.connect());
    first.get("/first");
    let busy = one.request();
    second.get("/second");
    let asked = two.expect("/second");
    two.answer(&asked, b"2");
    assert_eq!(second.response().body, b"2");
    one.answer(&busy, b"1");
    assert_eq!(first.response().body, b"1");
}

#[test]
fn a_full_queue_says_503_and_when_to_come_back() {
    let mut house = House::open(|options| options["max_queue"] = 1.into());
    let mut worker = house.worker(1);
    let (mut first, mut second, mut third) = (house.connect(), house.connect(), house.connect());
    first.get("/1");
    let busy = worker.expect("/1");
    second.get("/2");
    std::thread::sleep(Duration::from_millis(50));
    third.get("/3");
    let response = third.response();
    assert_eq!((response.status, response.field("retry-after")), (503, Some(&b"1"[..])));
    // It may try again on the same connection.
    assert!(response.keeps_alive());
    worker.answer(&busy, b"1");
    let asked = worker.expect("/2");
    worker.answer(&asked, b"2");
    third.get("/3");
    let asked = worker.expect("/3");
    worker.answer(&asked, b"3");
    assert_eq!(first.response().body, b"1");
    assert_eq!(second.response().body, b"2");
    assert_eq!(third.response().body, b"3");
}

#[test]
fn a_request_whose_client_has_left_is_not_served() {
    let mut house = House::open(|_| {});
    let mut worker = house.worker(1);
    let (mut first, mut second, mut third) = (house.connect(), house.connect(), house.connect());
    first.get("/1");
    let busy = worker.expect("/1");
    second.get("/left");
    third.get("/3");
    std::thread::sleep(Duration::from_millis(50));
    drop(second);
    eventually("it is noticed", || house.accesses() == "GET /left 499 0\n");
    worker.answer(&busy, b"1");
    let asked = worker.expect("/3");
    worker.answer(&asked, b"3");
    assert_eq!(third.response().body, b"3");
}

#[test]
fn a_request_that_waits_too_long_is_answered_with_503_and_those_who_left_do_not_matter() {
    let mut house = House::open(|options| options["queue_timeout"] = 0.5.into());
    let mut worker = house.worker(1);
    let (mut first, mut second, mut third) = (house.connect(), house.connect(), house.connect());
    first.get("/1");
    let busy = worker.expect("/1");
    second.get("/left");
    std::thread::sleep(Duration::from_millis(50));
    third.get("/waits");
    std::thread::sleep(Duration::from_millis(50));
    // What is left of it is at the head of the queue when the waiting times are looked at.
    drop(second);
    let response = third.response();
    assert_eq!(response.status, 503);
    worker.answer(&busy, b"1");
    assert_eq!(first.response().body, b"1");
    assert!(house.errors().contains("GET /waits: no worker was free"));
}

#[test]
fn a_worker_that_is_told_that_its_client_left_frees_its_slot() {
    let mut house = House::open(|_| {});
    let mut worker = house.worker(1);
    let mut client = house.connect();
    client.get("/left");
    let asked = worker.expect("/left");
    worker.head(asked.id, 200, &[], b"x", 0);
    client.until(b"x");
    drop(client);
    // The end alone says nothing; the next piece meets a reset.
    eventually("the worker is told", || {
        worker.body(asked.id, b"y", 0);
        worker.flow(asked.id) & channel::memory::CANCELLED != 0
    });
    worker.abort(asked.id);
    let mut client = house.connect();
    client.get("/next");
    let asked = worker.expect("/next");
    worker.answer(&asked, b"ok");
    client.response();
}
