//! Request bodies.

use crate::fake::{ALL, Came, Event};
use crate::house::House;

fn chunks(pieces: &[&[u8]]) -> Vec<u8> {
    let mut out = Vec::new();
    for piece in pieces {
        out.extend_from_slice(format!("{:x}\r\n", piece.len()).as_bytes());
        out.extend_from_slice(piece);
        out.extend_from_slice(b"\r\n");
    }
    out.extend_from_slice(b"0\r\n\r\n");
    out
}

#[test]
fn a_chunked_body_arrives_whole_with_its_length() {
    let mut house = House::open(|_| {});
    let mut worker = house.worker(1);
    let mut client = house.connect();
    client.send("POST /c HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n");
    client.send(chunks(&[b"hello ", b"world"]));
    let asked = worker.expect("/c");
    assert_eq!(asked.body, b"hello world");
    assert_eq!(asked.content_length, Some(11));
    worker.answer(&asked, b"ok");
    client.response();
    // And the connection goes on behind it.
    client.get("/d");
    let asked = worker.expect("/d");
    worker.answer(&asked, b"ok");
    client.response();
}

#[test]
fn a_body_of_any_size_arrives_as_it_was_sent() {
    let mut house = House::open(|options| options["request_buffer"] = (256 << 10).into());
    let mut worker = house.worker(1);
    let mut client = house.connect();
    for (size, came) in [
        (0, Came::Inline),
        (1, Came::Inline),
        (40 << 10, Came::Inline),
        (100 << 10, Came::File),
        (256 << 10, Came::File),
        ((256 << 10) + 1, Came::File),
        (3 << 20, Came::File),
    ] {
        let body: Vec<u8> = (0..size).map(|n: u32| (n % 251) as u8).collect();
        let mut sender = client.stream.try_clone().unwrap();
        let sent = body.clone();
        let sending = std::thread::spawn(move || {
            use std::io::Write;
            write!(sender, "PUT /f HTTP/1.1\r\nHost: a\r\nContent-Length: {size}\r\n\r\n").unwrap();
            sender.write_all(&sent).unwrap();
        });
        let asked = worker.expect("/f");
        sending.join().unwrap();
        assert_eq!(asked.came, came, "{size}");
        assert!(asked.body == body, "{size}");
        worker.answer(&asked, b"ok");
        client.response();
    }
}

#[test]
fn a_client_that_waits_for_100_gets_it_before_its_body() {
    let mut house = House::open(|_| {});
    let mut worker = house.worker(1);
    let mut client = house.connect();
    client.send("POST /e HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\nExpect: 100-continue\r\n\r\n");
    client.until(b"HTTP/1.1 100 Continue\r\n\r\n");
    client.send("body");
    let asked = worker.expect("/e");
    assert_eq!(asked.body, b"body");
    worker.answer(&asked, b"ok");
    let response = client.response();
    assert_eq!((response.interim.as_slice(), response.status), (&[100][..], 200));
}

#[test]
fn a_client_that_does_not_wait_for_100_gets_none() {
    let mut house = House::open(|_| {});
    let mut worker = house.worker(1);
    let mut client = house.connect();
    client.send("POST /e HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\nExpect: 100-continue\r\n\r\nbody");
    let asked = worker.expect("/e");
    worker.answer(&asked, b"ok");
    let response = client.response();
    assert!(response.interim.is_empty());
}

#[test]
fn a_client_that_leaves_in_its_body_is_no_request() {
    let mut house = House::open(|_| {});
    let mut worker = house.worker(1);
    let mut client = house.connect();
    client.send("POST /never HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\nbo");
    drop(client);
    let mut client = house.connect();
    client.get("/next");
    let asked = worker.expect("/next");
    worker.answer(&asked, b"ok");
    client.response();
}

#[test]
fn a_body_that_cannot_be_stored_is_refused_with_507() {
    let mut house = House::open(|options| {
        options["request_buffer"] = 1024.into();
        options["tmp_upload_dir"] = "/nonexistent/remuda".into();
    });
    let mut worker = house.worker(1);
    let mut client = house.connect();
    client.send("POST /full HTTP/1.1\r\nHost: a\r\nContent-Length: 100000\r\n\r\n");
    client.send(vec![b'x'; 50_000]);
    client.is_refused(507);
    assert!(house.errors().contains("cannot be stored in /nonexistent/remuda (--tmp-upload-dir): "));
    assert!(worker.has_nothing());
}

#[test]
fn a_streamed_body_follows_its_request_and_waits_for_credit() {
    let mut house = House::open(|options| options["streams"] = true.into());
    let mut worker = house.worker(1);
    let mut client = house.connect();
    let total = 400 << 10;
    let body: Vec<u8> = (0..total).map(|n: u32| (n % 253) as u8).collect();
    let mut sender = client.stream.try_clone().unwrap();
    let sent = body.clone();
    let sending = std::thread::spawn(move || {
        use std::io::Write;
        write!(sender, "POST /s HTTP/1.1\r\nHost: a\r\nContent-Length: {total}\r\n\r\n").unwrap();
        sender.write_all(&sent).unwrap();
    });
    let asked = worker.expect("/s");
    assert_eq!(asked.came, Came::Stream);
    let mut got = Vec::new();
    let mut owed = 0;
    loop {
        let Event::Body { id, end, data } = worker.event() else { panic!("not a body") };
        assert_eq!(id, asked.id);
        got.extend_from_slice(&data);
        owed += data.len() as u64;
        assert!(owed <= 128 << 10, "more than the window");
        if end {
            break;
        }
        if owed == 128 << 10 {
            assert!(worker.has_nothing());
            worker.credit(id, owed);
            owed = 0;
        }
    }
    sending.join().unwrap();
    assert!(got == body);
    worker.answer(&asked, b"ok");
    client.response();
}

