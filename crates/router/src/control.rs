//! The control socket: what the arbiter says, and what it is told.
//!
//! Whole messages (SOCK_SEQPACKET), each one JSON object, descriptors beside it. The table is in
//! `docs/architecture.md`.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::task::{Context, Poll};

use serde::{Deserialize, Serialize};
use tokio::io::unix::AsyncFd;

use crate::options::Options;
use crate::watch::watch;

/// The largest message, in bytes.
const MAX_MESSAGE: usize = 256 * 1024;
/// The most descriptors that come with one message (the kernel's own limit is 253).
const MAX_FDS: usize = 253;

/// What the arbiter says.
#[derive(Debug, Deserialize)]
#[serde(tag = "type", rename_all = "lowercase")]
pub(crate) enum Order {
    Options(Box<Options>),
    Listeners { listeners: Vec<Address> },
    Worker(Newcomer),
    Retire { id: u32 },
    Gone { id: u32, why: String },
    Reopen,
    Ping,
    Stop { grace: f64 },
    Quit,
}

/// A worker that was forked, and what its class says of it.
#[derive(Debug, Clone, Copy, Deserialize)]
pub(crate) struct Newcomer {
    pub id: u32,
    pub pid: i32,
    /// Requests that it works on at a time.
    pub slots: usize,
    /// How many requests it may be given at all; 0: any number.
    pub max_requests: u64,
    /// Does it read request bodies while they arrive?
    pub streams: bool,
    /// Does an event loop serve many requests on one thread?
    pub evented: bool,
}

/// Where a listener is bound.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub(crate) struct Address {
    /// A host, or the path of a unix socket.
    pub address: String,
    /// The port; 0 for a unix socket.
    pub port: u16,
}

