//! The protocol between the two sides of a ring, tried in every interleaving and with every
//! reordering that the memory model allows.
//!
//! What is modelled is [`Control`] and [`State`] as they are, with the order of calls that
//! [`crate::ring`] makes; a frame's bytes are a cell that the checker watches for races, and an
//! eventfd is a flag under a lock. A wake-up that is lost shows as a deadlock.

use loom::cell::UnsafeCell;
use loom::model::Builder;
use loom::sync::{Arc, Condvar, Mutex};
use loom::thread;

use crate::control::{Control, State};

/// Try every interleaving with at most four preemptions, which takes seconds. Within that bound each
/// fence, each acquire and release and the claim's exchange is seen to be needed: without any one
/// of them a test here fails.
fn every_interleaving(body: impl Fn() + Sync + Send + 'static) {
    let mut builder = Builder::new();
    builder.preemption_bound = Some(4);
    builder.check(body);
}

/// An eventfd: what is signalled stays until it is cleared; waiting does not clear it.
#[derive(Default)]
struct Wakeup {
    signalled: Mutex<bool>,
    changed: Condvar,
}

impl Wakeup {
    fn signal(&self) {
        *self.signalled.lock().unwrap() = true;
        self.changed.notify_all();
    }

    fn wait(&self) {
        let mut signalled = self.signalled.lock().unwrap();
        while !*signalled {
            signalled = self.changed.wait(signalled).unwrap();
        }
    }

    fn clear(&self) {
        *self.signalled.lock().unwrap() = false;
    }
}

/// A ring of `CELLS` frames, each one byte long as far as positions go.
const CELLS: usize = 2;

struct Ring {
    control: Control,
    states: [State; CELLS],
    cells: [UnsafeCell<u64>; CELLS],
    frames: Wakeup,
    room: Wakeup,
}

impl Ring {
    fn new() -> Arc<Self> {
        Arc::new(Self {
            control: Control::new(),
            states: std::array::from_fn(|_| State::new()),
            cells: std::array::from_fn(|_| UnsafeCell::new(0)),
            frames: Wakeup::default(),
            room: Wakeup::default(),
        })
    }

    /// As `Producer::push`, without waking: false when there is no room.
    fn push(&self, tail: &mut u64, value: u64) -> bool {
        if *tail - self.control.head() == CELLS as u64 {
            return false;
        }
        let place = *tail as usize % CELLS;
        self.states[place].reset();
        // SAFETY: the cell is the producer's until it is published; the checker proves it.
        self.cells[place].with_mut(|cell| unsafe { *cell = value });
        *tail += 1;
        self.control.publish(*tail);
        true
    }

    /// Push, and block for room as `Producer::announce_starving` says; wake the consumer.
    fn push_blocking(&self, tail: &mut u64, value: u64) {
        while !self.push(tail, value) {
            self.room.clear();
            self.control.announce_starving();
            if self.push(tail, value) {
                break;
            }
            self.room.wait();
        }
        if self.control.take_sleeper() {
            self.frames.signal();
        }
    }

    fn value(&self, head: u64) -> u64 {
        // SAFETY: the cell is the consumer's until it is released; the checker proves it.
        self.cells[head as usize % CELLS].with(|cell| unsafe { *cell })
    }

    /// As `Consumer::release`, and wake the producer.
    fn release(&self, head: &mut u64) {
        *head += 1;
        self.control.release(*head);
        if self.control.take_starving() {
            self.room.signal();
        }
    }

    /// Is there a frame? Before it says no, it sees to it that the next one gives a signal: what an
    /// event loop asks each time, without blocking.
    fn poll_frame(&self, head: u64) -> bool {
        while self.control.tail() == head {
            self.frames.clear();
            self.control.announce_sleep();
            if self.control.tail() == head {
                return false;
            }
            self.control.awake();
        }
        true
    }

    /// Block until there is a frame, as `Consumer::may_sleep` says.
    fn wait_for_frame(&self, head: u64) {
        while self.control.tail() == head {
            self.control.announce_sleep();
            if self.control.tail() == head {
                self.frames.wait();
                self.control.awake();
                self.frames.clear();
            } else {
                self.control.awake();
            }
        }
    }
}

#[test]
fn model_frames_arrive_whole_in_order_and_no_wake_up_is_lost() {
    every_interleaving(|| {
        let ring = Ring::new();
        let consumer = ring.clone();
        let reading = thread::spawn(move || {
            let mut head = 0;
            for expected in 1..=3 {
                consumer.wait_for_frame(head);
                assert_eq!(consumer.value(head), expected);
                consumer.release(&mut head);
            }
        });
        let mut tail = 0;
        for value in 1..=3 {
            ring.push_blocking(&mut tail, value);
        }
        reading.join().unwrap();
    });
}

