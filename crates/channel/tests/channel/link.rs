//! The two ends together, and a router that comes after another.

use std::os::fd::AsFd;
use std::time::Duration;

use channel::link::{Files, RouterEnd, WorkerEnd};
use channel::message::{HEAD, HELLO, REQUEST};

use crate::support::{SMALL, take};

fn dup(fds: &[std::os::fd::OwnedFd; 5]) -> [std::os::fd::OwnedFd; 5] {
    std::array::from_fn(|index| fds[index].try_clone().unwrap())
}

#[test]
fn what_one_end_says_the_other_hears() {
    let files = Files::create(SMALL).unwrap();
    let mut router = RouterEnd::open(files.router).unwrap();
    let mut worker = WorkerEnd::open(files.worker).unwrap();
    assert!(worker.requests.may_sleep());
    router.requests.push(REQUEST, &[b"request"]).unwrap();
    assert!(router.requests.must_wake());
    router.wake_worker.signal();
    let limit = Some(Duration::from_secs(60));
    assert_eq!(worker.wait.wait(worker.descriptors.as_fd(), limit).unwrap(), (true, false));
    assert_eq!(take(&mut worker.requests), Some((REQUEST, b"request".to_vec())));

    worker.responses.push(HEAD, &[b"response"]).unwrap();
    worker.wake_router.signal();
    assert_eq!(router.wait.wait(router.descriptors.as_fd(), limit).unwrap(), (true, false));
    assert_eq!(take(&mut router.responses), Some((HEAD, b"response".to_vec())));

    router.signal_room.signal();
    assert_eq!(worker.room.wait(worker.descriptors.as_fd(), limit).unwrap(), (true, false));
    worker.descriptors.send(3, worker.wait.as_fd()).unwrap();
    assert_eq!(router.descriptors.receive().unwrap().0, 3);
}

#[test]
fn a_new_router_goes_on_where_the_old_one_was_cut_off() {
    let files = Files::create(SMALL).unwrap();
    let mut worker = WorkerEnd::open(files.worker).unwrap();
    let mut old = RouterEnd::open(dup(&files.router)).unwrap();
    old.memory.set_generation(1);
    old.requests.push(REQUEST, &[b"of the old"]).unwrap();
    worker.responses.push(HEAD, &[b"to the old"]).unwrap();
    worker.responses.push(HEAD, &[b"not read by the old"]).unwrap();
    assert_eq!(take(&mut old.responses).unwrap().1, b"to the old");
    drop(old);

    let mut new = RouterEnd::open(dup(&files.router)).unwrap();
    assert_eq!(new.memory.generation(), 1);
    new.memory.set_generation(2);
    new.requests.push(HELLO, &[]).unwrap();
    assert_eq!(worker.memory.generation(), 2);
    assert_eq!(take(&mut new.responses).unwrap().1, b"not read by the old");
    assert_eq!(take(&mut worker.requests), Some((REQUEST, b"of the old".to_vec())));
    assert_eq!(take(&mut worker.requests), Some((HELLO, Vec::new())));
}

#[test]
fn the_worker_notices_only_when_the_last_holder_of_the_routers_end_is_gone() {
    let files = Files::create(SMALL).unwrap();
    let worker = WorkerEnd::open(files.worker).unwrap();
    let router = RouterEnd::open(dup(&files.router)).unwrap();
    drop(router);
    assert!(!worker.descriptors.is_closed(), "the arbiter still holds it");
    drop(files.router);
    assert!(worker.descriptors.is_closed());
}

#[test]
fn descriptors_in_the_wrong_order_are_refused() {
    let mut files = Files::create(SMALL).unwrap();
    files.router.rotate_left(1);
    assert!(RouterEnd::open(files.router).is_err());
}
