//! Being the router.

use std::io;
use std::os::fd::{FromRawFd, OwnedFd, RawFd};

use pyo3::prelude::*;

use crate::errors;

/// Be the router: serve until told to stop over the control socket. Returns the exit code.
#[pyfunction]
pub fn route(py: Python<'_>, control: RawFd) -> PyResult<i32> {
    // SAFETY: a plain fcntl, which fails for a number that is no open descriptor.
    if unsafe { libc::fcntl(control, libc::F_GETFD) } < 0 {
        return Err(errors::os(&io::Error::last_os_error()));
    }
    // SAFETY: it is open, and the caller hands it over, as the documentation says.
    let control = unsafe { OwnedFd::from_raw_fd(control) };
    Ok(py.detach(|| ::router::run(control)))
}

/// The names of the settings that the router reads.
#[pyfunction]
pub fn router_option_names() -> Vec<&'static str> {
    ::router::OPTION_NAMES.to_vec()
}
