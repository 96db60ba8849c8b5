//! A router and a worker in two processes, over real memory and real wake-ups; one of them killed.

use std::collections::{HashMap, HashSet};
use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant};

use channel::link::{Files, RouterEnd, WorkerEnd};
use channel::memory::Layout;
use channel::message::{BODY, HEAD, HELLO, READY, REQUEST, STOP};
use channel::ring::PushError;

use crate::support::{spawn, take};

const LAYOUT: Layout = Layout { slots: 1, requests: 16_384, responses: 16_384 };
/// A wait that lasts so long has lost its wake-up.
const LOST: Option<Duration> = Some(Duration::from_secs(30));

/// How often one side blocked, and how often it woke the other.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
struct Wakes {
    announced: u64,
    blocked: u64,
    signalled: u64,
}

/// Push, and wait for room as long as there is none.
fn worker_push(end: &mut WorkerEnd, wakes: &mut Wakes, kind: u16, payload: &[u8]) {
    loop {
        match end.responses.push(kind, &[payload]) {
            Ok(_) => break,
            Err(error) => assert_eq!(error, PushError::Full),
        }
        end.room.clear();
        end.responses.announce_starving();
        match end.responses.push(kind, &[payload]) {
            Ok(_) => break,
            Err(error) => assert_eq!(error, PushError::Full),
        }
        let (room, _) = end.room.wait(end.descriptors.as_fd(), LOST).unwrap();
        assert!(room, "the worker was not told of room");
    }
    if end.responses.must_wake() {
        wakes.signalled += 1;
        end.wake_router.signal();
    }
}

/// A worker: each request comes back as a response, until `STOP`; then the wake-ups are told.
/// Ends quietly when nobody holds the other end any more.
fn echo(fds: [OwnedFd; 5]) {
    let mut end = WorkerEnd::open(fds).unwrap();
    let mut wakes = Wakes::default();
    let mut payload = Vec::new();
    loop {
        let Some(frame) = end.requests.peek().unwrap() else {
            wakes.announced += 1;
            if end.requests.may_sleep() {
                let (woken, orphaned) = end.wait.wait(end.descriptors.as_fd(), LOST).unwrap();
                if orphaned {
                    return;
                }
                assert!(woken, "the worker was not woken");
                wakes.blocked += 1;
                end.requests.awake();
                end.wait.clear();
            }
            continue;
        };
        let claimed = end.requests.claim(&frame);
        payload.clear();
        end.requests.read(&frame, &mut payload);
        end.requests.release(&frame);
        if end.requests.must_wake() {
            end.wake_router.signal();
        }
        match frame.kind {
            STOP => break,
            REQUEST if claimed => worker_push(&mut end, &mut wakes, HEAD, &payload),
            _ => {}
        }
    }
    let counts = [wakes.announced, wakes.blocked, wakes.signalled];
    let counts: Vec<u8> = counts.iter().flat_map(|count| count.to_le_bytes()).collect();
    worker_push(&mut end, &mut wakes, READY, &counts);
    end.wake_router.signal();
}

fn number(payload: &[u8]) -> u64 {
    u64::from_le_bytes(payload[..8].try_into().unwrap())
}

/// What the router does after it has released frames.
fn give_room(end: &RouterEnd) {
    if end.responses.must_wake() {
        end.signal_room.signal();
    }
}

/// Block until the worker has sent something, as the router does.
fn router_sleep(end: &RouterEnd, wakes: &mut Wakes) {
    wakes.announced += 1;
    if end.responses.may_sleep() {
        let (woken, _) = end.wait.wait(end.descriptors.as_fd(), LOST).unwrap();
        assert!(woken, "the router was not woken");
        wakes.blocked += 1;
        end.responses.awake();
        end.wait.clear();
    }
}

fn wake_worker(end: &RouterEnd, wakes: &mut Wakes) {
    if end.requests.must_wake() {
        wakes.signalled += 1;
        end.wake_worker.signal();
    }
}

#[test]
fn a_million_frames_each_way_arrive_in_order_and_nobody_sleeps_through_one() {
    const FRAMES: u64 = 1_000_000;
    let files = Files::create(LAYOUT).unwrap();
    let Some(process) = spawn(files.worker, |fds| {
        echo(fds);
    }) else {
        return;
    };
    let mut end = RouterEnd::open(files.router).unwrap();
    let mut wakes = Wakes::default();
    let begun = Instant::now();
    let (mut pushed, mut read) = (0_u64, 0_u64);
    let mut payload = Vec::new();
    while read < FRAMES {
        let mut moved = false;
        // Bursts of different sizes, so that each side meets the other asleep, awake and full.
        let burst = 1 + (read * 7) % 300;
        while pushed < FRAMES && pushed < read + burst {
            match end.requests.push(REQUEST, &[&pushed.to_le_bytes(), &[0; 24][..(pushed % 24) as usize]]) {
                Ok(_) => (pushed, moved) = (pushed + 1, true),
                Err(PushError::Full) => break,
                Err(error) => panic!("{error:?}"),
            }
        }
        wake_worker(&end, &mut wakes);
        while let Some(frame) = end.responses.peek().unwrap() {
            payload.clear();
            end.responses.read(&frame, &mut payload);
            end.responses.release(&frame);
            assert_eq!((frame.kind, number(&payload)), (HEAD, read));
            assert_eq!(payload.len() as u64, 8 + read % 24);
            (read, moved) = (read + 1, true);
        }
        give_room(&end);
        if !moved && read < pushed {
            router_sleep(&end, &mut wakes);
        }
        assert!(begun.elapsed() < Duration::from_secs(120), "{read} of {FRAMES} after two minutes");
    }
    end.requests.push(STOP, &[]).unwrap();
    wake_worker(&end, &mut wakes);
    let counts = loop {
        match take(&mut end.responses) {
            Some((kind, counts)) => {
                assert_eq!(kind, READY);
                break counts;
            }
            None => router_sleep(&end, &mut wakes),
        }
    };
    process.succeed();
    let worker =
        Wakes { announced: number(&counts), blocked: number(&counts[8..]), signalled: number(&counts[16..]) };
    // A side that blocked was woken by a signal of its own, and nobody signals who was not told to.
    assert!(worker.blocked > 0 && worker.blocked <= wakes.signalled, "{worker:?} {wakes:?}");
    assert!(wakes.signalled <= worker.announced, "{worker:?} {wakes:?}");
    assert!(worker.signalled <= wakes.announced, "{worker:?} {wakes:?}");
}

