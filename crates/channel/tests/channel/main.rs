//! The channel from outside: what two ends that keep to the protocol may rely on, and what one
//! end may rely on when the other does not.
#![cfg(not(loom))]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod descriptors;
mod hostile;
mod link;
mod memory;
mod message;
mod processes;
mod ring;
mod support;
mod wake;
