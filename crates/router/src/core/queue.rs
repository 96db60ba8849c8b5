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

/// So many requests whose like has killed workers may wait.
const SUSPECTS: usize = 64;

/// First come, first served. A request that leaves it early leaves its entry behind, which is passed
/// over later: leaving costs nothing.
#[derive(Debug, Default)]
struct Lane {
    /// Each with the ticket under which it waits: one with another ticket by now has left.
    entries: RefCell<VecDeque<(u64, Rc<Exchange>)>>,
    /// Entries that still wait.
    waiting: Cell<usize>,
}

impl Lane {
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

    /// [`Lane::first`] has a place elsewhere now.
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

/// The queue: those that wait for a worker, and behind them the suspects (see [`super::quarantine`]).
#[derive(Debug, Default)]
pub(super) struct Queue {
    others: Lane,
    suspects: Lane,
    ticket: Cell<u64>,
}

impl Queue {
    /// How many wait, suspects not counted.
    fn waiting(&self) -> usize {
        self.others.waiting.get()
    }

    /// Does nobody wait at all?
    fn is_empty(&self) -> bool {
        self.waiting() == 0 && self.suspects.waiting.get() == 0
    }

    fn lane(&self, exchange: &Exchange) -> &Lane {
        if exchange.suspect.get() { &self.suspects } else { &self.others }
    }

    fn push_back(&self, exchange: Rc<Exchange>) {
        let ticket = self.admit(&exchange);
        self.lane(&exchange).entries.borrow_mut().push_back((ticket, exchange));
    }

    fn push_front(&self, exchange: Rc<Exchange>) {
        let ticket = self.admit(&exchange);
        self.lane(&exchange).entries.borrow_mut().push_front((ticket, exchange));
    }

    fn admit(&self, exchange: &Exchange) -> u64 {
        let ticket = self.ticket.get() + 1;
        self.ticket.set(ticket);
        let lane = self.lane(exchange);
        lane.waiting.set(lane.waiting.get() + 1);
        exchange.place.set(Place::Queued(ticket));
        ticket
    }

    /// The suspect that has waited longest, of those that are preferred if there are any; it stays.
    pub fn suspect(&self, preferred: impl Fn(&Exchange) -> bool) -> Option<Rc<Exchange>> {
        let entries = self.suspects.entries.borrow();
        let waiting =
            entries.iter().filter(|(ticket, exchange)| exchange.place.get() == Place::Queued(*ticket));
        let found =
            waiting.clone().find(|(_, exchange)| preferred(exchange)).or_else(|| waiting.clone().next());
        found.map(|(_, exchange)| exchange.clone())
    }

    /// [`Queue::suspect`] has a place elsewhere now.
    pub fn took_suspect(&self) {
        self.suspects.leave();
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
        exchange.deliveries.set(0);
        exchange.suspect.set(false);
        if self.quarantine.holds(exchange, now) {
            self.set_apart(exchange);
            return self.dispatch();
        }
        if self.queue.waiting() == 0 && self.place(exchange, now, true).is_some() {
            return;
        }
        let limit = self.settings.borrow().options.max_queue;
        if limit > 0 && self.queue.waiting() >= limit {
            self.turn_away(exchange);
            return;
        }
        self.queue.push_back(exchange.clone());
    }

    /// There is no worker for this one.
    fn turn_away(&self, exchange: &Exchange) {
        self.with_server(|server| exchange.response.borrow_mut().fail(503, server, Some(RETRY_AFTER)));
    }

    /// A suspect: it waits behind others, or not at all when there are too many.
    fn set_apart(&self, exchange: &Rc<Exchange>) {
        exchange.suspect.set(true);
        if self.queue.suspects.waiting.get() >= SUSPECTS {
            exchange.place.set(Place::Home);
            self.turn_away(exchange);
            exchange.client.wake();
        } else {
            self.queue.push_back(exchange.clone());
        }
    }

    /// Let those wait among the others that are suspect no more.
    pub(super) fn release_suspects(&self, now: Instant) {
        for _ in 0..self.queue.suspects.waiting.get() {
            let Some(exchange) = self.queue.suspects.first() else { return };
            self.queue.suspects.took_first();
            exchange.suspect.set(self.quarantine.holds(&exchange, now));
            self.queue.push_back(exchange);
        }
    }

