//! The application's side of a response: `start_response`, `write`, `wsgi.early_hints`.

use std::os::fd::BorrowedFd;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, MutexGuard};

use ::channel::message::{self, DONE, END, FieldsWriter, FileBody, Head, STREAM, Section};
use pyo3::exceptions::{PyAssertionError, PyTypeError};
use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyList, PyString};

use super::headers::{encode_headers, kind_of, status_line, too_long, with_length};
use crate::channel::Channel;
use crate::errors::SendError;
use crate::notices::Notices;
use crate::outbox::{Frame, Ticket, Wake};
use crate::room::locked;
use crate::text::latin1;

/// The most of a body that goes into one frame, in bytes.
const PIECE: usize = 64 << 10;
/// What the application does behind the end of its body (`close()`, the rest of a generator) is slow
/// beyond so many microseconds ...
const SLOW_END: u32 = 500;
/// ... and then the client of this many requests that follow is not made to wait for it.
const WARY: u32 = 1000;

/// Where a response is.
struct State {
    ticket: Option<Ticket>,
    version: u8,
    /// The encoded `HEAD` message: what `start_response` was given.
    head: Vec<u8>,
    status: u16,
    content_length: Option<u64>,
    /// How much of the body was sent, in bytes.
    sent: u64,
    head_sent: bool,
    /// The body is complete.
    ended: bool,
    /// ... since so many microseconds after the request was claimed.
    ended_at: u32,
    /// The application gave more than the Content-Length that it named.
    excess: bool,
}

/// One response, as the application makes it.
#[pyclass(frozen, module = "remuda._native")]
pub struct Response {
    channel: Py<Channel>,
    notices: Arc<Notices>,
    state: Mutex<State>,
}

fn late(what: &str) -> PyErr {
    PyAssertionError::new_err(format!("{what} was called after the response was complete"))
}

fn not_started() -> PyErr {
    PyAssertionError::new_err("the application gave a body before it called start_response")
}

#[pymethods]
impl Response {
    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.channel)
    }

    /// The status line's code, or 0 before `start_response`.
    #[getter]
    fn status_code(&self) -> u16 {
        self.state().status
    }

    /// The status as the application set it, like "200 OK".
    #[getter]
    fn status<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyString>> {
        let status = match Head::decode(&self.state().head) {
            Ok(head) => [head.status.to_string().as_bytes(), b" ", head.reason].concat(),
            Err(_) => Vec::new(),
        };
        latin1(py, &status)
    }

    /// The headers as the application set them.
    #[getter]
    fn headers<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyList>> {
        let mut fields: Vec<(Vec<u8>, Vec<u8>)> = Vec::new();
        if let Ok(head) = Head::decode(&self.state().head) {
            fields.extend(head.fields.iter().map(|(name, value)| (name.to_vec(), value.to_vec())));
        }
        let list = PyList::empty(py);
        for (name, value) in fields {
            list.append((latin1(py, &name)?, latin1(py, &value)?))?;
        }
        Ok(list)
    }

    /// How much of the body was sent, in bytes.
    #[getter]
    fn sent(&self) -> u64 {
        self.state().sent
    }

    /// PEP 3333, "The start_response() Callable".
    #[pyo3(signature = (status, response_headers, exc_info=None))]
    fn start_response<'py>(
        slf: &Bound<'py, Self>,
        status: &Bound<'py, PyAny>,
        response_headers: &Bound<'py, PyAny>,
        exc_info: Option<&Bound<'py, PyAny>>,
    ) -> PyResult<Write> {
        let this = slf.get();
        let exc_info = exc_info.filter(|exc_info| !exc_info.is_none());
        {
            let state = this.state();
            if state.ticket.is_none() {
                return Err(late("start_response"));
            }
            match exc_info {
                // "If exc_info is provided, and the HTTP headers have already been sent,
                // start_response must raise an error, and should raise the exc_info tuple."
                Some(exc_info) if state.head_sent => {
                    drop(state);
                    return Err(reraised(exc_info)?);
                }
                None if state.status != 0 => {
                    return Err(PyAssertionError::new_err(
                        "start_response was called a second time without exc_info",
                    ));
                }
                _ => {}
            }
        }
        let (code, reason) = status_line(status)?;
        let mut state = this.state();
        let Some(ticket) = state.ticket else { return Err(late("start_response")) };
        let mut head = std::mem::take(&mut state.head);
        drop(state);
        let encoded = Head::start(&mut head, ticket.id, code, reason)
            .map_err(too_long)
            .and_then(|()| encode_headers(&mut head, response_headers, &this.notices));
        let mut state = this.state();
        state.head = head;
        // What was refused leaves no head behind, also none of an earlier call.
        state.status = if encoded.is_ok() { code } else { 0 };
        state.content_length = encoded?;
        drop(state);
        Ok(Write(slf.clone().unbind()))
    }

    /// `wsgi.early_hints`: send 103 with these headers now. Nothing happens once the response has
    /// begun, or when the client speaks HTTP/1.0, which has no interim responses.
    fn early_hints(&self, py: Python<'_>, headers: &Bound<'_, PyAny>) -> PyResult<()> {
        let ticket = {
            let state = self.state();
            let Some(ticket) = state.ticket else { return Err(late("wsgi.early_hints")) };
            if state.head_sent || state.version < 11 {
                return Ok(());
            }
            ticket
        };
        let mut out = Vec::new();
        Section::start(&mut out, ticket.id, 103);
        encode_headers(&mut out, headers, &self.notices)?;
        let frame =
            Frame { kind: message::INTERIM, parts: &[&out], obeys_flow: true, file: None, wake: Wake::Now };
        Ok(self.channel.get().send(py, &ticket, &frame)?)
    }
}

