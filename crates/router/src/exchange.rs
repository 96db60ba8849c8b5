//! One request and its response, between the connection that brought it and the worker that has it.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::Instant;

use crate::client::Client;
use crate::response::Response;
use crate::spool::Temporary;

/// Where a request is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Place {
    /// With its connection: not yet complete, or answered.
    Home,
    /// In the queue, under this ticket.
    Queued(u64),
    /// With this worker, in this slot.
    Held(u32, u16),
}

/// When things happened.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Times {
    /// The first byte of the head was there.
    pub received: Instant,
    /// The request went into the queue.
    pub queued: Instant,
    /// A worker got it.
    pub handed: Instant,
    /// The worker last gave a byte of response, or was allowed to again.
    pub last_byte: Instant,
}

/// A request body that is passed on while it arrives.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Upload {
    /// The body comes in `BODY` frames, and the last of them was not sent yet.
    pub active: bool,
    /// Bytes that the worker will still take before it gives credit.
    pub window: u64,
    /// A frame with a part of it was sent: the request cannot be given to another worker.
    pub begun: bool,
}

/// One request and its response. A connection uses the same one for each request that follows.
#[derive(Debug)]
pub(crate) struct Exchange {
    /// The connection's task, to be woken.
    pub client: Rc<Client>,
    /// The encoded `REQUEST` message.
    pub message: RefCell<Vec<u8>>,
    /// The body's file, when it is not in the message.
    pub file: RefCell<Option<Temporary>>,
    /// Where the request is.
    pub place: Cell<Place>,
    /// The response.
    pub response: RefCell<Response>,
    /// When things happened.
    pub times: Cell<Times>,
    /// The worker that has or had it, or 0.
    pub worker_pid: Cell<i32>,
    /// How a body that is passed on while it arrives stands.
    pub upload: Cell<Upload>,
    /// Its worker is of a class that streams.
    pub streams: Cell<bool>,
    /// How many workers died while this request lay with them, which had begun nothing that would
    /// explain it.
    pub deliveries: Cell<u8>,
    /// It waits apart from others: its like has killed workers.
    pub suspect: Cell<bool>,
    /// The worker was told to wait because the client reads slowly.
    pub paused: Cell<bool>,
    /// Bytes of frames that came nevertheless.
    pub unwanted: Cell<usize>,
}

impl Exchange {
    pub fn new(client: Rc<Client>) -> Rc<Self> {
        let now = Instant::now();
        Rc::new(Self {
            client,
            message: RefCell::default(),
            file: RefCell::default(),
            place: Cell::new(Place::Home),
            response: RefCell::default(),
            times: Cell::new(Times { received: now, queued: now, handed: now, last_byte: now }),
            worker_pid: Cell::new(0),
            upload: Cell::default(),
            streams: Cell::new(false),
            deliveries: Cell::new(0),
            suspect: Cell::new(false),
            paused: Cell::new(false),
            unwanted: Cell::new(0),
        })
    }

    /// Change the times.
    pub fn stamp(&self, change: impl FnOnce(&mut Times)) {
        let mut times = self.times.get();
        change(&mut times);
        self.times.set(times);
    }

    /// What the request is, for a log line: `GET /path`.
    pub fn what(&self) -> String {
        let message = self.message.borrow();
        match channel::message::Request::decode(&message) {
            Ok(request) => {
                let mut what = String::from_utf8_lossy(request.line.method).into_owned();
                what.push(' ');
                what.push_str(&String::from_utf8_lossy(request.line.path));
                what
            }
            Err(_) => "a request".to_owned(),
        }
    }
}
