//! Requests whose like has killed workers: they wait behind all others, and are tried one at a time.
//!
//! Two requests are alike when method and path are. After [`DEATHS`] deaths within [`MEMORY`] the
//! like is suspect. A suspect is handed out only when nobody else waits and no worker is booting; the
//! worker that tries it is given nothing else meanwhile, and after a death the next one waits a
//! moment: so one worker at a time is at risk, and the others serve. A worker that dies with several
//! requests leaves open which of them it was, and each like bears a part of the blame. Those that
//! have not killed in a trial are tried first: being answered clears them.

use std::cell::{Cell, RefCell};
use std::hash::{BuildHasher, RandomState};
use std::rc::Rc;
use std::time::{Duration, Instant};

use channel::message::Request;

use crate::core::Router;
use crate::exchange::Exchange;

/// So many deaths make a like suspect ...
const DEATHS: f64 = 3.0;
/// ... within so long; what is older is forgotten.
const MEMORY: Duration = Duration::from_secs(10);
/// How many likes are remembered.
const LIKES: usize = 64;
/// Of a worker that died with many requests, the last so many are looked at; and so many deaths of a
/// like are remembered.
const BLAMED: usize = 16;
/// After a death in a trial the next one waits for so long.
const PAUSE: Duration = Duration::from_millis(250);
/// A trial that has lasted for so long does not keep its worker from other requests any more.
const ALONE: Duration = Duration::from_secs(1);

/// Requests of one method and path.
#[derive(Debug)]
struct Like {
    hash: u64,
    /// When the last workers died of it, the oldest first, and its part of the blame.
    deaths: Vec<(Instant, f64)>,
    /// One died in a trial: it is no other's fault.
    proven: bool,
    /// When it was last said that it is suspect.
    said: Option<Instant>,
}

impl Like {
    fn forget(&mut self, now: Instant) {
        self.deaths.retain(|(death, _)| now.duration_since(*death) < MEMORY);
    }

    fn is_suspect(&self) -> bool {
        // Three thirds are one, but for what is lost in the last digit.
        self.deaths.iter().map(|(_, part)| part).sum::<f64>() > DEATHS - 0.01
    }
}

/// A suspect that a worker has.
#[derive(Debug, Clone, Copy)]
struct Trial {
    worker: u32,
    /// The request's id.
    id: u64,
    like: u64,
    since: Instant,
}

/// What is known of requests that killed workers.
#[derive(Debug, Default)]
pub(super) struct Quarantine {
    likes: RefCell<Vec<Like>>,
    hasher: RandomState,
    trial: Cell<Option<Trial>>,
    not_before: Cell<Option<Instant>>,
}

impl Quarantine {
    /// Has nothing killed a worker lately?
    pub fn is_empty(&self) -> bool {
        self.likes.borrow().is_empty()
    }

    /// Has the like of this request killed workers again and again?
    pub fn holds(&self, exchange: &Exchange, now: Instant) -> bool {
        if self.is_empty() {
            return false;
        }
        let Some(hash) = self.like(exchange) else { return false };
        let mut likes = self.likes.borrow_mut();
        likes.iter_mut().find(|like| like.hash == hash).is_some_and(|like| {
            like.forget(now);
            like.is_suspect()
        })
    }

    /// A worker has died of this like, perhaps. True when that makes it suspect and this was not said
    /// lately.
    fn blame(&self, hash: u64, part: f64, proven: bool, now: Instant) -> bool {
        let mut likes = self.likes.borrow_mut();
        let index = likes.iter().position(|like| like.hash == hash).unwrap_or_else(|| {
            if likes.len() >= LIKES {
                // The one that has been quiet for longest.
                let quiet =
                    likes.iter().enumerate().min_by_key(|(_, like)| like.deaths.last().map(|last| last.0));
                if let Some(index) = quiet.map(|(index, _)| index) {
                    likes.swap_remove(index);
                }
            }
            likes.push(Like { hash, deaths: Vec::new(), proven: false, said: None });
            likes.len() - 1
        });
        let Some(like) = likes.get_mut(index) else { return false };
        like.forget(now);
        if like.deaths.len() >= BLAMED {
            like.deaths.remove(0);
        }
        like.deaths.push((now, part));
        like.proven |= proven;
        let is_new = like.said.is_none_or(|said| now.duration_since(said) >= MEMORY);
        if is_new && like.is_suspect() {
            like.said = Some(now);
        }
        is_new && like.is_suspect()
    }

