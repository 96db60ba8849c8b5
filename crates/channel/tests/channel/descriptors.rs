//! Descriptors that travel beside the rings.

use std::fs::File;
use std::io::{self, ErrorKind};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::UnixStream;

use channel::descriptors::{Descriptors, MAX_STRAYS, pair};

use crate::support::spawn;

fn file() -> File {
    File::open("/proc/self/exe").unwrap()
}

fn same_file(one: BorrowedFd<'_>, other: BorrowedFd<'_>) -> bool {
    let inode = |fd: BorrowedFd<'_>| {
        let metadata = File::from(fd.try_clone_to_owned().unwrap()).metadata().unwrap();
        (metadata.dev(), metadata.ino())
    };
    inode(one) == inode(other)
}

/// Send a message with as many copies of `fd` as said: what [`Descriptors::send`] never does.
fn send_raw(to: &Descriptors, payload: &[u8], fd: BorrowedFd<'_>, count: usize) {
    let mut control = [0_u64; 64];
    let size = (count * size_of::<i32>()) as u32;
    let mut part = libc::iovec { iov_base: payload.as_ptr().cast_mut().cast(), iov_len: payload.len() };
    // SAFETY: the message header points at live buffers of the lengths it names, and the control
    // buffer holds more than the descriptors written into it.
    let sent = unsafe {
        let mut message: libc::msghdr = std::mem::zeroed();
        message.msg_iov = &raw mut part;
        message.msg_iovlen = 1;
        if count > 0 {
            message.msg_control = control.as_mut_ptr().cast();
            message.msg_controllen = libc::CMSG_SPACE(size) as _;
            let header = libc::CMSG_FIRSTHDR(&raw const message);
            (*header).cmsg_level = libc::SOL_SOCKET;
            (*header).cmsg_type = libc::SCM_RIGHTS;
            (*header).cmsg_len = libc::CMSG_LEN(size) as _;
            for index in 0..count {
                libc::CMSG_DATA(header).cast::<i32>().add(index).write_unaligned(fd.as_raw_fd());
            }
        }
        libc::sendmsg(to.as_fd().as_raw_fd(), &raw const message, 0)
    };
    assert_eq!(sent, payload.len() as isize, "{}", io::Error::last_os_error());
}

#[test]
fn a_descriptor_arrives_with_its_request() {
    let (one, other) = pair().unwrap();
    let sent = file();
    one.send(u64::MAX - 1, sent.as_fd()).unwrap();
    let (id, received) = other.receive().unwrap();
    assert_eq!(id, u64::MAX - 1);
    assert!(same_file(received.as_fd(), sent.as_fd()));
    // SAFETY: a plain fcntl on an open descriptor.
    let flags = unsafe { libc::fcntl(received.as_raw_fd(), libc::F_GETFD) };
    assert_eq!(flags & libc::FD_CLOEXEC, libc::FD_CLOEXEC);
}

#[test]
fn descriptors_of_frames_that_were_taken_back_are_closed_on_the_way() {
    let (one, other) = pair().unwrap();
    let (kept, taken_back) = UnixStream::pair().unwrap();
    for id in 1..=3 {
        one.send(id, taken_back.as_fd()).unwrap();
    }
    one.send(4, kept.as_fd()).unwrap();
    drop(taken_back);
    let received = UnixStream::from(other.receive_for(4).unwrap());
    received.set_nonblocking(true).unwrap();
    // Nobody holds the other end any more: the three were closed.
    assert_eq!(io::Read::read(&mut &received, &mut [0]).unwrap(), 0);
}

#[test]
fn nothing_sent_would_block_and_a_closed_end_is_the_end() {
    let (one, other) = pair().unwrap();
    assert_eq!(other.receive().unwrap_err().kind(), ErrorKind::WouldBlock);
    assert_eq!(other.receive_for(1).unwrap_err().kind(), ErrorKind::WouldBlock);
    drop(one);
    assert_eq!(other.receive().unwrap_err().kind(), ErrorKind::UnexpectedEof);
    assert!(other.send(1, file().as_fd()).is_err(), "and no SIGPIPE");
}

#[test]
fn sending_without_end_would_block_one_day() {
    let (one, _other) = pair().unwrap();
    let sent = file();
    let error = (0..1_000_000).find_map(|id| one.send(id, sent.as_fd()).err()).unwrap();
    assert!(
        error.kind() == ErrorKind::WouldBlock || error.raw_os_error() == Some(libc::ETOOMANYREFS),
        "{error}"
    );
}

#[test]
fn a_message_that_is_not_ours_is_invalid_and_its_descriptors_are_closed() {
    let id = 9_u64.to_le_bytes();
    for (payload, count) in [
        (&id[..], 0_usize),
        (&id[..], 2),
        (&id[..], 12),
        (&id[..], 100),
        (&id[..7], 1),
        (&b"nine bytes"[..], 1),
        (&b"nine bytes"[..], 0),
    ] {
        let (one, other) = pair().unwrap();
        let (watch, sent) = UnixStream::pair().unwrap();
        send_raw(&one, payload, sent.as_fd(), count);
        drop(sent);
        let error = other.receive().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidData, "{payload:?} with {count}: {error}");
        watch.set_nonblocking(true).unwrap();
        assert_eq!(io::Read::read(&mut &watch, &mut [0]).unwrap(), 0, "{count} leaked");
    }
}

#[test]
fn a_peer_that_only_sends_what_nobody_asked_for_is_not_listened_to_for_ever() {
    let (one, other) = pair().unwrap();
    let sent = file();
    let wanted = MAX_STRAYS as u64;
    for stray in 0..wanted {
        one.send(stray, sent.as_fd()).unwrap();
    }
    one.send(wanted, sent.as_fd()).unwrap();
    assert_eq!(other.receive_for(wanted).unwrap_err().kind(), ErrorKind::InvalidData);
    for stray in 1..wanted {
        one.send(stray, sent.as_fd()).unwrap();
    }
    one.send(1 << 32, sent.as_fd()).unwrap();
    other.receive_for(wanted).unwrap();
    other.receive_for(1 << 32).expect("one stray fewer is borne");
}

#[test]
fn no_descriptor_left_here_is_not_the_fault_of_the_peer() {
    let process = spawn([], |[]| {
        let (one, other) = pair().unwrap();
        one.send(1, file().as_fd()).unwrap();
        let none = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
        // SAFETY: a plain system call on a live struct; only this child is limited.
        assert_eq!(unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &raw const none) }, 0);
        assert_eq!(other.receive().unwrap_err().raw_os_error(), Some(libc::EMFILE));
    });
    if let Some(process) = process {
        process.succeed();
    }
}

#[test]
fn an_end_survives_becoming_a_plain_descriptor() {
    let (one, other) = pair().unwrap();
    let fd = OwnedFd::from(one);
    let one = Descriptors::from(fd);
    one.send(5, file().as_fd()).unwrap();
    assert_eq!(other.receive().unwrap().0, 5);
}
