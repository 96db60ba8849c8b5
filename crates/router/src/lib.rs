//! The router: the process that holds every client connection.
//!
//! One thread, one event loop. The map:
//!
//! * [`run`]: the main task, which does what the arbiter orders (`control`).
//! * `listener`: accepting. `connection`: one HTTP/1 connection, on a `socket`: its life; `request`, from
//!   the head to the message for a worker; `relay`, bytes both ways while it is served; `ending`.
//! * `exchange`: one request and its `response`, which waits in an `outgoing` line for its client.
//! * `core`: the router that all share. Its parts: `queue`, who waits and who gets a worker; `pool`, which
//!   workers there are; `frames`, what they say; `sweep`, deadlines and what else comes again and again.
//! * `worker`: one worker's channel, and which requests it holds.
//! * `client`: what is known of a connection from outside: deadlines, idleness.
//! * `turn`: how much each may do in a row. `pace`: how fast bodies and readers must be. `spool`, `disk`,
//!   `buffers`: where bodies and bytes are kept.
//!   `options`, `settings`: how to work. `logs`, `access_log`, `clock`, `trust`: what the names say.

mod access_log;
mod buffers;
mod client;
mod clock;
mod connection;
mod control;
mod core;
mod disk;
mod exchange;
mod listener;
mod logs;
mod options;
mod outgoing;
mod pace;
mod response;
mod run;
mod settings;
mod sink;
mod socket;
mod spool;
mod trust;
mod turn;
mod watch;
mod worker;

pub use options::OPTION_NAMES;
pub use run::run;
