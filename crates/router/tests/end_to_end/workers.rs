//! Workers that come, die, hang, retire; and routers that do.

use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use serde_json::json;

use crate::fake::{ALL, Event};
use crate::house::{House, eventually};

#[test]
fn a_request_that_was_not_begun_goes_to_another_worker() {
    let mut house = House::open(|_| {});
    let one = house.worker(1);
    let mut client = house.connect();
    client.get("/kept");
    // It lies in the ring of a worker that does not look.
    eventually("it is handed over", || !one.end.requests.is_empty());
    let mut two = house.worker(1);
    house.gone(one);
    let asked = two.expect("/kept");
    two.answer(&asked, b"ok");
    assert_eq!(client.response().body, b"ok");
}

#[test]
fn a_request_that_is_left_lying_goes_to_another_worker_and_the_first_may_come_back() {
    let mut house = House::open(|_| {});
    let mut one = house.worker(1);
    let mut client = house.connect();
    client.get("/kept");
    eventually("it is handed over", || !one.end.requests.is_empty());
    let mut two = house.worker(1);
    let asked = two.expect("/kept");
    two.answer(&asked, b"ok");
    assert_eq!(client.response().body, b"ok");
    // The first one comes to: what was taken back is skipped, and new requests come to it again.
    assert!(one.poll(Instant::now()).is_none());
    let mut other = house.connect();
    other.get("/a");
    client.get("/b");
    let (a, b) = (one.request(), two.request());
    one.answer(&a, b"1");
    two.answer(&b, b"2");
    let mut bodies = [other.response().body, client.response().body];
    bodies.sort();
    assert_eq!(bodies, [b"1", b"2"]);
}

#[test]
fn a_worker_that_dies_with_a_request_is_a_502() {
    let mut house = House::open(|_| {});
    let mut worker = house.worker(1);
    let mut client = house.connect();
    client.get("/dies");
    worker.expect("/dies");
    house.gone(worker);
    let response = client.response();
    assert_eq!(response.status, 502);
    // No connection drops for it.
    assert!(response.keeps_alive());
    let lost = house.report("lost");
    let said = (lost["pid"].as_u64(), lost["why"].as_str(), lost["what"].as_str());
    assert_eq!(said, (Some(40_001), Some("was killed by SIGKILL"), Some("GET /dies")));
    let mut worker = house.worker(1);
    client.get("/lives");
    let asked = worker.expect("/lives");
    worker.answer(&asked, b"ok");
    assert_eq!(client.response().body, b"ok");
}

#[test]
fn a_worker_that_dies_in_a_response_cuts_it() {
    let mut house = House::open(|_| {});
    let mut worker = house.worker(1);
    let mut client = house.connect();
    client.get("/dies");
    let asked = worker.expect("/dies");
    worker.head(asked.id, 200, &[], b"half", 0);
    client.until(b"half");
    house.gone(worker);
    let (bytes, _) = client.rest();
    assert!(crate::strict::parse(&bytes, false, true).unwrap().is_none());
}

#[test]
fn what_a_worker_said_before_it_died_counts() {
    let mut house = House::open(|_| {});
    let mut worker = house.worker(1);
    let mut client = house.connect();
    client.get("/last");
    let asked = worker.expect("/last");
    // Written, but its wake-up never came.
    let mut message = Vec::new();
    channel::message::Head::start(&mut message, asked.id, 200, b"").unwrap();
    channel::message::FieldsWriter::new(&mut message).finish().unwrap();
    channel::message::Head::set_flags(&mut message, ALL, 1);
    worker.end.responses.push(channel::message::HEAD, &[&message, b"ok"]).unwrap();
    house.gone(worker);
    assert_eq!(client.response().body, b"ok");
}

#[test]
fn nothing_of_a_dead_worker_stays_open() {
    let mut house = House::open(|_| {});
    let worker = house.worker(1);
    // Who has the other end of a wake-up's descriptors socket open can be seen from this one.
    let descriptors = worker.end.descriptors.as_fd().try_clone_to_owned().unwrap();
    let descriptors = channel::descriptors::Descriptors::from(descriptors);
    house.gone(worker);
    eventually("the router has closed its end", || descriptors.is_closed());
}

#[test]
fn a_worker_that_breaks_the_protocol_is_reported_and_its_requests_wait_for_its_end() {
    let mut house = House::open(|_| {});
    let mut worker = house.worker(1);
    let mut client = house.connect();
    client.get("/");
    worker.expect("/");
    worker.push(99, &[b"nonsense"]);
    let report = house.report("broken");
    assert_eq!(report["why"], "an unknown kind of frame");
    house.gone(worker);
    assert_eq!(client.response().status, 502);
}

#[test]
fn a_file_that_does_not_come_with_its_frame_breaks_the_worker() {
    let mut house = House::open(|_| {});
    let mut worker = house.worker(1);
    let mut client = house.connect();
    client.get("/");
    let asked = worker.expect("/");
    worker.head(asked.id, 200, &[], b"", 0);
    let part = channel::message::FileBody { id: asked.id, flags: 0, elapsed: 0, offset: 0, len: 5 };
    worker.push(channel::message::FILE, &[&part.encode()]);
    house.report("broken");
}

