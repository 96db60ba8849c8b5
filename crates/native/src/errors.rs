//! What goes wrong between a worker and its channel, as Rust errors and as Python exceptions.

use std::io;

use ::channel::Violation;
use pyo3::exceptions::{PyException, PyKeyboardInterrupt, PyOSError, PySystemExit};
use pyo3::prelude::*;

pyo3::create_exception!(
    remuda._native,
    Retired,
    PyException,
    "There will be no more requests: the router said STOP, the worker was told to stop, or arbiter and router are dead."
);
pyo3::create_exception!(
    remuda._native,
    ClientGone,
    PyException,
    "Nobody wants the response any more: the client left, the request timed out, or its router died."
);
pyo3::create_exception!(
    remuda._native,
    ChannelError,
    PyException,
    "The channel is broken: what the router wrote makes no sense. The worker can only exit."
);

/// Does this end the process? Other exceptions that are no `Exception` (GeneratorExit, a greenlet's
/// exit, a timeout of gevent or eventlet) end the request only.
pub(crate) fn is_exit(py: Python<'_>, error: &PyErr) -> bool {
    error.is_instance_of::<PySystemExit>(py) || error.is_instance_of::<PyKeyboardInterrupt>(py)
}

/// The channel is of no further use.
pub(crate) fn broken(violation: Violation) -> PyErr {
    ChannelError::new_err(violation.to_string())
}

/// The operating system refused what the channel needs.
pub(crate) fn os(error: &io::Error) -> PyErr {
    match error.raw_os_error() {
        Some(code) => PyOSError::new_err((code, error.to_string())),
        None => ChannelError::new_err(error.to_string()),
    }
}

/// The same, with what was asked of it.
pub(crate) fn os_of(what: &str, error: &io::Error) -> PyErr {
    match error.raw_os_error() {
        Some(code) => PyOSError::new_err((code, format!("{what}: {error}"))),
        None => ChannelError::new_err(format!("{what}: {error}")),
    }
}

/// Why something was not sent.
#[derive(Debug)]
pub(crate) enum SendError {
    /// Nobody wants it.
    Gone,
    /// A frame that is too large for the ring, whatever room there is.
    TooLarge,
    /// A signal handler raised, or the channel is broken.
    Raised(PyErr),
}

impl From<PyErr> for SendError {
    fn from(error: PyErr) -> Self {
        Self::Raised(error)
    }
}

impl From<SendError> for PyErr {
    fn from(error: SendError) -> Self {
        match error {
            SendError::Gone => ClientGone::new_err("nobody wants this response any more"),
            SendError::TooLarge => {
                pyo3::exceptions::PyValueError::new_err("the response's headers are too large to send")
            }
            SendError::Raised(error) => error,
        }
    }
}
