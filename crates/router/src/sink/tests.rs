use std::fs::{File, OpenOptions};
use std::io::{PipeReader, Read, Seek, pipe};
use std::os::fd::{AsRawFd, FromRawFd};
use std::os::unix::net::UnixStream;

use super::*;

fn add(sink: &Sink, line: &[u8]) {
    sink.line(|lines| {
        lines.extend_from_slice(line);
        lines.push(b'\n');
    });
}

/// Fill whatever the sink writes to, and what waits in it, until lines are lost.
fn fill(sink: &Sink, size: usize) -> usize {
    let line = vec![b'x'; size - 1];
    for count in 0..100_000 {
        add(sink, &line);
        match sink.flush() {
            None => {}
            Some(Turn::Losing(error)) => {
                assert_eq!(error.kind(), io::ErrorKind::WouldBlock);
                // All of these but the last one are kept.
                return count;
            }
            Some(turn) => panic!("{turn:?}"),
        }
    }
    panic!("it takes everything");
}

/// What a pipe holds, and then what follows until the other end is closed.
fn read_rest(mut reader: impl Read) -> Vec<u8> {
    let mut all = Vec::new();
    reader.read_to_end(&mut all).unwrap();
    all
}

fn read_some(reader: &mut impl Read, count: usize) -> Vec<u8> {
    let mut some = vec![0; count];
    reader.read_exact(&mut some).unwrap();
    some
}

/// Read it empty while the sink writes on; the lines that came, and what the sink said.
fn recover(sink: Sink, reader: &mut PipeReader) -> (Vec<u8>, u64) {
    let mut all = Vec::new();
    loop {
        // A pipe has no less than a page in it while lines wait.
        all.extend(read_some(reader, 4096));
        match sink.flush() {
            None => {}
            Some(Turn::Recovered(lost)) => {
                drop(sink);
                all.extend(read_rest(reader));
                return (all, lost);
            }
            Some(turn) => panic!("{turn:?}"),
        }
    }
}

#[test]
fn a_pipe_that_nobody_reads_loses_whole_lines_and_says_so_once() {
    let (mut reader, writer) = pipe().unwrap();
    let sink = Sink::new(writer.into());
    let kept = fill(&sink, 100);
    assert!(kept * 100 >= ROOM, "{kept}");
    for _ in 0..10 {
        add(&sink, &[b'x'; 99]);
        assert!(sink.flush().is_none());
    }
    let (all, lost) = recover(sink, &mut reader);
    assert!(all.chunks(100).all(|line| line.starts_with(b"xxx") && line.ends_with(b"x\n")));
    assert_eq!(all.len(), kept * 100);
    // The one that was too many, and ten more.
    assert_eq!(lost, 11);
}

#[test]
fn a_reader_that_is_slow_loses_nothing() {
    let (mut reader, writer) = pipe().unwrap();
    let sink = Sink::new(writer.into());
    for _ in 0..ROOM / 1000 {
        add(&sink, &[b'y'; 999]);
        assert!(sink.flush().is_none());
    }
    let mut all = Vec::new();
    while !sink.waiting.borrow().is_empty() {
        all.extend(read_some(&mut reader, 4096));
        assert!(sink.flush().is_none());
    }
    drop(sink);
    all.extend(read_rest(reader));
    assert_eq!(all.len(), ROOM / 1000 * 1000);
}

#[test]
fn the_open_file_description_of_others_stays_as_it_is() {
    let (_reader, writer) = pipe().unwrap();
    let ours = writer.try_clone().unwrap();
    let sink = Sink::new(writer.into());
    fill(&sink, 100);
    // SAFETY: a plain fcntl on a descriptor that we own.
    assert_eq!(unsafe { libc::fcntl(ours.as_raw_fd(), libc::F_GETFL) } & libc::O_NONBLOCK, 0);
}

