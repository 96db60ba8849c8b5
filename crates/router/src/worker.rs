//! The router's side of one worker: its channel, and which requests it holds.

use std::cell::{Cell, RefCell};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::rc::Rc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use channel::Violation;
use channel::link::{END_FDS, RouterEnd};
use channel::memory::{CANCELLED, PAUSED};
use channel::message::{self, Request};
use channel::ring::PushError;
use tokio::sync::Notify;

use crate::client::Client;
use crate::control::Newcomer;
use crate::exchange::{Exchange, Place};

/// How far ahead of its slots a worker may be given requests, in microseconds of its work: what it
/// holds and has not begun waits no longer than that. Less costs a change of context for each request
/// of an application that takes some hundred microseconds.
const AHEAD_MICROS: f64 = 2_000.0;
/// A request counts at most so much in the estimate, in microseconds: one slow request ends working
/// ahead at once, and a dozen fast ones begin it again.
const SAMPLE_MICROS: f64 = 64_000.0;
/// The weight of a new sample in the estimate.
const WEIGHT: f64 = 0.125;

/// The largest `REQUEST` message, in bytes: each ring has room for it.
pub(crate) const MAX_MESSAGE: usize = 120 * 1024;

/// What a worker may be given.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum State {
    /// It loads the application.
    Booting,
    /// It takes requests.
    Ready,
    /// It finishes what it holds.
    Retiring,
    /// It was told to stop.
    Stopped,
    /// It does not answer: the arbiter will kill it.
    Hung,
    /// It broke the protocol: nothing it says counts any more.
    Lost,
}

/// A request that the worker holds.
#[derive(Debug)]
pub(crate) struct Held {
    pub id: u64,
    /// Where its frame is in the requests ring.
    pub position: u64,
    /// `None` when nobody waits for the response any more.
    pub exchange: Option<Rc<Exchange>>,
    /// Handed over then; or, when nobody waits any more, last heard of.
    pub since: Instant,
}

/// What [`Worker::deaf_since`] saw when it last looked.
#[derive(Debug, Clone, Copy, Default)]
struct Beginning {
    /// The latest of the requests that it had begun and not finished.
    latest: u64,
    /// [`Worker::finished`] and [`Worker::sequence`].
    finished: u64,
    given: u64,
    /// Since when it has begun nothing of what it was given.
    deaf: Option<Instant>,
}

/// What a worker that died leaves behind.
#[derive(Debug, Default)]
pub(crate) struct Estate {
    /// What it had not begun, oldest first.
    pub unbegun: Vec<Rc<Exchange>>,
    /// What it had begun and somebody waits for, oldest first.
    pub begun: Vec<Rc<Exchange>>,
    /// It had begun something, whether somebody waits for that or not.
    pub worked: bool,
}

/// Why a request could not be handed over.
#[derive(Debug)]
pub(crate) enum Refused {
    /// There is no room in the ring now.
    NoRoom,
    /// The channel is of no more use.
    Broken(Violation),
}

/// One worker.
#[derive(Debug)]
pub(crate) struct Worker {
    pub id: u32,
    pub pid: i32,
    /// Requests that it works on at a time.
    pub slots: usize,
    /// Its class reads request bodies while they arrive.
    pub streams: bool,
    /// Its class is an event loop that serves many requests on one thread.
    pub evented: bool,
    max_requests: u64,
    pub state: Cell<State>,
    pub link: RefCell<RouterEnd>,
    held: RefCell<Vec<Option<Held>>>,
    free: RefCell<Vec<u16>>,
    /// Requests of an earlier router that it still works on.
    stale: Cell<u32>,
    sequence: Cell<u64>,
    handed: Cell<u64>,
    finished: Cell<u64>,
    /// How long it takes for a request, in microseconds; 0 while unknown.
    estimate: Cell<f64>,
    /// Frames were pushed and it was not woken yet.
    pub dirty: Cell<bool>,
    /// It left frames unread that were taken back: no more until it has read on.
    pub stalled: Cell<bool>,
    /// [`Worker::finished`] and how often it was the same, when last looked at.
    watched: Cell<(u64, u32)>,
    /// The ring's progress when last looked at, and since when it is that.
    reading: Cell<(u64, Instant)>,
    beginning: Cell<Beginning>,
    spent_reported: Cell<bool>,
    /// Connections whose uploads wait for room in the requests ring.
    starving: RefCell<Vec<Rc<Client>>>,
    /// A request found no room in the requests ring.
    refused: Cell<bool>,
    /// Tells the task that reads what it says that there will be no more.
    pub silenced: Notify,
}