#[test]
fn a_silent_request_is_answered_with_504_and_its_worker_reported() {
    let mut house = House::open(|options| options["timeout"] = 0.5.into());
    let mut worker = house.worker(1);
    let mut client = house.connect();
    client.get("/hangs");
    worker.expect("/hangs");
    assert_eq!(client.response().status, 504);
    let report = house.report("hung");
    assert_eq!((report["id"].as_u64(), report["what"].as_str()), (Some(1), Some("GET /hangs")));
    assert!(report["seconds"].as_f64().unwrap() >= 0.5);
}

#[test]
fn a_worker_that_hangs_is_found_after_its_client_has_left() {
    let mut house = House::open(|options| options["timeout"] = 1.0.into());
    let mut worker = house.worker(1);
    let mut client = house.connect();
    client.get("/hangs");
    let asked = worker.expect("/hangs");
    worker.head(asked.id, 200, &[], b"x", 0);
    client.until(b"x");
    drop(client);
    eventually("the worker is told", || {
        worker.body(asked.id, b"y", 0);
        worker.flow(asked.id) & channel::memory::CANCELLED != 0
    });
    assert_eq!(house.report("hung")["id"], 1);
}

#[test]
fn a_worker_that_hangs_after_its_response_is_found() {
    let mut house = House::open(|options| options["timeout"] = 0.5.into());
    let mut worker = house.worker(1);
    let mut client = house.connect();
    client.get("/hangs");
    let asked = worker.expect("/hangs");
    worker.head(asked.id, 200, &[], b"done", crate::fake::END);
    assert_eq!(client.response().body, b"done");
    assert_eq!(house.report("hung")["id"], 1);
}

#[test]
fn a_worker_that_reads_nothing_is_found() {
    let mut house = House::open(|options| options["timeout"] = 0.6.into());
    let worker = house.worker(1);
    let mut client = house.connect();
    client.get("/waits");
    eventually("it is handed over", || !worker.end.requests.is_empty());
    house.report("hung");
    let mut other = house.worker(1);
    let asked = other.expect("/waits");
    other.answer(&asked, b"ok");
    assert_eq!(client.response().body, b"ok");
}

#[test]
fn an_event_loop_may_be_silent_about_a_request_but_not_leave_frames_unread() {
    let mut house = House::open(|options| {
        options["timeout"] = 0.6.into();
        options["evented"] = true.into();
    });
    let mut worker = house.worker(10);
    let mut client = house.connect();
    client.get("/long");
    let asked = worker.expect("/long");
    let until = Instant::now() + Duration::from_millis(1500);
    while Instant::now() < until {
        assert!(worker.poll(Instant::now() + Duration::from_millis(50)).is_none());
    }
    assert!(!house.has_reported("hung"));
    worker.answer(&asked, b"ok");
    assert_eq!(client.response().body, b"ok");
    // And now it reads nothing any more.
    assert_eq!(house.report("hung")["what"], "the event loop");
}

#[test]
fn a_request_has_a_time_limit_of_its_own() {
    let mut house = House::open(|options| {
        options["request_timeout"] = 0.5.into();
        options["evented"] = true.into();
    });
    let mut worker = house.worker(10);
    let mut client = house.connect();
    client.get("/long");
    let asked = worker.expect("/long");
    assert_eq!(client.response().status, 504);
    let event = worker.event();
    assert!(matches!(event, Event::Cancel(id) if id == asked.id), "{event:?}");
    worker.abort(asked.id);
    client.get("/next");
    let asked = worker.expect("/next");
    worker.answer(&asked, b"ok");
    assert_eq!(client.response().body, b"ok");
    assert!(!house.has_reported("hung"));
}

#[test]
fn a_worker_that_retires_finishes_what_it_has_begun_and_nothing_more() {
    let mut house = House::open(|_| {});
    let mut old = house.worker(1);
    let mut client = house.connect();
    client.get("/begun");
    let asked = old.expect("/begun");
    let mut new = house.worker(1);
    house.order(&json!({"type": "retire", "id": old.id}), &[]);
    let mut other = house.connect();
    other.get("/new");
    let newer = new.expect("/new");
    new.answer(&newer, b"new");
    assert_eq!(other.response().body, b"new");
    assert!(!house.has_reported("retired"));
    old.answer(&asked, b"old");
    assert_eq!(client.response().body, b"old");
    assert_eq!(house.report("retired")["id"], old.id);
    assert!(matches!(old.event(), Event::Stop));
}

#[test]
fn an_idle_worker_that_retires_is_stopped_at_once() {
    let mut house = House::open(|_| {});
    let mut worker = house.worker(1);
    house.order(&json!({"type": "retire", "id": worker.id}), &[]);
    assert!(matches!(worker.event(), Event::Stop));
    house.report("retired");
}

