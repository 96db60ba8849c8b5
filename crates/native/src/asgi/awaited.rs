//! What `receive()` and `send()` return: awaitables that are ready as a rule, and have a future
//! only when there is something to wait for.
//!
//! They have the methods of a coroutine, so that `asyncio.create_task(receive())` takes them.

use pyo3::exceptions::{PyRuntimeError, PyStopIteration, PyTypeError};
use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::PyType;

use super::exchange::Exchange;

/// What `throw` was given, as the exception to raise.
fn thrown(kind: &Bound<'_, PyAny>, value: Option<&Bound<'_, PyAny>>) -> PyErr {
    if let Some(value) = value.filter(|value| !value.is_none()) {
        return PyErr::from_value(value.clone());
    }
    match kind.cast::<PyType>() {
        Ok(kind) => match kind.call0() {
            Ok(value) => PyErr::from_value(value),
            Err(error) => error,
        },
        Err(_) => PyErr::from_value(kind.clone()),
    }
}

/// Nothing to wait for: a message was sent.
#[pyclass(frozen, module = "remuda._native")]
pub struct Sent;

#[pymethods]
impl Sent {
    fn __await__(slf: Bound<'_, Self>) -> Bound<'_, Self> {
        slf
    }

    fn __iter__(slf: Bound<'_, Self>) -> Bound<'_, Self> {
        slf
    }

    #[allow(clippy::unused_self)]
    fn __next__(&self) -> Option<Py<PyAny>> {
        None
    }

    #[allow(clippy::unused_self)]
    fn send(&self, py: Python<'_>, value: &Bound<'_, PyAny>) -> PyResult<Py<PyAny>> {
        let _ = value;
        Err(PyStopIteration::new_err(py.None()))
    }

    #[allow(clippy::unused_self)]
    #[pyo3(signature = (kind, value=None, traceback=None))]
    fn throw(
        &self,
        kind: &Bound<'_, PyAny>,
        value: Option<&Bound<'_, PyAny>>,
        traceback: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<Py<PyAny>> {
        let _ = traceback;
        Err(thrown(kind, value))
    }

    #[allow(clippy::unused_self)]
    fn close(&self) {}
}

/// What is waited for.
#[derive(Debug, Clone, Copy)]
pub(super) enum Wanted {
    /// The next message of `receive`.
    Message,
    /// Room for a message that was given to `send`.
    Room(u64),
}

/// Waits for something of an exchange. Looks before it waits, and again each time that it is woken,
/// so that a message is only taken by who is there to get it.
#[pyclass(frozen, module = "remuda._native")]
pub struct Awaited {
    exchange: Py<Exchange>,
    wanted: Wanted,
}

impl Awaited {
    pub(super) fn new(exchange: Py<Exchange>, wanted: Wanted) -> Self {
        Self { exchange, wanted }
    }
}

#[pymethods]
impl Awaited {
    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.exchange)
    }

    fn __await__(slf: Bound<'_, Self>) -> Bound<'_, Self> {
        slf
    }

    fn __iter__(slf: Bound<'_, Self>) -> Bound<'_, Self> {
        slf
    }

    fn __next__<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyAny>>> {
        let exchange = self.exchange.get();
        match self.wanted {
            Wanted::Message => {
                if let Some(message) = exchange.next_message(self.exchange.bind(py))? {
                    return Err(PyStopIteration::new_err((message.unbind(),)));
                }
            }
            Wanted::Room(message) => {
                if exchange.is_flushed(message) {
                    return Ok(None);
                }
            }
        }
        let future = exchange.wait(py)?;
        // The future's own way to tell its task that it waits.
        let mut waiting = future.call_method0(intern!(py, "__await__"))?.try_iter()?;
        match waiting.next() {
            Some(yielded) => yielded.map(Some),
            None => Err(PyRuntimeError::new_err("the event loop made a future that is done already")),
        }
    }

    fn send<'py>(&self, py: Python<'py>, value: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
        if !value.is_none() {
            return Err(PyTypeError::new_err("only None can be sent to this"));
        }
        match self.__next__(py)? {
            Some(yielded) => Ok(yielded),
            None => Err(PyStopIteration::new_err(py.None())),
        }
    }

    #[allow(clippy::unused_self)]
    #[pyo3(signature = (kind, value=None, traceback=None))]
    fn throw(
        &self,
        kind: &Bound<'_, PyAny>,
        value: Option<&Bound<'_, PyAny>>,
        traceback: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<Py<PyAny>> {
        let _ = traceback;
        Err(thrown(kind, value))
    }

    #[allow(clippy::unused_self)]
    fn close(&self) {}
}
