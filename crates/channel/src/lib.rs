//! The shared-memory link between the router and one worker.
//!
//! ```text
//!            requests ring ────────────►
//!   router   ◄──────────── responses ring   worker
//!            descriptors (unix socket) ◄──►
//! ```
//!
//! * [`memory`]: one sealed memory file, its layout, and the words that both sides share.
//! * [`ring`]: a single-producer single-consumer ring of frames, over that memory.
//! * [`wake`]: how a sleeping side is woken: an eventfd, or a pipe where there is none.
//! * [`descriptors`]: file descriptors that travel beside the rings.
//! * [`message`]: what a frame says, as named structs.
//! * [`link`]: the two ends, [`link::RouterEnd`] and [`link::WorkerEnd`].
//!
//! Nothing here knows of sockets, of a runtime or of Python. Whatever the other side wrote is
//! untrusted: each length and position is checked, and a fault is a [`Violation`], never a panic.

mod control;
pub mod descriptors;
pub mod link;
pub mod memory;
pub mod message;
#[cfg(all(test, loom))]
mod model;
pub mod ring;
mod sync;
pub mod wake;

use std::{fmt, io};

/// The other side broke the protocol: its channel is of no further use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Violation(pub &'static str);

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "channel violation: {}", self.0)
    }
}

impl std::error::Error for Violation {}

/// A channel could not be made.
#[derive(Debug)]
pub struct NotMade {
    /// What the operating system refused, and of what size.
    pub what: String,
    /// Its error.
    pub error: io::Error,
}

impl NotMade {
    /// What `call`, for a memory file of `size` bytes, failed with.
    fn of(call: &'static str, size: usize) -> impl FnOnce(io::Error) -> Self {
        move |error| Self { what: format!("{call} ({} KiB)", size.div_ceil(1024)), error }
    }
}

impl fmt::Display for NotMade {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.what, self.error)
    }
}

impl std::error::Error for NotMade {}

/// Where no size is to be told: descriptors.
impl From<io::Error> for NotMade {
    fn from(error: io::Error) -> Self {
        Self { what: "descriptors of a channel".to_owned(), error }
    }
}
