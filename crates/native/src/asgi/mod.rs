//! The ASGI gateway: from claimed requests to tasks of an asyncio event loop, and back.
//!
//! * [`scope`] builds `scope`.
//! * [`exchange`]: `receive` and `send` of one request.
//! * [`event`]: the messages that applications send.
//! * [`awaited`]: what `receive` and `send` return.
//! * [`outgoing`]: what waits to be sent.
//!
//! Everything here runs on the thread of the event loop and never blocks it. Locks are held for
//! moments in which no Python code runs.

mod awaited;
mod event;
mod exchange;
mod outgoing;
mod scope;

use std::collections::HashMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::Instant;

use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::PyDict;

use crate::channel::Channel;
use crate::inbox::Incoming;
use crate::notices::Notices;
use crate::outbox::Ticket;
use crate::room::locked;
pub use awaited::{Awaited, Sent};
pub use exchange::Exchange;
use scope::Builder;

/// A response waits at most so long for the end of the loop's turn, in microseconds.
const TURN: u64 = 500;

/// Serves requests by calling an ASGI application, each in a task of its own.
#[pyclass(frozen, module = "remuda._native")]
pub struct Asgi {
    channel: Py<Channel>,
    /// Nobody else's while it builds.
    builder: Mutex<Option<Builder>>,
    root_path: String,
    state: Option<Py<PyDict>>,
    serve: Py<PyAny>,
    create_task: Py<PyAny>,
    create_future: Py<PyAny>,
    call_soon: Py<PyAny>,
    on_error: Py<PyAny>,
    on_left: Py<PyAny>,
    notices: Notices,
    sent: Py<Sent>,
    /// The requests that are served, by their ids.
    exchanges: Mutex<HashMap<u64, Py<Exchange>>>,
    /// Those that wait for room to send.
    stuck: Mutex<Vec<Py<Exchange>>>,
    /// How many heads are held back.
    held: AtomicUsize,
    /// `wake_router` will be called by the loop.
    wakes: AtomicBool,
    /// ... for what was sent then, in microseconds since `made`.
    owed_at: AtomicU64,
    made: Instant,
}

#[pymethods]
impl Asgi {
    /// `serve(scope, exchange)` makes the coroutine that serves a request, and must say at its end
    /// how the application ended: `exchange.returned()`, `failed(error)` or `cancelled()`.
    /// `on_error(message, error)` logs a fault, `on_left` one that came of a client that had left,
    /// `on_notice(message)` what is said once.
    #[new]
    #[pyo3(signature = (channel, *, serve, create_task, create_future, call_soon, on_error, on_left, on_notice=None, root_path="", state=None))]
    #[allow(clippy::too_many_arguments)]
    fn new(
        py: Python<'_>,
        channel: Py<Channel>,
        serve: Py<PyAny>,
        create_task: Py<PyAny>,
        create_future: Py<PyAny>,
        call_soon: Py<PyAny>,
        on_error: Py<PyAny>,
        on_left: Py<PyAny>,
        on_notice: Option<Py<PyAny>>,
        root_path: &str,
        state: Option<Py<PyDict>>,
    ) -> PyResult<Self> {
        Ok(Self {
            channel,
            builder: Mutex::new(None),
            root_path: root_path.to_owned(),
            state,
            serve,
            create_task,
            create_future,
            call_soon,
            on_error,
            on_left,
            notices: Notices::new(on_notice),
            sent: Py::new(py, Sent)?,
            exchanges: Mutex::new(HashMap::new()),
            stuck: Mutex::new(Vec::new()),
            held: AtomicUsize::new(0),
            wakes: AtomicBool::new(false),
            owed_at: AtomicU64::new(0),
            made: Instant::now(),
        })
    }

    /// The application may hold what holds this gateway.
    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.channel)?;
        visit.call(&self.serve)?;
        visit.call(&self.create_task)?;
        visit.call(&self.create_future)?;
        visit.call(&self.call_soon)?;
        visit.call(&self.on_error)?;
        visit.call(&self.on_left)?;
        self.notices.traverse(&visit)?;
        visit.call(&self.state)?;
        if let Ok(stuck) = self.stuck.try_lock() {
            for exchange in &*stuck {
                visit.call(exchange)?;
            }
        }
        if let Ok(exchanges) = self.exchanges.try_lock() {
            for exchange in exchanges.values() {
                visit.call(exchange)?;
            }
        }
        Ok(())
    }

    /// How many requests are served now.
    #[getter]
    fn busy(&self) -> usize {
        locked(&self.exchanges).len()
    }

    /// Take at most `limit` frames from the channel: begin requests, pass on what comes for those
    /// that are served. To be called when `channel.fileno()` is readable. True: there may be more,
    /// of which `fileno` need not say anything, so call again soon. Raises Retired when there will be
    /// no more requests.
    fn take(slf: &Bound<'_, Self>, limit: usize) -> PyResult<bool> {
        let py = slf.py();
        let this = slf.get();
        // The application had its time to send a body at once. The router wakes us several times a
        // second, so that no head is held back for long.
        if this.held.load(Ordering::Relaxed) > 0 {
            for exchange in this.all(py) {
                Exchange::flush_head(exchange.bind(py))?;
            }
        }
        for _ in 0..limit {
            match this.channel.get().poll_next(py)? {
                Incoming::Request(claimed) => {
                    let ticket = Ticket::new(claimed.id, claimed.generation);
                    let exchange = Exchange::new(slf.clone().unbind(), claimed, ticket)?;
                    Self::begin(slf, &Bound::new(py, exchange)?)?;
                }
                Incoming::Nothing => return Ok(false),
                other => this.pass_on(py, other)?,
            }
        }
        Ok(true)
    }

    /// Wake the router for what this turn of the loop has sent.
    fn wake_router(&self) {
        self.wakes.store(false, Ordering::Relaxed);
        self.channel.get().deliver_wake();
    }

    /// When no more requests are taken: pass on what has come for those that run.
    fn take_rest(&self, py: Python<'_>) -> PyResult<()> {
        loop {
            match self.channel.get().next_of_begun(py)? {
                Incoming::Nothing => return Ok(()),
                other => self.pass_on(py, other)?,
            }
        }
    }

    /// Go on with what waits for room. To be called when `channel.room_fileno()` is readable.
    fn on_room(&self, py: Python<'_>) -> PyResult<()> {
        self.channel.get().clear_room()?;
        let stuck = std::mem::take(&mut *locked(&self.stuck));
        for exchange in stuck {
            Exchange::retry(exchange.bind(py))?;
        }
        // A frame that says so may have found no room in the ring.
        self.notice_left(py)
    }
}

