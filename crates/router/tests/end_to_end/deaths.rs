//! What kills workers: how often it may, and who waits for it. And workers that only seem to live.

use std::os::unix::fs::FileExt;
use std::time::{Duration, Instant};

use crate::client::Client;
use crate::fake::Fake;
use crate::house::{House, PATIENCE, eventually};

/// Ask for `/kills`, have the worker begin it, and let the worker die of it.
fn kill(house: &mut House, query: &str) {
    let mut worker = house.worker(1);
    let mut client = house.connect();
    client.get(&format!("/kills?{query}"));
    worker.expect("/kills");
    house.gone(worker);
    assert_eq!(client.response().status, 502);
}

fn serve(worker: &mut Fake, client: &mut Client, path: &str) {
    client.get(path);
    let asked = worker.expect(path);
    worker.answer(&asked, b"ok");
    assert_eq!(client.response().body, b"ok");
}

#[test]
fn a_request_that_leaves_no_trace_of_what_it_does_kills_two_workers_and_no_third() {
    let mut house = House::open(|_| {});
    let mut client = house.connect();
    client.get("/wipes");
    for _ in 0..2 {
        let mut worker = house.worker(1);
        // Begun, and everything is zero afterwards: as if it had not been looked at.
        worker.expect("/wipes");
        worker.wipe();
        house.gone(worker);
    }
    assert_eq!(client.response().status, 502);
    assert_eq!(house.report("lost")["what"], "GET /wipes");
    let mut worker = house.worker(1);
    serve(&mut worker, &mut client, "/next");
    assert!(worker.has_nothing());
}

#[test]
fn a_request_that_lies_with_two_dead_workers_and_was_begun_by_neither_is_a_502() {
    let mut house = House::open(|_| {});
    let mut client = house.connect();
    client.get("/waits");
    for _ in 0..2 {
        let worker = house.worker(1);
        eventually("it is handed over", || !worker.end.requests.is_empty());
        house.gone(worker);
    }
    assert_eq!(client.response().status, 502);
    // The next request on the same connection begins anew.
    client.get("/again");
    let worker = house.worker(1);
    eventually("it is handed over", || !worker.end.requests.is_empty());
    house.gone(worker);
    let mut worker = house.worker(1);
    let asked = worker.expect("/again");
    worker.answer(&asked, b"ok");
    assert_eq!(client.response().body, b"ok");
}

#[test]
fn a_request_that_lies_behind_what_kills_workers_is_delivered_as_often_as_it_takes() {
    let mut house = House::open(|_| {});
    let mut busy: Vec<(Fake, Client)> = Vec::new();
    for n in 0..5 {
        let mut worker = house.worker(2);
        let mut client = house.connect();
        client.get(&format!("/kills/{n}"));
        // The one with the fewest requests is given it.
        worker.expect(&format!("/kills/{n}"));
        busy.push((worker, client));
    }
    let mut innocent = house.connect();
    innocent.get("/innocent");
    while !busy.is_empty() {
        let mut found = None;
        eventually("it lies with one of them", || {
            found = busy.iter_mut().position(|(worker, _)| worker.has_pending());
            found.is_some()
        });
        let Some(index) = found else { continue };
        let (worker, mut client) = busy.swap_remove(index);
        house.gone(worker);
        assert_eq!(client.response().status, 502);
    }
    let mut last = house.worker(2);
    let asked = last.expect("/innocent");
    last.answer(&asked, b"ok");
    assert_eq!(innocent.response().body, b"ok");
}

#[test]
fn a_worker_whose_ring_runs_backwards_is_broken() {
    let mut house = House::open(|_| {});
    let mut worker = house.worker(1);
    let mut client = house.connect();
    serve(&mut worker, &mut client, "/");
    // The router looks where its reader is from time to time.
    std::thread::sleep(Duration::from_millis(500));
    worker.memory.write_all_at(&0_u64.to_ne_bytes(), 192).unwrap();
    assert_eq!(house.report("broken")["why"], "the consumer's position is impossible");
}

