//! The worker's end of its channel, as Python sees it.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, IntoRawFd, OwnedFd, RawFd};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

use ::channel::descriptors::Descriptors;
use ::channel::link::{END_FDS, Files, WorkerEnd};
use ::channel::memory::{CANCELLED, Layout, MAX_SLOTS, Memory};
use ::channel::wake::{Signal, Wait};
use pyo3::exceptions::PyValueError;
use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::prelude::*;
use pyo3::types::PyBytes;

use crate::errors::{self, ChannelError, Retired, SendError};
use crate::fork::Home;
use crate::inbox::{Inbox, Incoming};
use crate::outbox::{Attempt, Frame, Outbox, Ticket, Wake};
use crate::request::Request;
use crate::room::{self, Room, locked};

/// The longest that anything blocks before it looks around: whether it should stop, whether a new
/// router has come.
const SLICE: Duration = Duration::from_secs(1);
/// How many exceptions may interrupt the sending of a frame that must be sent.
const INTERRUPTIONS: u32 = 16;

/// Slots of a channel beyond those of its worker: for requests that the router hands out ahead.
const AHEAD: usize = 64;

/// Make a channel for a worker with so many slots: the descriptors of the router's end and of the
/// worker's end, all of them close-on-exec. They belong to the caller.
#[pyfunction]
pub fn channel_files(slots: usize) -> PyResult<([RawFd; END_FDS], [RawFd; END_FDS])> {
    if slots == 0 || slots > MAX_SLOTS {
        return Err(PyValueError::new_err(format!("slots must be from 1 to {MAX_SLOTS}")));
    }
    // A ring takes frames of up to half its size. Small rings stay in the processor's cache; with
    // many slots there is room for a kilobyte each.
    let ring = (slots * 1024).next_power_of_two().clamp(256 << 10, 1 << 20);
    let layout = Layout { slots: (slots + AHEAD).min(MAX_SLOTS), requests: ring, responses: ring };
    let files = Files::create(layout).map_err(|not| errors::os_of(&not.what, &not.error))?;
    Ok((files.router.map(IntoRawFd::into_raw_fd), files.worker.map(IntoRawFd::into_raw_fd)))
}

/// Take over the descriptors of one end of a channel.
pub(crate) fn own(fds: [RawFd; END_FDS]) -> PyResult<[OwnedFd; END_FDS]> {
    for fd in fds {
        // SAFETY: a plain fcntl, which fails for a number that is no open descriptor.
        if unsafe { libc::fcntl(fd, libc::F_GETFD) } < 0 {
            return Err(errors::os(&io::Error::last_os_error()));
        }
    }
    // SAFETY: all of them are open; the caller hands them over, as the documentation says.
    Ok(fds.map(|fd| unsafe { OwnedFd::from_raw_fd(fd) }))
}

/// What the router says about a request that was taken.
#[pyclass(frozen, module = "remuda._native")]
pub struct Event {
    #[pyo3(get)]
    kind: &'static str,
    #[pyo3(get)]
    id: u64,
    #[pyo3(get)]
    last: bool,
    #[pyo3(get)]
    reason: &'static str,
    data: Vec<u8>,
}

#[pymethods]
impl Event {
    #[getter]
    fn data<'py>(&self, py: Python<'py>) -> Bound<'py, PyBytes> {
        PyBytes::new(py, &self.data)
    }
}

/// Which thread waits for frames; the others wait for their turn.
#[derive(Default)]
struct Turn {
    queue: Mutex<Queue>,
    free: Condvar,
}

#[derive(Default)]
struct Queue {
    taken: bool,
    /// Threads that wait: with none there is nobody to notify, which would cost a system call.
    waiting: usize,
}

/// Held by the thread whose turn it is, until it has taken a frame.
struct Leading<'a>(&'a Turn);

impl Drop for Leading<'_> {
    fn drop(&mut self) {
        let mut queue = locked(&self.0.queue);
        queue.taken = false;
        if queue.waiting > 0 {
            self.0.free.notify_one();
        }
    }
}

