//! The shared-memory link between the router and one worker.
