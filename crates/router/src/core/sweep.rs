//! What happens again and again: waking workers, working ahead, deadlines.

use std::rc::Rc;
use std::time::{Duration, Instant};

use channel::message;

use crate::control::Report;
use crate::core::Router;
use crate::options::seconds;
use crate::worker::{State, Worker};

/// How often deadlines are looked at.
const SWEEP: Duration = Duration::from_millis(200);
/// While draining, a connection that has just been answered may bring one more request; one that
/// was idle for so long is closed.
const LINGER_IDLE: Duration = Duration::from_millis(500);

impl Router {
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
                file.flush(&self.log);
            }
        }
    }

    /// While workers have more to do than they have begun: look each millisecond for responses, which
    /// they do not wake us for each, and take back what waits behind a slow request.
    pub async fn ahead_task(self: Rc<Self>) {
        loop {
            self.ahead.notified().await;
            loop {
                let ahead: Vec<_> =
                    self.workers.borrow().iter().filter(|worker| worker.may_owe_wake()).cloned().collect();
                if ahead.is_empty() {
                    break;
                }
                tokio::time::sleep(Duration::from_millis(1)).await;
                for worker in ahead {
                    self.pump(&worker);
                    // Two looks: a worker that lost the processor for a moment is not slow.
                    if worker.idle_looks() >= 2 && worker.works_ahead() {
                        self.requeue(worker.take_back(Instant::now()));
                        // What it said before it could see that it has no more to do did not wake us.
                        self.pump(&worker);
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
            self.expire_queue(now);
            self.expire_quarantine(now);
            let workers = self.workers.borrow().clone();
            for worker in &workers {
                self.sweep_worker(worker, now);
            }
            self.dispatch();
            self.control.flush();
            self.log.flush();
            if self.is_draining() {
                self.clients.close_idle(now, LINGER_IDLE);
            }
            if let Some((_, file)) = &self.settings.borrow().access {
                file.flush(&self.log);
            }
        }
    }

    fn sweep_worker(&self, worker: &Rc<Worker>, now: Instant) {
        let settings = self.settings();
        let options = &settings.options;
        // Before it is known whether it has read what was taken back: until then it was waited for.
        let deaf = worker.deaf_since(now);
        let unread = worker.unread_since(now);
        if !matches!(worker.state.get(), State::Ready | State::Retiring) {
            return;
        }
        if let Err(violation) = worker.check() {
            return self.broken(worker, violation);
        }
        worker.give_room();
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
            let over = timeout.filter(|limit| !worker.evented && !exchange.paused.get() && silent >= *limit);
            let limit = seconds(options.request_timeout).filter(|limit| running >= *limit);
            if over.is_none() && limit.is_none() {
                continue;
            }
            if over.is_some() || !worker.evented {
                hung = Some((exchange.what(), if over.is_some() { silent } else { running }));
            }
            worker.cancel(slot, message::Reason::Timeout);
            self.flush_soon();
            self.fail(&exchange, 504);
        }
        if let (Some(limit), Some(since)) = (timeout, unread)
            && (worker.evented || worker.load() == 0)
            && now.duration_since(since) >= limit
        {
            let what = if worker.evented { "the event loop" } else { "no request, and it reads none" };
            hung = hung.or(Some((what.to_owned(), now.duration_since(since))));
        }
        if let (Some(limit), Some(since)) = (timeout, deaf)
            && now.duration_since(since) >= limit
        {
            let what = "it begins nothing that it is given".to_owned();
            hung = hung.or(Some((what, now.duration_since(since))));
        }
        // Its client has left, or has got everything: nobody but us waits for that slot.
        if let (Some(limit), Some(since)) = (timeout, worker.silent_since())
            && !worker.evented
            && now.duration_since(since) >= limit
        {
            let what = "a request whose client has left".to_owned();
            hung = hung.or(Some((what, now.duration_since(since))));
        }
        if let Some((what, silent)) = hung {
            worker.state.set(State::Hung);
            self.requeue(worker.take_back(now));
            self.control.report(&Report::Hung { id: worker.id, what: &what, seconds: silent.as_secs_f64() });
        } else if worker.evented && unread.is_none() {
            worker.say(message::PING);
        }
    }
}
