//! What the router knows of each connection from outside its task: deadlines, idleness, how to
//! wake it.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::task::Waker;
use std::time::{Duration, Instant};

use slab::Slab;

use crate::turn::Turn;

/// One connection as its task and the rest of the router share it.
#[derive(Debug)]
pub(crate) struct Client {
    waker: RefCell<Option<Waker>>,
    /// When the connection has waited long enough for what it waits for.
    deadline: Cell<Option<Instant>>,
    /// The deadline is over.
    expired: Cell<bool>,
    /// Waiting for a request since then; `None` while one is served.
    idle_since: Cell<Option<Instant>>,
    /// Close now, if idle; after the current request otherwise.
    closing: Cell<bool>,
    /// Close now, whatever is under way.
    killed: Cell<bool>,
    /// What its task has done since it was woken.
    pub turn: Turn,
}

impl Client {
    /// Wake the connection's task.
    pub fn wake(&self) {
        if let Some(waker) = &*self.waker.borrow() {
            waker.wake_by_ref();
        }
    }

    /// Remember which task to wake: once, a task's waker stays the same.
    pub fn remember(&self, waker: &Waker) {
        let mut kept = self.waker.borrow_mut();
        if !kept.as_ref().is_some_and(|kept| kept.will_wake(waker)) {
            *kept = Some(waker.clone());
        }
    }

    /// From now on the task may wait until then.
    pub fn set_deadline(&self, deadline: Option<Instant>) {
        self.deadline.set(deadline);
        self.expired.set(false);
    }

    pub fn is_expired(&self) -> bool {
        self.expired.get()
    }

    pub fn set_idle(&self, idle: Option<Instant>) {
        self.idle_since.set(idle);
    }

    pub fn is_closing(&self) -> bool {
        self.closing.get()
    }

    pub fn is_killed(&self) -> bool {
        self.killed.get()
    }

    fn close(&self) {
        self.closing.set(true);
        self.wake();
    }

    fn kill(&self) {
        self.killed.set(true);
        self.wake();
    }
}

/// All connections.
#[derive(Debug, Default)]
pub(crate) struct Clients {
    all: RefCell<Slab<Rc<Client>>>,
}

impl Clients {
    /// A new connection. Its task gives the key back to [`Clients::remove`].
    pub fn add(&self) -> (usize, Rc<Client>) {
        let client = Rc::new(Client {
            waker: RefCell::default(),
            deadline: Cell::default(),
            expired: Cell::default(),
            idle_since: Cell::default(),
            closing: Cell::default(),
            killed: Cell::default(),
            turn: Turn::default(),
        });
        (self.all.borrow_mut().insert(client.clone()), client)
    }

    pub fn remove(&self, key: usize) {
        self.all.borrow_mut().try_remove(key);
    }

    pub fn len(&self) -> usize {
        self.all.borrow().len()
    }

    /// Wake those whose deadline is over.
    pub fn expire(&self, now: Instant) {
        for (_, client) in &*self.all.borrow() {
            if client.deadline.get().is_some_and(|deadline| deadline <= now) && !client.expired.replace(true)
            {
                client.wake();
            }
        }
    }

    /// Close up to `count` idle connections, those first that have waited longest. Returns how many.
    pub fn close_idlest(&self, count: usize) -> usize {
        let all = self.all.borrow();
        let mut idle: Vec<_> = all
            .iter()
            .filter(|(_, client)| !client.closing.get())
            .filter_map(|(_, client)| client.idle_since.get().map(|since| (since, client)))
            .collect();
        idle.sort_unstable_by_key(|(since, _)| *since);
        idle.iter().take(count).map(|(_, client)| client.close()).count()
    }

    /// Close the connections that have been idle for so long.
    pub fn close_idle(&self, now: Instant, at_least: Duration) {
        for (_, client) in &*self.all.borrow() {
            let idle = client.idle_since.get().is_some_and(|since| now.duration_since(since) >= at_least);
            if idle && !client.closing.get() {
                client.close();
            }
        }
    }

    /// Close all connections now.
    pub fn kill_all(&self) {
        for (_, client) in &*self.all.borrow() {
            client.kill();
        }
    }
}
