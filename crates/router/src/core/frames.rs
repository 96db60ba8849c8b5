//! What workers say, and what they are told about the bodies that pass.

use std::rc::Rc;
use std::time::Instant;

use channel::{Violation, message};

use crate::control::Report;
use crate::core::Router;
use crate::exchange::{Exchange, Place};
use crate::response::{Complaint, Server};
use crate::worker::{State, Worker};

/// How much of what a worker says is read before others get their turn, in bytes.
const PUMP: usize = 256 * 1024;
/// What a frame costs beside its payload, as bytes.
const WORK: usize = 512;
/// What a frame counts beside its payload, in bytes.
const FRAME: usize = 64;

/// What came of reading what a worker says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Pumped {
    /// There was nothing.
    Nothing,
    /// All that there was is read.
    All,
    /// There may be more, but it is the turn of others.
    Enough,
}

impl Router {
    /// Read what a worker has said, up to a bound: then it is the turn of others.
    pub fn pump(&self, worker: &Rc<Worker>) -> Pumped {
        let mut scratch = Vec::with_capacity(1024);
        let mut read = 0;
        while worker.state.get() != State::Lost && read < PUMP {
            let kind = {
                let mut link = worker.link.borrow_mut();
                match link.responses.peek() {
                    Ok(Some(frame)) => {
                        scratch.clear();
                        link.responses.read(&frame, &mut scratch);
                        link.responses.release(&frame);
                        frame.kind
                    }
                    Ok(None) => break,
                    Err(violation) => {
                        drop(link);
                        self.broken(worker, violation);
                        break;
                    }
                }
            };
            read += scratch.len() + WORK;
            if let Err(violation) = self.on_frame(worker, kind, &scratch) {
                self.broken(worker, violation);
            }
        }
        if read == 0 {
            return Pumped::Nothing;
        }
        let link = worker.link.borrow();
        if link.responses.must_wake() {
            link.signal_room.signal();
        }
        if read < PUMP { Pumped::All } else { Pumped::Enough }
    }

    fn on_frame(&self, worker: &Rc<Worker>, kind: u16, payload: &[u8]) -> Result<(), Violation> {
        match kind {
            message::HEAD => {
                let head = message::Head::decode(payload)?;
                let settings = self.settings.borrow().clone();
                let keep = settings.access.as_ref().is_some_and(|(format, _)| format.reads_response_fields());
                self.respond(worker, head.id, head.flags, head.elapsed, |exchange, server| {
                    let bounds = settings.bounds(worker.streams);
                    exchange.response.borrow_mut().on_head(&head, server, bounds, keep)
                });
            }
            message::BODY => {
                let body = message::Body::decode(payload)?;
                let settings = self.settings.borrow().clone();
                self.respond(worker, body.id, body.flags, body.elapsed, |exchange, server| {
                    exchange.response.borrow_mut().on_body(&body, server, settings.bounds(worker.streams))
                });
            }
            message::FILE => {
                let part = message::FileBody::decode(payload)?;
                let received = worker.link.borrow().descriptors.receive_for(part.id);
                let file = match received {
                    Ok(file) => Some(file),
                    // Ours is the lack, not the worker's: this response ends, the worker goes on.
                    Err(error) if matches!(error.raw_os_error(), Some(libc::EMFILE | libc::ENFILE)) => {
                        self.log.error(format_args!("a file cannot be received: {error}"));
                        None
                    }
                    Err(_) => return Err(Violation("a file's descriptor did not come")),
                };
                self.respond(worker, part.id, part.flags, part.elapsed, |exchange, server| {
                    let mut response = exchange.response.borrow_mut();
                    match file {
                        Some(file) => response.on_file(&part, file.into(), server),
                        None => {
                            response.on_abort(server);
                            None
                        }
                    }
                });
            }
            message::ABORT => {
                let body = message::Body::decode(payload)?;
                self.respond(worker, body.id, body.flags, body.elapsed, |exchange, server| {
                    exchange.response.borrow_mut().on_abort(server);
                    None
                });
            }
            message::TRAILERS => {
                let section = message::Section::decode(payload)?;
                self.respond(worker, section.id, 0, 0, |exchange, _| {
                    exchange.response.borrow_mut().on_trailers(&section)
                });
            }
            message::INTERIM => {
                let section = message::Section::decode(payload)?;
                self.respond(worker, section.id, 0, 0, |exchange, _| {
                    exchange.response.borrow_mut().on_interim(&section)
                });
            }
            message::CREDIT => {
                let credit = message::Credit::decode(payload)?;
                if let Some(exchange) = worker.exchange(credit.id) {
                    let mut upload = exchange.upload.get();
                    upload.window = upload.window.saturating_add(credit.bytes);
                    exchange.upload.set(upload);
                    exchange.client.wake();
                }
            }
            message::READY => {
                let ready = message::Ready::decode(payload)?;
                if ready.generation == worker.link.borrow().memory.generation() && worker.ready(ready.busy) {
                    self.control.report(&Report::Ready { id: worker.id });
                    self.dispatch();
                }
            }
            _ => return Err(Violation("an unknown kind of frame")),
        }
        match message::Body::decode(payload).ok().and_then(|body| worker.exchange(body.id)) {
            Some(exchange) if exchange.paused.get() => Self::count_unwanted(worker, &exchange, payload.len()),
            _ => Ok(()),
        }
    }