/// What `start_response` returns: sends a piece of the body at once.
#[pyclass(frozen, module = "remuda._native")]
pub struct Write(Py<Response>);

#[pymethods]
impl Write {
    fn __call__(&self, py: Python<'_>, data: &Bound<'_, PyAny>) -> PyResult<()> {
        let data = data.cast::<PyBytes>().map_err(|_| not_bytes("write() wants", data))?;
        let data = data.as_bytes();
        if data.is_empty() { Ok(()) } else { Ok(self.0.get().chunk(py, data, false)?) }
    }
}

/// A piece of a body that is no bytes object.
pub(super) fn not_bytes(who: &str, given: &Bound<'_, PyAny>) -> PyErr {
    PyTypeError::new_err(format!("{who} bytes, not {}", kind_of(given)))
}

/// The exception of an `exc_info` tuple, with its traceback.
fn reraised(exc_info: &Bound<'_, PyAny>) -> PyResult<PyErr> {
    let (_, value, traceback): (Bound<'_, PyAny>, Bound<'_, PyAny>, Bound<'_, PyAny>) = exc_info.extract()?;
    let value = value.call_method1(pyo3::intern!(exc_info.py(), "with_traceback"), (traceback,))?;
    Ok(PyErr::from_value(value))
}

impl Response {
    pub(super) fn new(channel: Py<Channel>, notices: Arc<Notices>) -> Self {
        let state = State {
            ticket: None,
            version: 0,
            head: Vec::new(),
            status: 0,
            content_length: None,
            sent: 0,
            head_sent: false,
            ended: false,
            ended_at: 0,
            excess: false,
        };
        Self { channel, notices, state: Mutex::new(state) }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        locked(&self.state)
    }

    /// Begin with a request.
    pub(super) fn begin(&self, ticket: Ticket, version: u8) {
        let mut state = self.state();
        let mut head = std::mem::take(&mut state.head);
        head.clear();
        *state = State {
            ticket: Some(ticket),
            version,
            head,
            status: 0,
            content_length: None,
            sent: 0,
            head_sent: false,
            ended: false,
            ended_at: 0,
            excess: false,
        };
    }

    /// The gateway is done: what the application still holds of this does nothing any more.
    pub(super) fn close(&self) {
        self.state().ticket = None;
    }

    pub(super) fn head_sent(&self) -> bool {
        self.state().head_sent
    }

    pub(super) fn ended(&self) -> bool {
        self.state().ended
    }

    /// Did the application give more than it had announced?
    pub(super) fn excess(&self) -> bool {
        self.state().excess
    }

    /// Send a piece of the body that is not empty, with the head if that was not sent. `only`: it
    /// is the whole body.
    pub(super) fn chunk(&self, py: Python<'_>, data: &[u8], only: bool) -> Result<(), SendError> {
        let flags = {
            let mut state = self.state();
            if state.ticket.is_none() {
                return Err(late("write").into());
            }
            if state.ended {
                state.excess = true;
                return Ok(());
            }
            let sent = state.sent + data.len() as u64;
            if only || state.content_length.is_some_and(|length| sent >= length) { END } else { STREAM }
        };
        self.push(py, data, flags)
    }

    /// Send the whole body, and free the slot.
    pub(super) fn whole(&self, py: Python<'_>, data: &[u8]) -> Result<(), SendError> {
        self.push(py, data, END | DONE)
    }

    /// End the body where it is; `flags` may have DONE.
    pub(super) fn end(&self, py: Python<'_>, flags: u16) -> Result<(), SendError> {
        self.push(py, &[], END | flags)
    }

    /// Send a part of a file as the body, and free the slot.
    pub(super) fn file(
        &self,
        py: Python<'_>,
        file: BorrowedFd<'_>,
        offset: u64,
        rest: u64,
    ) -> Result<(), SendError> {
        let (ticket, len) = {
            let mut state = self.state();
            let ticket = state.ticket.ok_or_else(|| late("the gateway"))?;
            if state.status == 0 {
                return Err(not_started().into());
            }
            let left = state.content_length.map(|length| length.saturating_sub(state.sent));
            let len = left.map_or(rest, |left| left.min(rest));
            if !state.head_sent && state.content_length.is_none() {
                let head = with_length(&state.head, len)?;
                state.head = head;
                state.content_length = Some(len);
            }
            (ticket, len)
        };
        if len == 0 {
            return self.end(py, 0);
        }
        if !self.head_sent() {
            self.push(py, &[], 0)?;
        }
        let body = FileBody { id: ticket.id, flags: END, elapsed: ticket.elapsed(), offset, len };
        let message = body.encode();
        let frame = Frame {
            kind: message::FILE,
            parts: &[&message],
            obeys_flow: true,
            file: Some(file),
            wake: self.at_end(),
        };
        self.channel.get().send(py, &ticket, &frame)?;
        let mut state = self.state();
        state.sent += len;
        state.ended = true;
        state.ended_at = ticket.elapsed();
        Ok(())
    }

    /// Only free the slot.
    pub(super) fn done(&self, py: Python<'_>) -> Result<(), SendError> {
        self.last(py, message::BODY, DONE)
    }

    /// Give up: cut the response, and free the slot.
    pub(super) fn abort(&self, py: Python<'_>) -> Result<(), SendError> {
        self.last(py, message::ABORT, DONE)
    }

    fn last(&self, py: Python<'_>, kind: u16, flags: u16) -> Result<(), SendError> {
        let (ticket, ended_at) = {
            let state = self.state();
            (state.ticket.ok_or_else(|| late("the gateway"))?, state.ended.then_some(state.ended_at))
        };
        let elapsed = ticket.elapsed();
        if ended_at.is_some_and(|at| elapsed.saturating_sub(at) >= SLOW_END) {
            self.channel.get().slow_ends.store(WARY, Ordering::Relaxed);
        }
        let prefix = message::Body::prefix(ticket.id, flags, elapsed);
        let frame = Frame { kind, parts: &[&prefix], obeys_flow: false, file: None, wake: Wake::Soon };
        self.channel.get().send(py, &ticket, &frame)
    }

    /// When the router is woken for the end of a body behind which `close()` is called: with the frame
    /// that frees the slot, unless one of the last requests was slow to get there.
    fn at_end(&self) -> Wake {
        let ends = &self.channel.get().slow_ends;
        match ends.load(Ordering::Relaxed) {
            0 => Wake::Later,
            // Other threads count, too: a count that is lost does no harm.
            left => {
                ends.store(left - 1, Ordering::Relaxed);
                Wake::Soon
            }
        }
    }

    /// Answer 500 in place of what the application has begun, and free the slot.
    pub(super) fn fail(&self, py: Python<'_>) -> Result<(), SendError> {
        const PAGE: &[u8] =
            b"<html>\n  <head>\n    <title>Internal Server Error</title>\n  </head>\n  <body>\n    \
            <h1>Internal Server Error</h1>\n  </body>\n</html>\n";
        {
            let mut state = self.state();
            let ticket = state.ticket.ok_or_else(|| late("the gateway"))?;
            state.status = 500;
            state.content_length = Some(PAGE.len() as u64);
            let head = &mut state.head;
            let length = PAGE.len().to_string();
            Head::start(head, ticket.id, 500, b"Internal Server Error").map_err(too_long)?;
            let mut writer = FieldsWriter::new(head);
            writer.push(b"Content-Type", b"text/html; charset=utf-8").map_err(too_long)?;
            writer.push(b"Content-Length", length.as_bytes()).map_err(too_long)?;
            writer.finish().map_err(too_long)?;
        }
        self.whole(py, PAGE)
    }

    /// Send a piece of the body in as many frames as it needs, the head in the first of them.
    /// `flags` go with the last one; STREAM means that it must not wait for more.
    fn push(&self, py: Python<'_>, data: &[u8], flags: u16) -> Result<(), SendError> {
        let (ticket, mut head) = {
            let mut state = self.state();
            let ticket = state.ticket.ok_or_else(|| late("write"))?;
            if state.status == 0 {
                return Err(not_started().into());
            }
            let head = (!state.head_sent).then(|| std::mem::take(&mut state.head));
            state.head_sent = true;
            if flags & END != 0 {
                state.ended = true;
                state.ended_at = if flags & DONE == 0 { ticket.elapsed() } else { 0 };
            }
            state.sent += data.len() as u64;
            (ticket, head)
        };
        let mut begun = false;
        let result = self.push_frames(py, &ticket, head.as_mut(), data, flags, &mut begun);
        if head.is_none() && result.is_ok() {
            return Ok(());
        }
        let mut state = self.state();
        let has_head = head.is_some();
        if let Some(head) = head {
            state.head = head;
        }
        if result.is_err() {
            // The frame that was to end the body was not sent; perhaps none was.
            state.ended = false;
            if !begun {
                state.head_sent &= !has_head;
                state.sent = state.sent.saturating_sub(data.len() as u64);
            }
        }
        result
    }

    fn push_frames(
        &self,
        py: Python<'_>,
        ticket: &Ticket,
        head: Option<&mut Vec<u8>>,
        data: &[u8],
        flags: u16,
        begun: &mut bool,
    ) -> Result<(), SendError> {
        let channel = self.channel.get();
        let wake = match flags {
            _ if flags & STREAM != 0 => Wake::Now,
            END => self.at_end(),
            _ => Wake::Soon,
        };
        let beside = channel.max_payload.saturating_sub(head.as_ref().map_or(16, |head| head.len()));
        let (piece, mut rest) = data.split_at(data.len().min(PIECE).min(beside));
        let now = |rest: &[u8]| if rest.is_empty() { flags } else { flags & STREAM };
        let elapsed = |flags: u16| if flags & DONE == 0 { 0 } else { ticket.elapsed() };
        let send = |kind: u16, first: &[u8], second: &[u8], last: bool| {
            let parts = [first, second];
            let wake = if last { wake } else { Wake::Now };
            let frame = Frame { kind, parts: &parts, obeys_flow: true, file: None, wake };
            channel.send(py, ticket, &frame)
        };
        match head {
            Some(head) => {
                Head::set_flags(head, now(rest), elapsed(now(rest)));
                send(message::HEAD, head, piece, rest.is_empty())?;
            }
            None => {
                let flags = now(rest);
                let prefix = message::Body::prefix(ticket.id, flags & !STREAM, elapsed(flags));
                send(message::BODY, &prefix, piece, rest.is_empty())?;
            }
        }
        *begun = true;
        while !rest.is_empty() {
            let (piece, left) = rest.split_at(rest.len().min(PIECE));
            rest = left;
            let flags = now(rest);
            let prefix = message::Body::prefix(ticket.id, flags & !STREAM, elapsed(flags));
            send(message::BODY, &prefix, piece, rest.is_empty())?;
        }
        Ok(())
    }
}
