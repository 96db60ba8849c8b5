//! Descriptors that the event loop watches.

use std::io;
use std::os::fd::OwnedFd;

use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// Have the event loop watch a descriptor for becoming readable. (For a wake-up nothing else must be
/// watched: an eventfd that is read becomes writable, which would ring again.)
///
/// # Errors
/// The event loop's, when it cannot take the descriptor.
pub(crate) fn watch(fd: OwnedFd) -> io::Result<AsyncFd<OwnedFd>> {
    register(fd, Interest::READABLE)
}

/// Have the event loop watch a descriptor for both directions.
///
/// # Errors
/// The event loop's, when it cannot take the descriptor.
pub(crate) fn watch_both(fd: OwnedFd) -> io::Result<AsyncFd<OwnedFd>> {
    register(fd, Interest::READABLE | Interest::WRITABLE)
}

fn register(fd: OwnedFd, interest: Interest) -> io::Result<AsyncFd<OwnedFd>> {
    // SAFETY: an `OwnedFd` always names the same open file, and `AsyncFd` owns it: the descriptor
    // stays open, and the same, until it is deregistered.
    Ok(unsafe { AsyncFd::register_with_interest(fd, interest) }?)
}
