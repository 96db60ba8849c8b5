//! The router's end of a channel in Python's hands, for tests and benchmarks of workers.

use std::fs::File;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};
use std::os::unix::fs::FileExt;
use std::sync::Mutex;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use ::channel::link::{END_FDS, RouterEnd as End};
use ::channel::message::{self, Fields, FieldsWriter, Payload, Reason, RequestLine};
use ::channel::ring::PushError;
use pyo3::exceptions::{PyBlockingIOError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict, PyList};

use crate::channel::own;
use crate::errors::{self, ChannelError};
use crate::room::{self, locked};
use crate::text::latin1_bytes;

#[pyclass(frozen, module = "remuda._native")]
pub struct RouterEnd(Mutex<End>);

/// A field of a request: name and value.
type Field = (Vec<u8>, Vec<u8>);

#[pymethods]
impl RouterEnd {
    #[new]
    fn new(fds: [RawFd; END_FDS]) -> PyResult<Self> {
        let end = End::open(own(fds)?).map_err(|error| errors::os(&error))?;
        Ok(Self(Mutex::new(end)))
    }

    /// Attach with this generation: set it and say HELLO.
    fn hello(&self, generation: u32) -> PyResult<()> {
        locked(&self.0).memory.set_generation(generation);
        self.push(message::HELLO, &generation.to_le_bytes()).map(drop)
    }

    /// Set the generation without a HELLO, as a router does that is about to say it.
    fn set_generation(&self, generation: u32) {
        locked(&self.0).memory.set_generation(generation);
    }

    fn ping(&self) -> PyResult<()> {
        self.push(message::PING, &[]).map(drop)
    }

    fn stop(&self) -> PyResult<()> {
        self.push(message::STOP, &[]).map(drop)
    }

    #[pyo3(signature = (id, *, timeout=false))]
    fn cancel(&self, id: u64, timeout: bool) -> PyResult<()> {
        let reason = if timeout { Reason::Timeout } else { Reason::ClientLeft };
        self.push(message::CANCEL, &message::Cancel { id, reason }.encode()).map(drop)
    }

    #[pyo3(signature = (id, data, *, end=false))]
    fn body(&self, id: u64, data: &[u8], end: bool) -> PyResult<()> {
        let mut message = message::Body::prefix(id, if end { message::END } else { 0 }, 0).to_vec();
        message.extend_from_slice(data);
        self.push(message::BODY, &message).map(drop)
    }

    /// Set the flow word of a slot (1: paused, 2: cancelled) and signal it.
    fn flow(&self, slot: usize, word: u32) -> PyResult<()> {
        let end = locked(&self.0);
        let flow = end.memory.flow(slot).ok_or_else(|| PyValueError::new_err("no such slot"))?;
        flow.store(word, Ordering::Release);
        end.signal_room.signal();
        Ok(())
    }

    /// Send raw bytes as a frame of this kind, whatever they are.
    fn push(&self, kind: u16, message: &[u8]) -> PyResult<u64> {
        let mut end = locked(&self.0);
        let position = match end.requests.push(kind, &[message]) {
            Ok(position) => position,
            Err(PushError::Full) => return Err(PyBlockingIOError::new_err("the requests ring is full")),
            Err(error) => return Err(ChannelError::new_err(format!("{error:?}"))),
        };
        if end.requests.must_wake() {
            end.wake_worker.signal();
        }
        Ok(position)
    }