#[pyclass(frozen, module = "remuda._native")]
pub struct Channel {
    memory: Arc<Memory>,
    inbox: Mutex<Inbox>,
    outbox: Mutex<Outbox>,
    descriptors: Descriptors,
    wait: Wait,
    wake_router: Signal,
    room: Room,
    turn: Turn,
    /// Interrupts whoever waits for frames: written by `stop`, and by Python on each signal.
    nudged: OwnedFd,
    nudge: OwnedFd,
    retired: AtomicBool,
    /// Requests that were claimed and are not done.
    busy: AtomicU32,
    /// Responses were sent without waking the router, because more requests were there.
    wake_owed: AtomicBool,
    /// For so many requests more a slow end is expected: see `wsgi::response`.
    pub(crate) slow_ends: AtomicU32,
    wait_room: Mutex<Option<Py<PyAny>>>,
    /// The worker. In a process that was forked from it, nothing here acts.
    home: Home,
    on_fork: Mutex<Option<Py<PyAny>>>,
    /// The largest frame that can be sent, in bytes.
    pub(crate) max_payload: usize,
}

#[pymethods]
impl Channel {
    #[new]
    fn new(fds: [RawFd; END_FDS]) -> PyResult<Self> {
        let end = WorkerEnd::open(own(fds)?).map_err(|error| errors::os(&error))?;
        let (nudged, nudge) = pipe().map_err(|error| errors::os(&error))?;
        let home = Home::here().map_err(|error| errors::os(&error))?;
        Ok(Self {
            max_payload: end.responses.max_payload(),
            inbox: Mutex::new(Inbox::new(end.requests, &end.memory)),
            outbox: Mutex::new(Outbox::new(end.responses, &end.memory)),
            memory: end.memory,
            descriptors: end.descriptors,
            wait: end.wait,
            wake_router: end.wake_router,
            room: Room::new(end.room),
            turn: Turn::default(),
            nudged,
            nudge,
            retired: AtomicBool::new(false),
            busy: AtomicU32::new(0),
            wake_owed: AtomicBool::new(false),
            slow_ends: AtomicU32::new(0),
            wait_room: Mutex::new(None),
            home,
            on_fork: Mutex::new(None),
        })
    }

    /// What to call when there is no room or the client reads slowly; None: block the thread.
    #[getter]
    fn wait_room(&self, py: Python<'_>) -> Option<Py<PyAny>> {
        locked(&self.wait_room).as_ref().map(|wait| wait.clone_ref(py))
    }

    #[setter]
    fn set_wait_room(&self, wait: Option<Py<PyAny>>) {
        let before = std::mem::replace(&mut *locked(&self.wait_room), wait);
        drop(before);
    }

    /// What to call when the application comes back in a process that it has forked.
    #[getter]
    fn on_fork(&self, py: Python<'_>) -> Option<Py<PyAny>> {
        locked(&self.on_fork).as_ref().map(|leave| leave.clone_ref(py))
    }

    #[setter]
    fn set_on_fork(&self, leave: Option<Py<PyAny>>) {
        let before = std::mem::replace(&mut *locked(&self.on_fork), leave);
        drop(before);
    }

