//! A client's socket: TCP or unix, non-blocking, registered with the event loop.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::task::{Context, Poll, ready};

use tokio::io::unix::AsyncFd;

use crate::outgoing::{Outgoing, Written};
use crate::turn::Turn;
use crate::watch::watch_both;

/// A client's socket.
#[derive(Debug)]
pub(crate) struct Socket(AsyncFd<OwnedFd>);

impl Socket {
    /// # Errors
    /// The event loop's, when it cannot take the descriptor.
    pub fn new(fd: OwnedFd) -> io::Result<Self> {
        Ok(Self(watch_both(fd)?))
    }

    pub fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.get_ref().as_fd()
    }

    /// Read behind what is in the buffer, for which `room` bytes are made once there is something to
    /// read, at most `most`. Returns how many bytes came; 0 is the end.
    pub fn poll_read(
        &self,
        cx: &mut Context<'_>,
        buffer: &mut Vec<u8>,
        room: usize,
        most: usize,
    ) -> Poll<io::Result<usize>> {
        loop {
            let mut guard = ready!(self.0.poll_read_ready(cx))?;
            buffer.reserve(room.min(most));
            let spare = buffer.spare_capacity_mut();
            let len = spare.len().min(most);
            // SAFETY: receives into the buffer's own spare capacity, whose length is passed.
            let got = unsafe { libc::recv(self.0.as_raw_fd(), spare.as_mut_ptr().cast(), len, 0) };
            if got >= 0 {
                let got = got as usize;
                if got > 0 && got < len {
                    // Less than there was room for: the socket is empty, and what comes next
                    // rings again (the registration is edge-triggered).
                    guard.clear_ready();
                }
                // SAFETY: the kernel has initialised the first `got` spare bytes.
                unsafe { buffer.set_len(buffer.len() + got) };
                return Poll::Ready(Ok(got));
            }
            let error = io::Error::last_os_error();
            match error.kind() {
                io::ErrorKind::Interrupted => {}
                io::ErrorKind::WouldBlock => guard.clear_ready(),
                _ => return Poll::Ready(Err(error)),
            }
        }
    }

    /// Write what waits, until all is written or it is the turn of others. `Pending` while the socket
    /// takes no more.
    pub fn poll_write(
        &self,
        cx: &mut Context<'_>,
        out: &mut Outgoing,
        sendfile: bool,
        turn: &Turn,
    ) -> Poll<io::Result<Written>> {
        loop {
            let mut guard = ready!(self.0.poll_write_ready(cx))?;
            match out.write_to(self.as_fd(), sendfile, turn)? {
                Written::Blocked => guard.clear_ready(),
                written => return Poll::Ready(Ok(written)),
            }
        }
    }

    /// Bytes that were written and that the client has not taken yet. The socket rings only when a
    /// third of its buffer is free: a slow reader moves on long before.
    pub fn untaken(&self) -> u64 {
        let mut waiting: libc::c_int = 0;
        #[cfg(target_os = "linux")]
        // SAFETY: the kernel writes one int, which is live, on a descriptor that we own.
        let asked = unsafe { libc::ioctl(self.0.as_raw_fd(), libc::TIOCOUTQ, &raw mut waiting) };
        #[cfg(not(target_os = "linux"))]
        let asked = -1;
        if asked < 0 { 0 } else { u64::try_from(waiting).unwrap_or(0) }
    }

    /// Have the connection reset when it is closed, so that nobody takes its end for the end of a body.
    pub fn reset_on_close(&self) {
        // Failure leaves an ordinary close, which is all that a unix socket has anyway.
        let _ = socket2::SockRef::from(&self.as_fd()).set_linger(Some(std::time::Duration::ZERO));
    }

    /// No more will be written.
    pub fn shut_down(&self) {
        // Not connected any more: then there is nothing to shut down.
        // SAFETY: a plain shutdown on a descriptor that we own.
        let _ = unsafe { libc::shutdown(self.0.as_raw_fd(), libc::SHUT_WR) };
    }
}
