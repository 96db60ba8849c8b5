use std::time::Duration;

use channel::link::{Files, WorkerEnd};
use channel::memory::Layout;
use channel::message::{FieldsWriter, RequestLine};

use super::*;
use crate::client::Clients;

const LAYOUT: Layout = Layout { slots: 8, requests: 256 << 10, responses: 256 << 10 };

/// A newcomer of a class that is no event loop.
fn newcomer(slots: usize) -> Newcomer {
    Newcomer { id: 7, pid: 123, slots, max_requests: 0, streams: false, evented: false }
}

fn worker_of(newcomer: Newcomer) -> (Worker, WorkerEnd) {
    let files = Files::create(LAYOUT).unwrap();
    let worker = Worker::open(newcomer, files.router).unwrap();
    let mut end = WorkerEnd::open(files.worker).unwrap();
    assert_eq!(next(&mut end), Some((message::HELLO, true)));
    assert!(worker.ready(0));
    (worker, end)
}

fn worker(slots: usize) -> (Worker, WorkerEnd) {
    worker_of(newcomer(slots))
}

fn exchange(path: &str) -> Rc<Exchange> {
    let (_, client) = Clients::default().add();
    let exchange = Exchange::new(client);
    let line = RequestLine {
        version: 11,
        https: false,
        method: b"GET",
        target: path.as_bytes(),
        path: path.as_bytes(),
        query: b"",
        script_name: b"",
        peer: b"",
        peer_port: 0,
        server: b"",
        server_port: 0,
        content_length: None,
    };
    let mut message = exchange.message.borrow_mut();
    Request::start(&mut message, &line).unwrap();
    FieldsWriter::new(&mut message).finish().unwrap();
    drop(message);
    exchange
}

/// The kind of the next frame, and whether it could be claimed.
fn next(end: &mut WorkerEnd) -> Option<(u16, bool)> {
    let frame = end.requests.peek().unwrap()?;
    let claimed = end.requests.claim(&frame);
    end.requests.release(&frame);
    Some((frame.kind, claimed))
}

fn id(worker: &Worker, exchange: &Exchange) -> u64 {
    let Place::Held(_, slot) = exchange.place.get() else { panic!("not held") };
    worker.at(slot).unwrap().0
}

/// Let it serve so many requests, each of which takes so long.
fn serve(worker: &Worker, end: &mut WorkerEnd, count: usize, micros: u32) {
    for _ in 0..count {
        let exchange = exchange("/");
        worker.hand(&exchange, Instant::now()).unwrap();
        next(end);
        worker.finish(id(worker, &exchange), micros);
    }
}

#[test]
fn a_channel_whose_rings_are_too_small_is_refused() {
    let files = Files::create(Layout { requests: 128 << 10, ..LAYOUT }).unwrap();
    let error = Worker::open(newcomer(1), files.router).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::InvalidData);
}

#[test]
fn a_worker_takes_nothing_before_it_is_ready() {
    let files = Files::create(LAYOUT).unwrap();
    let worker = Worker::open(newcomer(1), files.router).unwrap();
    assert!(!worker.has_free_slot() && !worker.may_work_ahead());
    assert!(worker.ready(0));
    assert!(worker.has_free_slot());
    assert!(!worker.ready(0), "once");
}

#[test]
fn each_router_has_a_generation_of_its_own() {
    let files = Files::create(LAYOUT).unwrap();
    let again = files.router.each_ref().map(|fd| fd.try_clone().unwrap());
    let first = Worker::open(newcomer(1), files.router).unwrap();
    let before = first.link.borrow().memory.generation();
    let second = Worker::open(newcomer(1), again).unwrap();
    assert_ne!(second.link.borrow().memory.generation(), before);
}

#[test]
fn a_request_that_is_handed_over_takes_a_slot_until_it_is_done() {
    let (worker, mut end) = worker(1);
    let exchange = exchange("/");
    worker.hand(&exchange, Instant::now()).unwrap();
    assert!(!worker.has_free_slot());
    assert_eq!((worker.load(), exchange.worker_pid.get()), (1, 123));
    assert_eq!(next(&mut end), Some((message::REQUEST, true)));
    let id = id(&worker, &exchange);
    assert!(Rc::ptr_eq(&worker.exchange(id).unwrap(), &exchange));
    worker.detach(0);
    assert_eq!(exchange.place.get(), Place::Home);
    assert!(worker.exchange(id).is_none());
    assert!(!worker.has_free_slot(), "not before it is done");
    worker.finish(id, 100);
    assert!(worker.has_free_slot() && worker.load() == 0);
}

