//! File descriptors that travel beside the rings: spooled bodies out, files to send back.
//!
//! A unix socket of whole messages (SOCK_SEQPACKET; SOCK_DGRAM where that is missing). A message
//! is the id of its request, 8 bytes, and one descriptor. It is sent before the frame that
//! announces it, so whoever reads such a frame finds its descriptor here. Whoever skips such a frame
//! because it was taken back receives its descriptor too and closes it: the socket holds some
//! hundreds, and one that is forgotten keeps its file open. Those that are met on the way are closed.

use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

/// How many descriptors of other requests [`Descriptors::receive_for`] closes on its way. More than
/// that do not come from frames that were taken back.
pub const MAX_STRAYS: usize = 128;

/// One end of the socket.
#[derive(Debug)]
pub struct Descriptors(OwnedFd);

#[cfg(target_os = "linux")]
const KIND: i32 = libc::SOCK_SEQPACKET;
#[cfg(not(target_os = "linux"))]
const KIND: i32 = libc::SOCK_DGRAM;

/// Room for one descriptor's control message, aligned as the headers want it.
type ControlBuffer = [MaybeUninit<u64>; 8];

/// The two ends of a new socket, non-blocking.
///
/// # Errors
/// The operating system's, when there is no descriptor.
pub fn pair() -> io::Result<(Descriptors, Descriptors)> {
    let mut fds = [0; 2];
    // SAFETY: two fresh descriptors, checked, and ours alone.
    unsafe {
        if libc::socketpair(libc::AF_UNIX, KIND, 0, fds.as_mut_ptr()) < 0 {
            return Err(io::Error::last_os_error());
        }
        let [one, other] = fds;
        let pair = (Descriptors(OwnedFd::from_raw_fd(one)), Descriptors(OwnedFd::from_raw_fd(other)));
        for fd in fds {
            libc::fcntl(fd, libc::F_SETFD, libc::FD_CLOEXEC);
            libc::fcntl(fd, libc::F_SETFL, libc::O_NONBLOCK);
        }
        Ok(pair)
    }
}

impl Descriptors {
    /// Send a descriptor on behalf of a request.
    ///
    /// # Errors
    /// `WouldBlock` when too many are under way; the operating system's otherwise.
    pub fn send(&self, id: u64, fd: BorrowedFd<'_>) -> io::Result<()> {
        let mut payload = id.to_le_bytes();
        let mut part = libc::iovec { iov_base: payload.as_mut_ptr().cast(), iov_len: payload.len() };
        let mut control: ControlBuffer = [MaybeUninit::zeroed(); 8];
        let size = size_of::<i32>() as u32;
        // SAFETY: the message header points at live buffers of the lengths it names; the control
        // buffer is zeroed, aligned, and larger than CMSG_SPACE of one descriptor.
        let sent = unsafe {
            let mut message: libc::msghdr = std::mem::zeroed();
            message.msg_iov = &raw mut part;
            message.msg_iovlen = 1;
            message.msg_control = control.as_mut_ptr().cast();
            message.msg_controllen = libc::CMSG_SPACE(size) as _;
            let header = libc::CMSG_FIRSTHDR(&raw const message);
            if header.is_null() {
                return Err(io::Error::other("no room for a control message"));
            }
            (*header).cmsg_level = libc::SOL_SOCKET;
            (*header).cmsg_type = libc::SCM_RIGHTS;
            (*header).cmsg_len = libc::CMSG_LEN(size) as _;
            libc::CMSG_DATA(header).cast::<i32>().write_unaligned(fd.as_raw_fd());
            libc::sendmsg(self.0.as_raw_fd(), &raw const message, NO_SIGNAL)
        };
        if sent < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
    }

