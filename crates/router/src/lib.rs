//! The process that holds every client connection.
