use std::io::{Read, Write};
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;

use proptest::prelude::*;
use socket2::SockRef;

use super::*;
use crate::spool::temporary_file;

const BOUNDS: Bounds<'static> = Bounds { memory: 1000, spool: 10_000, directory: None };

/// A connection whose buffers are small, ours first.
fn pair() -> (UnixStream, UnixStream) {
    let (ours, theirs) = UnixStream::pair().unwrap();
    SockRef::from(&ours).set_send_buffer_size(4096).unwrap();
    ours.set_nonblocking(true).unwrap();
    theirs.set_nonblocking(true).unwrap();
    (ours, theirs)
}

fn read(stream: &mut UnixStream) -> Vec<u8> {
    let mut got = Vec::new();
    let mut buffer = [0; 4096];
    while let Ok(count) = stream.read(&mut buffer) {
        if count == 0 {
            break;
        }
        got.extend_from_slice(&buffer[..count]);
    }
    got
}

/// All that waits, as the client gets it, and whether there was no error.
pub(crate) fn drain_until_error(out: &mut Outgoing) -> (Vec<u8>, bool) {
    let (ours, mut theirs) = pair();
    let mut got = Vec::new();
    loop {
        let written = out.write_to(ours.as_fd(), true, &Turn::default());
        got.extend(read(&mut theirs));
        match written {
            Ok(Written::All) => return (got, true),
            Ok(Written::Blocked | Written::Enough) => {}
            Err(_) => return (got, false),
        }
    }
}

/// All that waits, as the client gets it.
pub(crate) fn drain(out: &mut Outgoing) -> Vec<u8> {
    let (got, complete) = drain_until_error(out);
    assert!(complete);
    got
}

fn file(contents: &[u8]) -> File {
    let file = temporary_file(None).unwrap();
    (&*file).write_all(contents).unwrap();
    file.try_clone().unwrap()
}

#[test]
fn what_is_small_waits_in_memory_and_leaves_in_order() {
    let mut out = Outgoing::default();
    out.with_tail(|tail| tail.extend_from_slice(b"head "));
    out.push(&[b"o", b"n", b"e"], BOUNDS);
    out.push(&[b" two"], BOUNDS);
    assert!(out.spool.is_none());
    assert_eq!(drain(&mut out), b"head one two");
    assert!(out.is_empty());
    assert_eq!((out.in_memory, out.written()), (0, 12));
}

#[test]
fn what_is_beyond_the_memory_waits_in_the_file() {
    let mut out = Outgoing::default();
    let mut expected = Vec::new();
    for n in 0..100_u8 {
        out.push(&[&[n; 90]], BOUNDS);
        expected.extend_from_slice(&[n; 90]);
    }
    assert_eq!(out.in_memory, 990);
    assert_eq!(out.spooled, 8010);
    // All of the file is one piece, however many pushes it was.
    assert_eq!(out.pieces.len(), 2);
    assert!(drain(&mut out) == expected);
    assert!(out.spool.is_none(), "the disk is given back");
}

#[test]
fn small_chunks_cost_no_memory_beyond_the_bound() {
    let mut out = Outgoing::default();
    for _ in 0..100_000 {
        out.push(&[b"1\r\n", b"x", b"\r\n"], Bounds { spool: 1 << 30, ..BOUNDS });
    }
    assert!(out.in_memory <= BOUNDS.memory);
    assert_eq!(out.pieces.len(), 2);
    assert!(!out.is_full(Bounds { spool: 1 << 30, ..BOUNDS }));
    let got = drain(&mut out);
    assert!(got.len() == 600_000 && got.chunks(6).all(|chunk| chunk == b"1\r\nx\r\n"));
}

#[test]
fn the_file_is_bounded_however_much_passes_through_it() {
    let (ours, mut theirs) = pair();
    let mut out = Outgoing::default();
    let (mut pushed, mut got) = (0_usize, 0);
    for _ in 0..3000 {
        while !out.is_full(BOUNDS) {
            out.push(&[&[b'x'; 100]], BOUNDS);
            pushed += 100;
        }
        assert!(out.spool.as_ref().is_none_or(|spool| spool.len() < BOUNDS.spool + 100));
        assert!(out.in_memory < BOUNDS.memory + 100);
        // Never all of it: the file would go on growing if only its emptiness counted.
        let _ = out.write_to(ours.as_fd(), true, &Turn::default()).unwrap();
        let mut buffer = [0; 700];
        got += theirs.read(&mut buffer).unwrap_or(0);
    }
    while !out.is_empty() {
        let _ = out.write_to(ours.as_fd(), true, &Turn::default()).unwrap();
        got += read(&mut theirs).len();
    }
    assert!(pushed > 1_000_000, "{pushed}");
    assert_eq!(got + read(&mut theirs).len(), pushed);
}

