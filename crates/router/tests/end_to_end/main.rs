//! The router over real sockets: the test is its arbiter, its workers and its clients.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod bodies;
mod client;
mod deaths;
mod ending;
mod fake;
mod house;
mod queue;
mod refusals;
mod requests;
mod responses;
mod slow;
#[path = "../support/strict.rs"]
mod strict;
mod workers;