#[test]
fn a_worker_that_has_had_its_requests_is_reported_once_and_goes_on() {
    let mut house = House::open(|_| {});
    let mut worker = house.worker_of(1, 3);
    let mut client = house.connect();
    for n in 0..5 {
        client.get("/");
        let asked = worker.expect("/");
        worker.answer(&asked, b"");
        client.response();
        assert_eq!(house.has_reported("spent"), n >= 2, "{n}");
    }
    assert_eq!(house.report("spent")["id"], 1);
    assert!(!house.has_reported("spent"));
}

#[test]
fn another_router_takes_over_a_worker_and_what_the_first_asked_is_nobodys() {
    let mut house = House::open(|_| {});
    let mut worker = house.worker(1);
    let mut client = house.connect();
    client.get("/old");
    let old = worker.expect("/old");
    house.crash();
    assert!(client.rest().0.is_empty());
    house.start();
    house.attach(1, 1, 0);
    worker.greet(1);
    house.report("ready");
    // The worker is busy for nobody: its slot is not free.
    let mut client = house.connect();
    client.get("/new");
    std::thread::sleep(Duration::from_millis(100));
    assert!(worker.has_nothing());
    worker.answer(&old, b"for nobody");
    let asked = worker.expect("/new");
    assert_ne!(asked.id, old.id);
    worker.answer(&asked, b"new");
    assert_eq!(client.response().body, b"new");
}

#[test]
fn an_answer_to_an_earlier_router_is_no_greeting() {
    let mut house = House::open(|_| {});
    let mut worker = house.worker(1);
    house.crash();
    house.start();
    worker.ready(0);
    house.attach(1, 1, 0);
    std::thread::sleep(Duration::from_millis(50));
    assert!(!house.has_reported("ready"));
    worker.greet(0);
    house.report("ready");
}

#[test]
fn a_fast_worker_is_given_requests_ahead_and_they_are_taken_back_when_it_is_not() {
    let mut house = House::open(|_| {});
    let mut one = house.worker(1);
    let mut clients: Vec<_> = (0..4).map(|_| house.connect()).collect();
    // It learns that the worker is fast: 100 microseconds a request, two ahead.
    for _ in 0..50 {
        clients[0].get("/warm");
        let asked = one.expect("/warm");
        one.answer(&asked, b"");
        clients[0].response();
    }
    for (n, client) in clients.iter_mut().enumerate() {
        client.get(&format!("/{n}"));
    }
    let first = one.request();
    eventually("more is handed over", || !one.has_nothing());
    // It does not begin them: another worker gets them.
    let mut two = house.worker(1);
    for _ in 0..3 {
        let asked = two.request();
        two.answer(&asked, b"two");
    }
    one.answer(&first, b"one");
    let mut bodies: Vec<_> = clients.iter_mut().map(|client| client.response().body).collect();
    bodies.sort();
    assert_eq!(bodies, [&b"one"[..], b"two", b"two", b"two"]);
}

/// Numbers that look like chance and are the same each time.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % sides
    }
}

#[test]
fn whatever_a_worker_writes_the_router_lives_and_its_client_gets_a_response_or_a_cut() {
    let mut house = House::open(|options| options["max_queue"] = 1.into());
    for seed in 0..150 {
        let mut dice = Dice(seed);
        let mut worker = house.worker(1);
        let mut client = house.connect();
        client.get("/victim");
        let asked = worker.expect("/victim");
        for _ in 0..dice.roll(8) {
            let kind = [16, 17, 18, 19, 20, 21, 22, 2, 2, 2, 17, 99][dice.roll(12) as usize];
            let mut payload = asked.id.to_le_bytes().to_vec();
            match dice.roll(4) {
                // What could be a message, for the right request.
                0 | 1 => {
                    payload.extend_from_slice(&(dice.roll(8) as u16).to_le_bytes());
                    payload.extend_from_slice(&[0; 6]);
                    payload.extend_from_slice(&[200, 0, 0, 0, 0, 0, 0, 0, 0, 0][..dice.roll(11) as usize]);
                    payload.extend_from_slice(&vec![b'd'; dice.roll(100) as usize]);
                }
                // For another one.
                2 => payload = vec![0xff; dice.roll(64) as usize],
                _ => payload = (0..dice.roll(64)).map(|_| dice.roll(256) as u8).collect(),
            }
            let _ = worker.end.responses.push(kind, &[&payload]);
        }
        worker.end.wake_router.signal();
        house.gone(worker);
        // Whatever there is to come has come when the client says that it is done.
        client.finish();
        let (bytes, reset) = client.rest();
        let parsed = crate::strict::parse(&bytes, false, !reset);
        assert!(parsed.is_ok(), "{seed}: {parsed:?} {:?}", String::from_utf8_lossy(&bytes));
    }
    // It still serves.
    let mut worker = house.worker(1);
    let mut client = house.connect();
    client.get("/");
    let asked = worker.expect("/");
    worker.answer(&asked, b"ok");
    assert_eq!(client.response().body, b"ok");
}