    /// What is called may hold what holds this channel.
    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        for called in [&self.wait_room, &self.on_fork] {
            if let Ok(called) = called.try_lock() {
                visit.call(&*called)?;
            }
        }
        Ok(())
    }

    /// Is this a process that was forked from the worker?
    #[getter]
    fn forked(&self) -> bool {
        self.is_forked()
    }

    /// In a process that was forked from the worker: let go of the descriptors that it shares.
    ///
    /// Their numbers stay taken, by something that never becomes readable: whoever knows them, as
    /// an event loop does, must not come upon a file that the child opens later.
    fn let_go(&self) -> PyResult<()> {
        if !self.is_forked() {
            return Err(ChannelError::new_err("the channel belongs to this process"));
        }
        let (_signal, silent) = ::channel::wake::pair().map_err(|error| errors::os(&error))?;
        for fd in [
            self.wait.as_fd(),
            self.room.wake().as_fd(),
            self.wake_router.as_fd(),
            self.descriptors.as_fd(),
            self.nudged.as_fd(),
            self.nudge.as_fd(),
        ] {
            replace(fd, silent.as_fd()).map_err(|error| errors::os(&error))?;
        }
        Ok(())
    }

    /// How many requests were taken and are not done.
    #[getter]
    fn busy(&self) -> u32 {
        self.busy.load(Ordering::Relaxed)
    }

    /// Will there be no more requests?
    #[getter]
    fn retired(&self) -> bool {
        self.is_retired()
    }

    /// The next request, claimed. Blocks without the GIL for at most `timeout` seconds.
    #[pyo3(signature = (timeout=None))]
    fn take(&self, py: Python<'_>, timeout: Option<f64>) -> PyResult<Option<Request>> {
        let mut until = None;
        let mut leading = None;
        loop {
            match self.next(py)? {
                Incoming::Request(claimed) => return Ok(Some(Request::new(claimed)?)),
                Incoming::Nothing => {}
                // A class that takes requests with `take` has no streamed bodies, and learns from
                // the flow word that a request was cancelled.
                _ => continue,
            }
            if let Some(seconds) = timeout {
                let until = match until {
                    Some(until) => until,
                    None => *until.insert(Instant::now() + seconds_of(seconds)?),
                };
                if Instant::now() >= until {
                    return Ok(None);
                }
            }
            leading = py.detach(|| self.block(leading, until))?;
            py.check_signals()?;
        }
    }

    /// For event loops: the next request or event, or None when there is none. Only after None does
    /// `fileno` become readable when there is more.
    fn take_nowait<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyAny>>> {
        loop {
            let event = match self.poll_next(py)? {
                Incoming::Request(claimed) => {
                    let request = Bound::new(py, Request::new(claimed)?)?;
                    return Ok(Some(request.into_any()));
                }
                Incoming::Body { id, data, last } => Event { kind: "body", id, data, last, reason: "" },
                Incoming::Cancel { id, timeout } => {
                    let reason = if timeout { "timeout" } else { "left" };
                    Event { kind: "cancel", id, data: Vec::new(), last: true, reason }
                }
                Incoming::Hello(_) | Incoming::Stop => continue,
                Incoming::Nothing => return Ok(None),
            };
            return Ok(Some(Bound::new(py, event)?.into_any()));
        }
    }

    /// Take no more requests: every `take` raises Retired from now on. Safe in a signal handler.
    fn stop(&self) {
        self.retired.store(true, Ordering::Relaxed);
        // A pipe that is full wakes as well, and one that is closed needs no waking.
        // SAFETY: writes one byte of a live buffer to a descriptor that we own.
        let _ = unsafe { libc::write(self.nudge.as_raw_fd(), [1_u8].as_ptr().cast(), 1) };
    }

    /// Becomes readable when there may be requests or events.
    fn fileno(&self) -> RawFd {
        self.wait.as_fd().as_raw_fd()
    }

    /// Becomes readable, or hangs up, when arbiter and router are dead.
    fn hangup_fileno(&self) -> RawFd {
        self.descriptors.as_fd().as_raw_fd()
    }

    /// For `signal.set_wakeup_fd`: what is written to it interrupts `take`.
    fn wakeup_fileno(&self) -> RawFd {
        self.nudge.as_raw_fd()
    }

    /// Becomes readable when there may be room for sending again.
    fn room_fileno(&self) -> RawFd {
        self.room.wake().as_fd().as_raw_fd()
    }

    /// Forget the signals of `room_fileno`.
    pub(crate) fn clear_room(&self) -> PyResult<()> {
        if self.is_forked() {
            return Ok(());
        }
        self.room.clear();
        let wake = {
            let mut outbox = locked(&self.outbox);
            outbox.push_ready()?;
            outbox.responses.must_wake()
        };
        if wake {
            self.wake_router.signal();
        }
        Ok(())
    }
}

impl Channel {
    /// A process that was forked from the worker gets no requests either.
    fn is_retired(&self) -> bool {
        self.retired.load(Ordering::Relaxed) || self.is_forked()
    }

    pub(crate) fn is_forked(&self) -> bool {
        self.home.is_left()
    }