#[test]
fn an_answer_under_an_old_id_reaches_nobody() {
    let (worker, mut end) = worker(1);
    let (first, second) = (exchange("/1"), exchange("/2"));
    worker.hand(&first, Instant::now()).unwrap();
    next(&mut end);
    let old = id(&worker, &first);
    worker.finish(old, 100);
    worker.hand(&second, Instant::now()).unwrap();
    assert!(worker.exchange(old).is_none());
    worker.finish(old, 100);
    assert_eq!(worker.load(), 1, "the slot is the second one's");
    for id in [0, u64::MAX, 0xffff, old + 1] {
        assert!(worker.exchange(id).is_none());
        worker.finish(id, 100);
    }
    assert_eq!(worker.load(), 1);
}

#[test]
fn what_is_taken_back_was_not_begun_and_comes_in_order() {
    let (worker, mut end) = worker(4);
    let exchanges: Vec<_> = (0..4).map(|n| exchange(&format!("/{n}"))).collect();
    for exchange in &exchanges {
        worker.hand(exchange, Instant::now()).unwrap();
    }
    assert_eq!(next(&mut end), Some((message::REQUEST, true)));
    let taken = worker.take_back(Instant::now());
    assert_eq!(taken.len(), 3);
    assert!(taken.iter().zip(&exchanges[1..]).all(|(taken, handed)| Rc::ptr_eq(taken, handed)));
    assert_eq!(worker.load(), 1);
    // It is given nothing new before it has read on ...
    assert!(!worker.has_free_slot());
    // ... what was taken back is skipped ...
    for _ in 0..3 {
        assert_eq!(next(&mut end), Some((message::REQUEST, false)));
    }
    // ... and then it takes part again.
    assert!(worker.unread_since(Instant::now()).is_none());
    assert!(worker.has_free_slot());
}

#[test]
fn what_was_handed_over_later_is_not_taken_back() {
    let (worker, _end) = worker(2);
    let before = Instant::now();
    let exchange = exchange("/");
    worker.hand(&exchange, before + Duration::from_millis(1)).unwrap();
    assert!(worker.take_back(before).is_empty());
    assert!(worker.has_free_slot());
    assert_eq!(worker.take_back(before + Duration::from_millis(1)).len(), 1);
}

#[test]
fn a_request_whose_body_is_under_way_is_not_taken_back() {
    let (worker, _end) = worker(2);
    let exchange = exchange("/");
    worker.hand(&exchange, Instant::now()).unwrap();
    exchange.upload.set(crate::exchange::Upload { active: true, window: 0, begun: true });
    assert!(worker.take_back(Instant::now()).is_empty());
    let estate = worker.leave();
    assert_eq!((estate.unbegun.len(), estate.begun.len()), (0, 1));
}

#[test]
fn a_dead_worker_leaves_what_it_had_begun_and_what_not() {
    let (worker, mut end) = worker(4);
    let exchanges: Vec<_> = (0..4).map(|n| exchange(&format!("/{n}"))).collect();
    for exchange in &exchanges {
        worker.hand(exchange, Instant::now()).unwrap();
    }
    next(&mut end);
    // The client of the second one has left.
    next(&mut end);
    worker.detach(1);
    // The third is claimed, but still in the ring.
    let frame = end.requests.peek().unwrap().unwrap();
    assert!(end.requests.claim(&frame));
    let Estate { unbegun, begun, worked } = worker.leave();
    assert!(worked);
    assert!(unbegun.len() == 1 && Rc::ptr_eq(&unbegun[0], &exchanges[3]));
    assert!(begun.len() == 2 && Rc::ptr_eq(&begun[0], &exchanges[0]) && Rc::ptr_eq(&begun[1], &exchanges[2]));
    assert!(exchanges.iter().all(|exchange| exchange.place.get() == Place::Home));
}