    /// Encode a request for `send`. The fields' names are in lower case.
    #[staticmethod]
    #[pyo3(signature = (
        id, *, method="GET", target="/", fields=Vec::new(), version=11, https=false, script_name="",
        peer="127.0.0.1", peer_port=40000, server="127.0.0.1", server_port=8000, content_length=None, body=None,
        file_length=None, streams=false,
    ))]
    #[allow(clippy::too_many_arguments)]
    fn encode<'py>(
        py: Python<'py>,
        id: u64,
        method: &str,
        target: &str,
        fields: Vec<Field>,
        version: u8,
        https: bool,
        script_name: &str,
        peer: &str,
        peer_port: u16,
        server: &str,
        server_port: u16,
        content_length: Option<u64>,
        body: Option<&[u8]>,
        file_length: Option<u64>,
        streams: bool,
    ) -> PyResult<Bound<'py, PyBytes>> {
        let text = pyo3::types::PyString::new(py, target);
        let target = latin1_bytes(&text).ok_or_else(|| PyValueError::new_err("target is not Latin-1"))?;
        let at = target.iter().position(|byte| *byte == b'?').unwrap_or(target.len());
        let (path, query) = target.split_at(at);
        let body = body.unwrap_or_default();
        let line = RequestLine {
            version,
            https,
            method: method.as_bytes(),
            target,
            path,
            query: query.get(1..).unwrap_or_default(),
            script_name: script_name.as_bytes(),
            peer: peer.as_bytes(),
            peer_port,
            server: server.as_bytes(),
            server_port,
            content_length,
        };
        let too_long = |error: message::TooLong| PyValueError::new_err(error.to_string());
        let mut out = Vec::new();
        message::Request::start(&mut out, &line).map_err(too_long)?;
        let mut writer = FieldsWriter::new(&mut out);
        for (name, value) in &fields {
            writer.push(name, value).map_err(too_long)?;
        }
        writer.finish().map_err(too_long)?;
        message::Request::set_id(&mut out, id);
        let payload = match file_length {
            _ if streams => Payload::Stream,
            Some(length) => Payload::Descriptor(length),
            None => Payload::Inline(body),
        };
        message::Request::set_payload(&mut out, &payload);
        out.extend_from_slice(body);
        Ok(PyBytes::new(py, &out))
    }

    /// Send an encoded request, `copies` times. Returns the position of the last.
    #[pyo3(signature = (message, *, file=None, copies=1))]
    fn send(&self, message: &[u8], file: Option<RawFd>, copies: usize) -> PyResult<u64> {
        if let (Some(file), Some(id)) = (file, message.first_chunk::<8>()) {
            // SAFETY: borrowed for this call only; a number that is no descriptor makes it fail.
            let file = unsafe { BorrowedFd::borrow_raw(file) };
            let id = u64::from_le_bytes(*id);
            locked(&self.0).descriptors.send(id, file).map_err(|error| errors::os(&error))?;
        }
        let mut position = 0;
        for _ in 0..copies {
            position = self.push(message::REQUEST, message)?;
        }
        Ok(position)
    }

    /// Take a request back that was not claimed. Returns whether it was in time.
    fn revoke(&self, position: u64) -> bool {
        locked(&self.0).requests.revoke(position)
    }

    /// Throw away all frames that are there. Returns how many of them were the last of a request.
    fn drain(&self) -> PyResult<usize> {
        let mut end = locked(&self.0);
        let mut done = 0;
        let mut message = Vec::new();
        while let Some(frame) = end.responses.peek().map_err(errors::broken)? {
            message.clear();
            end.responses.read(&frame, &mut message);
            end.responses.release(&frame);
            if let Ok(body) = message::Body::decode(&message)
                && body.flags & message::DONE != 0
            {
                done += 1;
            }
        }
        if end.responses.must_wake() {
            end.signal_room.signal();
        }
        Ok(done)
    }

    /// The next frame from the worker as a dict, or None after `timeout` seconds without one.
    #[pyo3(signature = (timeout=5.0))]
    fn receive<'py>(&self, py: Python<'py>, timeout: f64) -> PyResult<Option<Bound<'py, PyDict>>> {
        let timeout =
            Duration::try_from_secs_f64(timeout).map_err(|error| PyValueError::new_err(error.to_string()))?;
        let until = Instant::now() + timeout;
        loop {
            if let Some(frame) = self.next(py)? {
                return Ok(Some(frame));
            }
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(None);
            }
            if !locked(&self.0).responses.may_sleep() {
                continue;
            }
            let fd = locked(&self.0).wait.as_fd().as_raw_fd();
            let polled = py.detach(|| {
                let mut entries = [room::readable(fd)];
                room::poll(&mut entries, Some(left))
            });
            let end = locked(&self.0);
            end.responses.awake();
            end.wait.clear();
            drop(end);
            polled.map_err(|error| errors::os(&error))?;
            py.check_signals()?;
        }
    }

    /// Was the router woken since the last call? For tests of wake-ups.
    fn was_woken(&self) -> PyResult<bool> {
        let end = locked(&self.0);
        let mut entries = [room::readable(end.wait.as_fd().as_raw_fd())];
        room::poll(&mut entries, Some(Duration::ZERO)).map_err(|error| errors::os(&error))?;
        end.wait.clear();
        Ok(room::is_set(&entries, 0))
    }

    /// Behave like a router that is about to block: the next frame must wake it.
    fn sleep(&self) -> bool {
        locked(&self.0).responses.may_sleep()
    }
}

