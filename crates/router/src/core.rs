//! The router itself: the queue, the workers, and what passes between them.
//!
//! One thread, so `Rc` and `Cell`; no borrow is held across a call that could come back here.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::io;
use std::os::fd::OwnedFd;
use std::rc::Rc;
use std::time::{Duration, Instant, SystemTime};

use channel::Violation;
use channel::message;
use tokio::sync::Notify;

use crate::access_log::{AccessLog, Entry};
use crate::buffers::Buffers;
use crate::client::Clients;
use crate::clock::Clock;
use crate::connection::Peer;
use crate::control::{Control, Report};
use crate::exchange::{Exchange, Place};
use crate::logs::{AccessFile, ErrorLog};
use crate::options::{Options, seconds};
use crate::outgoing::Bounds;
use crate::response::{Complaint, SERVER, Server};
use crate::trust::Trust;
use crate::worker::{Refused, State, Worker};

/// What follows from the options and is made once for them.
#[derive(Debug)]
pub(crate) struct Settings {
    pub options: Options,
    pub limits: wire::Limits,
    pub trust: Trust,
    pub access: Option<(AccessLog, AccessFile)>,
}

impl Settings {
    /// # Errors
    /// One line for the operator: a log that cannot be opened, an address that is none.
    pub fn new(options: Options) -> Result<Self, String> {
        let access = match options.accesslog.as_deref() {
            None | Some("") => None,
            Some(path) => {
                let format = AccessLog::compile(&options.access_log_format)?;
                let file = AccessFile::open(path)
                    .map_err(|error| format!("the access log {path} cannot be opened: {error}"))?;
                Some((format, file))
            }
        };
        Ok(Self { limits: options.limits(), trust: trust(&options)?, access, options })
    }

    /// How much of a response may wait for its client.
    pub fn bounds(&self) -> Bounds<'_> {
        Bounds {
            memory: self.options.response_buffer,
            // A class that streams waits for its client instead.
            spool: if self.options.streams { 0 } else { self.options.response_spool_limit },
            directory: self.options.tmp_upload_dir.as_deref(),
        }
    }
}

fn trust(options: &Options) -> Result<Trust, String> {
    let secure: Vec<_> = options.secure_scheme_headers.clone().into_iter().collect();
    let (allowed, headers) = (&options.forwarded_allow_ips, &options.forwarder_headers);
    Trust::from_options(allowed, &secure, headers, &options.header_map)
}

/// How the router is ending.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ending {
    /// It serves.
    No,
    /// It serves what has come, and takes no more.
    Draining,
}

/// The router.
#[derive(Debug)]
pub(crate) struct Router {
    settings: RefCell<Rc<Settings>>,
    pub log: ErrorLog,
    clock: RefCell<Clock>,
    pub clients: Clients,
    pub control: Control,
    pub ending: Cell<Ending>,
    /// Tells the main task that a connection has ended.
    pub left: Notify,
    workers: RefCell<Vec<Rc<Worker>>>,
    queue: RefCell<VecDeque<(u64, Rc<Exchange>)>>,
    /// Entries of the queue that still wait; the others have left and are passed over.
    waiting: Cell<usize>,
    ticket: Cell<u64>,
    /// Memory for what is read.
    pub buffers: Buffers,
    /// Some worker must be woken, or a log written, when the tasks that are ready have run.
    flush: Notify,
    /// Some worker holds requests ahead of its slots.
    ahead: Notify,
}

impl Router {
    pub fn new(settings: Settings, log: ErrorLog, control: Control) -> Rc<Self> {
        Rc::new(Self {
            settings: RefCell::new(Rc::new(settings)),
            log,
            clock: RefCell::new(Clock::new(SystemTime::now())),
            clients: Clients::default(),
            control,
            ending: Cell::new(Ending::No),
            left: Notify::new(),
            workers: RefCell::default(),
            queue: RefCell::default(),
            waiting: Cell::default(),
            ticket: Cell::default(),
            buffers: Buffers::default(),
            flush: Notify::new(),
            ahead: Notify::new(),
        })
    }

    pub fn settings(&self) -> Rc<Settings> {
        self.settings.borrow().clone()
    }

    /// New settings, for all that begins from now on.
    pub fn set_settings(&self, settings: Settings) {
        if let Some((_, file)) = &self.settings.borrow().access {
            file.flush();
        }
        *self.settings.borrow_mut() = Rc::new(settings);
    }

    pub fn is_draining(&self) -> bool {
        self.ending.get() == Ending::Draining
    }

