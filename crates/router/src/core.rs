//! The router itself: what connections, workers and the tasks share.
//!
//! One thread, so `Rc` and `Cell`; no borrow is held across a call that could come back here. What
//! the router does is told in parts: [`queue`] gives requests to workers, [`pool`] knows which workers
//! there are, [`frames`] takes what they say, [`quarantine`] keeps apart what kills them, [`sweep`] does what
//! happens again and again.

mod frames;
mod pool;
mod quarantine;
mod queue;
mod sweep;

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::SystemTime;

use channel::message;
use tokio::sync::Notify;

use crate::access_log::Entry;
use crate::buffers::Buffers;
use crate::client::Clients;
use crate::clock::Clock;
use crate::connection::Peer;
use crate::control::{Control, LogFiles};
use crate::exchange::Exchange;
use crate::logs::ErrorLog;
use crate::response::{SERVER, Server};
use crate::settings::Settings;
use crate::turn::Line;
use crate::worker::Worker;
pub(crate) use frames::Pumped;
use pool::Streams;
use quarantine::Quarantine;
use queue::Queue;

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
    queue: Queue,
    quarantine: Quarantine,
    streams: Cell<Streams>,
    /// Memory for what is read.
    pub buffers: Buffers,
    /// The connections that have had their turn and want another.
    pub line: Line,
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
            queue: Queue::default(),
            quarantine: Quarantine::default(),
            streams: Cell::default(),
            buffers: Buffers::default(),
            line: Line::default(),
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
            file.flush(&self.log);
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
        if file.line(|out| format.write(out, &entry), &self.log) {
            self.flush_soon();
        }
    }

    /// Go on with these log files.
    pub fn replace_logs(&self, logs: LogFiles) {
        self.log.replace(logs.error);
        if let (Some((_, file)), Some(fresh)) = (&self.settings.borrow().access, logs.access) {
            file.replace(fresh, &self.log);
        }
    }
}
