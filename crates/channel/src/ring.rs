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
//! How a side sleeps and is woken: see [`Consumer::may_sleep`] and [`Producer::announce_starving`].

use std::sync::Arc;

use crate::Violation;
pub use crate::control::{CLAIMED, PENDING, REVOKED};
use crate::control::{Control, State};
use crate::memory::Memory;
use crate::sync::{AtomicU64, Ordering};

/// The size of a frame's header, and the alignment of frames, in bytes.
pub const HEADER: usize = 16;
/// The kind of a padding frame.
const PADDING: u16 = 0;

/// No position is beyond this (see [`check_positions`]), so adding to one never overflows.
const LAST: u64 = 1 << 62;

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

/// One ring's memory, as both sides use it.
#[derive(Debug)]
struct Ring {
    memory: Arc<Memory>,
    which: Which,
    capacity: usize,
}

impl Ring {
    /// The ring, and its positions (head, tail) as they stand.
    fn open(memory: Arc<Memory>, which: Which) -> Result<(Self, u64, u64), Violation> {
        let capacity = memory.capacity(which);
        let (head, tail) = (memory.control(which).head(), memory.control(which).tail());
        check_positions(head, tail, capacity)?;
        Ok((Self { memory, which, capacity }, head, tail))
    }

    fn control(&self) -> &Control {
        self.memory.control(self.which)
    }

    /// The place of a position: always below the capacity.
    fn offset(&self, position: u64) -> usize {
        (position as usize) & (self.capacity - 1)
    }

    fn bytes(&self) -> *mut u8 {
        self.memory.ring(self.which)
    }

    /// The word with a frame's length and kind. `position` is a multiple of HEADER.
    fn header(&self, position: u64) -> &AtomicU64 {
        // SAFETY: the offset of such a position is a multiple of HEADER below the capacity, itself
        // a multiple of HEADER: the word lies inside the mapping and is aligned to 8. Both sides
        // touch it only as an atomic. The reference lives no longer than the mapping.
        unsafe { &*self.bytes().add(self.offset(position)).cast::<AtomicU64>() }
    }

    /// A frame's state. `position` is a multiple of HEADER.
    fn state(&self, position: u64) -> &State {
        // SAFETY: as for `header`; the word at +8 still lies inside those HEADER bytes.
        unsafe { &*self.bytes().add(self.offset(position) + 8).cast::<State>() }
    }

    /// A frame's header. Its words are atomics because the other side, when it keeps to no
    /// protocol, may write them at the same time.
    fn write_header(&self, position: u64, len: usize, kind: u16) {
        let ([l0, l1, l2, l3], [k0, k1]) = ((len as u32).to_ne_bytes(), kind.to_ne_bytes());
        let word = u64::from_ne_bytes([l0, l1, l2, l3, k0, k1, 0, 0]);
        self.header(position).store(word, Ordering::Relaxed);
        self.state(position).reset();
    }

    fn read_header(&self, position: u64) -> (usize, u16) {
        let word = self.header(position).load(Ordering::Relaxed);
        let [l0, l1, l2, l3, k0, k1, _, _] = word.to_ne_bytes();
        (u32::from_ne_bytes([l0, l1, l2, l3]) as usize, u16::from_ne_bytes([k0, k1]))
    }
}

