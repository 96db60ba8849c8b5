//! A ring whose other side writes anything, anywhere, at any time: a [`channel::Violation`] or
//! nonsense in a payload is the worst that may come of it, and each call ends.

use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use channel::memory::Memory;
use channel::ring::{Consumer, HEADER, Producer, PushError, Which};
use proptest::prelude::*;

use crate::support::{REQUESTS_HEAD, REQUESTS_RING, REQUESTS_TAIL, Scribbler, ring_and_file};

#[test]
fn a_tail_that_is_impossible_is_a_violation() {
    for tail in [8, 4096 + 16, u64::MAX, u64::MAX - 15, 1 << 63] {
        let (_producer, mut consumer, file) = ring_and_file();
        Scribbler::new(&file).set(REQUESTS_TAIL, tail);
        assert!(!consumer.may_sleep(), "{tail}: it must be looked at");
        assert!(consumer.peek().is_err(), "{tail}");
    }
}

#[test]
fn a_tail_that_goes_back_is_a_violation() {
    let (mut producer, mut consumer, file) = ring_and_file();
    producer.push(1, &[&[0; 100]]).unwrap();
    let frame = consumer.peek().unwrap().unwrap();
    consumer.release(&frame);
    Scribbler::new(&file).set(REQUESTS_TAIL, 0);
    assert!(consumer.peek().is_err());
}

#[test]
fn a_head_that_is_impossible_is_a_violation_as_soon_as_room_is_needed() {
    for head in [8, 4096 + 16, u64::MAX, u64::MAX - 15] {
        let (mut producer, _consumer, file) = ring_and_file();
        while producer.push(1, &[&[0; 500]]).is_ok() {}
        Scribbler::new(&file).set(REQUESTS_HEAD, head);
        assert!(matches!(producer.push(1, &[&[0; 500]]), Err(PushError::Violation(_))), "{head}");
    }
}

#[test]
fn a_head_that_goes_back_is_a_violation() {
    let (mut producer, mut consumer, file) = ring_and_file();
    for _ in 0..20 {
        producer.push(1, &[&[0; 500]]).unwrap();
        let frame = consumer.peek().unwrap().unwrap();
        consumer.release(&frame);
    }
    Scribbler::new(&file).set(REQUESTS_HEAD, 0);
    let result = (0..20).find_map(|_| producer.push(1, &[&[0; 500]]).err());
    assert!(matches!(result, Some(PushError::Violation(_))), "{result:?}");
}

#[test]
fn a_length_that_is_impossible_is_a_violation() {
    for len in [17, 4096, 4096 - 16, 1 << 31, u32::MAX, u32::MAX - 15] {
        let (mut producer, mut consumer, file) = ring_and_file();
        producer.push(1, &[b"x"]).unwrap();
        Scribbler::new(&file).set_header(REQUESTS_RING, len, 1);
        assert!(consumer.peek().is_err(), "{len}");
    }
}

#[test]
fn padding_that_does_not_lead_to_the_end_of_the_ring_is_a_violation() {
    let (_producer, mut consumer, file) = ring_and_file();
    let scribbler = Scribbler::new(&file);
    scribbler.set_header(REQUESTS_RING, 0, 0);
    scribbler.set(REQUESTS_TAIL, HEADER as u64);
    assert!(consumer.peek().is_err());
    // A ring's worth of padding leads to the end, but comes from no producer: it would let the
    // consumer go round for ever.
    let (_producer, mut consumer, file) = ring_and_file();
    let scribbler = Scribbler::new(&file);
    scribbler.set_header(REQUESTS_RING, 4096 - 16, 0);
    scribbler.set(REQUESTS_TAIL, 4096);
    assert!(consumer.peek().is_err());
}

#[test]
fn a_frame_that_no_producer_would_write_is_a_violation() {
    let (_producer, mut consumer, file) = ring_and_file();
    let scribbler = Scribbler::new(&file);
    scribbler.set_header(REQUESTS_RING, 2048, 1);
    scribbler.set(REQUESTS_TAIL, 4096);
    assert!(consumer.peek().is_err(), "it is longer than the largest payload");
}

#[test]
fn positions_near_the_end_of_time_are_refused_when_an_end_attaches() {
    for position in [u64::MAX - 15, u64::MAX - 4095, 1 << 63] {
        let (_producer, _consumer, file) = ring_and_file();
        let scribbler = Scribbler::new(&file);
        scribbler.set(REQUESTS_HEAD, position);
        scribbler.set(REQUESTS_TAIL, position);
        let memory = Arc::new(Memory::open(file.as_fd()).unwrap());
        assert!(Producer::attach(memory.clone(), Which::Requests).is_err(), "{position}");
        assert!(Consumer::attach(memory, Which::Requests).is_err(), "{position}");
    }
}

#[test]
fn a_header_that_changes_after_the_peek_changes_nothing() {
    let (mut producer, mut consumer, file) = ring_and_file();
    producer.push(1, &[b"payload"]).unwrap();
    let frame = consumer.peek().unwrap().unwrap();
    Scribbler::new(&file).set_header(REQUESTS_RING, u32::MAX, 9);
    let mut out = Vec::new();
    consumer.read(&frame, &mut out);
    assert_eq!(out, b"payload");
    consumer.release(&frame);
    assert_eq!(consumer.peek(), Ok(None));
}

