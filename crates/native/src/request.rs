//! One claimed request.

use std::os::fd::OwnedFd;

use ::channel::message::{self, Payload};
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyList, PyString};

use crate::errors;
use crate::inbox::Claimed;
use crate::outbox::Ticket;
use crate::text::latin1;

#[pyclass(frozen, module = "remuda._native")]
pub struct Request {
    pub(crate) ticket: Ticket,
    message: Vec<u8>,
    /// The body, when it came as a file.
    pub(crate) file: Option<OwnedFd>,
}

impl Request {
    pub(crate) fn new(claimed: Claimed) -> PyResult<Self> {
        let ticket = Ticket::new(claimed.id, claimed.generation);
        Ok(Self { ticket, message: claimed.message, file: claimed.file })
    }

    pub(crate) fn decode(&self) -> PyResult<message::Request<'_>> {
        message::Request::decode(&self.message).map_err(errors::broken)
    }

    /// The body, when it came with the request.
    pub(crate) fn inline_body(&self, len: usize) -> &[u8] {
        self.message.len().checked_sub(len).and_then(|at| self.message.get(at..)).unwrap_or_default()
    }

    /// `GET /path` for the log.
    pub(crate) fn name(&self) -> String {
        match self.decode() {
            Ok(request) => format!(
                "{} {}",
                String::from_utf8_lossy(request.line.method),
                String::from_utf8_lossy(request.line.target)
            ),
            Err(_) => format!("request {}", self.ticket.id),
        }
    }
}

#[pymethods]
impl Request {
    #[getter]
    fn id(&self) -> u64 {
        self.ticket.id
    }

    #[getter]
    fn method<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyString>> {
        latin1(py, self.decode()?.line.method)
    }

    #[getter]
    fn uri<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyString>> {
        latin1(py, self.decode()?.line.target)
    }

    #[getter]
    fn path<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyString>> {
        latin1(py, self.decode()?.line.path)
    }

    #[getter]
    fn query<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyString>> {
        latin1(py, self.decode()?.line.query)
    }

    #[getter]
    fn version(&self) -> PyResult<(u8, u8)> {
        let version = self.decode()?.line.version;
        Ok((version / 10, version % 10))
    }

    #[getter]
    fn scheme(&self) -> PyResult<&'static str> {
        Ok(if self.decode()?.line.https { "https" } else { "http" })
    }

    #[getter]
    fn peer<'py>(&self, py: Python<'py>) -> PyResult<(Bound<'py, PyString>, u16)> {
        let line = self.decode()?.line;
        Ok((latin1(py, line.peer)?, line.peer_port))
    }

    #[getter]
    fn server<'py>(&self, py: Python<'py>) -> PyResult<(Bound<'py, PyString>, u16)> {
        let line = self.decode()?.line;
        Ok((latin1(py, line.server)?, line.server_port))
    }

    #[getter]
    fn script_name<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyString>> {
        latin1(py, self.decode()?.line.script_name)
    }

    #[getter]
    fn headers<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyList>> {
        let list = PyList::empty(py);
        for (name, value) in self.decode()?.fields.iter() {
            list.append((latin1(py, &name.to_ascii_uppercase())?, latin1(py, value)?))?;
        }
        Ok(list)
    }

    #[getter]
    fn content_length(&self) -> PyResult<Option<u64>> {
        Ok(self.decode()?.line.content_length)
    }

    /// The body, when it came with the request; None for one that is a file or follows in pieces.
    #[getter]
    fn body<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyBytes>>> {
        Ok(match self.decode()?.payload {
            Payload::Inline(body) => Some(PyBytes::new(py, body)),
            _ => None,
        })
    }

    fn __repr__(&self) -> String {
        format!("<Request {} {}>", self.ticket.id, self.name())
    }
}