    /// The application has come back, with `error` if it raised. In a process that was forked from
    /// the worker that is the end: `on_fork` does not return.
    pub(crate) fn came_back<T>(&self, py: Python<'_>, called: PyResult<T>) -> PyResult<T> {
        if !self.is_forked() {
            return called;
        }
        if let Some(leave) = self.on_fork(py) {
            leave.call1(py, (called.err().map(|error| error.into_value(py)),))?;
        }
        Err(ChannelError::new_err("this process was forked from a worker, and is none"))
    }

    /// The next frame for us, without blocking. Answers HELLO.
    fn next(&self, py: Python<'_>) -> PyResult<Incoming> {
        if self.is_retired() {
            return Err(Retired::new_err("there will be no more requests"));
        }
        let (incoming, starving) = {
            let mut inbox = locked(&self.inbox);
            let incoming = inbox.next(&self.memory, &self.descriptors)?;
            let read = !matches!(incoming, Incoming::Nothing);
            (incoming, read && inbox.requests.must_wake())
        };
        if starving {
            self.wake_router.signal();
        }
        match &incoming {
            Incoming::Request(_) => {
                self.busy.fetch_add(1, Ordering::Relaxed);
                if self.wake_owed.load(Ordering::Relaxed) && !self.has_more() {
                    self.deliver_wake();
                }
            }
            Incoming::Hello(generation) => self.say_ready(py, *generation)?,
            Incoming::Stop => self.retired.store(true, Ordering::Relaxed),
            _ => {}
        }
        Ok(incoming)
    }

    /// For event loops: the next frame, without blocking. After `Nothing`, `fileno` becomes readable
    /// when there is more, and the router knows of all that was sent. Before it, `fileno` says
    /// nothing: its signal may be forgotten already, and a frame come just then be what this gives.
    pub(crate) fn poll_next(&self, py: Python<'_>) -> PyResult<Incoming> {
        loop {
            let incoming = self.next(py)?;
            if !matches!(incoming, Incoming::Nothing) {
                return Ok(incoming);
            }
            self.deliver_wake();
            self.wait.clear();
            if locked(&self.inbox).requests.may_sleep() {
                if room::is_hung_up(self.descriptors.as_fd()) {
                    self.retired.store(true, Ordering::Relaxed);
                    continue;
                }
                return Ok(incoming);
            }
        }
    }

    /// For event loops that take no more requests: the next frame about one that was begun.
    pub(crate) fn next_of_begun(&self, py: Python<'_>) -> PyResult<Incoming> {
        if self.is_forked() {
            return Ok(Incoming::Nothing);
        }
        let (incoming, starving) = {
            let mut inbox = locked(&self.inbox);
            let incoming = inbox.next_of_begun(&self.memory, &self.descriptors)?;
            let read = !matches!(incoming, Incoming::Nothing);
            (incoming, read && inbox.requests.must_wake())
        };
        if starving {
            self.wake_router.signal();
        }
        self.deliver_wake();
        if let Incoming::Hello(generation) = &incoming {
            self.say_ready(py, *generation)?;
        }
        Ok(incoming)
    }

    /// For event loops: send one frame if there is room now. After `Wait`, `room_fileno` becomes
    /// readable when there may be. A router that sleeps is woken by [`Channel::deliver_wake`], once
    /// for all that a turn of the loop sends.
    pub(crate) fn try_send(&self, ticket: &Ticket, frame: &Frame<'_>) -> Result<Attempt, SendError> {
        if self.is_forked() {
            return Err(SendError::Gone);
        }
        let attempt = locked(&self.outbox).attempt(&self.memory, &self.descriptors, ticket, frame)?;
        self.wake_owed.store(true, Ordering::Relaxed);
        if attempt == Attempt::Wait || frame.wake == Wake::Now {
            self.deliver_wake();
        }
        Ok(attempt)
    }

    /// Is there something that the router was not woken for?
    pub(crate) fn owes_wake(&self) -> bool {
        self.wake_owed.load(Ordering::Relaxed)
    }

    /// Has the router said that nobody wants this response any more?
    pub(crate) fn is_cancelled(&self, ticket: &Ticket) -> bool {
        let flow = self.memory.flow((ticket.id & 0xffff) as usize);
        ticket.generation != self.memory.generation()
            || flow.is_some_and(|flow| flow.load(Ordering::Acquire) & CANCELLED != 0)
    }