/// What the arbiter is told.
#[derive(Debug, Serialize)]
#[serde(tag = "type", rename_all = "lowercase")]
pub(crate) enum Report<'a> {
    Started,
    Ready { id: u32 },
    Spent { id: u32 },
    Retired { id: u32 },
    Hung { id: u32, what: &'a str, seconds: f64 },
    Broken { id: u32, why: &'a str },
    Lost { pid: i32, why: &'a str, what: &'a str },
    Pong,
    Stopped,
}

/// The log files, as they come beside an order: the error log, then the access log if there is one.
#[derive(Debug)]
pub(crate) struct LogFiles {
    pub error: OwnedFd,
    pub access: Option<OwnedFd>,
}

impl LogFiles {
    /// # Errors
    /// When the error log's descriptor did not come.
    pub fn from_fds(fds: Vec<OwnedFd>) -> io::Result<Self> {
        let mut fds = fds.into_iter();
        let error = fds.next().ok_or_else(|| io::Error::other("the log files did not come"))?;
        Ok(Self { error, access: fds.next() })
    }
}

/// An order and the descriptors beside it; `None` when the arbiter is dead.
type Received = io::Result<Option<(Order, Vec<OwnedFd>)>>;

/// The router's end of the control socket.
#[derive(Debug)]
pub(crate) struct Control {
    socket: AsyncFd<OwnedFd>,
    /// What could not be sent at once. Bounded by what the router reports: a few messages a worker.
    unsent: RefCell<VecDeque<Vec<u8>>>,
    /// Room for one message.
    buffer: RefCell<Box<[u8]>>,
}

impl Control {
    pub fn new(socket: OwnedFd) -> io::Result<Self> {
        set_nonblocking(&socket)?;
        let buffer = RefCell::new(vec![0; MAX_MESSAGE].into_boxed_slice());
        Ok(Self { socket: watch(socket)?, unsent: RefCell::default(), buffer })
    }

    /// Tell the arbiter, now or as soon as it listens.
    pub fn report(&self, report: &Report<'_>) {
        // A report is made of numbers and strings: it always has a JSON form.
        if let Ok(message) = serde_json::to_vec(report) {
            self.unsent.borrow_mut().push_back(message);
            self.flush();
        }
    }

    /// Send what is waiting as far as the socket takes it.
    pub fn flush(&self) {
        let mut unsent = self.unsent.borrow_mut();
        while let Some(message) = unsent.front() {
            // SAFETY: sends from a live buffer on a descriptor that we own.
            let sent = unsafe {
                libc::send(
                    self.socket.as_raw_fd(),
                    message.as_ptr().cast(),
                    message.len(),
                    libc::MSG_NOSIGNAL | libc::MSG_DONTWAIT,
                )
            };
            if sent < 0 && would_block(&io::Error::last_os_error()) {
                // The sweep tries again: the arbiter reads within a moment.
                return;
            }
            // Sent, or the arbiter is dead, which `receive` finds out.
            unsent.pop_front();
        }
    }

    /// The next order; `None` when the arbiter is dead.
    pub async fn receive(&self) -> Received {
        std::future::poll_fn(|cx| self.poll_receive(cx, &mut self.buffer.borrow_mut())).await
    }

    fn poll_receive(&self, cx: &mut Context<'_>, buffer: &mut [u8]) -> Poll<Received> {
        loop {
            let mut guard = match self.socket.poll_read_ready(cx) {
                Poll::Ready(guard) => guard?,
                Poll::Pending => return Poll::Pending,
            };
            match receive_message(self.socket.as_raw_fd(), buffer) {
                Ok((0, _)) => return Poll::Ready(Ok(None)),
                Ok((len, fds)) => {
                    let message = buffer.get(..len).unwrap_or_default();
                    let order = serde_json::from_slice(message).map_err(|error| {
                        io::Error::new(
                            io::ErrorKind::InvalidData,
                            format!("the arbiter's order is unreadable: {error}"),
                        )
                    })?;
                    return Poll::Ready(Ok(Some((order, fds))));
                }
                Err(error) if would_block(&error) => guard.clear_ready(),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::ConnectionReset => return Poll::Ready(Ok(None)),
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
    }
}

pub(crate) fn would_block(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::WouldBlock
}

pub(crate) fn set_nonblocking(fd: &OwnedFd) -> io::Result<()> {
    // SAFETY: plain fcntls on a descriptor that we own.
    unsafe {
        let flags = libc::fcntl(fd.as_raw_fd(), libc::F_GETFL);
        if flags < 0 || libc::fcntl(fd.as_raw_fd(), libc::F_SETFL, flags | libc::O_NONBLOCK) < 0 {
            return Err(io::Error::last_os_error());
        }
    }
    Ok(())
}

fn receive_message(socket: i32, buffer: &mut [u8]) -> io::Result<(usize, Vec<OwnedFd>)> {
    const WORDS: usize = (MAX_FDS * size_of::<i32>() + 64) / 8;
    let mut control = [MaybeUninit::<u64>::zeroed(); WORDS];
    let mut part = libc::iovec { iov_base: buffer.as_mut_ptr().cast(), iov_len: buffer.len() };
    let mut fds = Vec::new();
    // SAFETY: the message header points at live buffers of the lengths it names; each descriptor
    // that the kernel puts into the control buffer is new and becomes owned here at once.
    unsafe {
        let mut message: libc::msghdr = std::mem::zeroed();
        message.msg_iov = &raw mut part;
        message.msg_iovlen = 1;
        message.msg_control = control.as_mut_ptr().cast();
        message.msg_controllen = size_of_val(&control) as _;
        #[cfg(target_os = "linux")]
        let flags = libc::MSG_CMSG_CLOEXEC;
        #[cfg(not(target_os = "linux"))]
        let flags = 0;
        let len = libc::recvmsg(socket, &raw mut message, flags);
        if len < 0 {
            return Err(io::Error::last_os_error());
        }
        let mut header = libc::CMSG_FIRSTHDR(&raw const message);
        while !header.is_null() {
            if (*header).cmsg_level == libc::SOL_SOCKET && (*header).cmsg_type == libc::SCM_RIGHTS {
                let bytes = (*header).cmsg_len as usize - libc::CMSG_LEN(0) as usize;
                for index in 0..bytes / size_of::<i32>() {
                    let fd = libc::CMSG_DATA(header).cast::<i32>().add(index).read_unaligned();
                    fds.push(OwnedFd::from_raw_fd(fd));
                }
            }
            header = libc::CMSG_NXTHDR(&raw const message, header);
        }
        Ok((len as usize, fds))
    }
}