    /// Run `with` with what the server says in each head.
    pub fn with_server<T>(&self, with: impl FnOnce(Server<'_>) -> T) -> T {
        let mut clock = self.clock.borrow_mut();
        clock.update(SystemTime::now());
        with(Server { date: clock.date(), name: SERVER })
    }

    /// Have [`Router::flush_task`] run when the tasks that are ready now have run.
    pub fn flush_soon(&self) {
        self.flush.notify_one();
    }

    // ---- the queue -------------------------------------------------------------------------

    /// A request is complete: give it to a worker, or let it wait. False when the queue is full.
    pub fn submit(&self, exchange: &Rc<Exchange>) -> bool {
        let now = Instant::now();
        exchange.stamp(|times| {
            times.queued = now;
            times.handed = now;
        });
        if self.waiting.get() == 0 && self.place(exchange, now) {
            return true;
        }
        let limit = self.settings.borrow().options.max_queue;
        if limit > 0 && self.waiting.get() >= limit {
            return false;
        }
        let ticket = self.enqueue(exchange);
        self.queue.borrow_mut().push_back((ticket, exchange.clone()));
        true
    }

    /// Back to the head of the queue with those that a worker had and did not begin.
    fn requeue(&self, exchanges: Vec<Rc<Exchange>>) {
        for exchange in exchanges.into_iter().rev() {
            let ticket = self.enqueue(&exchange);
            // Its client may have left while a worker had it.
            exchange.client.wake();
            self.queue.borrow_mut().push_front((ticket, exchange));
        }
    }

    fn enqueue(&self, exchange: &Rc<Exchange>) -> u64 {
        let ticket = self.ticket.get() + 1;
        self.ticket.set(ticket);
        self.waiting.set(self.waiting.get() + 1);
        exchange.place.set(Place::Queued(ticket));
        ticket
    }

    /// Take an exchange out of the queue, or tell its worker: nobody waits for it any more.
    pub fn abandon(&self, exchange: &Exchange, reason: message::Reason) {
        match exchange.place.replace(Place::Home) {
            Place::Home => {}
            Place::Queued(_) => {
                self.waiting.set(self.waiting.get() - 1);
                let mut queue = self.queue.borrow_mut();
                if queue.len() > 2 * self.waiting.get() + 1024 {
                    queue.retain(|(ticket, exchange)| exchange.place.get() == Place::Queued(*ticket));
                }
            }
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
        if self.waiting.get() == 0 {
            return;
        }
        let now = Instant::now();
        while self.waiting.get() > 0 {
            let Some((ticket, exchange)) = self.queue.borrow_mut().pop_front() else { return };
            if exchange.place.get() != Place::Queued(ticket) {
                continue;
            }
            if !self.place(&exchange, now) {
                self.queue.borrow_mut().push_front((ticket, exchange));
                return;
            }
            self.waiting.set(self.waiting.get() - 1);
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
                    if worker.works_ahead() {
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

    // ---- the workers -----------------------------------------------------------------------

    pub fn worker(&self, id: u32) -> Option<Rc<Worker>> {
        self.workers.borrow().iter().find(|worker| worker.id == id).cloned()
    }

    /// The arbiter has forked a worker.
    pub fn add_worker(&self, worker: Worker) -> Rc<Worker> {
        let worker = Rc::new(worker);
        self.workers.borrow_mut().push(worker.clone());
        worker
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

    fn stop_if_idle(&self, worker: &Worker) {
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
            while self.pump(&worker) {}
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

    fn broken(&self, worker: &Worker, violation: Violation) {
        if worker.state.get() != State::Lost {
            worker.lose();
            self.log.error(format_args!("Worker (pid:{}): {violation}", worker.pid));
            self.control.report(&Report::Broken { id: worker.id, why: violation.0 });
        }
    }

    /// Read what a worker has said, up to a bound: then it is the turn of others. Returns whether
    /// there was anything.
    pub fn pump(&self, worker: &Rc<Worker>) -> bool {
        let mut scratch = Vec::with_capacity(1024);
        let mut any = false;
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
            any = true;
            read += scratch.len() + FRAME;
            if let Err(violation) = self.on_frame(worker, kind, &scratch) {
                self.broken(worker, violation);
            }
        }
        if any {
            let link = worker.link.borrow();
            if link.responses.must_wake() {
                link.signal_room.signal();
            }
        }
        any
    }

    fn on_frame(&self, worker: &Rc<Worker>, kind: u16, payload: &[u8]) -> Result<(), Violation> {
        match kind {
            message::HEAD => {
                let head = message::Head::decode(payload)?;
                let settings = self.settings.borrow().clone();
                let keep = settings.access.as_ref().is_some_and(|(format, _)| format.reads_response_fields());
                self.respond(worker, head.id, head.flags, head.elapsed, |exchange, server| {
                    exchange.response.borrow_mut().on_head(&head, server, settings.bounds(), keep)
                });
            }
            message::BODY => {
                let body = message::Body::decode(payload)?;
                let settings = self.settings.borrow().clone();
                self.respond(worker, body.id, body.flags, body.elapsed, |exchange, server| {
                    exchange.response.borrow_mut().on_body(&body, server, settings.bounds())
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
                    let evented = self.settings.borrow().options.evented;
                    worker.cancel(slot, message::Reason::ClientLeft, evented);
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
            self.dispatch();
            self.stop_if_idle(worker);
        }
    }

    fn pause_if_full(&self, worker: &Worker, exchange: &Exchange) {
        let settings = self.settings.borrow().clone();
        if !exchange.paused.get()
            && exchange.response.borrow().out.is_full(settings.bounds())
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
        if exchange.response.borrow().out.has_room(settings.bounds()) {
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

    // ---- what happens again and again --------------------------------------------------------

    /// Wake the workers that were given something, and write the log, once the tasks that were
    /// ready have run: one wake-up for many requests.
    pub async fn flush_task(self: Rc<Self>) {
        loop {
            self.flush.notified().await;
            for worker in &*self.workers.borrow() {
                if worker.dirty.get() {
                    worker.wake();
                }
            }
            if let Some((_, file)) = &self.settings.borrow().access {
                file.flush();
            }
        }
    }

    /// While requests are handed out ahead: look each millisecond for responses (a worker with more
    /// to do does not wake us for each), and take back what waits behind a slow request.
    pub async fn ahead_task(self: Rc<Self>) {
        loop {
            self.ahead.notified().await;
            loop {
                let ahead: Vec<_> =
                    self.workers.borrow().iter().filter(|worker| worker.works_ahead()).cloned().collect();
                if ahead.is_empty() {
                    break;
                }
                tokio::time::sleep(Duration::from_millis(1)).await;
                for worker in ahead {
                    self.pump(&worker);
                    // Two looks: a worker that lost the processor for a moment is not slow.
                    if worker.idle_looks() >= 2 && worker.works_ahead() {
                        self.requeue(worker.take_back(Instant::now()));
                    }
                }
                self.dispatch();
            }
        }
    }

    /// Deadlines, a few times a second.
    pub async fn sweep_task(self: Rc<Self>) {
        loop {
            tokio::time::sleep(SWEEP).await;
            let now = Instant::now();
            self.clients.expire(now);
            self.sweep_queue(now);
            let workers = self.workers.borrow().clone();
            for worker in &workers {
                self.sweep_worker(worker, now);
            }
            self.dispatch();
            self.control.flush();
            if self.is_draining() {
                self.clients.close_idle(now, LINGER_IDLE);
            }
            if let Some((_, file)) = &self.settings.borrow().access {
                file.flush();
            }
        }
    }

    fn sweep_queue(&self, now: Instant) {
        let Some(limit) = seconds(self.settings.borrow().options.queue_timeout) else { return };
        loop {
            let Some((ticket, exchange)) = self.queue.borrow().front().cloned() else { return };
            if exchange.place.get() != Place::Queued(ticket) {
                self.queue.borrow_mut().pop_front();
                continue;
            }
            if now.duration_since(exchange.times.get().queued) < limit {
                return;
            }
            self.abandon(&exchange, message::Reason::Timeout);
            self.log.warning(format_args!("{}: no worker was free for {limit:?}", exchange.what()));
            self.with_server(|server| exchange.response.borrow_mut().fail(503, server, Some(RETRY_AFTER)));
            exchange.client.wake();
        }
    }

    fn sweep_worker(&self, worker: &Rc<Worker>, now: Instant) {
        let settings = self.settings();
        let options = &settings.options;
        let unread = worker.unread_since(now);
        if !matches!(worker.state.get(), State::Ready | State::Retiring) {
            return;
        }
        worker.wake_starving();
        self.stop_if_idle(worker);
        // What it has not begun for a while goes to someone else: it may be stopped.
        if let Some(before) = now.checked_sub(SWEEP) {
            self.requeue(worker.take_back(before));
        }
        let timeout = seconds(options.timeout);
        let mut hung: Option<(String, Duration)> = None;
        for (slot, exchange) in worker.waiting() {
            let times = exchange.times.get();
            let silent = now.duration_since(times.last_byte);
            let running = now.duration_since(times.handed);
            // An event loop serves many requests on one thread: there a silent one says nothing
            // about the worker.
            let over = timeout.filter(|limit| !options.evented && !exchange.paused.get() && silent >= *limit);
            let limit = seconds(options.request_timeout).filter(|limit| running >= *limit);
            if over.is_none() && limit.is_none() {
                continue;
            }
            if over.is_some() || !options.evented {
                hung = Some((exchange.what(), if over.is_some() { silent } else { running }));
            }
            worker.cancel(slot, message::Reason::Timeout, options.evented);
            self.flush_soon();
            self.fail(&exchange, 504);
        }
        if let (Some(limit), Some(since)) = (timeout, unread)
            && (options.evented || worker.load() == 0)
            && now.duration_since(since) >= limit
        {
            let what = if options.evented { "the event loop" } else { "no request, and it reads none" };
            hung = hung.or(Some((what.to_owned(), now.duration_since(since))));
        }
        // Its client has left, or has got everything: nobody but us waits for that slot.
        if let (Some(limit), Some(since)) = (timeout, worker.silent_since())
            && !options.evented
            && now.duration_since(since) >= limit
        {
            let what = "a request whose client has left".to_owned();
            hung = hung.or(Some((what, now.duration_since(since))));
        }
        if let Some((what, silent)) = hung {
            worker.state.set(State::Hung);
            self.requeue(worker.take_back(now));
            self.control.report(&Report::Hung { id: worker.id, what: &what, seconds: silent.as_secs_f64() });
        } else if options.evented && unread.is_none() {
            worker.say(message::PING);
        }
    }

    /// Write the access record of a request that is over.
    pub fn log_access(&self, exchange: &Exchange, peer: &Peer) {
        let settings = self.settings();
        let Some((format, file)) = &settings.access else { return };
        let message = exchange.message.borrow();
        let response = exchange.response.borrow();
        let request = message::Request::decode(&message).ok();
        let line = request.as_ref().map(|request| &request.line);
        let times = exchange.times.get();
        let mut clock = self.clock.borrow_mut();
        clock.update(SystemTime::now());
        let find_sent = |wanted: &[u8]| {
            request.as_ref()?.fields.iter().find(|(name, _)| *name == wanted).map(|(_, value)| value)
        };
        let find_given = |wanted: &[u8]| response.logged_field(wanted);
        let entry = Entry {
            clock: &clock,
            remote: peer.address.map(|_| peer.text.as_str()),
            method: line.map_or(b"-", |line| line.method),
            target: line.map_or(b"-", |line| line.target),
            path: line.map_or(b"-", |line| line.path),
            query: line.map_or(b"", |line| line.query),
            version: match line.map(|line| line.version) {
                Some(10) => b"HTTP/1.0",
                _ => b"HTTP/1.1",
            },
            status: response.status,
            sent: (response.status != 0).then_some(response.body_bytes),
            duration: times.received.elapsed(),
            queued: (exchange.worker_pid.get() != 0).then(|| times.handed.duration_since(times.queued)),
            worker: u32::try_from(exchange.worker_pid.get()).ok().filter(|pid| *pid != 0),
            request: &find_sent,
            response: &find_given,
        };
        if file.line(|out| format.write(out, &entry)) {
            self.flush_soon();
        }
    }

    /// Reopen the log files.
    pub fn reopen_logs(&self) {
        self.log.reopen();
        if let Some((_, file)) = &self.settings.borrow().access
            && let Err(error) = file.reopen()
        {
            self.log.error(format_args!("the access log cannot be reopened: {error}"));
        }
    }

    /// Attach to a new worker, from what came over the control socket.
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
        Ok(self.add_worker(Worker::open(id, pid, slots, max_requests, fds)?))
    }
}

/// How much of what a worker says is read before others get their turn, in bytes.
const PUMP: usize = 512 * 1024;
/// What a frame counts beside its payload, in bytes.
const FRAME: usize = 64;
/// How often deadlines are looked at.
const SWEEP: Duration = Duration::from_millis(200);
/// While draining, a connection that has just been answered may bring one more request; one that
/// was idle for so long is closed.
const LINGER_IDLE: Duration = Duration::from_millis(500);
/// What a client is told to wait when there is no room, in seconds.
pub(crate) const RETRY_AFTER: u32 = 1;