#[test]
fn a_producer_keeps_what_it_knows_when_the_consumer_lies_about_its_position() {
    let (mut producer, mut consumer, file) = ring_and_file();
    let old = producer.push(1, &[b"x"]).unwrap();
    for _ in 0..200 {
        let frame = consumer.peek().unwrap().unwrap();
        assert!(consumer.claim(&frame));
        consumer.release(&frame);
        producer.push(1, &[b"x"]).unwrap();
    }
    Scribbler::new(&file).set(REQUESTS_HEAD, 0);
    assert!(!producer.revoke(old), "another frame lies there by now");
}

/// What a hostile peer writes: a word anywhere, with a bias to the words that matter.
fn scribble() -> impl Strategy<Value = (usize, u64)> {
    let place = prop_oneof![
        2 => Just(REQUESTS_TAIL),
        2 => Just(REQUESTS_HEAD),
        2 => (0_usize..64).prop_map(|index| REQUESTS_RING + index * HEADER),
        1 => (0_usize..1536).prop_map(|index| index * 8),
    ];
    let word = prop_oneof![
        2 => (0_u64..1024).prop_map(|index| index * 16),
        1 => 0_u64..8192,
        1 => any::<u64>(),
        1 => (0_u64..16).prop_map(|back| u64::MAX - back),
        // A header: a length and a kind.
        2 => (0_u64..4200, 0_u64..3).prop_map(|(len, kind)| len | kind << 32),
    ];
    (place, word)
}

proptest! {
    #[test]
    fn scribbling_between_calls_never_panics_and_never_leaves_the_ring(
        steps in proptest::collection::vec((scribble(), 0_u8..6, 0_usize..2100), 1..200),
    ) {
        let (mut producer, mut consumer, file) = ring_and_file();
        let scribbler = Scribbler::new(&file);
        let largest = producer.max_payload();
        let mut positions = Vec::new();
        let mut out = Vec::new();
        for ((place, word), action, len) in steps {
            match action {
                0 => scribbler.set(place, word),
                1 => positions.extend(producer.push(1, &[&vec![0xAA; len.min(largest)]])),
                2..=4 => {
                    if let Ok(Some(frame)) = consumer.peek() {
                        prop_assert!(frame.len <= largest);
                        let _ = consumer.claim(&frame);
                        if action == 3 {
                            scribbler.set(place, word);
                        }
                        out.clear();
                        consumer.read(&frame, &mut out);
                        prop_assert_eq!(out.len(), frame.len);
                        consumer.release(&frame);
                        let _ = consumer.must_wake();
                    }
                }
                _ => {
                    if let Some(position) = positions.get(len % (positions.len() + 1)) {
                        let _ = producer.revoke(*position);
                    }
                    let _ = (producer.must_wake(), producer.is_drained(), producer.progress());
                    let _ = (consumer.may_sleep(), consumer.is_empty());
                }
            }
        }
    }
}

#[test]
fn a_peer_that_scribbles_all_the_time_cannot_hold_or_break_the_other() {
    let (mut producer, mut consumer, file) = ring_and_file();
    let scribbler = Scribbler::new(&file);
    let stop = AtomicBool::new(false);
    let deadline = Instant::now() + Duration::from_millis(500);
    let (mut frames, mut violations) = (0_u32, 0_u32);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut seed = 0x9E37_79B9_7F4A_7C15_u64;
            let mut tail = 0_u64;
            while !stop.load(Ordering::Relaxed) {
                seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                let word = seed >> 20;
                match seed >> 61 {
                    0 => {
                        tail = tail.wrapping_add((word % 64) * 16);
                        scribbler.set(REQUESTS_TAIL, tail);
                    }
                    1 => tail = scribbler.word(REQUESTS_HEAD).load(Ordering::Relaxed),
                    2 => scribbler.set(REQUESTS_HEAD, (word % 300) * 16),
                    // Padding and short frames, to keep the consumer busy.
                    _ => scribbler.set_header(
                        REQUESTS_RING + (word as usize % 256) * 16,
                        (word >> 40) as u32 % 48,
                        (word >> 30) as u16 % 2,
                    ),
                }
            }
        });
        let mut out = Vec::new();
        while Instant::now() < deadline {
            match consumer.peek() {
                Ok(Some(frame)) => {
                    out.clear();
                    consumer.read(&frame, &mut out);
                    assert_eq!(out.len(), frame.len);
                    consumer.release(&frame);
                    frames += 1;
                }
                Ok(None) => {}
                Err(_) => {
                    // In earnest the channel would end here; this one goes on as a new router would.
                    violations += 1;
                    let memory = Arc::new(Memory::open(file.as_fd()).unwrap());
                    if let Ok(attached) = Consumer::attach(memory, Which::Requests) {
                        consumer = attached;
                    }
                }
            }
            let _ = producer.push(1, &[&[0xAA; 40]]);
        }
        stop.store(true, Ordering::Relaxed);
    });
    assert!(frames > 0 && violations > 0, "{frames} frames, {violations} violations: nothing was tried");
}
