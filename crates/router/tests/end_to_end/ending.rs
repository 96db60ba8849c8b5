//! Stopping, reloading, running short.

use std::net::TcpListener;
use std::os::fd::AsRawFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use serde_json::json;

use crate::client::Client;
use crate::fake::{Event, Fake};
use crate::house::{House, eventually};

/// Answer everything until told to stop.
fn serve(mut worker: Fake) -> (Arc<AtomicBool>, JoinHandle<Fake>) {
    let stop = Arc::new(AtomicBool::new(false));
    let told = stop.clone();
    let thread = std::thread::spawn(move || {
        while !told.load(Ordering::Relaxed) {
            match worker.poll(Instant::now() + Duration::from_millis(20)) {
                Some(Event::Request(asked)) => worker.answer(&asked, asked.path.clone().as_bytes()),
                Some(Event::Stop) | None => {}
                Some(other) => panic!("{other:?}"),
            }
        }
        worker
    });
    (stop, thread)
}

#[test]
fn stopping_serves_what_has_come_and_resets_nobody() {
    let mut house = House::open(|_| {});
    let worker = house.worker(1);
    // Connections in use, idle ones, and many that are still in the backlog.
    let mut idle = house.connect();
    let mut clients: Vec<Client> = (0..200).map(|_| house.connect()).collect();
    for (n, client) in clients.iter_mut().enumerate() {
        client.get(&format!("/{n}"));
    }
    house.order(&json!({"type": "stop", "grace": 20.0}), &[]);
    let (stop, thread) = serve(worker);
    for (n, client) in clients.iter_mut().enumerate() {
        let response = client.response();
        assert_eq!((response.status, response.body), (200, format!("/{n}").into_bytes()));
        client.is_closed();
    }
    idle.is_closed();
    house.report("stopped");
    stop.store(true, Ordering::Relaxed);
    thread.join().unwrap();
}

#[test]
fn an_idle_router_stops_at_once() {
    let house = House::open(|_| {});
    let begun = Instant::now();
    house.order(&json!({"type": "stop", "grace": 30.0}), &[]);
    house.report("stopped");
    assert!(begun.elapsed() < Duration::from_secs(5));
}

#[test]
fn what_is_left_after_the_grace_is_cut() {
    let mut house = House::open(|_| {});
    let mut worker = house.worker(1);
    let mut client = house.connect();
    client.get("/long");
    let asked = worker.expect("/long");
    worker.head(asked.id, 200, &[], b"half", 0);
    client.until(b"half");
    house.order(&json!({"type": "stop", "grace": 0.5}), &[]);
    let (bytes, _) = client.rest();
    assert!(crate::strict::parse(&bytes, false, true).unwrap().is_none());
    house.report("stopped");
}

#[test]
fn a_response_that_ends_while_stopping_ends_its_connection() {
    let mut house = House::open(|_| {});
    let mut worker = house.worker(1);
    let mut client = house.connect();
    client.get("/long");
    let asked = worker.expect("/long");
    house.order(&json!({"type": "stop", "grace": 20.0}), &[]);
    house.is_heard();
    worker.answer(&asked, b"ok");
    let response = client.response();
    assert!(!response.keeps_alive());
    client.is_closed();
    house.report("stopped");
}

#[test]
fn a_socket_that_another_shares_takes_connections_after_the_stop() {
    let house = House::open(|_| {});
    house.order(&json!({"type": "stop", "grace": 5.0}), &[]);
    house.report("stopped");
    // The test is the successor, with the same socket. A handshake that is dropped is tried again
    // after a second, by then in vain.
    let _client = std::net::TcpStream::connect_timeout(&house.address, Duration::from_millis(900)).unwrap();
    house.listener.accept().unwrap();
}

#[test]
fn the_arbiters_death_does_not_lose_a_request() {
    let mut house = House::open(|_| {});
    let mut worker = house.worker(1);
    let (mut first, mut second) = (house.connect(), house.connect());
    first.get("/1");
    let asked = worker.expect("/1");
    second.get("/2");
    std::thread::sleep(Duration::from_millis(50));
    house.orphan();
    eventually("it is noticed", || house.errors().contains("the arbiter is gone"));
    worker.answer(&asked, b"1");
    let asked = worker.expect("/2");
    worker.answer(&asked, b"2");
    assert_eq!(first.response().body, b"1");
    assert_eq!(second.response().body, b"2");
    assert_eq!(house.exit_code(), 0);
    // Nobody else would tell it.
    assert!(matches!(worker.event(), Event::Stop));
}

