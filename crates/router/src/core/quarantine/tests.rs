use channel::message::{FieldsWriter, RequestLine};

use super::*;
use crate::client::Clients;

fn exchange(method: &str, path: &str) -> Rc<Exchange> {
    let (_, client) = Clients::default().add();
    let exchange = Exchange::new(client);
    let line = RequestLine {
        version: 11,
        https: false,
        method: method.as_bytes(),
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

fn blame(quarantine: &Quarantine, path: &str, now: Instant) -> bool {
    quarantine.blame(quarantine.like(&exchange("GET", path)).unwrap(), 1.0, false, now)
}

/// A quarantine in which this like has killed so many workers at that time.
fn killed(path: &str, times: usize, at: Instant) -> Quarantine {
    let quarantine = Quarantine::default();
    for _ in 0..times {
        blame(&quarantine, path, at);
    }
    quarantine
}

#[test]
fn three_deaths_make_a_method_and_path_suspect_and_two_do_not() {
    let now = Instant::now();
    assert!(!killed("/", 2, now).holds(&exchange("GET", "/"), now));
    let quarantine = killed("/", 3, now);
    assert!(quarantine.holds(&exchange("GET", "/"), now));
    assert!(!quarantine.holds(&exchange("POST", "/"), now));
    assert!(!quarantine.holds(&exchange("GET", "/other"), now));
}

#[test]
fn deaths_are_forgotten_after_ten_seconds() {
    let start = Instant::now();
    let at = |seconds| start + Duration::from_secs(seconds);
    let quarantine = killed("/", 2, start);
    blame(&quarantine, "/", at(9));
    assert!(quarantine.holds(&exchange("GET", "/"), at(9)));
    assert!(!quarantine.holds(&exchange("GET", "/"), at(10)));
    quarantine.expire(at(10));
    assert!(!quarantine.is_empty(), "the last death is a second old");
    quarantine.expire(at(19));
    assert!(quarantine.is_empty());
}

#[test]
fn a_suspect_is_named_once_in_ten_seconds() {
    let start = Instant::now();
    let quarantine = killed("/", 2, start);
    assert!(blame(&quarantine, "/", start));
    assert!(!blame(&quarantine, "/", start));
    assert!(!blame(&quarantine, "/", start + Duration::from_secs(9)));
    assert!(!blame(&quarantine, "/", start + Duration::from_secs(11)), "two are forgotten");
    assert!(blame(&quarantine, "/", start + Duration::from_secs(12)));
}

#[test]
fn a_suspect_that_survives_is_clear() {
    let now = Instant::now();
    let one = exchange("GET", "/");
    let quarantine = killed("/", 5, now);
    quarantine.begin(&one, 7, 100, now);
    assert!(!quarantine.survived(7, 101));
    assert!(!quarantine.survived(8, 100));
    assert!(quarantine.survived(7, 100));
    assert!(!quarantine.survived(7, 100), "once");
    assert!(!quarantine.holds(&one, now));
    blame(&quarantine, "/", now);
    assert!(!quarantine.holds(&one, now), "it begins anew");
}

#[test]
fn where_some_kill_and_some_do_not_each_that_survives_takes_one_death_back() {
    let now = Instant::now();
    let one = exchange("GET", "/");
    let quarantine = killed("/", 3, now);
    quarantine.begin(&one, 7, 100, now);
    let like = quarantine.died(7, now).unwrap();
    quarantine.blame(like, 1.0, true, now);
    assert!(quarantine.is_proven(&one));
    for (id, still) in [(1, true), (2, false)] {
        quarantine.begin(&one, 8, id, now);
        assert!(quarantine.survived(8, id));
        assert_eq!(quarantine.holds(&one, now), still);
    }
    blame(&quarantine, "/", now);
    assert!(quarantine.holds(&one, now));
}

#[test]
fn parts_of_the_blame_add_up() {
    let now = Instant::now();
    let quarantine = Quarantine::default();
    let one = exchange("GET", "/");
    let like = quarantine.like(&one).unwrap();
    for n in 0..9 {
        assert!(!quarantine.holds(&one, now), "{n}");
        quarantine.blame(like, 1.0 / 3.0, false, now);
    }
    assert!(quarantine.holds(&one, now));
}

#[test]
fn one_suspect_is_tried_at_a_time_and_after_a_death_the_next_one_waits() {
    let now = Instant::now();
    let quarantine = killed("/", 3, now);
    assert!(quarantine.is_free(now));
    quarantine.begin(&exchange("GET", "/"), 7, 100, now);
    assert_eq!(quarantine.worker(), Some(7));
    assert!(!quarantine.is_free(now));
    quarantine.died(8, now);
    assert!(!quarantine.is_free(now), "another one");
    quarantine.died(7, now);
    assert_eq!(quarantine.worker(), None);
    assert!(!quarantine.is_free(now));
    assert!(quarantine.is_free(now + PAUSE));
}

#[test]
fn a_suspect_that_takes_long_does_not_keep_its_worker_for_itself() {
    let now = Instant::now();
    let quarantine = killed("/", 3, now);
    quarantine.begin(&exchange("GET", "/"), 7, 100, now);
    quarantine.expire(now + ALONE / 2);
    assert_eq!(quarantine.worker(), Some(7));
    quarantine.expire(now + ALONE);
    assert_eq!(quarantine.worker(), None);
}

#[test]
fn what_is_remembered_has_a_bound_and_the_quietest_goes_first() {
    let start = Instant::now();
    let quarantine = killed("/first", 3, start);
    for n in 0..10 * LIKES {
        let now = start + Duration::from_millis(n as u64);
        blame(&quarantine, &format!("/{n}"), now);
        assert!(quarantine.likes.borrow().len() <= LIKES);
        if n % 2 == 0 {
            blame(&quarantine, "/second", now);
        }
    }
    let now = start + Duration::from_secs(1);
    assert!(!quarantine.holds(&exchange("GET", "/first"), now));
    assert!(quarantine.holds(&exchange("GET", "/second"), now));
}