    /// May a suspect be tried now?
    fn is_free(&self, now: Instant) -> bool {
        self.trial.get().is_none() && self.not_before.get().is_none_or(|when| now >= when)
    }

    /// The worker that is to be left alone.
    pub fn worker(&self) -> Option<u32> {
        self.trial.get().map(|trial| trial.worker)
    }

    /// A suspect was handed to a worker.
    fn begin(&self, exchange: &Exchange, worker: u32, id: u64, now: Instant) {
        if let Some(like) = self.like(exchange) {
            self.trial.set(Some(Trial { worker, id, like, since: now }));
        }
    }

    /// The suspect was taken back.
    pub fn end(&self) {
        self.trial.set(None);
    }

    /// A worker is dead: if it had the suspect, the next one waits a moment. Returns the suspect's
    /// like.
    fn died(&self, worker: u32, now: Instant) -> Option<u64> {
        let trial = self.trial.get().filter(|trial| trial.worker == worker)?;
        self.trial.set(None);
        self.not_before.set(Some(now + PAUSE));
        Some(trial.like)
    }

    /// Has its like killed in a trial?
    fn is_proven(&self, exchange: &Exchange) -> bool {
        let hash = self.like(exchange);
        self.likes.borrow().iter().any(|like| Some(like.hash) == hash && like.proven)
    }

    /// A request is done. True when it was the suspect: it is clear, or, if others of its like have
    /// killed in trials, takes one death back.
    fn survived(&self, worker: u32, id: u64) -> bool {
        let Some(trial) = self.trial.get().filter(|trial| trial.worker == worker && trial.id == id) else {
            return false;
        };
        self.trial.set(None);
        if let Some(like) = self.likes.borrow_mut().iter_mut().find(|like| like.hash == trial.like) {
            if like.proven {
                like.deaths.pop();
            } else {
                like.deaths.clear();
            }
        }
        true
    }

    /// Forget what is long ago.
    fn expire(&self, now: Instant) {
        if self.trial.get().is_some_and(|trial| now.duration_since(trial.since) >= ALONE) {
            self.trial.set(None);
        }
        self.likes.borrow_mut().retain_mut(|like| {
            like.forget(now);
            !like.deaths.is_empty()
        });
    }

    fn like(&self, exchange: &Exchange) -> Option<u64> {
        let message = exchange.message.borrow();
        let request = Request::decode(&message).ok()?;
        Some(self.hasher.hash_one((request.line.method, request.line.path)))
    }
}

impl Router {
    /// A worker has died. `lost`, the oldest first, is what it served; empty when that is known to be
    /// innocent.
    pub(super) fn blame(&self, worker: u32, lost: &[Rc<Exchange>], now: Instant) {
        let tried = self.quarantine.died(worker, now);
        let mut likes: Vec<(u64, &Rc<Exchange>)> = Vec::new();
        for exchange in lost.iter().rev().take(BLAMED) {
            let Some(like) = self.quarantine.like(exchange) else { continue };
            if tried.is_none_or(|tried| tried == like) && !likes.iter().any(|(known, _)| *known == like) {
                likes.push((like, exchange));
            }
        }
        let part = 1.0 / likes.len().max(1) as f64;
        for (like, exchange) in likes {
            if self.quarantine.blame(like, part, tried.is_some(), now) {
                let (what, within) = (exchange.what(), MEMORY.as_secs());
                self.log.warning(format_args!(
                    "{what}: {DEATHS} workers died of it within {within} s: its like waits behind other requests"
                ));
            }
        }
    }

    /// A request is done: if it was a suspect, it has killed nobody.
    pub(super) fn acquit(&self, worker: u32, id: u64) {
        if self.quarantine.survived(worker, id) {
            self.release_suspects(Instant::now());
        }
    }

    /// Give the suspect that has waited longest to a worker, if that may be.
    pub(super) fn try_suspect(&self, now: Instant) {
        if !self.quarantine.is_free(now) || self.is_any_booting() {
            return;
        }
        let Some(exchange) = self.queue.suspect(|exchange| !self.quarantine.is_proven(exchange)) else {
            return;
        };
        if let Some((worker, id)) = self.place(&exchange, now, false) {
            self.queue.took_suspect();
            self.quarantine.begin(&exchange, worker, id, now);
            self.wake_uploader(&exchange);
        }
    }

    /// Forget what is long ago, and let those go that are suspect no more.
    pub(super) fn expire_quarantine(&self, now: Instant) {
        self.quarantine.expire(now);
        self.release_suspects(now);
    }
}

#[cfg(test)]
mod tests;
