//! The requests that wait for a free slot, and who gets them.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::rc::Rc;
use std::time::Instant;

use channel::message;

use crate::control::Report;
use crate::core::Router;
use crate::exchange::{Exchange, Place};
use crate::options::seconds;
use crate::worker::{Refused, Worker};

/// What a client is told to wait when there is no room, in seconds.
const RETRY_AFTER: u32 = 1;
/// So many entries that have left may stay in the queue beside as many as wait.
const LEFT_BEHIND: usize = 1024;

/// The queue: first come, first served. A request that leaves it early leaves its entry behind, which
/// is passed over later: leaving costs nothing.
#[derive(Debug, Default)]
pub(super) struct Queue {
    /// Each with the ticket under which it waits: one with another ticket by now has left.
    entries: RefCell<VecDeque<(u64, Rc<Exchange>)>>,
    /// Entries that still wait.
    waiting: Cell<usize>,
    ticket: Cell<u64>,
}

impl Queue {
    /// How many wait.
    fn len(&self) -> usize {
        self.waiting.get()
    }

    fn push_back(&self, exchange: Rc<Exchange>) {
        let ticket = self.admit(&exchange);
        self.entries.borrow_mut().push_back((ticket, exchange));
    }

    fn push_front(&self, exchange: Rc<Exchange>) {
        let ticket = self.admit(&exchange);
        self.entries.borrow_mut().push_front((ticket, exchange));
    }

    fn admit(&self, exchange: &Exchange) -> u64 {
        let ticket = self.ticket.get() + 1;
        self.ticket.set(ticket);
        self.waiting.set(self.waiting.get() + 1);
        exchange.place.set(Place::Queued(ticket));
        ticket
    }

    /// The one that has waited longest; it stays.
    fn first(&self) -> Option<Rc<Exchange>> {
        let mut entries = self.entries.borrow_mut();
        while let Some((ticket, exchange)) = entries.front() {
            if exchange.place.get() == Place::Queued(*ticket) {
                return Some(exchange.clone());
            }
            entries.pop_front();
        }
        None
    }

    /// [`Queue::first`] has a place elsewhere now.
    fn took_first(&self) {
        self.entries.borrow_mut().pop_front();
        self.waiting.set(self.waiting.get() - 1);
    }

    /// One of those that wait has left, its place is set.
    fn leave(&self) {
        self.waiting.set(self.waiting.get() - 1);
        let mut entries = self.entries.borrow_mut();
        if entries.len() > 2 * self.waiting.get() + LEFT_BEHIND {
            entries.retain(|(ticket, exchange)| exchange.place.get() == Place::Queued(*ticket));
        }
    }
}

impl Router {
    /// A request is complete: give it to a worker, or let it wait; 503 when the queue is full.
    pub fn submit(&self, exchange: &Rc<Exchange>) {
        let now = Instant::now();
        exchange.stamp(|times| {
            times.queued = now;
            times.handed = now;
        });
        if self.queue.len() == 0 && self.place(exchange, now) {
            return;
        }
        let limit = self.settings.borrow().options.max_queue;
        if limit > 0 && self.queue.len() >= limit {
            self.turn_away(exchange);
            return;
        }
        self.queue.push_back(exchange.clone());
    }

    /// There is no worker for this one.
    fn turn_away(&self, exchange: &Exchange) {
        self.with_server(|server| exchange.response.borrow_mut().fail(503, server, Some(RETRY_AFTER)));
    }

    /// Back to the head of the queue with those that a worker had and did not begin.
    pub(super) fn requeue(&self, exchanges: Vec<Rc<Exchange>>) {
        for exchange in exchanges.into_iter().rev() {
            self.queue.push_front(exchange.clone());
            // Its client may have left while a worker had it.
            exchange.client.wake();
        }
    }

    /// Take an exchange out of the queue, or tell its worker: nobody waits for it any more.
    pub fn abandon(&self, exchange: &Exchange, reason: message::Reason) {
        match exchange.place.replace(Place::Home) {
            Place::Home => {}
            Place::Queued(_) => self.queue.leave(),
            Place::Held(id, slot) => {
                if let Some(worker) = self.worker(id) {
                    worker.cancel(slot, reason, self.settings.borrow().options.evented);
                    self.flush_soon();
                    // It may have been taken back: its slot is free then.
                    self.dispatch();
                }
            }
        }
    }

    /// Give requests to workers as long as there are both.
    pub fn dispatch(&self) {
        if self.queue.len() == 0 {
            return;
        }
        let now = Instant::now();
        while let Some(exchange) = self.queue.first() {
            if !self.place(&exchange, now) {
                return;
            }
            self.queue.took_first();
            if exchange.upload.get().active {
                // Its connection waits to pass the body on.
                exchange.client.wake();
            }
        }
    }

    /// Hand a request to the worker that is best placed for it. False when none can take it now.
    fn place(&self, exchange: &Rc<Exchange>, now: Instant) -> bool {
        loop {
            let Some(worker) = self.choose() else { return false };
            match worker.hand(exchange, now) {
                Ok(()) => {
                    if !worker.dirty.replace(true) {
                        self.flush.notify_one();
                    }
                    if worker.may_owe_wake(self.settings.borrow().options.evented) {
                        self.ahead.notify_one();
                    }
                    if worker.is_spent() {
                        self.control.report(&Report::Spent { id: worker.id });
                    }
                    return true;
                }
                Err(Refused::NoRoom) => return false,
                Err(Refused::Broken(violation)) => self.broken(&worker, violation),
            }
        }
    }

    /// The worker with a free slot that holds least; failing that, one that may work ahead.
    fn choose(&self) -> Option<Rc<Worker>> {
        let workers = self.workers.borrow();
        let free = workers.iter().filter(|worker| worker.has_free_slot()).min_by_key(|worker| worker.load());
        let best = free.or_else(|| {
            workers.iter().filter(|worker| worker.may_work_ahead()).min_by_key(|worker| worker.load())
        });
        best.cloned()
    }

    /// 503 for those that have waited long enough.
    pub(super) fn expire_queue(&self, now: Instant) {
        let Some(limit) = seconds(self.settings.borrow().options.queue_timeout) else { return };
        while let Some(exchange) = self.queue.first() {
            if now.duration_since(exchange.times.get().queued) < limit {
                return;
            }
            self.abandon(&exchange, message::Reason::Timeout);
            self.log.warning(format_args!("{}: no worker was free for {limit:?}", exchange.what()));
            self.turn_away(&exchange);
            exchange.client.wake();
        }
    }
}
