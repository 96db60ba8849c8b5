//! How a sleeping side is woken: an eventfd on Linux, a pipe elsewhere.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::time::Duration;

/// The end that wakes.
#[derive(Debug)]
pub struct Signal(OwnedFd);

/// The end that is woken.
#[derive(Debug)]
pub struct Wait(OwnedFd);

/// A wake-up: what is signalled at one end can be waited for at the other.
///
/// # Errors
/// The operating system's, when there is no descriptor.
#[cfg(target_os = "linux")]
pub fn pair() -> io::Result<(Signal, Wait)> {
    // SAFETY: a fresh descriptor, checked, and ours alone.
    let fd = unsafe {
        let fd = libc::eventfd(0, libc::EFD_CLOEXEC | libc::EFD_NONBLOCK);
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        OwnedFd::from_raw_fd(fd)
    };
    Ok((Signal(fd.try_clone()?), Wait(fd)))
}

/// A wake-up: what is signalled at one end can be waited for at the other.
///
/// # Errors
/// The operating system's, when there is no descriptor.
#[cfg(not(target_os = "linux"))]
pub fn pair() -> io::Result<(Signal, Wait)> {
    let mut fds = [0; 2];
    // SAFETY: two fresh descriptors, checked, and ours alone.
    unsafe {
        if libc::pipe(fds.as_mut_ptr()) < 0 {
            return Err(io::Error::last_os_error());
        }
        let [read, write] = fds;
        let pair = (Signal(OwnedFd::from_raw_fd(write)), Wait(OwnedFd::from_raw_fd(read)));
        for fd in [read, write] {
            libc::fcntl(fd, libc::F_SETFD, libc::FD_CLOEXEC);
            libc::fcntl(fd, libc::F_SETFL, libc::O_NONBLOCK);
        }
        Ok(pair)
    }
}

impl From<OwnedFd> for Signal {
    fn from(fd: OwnedFd) -> Self {
        Self(fd)
    }
}

impl From<OwnedFd> for Wait {
    fn from(fd: OwnedFd) -> Self {
        Self(fd)
    }
}

impl From<Signal> for OwnedFd {
    fn from(signal: Signal) -> Self {
        signal.0
    }
}

impl From<Wait> for OwnedFd {
    fn from(wait: Wait) -> Self {
        wait.0
    }
}

impl Signal {
    /// Wake the other end. Signals that it has not seen yet fall together into one.
    pub fn signal(&self) {
        let one = 1_u64.to_ne_bytes();
        // A full counter or pipe (EAGAIN) means that the other end is being woken already, and an
        // end that is closed needs no waking: nothing is left to do on failure.
        // SAFETY: writes 8 bytes from a live buffer to a descriptor that we own.
        let _ = unsafe { libc::write(self.0.as_raw_fd(), one.as_ptr().cast(), one.len()) };
    }
}

impl Wait {
    /// Forget the signals so far.
    pub fn clear(&self) {
        let mut buffer = [0_u8; 4096];
        // Nothing to read (EAGAIN) is as good as read.
        // SAFETY: reads into a live buffer from a non-blocking descriptor that we own.
        let _ = unsafe { libc::read(self.0.as_raw_fd(), buffer.as_mut_ptr().cast(), buffer.len()) };
    }

    /// Block until there is a signal, the other end of `also` is closed, or the time is up (`None`:
    /// no limit). Returns whether (there is a signal, `also` is closed). What can be read from
    /// `also` is no reason to return: a descriptor comes before the frame that announces it.
    ///
    /// # Errors
    /// `Interrupted` when a signal handler ran; the operating system's otherwise.
    pub fn wait(&self, also: BorrowedFd<'_>, timeout: Option<Duration>) -> io::Result<(bool, bool)> {
        let entry = |fd: BorrowedFd<'_>, events| libc::pollfd { fd: fd.as_raw_fd(), events, revents: 0 };
        // That the other end is closed (POLLHUP) is told unasked.
        let mut fds = [entry(self.0.as_fd(), libc::POLLIN), entry(also, 0)];
        // Rounded up, so that a caller with a little time left does not spin.
        let millis =
            timeout.map_or(-1, |left| i32::try_from(left.as_nanos().div_ceil(1_000_000)).unwrap_or(i32::MAX));
        // SAFETY: `fds` is a live array of the length that is passed.
        if unsafe { libc::poll(fds.as_mut_ptr(), fds.len() as libc::nfds_t, millis) } < 0 {
            return Err(io::Error::last_os_error());
        }
        let [this, also] = fds;
        Ok((this.revents != 0, also.revents != 0))
    }
}

impl AsFd for Wait {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl AsFd for Signal {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}
