//! A ring of frames with one producer and one consumer.
//!
//! Positions count bytes since the ring was made and never wrap (a u64 lasts for centuries); a
//! position's place in the ring is the position modulo the capacity. A frame is a 16-byte header
//! and its payload, padded to 16, and never wraps around the end: a padding frame fills the rest.
//!
//! ```text
//!   0      4      6      8       12      16
//!   ├ len ─┼ kind ┼  0  ─┼ state ┼   0  ─┼ payload ... ┤ 0..15 bytes of padding ┤
//! ```
//!
//! `state` is how a frame is claimed: the consumer turns [`PENDING`] into [`CLAIMED`] before it
//! begins, the producer turns [`PENDING`] into [`REVOKED`] to take it back; the one that comes
//! second learns that it lost. It lives until the consumer releases the frame.
//!
//! Sleeping: a consumer that finds nothing sets `sleeping`, looks once more, and only then blocks;
//! a producer wakes it only when it finds `sleeping` set. A producer without room does the same
//! with `starving`. The store and the second look are separated by a sequentially consistent fence
//! on both sides (Dekker's pattern): whichever comes second sees the other.

use std::sync::Arc;

use crate::Violation;
use crate::memory::Memory;
use crate::sync::{AtomicU32, AtomicU64, Ordering, fence};

/// The size of a frame's header, and the alignment of frames, in bytes.
pub const HEADER: usize = 16;
/// The kind of a padding frame.
const PADDING: u16 = 0;

/// The frame waits: either side may take it.
pub const PENDING: u32 = 0;
/// The consumer has begun.
pub const CLAIMED: u32 = 1;
/// The producer took it back: the consumer skips it.
pub const REVOKED: u32 = 2;

/// A word alone on its cache line, so that the two sides do not slow each other down.
#[repr(C, align(64))]
#[derive(Debug)]
pub(crate) struct Line<T>(pub(crate) T);

/// The shared words of one ring.
#[repr(C)]
#[derive(Debug)]
pub struct Control {
    /// Where the next frame will be written; only the producer stores it.
    tail: Line<AtomicU64>,
    /// Where the next frame will be read; only the consumer stores it.
    head: Line<AtomicU64>,
    /// The consumer is about to block.
    sleeping: Line<AtomicU32>,
    /// The producer is about to block until there is room.
    starving: Line<AtomicU32>,
}

impl Control {
    /// A ring that is empty (for the model test; the real one lives in zeroed shared memory).
    #[cfg(any(test, loom))]
    pub(crate) fn new() -> Self {
        Self {
            tail: Line(AtomicU64::new(0)),
            head: Line(AtomicU64::new(0)),
            sleeping: Line(AtomicU32::new(0)),
            starving: Line(AtomicU32::new(0)),
        }
    }

    pub(crate) fn tail(&self) -> u64 {
        self.tail.0.load(Ordering::Acquire)
    }

    pub(crate) fn head(&self) -> u64 {
        self.head.0.load(Ordering::Acquire)
    }

    /// Make all frames before `tail` visible to the consumer.
    pub(crate) fn publish(&self, tail: u64) {
        self.tail.0.store(tail, Ordering::Release);
    }

    /// Give the bytes before `head` back to the producer.
    pub(crate) fn release(&self, head: u64) {
        self.head.0.store(head, Ordering::Release);
    }

    /// Producer, after publishing: must the consumer be woken?
    pub(crate) fn take_sleeper(&self) -> bool {
        fence(Ordering::SeqCst);
        self.sleeping.0.load(Ordering::Relaxed) != 0 && self.sleeping.0.swap(0, Ordering::AcqRel) != 0
    }

    /// Consumer, before blocking: announce it. The caller looks at [`Control::tail`] once more.
    pub(crate) fn announce_sleep(&self) {
        self.sleeping.0.store(1, Ordering::Relaxed);
        fence(Ordering::SeqCst);
    }

    /// Consumer: it is awake again.
    pub(crate) fn awake(&self) {
        self.sleeping.0.store(0, Ordering::Relaxed);
    }