#[test]
fn a_line_longer_than_a_pipe_takes_at_once_arrives_whole() {
    let (mut reader, writer) = pipe().unwrap();
    let sink = Sink::new(writer.into());
    let long = [b'z'; 200_000];
    add(&sink, &long);
    assert!(sink.flush().is_none());
    assert!(sink.torn.get());
    let mut all = Vec::new();
    while sink.torn.get() {
        all.extend(read_some(&mut reader, 4096));
        assert!(sink.flush().is_none());
    }
    drop(sink);
    all.extend(read_rest(reader));
    assert_eq!(all.len(), 200_001);
}

#[test]
fn the_rest_of_a_torn_line_does_not_go_into_another_file() {
    let (reader, writer) = pipe().unwrap();
    let (other_reader, other_writer) = pipe().unwrap();
    let sink = Sink::new(writer.try_clone().unwrap().into());
    add(&sink, &[b'z'; 200_000]);
    add(&sink, b"next");
    assert!(sink.flush().is_none());
    // The same pipe again: the rest still belongs there.
    assert!(sink.replace(writer.into()).is_none());
    assert!(sink.torn.get());
    assert!(sink.replace(other_writer.into()).is_none());
    assert!(matches!(sink.flush(), Some(Turn::Recovered(1))));
    drop(sink);
    assert_eq!(read_rest(other_reader), b"next\n");
    assert!(read_rest(reader).iter().all(|&byte| byte == b'z'));
}

#[test]
fn a_full_disk_loses_lines_at_once_says_so_once_and_recovers() {
    let full = OpenOptions::new().write(true).open("/dev/full").unwrap();
    let sink = Sink::new(full.into());
    add(&sink, b"one");
    add(&sink, b"two");
    let Some(Turn::Losing(error)) = sink.flush() else { panic!("it is not full") };
    assert_eq!(error.kind(), io::ErrorKind::StorageFull);
    add(&sink, b"three");
    assert!(sink.flush().is_none());
    let (reader, writer) = pipe().unwrap();
    assert!(sink.replace(writer.into()).is_none());
    add(&sink, b"four");
    assert!(matches!(sink.flush(), Some(Turn::Recovered(3))));
    drop(sink);
    assert_eq!(read_rest(reader), b"four\n");
}

#[test]
fn a_pipe_whose_reader_is_gone_is_an_error_and_no_wait() {
    let (reader, writer) = pipe().unwrap();
    drop(reader);
    let sink = Sink::new(writer.into());
    add(&sink, b"one");
    let Some(Turn::Losing(error)) = sink.flush() else { panic!("somebody reads it") };
    assert_eq!(error.kind(), io::ErrorKind::BrokenPipe);
}

#[test]
fn a_socket_that_nobody_reads_stops_nobody() {
    let (reader, writer) = UnixStream::pair().unwrap();
    let sink = Sink::new(writer.into());
    let kept = fill(&sink, 100);
    assert!(kept * 100 >= ROOM, "{kept}");
    drop(sink);
    // Only the last piece may have been cut, by the end of the sink.
    let all = read_rest(reader);
    assert!(all.chunks_exact(100).all(|line| line.ends_with(b"x\n")));
}

#[test]
fn a_regular_file_takes_all_at_once() {
    // SAFETY: a plain call with a name that ends with a NUL; the descriptor is new, and ours.
    let mut file: File = unsafe { OwnedFd::from_raw_fd(libc::memfd_create(c"log".as_ptr(), 0)) }.into();
    let sink = Sink::new(file.try_clone().unwrap().into());
    for _ in 0..1000 {
        add(&sink, &[b'r'; 99]);
    }
    assert!(sink.flush().is_none());
    file.rewind().unwrap();
    assert_eq!(read_rest(file).len(), 100_000);
}

#[test]
fn a_small_piece_ends_with_a_line_or_is_a_part_of_one() {
    assert_eq!(small_piece(b"one\ntwo\nthr"), b"one\ntwo\n");
    assert_eq!(small_piece(b"one"), b"one");
    let long = [b'x'; 2 * libc::PIPE_BUF];
    assert_eq!(small_piece(&long).len(), libc::PIPE_BUF);
    let mut exact = vec![b'x'; libc::PIPE_BUF - 1];
    exact.extend_from_slice(b"\nmore\n");
    assert_eq!(small_piece(&exact).len(), libc::PIPE_BUF);
}