/// Let a worker read, but begin nothing: until the router says that it is hung.
fn only_reads(house: &mut House) {
    let mut worker = house.worker(1);
    let mut clients: Vec<_> = (0..3).map(|_| house.connect()).collect();
    for client in &mut clients {
        client.get("/waits");
    }
    let until = Instant::now() + PATIENCE;
    while !house.has_reported("hung") {
        assert!(Instant::now() < until, "it is not found");
        // One look: what came after it may be pending, and is not to be skipped.
        match worker.end.requests.peek().unwrap() {
            Some(frame)
                if frame.kind != channel::message::REQUEST || !worker.end.requests.is_pending(&frame) =>
            {
                worker.end.requests.release(&frame);
            }
            _ => std::thread::sleep(Duration::from_millis(5)),
        }
    }
    assert_eq!(house.report("hung")["what"], "it begins nothing that it is given");
    let mut other = house.worker(1);
    for _ in 0..3 {
        let asked = other.expect("/waits");
        other.answer(&asked, b"ok");
    }
    for client in &mut clients {
        assert_eq!(client.response().body, b"ok");
    }
}

#[test]
fn a_worker_that_only_skips_what_was_taken_back_is_found() {
    only_reads(&mut House::open(|options| options["timeout"] = 1.0.into()));
}

#[test]
fn an_event_loop_that_only_skips_what_was_taken_back_is_found() {
    only_reads(&mut House::open(|options| {
        options["timeout"] = 1.0.into();
        options["evented"] = true.into();
    }));
}

#[test]
fn a_worker_that_was_late_once_and_then_had_nothing_to_do_is_not_hung() {
    let mut house = House::open(|options| options["timeout"] = 1.0.into());
    let mut worker = house.worker(1);
    let mut client = house.connect();
    for _ in 0..2 {
        client.get("/late");
        // It is taken back at least once before it is looked at.
        std::thread::sleep(Duration::from_millis(700));
        let asked = worker.expect("/late");
        worker.answer(&asked, b"ok");
        assert_eq!(client.response().body, b"ok");
        std::thread::sleep(Duration::from_millis(900));
    }
    assert!(!house.has_reported("hung"));
}

#[test]
fn what_has_killed_three_workers_waits_behind_others_and_is_tried_by_one_worker_alone() {
    let mut house = House::open(|_| {});
    for _ in 0..3 {
        kill(&mut house, "a");
    }
    assert!(house.errors().contains("GET /kills: 3 workers died of it"), "{}", house.errors());
    let mut one = house.worker(2);
    let mut two = house.worker(2);
    // A worker boots: nothing is risked before it is there.
    let mut kills: Vec<_> = (0..3).map(|_| house.connect()).collect();
    for (n, client) in kills.iter_mut().enumerate() {
        client.get(&format!("/kills?{n}"));
    }
    eventually("one worker tries one of them", || !one.has_nothing() || !two.has_nothing());
    if one.has_nothing() {
        std::mem::swap(&mut one, &mut two);
    }
    let tried = one.expect("/kills");
    // Whoever else comes goes to the other worker, though the first has a free slot.
    let mut clients: Vec<_> = (0..2).map(|_| house.connect()).collect();
    for client in &mut clients {
        client.get("/good");
    }
    for client in &mut clients {
        let asked = two.expect("/good");
        two.answer(&asked, b"ok");
        assert_eq!(client.response().body, b"ok");
    }
    assert!(one.has_nothing() && two.has_nothing(), "one suspect at a time");
    house.gone(one);
    // The next one waits for a moment and for whoever boots.
    let booting = house.boot(2);
    std::thread::sleep(Duration::from_millis(600));
    assert!(two.has_nothing());
    drop(booting);
    // Survived: its like is clear, and all that wait come at once.
    house.order(&serde_json::json!({"type": "gone", "id": 6, "why": "exited"}), &[]);
    let asked = two.expect("/kills");
    assert!(two.has_nothing());
    two.answer(&asked, b"lives");
    let asked_next = two.expect("/kills");
    two.answer(&asked_next, b"lives");
    assert_eq!(tried.path, "/kills");
    let statuses: Vec<_> = kills.iter_mut().map(|client| client.response().status).collect();
    assert_eq!(statuses.iter().filter(|status| **status == 200).count(), 2, "{statuses:?}");
    assert_eq!(statuses.iter().filter(|status| **status == 502).count(), 1, "{statuses:?}");
}