    /// Consumer, after releasing: must the producer be woken?
    pub(crate) fn take_starving(&self) -> bool {
        fence(Ordering::SeqCst);
        self.starving.0.load(Ordering::Relaxed) != 0 && self.starving.0.swap(0, Ordering::AcqRel) != 0
    }

    /// Producer, before blocking for room: announce it. The caller tries once more.
    pub(crate) fn announce_starving(&self) {
        self.starving.0.store(1, Ordering::Relaxed);
        fence(Ordering::SeqCst);
    }
}

/// Which of a channel's two rings.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Which {
    /// From the router to the worker.
    Requests,
    /// From the worker to the router.
    Responses,
}

/// Why a frame was not pushed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PushError {
    /// There is no room now.
    Full,
    /// The frame is larger than [`Producer::max_payload`]: it will never fit.
    TooLarge,
    /// The consumer's position is impossible.
    Violation(Violation),
}

fn frame_size(len: usize) -> usize {
    HEADER + len.next_multiple_of(HEADER)
}

/// The writing side of a ring.
#[derive(Debug)]
pub struct Producer {
    memory: Arc<Memory>,
    which: Which,
    capacity: usize,
    tail: u64,
    /// The consumer's position as last seen: what lies before it is free.
    seen_head: u64,
}

impl Producer {
    /// Attach to a ring where its last producer left it.
    ///
    /// # Errors
    /// A [`Violation`] when the positions in the memory are impossible.
    pub fn attach(memory: Arc<Memory>, which: Which) -> Result<Self, Violation> {
        let capacity = memory.capacity(which);
        let (head, tail) = (memory.control(which).head(), memory.control(which).tail());
        check_positions(head, tail, capacity)?;
        Ok(Self { memory, which, capacity, tail, seen_head: head })
    }

    /// The largest payload that a frame may have, in bytes.
    #[must_use]
    pub fn max_payload(&self) -> usize {
        self.capacity / 2 - HEADER
    }

    /// Write a frame, whose payload is `parts` one after the other, and publish it. Returns its
    /// position. Waking the consumer is the caller's: see [`Producer::must_wake`].
    ///
    /// # Errors
    /// [`PushError::Full`] when there is no room now; nothing is written then.
    pub fn push(&mut self, kind: u16, parts: &[&[u8]]) -> Result<u64, PushError> {
        let len: usize = parts.iter().map(|part| part.len()).sum();
        if len > self.max_payload() {
            return Err(PushError::TooLarge);
        }
        let size = frame_size(len);
        let offset = self.offset(self.tail);
        let to_end = self.capacity - offset;
        let padding = if size > to_end { to_end } else { 0 };
        if !self.has_room(padding + size)? {
            return Err(PushError::Full);
        }
        if padding > 0 {
            self.write_header(offset, padding - HEADER, PADDING);
            self.tail += padding as u64;
        }
        let position = self.tail;
        let offset = self.offset(position);
        self.write_header(offset, len, kind);
        let mut at = offset + HEADER;
        for part in parts {
            // SAFETY: `at..at + part.len()` lies inside the ring, because the frame does not wrap
            // and has room (checked above), and inside the part that the consumer has released;
            // `part` cannot overlap it, as no reference into the ring is ever given out.
            unsafe {
                std::ptr::copy_nonoverlapping(
                    part.as_ptr(),
                    self.memory.ring(self.which).add(at),
                    part.len(),
                );
            }
            at += part.len();
        }
        self.tail += size as u64;
        self.memory.control(self.which).publish(self.tail);
        Ok(position)
    }

    /// Would a frame with a payload of so many bytes find room now? What found room keeps it until
    /// the next push, because the consumer can only free more.
    ///
    /// # Errors
    /// As [`Producer::push`], but never [`PushError::Full`].
    pub fn fits(&mut self, len: usize) -> Result<bool, PushError> {
        if len > self.max_payload() {
            return Err(PushError::TooLarge);
        }
        let size = frame_size(len);
        let to_end = self.capacity - self.offset(self.tail);
        self.has_room(if size > to_end { to_end + size } else { size })
    }

    /// After one or more pushes: was the consumer asleep, so that it must be woken?
    #[must_use]
    pub fn must_wake(&self) -> bool {
        self.memory.control(self.which).take_sleeper()
    }