    /// Block until there may be frames. Called without the GIL. The thread leads until it drops
    /// what this returns, so that it can take its frame before another one begins to wait.
    fn block<'a>(
        &'a self,
        leading: Option<Leading<'a>>,
        until: Option<Instant>,
    ) -> PyResult<Option<Leading<'a>>> {
        let left = || match until {
            Some(until) => SLICE.min(until.saturating_duration_since(Instant::now())),
            None => SLICE,
        };
        let leading = match leading {
            Some(leading) => leading,
            None => {
                let mut queue = locked(&self.turn.queue);
                if queue.taken {
                    queue.waiting += 1;
                    queue =
                        self.turn.free.wait_timeout(queue, left()).unwrap_or_else(PoisonError::into_inner).0;
                    queue.waiting -= 1;
                    if queue.taken {
                        return Ok(None);
                    }
                }
                queue.taken = true;
                Leading(&self.turn)
            }
        };
        self.deliver_wake();
        if self.is_retired() || !locked(&self.inbox).requests.may_sleep() {
            return Ok(Some(leading));
        }
        let mut entries = [
            room::readable(self.wait.as_fd().as_raw_fd()),
            room::readable(self.nudged.as_raw_fd()),
            room::hang_up(self.descriptors.as_fd()),
        ];
        let polled = room::poll(&mut entries, Some(left()));
        locked(&self.inbox).requests.awake();
        if room::is_set(&entries, 0) {
            self.wait.clear();
        }
        if room::is_set(&entries, 1) {
            drain(&self.nudged);
        }
        if room::is_set(&entries, 2) {
            self.retired.store(true, Ordering::Relaxed);
        }
        match polled {
            Err(error) if error.kind() != io::ErrorKind::Interrupted => Err(errors::os(&error)),
            _ => Ok(Some(leading)),
        }
    }

    /// Tell the router that attached that requests may come. An event loop does not wait for room:
    /// READY then goes with the next frame, or when there is room.
    fn say_ready(&self, py: Python<'_>, generation: u32) -> PyResult<()> {
        locked(&self.outbox).ready(generation, self.busy.load(Ordering::Relaxed));
        loop {
            let epoch = self.room.epoch();
            let pushed = locked(&self.outbox).push_ready()?;
            self.wake_owed.store(true, Ordering::Relaxed);
            self.deliver_wake();
            let is_loop = locked(&self.wait_room).is_some();
            if pushed == Attempt::Sent || is_loop || self.memory.generation() != generation {
                return Ok(());
            }
            self.wait_for_room(py, epoch)?;
        }
    }

    /// Wake the router if it sleeps on what it was not woken for.
    pub(crate) fn deliver_wake(&self) {
        if self.wake_owed.swap(false, Ordering::Relaxed) && locked(&self.outbox).responses.must_wake() {
            self.wake_router.signal();
        }
    }

    /// Send one frame of a response, waiting for room and for a client that reads slowly.
    pub(crate) fn send(&self, py: Python<'_>, ticket: &Ticket, frame: &Frame<'_>) -> Result<(), SendError> {
        let mut interrupted = 0;
        loop {
            self.came_back(py, Ok(()))?;
            let epoch = self.room.epoch();
            let (attempt, wake) = {
                let mut outbox = locked(&self.outbox);
                let attempt = outbox.attempt(&self.memory, &self.descriptors, ticket, frame)?;
                let may_wait = match frame.wake {
                    Wake::Now => false,
                    // There is a request that nobody has begun: whoever takes the last such wakes the
                    // router. Should nobody come to that for long, it looks by itself: each
                    // millisecond while a worker has more than it has slots, or while an event loop
                    // leaves requests unread. Nobody would once no more requests are taken.
                    Wake::Soon => !self.is_retired() && self.has_more(),
                    Wake::Later => true,
                };
                let owed = attempt == Attempt::Sent && may_wait;
                self.wake_owed.store(owed, Ordering::Relaxed);
                (attempt, !owed && outbox.responses.must_wake())
            };
            if wake {
                self.wake_router.signal();
            }
            if attempt == Attempt::Sent {
                return Ok(());
            }
            match self.wait_for_room(py, epoch) {
                Ok(false) => {}
                Ok(true) => return Err(SendError::Gone),
                // What frees the slot must go. An exception that comes now, from a timeout that the
                // application has left running in its greenlet, is nobody's any more.
                Err(error)
                    if !frame.obeys_flow && !errors::is_exit(py, &error) && interrupted < INTERRUPTIONS =>
                {
                    interrupted += 1;
                    error.write_unraisable(py, None);
                }
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// Is there another request that can be begun? False also while another thread looks.
    fn has_more(&self) -> bool {
        self.inbox.try_lock().is_ok_and(|mut inbox| inbox.has_request())
    }

    /// Wait until there may be room. Returns whether arbiter and router are dead.
    fn wait_for_room(&self, py: Python<'_>, epoch: u64) -> PyResult<bool> {
        if let Some(wait) = self.wait_room(py) {
            wait.bind(py).call0()?;
            return Ok(room::is_hung_up(self.descriptors.as_fd()));
        }
        let peer = self.descriptors.as_fd();
        let dead = py.detach(|| self.room.block(epoch, peer, SLICE)).map_err(|error| errors::os(&error))?;
        py.check_signals()?;
        Ok(dead)
    }

    /// A request is done. The router that it came from has got `DONE`; when that one is dead, its
    /// successor, which counts the request as held, is told here.
    pub(crate) fn finish(&self, py: Python<'_>, ticket: &Ticket) -> PyResult<()> {
        if self.is_forked() {
            return Ok(());
        }
        self.busy.fetch_sub(1, Ordering::Relaxed);
        loop {
            let epoch = self.room.epoch();
            let pushed = locked(&self.outbox).push_stale_done(ticket)?;
            if pushed.is_some() {
                self.wake_owed.store(true, Ordering::Relaxed);
                self.deliver_wake();
            }
            if pushed != Some(Attempt::Wait) {
                return Ok(());
            }
            if self.wait_for_room(py, epoch)? {
                return Ok(());
            }
        }
    }
}

fn seconds_of(seconds: f64) -> PyResult<Duration> {
    Duration::try_from_secs_f64(seconds)
        .map_err(|error| PyValueError::new_err(format!("timeout {seconds}: {error}")))
}

/// A pipe: the end to read from, the end to write to.
fn pipe() -> io::Result<(OwnedFd, OwnedFd)> {
    let mut fds = [0; 2];
    // SAFETY: two fresh descriptors, checked, and ours alone.
    unsafe {
        if libc::pipe(fds.as_mut_ptr()) < 0 {
            return Err(io::Error::last_os_error());
        }
        for fd in fds {
            libc::fcntl(fd, libc::F_SETFD, libc::FD_CLOEXEC);
            libc::fcntl(fd, libc::F_SETFL, libc::O_NONBLOCK);
        }
        let [read, write] = fds;
        Ok((OwnedFd::from_raw_fd(read), OwnedFd::from_raw_fd(write)))
    }
}

/// Have the number of `fd` mean what `by` is from now on, in this process.
fn replace(fd: BorrowedFd<'_>, by: BorrowedFd<'_>) -> io::Result<()> {
    // SAFETY: both are open. The number stays open and owned by whom it was; what it meant is
    // closed, and nobody else in this process has it.
    unsafe {
        if libc::dup2(by.as_raw_fd(), fd.as_raw_fd()) < 0
            || libc::fcntl(fd.as_raw_fd(), libc::F_SETFD, libc::FD_CLOEXEC) < 0
        {
            return Err(io::Error::last_os_error());
        }
    }
    Ok(())
}

fn drain(fd: &OwnedFd) {
    let mut buffer = [0_u8; 512];
    // Nothing to read is as good as read.
    // SAFETY: reads into a live buffer from a non-blocking descriptor that we own.
    let _ = unsafe { libc::read(fd.as_raw_fd(), buffer.as_mut_ptr().cast(), buffer.len()) };
}