    /// What is under way when a worker is told to wait is at most what its ring holds. One that
    /// goes on nevertheless would have us keep everything.
    fn count_unwanted(worker: &Worker, exchange: &Exchange, len: usize) -> Result<(), Violation> {
        let unwanted = exchange.unwanted.get().saturating_add(len + FRAME);
        exchange.unwanted.set(unwanted);
        if unwanted > 2 * worker.link.borrow().memory.layout().responses {
            return Err(Violation("it does not wait when it is told to"));
        }
        Ok(())
    }

    /// A frame that belongs to a response.
    fn respond(
        &self,
        worker: &Rc<Worker>,
        id: u64,
        flags: u16,
        elapsed: u32,
        apply: impl FnOnce(&Exchange, Server<'_>) -> Option<Complaint>,
    ) {
        if let Some(exchange) = worker.exchange(id) {
            if self.is_draining() {
                exchange.response.borrow_mut().wanted.keep_alive = false;
            }
            let complaint = self.with_server(|server| apply(&exchange, server));
            if let Some(complaint) = complaint {
                self.log.error(format_args!("{}: {complaint}", exchange.what()));
            }
            let done = flags & message::DONE != 0;
            if done && !exchange.response.borrow().is_over() {
                self.log.error(format_args!("{}: the worker left the response unfinished", exchange.what()));
                self.with_server(|server| exchange.response.borrow_mut().on_abort(server));
            }
            if exchange.response.borrow().is_over() {
                let slot = (id & 0xffff) as u16;
                if flags & (message::DONE | message::END) == 0 {
                    // It would go on, for a client that has got all that there is to get.
                    worker.cancel(slot, message::Reason::ClientLeft);
                    self.flush_soon();
                } else {
                    worker.detach(slot);
                }
            } else {
                exchange.stamp(|times| times.last_byte = Instant::now());
                self.pause_if_full(worker, &exchange);
            }
            exchange.client.wake();
        } else {
            worker.heard(id);
        }
        if flags & message::DONE != 0 {
            worker.finish(id, elapsed);
            self.acquit(worker.id, id);
            self.dispatch();
            self.stop_if_idle(worker);
        }
    }

    fn pause_if_full(&self, worker: &Worker, exchange: &Exchange) {
        let settings = self.settings.borrow().clone();
        if !exchange.paused.get()
            && exchange.response.borrow().out.is_full(settings.bounds(worker.streams))
            && let Place::Held(_, slot) = exchange.place.get()
        {
            exchange.paused.set(true);
            exchange.unwanted.set(0);
            worker.set_paused(slot, true);
        }
    }

    /// The client has read: let the worker go on if it was told to wait.
    pub fn resume(&self, exchange: &Exchange) {
        if !exchange.paused.get() {
            return;
        }
        let settings = self.settings.borrow().clone();
        if exchange.response.borrow().out.has_room(settings.bounds(exchange.streams.get())) {
            exchange.paused.set(false);
            exchange.stamp(|times| times.last_byte = Instant::now());
            if let Place::Held(id, slot) = exchange.place.get()
                && let Some(worker) = self.worker(id)
            {
                worker.set_paused(slot, false);
            }
        }
    }

    /// Pass on a part of a body that the worker reads while it arrives. False: there is no room in
    /// the ring now.
    pub fn upload(&self, exchange: &Exchange, data: &[u8], last: bool) -> bool {
        let Place::Held(id, slot) = exchange.place.get() else { return false };
        let Some(worker) = self.worker(id) else { return false };
        let pushed = worker.upload(slot, data, last, &exchange.client);
        if pushed && !worker.dirty.replace(true) {
            self.flush.notify_one();
        }
        pushed
    }
}