#[test]
fn it_is_full_at_both_bounds_and_has_room_below_half_of_them() {
    let (ours, mut theirs) = pair();
    let mut out = Outgoing::default();
    while !out.is_full(BOUNDS) {
        assert!(out.in_memory < BOUNDS.memory || out.spooled < BOUNDS.spool);
        out.push(&[&[b'x'; 100]], BOUNDS);
    }
    assert!(!out.has_room(BOUNDS));
    let mut had_room = false;
    while !out.is_empty() {
        let _ = out.write_to(ours.as_fd(), true, &Turn::default()).unwrap();
        read(&mut theirs);
        if out.has_room(BOUNDS) {
            assert!(out.in_memory <= BOUNDS.memory / 2 && out.spooled <= BOUNDS.spool / 2);
            had_room = true;
        }
    }
    assert!(had_room && out.has_room(BOUNDS) && !out.is_full(BOUNDS));
}

#[test]
fn one_turn_writes_no_more_than_is_fair_however_much_the_socket_takes() {
    const SIZE: usize = 2 << 20;
    let bounds = Bounds { memory: SIZE, ..BOUNDS };
    let (ours, _theirs) = UnixStream::pair().unwrap();
    SockRef::from(&ours).set_send_buffer_size(2 * SIZE).unwrap();
    ours.set_nonblocking(true).unwrap();
    let contents = vec![b'x'; SIZE];
    for in_file in [false, true] {
        let mut out = Outgoing::default();
        if in_file {
            out.push_file(file(&contents), 0, SIZE as u64);
        } else {
            contents.chunks(PIECE).for_each(|piece| out.push(&[piece], bounds));
        }
        assert_eq!(out.write_to(ours.as_fd(), true, &Turn::default()).unwrap(), Written::Enough);
        // The last piece may go beyond it.
        assert!(out.written() < 512 << 10, "{}", out.written());
    }
}

#[test]
fn without_a_file_it_is_full_when_memory_is() {
    let bounds = Bounds { spool: 0, ..BOUNDS };
    let mut out = Outgoing::default();
    out.push(&[&[b'x'; 999]], bounds);
    assert!(!out.is_full(bounds));
    out.push(&[b"x"], bounds);
    assert!(out.is_full(bounds));
    // What was under way is kept all the same.
    out.push(&[&[b'x'; 5000]], bounds);
    assert_eq!(drain(&mut out).len(), 6000);
}

#[test]
fn without_a_disk_it_is_full_when_memory_is_and_says_why_once() {
    let bounds = Bounds { directory: Some("/nonexistent/remuda"), ..BOUNDS };
    let mut out = Outgoing::default();
    for _ in 0..20 {
        out.push(&[&[b'x'; 100]], bounds);
    }
    assert!(out.is_full(bounds));
    assert_eq!(out.take_trouble().unwrap().kind(), io::ErrorKind::NotFound);
    assert!(out.take_trouble().is_none());
    assert_eq!(drain(&mut out).len(), 2000);
    // And the next time it tries again.
    for _ in 0..20 {
        out.push(&[&[b'x'; 100]], BOUNDS);
    }
    assert!(!out.is_full(BOUNDS) && out.take_trouble().is_none());
    assert_eq!(drain(&mut out).len(), 2000);
}

#[test]
fn heads_without_end_fill_it_too() {
    let mut out = Outgoing::default();
    while !out.is_full(BOUNDS) {
        assert!(out.in_memory < 1 << 20, "never full");
        out.with_tail(|tail| tail.extend_from_slice(b"HTTP/1.1 103 Early Hints\r\n\r\n"));
    }
}

#[test]
fn files_leave_between_bytes_and_count_no_memory() {
    for sendfile in [true, false] {
        let (ours, mut theirs) = pair();
        let mut out = Outgoing::default();
        out.push(&[b"one "], BOUNDS);
        out.push_file(file(b"0123456789"), 2, 5);
        out.push_file(file(b""), 0, 0);
        out.push(&[b" two"], BOUNDS);
        assert_eq!((out.in_memory, out.files), (8, 1));
        assert_eq!(out.write_to(ours.as_fd(), sendfile, &Turn::default()).unwrap(), Written::All);
        assert_eq!(read(&mut theirs), b"one 23456 two");
        assert_eq!(out.files, 0);
    }
}