#[test]
fn new_settings_are_for_what_begins_from_now_on_and_no_log_line_is_lost() {
    let mut house = House::open(|_| {});
    let mut worker = house.worker(1);
    let (mut client, mut idle) = (house.connect(), house.connect());
    for client in [&mut client, &mut idle] {
        client.get("/before");
        let asked = worker.expect("/before");
        worker.answer(&asked, b"");
        client.response();
    }
    client.get("/across");
    let asked = worker.expect("/across");
    let mut options = house.options.clone();
    let path = house.directory.0.join("access2");
    options["accesslog"] = path.to_str().unwrap().into();
    options["access_log_format"] = "%(U)s".into();
    options["errorlog"] = house.directory.0.join("errors2").to_str().unwrap().into();
    options["limit_request_body"] = 10.into();
    house.configure(&options);
    house.is_heard();
    let second = || std::fs::read_to_string(&path).unwrap_or_default();
    worker.answer(&asked, b"");
    client.response();
    client.get("/after");
    let asked = worker.expect("/after");
    worker.answer(&asked, b"");
    client.response();
    client.send("POST /x HTTP/1.1\r\nHost: a\r\nContent-Length: 11\r\n\r\n");
    client.is_refused(413);
    eventually("all is written", || house.accesses().lines().count() + second().lines().count() == 5);
    assert!(house.accesses().starts_with("GET /before 200 0\nGET /before 200 0\n"));
    assert!(second().ends_with("/after\n/x\n"), "{:?}", second());
    assert!(std::fs::read_to_string(house.directory.0.join("errors2")).unwrap().contains("Invalid request"));
}

#[test]
fn the_main_task_answers_whether_it_lives_in_the_order_of_what_it_is_told() {
    let house = House::open(|_| {});
    for _ in 0..3 {
        house.is_heard();
    }
    house.order(&json!({"type": "stop", "grace": 30.0}), &[]);
    house.is_heard();
    assert!(!house.has_reported("pong"));
}

#[test]
fn orders_that_need_the_log_files_and_come_without_end_the_router() {
    for order in ["options", "reopen"] {
        let mut house = House::open(|_| {});
        let mut message = house.options.clone();
        message["type"] = order.into();
        house.order(&message, &[]);
        assert_eq!(house.exit_code(), 1);
    }
}

#[test]
fn settings_that_are_wrong_leave_the_old_ones() {
    let mut house = House::open(|_| {});
    let mut worker = house.worker(1);
    let mut options = house.options.clone();
    options["access_log_format"] = "%(nonsense)s".into();
    house.configure(&options);
    eventually("it is logged", || house.errors().contains("the new settings are not used"));
    let mut client = house.connect();
    client.get("/");
    let asked = worker.expect("/");
    worker.answer(&asked, b"");
    client.response();
    eventually("the old log goes on", || house.accesses() == "GET / 200 0\n");
}

#[test]
fn a_log_that_was_moved_away_is_left_for_the_new_one() {
    let mut house = House::open(|_| {});
    let mut worker = house.worker(1);
    let mut client = house.connect();
    let mut ask = |path: &str| {
        client.get(path);
        let asked = worker.expect(path);
        worker.answer(&asked, b"");
        client.response();
    };
    ask("/1");
    eventually("the first line", || house.accesses() == "GET /1 200 0\n");
    std::fs::rename(house.directory.0.join("access"), house.directory.0.join("access.1")).unwrap();
    ask("/2");
    house.reopen();
    house.is_heard();
    ask("/3");
    eventually("the new line", || house.accesses() == "GET /3 200 0\n");
    let moved = std::fs::read_to_string(house.directory.0.join("access.1")).unwrap();
    assert_eq!(moved, "GET /1 200 0\nGET /2 200 0\n");
}

#[test]
fn a_listener_that_is_not_named_any_more_is_drained_and_the_others_stay() {
    let mut house = House::open(|_| {});
    let worker = house.worker(1);
    let other = TcpListener::bind("127.0.0.1:0").unwrap();
    let (old, new) = (house.address, other.local_addr().unwrap());
    let mut kept = house.connect();
    house.order(
        &json!({"type": "listeners", "listeners": [{"address": "127.0.0.1", "port": new.port()}]}),
        &[other.as_raw_fd()],
    );
    house.report("started");
    let (stop, thread) = serve(worker);
    let mut client = Client::new(std::net::TcpStream::connect(new).unwrap());
    client.get("/new");
    assert_eq!(client.response().status, 200);
    kept.get("/kept");
    assert_eq!(kept.response().status, 200);
    assert_ne!(old, new);
    stop.store(true, Ordering::Relaxed);
    thread.join().unwrap();
}

#[test]
fn idle_connections_make_room_for_new_ones() {
    let mut house = House::open(|options| options["max_connections"] = 4.into());
    let worker = house.worker(1);
    let (stop, thread) = serve(worker);
    let mut idle: Vec<Client> = (0..4).map(|_| house.connect()).collect();
    for client in &mut idle {
        client.get("/");
        client.response();
    }
    let mut client = house.connect();
    client.get("/new");
    assert_eq!(client.response().body, b"/new");
    idle[0].is_closed();
    stop.store(true, Ordering::Relaxed);
    thread.join().unwrap();
}

#[test]
fn a_thousand_requests_over_many_connections_are_all_answered() {
    let mut house = House::open(|_| {});
    let (one, two) = (house.worker(1), house.worker(2));
    let threads = [serve(one), serve(two)];
    let clients: Vec<_> = (0..8)
        .map(|n| {
            let mut client = house.connect();
            std::thread::spawn(move || {
                for m in 0..125 {
                    let path = format!("/{n}/{m}");
                    client.get(&path);
                    assert_eq!(client.response().body, path.as_bytes());
                }
            })
        })
        .collect();
    for client in clients {
        client.join().unwrap();
    }
    for (stop, thread) in threads {
        stop.store(true, Ordering::Relaxed);
        thread.join().unwrap();
    }
}
