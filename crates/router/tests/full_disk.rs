//! A disk without room: a process of its own, because the limit on files is the process's.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, dead_code)]

#[path = "end_to_end/client.rs"]
mod client;
#[path = "end_to_end/fake.rs"]
mod fake;
#[path = "end_to_end/house.rs"]
mod house;
#[path = "support/strict.rs"]
mod strict;

use house::{House, eventually};

#[test]
fn a_full_disk_is_507_for_a_body_and_a_wait_for_a_response() {
    const MOST: u64 = 256 << 10;
    let mut house = House::open(|options| {
        options["request_buffer"] = 1024.into();
        options["response_buffer"] = 1024.into();
    });
    let mut worker = house.worker(1);
    let limit = libc::rlimit { rlim_cur: MOST, rlim_max: MOST };
    // SAFETY: plain calls with live arguments. Without its signal a file that becomes too large is
    // an error of the write (EFBIG), as a full disk is.
    unsafe {
        libc::signal(libc::SIGXFSZ, libc::SIG_IGN);
        assert_eq!(libc::setrlimit(libc::RLIMIT_FSIZE, &raw const limit), 0);
    }
    let directory = house.directory.0.clone();
    let temporary = || {
        let links = std::fs::read_dir("/proc/self/fd").unwrap().flatten();
        let targets = links.filter_map(|entry| std::fs::read_link(entry.path()).ok());
        targets.filter(|target| target.starts_with(&directory)).count()
    };
    let before = temporary();

    let mut client = house.connect();
    client.send("POST /large HTTP/1.1\r\nHost: a\r\nContent-Length: 1000000\r\n\r\n");
    client.send(vec![b'x'; 600_000]);
    assert_eq!(client.response().status, 507);
    let errors = house.errors();
    assert!(errors.contains("a request body cannot be stored"));
    assert!(!errors.contains("Invalid request"), "{errors}");
    eventually("nothing of it is left", || temporary() == before);

    let mut slow = house.connect();
    slow.get("/slow");
    let asked = worker.expect("/slow");
    worker.head(asked.id, 200, &[], b"", 0);
    let mut sent = 0;
    while worker.flow(asked.id) & channel::memory::PAUSED == 0 {
        assert!(sent < 200 << 20, "never told to wait");
        worker.body(asked.id, &[b'p'; 10_000], 0);
        sent += 10_000;
        std::thread::yield_now();
    }
    assert!(house.errors().contains("GET /slow: the response cannot be spooled"));
    let reading = std::thread::spawn(move || slow.response());
    eventually("it may go on", || worker.flow(asked.id) & channel::memory::PAUSED == 0);
    worker.body(asked.id, b"", fake::ALL);
    assert_eq!(reading.join().unwrap().body.len(), sent);
    eventually("nothing of it is left", || temporary() == before);
}
