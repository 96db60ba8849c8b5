//! Waiting for room to send.
//!
//! Many threads may wait for the one wake-up that the router gives. One of them polls; it counts
//! each signal that it sees in `epoch` before it lets the others look again. Whoever reads the
//! epoch, then finds no room, then waits for the epoch to change, misses nothing: a signal after
//! the epoch was read is either still pending or has changed it.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, RawFd};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use ::channel::wake::Wait;

pub(crate) struct Room {
    wait: Wait,
    epoch: AtomicU64,
    polling: Mutex<bool>,
    changed: Condvar,
}

/// A lock, also when a thread died with it: what we guard is never left half-changed.
pub(crate) fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Was the other end of this socket closed?
pub(crate) fn is_hung_up(fd: BorrowedFd<'_>) -> bool {
    let mut entry = [hang_up(fd)];
    poll(&mut entry, Some(Duration::ZERO)).is_ok() && is_set(&entry, 0)
}

/// What to poll for, to see the other end of the descriptors' socket close: a descriptor that
/// waits to be received is no reason to wake.
pub(crate) fn hang_up(fd: BorrowedFd<'_>) -> libc::pollfd {
    libc::pollfd { fd: fd.as_raw_fd(), events: 0, revents: 0 }
}

pub(crate) fn readable(fd: RawFd) -> libc::pollfd {
    libc::pollfd { fd, events: libc::POLLIN, revents: 0 }
}

pub(crate) fn is_set(entries: &[libc::pollfd], index: usize) -> bool {
    entries.get(index).is_some_and(|entry| entry.revents != 0)
}

/// poll(2). A timeout is rounded up to whole milliseconds; None: no limit.
pub(crate) fn poll(entries: &mut [libc::pollfd], timeout: Option<Duration>) -> io::Result<()> {
    let millis =
        timeout.map_or(-1, |left| i32::try_from(left.as_micros().div_ceil(1000)).unwrap_or(i32::MAX));
    // SAFETY: `entries` is a live array of the length that is passed.
    let ready = unsafe { libc::poll(entries.as_mut_ptr(), entries.len() as libc::nfds_t, millis) };
    if ready < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

impl Room {
    pub(crate) fn new(wait: Wait) -> Self {
        Self { wait, epoch: AtomicU64::new(0), polling: Mutex::new(false), changed: Condvar::new() }
    }

    pub(crate) fn wake(&self) -> &Wait {
        &self.wait
    }

    /// How many signals were seen so far: read it before looking whether there is room.
    pub(crate) fn epoch(&self) -> u64 {
        self.epoch.load(Ordering::Acquire)
    }

    /// Forget the signals so far, and let every waiter look again.
    pub(crate) fn clear(&self) {
        self.wait.clear();
        self.epoch.fetch_add(1, Ordering::AcqRel);
    }

    /// Block until there was a signal after `epoch` was read, `peer` is closed, a signal handler
    /// ran or `limit` is over. To be called without the GIL. Returns whether `peer` is closed.
    pub(crate) fn block(&self, epoch: u64, peer: BorrowedFd<'_>, limit: Duration) -> io::Result<bool> {
        let until = Instant::now() + limit;
        let mut polling = locked(&self.polling);
        while *polling {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() || self.epoch() != epoch {
                return Ok(false);
            }
            polling = self.changed.wait_timeout(polling, left).unwrap_or_else(PoisonError::into_inner).0;
        }
        if self.epoch() != epoch {
            return Ok(false);
        }
        *polling = true;
        drop(polling);
        let mut entries = [readable(std::os::fd::AsFd::as_fd(&self.wait).as_raw_fd()), hang_up(peer)];
        let polled = poll(&mut entries, Some(until.saturating_duration_since(Instant::now())));
        if is_set(&entries, 0) {
            self.clear();
        }
        *locked(&self.polling) = false;
        self.changed.notify_all();
        match polled {
            Err(error) if error.kind() != io::ErrorKind::Interrupted => Err(error),
            _ => Ok(is_set(&entries, 1)),
        }
    }
}
