//! Which workers there are: they come, retire and die.

use std::io;
use std::os::fd::OwnedFd;
use std::rc::Rc;
use std::time::Instant;

use channel::{Violation, message};

use crate::control::Report;
use crate::core::{Pumped, Router};
use crate::exchange::Exchange;
use crate::worker::{State, Worker};

impl Router {
    pub fn worker(&self, id: u32) -> Option<Rc<Worker>> {
        self.workers.borrow().iter().find(|worker| worker.id == id).cloned()
    }

    /// The arbiter has forked a worker: attach to its channel.
    ///
    /// # Errors
    /// When what came is not a channel.
    pub fn attach(
        &self,
        id: u32,
        pid: i32,
        slots: usize,
        max_requests: u64,
        fds: Vec<OwnedFd>,
    ) -> io::Result<Rc<Worker>> {
        let fds = fds.try_into().map_err(|_| io::Error::other("a worker's channel has five descriptors"))?;
        let worker = Rc::new(Worker::open(id, pid, slots, max_requests, fds)?);
        self.workers.borrow_mut().push(worker.clone());
        Ok(worker)
    }

    /// No more requests for this one; it stops when it is idle.
    pub fn retire(&self, id: u32) {
        let Some(worker) = self.worker(id) else { return };
        if matches!(worker.state.get(), State::Booting | State::Ready) {
            worker.state.set(State::Retiring);
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
        // What it said before it died counts. There is an end to it: nobody writes any more.
        if worker.state.get() != State::Lost {
            worker.state.set(State::Hung);
            while self.pump(&worker) != Pumped::Nothing {}
        }
        worker.lose();
        let (unbegun, begun) = worker.leave();
        self.requeue(unbegun);
        for exchange in begun {
            self.log.error(format_args!(
                "Worker (pid:{}) {why} while it served {}",
                worker.pid,
                exchange.what()
            ));
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
