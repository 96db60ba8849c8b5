//! HTTP bytes to events and back.
