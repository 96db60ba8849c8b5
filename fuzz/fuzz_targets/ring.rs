//! A ring whose other side writes any word anywhere between any two calls: no panic, no access
//! outside of the ring, and each call ends. The input is a list of steps.
#![no_main]

use std::os::fd::{AsFd, AsRawFd};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use channel::memory::{Layout, Memory};
use channel::ring::{Consumer, Producer, PushError, Which};
use libfuzzer_sys::fuzz_target;

const LAYOUT: Layout = Layout { slots: 1, requests: 4096, responses: 4096 };
/// Header page, flow words, and the two rings.
const SIZE: usize = 4096 + 4096 + 2 * 4096;

/// The words that the hostile side aims at: head and tail of each ring, and the rings' headers.
fn place(selector: u16) -> usize {
    match selector % 8 {
        0 => 128,
        1 => 192,
        2 => 384,
        3 => 448,
        4 | 5 => 8192 + usize::from(selector >> 3) % 512 * 16,
        _ => usize::from(selector >> 3) % (SIZE / 8) * 8,
    }
}

struct Steps<'a>(&'a [u8]);

impl Steps<'_> {
    fn take<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (bytes, rest) = self.0.split_first_chunk::<N>()?;
        self.0 = rest;
        Some(*bytes)
    }
}

/// The memory of one channel, mapped once for its two ends and once for who scribbles on it: making
/// it anew for each input would take most of the time.
struct Channel {
    memory: Arc<Memory>,
    base: usize,
}

static CHANNEL: OnceLock<Channel> = OnceLock::new();

impl Channel {
    fn new() -> Self {
        let file = Memory::create(LAYOUT).expect("memory");
        // SAFETY: a fresh shared mapping of the whole file, checked below and never unmapped.
        let base = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                SIZE,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_SHARED,
                file.as_raw_fd(),
                0,
            )
        };
        assert_ne!(base, libc::MAP_FAILED);
        let memory = Arc::new(Memory::open(file.as_fd()).expect("a new file is in order"));
        Self { memory, base: base as usize }
    }

    fn word(&self, place: usize) -> &AtomicU64 {
        assert!(place.is_multiple_of(8) && place < SIZE);
        // SAFETY: aligned and inside the mapping, by the line above; it is never unmapped.
        unsafe { &*((self.base + place) as *const AtomicU64) }
    }
}

fuzz_target!(|input: &[u8]| {
    let mut steps = Steps(input);
    let Some([bit]) = steps.take() else { return };
    let channel = CHANNEL.get_or_init(Channel::new);
    // As new: all but the words of the layout, which come first.
    for place in (64..SIZE).step_by(8) {
        channel.word(place).store(0, Ordering::Relaxed);
    }
    let memory = || channel.memory.clone();
    let word = |place| channel.word(place);
    let which = |bit: u8| if bit & 1 == 0 { Which::Requests } else { Which::Responses };
    let ends = |bit| {
        let producer = Producer::attach(memory(), which(bit)).ok()?;
        Some((producer, Consumer::attach(memory(), which(bit)).ok()?))
    };
    let (mut producer, mut consumer) = ends(bit).expect("a new ring is in order");
    let mut positions = [0_u64; 8];
    let (mut next, mut out) = (0_usize, Vec::new());
    while let Some([action, low, high]) = steps.take() {
        let argument = u16::from_le_bytes([low, high]);
        match action % 8 {
            0 | 1 => {
                let place = place(argument);
                let Some(bytes) = steps.take() else { break };
                // The layout's words stay: what comes of those is seen when an end attaches.
                if place >= 64 {
                    word(place).store(u64::from_le_bytes(bytes), Ordering::SeqCst);
                }
            }
            // Small changes keep to the protocol longer: further in than any random word.
            2 => {
                let place = place(argument);
                if place >= 64 {
                    word(place).fetch_add(u64::from(action >> 3) * 8, Ordering::SeqCst);
                }
            }
            3 => {
                let len = usize::from(argument) % (producer.max_payload() + 2);
                match producer.push(1 + u16::from(action >> 3), &[&[0xA5; 4096][..len]]) {
                    Ok(position) => {
                        positions[next % 8] = position;
                        next += 1;
                    }
                    Err(error) => assert_eq!(error == PushError::TooLarge, len > producer.max_payload()),
                }
                let _ = producer.must_wake();
            }
            4 | 5 => {
                if let Ok(Some(frame)) = consumer.peek() {
                    assert!(frame.len <= producer.max_payload());
                    let _ = consumer.claim(&frame);
                    out.clear();
                    consumer.read(&frame, &mut out);
                    assert_eq!(out.len(), frame.len);
                    consumer.release(&frame);
                }
                let _ = (consumer.must_wake(), consumer.is_empty());
            }
            6 => {
                let position = positions[usize::from(argument) % 8].wrapping_add(u64::from(action >> 7));
                let pending = producer.is_pending(position);
                assert_eq!(producer.revoke(position), pending);
                producer.announce_starving();
                let _ = (producer.is_drained(), producer.progress());
            }
            // A new router attaches to what is there, or to positions that agree with each other.
            _ => {
                let _ = consumer.may_sleep();
                if action & 8 != 0 {
                    let Some(bytes) = steps.take() else { break };
                    let (head, tail) = if bit & 1 == 0 { (192, 128) } else { (448, 384) };
                    let position = u64::from_le_bytes(bytes);
                    word(head).store(position, Ordering::SeqCst);
                    word(tail).store(position.wrapping_add(u64::from(argument) * 16), Ordering::SeqCst);
                }
                if let Some(attached) = ends(bit) {
                    (producer, consumer) = attached;
                }
            }
        }
    }
});
