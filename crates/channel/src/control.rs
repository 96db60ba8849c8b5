//! The words of a ring that both sides share, and what each side may do with them.
//!
//! Sleeping: a consumer that finds nothing sets `sleeping`, looks once more, and only then blocks;
//! a producer wakes it only when it finds `sleeping` set. A producer without room does the same
//! with `starving`. The store and the second look are separated by a sequentially consistent fence
//! on both sides (Dekker's pattern): whichever comes second sees the other.
//!
//! Nothing here touches a frame, so that a model checker can try every interleaving of it.

use crate::sync::{AtomicU32, AtomicU64, Ordering, fence};

/// The frame waits: either side may take it.
pub const PENDING: u32 = 0;
/// The consumer has begun.
pub const CLAIMED: u32 = 1;
/// The producer took it back: the consumer skips it.
pub const REVOKED: u32 = 2;

/// A word alone on its cache line, so that the two sides do not slow each other down.
#[repr(C, align(64))]
#[derive(Debug)]
struct Line<T>(T);

/// The shared words of one ring.
#[repr(C)]
#[derive(Debug)]
pub(crate) struct Control {
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
    /// A ring that is empty: for the model test. The real one lives in zeroed shared memory.
    #[cfg(all(test, loom))]
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
        take(&self.sleeping.0)
    }

    /// Consumer, before blocking: announce it. The caller looks at [`Control::tail`] once more.
    pub(crate) fn announce_sleep(&self) {
        self.sleeping.0.swap(1, Ordering::AcqRel);
        fence(Ordering::SeqCst);
    }

    /// Consumer: it is awake again.
    pub(crate) fn awake(&self) {
        take(&self.sleeping.0);
    }

    /// Consumer, after releasing: must the producer be woken?
    pub(crate) fn take_starving(&self) -> bool {
        fence(Ordering::SeqCst);
        take(&self.starving.0)
    }

    /// Producer, before blocking for room: announce it. The caller tries once more.
    pub(crate) fn announce_starving(&self) {
        self.starving.0.swap(1, Ordering::AcqRel);
        fence(Ordering::SeqCst);
    }
}

/// Take an announcement back. Announcing and taking back are read-modify-writes on both sides, so
/// that each comes wholly before or after the other's, and carries what the other knew.
fn take(announced: &AtomicU32) -> bool {
    announced.load(Ordering::Relaxed) != 0 && announced.swap(0, Ordering::AcqRel) != 0
}

/// The word of one frame by which it is claimed or taken back: the one that comes second learns
/// that it lost.
#[repr(transparent)]
#[derive(Debug)]
pub(crate) struct State(AtomicU32);

impl State {
    /// The state of a frame that waits: for the model test. The real one lies in the ring.
    #[cfg(all(test, loom))]
    pub(crate) fn new() -> Self {
        Self(AtomicU32::new(PENDING))
    }

    /// Producer, before the frame is published.
    pub(crate) fn reset(&self) {
        self.0.store(PENDING, Ordering::Relaxed);
    }

    /// Consumer: begin. False when the producer took it back.
    pub(crate) fn claim(&self) -> bool {
        self.turn(CLAIMED)
    }

    /// Producer: take it back. False when the consumer has begun.
    pub(crate) fn revoke(&self) -> bool {
        self.turn(REVOKED)
    }

    pub(crate) fn is_pending(&self) -> bool {
        self.0.load(Ordering::Acquire) == PENDING
    }

    fn turn(&self, to: u32) -> bool {
        self.0.compare_exchange(PENDING, to, Ordering::AcqRel, Ordering::Acquire).is_ok()
    }
}