#[test]
fn a_killed_worker_leaves_behind_which_requests_had_begun() {
    for round in 0..20_u64 {
        let files = Files::create(LAYOUT).unwrap();
        let Some(process) = spawn(files.worker, |fds| {
            echo(fds);
        }) else {
            return;
        };
        let mut end = RouterEnd::open(files.router).unwrap();
        let mut positions = HashMap::new();
        let mut answered = HashSet::new();
        let mut wakes = Wakes::default();
        let mut pushed = 0_u64;
        // Enough to be in the middle of it, whatever the machine does meanwhile.
        while (answered.len() as u64) < 50 + round * 97 {
            while let Ok(position) = end.requests.push(REQUEST, &[&pushed.to_le_bytes()]) {
                positions.insert(pushed, position);
                pushed += 1;
            }
            wake_worker(&end, &mut wakes);
            match take(&mut end.responses) {
                Some((_, payload)) => assert!(answered.insert(number(&payload))),
                None => router_sleep(&end, &mut wakes),
            }
            give_room(&end);
        }
        process.kill();
        while let Some((kind, payload)) = take(&mut end.responses) {
            assert_eq!(kind, HEAD);
            assert!(answered.insert(number(&payload)));
        }
        let unanswered = (0..pushed).filter(|request| !answered.contains(request));
        let begun: Vec<u64> = unanswered.filter(|request| !end.requests.revoke(positions[request])).collect();
        assert!(begun.len() <= 1, "a worker with one slot had begun {begun:?}");
        for request in &answered {
            assert!(!end.requests.revoke(positions[request]), "{request} was answered");
        }
    }
}

/// A router that pushes numbered requests until it is killed.
fn flood(fds: [OwnedFd; 5]) {
    let mut end = RouterEnd::open(fds).unwrap();
    let filling = [0xAB; 1024];
    for request in 0_u64.. {
        let parts = [&request.to_le_bytes()[..], &filling[..(request * 37 % 1024) as usize]];
        while end.requests.push(REQUEST, &parts).is_err() {
            assert!(!end.descriptors.is_closed(), "the test is gone");
            std::thread::yield_now();
        }
        if end.requests.must_wake() {
            end.wake_worker.signal();
        }
    }
}

#[test]
fn a_killed_router_leaves_whole_frames_and_a_new_one_goes_on() {
    for round in 0..20_u64 {
        let files = Files::create(LAYOUT).unwrap();
        let copies: [OwnedFd; 5] = std::array::from_fn(|index| files.router[index].try_clone().unwrap());
        // The worker's end must be ours alone, so that the flooding router sees us go.
        let Some(process) = spawn(copies, |fds| {
            flood(fds);
        }) else {
            return;
        };
        let mut worker = WorkerEnd::open(files.worker).unwrap();
        let mut expected = 0_u64;
        let mut read = |worker: &mut WorkerEnd| {
            let Some((kind, payload)) = take(&mut worker.requests) else { return false };
            assert_eq!((kind, number(&payload)), (REQUEST, expected));
            assert_eq!(payload.len() as u64, 8 + expected * 37 % 1024);
            assert!(payload[8..].iter().all(|byte| *byte == 0xAB));
            expected += 1;
            true
        };
        let mut count = 0;
        while count < 50 + round * 61 {
            if read(&mut worker) {
                count += 1;
            } else if worker.requests.may_sleep() {
                let (woken, _) = worker.wait.wait(worker.descriptors.as_fd(), LOST).unwrap();
                assert!(woken, "the worker was not woken");
                worker.requests.awake();
                worker.wait.clear();
            }
        }
        process.kill();
        let mut new = RouterEnd::open(files.router).unwrap();
        while read(&mut worker) {}
        new.requests.push(HELLO, &[]).unwrap();
        new.requests.push(BODY, &[&[7; 100]]).unwrap();
        assert_eq!(take(&mut worker.requests), Some((HELLO, Vec::new())));
        assert_eq!(take(&mut worker.requests), Some((BODY, vec![7; 100])));
        assert!(new.requests.is_drained());
    }
}

#[test]
fn a_worker_ends_when_nobody_holds_the_routers_end() {
    let files = Files::create(LAYOUT).unwrap();
    let Some(process) = spawn(files.worker, |fds| {
        echo(fds);
    }) else {
        return;
    };
    drop(files.router);
    process.succeed();
}
