//! A ring between two sides that keep to the protocol.

use std::collections::VecDeque;

use channel::ring::{HEADER, PushError};
use proptest::prelude::*;

use crate::support::{ring, take};

#[test]
fn a_frame_arrives_as_it_was_pushed() {
    let (mut producer, mut consumer) = ring();
    producer.push(7, &[b"one ", b"", b"two"]).unwrap();
    assert_eq!(take(&mut consumer), Some((7, b"one two".to_vec())));
    assert_eq!(take(&mut consumer), None);
}

#[test]
fn a_frame_without_a_payload_arrives() {
    let (mut producer, mut consumer) = ring();
    producer.push(4, &[]).unwrap();
    assert_eq!(take(&mut consumer), Some((4, Vec::new())));
}

#[test]
fn peeking_again_gives_the_same_frame_until_it_is_released() {
    let (mut producer, mut consumer) = ring();
    producer.push(1, &[b"a"]).unwrap();
    producer.push(2, &[b"b"]).unwrap();
    let first = consumer.peek().unwrap().unwrap();
    assert_eq!(consumer.peek().unwrap(), Some(first));
    consumer.release(&first);
    assert_eq!(consumer.peek().unwrap().map(|frame| frame.kind), Some(2));
}

#[test]
fn releasing_a_frame_twice_releases_it_once() {
    let (mut producer, mut consumer) = ring();
    producer.push(1, &[b"a"]).unwrap();
    producer.push(2, &[b"b"]).unwrap();
    let first = consumer.peek().unwrap().unwrap();
    consumer.release(&first);
    consumer.release(&first);
    assert_eq!(take(&mut consumer), Some((2, b"b".to_vec())));
}

#[test]
fn a_full_ring_takes_nothing_until_there_is_room_and_loses_nothing() {
    let (mut producer, mut consumer) = ring();
    let mut pushed = 0_u32;
    loop {
        match producer.push(1, &[&pushed.to_le_bytes()]) {
            Ok(_) => pushed += 1,
            Err(full) => break assert_eq!(full, PushError::Full),
        }
    }
    assert_eq!(pushed, 4096 / 32);
    assert_eq!(producer.push(1, &[]), Err(PushError::Full));
    for expected in 0..pushed {
        assert_eq!(take(&mut consumer), Some((1, expected.to_le_bytes().to_vec())));
    }
    assert_eq!(take(&mut consumer), None);
    assert!(producer.push(1, &[]).is_ok());
}

#[test]
fn the_largest_payload_fits_wherever_the_ring_stands() {
    let (mut producer, mut consumer) = ring();
    let largest = vec![9; producer.max_payload()];
    for step in 0..600 {
        producer.push(1, &[&vec![8; step % 64]]).unwrap();
        assert_eq!(take(&mut consumer).unwrap().1.len(), step % 64);
        producer.push(2, &[&largest]).unwrap();
        assert_eq!(take(&mut consumer), Some((2, largest.clone())));
    }
}

#[test]
fn a_payload_beyond_the_largest_is_refused_for_good() {
    let (mut producer, mut consumer) = ring();
    let too_large = vec![0; producer.max_payload() + 1];
    assert_eq!(producer.push(1, &[&too_large]), Err(PushError::TooLarge));
    assert_eq!(producer.fits(too_large.len()), Err(PushError::TooLarge));
    assert_eq!(consumer.peek(), Ok(None));
}

#[test]
fn a_claimed_frame_cannot_be_taken_back() {
    let (mut producer, mut consumer) = ring();
    let position = producer.push(1, &[b"x"]).unwrap();
    let frame = consumer.peek().unwrap().unwrap();
    assert!(producer.is_pending(position));
    assert!(consumer.claim(&frame));
    assert!(!producer.is_pending(position));
    assert!(!producer.revoke(position));
}

#[test]
fn a_frame_that_was_taken_back_cannot_be_claimed() {
    let (mut producer, mut consumer) = ring();
    let position = producer.push(1, &[b"x"]).unwrap();
    producer.push(2, &[b"y"]).unwrap();
    assert!(producer.revoke(position));
    assert!(!producer.revoke(position), "it is taken back once");
    let frame = consumer.peek().unwrap().unwrap();
    assert!(!consumer.claim(&frame));
    consumer.release(&frame);
    assert_eq!(take(&mut consumer), Some((2, b"y".to_vec())));
}

#[test]
fn a_released_frame_can_neither_be_claimed_nor_taken_back() {
    let (mut producer, mut consumer) = ring();
    let position = producer.push(1, &[b"x"]).unwrap();
    let frame = consumer.peek().unwrap().unwrap();
    consumer.release(&frame);
    assert!(!consumer.claim(&frame));
    assert!(!producer.is_pending(position));
    assert!(!producer.revoke(position));
}

#[test]
fn a_position_that_no_frame_has_is_never_pending() {
    let (mut producer, _consumer) = ring();
    producer.push(1, &[b"x"]).unwrap();
    for position in [1, 3, 8, 15, 32, 4094, 4096, u64::MAX, u64::MAX - 15] {
        assert!(!producer.is_pending(position), "{position}");
        assert!(!producer.revoke(position), "{position}");
    }
}

