//! `wsgi.input`: a request's body, to be read.

use std::fs::File;
use std::io;
use std::mem::ManuallyDrop;
use std::os::fd::{AsRawFd, FromRawFd, RawFd};
use std::os::unix::fs::FileExt;
use std::sync::Mutex;

use ::channel::message::Payload;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyList};

use crate::errors;
use crate::request::Request;
use crate::room::locked;

/// How much of a file is read at a time while looking for the end of a line, in bytes.
const BLOCK: usize = 64 << 10;

enum Source {
    /// It is in the request's message.
    Inline,
    /// It is a file, by the descriptor that the request owns.
    File(RawFd),
}

/// Where reading is. The buffer holds bytes of the file from `position` on, and is empty when the
/// body is inline.
struct Cursor {
    position: u64,
    buffer: Vec<u8>,
    /// How much of the buffer was read.
    used: usize,
}

/// "An input stream (file-like object) from which the HTTP request body bytes can be read, one byte
/// at a time or many" (PEP 3333, "Input and Error Streams"). It ends where the body ends.
#[pyclass(frozen, module = "remuda._native")]
pub struct Input {
    request: Option<Py<Request>>,
    source: Source,
    len: u64,
    cursor: Mutex<Cursor>,
}

impl Input {
    fn make(request: Option<Py<Request>>, source: Source, len: u64) -> Self {
        let cursor = Mutex::new(Cursor { position: 0, buffer: Vec::new(), used: 0 });
        Self { request, source, len, cursor }
    }

    /// The body of a request without one. It can be shared: it has no state.
    pub(super) fn empty() -> Self {
        Self::make(None, Source::Inline, 0)
    }

    pub(super) fn new(request: &Bound<'_, Request>, payload: &Payload<'_>) -> PyResult<Self> {
        let wrong = |what| Err(errors::ChannelError::new_err(what));
        let (source, len) = match payload {
            Payload::Inline(body) => (Source::Inline, body.len() as u64),
            Payload::Descriptor(len) => match &request.get().file {
                Some(file) => (Source::File(file.as_raw_fd()), *len),
                None => return wrong("a request's body is a file, but no file came"),
            },
            Payload::Stream => return wrong("a streamed request body came to a WSGI worker"),
        };
        Ok(Self::make(Some(request.clone().unbind()), source, len))
    }

    /// The next bytes: at most `limit` of them, fewer at the end only.
    fn take<'py>(&self, py: Python<'py>, limit: Option<u64>) -> PyResult<Bound<'py, PyBytes>> {
        let (position, len, begun) = {
            let mut cursor = locked(&self.cursor);
            let left = self.len - cursor.position;
            let len = limit.map_or(left, |limit| limit.min(left));
            let position = cursor.position;
            let begun = cursor.unbuffer(len);
            cursor.position += len;
            (position, len, begun)
        };
        let wanted = usize::try_from(len).unwrap_or(usize::MAX);
        let Source::File(fd) = self.source else {
            let body = self.inline();
            let at = usize::try_from(position).unwrap_or(usize::MAX);
            return Ok(PyBytes::new(
                py,
                body.get(at..).and_then(|rest| rest.get(..wanted)).unwrap_or_default(),
            ));
        };
        if begun.len() == wanted {
            return Ok(PyBytes::new(py, &begun));
        }
        PyBytes::new_with(py, wanted, |out| {
            let (first, rest) = out.split_at_mut(begun.len().min(out.len()));
            first.copy_from_slice(&begun);
            py.detach(|| read_at(fd, rest, position + begun.len() as u64)).map_err(|error| errors::os(&error))
        })
    }

    /// The next line, or at most `limit` bytes of it.
    fn line<'py>(&self, py: Python<'py>, limit: Option<u64>) -> PyResult<Bound<'py, PyBytes>> {
        let Source::File(fd) = self.source else {
            let position = locked(&self.cursor).position;
            let rest =
                usize::try_from(position).ok().and_then(|at| self.inline().get(at..)).unwrap_or_default();
            let end = memchr::memchr(b'\n', rest).map_or(rest.len(), |at| at + 1) as u64;
            return self.take(py, Some(limit.map_or(end, |limit| limit.min(end))));
        };
        let line = py.detach(|| locked(&self.cursor).line(fd, self.len, limit));
        Ok(PyBytes::new(py, &line.map_err(|error| errors::os(&error))?))
    }

    fn inline(&self) -> &[u8] {
        let len = usize::try_from(self.len).unwrap_or(usize::MAX);
        self.request.as_ref().map_or(&[], |request| request.get().inline_body(len))
    }
}