    /// Receive the next descriptor: the id of its request, and the descriptor.
    ///
    /// # Errors
    /// `WouldBlock` when there is none now, `UnexpectedEof` when the other end is closed,
    /// `InvalidData` when a message is not ours (what was in it is closed); the operating
    /// system's otherwise: EMFILE when we have no descriptor left, and the one sent is lost.
    pub fn receive(&self) -> io::Result<(u64, OwnedFd)> {
        let mut payload = [0_u8; 8];
        let mut part = libc::iovec { iov_base: payload.as_mut_ptr().cast(), iov_len: payload.len() };
        let mut control: ControlBuffer = [MaybeUninit::zeroed(); 8];
        let (mut received, mut count) = (None, 0);
        // SAFETY: the message header points at live buffers of the lengths it names; the kernel
        // writes at most `msg_controllen` bytes of control messages; each descriptor in them is
        // new and becomes owned here at once, so none leaks.
        let (got, flags) = unsafe {
            let mut message: libc::msghdr = std::mem::zeroed();
            message.msg_iov = &raw mut part;
            message.msg_iovlen = 1;
            message.msg_control = control.as_mut_ptr().cast();
            message.msg_controllen = size_of::<ControlBuffer>() as _;
            let got = libc::recvmsg(self.0.as_raw_fd(), &raw mut message, CLOSE_ON_EXEC);
            if got < 0 {
                return Err(io::Error::last_os_error());
            }
            let mut header = libc::CMSG_FIRSTHDR(&raw const message);
            while !header.is_null() {
                if (*header).cmsg_level == libc::SOL_SOCKET && (*header).cmsg_type == libc::SCM_RIGHTS {
                    let bytes = ((*header).cmsg_len as usize).saturating_sub(libc::CMSG_LEN(0) as usize);
                    for index in 0..bytes / size_of::<i32>() {
                        let fd = libc::CMSG_DATA(header).cast::<i32>().add(index).read_unaligned();
                        received = Some(OwnedFd::from_raw_fd(fd));
                        count += 1;
                    }
                }
                header = libc::CMSG_NXTHDR(&raw const message, header);
            }
            (got, message.msg_flags)
        };
        let cut = flags & libc::MSG_CTRUNC != 0;
        match (got, received) {
            (8, Some(fd)) if count == 1 && flags & (libc::MSG_TRUNC | libc::MSG_CTRUNC) == 0 => {
                set_close_on_exec(&fd)?;
                Ok((u64::from_le_bytes(payload), fd))
            }
            (0, None) => Err(io::ErrorKind::UnexpectedEof.into()),
            // The kernel cuts what it cannot install: there is room here for one and more, so when
            // not even one came, it was we who had no descriptor left.
            (_, None) if cut => Err(io::Error::from_raw_os_error(libc::EMFILE)),
            _ => Err(io::Error::new(io::ErrorKind::InvalidData, "not a descriptor's message")),
        }
    }

    /// Has everyone who held the other end closed it? Descriptors may still be under way.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        let mut entry = libc::pollfd { fd: self.0.as_raw_fd(), events: 0, revents: 0 };
        // SAFETY: one live entry, as is passed; a timeout of 0 returns at once.
        unsafe { libc::poll(&raw mut entry, 1, 0) == 1 && entry.revents & libc::POLLHUP != 0 }
    }

    /// Receive the descriptor of request `id`, closing those of other requests that come before.
    ///
    /// # Errors
    /// As [`Descriptors::receive`], and `InvalidData` after [`MAX_STRAYS`] of other requests.
    pub fn receive_for(&self, id: u64) -> io::Result<OwnedFd> {
        for _ in 0..MAX_STRAYS {
            let (owner, fd) = self.receive()?;
            if owner == id {
                return Ok(fd);
            }
        }
        Err(io::Error::new(io::ErrorKind::InvalidData, "too many descriptors that no frame announces"))
    }
}

#[cfg(target_os = "linux")]
const NO_SIGNAL: i32 = libc::MSG_NOSIGNAL;
#[cfg(not(target_os = "linux"))]
const NO_SIGNAL: i32 = 0;
#[cfg(target_os = "linux")]
const CLOSE_ON_EXEC: i32 = libc::MSG_CMSG_CLOEXEC;
#[cfg(not(target_os = "linux"))]
const CLOSE_ON_EXEC: i32 = 0;

#[cfg(target_os = "linux")]
fn set_close_on_exec(_: &OwnedFd) -> io::Result<()> {
    Ok(())
}
#[cfg(not(target_os = "linux"))]
fn set_close_on_exec(fd: &OwnedFd) -> io::Result<()> {
    // SAFETY: a plain fcntl on a descriptor that we own.
    if unsafe { libc::fcntl(fd.as_raw_fd(), libc::F_SETFD, libc::FD_CLOEXEC) } < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}

impl From<OwnedFd> for Descriptors {
    fn from(fd: OwnedFd) -> Self {
        Self(fd)
    }
}

impl From<Descriptors> for OwnedFd {
    fn from(descriptors: Descriptors) -> Self {
        descriptors.0
    }
}

impl AsFd for Descriptors {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}