impl RouterEnd {
    fn next<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyDict>>> {
        let (kind, message, descriptors) = {
            let mut end = locked(&self.0);
            let Some(frame) = end.responses.peek().map_err(errors::broken)? else { return Ok(None) };
            let mut message = Vec::new();
            end.responses.read(&frame, &mut message);
            end.responses.release(&frame);
            if end.responses.must_wake() {
                end.signal_room.signal();
            }
            let file = match frame.kind {
                message::FILE => {
                    let id = message::FileBody::decode(&message).map_err(errors::broken)?.id;
                    Some(end.descriptors.receive_for(id).map_err(|error| errors::os(&error))?)
                }
                _ => None,
            };
            (frame.kind, message, file)
        };
        let out = PyDict::new(py);
        let flags = |flags: u16| -> PyResult<()> {
            out.set_item("end", flags & message::END != 0)?;
            out.set_item("done", flags & message::DONE != 0)?;
            out.set_item("stream", flags & message::STREAM != 0)
        };
        match kind {
            message::READY => {
                let ready = message::Ready::decode(&message).map_err(errors::broken)?;
                out.set_item("kind", "ready")?;
                out.set_item("generation", ready.generation)?;
                out.set_item("busy", ready.busy)?;
            }
            message::HEAD => {
                let head = message::Head::decode(&message).map_err(errors::broken)?;
                out.set_item("kind", "head")?;
                out.set_item("id", head.id)?;
                out.set_item("status", head.status)?;
                out.set_item("reason", PyBytes::new(py, head.reason))?;
                out.set_item("fields", fields(py, &head.fields)?)?;
                out.set_item("data", PyBytes::new(py, head.data))?;
                out.set_item("elapsed", head.elapsed)?;
                flags(head.flags)?;
            }
            message::BODY | message::ABORT => {
                let body = message::Body::decode(&message).map_err(errors::broken)?;
                out.set_item("kind", if kind == message::BODY { "body" } else { "abort" })?;
                out.set_item("id", body.id)?;
                out.set_item("data", PyBytes::new(py, body.data))?;
                out.set_item("elapsed", body.elapsed)?;
                flags(body.flags)?;
            }
            message::FILE => {
                let body = message::FileBody::decode(&message).map_err(errors::broken)?;
                let file = descriptors.ok_or_else(|| ChannelError::new_err("a file without a descriptor"))?;
                let mut data = vec![0; usize::try_from(body.len).unwrap_or(usize::MAX).min(1 << 24)];
                let file = File::from(file);
                let got = file.read_at(&mut data, body.offset).map_err(|error| errors::os(&error))?;
                out.set_item("kind", "file")?;
                out.set_item("id", body.id)?;
                out.set_item("offset", body.offset)?;
                out.set_item("length", body.len)?;
                out.set_item("data", PyBytes::new(py, data.get(..got).unwrap_or_default()))?;
                out.set_item("elapsed", body.elapsed)?;
                flags(body.flags)?;
            }
            message::INTERIM | message::TRAILERS => {
                let section = message::Section::decode(&message).map_err(errors::broken)?;
                out.set_item("kind", if kind == message::INTERIM { "interim" } else { "trailers" })?;
                out.set_item("id", section.id)?;
                out.set_item("status", section.status)?;
                out.set_item("fields", fields(py, &section.fields)?)?;
            }
            message::CREDIT => {
                let credit = message::Credit::decode(&message).map_err(errors::broken)?;
                out.set_item("kind", "credit")?;
                out.set_item("id", credit.id)?;
                out.set_item("bytes", credit.bytes)?;
            }
            kind => return Err(ChannelError::new_err(format!("an unknown kind of frame: {kind}"))),
        }
        Ok(Some(out))
    }
}

fn fields<'py>(py: Python<'py>, fields: &Fields<'_>) -> PyResult<Bound<'py, PyList>> {
    let list = PyList::empty(py);
    for (name, value) in fields.iter() {
        list.append((PyBytes::new(py, name), PyBytes::new(py, value)))?;
    }
    Ok(list)
}