#[test]
fn model_a_starving_producer_is_told_of_room() {
    every_interleaving(|| {
        let ring = Ring::new();
        // Full before they begin, so that the third frame must wait.
        let mut tail = 0;
        for value in 1..=CELLS as u64 {
            assert!(ring.push(&mut tail, value));
        }
        let consumer = ring.clone();
        let reading = thread::spawn(move || {
            let mut head = 0;
            for expected in 1..=3 {
                consumer.wait_for_frame(head);
                assert_eq!(consumer.value(head), expected);
                consumer.release(&mut head);
            }
        });
        ring.push_blocking(&mut tail, 3);
        reading.join().unwrap();
    });
}

#[test]
fn model_a_sleeper_that_wakes_by_itself_is_not_forgotten() {
    // A consumer that is up again before anyone woke it (its time was over) takes its announcement
    // back while the producer may be acting on it; it must be woken the next time all the same.
    every_interleaving(|| {
        let ring = Ring::new();
        let consumer = ring.clone();
        let reading = thread::spawn(move || {
            consumer.control.announce_sleep();
            consumer.control.awake();
            consumer.frames.clear();
            let mut head = 0;
            for expected in 1..=2 {
                consumer.wait_for_frame(head);
                assert_eq!(consumer.value(head), expected);
                consumer.release(&mut head);
            }
        });
        let mut tail = 0;
        for value in 1..=2 {
            ring.push_blocking(&mut tail, value);
        }
        reading.join().unwrap();
    });
}

#[test]
fn model_an_event_loop_that_takes_only_so_many_at_a_time_comes_back_for_the_rest() {
    // A turn takes one frame at most. One that ends before nothing was left need not have a signal
    // to come: looking for the frame may have cleared the one that announced it.
    every_interleaving(|| {
        let ring = Ring::new();
        let consumer = ring.clone();
        let reading = thread::spawn(move || {
            let (mut head, mut goes_on) = (0, true);
            while head < 3 {
                if !goes_on {
                    // The loop sleeps until the descriptor is readable; that does not clear it.
                    consumer.frames.wait();
                }
                goes_on = consumer.poll_frame(head);
                if goes_on {
                    assert_eq!(consumer.value(head), head + 1);
                    consumer.release(&mut head);
                }
            }
        });
        let mut tail = 0;
        for value in 1..=3 {
            ring.push_blocking(&mut tail, value);
        }
        reading.join().unwrap();
    });
}

#[test]
fn model_a_frame_is_claimed_or_taken_back_but_never_both() {
    every_interleaving(|| {
        let ring = Ring::new();
        let mut tail = 0;
        assert!(ring.push(&mut tail, 7));
        let consumer = ring.clone();
        let reading = thread::spawn(move || {
            let claimed = consumer.states[0].claim();
            if claimed {
                assert_eq!(consumer.value(0), 7);
            }
            consumer.release(&mut 0);
            claimed
        });
        let revoked = ring.states[0].revoke();
        assert!(!revoked || !ring.states[0].is_pending());
        let claimed = reading.join().unwrap();
        assert!(claimed != revoked, "claimed {claimed}, taken back {revoked}");
    });
}

#[test]
fn model_a_place_is_used_again_only_after_the_claim_of_its_last_frame() {
    // The producer asks for a frame that may be released at any moment and whose place it may
    // then have filled again itself: `Producer::is_held` is what keeps the two apart.
    every_interleaving(|| {
        let ring = Ring::new();
        let mut tail = 0;
        assert!(ring.push(&mut tail, 1));
        assert!(ring.push(&mut tail, 2));
        let consumer = ring.clone();
        let reading = thread::spawn(move || {
            let mut head = 0;
            let mut claims = [false; 3];
            for claim in &mut claims {
                consumer.wait_for_frame(head);
                *claim = consumer.states[head as usize % CELLS].claim();
                consumer.release(&mut head);
            }
            claims
        });
        ring.push_blocking(&mut tail, 3);
        let is_held = |position| ring.control.head() <= position;
        let revoked =
            [0, 1, 2].map(|position| is_held(position) && ring.states[position as usize % CELLS].revoke());
        let claims = reading.join().unwrap();
        assert!(!revoked[0], "the third frame lies where the first was");
        for (claimed, revoked) in claims.into_iter().zip(revoked) {
            assert!(claimed != revoked, "claimed {claims:?}, taken back {revoked:?}");
        }
    });
}