#[test]
fn cancelling_takes_back_what_was_not_begun_and_tells_about_the_rest() {
    let (worker, mut end) = worker_of(Newcomer { evented: true, ..newcomer(2) });
    let (begun, waiting) = (exchange("/1"), exchange("/2"));
    worker.hand(&begun, Instant::now()).unwrap();
    worker.hand(&waiting, Instant::now()).unwrap();
    next(&mut end);
    let (Place::Held(_, one), Place::Held(_, two)) = (begun.place.get(), waiting.place.get()) else {
        panic!("not held")
    };
    worker.cancel(two, message::Reason::ClientLeft);
    assert_eq!(worker.load(), 1);
    worker.cancel(one, message::Reason::ClientLeft);
    assert_eq!(worker.load(), 1, "until it is done");
    assert_eq!(end.memory.flow(usize::from(one)).unwrap().load(Ordering::Acquire), CANCELLED);
    assert_eq!(next(&mut end), Some((message::REQUEST, false)));
    assert_eq!(next(&mut end), Some((message::CANCEL, true)));
    // Whoever gets the slot next begins with a clean word.
    worker.cancel(one, message::Reason::ClientLeft);
    let id = worker.at(one).unwrap().0;
    worker.finish(id, 1);
    let third = exchange("/3");
    worker.hand(&third, Instant::now()).unwrap();
    assert_eq!(end.memory.flow(usize::from(one)).unwrap().load(Ordering::Acquire), 0);
}

#[test]
fn a_slot_that_nobody_waits_for_is_watched() {
    let (worker, mut end) = worker(2);
    let exchange = exchange("/");
    worker.hand(&exchange, Instant::now()).unwrap();
    next(&mut end);
    assert!(worker.silent_since().is_none(), "its client waits");
    let id = id(&worker, &exchange);
    worker.detach(0);
    let since = worker.silent_since().unwrap();
    std::thread::sleep(Duration::from_millis(2));
    worker.heard(id + (1 << 16));
    assert_eq!(worker.silent_since(), Some(since));
    worker.heard(id);
    assert!(worker.silent_since().unwrap() > since);
    worker.finish(id, 1);
    assert!(worker.silent_since().is_none());
}

#[test]
fn requests_of_an_earlier_router_take_slots_until_they_are_done() {
    let files = Files::create(LAYOUT).unwrap();
    let worker = Worker::open(newcomer(2), files.router).unwrap();
    worker.ready(2);
    assert_eq!(worker.load(), 2);
    assert!(!worker.has_free_slot());
    worker.finish(1 << 16, 100);
    assert!(worker.has_free_slot());
    worker.finish(2 << 16, 100);
    worker.finish(3 << 16, 100);
    assert_eq!(worker.load(), 0);
}

#[test]
fn how_far_ahead_follows_from_how_fast_it_is() {
    let (worker, mut end) = worker(1);
    assert_eq!(worker.ahead(), 0, "unknown");
    serve(&worker, &mut end, 100, 200);
    assert_eq!(worker.ahead(), 10);
    // One slow request ends it at once, and a few dozen fast ones begin it again.
    serve(&worker, &mut end, 1, 2_000_000);
    assert_eq!(worker.ahead(), 0);
    serve(&worker, &mut end, 60, 200);
    assert!(worker.ahead() >= 5, "{}", worker.ahead());
    serve(&worker, &mut end, 100, 5000);
    assert_eq!(worker.ahead(), 0);
    // Nothing is too fast to be believed.
    serve(&worker, &mut end, 200, 0);
    assert!(worker.ahead() <= 4000);
}

#[test]
fn working_ahead_is_bounded_by_the_channels_slots() {
    let (worker, mut end) = worker(1);
    serve(&worker, &mut end, 200, 1);
    let now = Instant::now();
    let mut kept = Vec::new();
    while worker.may_work_ahead() {
        let exchange = exchange("/");
        worker.hand(&exchange, now).unwrap();
        kept.push(exchange);
    }
    assert_eq!(kept.len(), LAYOUT.slots);
    assert!(worker.works_ahead());
    assert!(matches!(worker.hand(&exchange("/"), now), Err(Refused::NoRoom)));
}