/// The writing side of a ring.
#[derive(Debug)]
pub struct Producer {
    ring: Ring,
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
        let (ring, seen_head, tail) = Ring::open(memory, which)?;
        Ok(Self { ring, tail, seen_head })
    }

    /// The largest payload that a frame may have, in bytes.
    #[must_use]
    pub fn max_payload(&self) -> usize {
        self.ring.capacity / 2 - HEADER
    }

    /// Write a frame, whose payload is `parts` one after the other, and publish it. Its `kind` is
    /// not 0. Returns its position. Waking the consumer is the caller's: see
    /// [`Producer::must_wake`].
    ///
    /// # Errors
    /// [`PushError::Full`] when there is no room now; nothing is written then.
    pub fn push(&mut self, kind: u16, parts: &[&[u8]]) -> Result<u64, PushError> {
        debug_assert_ne!(kind, PADDING, "a kind of 0 is padding, which the consumer skips");
        // Saturating: the same bytes may be named many times over.
        let len = parts.iter().fold(0_usize, |len, part| len.saturating_add(part.len()));
        if len > self.max_payload() {
            return Err(PushError::TooLarge);
        }
        let (padding, size) = self.needs(len);
        if !self.has_room(padding + size)? {
            return Err(PushError::Full);
        }
        if padding > 0 {
            self.ring.write_header(self.tail, padding - HEADER, PADDING);
            self.tail += padding as u64;
        }
        let position = self.tail;
        self.ring.write_header(position, len, kind);
        let mut at = self.ring.offset(position) + HEADER;
        for part in parts {
            // SAFETY: `at..at + part.len()` lies inside the ring, because the frame does not wrap
            // and has room (checked above), and inside the part that the consumer has released;
            // `part` cannot overlap it, as no reference into the ring is ever given out.
            unsafe { std::ptr::copy_nonoverlapping(part.as_ptr(), self.ring.bytes().add(at), part.len()) };
            at += part.len();
        }
        self.tail += size as u64;
        self.ring.control().publish(self.tail);
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
        let (padding, size) = self.needs(len);
        self.has_room(padding + size)
    }

    /// After one or more pushes: was the consumer asleep, so that it must be woken?
    #[must_use]
    pub fn must_wake(&self) -> bool {
        self.ring.control().take_sleeper()
    }

    /// Before blocking for room: announce it. The caller then tries [`Producer::push`] once more,
    /// and blocks only when there is still no room. (The wake-up that the consumer signals is
    /// cleared before that second try, never after it.)
    pub fn announce_starving(&self) {
        self.ring.control().announce_starving();
    }

    /// Take a frame back that the consumer has not claimed. True when it is ours again.
    #[must_use]
    pub fn revoke(&self, position: u64) -> bool {
        self.is_held(position) && self.ring.state(position).revoke()
    }

    /// Has the consumer not yet claimed this frame?
    #[must_use]
    pub fn is_pending(&self, position: u64) -> bool {
        self.is_held(position) && self.ring.state(position).is_pending()
    }

    /// Has the consumer released everything?
    #[must_use]
    pub fn is_drained(&self) -> bool {
        self.ring.control().head() >= self.tail
    }

    /// The consumer's position: it moves as long as the consumer lives.
    #[must_use]
    pub fn progress(&self) -> u64 {
        self.ring.control().head()
    }

    /// Look at where the consumer is.
    ///
    /// # Errors
    /// A [`Violation`] when it cannot be there: it only moves forward, and not beyond what was
    /// written.
    pub fn check(&mut self) -> Result<(), Violation> {
        let head = self.ring.control().head();
        if head < self.seen_head || head > self.tail || !head.is_multiple_of(HEADER as u64) {
            return Err(Violation("the consumer's position is impossible"));
        }
        self.seen_head = head;
        Ok(())
    }

    /// Can there be a frame of ours at this position, one that is not yet released?
    fn is_held(&self, position: u64) -> bool {
        position.is_multiple_of(HEADER as u64)
            && (self.seen_head..self.tail).contains(&position)
            && self.ring.control().head() <= position
    }

    /// The padding before a frame with a payload of so many bytes, and the frame's size.
    fn needs(&self, len: usize) -> (usize, usize) {
        let size = frame_size(len);
        let to_end = self.ring.capacity - self.ring.offset(self.tail);
        (if size > to_end { to_end } else { 0 }, size)
    }

    fn has_room(&mut self, size: usize) -> Result<bool, PushError> {
        if self.free() < size {
            self.check().map_err(PushError::Violation)?;
        }
        Ok(self.free() >= size)
    }

    fn free(&self) -> usize {
        self.ring.capacity - (self.tail - self.seen_head) as usize
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
    ring: Ring,
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
        let (ring, head, seen_tail) = Ring::open(memory, which)?;
        Ok(Self { ring, head, seen_tail })
    }

    /// The next frame, or `None` when there is none now. The frame stays in the ring until
    /// [`Consumer::release`]; asking again returns the same one.
    ///
    /// # Errors
    /// A [`Violation`] when the positions or a length are impossible.
    pub fn peek(&mut self) -> Result<Option<Frame>, Violation> {
        // Twice at most: padding leads to the beginning of the ring, where none fits.
        loop {
            if self.head == self.seen_tail {
                let tail = self.ring.control().tail();
                if tail == self.head {
                    return Ok(None);
                }
                check_positions(self.head, tail, self.ring.capacity)?;
                self.seen_tail = tail;
            }
            let (len, kind) = self.ring.read_header(self.head);
            if !self.fits(len) {
                return Err(Violation("a frame is longer than it can be"));
            }
            if kind != PADDING {
                return Ok(Some(Frame { kind, len, position: self.head }));
            }
            if frame_size(len) != self.to_end() {
                return Err(Violation("padding does not end where the ring does"));
            }
            // Given back together with the frame behind it.
            self.head += frame_size(len) as u64;
        }
    }

    /// Begin with a frame: false when the producer took it back (or the frame is not the next one
    /// any more), and it must be skipped.
    #[must_use]
    pub fn claim(&self, frame: &Frame) -> bool {
        self.is_next(frame) && self.ring.state(frame.position).claim()
    }

    /// Has nobody begun with this frame, nor taken it back?
    #[must_use]
    pub fn is_pending(&self, frame: &Frame) -> bool {
        self.is_next(frame) && self.ring.state(frame.position).is_pending()
    }

    /// Append the frame's payload to `out`; nothing when it is not the next one any more.
    pub fn read(&self, frame: &Frame, out: &mut Vec<u8>) {
        if !self.is_next(frame) {
            return;
        }
        out.reserve(frame.len);
        let offset = self.ring.offset(frame.position);
        // SAFETY: the whole frame lies inside the ring (`is_next`); `reserve` made room for
        // `frame.len` bytes, and the copy initialises exactly those. A producer that keeps to the
        // protocol has published them and leaves them alone. One that does not may write at the
        // same time, in another process, where it cannot reach `out`: what we get are bytes
        // without meaning, and they are looked at only in this copy.
        unsafe {
            std::ptr::copy_nonoverlapping(
                self.ring.bytes().add(offset + HEADER).cast_const(),
                out.as_mut_ptr().add(out.len()),
                frame.len,
            );
            out.set_len(out.len() + frame.len);
        }
    }

    /// Give the frame's bytes back to the producer. Does nothing when that was done before.
    pub fn release(&mut self, frame: &Frame) {
        if self.is_next(frame) {
            self.head += frame_size(frame.len) as u64;
            self.ring.control().release(self.head);
        }
    }

    /// After one or more releases: does the producer wait for room, so that it must be woken?
    #[must_use]
    pub fn must_wake(&self) -> bool {
        self.ring.control().take_starving()
    }

    /// Before blocking: announce it, and look once more. True when the ring is still empty, so
    /// that blocking is right; afterwards call [`Consumer::awake`], clear the wake-up, and only
    /// then [`Consumer::peek`]: clearing after the look would lose what came in between.
    #[must_use]
    pub fn may_sleep(&self) -> bool {
        let control = self.ring.control();
        control.announce_sleep();
        if control.tail() == self.head {
            return true;
        }
        control.awake();
        false
    }

    /// The consumer looks at the ring again by itself: producers need not wake it.
    pub fn awake(&self) {
        self.ring.control().awake();
    }

    /// Is there nothing to read now?
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.ring.control().tail() == self.head
    }

    /// Is this the frame that [`Consumer::peek`] would give, and as long as it can be?
    fn is_next(&self, frame: &Frame) -> bool {
        frame.position == self.head && self.fits(frame.len)
    }

    /// Can there be a published frame of this length at our position? A producer writes none
    /// larger than half the ring, and none that wraps.
    fn fits(&self, len: usize) -> bool {
        let published = (self.seen_tail - self.head) as usize;
        let most = published.min(self.to_end()).min(self.ring.capacity / 2);
        len <= most && frame_size(len) <= most
    }

    /// Bytes from our position to the end of the ring.
    fn to_end(&self) -> usize {
        self.ring.capacity - self.ring.offset(self.head)
    }
}

fn check_positions(head: u64, tail: u64, capacity: usize) -> Result<(), Violation> {
    if tail < head || tail - head > capacity as u64 || tail > LAST {
        return Err(Violation("the positions of a ring are impossible"));
    }
    if !head.is_multiple_of(HEADER as u64) || !tail.is_multiple_of(HEADER as u64) {
        return Err(Violation("a position of a ring is not aligned"));
    }
    Ok(())
}