impl Asgi {
    fn begin(slf: &Bound<'_, Self>, exchange: &Bound<'_, Exchange>) -> PyResult<()> {
        let py = slf.py();
        let this = slf.get();
        let spare = locked(&this.builder).take();
        let mut builder = match spare {
            Some(builder) => builder,
            None => {
                let state = this.state.as_ref().map(|state| state.clone_ref(py));
                Builder::new(py, this.root_path.as_bytes(), state)?
            }
        };
        let scope = builder.build(py, &exchange.get().decode()?)?;
        *locked(&this.builder) = Some(builder);
        locked(&this.exchanges).insert(exchange.get().ticket().id, exchange.clone().unbind());
        let coroutine = this.serve.bind(py).call1((scope, exchange))?;
        let task = this.create_task.bind(py).call1((coroutine,))?;
        exchange.get().set_task(task.unbind());
        Ok(())
    }

    /// What the router says about a request that runs, or about itself.
    fn pass_on(&self, py: Python<'_>, incoming: Incoming) -> PyResult<()> {
        match incoming {
            Incoming::Body { id, data, last } => match self.find(py, id) {
                Some(exchange) => exchange.get().deliver(py, data, last),
                None => Ok(()),
            },
            Incoming::Cancel { id, timeout } => match self.find(py, id) {
                Some(exchange) => Exchange::leave(exchange.bind(py), timeout),
                None => Ok(()),
            },
            Incoming::Hello(_) => self.notice_left(py),
            Incoming::Request(_) | Incoming::Stop | Incoming::Nothing => Ok(()),
        }
    }

    fn find(&self, py: Python<'_>, id: u64) -> Option<Py<Exchange>> {
        locked(&self.exchanges).get(&id).map(|exchange| exchange.clone_ref(py))
    }

    fn all(&self, py: Python<'_>) -> Vec<Py<Exchange>> {
        locked(&self.exchanges).values().map(|exchange| exchange.clone_ref(py)).collect()
    }

    /// Tell those whose clients have left, by the flow words or because the router is a new one.
    fn notice_left(&self, py: Python<'_>) -> PyResult<()> {
        for exchange in self.all(py) {
            let this = exchange.get();
            if self.channel.get().is_cancelled(this.ticket()) && !this.has_left() {
                Exchange::leave(exchange.bind(py), false)?;
            }
        }
        Ok(())
    }

    /// Have the loop wake the router when the tasks that are ready have run: one wake-up for all that
    /// they send. In a turn that takes long, those who are done early do not wait for its end.
    fn wake_router_soon(slf: &Bound<'_, Self>) -> PyResult<()> {
        let this = slf.get();
        if !this.channel.get().owes_wake() {
            return Ok(());
        }
        let now = u64::try_from(this.made.elapsed().as_micros()).unwrap_or(u64::MAX);
        if !this.wakes.swap(true, Ordering::Relaxed) {
            this.owed_at.store(now, Ordering::Relaxed);
            let wake = slf.getattr(intern!(slf.py(), "wake_router"))?;
            this.call_soon.bind(slf.py()).call1((wake,))?;
        } else if now.saturating_sub(this.owed_at.load(Ordering::Relaxed)) >= TURN {
            this.owed_at.store(now, Ordering::Relaxed);
            this.channel.get().deliver_wake();
        }
        Ok(())
    }

    fn notices(&self) -> &Notices {
        &self.notices
    }

    fn channel(&self) -> &Py<Channel> {
        &self.channel
    }

    /// What `send` returns when there is nothing to wait for.
    fn sent<'py>(&self, py: Python<'py>) -> Bound<'py, PyAny> {
        self.sent.bind(py).clone().into_any()
    }

    fn create_future<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        self.create_future.bind(py).call0()
    }

    fn add_stuck(&self, exchange: Py<Exchange>) {
        locked(&self.stuck).push(exchange);
    }

    fn hold_head(&self) {
        self.held.fetch_add(1, Ordering::Relaxed);
    }

    fn release_head(&self) {
        self.held.fetch_sub(1, Ordering::Relaxed);
    }

    /// The slot of a request is free.
    fn forget(&self, py: Python<'_>, ticket: &Ticket) -> PyResult<()> {
        let gone = locked(&self.exchanges).remove(&ticket.id);
        drop(gone);
        self.channel.get().finish(py, ticket)
    }

    fn say(&self, py: Python<'_>, message: &str, error: Option<&Bound<'_, PyAny>>, left: bool) {
        let log = if left { &self.on_left } else { &self.on_error };
        if let Err(failure) = log.bind(py).call1((message, error)) {
            failure.write_unraisable(py, None);
        }
    }
}
