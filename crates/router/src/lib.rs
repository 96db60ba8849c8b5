//! The process that holds every client connection.

pub mod access_log;
pub mod clock;
pub mod trust;
