//! Which workers there are: they come, retire and die.

use std::io;
use std::os::fd::OwnedFd;
use std::rc::Rc;
use std::time::Instant;

use channel::{Violation, message};

use crate::control::{Newcomer, Report};
use crate::core::{Pumped, Router};
use crate::exchange::Exchange;
use crate::worker::{State, Worker};

/// So often a request is given to a worker that dies without having begun anything, it seems; then
/// it is taken for the reason.
const DELIVERIES: u8 = 2;
/// So many different requests are named of those that a worker died with, ...
const NAMES: usize = 4;
/// ... with so many characters each.
const LONGEST_NAME: usize = 200;

/// Which workers take request bodies while they arrive.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Streams {
    all: bool,
    any: bool,
}

impl Router {
    pub fn worker(&self, id: u32) -> Option<Rc<Worker>> {
        self.workers.borrow().iter().find(|worker| worker.id == id).cloned()
    }

    /// The arbiter has forked a worker: attach to its channel.
    ///
    /// # Errors
    /// When what came is not a channel.
    pub fn attach(&self, newcomer: Newcomer, fds: Vec<OwnedFd>) -> io::Result<Rc<Worker>> {
        let fds = fds.try_into().map_err(|_| io::Error::other("a worker's channel has five descriptors"))?;
        let worker = Rc::new(Worker::open(newcomer, fds)?);
        self.workers.borrow_mut().push(worker.clone());
        self.survey();
        Ok(worker)
    }

    /// Look what the workers that take requests have in common. While there are none, they will be
    /// what they were.
    fn survey(&self) {
        let workers = self.workers.borrow();
        let takers = || workers.iter().filter(|w| matches!(w.state.get(), State::Booting | State::Ready));
        if takers().next().is_some() {
            self.streams.set(Streams {
                all: takers().all(|worker| worker.streams),
                any: takers().any(|worker| worker.streams),
            });
        }
    }

    /// Do all workers take request bodies while they arrive? They do or do not, but for the time in
    /// which workers of one class replace those of another.
    pub fn streams(&self) -> bool {
        self.streams.get().all
    }

    /// Does no worker take request bodies while they arrive?
    pub(super) fn has_no_use_for_streams(&self) -> bool {
        !self.streams.get().any
    }

    pub(super) fn is_any_booting(&self) -> bool {
        self.workers.borrow().iter().any(|worker| worker.state.get() == State::Booting)
    }

    /// No more requests for this one; it stops when it is idle.
    pub fn retire(&self, id: u32) {
        let Some(worker) = self.worker(id) else { return };
        if matches!(worker.state.get(), State::Booting | State::Ready) {
            worker.state.set(State::Retiring);
            self.survey();
            self.requeue(worker.take_back(Instant::now()));
            self.stop_if_idle(&worker);
            self.dispatch();
        }
    }

    /// All workers finish: the arbiter is dead.
    pub fn retire_all(&self) {
        let ids: Vec<u32> = self.workers.borrow().iter().map(|worker| worker.id).collect();
        for id in ids {
            self.retire(id);
        }
    }

    pub(super) fn stop_if_idle(&self, worker: &Worker) {
        if worker.state.get() == State::Retiring && worker.load() == 0 && worker.say(message::STOP) {
            worker.state.set(State::Stopped);
            self.control.report(&Report::Retired { id: worker.id });
        }
    }

    /// The arbiter has reaped a worker.
    pub fn gone(&self, id: u32, why: &str) {
        let Some(worker) = self.worker(id) else { return };
        self.workers.borrow_mut().retain(|other| other.id != id);
        self.survey();
        let state = worker.state.get();
        // What it said before it died counts. There is an end to it: nobody writes any more.
        if state != State::Lost {
            worker.state.set(State::Hung);
            while self.pump(&worker) != Pumped::Nothing {}
        }
        let honest = worker.state.get() != State::Lost && worker.check().is_ok();
        worker.lose();
        let mut estate = worker.leave();
        let mut lost = std::mem::take(&mut estate.begun);
        if !(estate.worked && honest) {
            // It died of something, and it may have wiped out the trace of it.
            let refused = |exchange: &mut Rc<Exchange>| {
                exchange.deliveries.set(exchange.deliveries.get().saturating_add(1));
                exchange.deliveries.get() >= DELIVERIES
            };
            lost.extend(estate.unbegun.extract_if(.., refused));
        }
        let now = Instant::now();
        // One that was silent or on its way out was killed: nothing died of that.
        let guilty = if matches!(state, State::Ready | State::Lost) { lost.as_slice() } else { &[] };
        self.blame(id, guilty, now);
        self.requeue(estate.unbegun);
        if !lost.is_empty() {
            self.control.report(&Report::Lost { pid: worker.pid, why, what: &list(&lost) });
        }
        for exchange in lost {
            self.fail(&exchange, 502);
        }
        self.dispatch();
    }

    /// Answer for the worker: with `status`, or with a cut when the response has begun.
    pub fn fail(&self, exchange: &Exchange, status: u16) {
        self.with_server(|server| exchange.response.borrow_mut().fail(status, server, None));
        exchange.client.wake();
    }

    pub(super) fn broken(&self, worker: &Worker, violation: Violation) {
        if worker.state.get() != State::Lost {
            worker.lose();
            self.log.error(format_args!("Worker (pid:{}): {violation}", worker.pid));
            self.control.report(&Report::Broken { id: worker.id, why: violation.0 });
        }
    }
}

/// Some of the requests, for a log line: `GET /a (3), POST /b and 4 more`.
fn list(exchanges: &[Rc<Exchange>]) -> String {
    let mut names: Vec<(String, usize)> = Vec::new();
    let mut more = 0;
    for exchange in exchanges {
        let mut name = exchange.what();
        if let Some((end, _)) = name.char_indices().nth(LONGEST_NAME) {
            name.truncate(end);
            name.push_str("...");
        }
        if let Some((_, times)) = names.iter_mut().find(|(known, _)| *known == name) {
            *times += 1;
        } else if names.len() < NAMES {
            names.push((name, 1));
        } else {
            more += 1;
        }
    }
    let named = names.into_iter().map(|(name, times)| match times {
        1 => name,
        _ => format!("{name} ({times})"),
    });
    let mut text = named.collect::<Vec<_>>().join(", ");
    if more > 0 {
        text.push_str(&format!(" and {more} more"));
    }
    text
}