#[test]
fn what_finds_no_room_leaves_no_descriptor_behind() {
    let (worker, mut end) = worker(8);
    let large = || {
        let exchange = exchange("/");
        exchange.message.borrow_mut().resize(100 << 10, 0);
        exchange
    };
    let (one, two) = (large(), large());
    worker.hand(&one, Instant::now()).unwrap();
    worker.hand(&two, Instant::now()).unwrap();
    let third = large();
    let file = crate::spool::temporary_file(None).unwrap();
    *third.file.borrow_mut() = Some(file);
    for _ in 0..1000 {
        assert!(matches!(worker.hand(&third, Instant::now()), Err(Refused::NoRoom)));
    }
    assert_eq!(end.descriptors.receive().unwrap_err().kind(), io::ErrorKind::WouldBlock);
    assert_eq!(third.place.get(), Place::Home);
    next(&mut end);
    next(&mut end);
    worker.hand(&third, Instant::now()).unwrap();
    end.descriptors.receive_for(id(&worker, &third)).unwrap();
}

#[test]
fn a_ring_with_impossible_positions_breaks_the_worker() {
    let files = Files::create(LAYOUT).unwrap();
    let memory = std::fs::File::from(files.worker[0].try_clone().unwrap());
    let worker = Worker::open(newcomer(8), files.router).unwrap();
    worker.ready(0);
    // Full, so that it has to look at where the other side is: nowhere.
    let exchange = exchange("/");
    exchange.message.borrow_mut().resize(100 << 10, 0);
    worker.hand(&exchange, Instant::now()).unwrap();
    worker.hand(&exchange, Instant::now()).unwrap();
    std::os::unix::fs::FileExt::write_all_at(&memory, &u64::MAX.to_ne_bytes(), 192).unwrap();
    assert!(matches!(worker.hand(&exchange, Instant::now()), Err(Refused::Broken(_))));
}

#[test]
fn what_was_given_back_does_not_count_for_max_requests() {
    let (worker, mut end) = worker_of(Newcomer { max_requests: 2, ..newcomer(2) });
    let (one, two) = (exchange("/1"), exchange("/2"));
    worker.hand(&one, Instant::now()).unwrap();
    assert_eq!(worker.take_back(Instant::now()).len(), 1);
    next(&mut end);
    assert!(worker.unread_since(Instant::now()).is_none());
    worker.hand(&one, Instant::now()).unwrap();
    assert!(!worker.is_spent());
    worker.hand(&two, Instant::now()).unwrap();
    assert!(worker.is_spent());
    assert!(!worker.is_spent(), "said once");
}

#[test]
fn unread_frames_have_an_age_until_the_worker_reads_on() {
    let (worker, mut end) = worker(2);
    let start = Instant::now();
    let at = |millis| start + Duration::from_millis(millis);
    assert!(worker.unread_since(start).is_none());
    worker.hand(&exchange("/1"), start).unwrap();
    worker.hand(&exchange("/2"), start).unwrap();
    assert_eq!(worker.unread_since(at(10)), Some(start));
    assert_eq!(worker.unread_since(at(20)), Some(start));
    next(&mut end);
    assert_eq!(worker.unread_since(at(30)), Some(at(30)));
    assert_eq!(worker.unread_since(at(40)), Some(at(30)));
    next(&mut end);
    assert!(worker.unread_since(at(50)).is_none());
}

#[test]
fn a_part_of_a_body_that_finds_no_room_is_tried_again_when_there_is_some() {
    let (worker, mut end) = worker(2);
    let exchange = exchange("/");
    worker.hand(&exchange, Instant::now()).unwrap();
    let part = [0; 32 << 10];
    let mut pushed = 0;
    while worker.upload(0, &part, false, &exchange.client) {
        pushed += 1;
        assert!(pushed < 100);
    }
    assert!(pushed >= 6);
    assert_eq!(worker.starving.borrow().len(), 1);
    next(&mut end);
    next(&mut end);
    assert!(end.requests.must_wake(), "the router waits for room");
    assert!(!worker.give_room());
    assert_eq!(worker.starving.borrow().len(), 1, "that is not enough");
    while end.requests.peek().unwrap().is_some() {
        next(&mut end);
    }
    assert!(end.requests.must_wake(), "the router still waits for room");
    assert!(!worker.give_room(), "no request waits for it");
    assert!(worker.starving.borrow().is_empty());
    assert!(worker.upload(0, &part, true, &exchange.client));
}