impl Cursor {
    /// Take up to `len` bytes out of the buffer.
    fn unbuffer(&mut self, len: u64) -> Vec<u8> {
        let held = self.buffer.get(self.used..).unwrap_or_default();
        let taken =
            held.get(..usize::try_from(len).unwrap_or(usize::MAX).min(held.len())).unwrap_or_default();
        let taken = taken.to_vec();
        self.used += taken.len();
        taken
    }

    fn line(&mut self, fd: RawFd, len: u64, limit: Option<u64>) -> io::Result<Vec<u8>> {
        let mut line = Vec::new();
        loop {
            let wanted = limit.map_or(u64::MAX, |limit| limit - line.len() as u64);
            if wanted == 0 || self.position == len {
                return Ok(line);
            }
            if self.used == self.buffer.len() {
                let size = usize::try_from(len - self.position).unwrap_or(usize::MAX).min(BLOCK);
                self.buffer.resize(size, 0);
                self.used = size;
                read_at(fd, &mut self.buffer, self.position)?;
                self.used = 0;
            }
            let held = self.buffer.get(self.used..).unwrap_or_default();
            let end = memchr::memchr(b'\n', held).map_or(held.len(), |at| at + 1) as u64;
            let part = self.unbuffer(end.min(wanted));
            self.position += part.len() as u64;
            let complete = part.ends_with(b"\n");
            line.extend_from_slice(&part);
            if complete {
                return Ok(line);
            }
        }
    }
}

/// Read exactly so much of the file, which is as long as the router said.
fn read_at(fd: RawFd, out: &mut [u8], position: u64) -> io::Result<()> {
    // SAFETY: the descriptor is the request's, which the input keeps alive; it is not closed here.
    let file = ManuallyDrop::new(unsafe { File::from_raw_fd(fd) });
    file.read_exact_at(out, position)
}

/// Python's sizes: None and negative ones mean no limit.
#[allow(clippy::unnecessary_wraps)]
fn limit(size: Option<i64>) -> Option<u64> {
    size.and_then(|size| u64::try_from(size).ok())
}

#[pymethods]
impl Input {
    /// Read `size` bytes, or all that is left.
    #[pyo3(signature = (size=None, /))]
    fn read<'py>(&self, py: Python<'py>, size: Option<i64>) -> PyResult<Bound<'py, PyBytes>> {
        self.take(py, limit(size))
    }

    /// Read a line, or `size` bytes of it.
    #[pyo3(signature = (size=None, /))]
    fn readline<'py>(&self, py: Python<'py>, size: Option<i64>) -> PyResult<Bound<'py, PyBytes>> {
        self.line(py, limit(size))
    }

    /// Read the lines that are left, or lines of `hint` bytes together.
    #[pyo3(signature = (hint=None, /))]
    fn readlines<'py>(&self, py: Python<'py>, hint: Option<i64>) -> PyResult<Bound<'py, PyList>> {
        let lines = PyList::empty(py);
        let mut left = hint.filter(|hint| *hint > 0);
        loop {
            let line = self.line(py, None)?;
            let len = line.as_bytes().len() as i64;
            if len == 0 {
                return Ok(lines);
            }
            lines.append(line)?;
            if let Some(left) = &mut left {
                *left -= len;
                if *left <= 0 {
                    return Ok(lines);
                }
            }
        }
    }

    fn __iter__(slf: Bound<'_, Self>) -> Bound<'_, Self> {
        slf
    }

    fn __next__<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyBytes>>> {
        let line = self.line(py, None)?;
        Ok((!line.as_bytes().is_empty()).then_some(line))
    }
}