    /// Before blocking for room: announce it. The caller then tries [`Producer::push`] once more.
    pub fn announce_starving(&self) {
        self.memory.control(self.which).announce_starving();
    }

    /// Take a frame back that the consumer has not claimed. True when it is ours again.
    #[must_use]
    pub fn revoke(&self, position: u64) -> bool {
        self.is_held(position)
            && self
                .state(position)
                .compare_exchange(PENDING, REVOKED, Ordering::AcqRel, Ordering::Acquire)
                .is_ok()
    }

    /// Has the consumer not yet claimed this frame?
    #[must_use]
    pub fn is_pending(&self, position: u64) -> bool {
        self.is_held(position) && self.state(position).load(Ordering::Acquire) == PENDING
    }

    /// Has the consumer released everything?
    #[must_use]
    pub fn is_drained(&self) -> bool {
        self.memory.control(self.which).head() >= self.tail
    }

    /// The consumer's position: it moves as long as the consumer lives.
    #[must_use]
    pub fn progress(&self) -> u64 {
        self.memory.control(self.which).head()
    }

    /// Is the frame at this position still in the ring (not yet released)?
    fn is_held(&self, position: u64) -> bool {
        position < self.tail && self.memory.control(self.which).head() <= position
    }

    fn has_room(&mut self, size: usize) -> Result<bool, PushError> {
        if self.free() >= size {
            return Ok(true);
        }
        let head = self.memory.control(self.which).head();
        if head < self.seen_head || head > self.tail {
            return Err(PushError::Violation(Violation("the consumer's position is impossible")));
        }
        self.seen_head = head;
        Ok(self.free() >= size)
    }

    fn free(&self) -> usize {
        self.capacity - (self.tail - self.seen_head) as usize
    }

    fn offset(&self, position: u64) -> usize {
        (position as usize) & (self.capacity - 1)
    }

    fn write_header(&self, offset: usize, len: usize, kind: u16) {
        let mut header = [0_u8; HEADER];
        let (first, rest) = header.split_at_mut(4);
        first.copy_from_slice(&(len as u32).to_ne_bytes());
        if let Some(bytes) = rest.get_mut(..2) {
            bytes.copy_from_slice(&kind.to_ne_bytes());
        }
        // SAFETY: `offset` is a multiple of HEADER below the capacity, itself a multiple of
        // HEADER, so the header lies inside the ring; the caller has checked that it is free.
        unsafe {
            std::ptr::copy_nonoverlapping(header.as_ptr(), self.memory.ring(self.which).add(offset), HEADER);
        }
    }

    fn state(&self, position: u64) -> &AtomicU32 {
        state_word(&self.memory, self.which, self.offset(position))
    }
}

/// A frame that was read: where it is and what it claims to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Frame {
    /// What the payload is; see [`crate::message`].
    pub kind: u16,
    /// The payload's length in bytes.
    pub len: usize,
    position: u64,
}

/// The reading side of a ring.
#[derive(Debug)]
pub struct Consumer {
    memory: Arc<Memory>,
    which: Which,
    capacity: usize,
    head: u64,
    /// The producer's position as last seen: frames before it may be read.
    seen_tail: u64,
}

impl Consumer {
    /// Attach to a ring where its last consumer left it.
    ///
    /// # Errors
    /// A [`Violation`] when the positions in the memory are impossible.
    pub fn attach(memory: Arc<Memory>, which: Which) -> Result<Self, Violation> {
        let capacity = memory.capacity(which);
        let (head, tail) = (memory.control(which).head(), memory.control(which).tail());
        check_positions(head, tail, capacity)?;
        Ok(Self { memory, which, capacity, head, seen_tail: tail })
    }

