//! Native strings of PEP 3333: `str` objects that hold Latin-1.

use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::PyString;

/// The bytes as a `str`, one code point a byte (PEP 3333, "A Note On String Types").
pub(crate) fn latin1<'py>(py: Python<'py>, bytes: &[u8]) -> PyResult<Bound<'py, PyString>> {
    // SAFETY: the pointer and length are those of a live slice, whose length fits `isize`; the
    // result is a new reference or null with an exception set, which is what is checked for.
    unsafe {
        let text = ffi::PyUnicode_DecodeLatin1(bytes.as_ptr().cast(), bytes.len() as isize, std::ptr::null());
        Ok(Bound::from_owned_ptr_or_err(py, text)?.cast_into_unchecked())
    }
}

/// The bytes of a `str` that holds Latin-1; None for one that does not.
pub(crate) fn latin1_bytes<'a>(text: &'a Bound<'_, PyString>) -> Option<&'a [u8]> {
    let pointer = text.as_ptr();
    // SAFETY: `text` is a `str`, made ready before its representation is looked at. Strings are
    // immutable, so its data live unchanged as long as the reference does. A string of the
    // one-byte kind has as many bytes as code points.
    unsafe {
        if ffi::PyUnicode_READY(pointer) != 0 {
            ffi::PyErr_Clear();
            return None;
        }
        if ffi::PyUnicode_KIND(pointer) != ffi::PyUnicode_1BYTE_KIND {
            return None;
        }
        let len = ffi::PyUnicode_GET_LENGTH(pointer) as usize;
        Some(std::slice::from_raw_parts(ffi::PyUnicode_DATA(pointer).cast_const().cast(), len))
    }
}

/// Undo the percent-encoding of a path. What is no valid escape stays as it is.
pub(crate) fn percent_decoded(path: &[u8]) -> Vec<u8> {
    let digit = |byte: Option<&u8>| byte.and_then(|byte| char::from(*byte).to_digit(16));
    let mut out = Vec::with_capacity(path.len());
    let mut rest = path;
    while let Some((byte, after)) = rest.split_first() {
        rest = after;
        if *byte == b'%'
            && let (Some(high), Some(low)) = (digit(after.first()), digit(after.get(1)))
        {
            out.push((high * 16 + low) as u8);
            rest = after.get(2..).unwrap_or_default();
        } else {
            out.push(*byte);
        }
    }
    out
}
