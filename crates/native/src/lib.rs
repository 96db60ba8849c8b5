//! The extension module `remuda._native`: exports only.

use pyo3::prelude::*;

/// What Python sees of the Rust side.
#[pymodule]
mod _native {}