    /// The next frame, or `None` when there is none now. The frame stays in the ring until
    /// [`Consumer::release`]; asking again returns the same one.
    ///
    /// # Errors
    /// A [`Violation`] when the positions or a length are impossible.
    pub fn peek(&mut self) -> Result<Option<Frame>, Violation> {
        loop {
            if self.head == self.seen_tail {
                let tail = self.memory.control(self.which).tail();
                if tail == self.head {
                    return Ok(None);
                }
                check_positions(self.head, tail, self.capacity)?;
                if tail < self.seen_tail {
                    return Err(Violation("the producer's position went back"));
                }
                self.seen_tail = tail;
            }
            let offset = (self.head as usize) & (self.capacity - 1);
            let mut header = [0_u8; HEADER];
            // SAFETY: `head` is a multiple of HEADER (checked for every step), so the header lies
            // inside the ring. It is copied once and only the copy is looked at.
            unsafe {
                std::ptr::copy_nonoverlapping(
                    self.memory.ring(self.which).add(offset).cast_const(),
                    header.as_mut_ptr(),
                    HEADER,
                );
            }
            let [l0, l1, l2, l3, k0, k1, ..] = header;
            let len = u32::from_ne_bytes([l0, l1, l2, l3]) as usize;
            let kind = u16::from_ne_bytes([k0, k1]);
            let available = (self.seen_tail - self.head) as usize;
            let to_end = self.capacity - offset;
            if len > self.capacity || frame_size(len) > available.min(to_end) {
                return Err(Violation("a frame is longer than what was published"));
            }
            if kind == PADDING {
                self.head += frame_size(len) as u64;
                self.memory.control(self.which).release(self.head);
                continue;
            }
            return Ok(Some(Frame { kind, len, position: self.head }));
        }
    }

    /// Begin with a frame: false when the producer took it back, and it must be skipped.
    #[must_use]
    pub fn claim(&self, frame: &Frame) -> bool {
        let offset = (frame.position as usize) & (self.capacity - 1);
        state_word(&self.memory, self.which, offset)
            .compare_exchange(PENDING, CLAIMED, Ordering::AcqRel, Ordering::Acquire)
            .is_ok()
    }

    /// Append the frame's payload to `out`.
    pub fn read(&self, frame: &Frame, out: &mut Vec<u8>) {
        out.reserve(frame.len);
        let offset = (frame.position as usize) & (self.capacity - 1);
        // SAFETY: `peek` has checked that the whole frame lies inside the ring and was published;
        // `reserve` made room for `frame.len` bytes, and the copy initialises exactly those.
        unsafe {
            std::ptr::copy_nonoverlapping(
                self.memory.ring(self.which).add(offset + HEADER).cast_const(),
                out.as_mut_ptr().add(out.len()),
                frame.len,
            );
            out.set_len(out.len() + frame.len);
        }
    }

    /// Give the frame's bytes back to the producer.
    pub fn release(&mut self, frame: &Frame) {
        if frame.position == self.head {
            self.head += frame_size(frame.len) as u64;
            self.memory.control(self.which).release(self.head);
        }
    }

    /// After one or more releases: does the producer wait for room, so that it must be woken?
    #[must_use]
    pub fn must_wake(&self) -> bool {
        self.memory.control(self.which).take_starving()
    }

    /// Before blocking: announce it, and look once more. True when the ring is still empty, so
    /// that blocking is right; call [`Consumer::awake`] afterwards.
    #[must_use]
    pub fn may_sleep(&self) -> bool {
        let control = self.memory.control(self.which);
        control.announce_sleep();
        if control.tail() == self.head {
            return true;
        }
        control.awake();
        false
    }

    /// The consumer looks at the ring again by itself: producers need not wake it.
    pub fn awake(&self) {
        self.memory.control(self.which).awake();
    }

    /// Is there nothing to read now?
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.memory.control(self.which).tail() == self.head
    }
}

fn state_word(memory: &Memory, which: Which, offset: usize) -> &AtomicU32 {
    // SAFETY: `offset` is a frame's place: a multiple of HEADER below the capacity, so the word at
    // +8 lies inside the mapping and is aligned to 4; both sides touch it only as an atomic while
    // the frame is published; the reference lives no longer than the mapping.
    unsafe { &*memory.ring(which).add(offset + 8).cast::<AtomicU32>() }
}

fn check_positions(head: u64, tail: u64, capacity: usize) -> Result<(), Violation> {
    if tail < head || tail - head > capacity as u64 {
        return Err(Violation("the positions of a ring are impossible"));
    }
    if !head.is_multiple_of(HEADER as u64) || !tail.is_multiple_of(HEADER as u64) {
        return Err(Violation("a position of a ring is not aligned"));
    }
    Ok(())
}