#[test]
fn a_streamed_body_that_waited_in_the_queue_is_passed_on() {
    let mut house = House::open(|options| options["streams"] = true.into());
    let mut worker = house.worker(1);
    let (mut first, mut second) = (house.connect(), house.connect());
    first.get("/first");
    let busy = worker.expect("/first");
    // All of it is here before there is a slot: nothing more will come to wake its connection.
    second.send("POST /second HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\nbody");
    std::thread::sleep(std::time::Duration::from_millis(50));
    assert!(worker.has_nothing());
    worker.answer(&busy, b"1");
    let asked = worker.expect("/second");
    let Event::Body { end, data, .. } = worker.event() else { panic!("not a body") };
    assert_eq!((data.as_slice(), end), (&b"body"[..], true));
    worker.answer(&asked, b"2");
    assert_eq!(second.response().body, b"2");
}

#[test]
fn tiny_chunks_of_a_streamed_body_go_on_together() {
    const SIZE: usize = 100_000;
    let mut house = House::open(|options| options["streams"] = true.into());
    let mut worker = house.worker(1);
    let mut client = house.connect();
    let body: Vec<&[u8]> = vec![b"x"; SIZE];
    let sending = {
        let mut sender = client.stream.try_clone().unwrap();
        let sent = chunks(&body);
        std::thread::spawn(move || {
            use std::io::Write;
            write!(sender, "POST /c HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n").unwrap();
            sender.write_all(&sent).unwrap();
        })
    };
    let asked = worker.expect("/c");
    let (mut got, mut parts) = (0, 0);
    loop {
        let Event::Body { end, data, .. } = worker.event() else { panic!("not a body") };
        got += data.len();
        parts += 1;
        if end {
            break;
        }
    }
    sending.join().unwrap();
    assert_eq!(got, SIZE);
    // A part for what one look at the socket finds, not one for each chunk.
    assert!(parts < SIZE / 100, "{parts}");
    worker.answer(&asked, b"ok");
    client.response();
}

/// Uploads of so many clients that do not come to their end: each sends the same block again and
/// again, as fast as it may. The result stops them.
fn upload_without_end(house: &House, count: usize, head: &str, block: &[u8]) -> impl FnOnce() + use<> {
    use std::io::{ErrorKind, Write};
    use std::sync::Arc;
    use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
    // What is sent by then lies on the disk; the upload is still under way.
    const ENOUGH: usize = 64 << 20;
    let (stop, sent) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
    let mut threads = Vec::new();
    for _ in 0..count {
        let (mut client, stop, all) = (house.connect(), stop.clone(), sent.clone());
        client.stream.set_write_timeout(Some(std::time::Duration::from_millis(50))).unwrap();
        client.send(head);
        let block = block.to_vec();
        threads.push(std::thread::spawn(move || {
            let mut sent = 0;
            while !stop.load(Ordering::Relaxed) {
                if sent > ENOUGH {
                    std::thread::sleep(std::time::Duration::from_millis(1));
                    continue;
                }
                match client.stream.write(&block[sent % block.len()..]) {
                    Ok(count) => {
                        sent += count;
                        all.fetch_add(count, Ordering::Relaxed);
                    }
                    Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                    Err(error) => panic!("{error}"),
                }
            }
        }));
    }
    crate::house::eventually("the uploads are under way", || sent.load(Ordering::Relaxed) > 4 << 20);
    move || {
        stop.store(true, Ordering::Relaxed);
        threads.into_iter().for_each(|thread| thread.join().unwrap());
    }
}

#[test]
fn a_small_request_is_answered_while_uploads_are_under_way() {
    let length = "POST /up HTTP/1.1\r\nHost: a\r\nContent-Length: 1000000000000\r\n\r\n";
    let chunked = "POST /up HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n";
    let whole = vec![b'x'; 256 << 10];
    let tiny = b"1\r\nx\r\n".repeat(40_000);
    for (head, block) in [(length, &whole), (chunked, &tiny)] {
        let mut house = House::open(|options| options["limit_request_body"] = 0.into());
        let mut worker = house.worker(1);
        let mut client = house.connect();
        let stop = upload_without_end(&house, 4, head, block);
        for _ in 0..3 {
            client.get("/small");
            let asked = worker.expect("/small");
            worker.answer(&asked, b"ok");
            assert_eq!(client.response().body, b"ok");
        }
        stop();
    }
}

#[test]
fn a_response_before_the_end_of_a_streamed_body_ends_the_connection() {
    let mut house = House::open(|options| options["streams"] = true.into());
    let mut worker = house.worker(1);
    let mut client = house.connect();
    client.send("POST /s HTTP/1.1\r\nHost: a\r\nContent-Length: 1000\r\n\r\nsome");
    let asked = worker.expect("/s");
    worker.head(asked.id, 403, &[], b"no", ALL);
    assert_eq!(client.response().status, 403);
    client.is_closed();
}

#[test]
fn a_streamed_body_that_breaks_is_answered_with_400() {
    let mut house = House::open(|options| options["streams"] = true.into());
    let mut worker = house.worker(1);
    let mut client = house.connect();
    client.send("POST /s HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nbody");
    let asked = worker.expect("/s");
    assert!(matches!(worker.event(), Event::Body { .. }));
    client.send("X");
    client.is_refused(400);
    crate::house::eventually("the worker is told", || worker.flow(asked.id) != 0);
}