impl Worker {
    /// Attach to a worker's channel, with a generation of its own, and greet it.
    ///
    /// # Errors
    /// `InvalidData` when the descriptors are not a channel's; the operating system's otherwise.
    pub fn open(newcomer: Newcomer, fds: [OwnedFd; END_FDS]) -> io::Result<Self> {
        let Newcomer { id, pid, slots, max_requests, streams, evented } = newcomer;
        let mut link = RouterEnd::open(fds)?;
        if link.requests.max_payload() < MAX_MESSAGE {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "the ring is too small for a request"));
        }
        let generation = link.memory.generation().wrapping_add(1);
        link.memory.set_generation(generation);
        let greeted = link.requests.push(message::HELLO, &[&generation.to_le_bytes()]).is_ok();
        if link.requests.must_wake() {
            link.wake_worker.signal();
        }
        if !greeted {
            return Err(io::Error::new(io::ErrorKind::WouldBlock, "the worker's ring is full"));
        }
        let table = link.memory.layout().slots;
        let now = Instant::now();
        Ok(Self {
            id,
            pid,
            slots: slots.clamp(1, table),
            streams,
            evented,
            max_requests,
            state: Cell::new(State::Booting),
            held: RefCell::new((0..table).map(|_| None).collect()),
            free: RefCell::new((0..u16::try_from(table).unwrap_or(u16::MAX)).rev().collect()),
            link: RefCell::new(link),
            stale: Cell::new(0),
            // Ids of different routers never meet: each begins somewhere else in time.
            sequence: Cell::new(boot_sequence()),
            handed: Cell::new(0),
            finished: Cell::new(0),
            estimate: Cell::new(0.0),
            dirty: Cell::new(false),
            stalled: Cell::new(false),
            watched: Cell::new((0, 0)),
            reading: Cell::new((0, now)),
            beginning: Cell::default(),
            spent_reported: Cell::new(false),
            starving: RefCell::default(),
            refused: Cell::new(false),
            silenced: Notify::new(),
        })
    }

    /// How many requests it holds, those of an earlier router included.
    pub fn load(&self) -> usize {
        self.held.borrow().len() - self.free.borrow().len() + self.stale.get() as usize
    }

    /// It says nothing more that counts.
    pub fn lose(&self) {
        self.state.set(State::Lost);
        self.silenced.notify_one();
    }

    /// It has said `READY`.
    pub fn ready(&self, busy: u32) -> bool {
        if self.state.get() != State::Booting {
            return false;
        }
        self.stale.set(busy);
        self.state.set(State::Ready);
        true
    }

    /// Is a slot free?
    pub fn has_free_slot(&self) -> bool {
        self.takes_requests() && self.load() < self.slots
    }

    /// May it be given a request ahead of its slots?
    pub fn may_work_ahead(&self) -> bool {
        self.takes_requests() && self.load() < self.slots + self.ahead()
    }

    /// Does it hold requests ahead of its slots?
    pub fn works_ahead(&self) -> bool {
        self.load() > self.slots
    }

    /// May it have sent responses that it has not woken us for? One that is asked for more than it
    /// has begun need not; an event loop has begun all that it has read.
    pub fn may_owe_wake(&self) -> bool {
        self.works_ahead() || (self.evented && self.load() > 1 && !self.link.borrow().requests.is_drained())
    }

    fn takes_requests(&self) -> bool {
        self.state.get() == State::Ready && !self.stalled.get() && !self.free.borrow().is_empty()
    }

    fn ahead(&self) -> usize {
        let estimate = self.estimate.get();
        if estimate <= 0.0 { 0 } else { (AHEAD_MICROS / estimate) as usize }
    }

    /// Give it a request; returns its id. Waking it is the caller's: `dirty` says that it must be
    /// done.
    pub fn hand(&self, exchange: &Rc<Exchange>, now: Instant) -> Result<u64, Refused> {
        let Some(slot) = self.free.borrow().last().copied() else { return Err(Refused::NoRoom) };
        let sequence = self.sequence.get().wrapping_add(1);
        let id = sequence << 16 | u64::from(slot);
        let mut link = self.link.borrow_mut();
        let mut message = exchange.message.borrow_mut();
        // Looked at before the descriptor is sent: one that no frame follows is a stray, and the
        // next attempt would send another.
        if !has_room(&mut link, message.len())? {
            self.refused.set(true);
            return Err(Refused::NoRoom);
        }
        if let Some(word) = link.memory.flow(usize::from(slot)) {
            word.store(0, Ordering::Release);
        }
        Request::set_id(&mut message, id);
        if let Some(file) = &*exchange.file.borrow() {
            let mut sent = link.descriptors.send(id, file.as_fd());
            if sent.is_err() {
                link.requests.announce_starving();
                sent = link.descriptors.send(id, file.as_fd());
            }
            if sent.is_err() {
                self.refused.set(true);
                return Err(Refused::NoRoom);
            }
        }
        let position = match link.requests.push(message::REQUEST, &[&message]) {
            Ok(position) => position,
            Err(PushError::Full | PushError::TooLarge) => return Err(Refused::NoRoom),
            Err(PushError::Violation(violation)) => return Err(Refused::Broken(violation)),
        };
        self.free.borrow_mut().pop();
        self.sequence.set(sequence);
        self.handed.set(self.handed.get() + 1);
        let held = Held { id, position, exchange: Some(exchange.clone()), since: now };
        if let Some(place) = self.held.borrow_mut().get_mut(usize::from(slot)) {
            *place = Some(held);
        }
        exchange.place.set(Place::Held(self.id, slot));
        exchange.worker_pid.set(self.pid);
        exchange.streams.set(self.streams);
        exchange.paused.set(false);
        exchange.stamp(|times| {
            times.handed = now;
            times.last_byte = now;
        });
        Ok(id)
    }

    /// The exchange of a request that a frame names, when somebody still waits for it.
    pub fn exchange(&self, id: u64) -> Option<Rc<Exchange>> {
        let held = self.held.borrow();
        let held = held.get((id & 0xffff) as usize)?.as_ref()?;
        if held.id == id { held.exchange.clone() } else { None }
    }

    /// The frame with `DONE` came: the slot is free. `elapsed` microseconds were spent.
    pub fn finish(&self, id: u64, elapsed: u32) {
        let slot = (id & 0xffff) as u16;
        let mut held = self.held.borrow_mut();
        match held.get_mut(usize::from(slot)) {
            Some(place) if place.as_ref().is_some_and(|held| held.id == id) => {
                *place = None;
                self.free.borrow_mut().push(slot);
                self.finished.set(self.finished.get() + 1);
                self.stalled.set(false);
                let sample = f64::from(elapsed).clamp(0.5, SAMPLE_MICROS);
                let estimate = self.estimate.get();
                let next = if estimate <= 0.0 { sample } else { estimate + (sample - estimate) * WEIGHT };
                self.estimate.set(next);
            }
            // A request of an earlier router.
            _ => self.stale.set(self.stale.get().saturating_sub(1)),
        }
    }

    /// Nobody waits for this one any more; the slot stays taken until `DONE`.
    pub fn detach(&self, slot: u16) {
        if let Some(Some(held)) = self.held.borrow_mut().get_mut(usize::from(slot))
            && let Some(exchange) = held.exchange.take()
        {
            held.since = Instant::now();
            exchange.place.set(Place::Home);
        }
    }

    /// It has said something about a request that nobody waits for.
    pub fn heard(&self, id: u64) {
        if let Some(Some(held)) = self.held.borrow_mut().get_mut((id & 0xffff) as usize)
            && held.id == id
            && held.exchange.is_none()
        {
            held.since = Instant::now();
        }
    }

    /// Since when it has said nothing about a request that nobody waits for: of the one that is
    /// silent for longest.
    pub fn silent_since(&self) -> Option<Instant> {
        let held = self.held.borrow();
        held.iter().flatten().filter(|held| held.exchange.is_none()).map(|held| held.since).min()
    }

    /// Tell the worker that a response is not wanted any more, or take the request back if it was
    /// not begun. An event loop watches its channel while it works: it is told there, too.
    pub fn cancel(&self, slot: u16, reason: message::Reason) {
        let Some((id, position)) = self.at(slot) else { return };
        self.detach(slot);
        let mut link = self.link.borrow_mut();
        if link.requests.revoke(position) {
            drop(link);
            self.forget(slot);
            self.handed.set(self.handed.get().saturating_sub(1));
            return;
        }
        if let Some(word) = link.memory.flow(usize::from(slot)) {
            word.fetch_or(CANCELLED, Ordering::AcqRel);
        }
        if self.evented {
            // Without room the flow word alone must do: the class looks at it when it sends.
            let _ = link.requests.push(message::CANCEL, &[&message::Cancel { id, reason }.encode()]);
            self.dirty.set(true);
        }
        link.signal_room.signal();
    }

    /// Tell the worker to wait, or to go on, with a response.
    pub fn set_paused(&self, slot: u16, paused: bool) {
        let link = self.link.borrow();
        if let Some(word) = link.memory.flow(usize::from(slot)) {
            if paused {
                word.fetch_or(PAUSED, Ordering::AcqRel);
            } else {
                word.fetch_and(!PAUSED, Ordering::AcqRel);
                link.signal_room.signal();
            }
        }
    }

    fn at(&self, slot: u16) -> Option<(u64, u64)> {
        let held = self.held.borrow();
        held.get(usize::from(slot))?.as_ref().map(|held| (held.id, held.position))
    }

    fn forget(&self, slot: u16) -> Option<Held> {
        let taken = self.held.borrow_mut().get_mut(usize::from(slot))?.take();
        if taken.is_some() {
            self.free.borrow_mut().push(slot);
        }
        taken
    }

    /// Take back what was not begun and was handed over before `since`, oldest first.
    pub fn take_back(&self, before: Instant) -> Vec<Rc<Exchange>> {
        let link = self.link.borrow();
        let mut slots: Vec<(u64, u16)> = Vec::new();
        for (slot, held) in self.held.borrow().iter().enumerate() {
            if let Some(held) = held
                && held.since <= before
                && held.exchange.as_ref().is_some_and(|exchange| !exchange.upload.get().begun)
                && link.requests.revoke(held.position)
            {
                slots.push((held.id, slot as u16));
            }
        }
        drop(link);
        slots.sort_unstable();
        let taken: Vec<_> = slots.iter().filter_map(|(_, slot)| self.forget(*slot)?.exchange).collect();
        if !taken.is_empty() {
            self.handed.set(self.handed.get().saturating_sub(taken.len() as u64));
            self.stalled.set(true);
            self.estimate.set(self.estimate.get().max(AHEAD_MICROS * 4.0));
        }
        taken
    }

    /// The worker is dead: what it held.
    pub fn leave(&self) -> Estate {
        let link = self.link.borrow();
        let mut all: Vec<Held> = self.held.borrow_mut().iter_mut().filter_map(Option::take).collect();
        all.sort_unstable_by_key(|held| held.id);
        let mut estate = Estate::default();
        for held in all {
            let pending = link.requests.is_pending(held.position);
            estate.worked |= !pending;
            if let Some(exchange) = held.exchange {
                exchange.place.set(Place::Home);
                if pending && !exchange.upload.get().begun {
                    estate.unbegun.push(exchange)
                } else {
                    estate.begun.push(exchange)
                }
            }
        }
        estate
    }

    /// Look whether what it wrote into the requests ring is possible.
    pub fn check(&self) -> Result<(), Violation> {
        self.link.borrow_mut().requests.check()
    }

    /// Every exchange that waits for this worker, with its slot.
    pub fn waiting(&self) -> Vec<(u16, Rc<Exchange>)> {
        let held = self.held.borrow();
        let waiting = held.iter().enumerate();
        waiting.filter_map(|(slot, held)| Some((slot as u16, held.as_ref()?.exchange.clone()?))).collect()
    }

    /// Look whether it has finished anything since the last look. Returns how often in a row it has
    /// not.
    pub fn idle_looks(&self) -> u32 {
        let (finished, times) = self.watched.get();
        let times = if finished == self.finished.get() { times + 1 } else { 0 };
        self.watched.set((self.finished.get(), times));
        times
    }

    /// Since when it has left frames unread; `None` when it has read all.
    pub fn unread_since(&self, now: Instant) -> Option<Instant> {
        let link = self.link.borrow();
        let progress = link.requests.progress();
        let (seen, since) = self.reading.get();
        if link.requests.is_drained() {
            self.stalled.set(false);
            self.reading.set((progress, now));
            return None;
        }
        if progress != seen {
            self.reading.set((progress, now));
            return Some(now);
        }
        Some(since)
    }

    /// Since when it has begun nothing of what it was given; `None` when it has, or when it was
    /// given nothing since the last look. That it reads its ring is no sign of life: it may only
    /// skip what was taken back.
    pub fn deaf_since(&self, now: Instant) -> Option<Instant> {
        let link = self.link.borrow();
        let last = self.beginning.get();
        let (mut latest, mut working, mut pending) = (0, 0, false);
        for held in self.held.borrow().iter().flatten() {
            if link.requests.is_pending(held.position) {
                pending = true;
            } else {
                latest = latest.max(held.id);
                working += 1;
            }
        }
        let (finished, given) = (self.finished.get(), self.sequence.get());
        let begins = latest > last.latest || finished != last.finished;
        let waits = pending || self.stalled.get() || given != last.given;
        // One that is busy begins nothing; where an event loop has free slots, it does.
        let busy = working >= if self.evented { self.slots } else { 1 };
        let deaf = if begins || busy || !waits { None } else { last.deaf.or(Some(now)) };
        self.beginning.set(Beginning { latest, finished, given, deaf });
        deaf
    }

    /// Has it been given all that it may serve? True once.
    pub fn is_spent(&self) -> bool {
        self.max_requests > 0 && self.handed.get() >= self.max_requests && !self.spent_reported.replace(true)
    }

    /// Pass on a part of a body. False when there is no room; the connection is woken when there may
    /// be some.
    pub fn upload(&self, slot: u16, data: &[u8], last: bool, client: &Rc<Client>) -> bool {
        let Some((id, _)) = self.at(slot) else { return false };
        let prefix = message::Body::prefix(id, if last { message::END } else { 0 }, 0);
        let mut link = self.link.borrow_mut();
        if link.requests.push(message::BODY, &[&prefix, data]).is_ok() {
            return true;
        }
        link.requests.announce_starving();
        if link.requests.push(message::BODY, &[&prefix, data]).is_ok() {
            return true;
        }
        self.starving.borrow_mut().push(client.clone());
        false
    }

    /// When there is room in the requests ring, let the uploads go on that wait for it. True when a
    /// request waits for it, too. When there is not enough, the worker tells us as soon as it has
    /// read on.
    pub fn give_room(&self) -> bool {
        if !self.refused.get() && self.starving.borrow().is_empty() {
            return false;
        }
        // A ring that is broken has room, so that whoever tries finds out.
        if !has_room(&mut self.link.borrow_mut(), MAX_MESSAGE).unwrap_or(true) {
            return false;
        }
        for client in self.starving.take() {
            client.wake();
        }
        self.refused.replace(false)
    }

    /// Push a frame without payload.
    pub fn say(&self, kind: u16) -> bool {
        let mut link = self.link.borrow_mut();
        let said = link.requests.push(kind, &[]).is_ok();
        if link.requests.must_wake() {
            link.wake_worker.signal();
        }
        said
    }

    /// Wake it if it sleeps.
    pub fn wake(&self) {
        self.dirty.set(false);
        let link = self.link.borrow();
        if link.requests.must_wake() {
            link.wake_worker.signal();
        }
    }
}

/// Is there room in the requests ring for so many bytes? Without, the worker is asked to say when it
/// has read on.
fn has_room(link: &mut RouterEnd, len: usize) -> Result<bool, Refused> {
    let look = |link: &mut RouterEnd| match link.requests.fits(len) {
        Ok(fits) => Ok(fits),
        Err(PushError::Full | PushError::TooLarge) => Ok(false),
        Err(PushError::Violation(violation)) => Err(Refused::Broken(violation)),
    };
    if look(link)? {
        return Ok(true);
    }
    link.requests.announce_starving();
    look(link)
}

/// A first sequence number that no earlier router has used: microseconds since the epoch, as long as
/// a router serves less than a million requests a second to one worker. A sequence has 48 bits.
fn boot_sequence() -> u64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    (since.as_micros() as u64) & 0xffff_ffff_ffff
}

#[cfg(test)]
mod tests;
