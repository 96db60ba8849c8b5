//! The router without descriptors: a process of its own, because the limit is the process's.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, dead_code)]

#[path = "end_to_end/client.rs"]
mod client;
#[path = "end_to_end/fake.rs"]
mod fake;
#[path = "end_to_end/house.rs"]
mod house;
#[path = "support/strict.rs"]
mod strict;

use std::time::{Duration, Instant};

use client::Client;
use house::{House, eventually};
use socket2::{Domain, Socket, Type};

/// Sockets without a connection, as many as there are descriptors.
fn take_all_descriptors() -> Vec<Socket> {
    std::iter::from_fn(|| Socket::new(Domain::IPV4, Type::STREAM, None).ok()).collect()
}

fn connect(socket: Socket, house: &House) -> Client {
    socket.connect(&house.address.into()).unwrap();
    Client::new(socket.into())
}

/// Processor time of this process so far.
fn busy() -> Duration {
    let mut usage = std::mem::MaybeUninit::<libc::rusage>::zeroed();
    // SAFETY: the kernel fills in a live structure; one of zeros is valid, too.
    let usage = unsafe {
        libc::getrusage(libc::RUSAGE_SELF, usage.as_mut_ptr());
        usage.assume_init()
    };
    let time = |time: libc::timeval| Duration::new(time.tv_sec as u64, time.tv_usec as u32 * 1000);
    time(usage.ru_utime) + time(usage.ru_stime)
}

#[test]
fn without_descriptors_idle_connections_go_first_then_accepting_waits() {
    let limit = libc::rlimit { rlim_cur: 200, rlim_max: 200 };
    // SAFETY: a plain call with a live structure.
    assert_eq!(unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit) }, 0);
    let mut house = House::open(|_| {});
    let mut worker = house.worker(64);
    let mut idle: Vec<Client> = (0..20).map(|_| house.connect()).collect();
    for client in &mut idle {
        client.get("/idle");
        let asked = worker.expect("/idle");
        worker.answer(&asked, b"");
        client.response();
    }

    // Nothing is left, but there are idle connections: they make room, each for one.
    let mut sockets = take_all_descriptors();
    let mut busy_clients = Vec::new();
    for n in 0..20 {
        let mut client = connect(sockets.pop().unwrap(), &house);
        client.get(&format!("/{n}"));
        // Not answered yet: none of these is idle.
        let asked = worker.expect(&format!("/{n}"));
        busy_clients.push((client, asked));
    }
    // Reading the log takes a descriptor.
    sockets.pop();
    let errors = house.errors();
    assert!(errors.contains("cannot accept connections: "), "{errors}");
    for client in &mut idle {
        client.is_closed();
    }

    // Nothing is left, and nothing is idle: no noise, no heat. (What the idle ones had is taken, too.)
    drop(idle);
    sockets.extend(take_all_descriptors());
    let mut late = connect(sockets.pop().unwrap(), &house);
    late.get("/late");
    let complaints = |house: &House| house.errors().matches("cannot accept connections").count();
    let before = complaints(&house);
    sockets.extend(take_all_descriptors());
    let (used, since) = (busy(), Instant::now());
    std::thread::sleep(Duration::from_millis(1500));
    let heat = busy() - used;
    assert!(heat < Duration::from_millis(500), "{heat:?}");
    // Reading the log takes a descriptor.
    sockets.pop();
    let said = complaints(&house) - before;
    assert!(said as f64 <= since.elapsed().as_secs_f64() + 2.0, "{said} lines");

    // With room again it goes on at once.
    drop(sockets);
    let begun = Instant::now();
    let asked = worker.expect("/late");
    assert!(begun.elapsed() < Duration::from_secs(2));
    worker.answer(&asked, b"late");
    assert_eq!(late.response().body, b"late");
    for (mut client, asked) in busy_clients {
        worker.answer(&asked, b"ok");
        assert_eq!(client.response().body, b"ok");
    }
    eventually("nothing is missing", || house.accesses().lines().count() == 41);
}
