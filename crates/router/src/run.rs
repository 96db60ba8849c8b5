//! The router's main task: it does what the arbiter orders.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::rc::Rc;
use std::time::Duration;

use tokio::runtime::{Builder, LocalOptions};
use tokio::task::{AbortHandle, spawn_local};
use tokio::time::{Instant, sleep_until};

use crate::control::{Address, Control, LogFiles, Order, Report};
use crate::core::{Ending, Pumped, Router};
use crate::listener::Listener;
use crate::logs::ErrorLog;
use crate::settings::Settings;
use crate::watch::watch;
use crate::worker::{State, Worker};

/// How long the router waits for its first order, the options.
const FIRST_ORDER: Duration = Duration::from_secs(30);
/// How often connections are cut when the grace is over.
const KILL_AGAIN: Duration = Duration::from_millis(100);
/// How long the workers may finish when the arbiter has died.
const ORPHAN_GRACE: Duration = Duration::from_secs(30);

/// Be the router until the arbiter says otherwise or is gone. Returns the process's exit code.
#[must_use]
pub fn run(control: OwnedFd) -> i32 {
    raise_descriptor_limit();
    let runtime =
        Builder::new_current_thread().enable_io().enable_time().build_local(LocalOptions::default());
    let served = runtime.and_then(|runtime| runtime.block_on(serve(control)));
    match served {
        Ok(()) => 0,
        Err(error) => {
            // The log may not be open yet.
            eprintln!("remuda: error: the router cannot serve: {error}");
            1
        }
    }
}

/// As many descriptors as the system lets us have.
fn raise_descriptor_limit() {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: plain calls with a live structure. Failure leaves the limit as it is.
    unsafe {
        if libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit) == 0 {
            limit.rlim_cur = limit.rlim_max;
            libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit);
        }
    }
}

/// One listener and the task that accepts from it.
struct Accepting {
    listener: Rc<Listener>,
    task: AbortHandle,
}

async fn serve(control: OwnedFd) -> io::Result<()> {
    let control = Control::new(control)?;
    let first = tokio::time::timeout(FIRST_ORDER, control.receive()).await??;
    let Some((Order::Options(options), fds)) = first else {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "the first order must be the options"));
    };
    let logs = LogFiles::from_fds(fds)?;
    let log = ErrorLog::new(logs.error, &options.loglevel);
    let settings = Settings::new(*options, logs.access).map_err(io::Error::other)?;
    let router = Router::new(settings, log, control);
    // None of these ends by itself: one that does has panicked, and nothing can be relied on any
    // more. The arbiter starts another router.
    let flush = spawn_local(router.clone().flush_task());
    let ahead = spawn_local(router.clone().ahead_task());
    let sweep = spawn_local(router.clone().sweep_task());
    let line = router.clone();
    let line = spawn_local(async move { line.line.run().await });
    let mut main = Main { router, accepting: Vec::new(), draining: Vec::new(), end: None, orphaned: false };
    tokio::select! {
        done = main.run() => done,
        _ = flush => Err(io::Error::other("a task of the router has failed")),
        _ = ahead => Err(io::Error::other("a task of the router has failed")),
        _ = line => Err(io::Error::other("a task of the router has failed")),
        _ = sweep => Err(io::Error::other("a task of the router has failed")),
    }
}

struct Main {
    router: Rc<Router>,
    accepting: Vec<Accepting>,
    /// At the end: what drains the listeners.
    draining: Vec<AbortHandle>,
    /// While draining: when what is left is cut.
    end: Option<Instant>,
    orphaned: bool,
}

impl Main {
    async fn run(&mut self) -> io::Result<()> {
        let router = self.router.clone();
        loop {
            let end = self.end.unwrap_or_else(|| Instant::now() + Duration::from_secs(3600));
            let orphaned = self.orphaned;
            tokio::select! {
                order = router.control.receive(), if !orphaned => match order? {
                    Some((Order::Quit, _)) => return Ok(()),
                    Some((order, fds)) => self.obey(order, fds)?,
                    None => {
                        router.log.warning(format_args!("the arbiter is gone: finishing what has begun"));
                        self.orphaned = true;
                        self.stop(ORPHAN_GRACE);
                    }
                },
                () = router.left.notified() => {}
                () = sleep_until(end) => {
                    self.router.clients.kill_all();
                    // Once more for those that are still in the backlog.
                    self.end = self.end.map(|_| Instant::now() + KILL_AGAIN);
                }
            }
            if self.end.is_some() && self.is_stopped() {
                self.router.control.report(&Report::Stopped);
                if self.orphaned {
                    // Nobody else will tell them; those that are busy find out by themselves.
                    router.retire_all();
                    return Ok(());
                }
                self.end = None;
            }
        }
    }

    fn is_stopped(&self) -> bool {
        self.router.clients.len() == 0 && self.draining.iter().all(AbortHandle::is_finished)
    }

