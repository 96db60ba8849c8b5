//! Giving up what a process might gain.

use std::io;

use pyo3::prelude::*;

use crate::errors;

/// Gain no privileges any more by starting programs.
#[pyfunction]
pub fn no_new_privileges() -> PyResult<()> {
    #[cfg(target_os = "linux")]
    {
        const ON: libc::c_ulong = 1;
        const UNUSED: libc::c_ulong = 0;
        // SAFETY: a plain call; the arguments after the second must be zero (prctl(2)).
        if unsafe { libc::prctl(libc::PR_SET_NO_NEW_PRIVS, ON, UNUSED, UNUSED, UNUSED) } != 0 {
            return Err(errors::os(&io::Error::last_os_error()));
        }
    }
    Ok(())
}
