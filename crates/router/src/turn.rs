//! What a connection may do in a row, so that a few busy ones do not have the loop to themselves.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::rc::Rc;
use std::task::Poll;
use std::time::{Duration, Instant};

use tokio::sync::Notify;

use crate::client::Client;

/// How many bytes may move in one turn.
const BYTES: u64 = 256 * 1024;
/// How long it may take: small pieces cost more than their bytes.
const TIME: Duration = Duration::from_millis(1);
/// What anything counts beside its bytes: a system call, a message.
const PIECE: u64 = 512;

/// A connection's turn: what its task does between two waits. Whoever moves bytes in a loop counts
/// them here, and gets in line when the turn is over.
#[derive(Debug)]
pub(crate) struct Turn {
    left: Cell<u64>,
    /// Known once something has moved: a task that only looks around needs no clock.
    until: Cell<Option<Instant>>,
    /// It is in line for the next one.
    in_line: Cell<bool>,
}

impl Default for Turn {
    fn default() -> Self {
        Self { left: Cell::new(BYTES), until: Cell::new(None), in_line: Cell::new(false) }
    }
}

impl Turn {
    /// The task has been woken. That is a new turn for one that has waited for something else than
    /// its turn.
    pub fn begin(&self) {
        if !self.in_line.get() {
            self.left.set(BYTES);
            self.until.set(None);
        }
    }

    /// So many bytes have moved.
    pub fn spend(&self, bytes: u64) {
        self.left.set(self.left.get().saturating_sub(bytes.saturating_add(PIECE)));
    }

    /// Is it the turn of others?
    pub fn is_over(&self) -> bool {
        if self.in_line.get() || self.left.get() == 0 {
            return true;
        }
        let now = Instant::now();
        match self.until.get() {
            Some(until) => now >= until,
            None => {
                self.until.set(Some(now + TIME));
                false
            }
        }
    }

    /// Is it in line for the next one?
    pub fn is_in_line(&self) -> bool {
        self.in_line.get()
    }
}

/// The line of those whose turn is over. One of them goes on, then all that is ready has its turn,
/// and what the operating system has to say is heard, then the next goes on: however many are in
/// line, nobody else waits for more than one of them.
#[derive(Debug, Default)]
pub(crate) struct Line {
    waiting: RefCell<VecDeque<Rc<Client>>>,
    longer: Notify,
}

impl Line {
    /// Get in line. Pending: the client's task is woken when it is its turn.
    pub fn join<T>(&self, client: &Rc<Client>) -> Poll<T> {
        if !client.turn.in_line.replace(true) {
            self.waiting.borrow_mut().push_back(client.clone());
            self.longer.notify_one();
        }
        Poll::Pending
    }

    /// Let one after the other go on.
    pub async fn run(&self) {
        loop {
            let next = self.waiting.borrow_mut().pop_front();
            let Some(client) = next else {
                self.longer.notified().await;
                continue;
            };
            client.turn.in_line.set(false);
            client.wake();
            // Unlike an ordinary wake-up it comes behind the next look at events.
            tokio::task::yield_now().await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_turn_ends_with_its_bytes() {
        let turn = Turn::default();
        turn.spend(BYTES / 2);
        assert!(!turn.is_over());
        turn.spend(BYTES / 2);
        assert!(turn.is_over());
        turn.begin();
        assert!(!turn.is_over());
    }

    #[test]
    fn small_pieces_end_a_turn_before_their_bytes_would() {
        let turn = Turn::default();
        let pieces = (0..BYTES).take_while(|_| {
            turn.spend(1);
            turn.left.get() > 0
        });
        assert!((pieces.count() as u64) < BYTES / PIECE);
    }

    #[test]
    fn a_turn_ends_with_its_time() {
        let turn = Turn::default();
        assert!(!turn.is_over(), "it begins with the first look at the clock");
        std::thread::sleep(TIME);
        assert!(turn.is_over());
        turn.begin();
        assert!(!turn.is_over());
    }

    #[test]
    fn being_woken_is_no_new_turn_for_one_in_line() {
        let (clients, line) = (crate::client::Clients::default(), Line::default());
        let (_, client) = clients.add();
        assert!(line.join::<()>(&client).is_pending());
        assert!(line.join::<()>(&client).is_pending());
        client.turn.begin();
        assert!(client.turn.is_over());
        assert_eq!(line.waiting.borrow().len(), 1, "nobody is in line twice");
    }
}