#[test]
fn a_frame_of_another_ring_is_neither_read_nor_released() {
    let (mut producer, mut consumer) = ring();
    let (mut other_producer, mut other) = ring();
    producer.push(1, &[b"x"]).unwrap();
    other_producer.push(1, &[&[0; 64]]).unwrap();
    let mut foreign = other.peek().unwrap().unwrap();
    foreign.len = 1 << 20;
    let mut out = Vec::new();
    consumer.read(&foreign, &mut out);
    assert!(out.is_empty());
    consumer.release(&foreign);
    assert_eq!(take(&mut consumer), Some((1, b"x".to_vec())));
}

#[test]
fn a_sleeping_consumer_must_be_woken_once() {
    let (mut producer, consumer) = ring();
    producer.push(1, &[]).unwrap();
    assert!(!producer.must_wake(), "nobody sleeps yet");
    let (mut producer, consumer_2) = ring();
    assert!(consumer_2.may_sleep());
    producer.push(1, &[]).unwrap();
    assert!(producer.must_wake());
    assert!(!producer.must_wake());
    assert!(!consumer.may_sleep(), "there is a frame");
}

#[test]
fn a_consumer_that_is_awake_again_need_not_be_woken() {
    let (mut producer, consumer) = ring();
    assert!(consumer.may_sleep());
    consumer.awake();
    producer.push(1, &[]).unwrap();
    assert!(!producer.must_wake());
}

#[test]
fn a_starving_producer_must_be_woken_once() {
    let (mut producer, mut consumer) = ring();
    while producer.push(1, &[&[0; 100]]).is_ok() {}
    assert_eq!(take(&mut consumer).unwrap().0, 1);
    assert!(!consumer.must_wake());
    while producer.push(1, &[]).is_ok() {}
    producer.announce_starving();
    assert_eq!(producer.push(1, &[]), Err(PushError::Full));
    take(&mut consumer).unwrap();
    assert!(consumer.must_wake());
    assert!(!consumer.must_wake());
}

#[test]
fn a_ring_is_drained_when_everything_was_released() {
    let (mut producer, mut consumer) = ring();
    assert!(producer.is_drained());
    producer.push(1, &[]).unwrap();
    assert!(!producer.is_drained() && !consumer.is_empty());
    let before = producer.progress();
    take(&mut consumer).unwrap();
    assert!(producer.is_drained() && consumer.is_empty());
    assert!(producer.progress() > before);
}

#[derive(Debug, Clone)]
enum Step {
    Push { kind: u16, len: usize, split: usize },
    Take,
    Revoke(usize),
}

fn step() -> impl Strategy<Value = Step> {
    // Most payloads are small; now and then one is near the largest.
    let len = prop_oneof![4 => 0_usize..100, 1 => 0..2033_usize, 1 => 2020..2033_usize];
    prop_oneof![
        5 => (1_u16.., len, any::<usize>()).prop_map(|(kind, len, split)| Step::Push { kind, len, split }),
        5 => Just(Step::Take),
        1 => (0_usize..8).prop_map(Step::Revoke),
    ]
}

proptest! {
    #[test]
    fn whatever_is_pushed_is_read_in_order(steps in proptest::collection::vec(step(), 1..400)) {
        let (mut producer, mut consumer) = ring();
        let mut expected: VecDeque<(u64, u16, Vec<u8>, bool)> = VecDeque::new();
        let mut fill = 0_u8;
        for step in steps {
            match step {
                Step::Push { kind, len, split } => {
                    let payload: Vec<u8> = (0..len).map(|_| { fill = fill.wrapping_add(1); fill }).collect();
                    let (one, other) = payload.split_at(if len == 0 { 0 } else { split % len });
                    let held: usize =
                        expected.iter().map(|(_, _, held, _)| HEADER + held.len().next_multiple_of(HEADER)).sum();
                    let fits = producer.fits(len).unwrap();
                    let pushed = producer.push(kind, &[one, other]);
                    prop_assert_eq!(pushed.is_ok(), fits);
                    match pushed {
                        Ok(position) => expected.push_back((position, kind, payload, false)),
                        Err(error) => {
                            prop_assert_eq!(error, PushError::Full);
                            // Padding costs less than half of the ring: the other half can be filled.
                            prop_assert!(held + HEADER + len.next_multiple_of(HEADER) > 2048);
                        }
                    }
                }
                Step::Take => {
                    let frame = consumer.peek().unwrap();
                    prop_assert_eq!(frame.is_none(), expected.is_empty());
                    prop_assert_eq!(consumer.is_empty(), expected.is_empty());
                    if let (Some(frame), Some((_, kind, payload, revoked))) = (frame, expected.pop_front()) {
                        let mut read = b"kept".to_vec();
                        consumer.read(&frame, &mut read);
                        prop_assert_eq!(&read[4..], payload);
                        prop_assert_eq!(frame.kind, kind);
                        prop_assert_eq!(consumer.claim(&frame), !revoked);
                        consumer.release(&frame);
                    }
                }
                Step::Revoke(index) => {
                    if let Some((position, _, _, revoked)) = expected.get_mut(index) {
                        prop_assert_eq!(producer.is_pending(*position), !*revoked);
                        prop_assert_eq!(producer.revoke(*position), !*revoked);
                        *revoked = true;
                    }
                }
            }
        }
        for (_, kind, payload, _) in expected {
            prop_assert_eq!(take(&mut consumer), Some((kind, payload)));
        }
        prop_assert_eq!(take(&mut consumer), None);
    }
}