#[test]
fn an_innocent_one_that_was_there_each_time_is_tried_before_what_has_killed_alone() {
    let mut house = House::open(|_| {});
    for _ in 0..6 {
        let mut worker = house.worker(2);
        let mut clients = [house.connect(), house.connect()];
        for (client, path) in clients.iter_mut().zip(["/good", "/kills"]) {
            client.get(path);
            worker.expect(path);
        }
        house.gone(worker);
        for client in &mut clients {
            assert_eq!(client.response().status, 502);
        }
    }
    assert!(house.errors().contains("GET /good: 3 workers died of it"), "{}", house.errors());
    let mut clients: Vec<_> = (0..6).map(|_| house.connect()).collect();
    for (client, path) in clients.iter_mut().zip(["/kills", "/kills", "/good", "/kills", "/good", "/good"]) {
        client.get(path);
        // In this order.
        std::thread::sleep(Duration::from_millis(20));
    }
    let mut worker = house.worker(2);
    worker.expect("/kills");
    house.gone(worker);
    assert_eq!(clients[0].response().status, 502);
    let mut worker = house.worker(2);
    for _ in 0..3 {
        let asked = worker.expect("/good");
        worker.answer(&asked, b"ok");
    }
    for n in [2, 4, 5] {
        assert_eq!(clients[n].response().body, b"ok");
    }
    worker.expect("/kills");
}

#[test]
fn others_of_the_same_method_or_path_are_not_suspect() {
    let mut house = House::open(|_| {});
    for _ in 0..3 {
        kill(&mut house, "b");
    }
    let mut worker = house.worker(1);
    let booting = house.boot(1);
    let mut client = house.connect();
    serve(&mut worker, &mut client, "/other");
    client.send("POST /kills HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n");
    let asked = worker.expect("/kills");
    assert_eq!(asked.method, "POST");
    worker.answer(&asked, b"");
    client.response();
    drop(booting);
}

#[test]
fn suspects_beyond_a_bound_are_turned_away_and_others_are_not() {
    let mut house = House::open(|_| {});
    for _ in 0..3 {
        kill(&mut house, "b");
    }
    let mut clients: Vec<_> = (0..70).map(|_| house.connect()).collect();
    for client in &mut clients {
        client.get("/kills");
    }
    eventually("some are turned away", || house.accesses().matches("GET /kills 503").count() == 6);
    let mut worker = house.worker(1);
    let mut client = house.connect();
    client.get("/good");
    // One suspect may be before it.
    let mut asked = worker.request();
    if asked.path == "/kills" {
        worker.answer(&asked, b"");
        asked = worker.request();
    }
    while asked.path == "/kills" {
        worker.answer(&asked, b"");
        asked = worker.request();
    }
    worker.answer(&asked, b"ok");
    assert_eq!(client.response().body, b"ok");
}

#[test]
fn a_death_of_many_requests_is_told_in_one_report() {
    let mut house = House::open(|_| {});
    let mut worker = house.worker(16);
    let mut clients: Vec<_> = (0..9).map(|_| house.connect()).collect();
    for (n, client) in clients.iter_mut().enumerate() {
        client.get(&format!("/{}", n.saturating_sub(2)));
        worker.request();
    }
    house.gone(worker);
    for client in &mut clients {
        assert_eq!(client.response().status, 502);
    }
    assert_eq!(house.report("lost")["what"], "GET /0 (3), GET /1, GET /2, GET /3 and 3 more");
    assert!(!house.has_reported("lost"));
}

#[test]
fn while_classes_change_each_body_comes_as_its_worker_takes_it() {
    let mut house = House::open(|options| options["streams"] = true.into());
    let mut old = house.worker(1);
    let mut held = house.connect();
    held.get("/held");
    let busy = old.expect("/held");
    // A body in pieces, for which no worker is free.
    let mut early = house.connect();
    early.send("POST /early HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\nbo");
    std::thread::sleep(Duration::from_millis(50));
    house.streams = false;
    let mut new = house.worker(1);
    // From now on bodies are awaited, as both can take them so.
    let mut late = house.connect();
    late.send("POST /late HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\nbody");
    std::thread::sleep(Duration::from_millis(50));
    assert!(new.has_nothing(), "first come, first served");
    // Nobody takes the first in pieces any more: it is told to come again.
    house.order(&serde_json::json!({"type": "retire", "id": old.id}), &[]);
    assert_eq!(early.response().status, 503);
    let asked = new.expect("/late");
    assert_eq!((asked.came, &asked.body[..]), (crate::fake::Came::Inline, &b"body"[..]));
    new.answer(&asked, b"ok");
    assert_eq!(late.response().body, b"ok");
    old.answer(&busy, b"old");
    assert_eq!(held.response().body, b"old");
}
