//! Buffers that are not in use: an idle connection keeps none.

use std::cell::RefCell;

/// How many are kept.
const KEPT: usize = 64;
/// The size of a buffer, in bytes; larger ones are not kept.
const SIZE: usize = 16 * 1024;

/// A few buffers for the next to come.
#[derive(Debug, Default)]
pub(crate) struct Buffers(RefCell<Vec<Vec<u8>>>);

impl Buffers {
    /// An empty buffer with some capacity.
    pub fn take(&self) -> Vec<u8> {
        self.0.borrow_mut().pop().unwrap_or_else(|| Vec::with_capacity(SIZE))
    }

    /// Give an empty buffer back.
    pub fn put(&self, buffer: Vec<u8>) {
        let mut kept = self.0.borrow_mut();
        if kept.len() < KEPT && buffer.capacity() <= SIZE {
            kept.push(buffer);
        }
    }
}