    /// Back to the head of the queue with those that a worker had and did not begin.
    pub(super) fn requeue(&self, exchanges: Vec<Rc<Exchange>>) {
        for exchange in exchanges.into_iter().rev() {
            if exchange.suspect.get() {
                self.quarantine.end();
            }
            self.queue.push_front(exchange.clone());
            // Its client may have left while a worker had it.
            exchange.client.wake();
        }
    }

    /// Take an exchange out of the queue, or tell its worker: nobody waits for it any more.
    pub fn abandon(&self, exchange: &Exchange, reason: message::Reason) {
        match exchange.place.replace(Place::Home) {
            Place::Home => {}
            Place::Queued(_) => self.queue.lane(exchange).leave(),
            Place::Held(id, slot) => {
                if let Some(worker) = self.worker(id) {
                    worker.cancel(slot, reason);
                    self.flush_soon();
                    // It may have been taken back: its slot is free then.
                    self.dispatch();
                }
            }
        }
    }

    /// Give requests to workers as long as there are both.
    pub fn dispatch(&self) {
        if self.queue.is_empty() {
            return;
        }
        let now = Instant::now();
        while let Some(exchange) = self.queue.others.first() {
            if self.quarantine.holds(&exchange, now) {
                self.queue.others.took_first();
                self.set_apart(&exchange);
                continue;
            }
            if exchange.upload.get().active && self.has_no_use_for_streams() {
                // The class has changed, and nobody is left who takes a body in pieces.
                self.abandon(&exchange, message::Reason::ClientLeft);
                self.turn_away(&exchange);
                exchange.client.wake();
                continue;
            }
            if self.place(&exchange, now, true).is_none() {
                return;
            }
            self.queue.others.took_first();
            self.wake_uploader(&exchange);
        }
        self.try_suspect(now);
    }

    /// Its connection waits to pass the body on.
    pub(super) fn wake_uploader(&self, exchange: &Exchange) {
        if exchange.upload.get().active {
            exchange.client.wake();
        }
    }

    /// Hand a request to the worker that is best placed for it: which, and under which id. None when
    /// nobody can take it now. `ahead`: if need be, to one that has no free slot.
    pub(super) fn place(&self, exchange: &Rc<Exchange>, now: Instant, ahead: bool) -> Option<(u32, u64)> {
        loop {
            let worker = self.choose(exchange.upload.get().active, ahead)?;
            match worker.hand(exchange, now) {
                Ok(id) => {
                    if !worker.dirty.replace(true) {
                        self.flush.notify_one();
                    }
                    if worker.may_owe_wake() {
                        self.ahead.notify_one();
                    }
                    if worker.is_spent() {
                        self.control.report(&Report::Spent { id: worker.id });
                    }
                    return Some((worker.id, id));
                }
                Err(Refused::NoRoom) => return None,
                Err(Refused::Broken(violation)) => self.broken(&worker, violation),
            }
        }
    }

    /// The worker with a free slot that holds least; failing that, one that may work ahead.
    fn choose(&self, streams: bool, ahead: bool) -> Option<Rc<Worker>> {
        let workers = self.workers.borrow();
        let alone = self.quarantine.worker();
        let fit = || workers.iter().filter(|worker| Some(worker.id) != alone && (worker.streams || !streams));
        let free = fit().filter(|worker| worker.has_free_slot()).min_by_key(|worker| worker.load());
        let best = free.or_else(|| {
            fit().filter(|worker| ahead && worker.may_work_ahead()).min_by_key(|worker| worker.load())
        });
        best.cloned()
    }

    /// 503 for those that have waited long enough.
    pub(super) fn expire_queue(&self, now: Instant) {
        let Some(limit) = seconds(self.settings.borrow().options.queue_timeout) else { return };
        for lane in [&self.queue.others, &self.queue.suspects] {
            while let Some(exchange) = lane.first() {
                if now.duration_since(exchange.times.get().queued) < limit {
                    break;
                }
                self.abandon(&exchange, message::Reason::Timeout);
                self.log.warning(format_args!("{}: no worker was free for {limit:?}", exchange.what()));
                self.turn_away(&exchange);
                exchange.client.wake();
            }
        }
    }
}
