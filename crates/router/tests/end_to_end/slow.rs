//! Clients that take their time.

use std::time::{Duration, Instant};

use channel::memory::PAUSED;

use crate::fake::{ALL, Event, Fake};
use crate::house::{House, eventually};

/// Send so many bytes in pieces; the worker waits as it is told to, for at most so long.
fn stream(worker: &mut Fake, id: u64, total: usize, flags: u16) {
    let piece = vec![b'p'; 50_000];
    let mut left = total;
    while left > 0 {
        let len = left.min(piece.len());
        left -= len;
        worker.body(id, &piece[..len], if left == 0 { flags } else { 0 });
    }
}

#[test]
fn a_slow_reader_does_not_hold_a_worker() {
    let mut house = House::open(|options| options["response_buffer"] = 65_536.into());
    let mut worker = house.worker(1);
    let mut slow = house.connect();
    slow.get("/slow");
    let asked = worker.expect("/slow");
    // More than all buffers of the sockets together.
    let total = 30 << 20;
    worker.head(asked.id, 200, &[], b"", 0);
    stream(&mut worker, asked.id, total, ALL);
    let mut other = house.connect();
    other.get("/other");
    let asked = worker.expect("/other");
    worker.answer(&asked, b"ok");
    assert_eq!(other.response().body, b"ok");
    let response = slow.response();
    assert_eq!(response.body.len(), total);
    assert!(response.body.iter().all(|byte| *byte == b'p'));
    slow.get("/again");
    let asked = worker.expect("/again");
    worker.answer(&asked, b"ok");
    slow.response();
}

#[test]
fn a_worker_waits_when_no_more_may_be_kept_and_goes_on_when_the_client_reads() {
    for spool in [0, 1 << 20] {
        let mut house = House::open(|options| {
            options["response_buffer"] = 65_536.into();
            options["response_spool_limit"] = spool.into();
        });
        let mut worker = house.worker(1);
        let mut slow = house.connect();
        slow.get("/slow");
        let asked = worker.expect("/slow");
        worker.head(asked.id, 200, &[], b"", 0);
        let mut sent = 0;
        let begun = Instant::now();
        while worker.flow(asked.id) & PAUSED == 0 {
            assert!(begun.elapsed() < crate::house::PATIENCE && sent < 200 << 20, "never told to wait");
            worker.body(asked.id, &[b'p'; 10_000], 0);
            sent += 10_000;
            std::thread::yield_now();
        }
        let reading = std::thread::spawn(move || slow.response());
        eventually("it may go on", || worker.flow(asked.id) & PAUSED == 0);
        worker.body(asked.id, b"end", ALL);
        let response = reading.join().unwrap();
        assert_eq!(response.body.len(), sent + 3);
        assert!(response.body.ends_with(b"pend"));
    }
}

#[test]
fn a_worker_that_does_not_wait_is_broken() {
    let mut house = House::open(|options| {
        options["response_buffer"] = 65_536.into();
        options["response_spool_limit"] = 0.into();
    });
    let mut worker = house.worker(1);
    let mut slow = house.connect();
    slow.get("/slow");
    let asked = worker.expect("/slow");
    worker.head(asked.id, 200, &[], b"", 0);
    let begun = Instant::now();
    while !house.has_reported("broken") {
        assert!(begun.elapsed() < crate::house::PATIENCE, "everything is kept");
        // The ring stays full once nobody reads it.
        let _ = worker.end.responses.push(
            channel::message::BODY,
            &[&channel::message::Body::prefix(asked.id, 0, 0), &[b'p'; 50_000]],
        );
        if worker.end.responses.must_wake() {
            worker.end.wake_router.signal();
        }
    }
    house.gone(worker);
    let bytes = slow.rest().0;
    assert!(crate::strict::parse(&bytes, false, true).unwrap().is_none());
}

#[test]
fn a_response_is_served_from_memory_when_nothing_can_be_spooled() {
    let mut house = House::open(|options| {
        options["response_buffer"] = 65_536.into();
        options["tmp_upload_dir"] = "/nonexistent/remuda".into();
    });
    let mut worker = house.worker(1);
    let mut slow = house.connect();
    slow.get("/slow");
    let asked = worker.expect("/slow");
    worker.head(asked.id, 200, &[], b"", 0);
    let mut sent = 0;
    while worker.flow(asked.id) & PAUSED == 0 {
        assert!(sent < 200 << 20, "never told to wait");
        worker.body(asked.id, &[b'p'; 10_000], 0);
        sent += 10_000;
        std::thread::yield_now();
    }
    let reading = std::thread::spawn(move || slow.response());
    eventually("it may go on", || worker.flow(asked.id) & PAUSED == 0);
    worker.body(asked.id, b"", ALL);
    assert_eq!(reading.join().unwrap().body.len(), sent);
    assert!(house.errors().contains("GET /slow: the response cannot be spooled, so its worker waits for the client: /nonexistent/remuda (--tmp-upload-dir): "));
}

#[test]
fn a_client_that_reads_nothing_is_cut_off() {
    let mut house = House::open(|options| options["send_rate"] = 1_000_000.into());
    let mut worker = house.worker(1);
    let mut slow = house.connect();
    slow.get("/slow");
    let asked = worker.expect("/slow");
    worker.head(asked.id, 200, &[], b"", 0);
    stream(&mut worker, asked.id, 30 << 20, ALL);
    let begun = Instant::now();
    eventually("it is cut off", || house.accesses().contains("GET /slow 200"));
    assert!(begun.elapsed() > Duration::from_secs(8), "there is a grace");
    let bytes = slow.rest().0;
    assert!(crate::strict::parse(&bytes, false, true).unwrap().is_none());
}

fn a_body_does_not_come(streams: bool) {
    let mut house = House::open(|options| {
        options["body_rate"] = 1000.into();
        options["streams"] = streams.into();
    });
    let mut worker = house.worker(1);
    let mut client = house.connect();
    let begun = Instant::now();
    client.send("POST /slow HTTP/1.1\r\nHost: a\r\nContent-Length: 1000\r\n\r\nsome");
    if streams {
        worker.expect("/slow");
    }
    client.is_refused(408);
    assert!(begun.elapsed() > Duration::from_secs(8), "there is a grace");
}

#[test]
fn a_body_that_does_not_come_is_refused_with_408() {
    a_body_does_not_come(false);
}

#[test]
fn a_streamed_body_that_does_not_come_is_refused_with_408() {
    a_body_does_not_come(true);
}

#[test]
fn the_time_in_the_queue_does_not_count_against_a_streamed_body() {
    let mut house = House::open(|options| {
        options["body_rate"] = 100_000.into();
        options["streams"] = true.into();
    });
    let mut worker = house.worker(1);
    let (mut first, mut second) = (house.connect(), house.connect());
    first.get("/first");
    let busy = worker.expect("/first");
    second.send("POST /second HTTP/1.1\r\nHost: a\r\nContent-Length: 8\r\n\r\nhalf");
    // Longer than the grace.
    std::thread::sleep(Duration::from_millis(10_500));
    worker.answer(&busy, b"1");
    let asked = worker.expect("/second");
    let Event::Body { end: false, data, .. } = worker.event() else { panic!("not a part of a body") };
    assert_eq!(data, b"half");
    // Deadlines are looked at a few times meanwhile.
    std::thread::sleep(Duration::from_millis(600));
    second.send("more");
    let Event::Body { end: true, data, .. } = worker.event() else { panic!("not the rest of a body") };
    assert_eq!(data, b"more");
    worker.answer(&asked, b"2");
    assert_eq!(second.response().body, b"2");
}