#[test]
fn sending_a_file_makes_no_room_in_the_temporary_one() {
    let mut out = Outgoing::default();
    out.push_file(file(&[b'f'; 20_000]), 0, 20_000);
    while !out.is_full(BOUNDS) {
        out.push(&[&[b'x'; 100]], BOUNDS);
    }
    let (ours, mut theirs) = pair();
    while out.files > 0 {
        let _ = out.write_to(ours.as_fd(), true, &Turn::default()).unwrap();
        read(&mut theirs);
    }
    assert!(out.spooled > BOUNDS.spool / 2);
    assert!(!out.has_room(BOUNDS));
}

#[test]
fn many_files_fill_it() {
    let mut out = Outgoing::default();
    for _ in 0..FILES {
        assert!(!out.is_full(BOUNDS));
        out.push_file(file(b"x"), 0, 1);
    }
    assert!(out.is_full(BOUNDS) && !out.has_room(BOUNDS));
    assert_eq!(drain(&mut out).len(), FILES);
    assert!(out.has_room(BOUNDS));
}

#[test]
fn a_file_shorter_than_announced_is_an_error_behind_what_there_is() {
    for sendfile in [true, false] {
        let (ours, mut theirs) = pair();
        let mut out = Outgoing::default();
        out.push_file(file(b"0123456789"), 4, 100);
        out.push(&[b"never"], BOUNDS);
        let error = out.write_to(ours.as_fd(), sendfile, &Turn::default()).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof);
        assert_eq!(read(&mut theirs), b"456789");
    }
}

#[test]
fn a_reader_that_has_left_is_an_error() {
    let (ours, theirs) = pair();
    drop(theirs);
    let mut out = Outgoing::default();
    out.push(&[b"x"], BOUNDS);
    assert_eq!(
        out.write_to(ours.as_fd(), true, &Turn::default()).unwrap_err().kind(),
        io::ErrorKind::BrokenPipe
    );
}

#[test]
fn a_fast_reader_does_not_keep_the_writer_for_itself() {
    let (ours, mut theirs) = UnixStream::pair().unwrap();
    ours.set_nonblocking(true).unwrap();
    let total = 64 << 20;
    let reader = std::thread::spawn(move || {
        let mut buffer = vec![0; 1 << 20];
        let mut got = 0;
        while got < total {
            got += theirs.read(&mut buffer).unwrap();
        }
    });
    let big = file(&[]);
    big.set_len(total as u64).unwrap();
    let mut out = Outgoing::default();
    out.push_file(big, 0, total as u64);
    let mut before = 0;
    loop {
        let written = out.write_to(ours.as_fd(), true, &Turn::default()).unwrap();
        assert!(out.written() - before <= 2 * FILE_STEP as u64);
        before = out.written();
        if written == Written::All {
            break;
        }
        std::thread::yield_now();
    }
    reader.join().unwrap();
}

proptest! {
    #[test]
    fn everything_leaves_in_order_whatever_the_sizes(
        steps in proptest::collection::vec((0..4_u8, 0..3000_usize), 1..40),
        memory in 0..3000_usize, spool in 0..6000_u64, sendfile: bool,
    ) {
        let bounds = Bounds { memory, spool, directory: None };
        let (ours, mut theirs) = pair();
        let mut out = Outgoing::default();
        let (mut expected, mut got) = (Vec::new(), Vec::new());
        for (index, (kind, len)) in steps.into_iter().enumerate() {
            let data = vec![index as u8; len];
            match kind {
                0 => out.with_tail(|tail| tail.extend_from_slice(&data)),
                1 => out.push(&[b"<", &data, b">"], bounds),
                2 => out.push_file(file(&data), 0, len as u64),
                _ => {
                    let _ = out.write_to(ours.as_fd(), sendfile, &Turn::default()).unwrap();
                    got.extend(read(&mut theirs));
                    continue;
                }
            }
            if kind == 1 { expected.push(b'<') }
            expected.extend_from_slice(&data);
            if kind == 1 { expected.push(b'>') }
        }
        while out.write_to(ours.as_fd(), sendfile, &Turn::default()).unwrap() != Written::All {
            got.extend(read(&mut theirs));
        }
        got.extend(read(&mut theirs));
        prop_assert!(got == expected);
        prop_assert_eq!((out.in_memory, out.spooled, out.files), (0, 0, 0));
        prop_assert_eq!(out.written(), got.len() as u64);
    }
}