    fn obey(&mut self, order: Order, fds: Vec<OwnedFd>) -> io::Result<()> {
        match order {
            Order::Options(options) => {
                let logs = LogFiles::from_fds(fds)?;
                match Settings::new(*options, logs.access) {
                    Ok(settings) => {
                        self.router.log.replace(logs.error);
                        self.router.log.set_level(&settings.options.loglevel);
                        self.router.set_settings(settings);
                    }
                    Err(error) => {
                        self.router.log.error(format_args!("the new settings are not used: {error}"));
                    }
                }
            }
            Order::Listeners { listeners } => self.listen(listeners, fds)?,
            Order::Worker(newcomer) => match self.router.attach(newcomer, fds) {
                Ok(worker) => {
                    spawn_local(watch_worker(self.router.clone(), worker));
                }
                Err(error) => {
                    let (id, pid, why) = (newcomer.id, newcomer.pid, error.to_string());
                    self.router.log.error(format_args!("Worker (pid:{pid}) cannot be reached: {why}"));
                    self.router.control.report(&Report::Broken { id, why: &why });
                }
            },
            Order::Retire { id } => self.router.retire(id),
            Order::Gone { id, why } => self.router.gone(id, &why),
            Order::Reopen => self.router.replace_logs(LogFiles::from_fds(fds)?),
            Order::Ping => self.router.control.report(&Report::Pong),
            Order::Stop { grace } => self.stop(Duration::try_from_secs_f64(grace).unwrap_or(ORPHAN_GRACE)),
            // Handled by the caller.
            Order::Quit => {}
        }
        Ok(())
    }

    /// Serve these listeners and no others.
    fn listen(&mut self, addresses: Vec<Address>, fds: Vec<OwnedFd>) -> io::Result<()> {
        if addresses.len() != fds.len() {
            return Err(io::Error::other("the descriptor of a listener did not come"));
        }
        let mut old = std::mem::take(&mut self.accepting);
        for (address, fd) in addresses.into_iter().zip(fds) {
            if let Some(index) = old.iter().position(|accepting| accepting.listener.address == address) {
                self.accepting.push(old.swap_remove(index));
                continue;
            }
            let listener = Rc::new(Listener::new(address, fd)?);
            let task = spawn_local(listener.clone().accept_all(self.router.clone())).abort_handle();
            self.accepting.push(Accepting { listener, task });
        }
        for accepting in old {
            self.drain(accepting);
        }
        self.router.control.report(&Report::Started);
        Ok(())
    }

    fn drain(&self, accepting: Accepting) -> AbortHandle {
        accepting.task.abort();
        let Accepting { listener, .. } = accepting;
        let router = self.router.clone();
        let drained = spawn_local(async move {
            listener.drain(router.clone()).await;
            // Perhaps that was all that was left.
            router.left.notify_one();
        });
        drained.abort_handle()
    }

    /// Drain the backlog, close the listeners, answer what has come.
    fn stop(&mut self, grace: Duration) {
        if self.end.is_some() {
            return;
        }
        self.end = Some(Instant::now() + grace);
        self.router.ending.set(Ending::Draining);
        // Only the tasks hold the sockets from now on: one that is drained must not stay open, or it
        // would go on shaking hands with clients that nobody accepts.
        self.draining =
            std::mem::take(&mut self.accepting).into_iter().map(|accepting| self.drain(accepting)).collect();
    }
}

/// Read what a worker says; when that fails, the worker is of no more use.
async fn watch_worker(router: Rc<Router>, worker: Rc<Worker>) {
    let why = match spawn_local(pump(router.clone(), worker.clone())).await {
        Ok(Ok(())) => return,
        Ok(Err(error)) => error.to_string(),
        Err(_) => "reading its channel failed".to_owned(),
    };
    if worker.state.get() != State::Lost {
        worker.lose();
        router.control.report(&Report::Broken { id: worker.id, why: &why });
    }
}

/// Read what a worker says, for as long as its channel lives.
async fn pump(router: Rc<Router>, worker: Rc<Worker>) -> io::Result<()> {
    let wait = worker.link.borrow().wait.as_fd().try_clone_to_owned()?;
    let wait = watch(wait)?;
    while worker.state.get() != State::Lost {
        let pumped = router.pump(&worker);
        // Also while it says more and more: it may have read as much.
        if worker.give_room() {
            router.dispatch();
        }
        match pumped {
            Pumped::Nothing => {}
            // Let those write who have got something, and look again before sleeping.
            Pumped::All => {
                yield_behind().await;
                continue;
            }
            // It may go on for long: what the operating system has to say must be heard in between.
            Pumped::Enough => {
                tokio::task::yield_now().await;
                continue;
            }
        }
        if !worker.link.borrow().responses.may_sleep() {
            continue;
        }
        tokio::select! {
            guard = wait.readable() => guard?.clear_ready(),
            () = worker.silenced.notified() => return Ok(()),
        }
        let link = worker.link.borrow();
        link.wait.clear();
        link.responses.awake();
    }
    Ok(())
}

/// Let the tasks that are ready run first. Unlike tokio's `yield_now` it does not ask the operating
/// system for events in between.
async fn yield_behind() {
    let mut yielded = false;
    std::future::poll_fn(|cx| {
        if std::mem::replace(&mut yielded, true) {
            return std::task::Poll::Ready(());
        }
        cx.waker().wake_by_ref();
        std::task::Poll::Pending
    })
    .await;
}