#[test]
fn a_request_that_finds_no_room_is_handed_out_when_there_is_some() {
    let (worker, mut end) = worker(8);
    let large = || {
        let exchange = exchange("/");
        exchange.message.borrow_mut().resize(100 << 10, 0);
        exchange
    };
    worker.hand(&large(), Instant::now()).unwrap();
    worker.hand(&large(), Instant::now()).unwrap();
    assert!(!worker.give_room());
    assert!(matches!(worker.hand(&large(), Instant::now()), Err(Refused::NoRoom)));
    assert!(!worker.give_room(), "nothing was read");
    next(&mut end);
    next(&mut end);
    assert!(end.requests.must_wake(), "the router waits for room");
    assert!(worker.give_room());
    assert!(!worker.give_room(), "said once");
    worker.hand(&large(), Instant::now()).unwrap();
}

#[test]
fn a_worker_that_is_told_to_wait_may_go_on_later() {
    let (worker, end) = worker(2);
    let exchange = exchange("/");
    worker.hand(&exchange, Instant::now()).unwrap();
    let word = || end.memory.flow(0).unwrap().load(Ordering::Acquire);
    worker.set_paused(0, true);
    assert_eq!(word(), PAUSED);
    worker.set_paused(0, false);
    assert_eq!(word(), 0);
    let timeout = Some(Duration::from_secs(10));
    assert!(end.room.wait(end.descriptors.as_fd(), timeout).unwrap().0, "it is woken");
}

#[test]
fn a_worker_that_begins_nothing_is_deaf_until_it_does() {
    let (worker, mut end) = worker(2);
    let start = Instant::now();
    let at = |millis| start + Duration::from_millis(millis);
    worker.deaf_since(start);
    assert_eq!(worker.deaf_since(at(10)), None, "it was given nothing");
    let exchange = exchange("/");
    worker.hand(&exchange, at(10)).unwrap();
    assert_eq!(worker.deaf_since(at(20)), Some(at(20)));
    assert_eq!(worker.take_back(at(20)).len(), 1);
    assert_eq!(worker.deaf_since(at(30)), Some(at(20)));
    // It skips what was taken back: that is nothing.
    assert_eq!(next(&mut end), Some((message::REQUEST, false)));
    worker.unread_since(at(30));
    worker.hand(&exchange, at(35)).unwrap();
    assert_eq!(worker.deaf_since(at(40)), Some(at(20)));
    assert_eq!(next(&mut end), Some((message::REQUEST, true)));
    assert_eq!(worker.deaf_since(at(50)), None);
    worker.finish(id(&worker, &exchange), 1);
    assert_eq!(worker.deaf_since(at(60)), None);
}

#[test]
fn a_worker_that_is_busy_is_not_deaf_to_what_it_was_given_ahead() {
    let (worker, mut end) = worker(1);
    serve(&worker, &mut end, 100, 25);
    let now = Instant::now();
    worker.hand(&exchange("/busy"), now).unwrap();
    worker.hand(&exchange("/ahead"), now).unwrap();
    next(&mut end);
    worker.deaf_since(now);
    for seconds in 1..100 {
        assert_eq!(worker.deaf_since(now + Duration::from_secs(seconds)), None);
    }
}

#[test]
fn an_event_loop_with_free_slots_is_deaf_though_it_has_begun_something() {
    let (worker, mut end) = worker_of(Newcomer { evented: true, ..newcomer(2) });
    let now = Instant::now();
    worker.hand(&exchange("/long"), now).unwrap();
    next(&mut end);
    worker.deaf_since(now);
    assert_eq!(worker.deaf_since(now), None, "nothing else was given");
    worker.hand(&exchange("/waits"), now).unwrap();
    assert_eq!(worker.deaf_since(now), Some(now));
    // With all of its slots taken it need not begin more.
    next(&mut end);
    worker.deaf_since(now);
    assert_eq!(worker.deaf_since(now), None);
}
