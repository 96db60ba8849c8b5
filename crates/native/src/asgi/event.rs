//! The messages that applications send ("Response Start - send event" and so on), checked and
//! encoded.

use ::channel::message::{FieldsWriter, Head, Section, TooLong};
use pyo3::exceptions::{PyTypeError, PyValueError};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict, PyString, PyTuple};

use super::outgoing::MAX_HEAD;
use crate::notices::{Notices, Verdict, judge};

/// Header fields that were checked: name and value.
pub(super) type Field = (Vec<u8>, Vec<u8>);

pub(super) fn kind_of(object: &Bound<'_, PyAny>) -> String {
    object.get_type().name().map_or_else(|_| "an object".to_owned(), |name| name.to_string())
}

fn too_long(error: TooLong) -> PyErr {
    PyValueError::new_err(format!("http.response.start: {error}"))
}

/// The value under a key, or None.
pub(super) fn get<'py>(
    message: &Bound<'py, PyDict>,
    key: &Bound<'py, PyString>,
) -> PyResult<Option<Bound<'py, PyAny>>> {
    message.get_item(key)
}

/// Is the value under a key there and true?
pub(super) fn is_set(message: &Bound<'_, PyDict>, key: &Bound<'_, PyString>) -> PyResult<bool> {
    match message.get_item(key)? {
        Some(value) => value.is_truthy(),
        None => Ok(false),
    }
}

/// Encode the `HEAD` message of an `http.response.start`.
pub(super) fn encode_head(id: u64, message: &Bound<'_, PyDict>, notices: &Notices) -> PyResult<Vec<u8>> {
    let py = message.py();
    let status = message
        .get_item(intern!(py, "status"))?
        .ok_or_else(|| PyValueError::new_err("http.response.start: there is no status"))?;
    let code = status.extract::<u16>().ok().filter(|code| (100..1000).contains(code)).ok_or_else(|| {
        let status = status.repr().map_or_else(|_| kind_of(&status), |repr| repr.to_string());
        PyValueError::new_err(format!("http.response.start: status must be from 200 to 999, not {status}"))
    })?;
    if code < 200 {
        return Err(PyValueError::new_err(format!(
            "http.response.start: {code} is an interim status, which cannot be that of the response{}",
            if code == 103 { ": early hints are sent with http.response.early_hint" } else { "" }
        )));
    }
    // No part of ASGI: Tornado's handlers can set one.
    let reason = match get(message, intern!(py, "reason"))? {
        Some(reason) => Some(bytes_of("http.response.start: reason", &reason)?),
        None => None,
    };
    let reason = reason.as_ref().map_or(&[][..], |reason| reason.bind(py).as_bytes());
    if reason.iter().any(|byte| is_control(*byte)) {
        return Err(PyValueError::new_err("http.response.start: the reason has a control character in it"));
    }
    let mut out = Vec::with_capacity(256);
    Head::start(&mut out, id, code, reason).map_err(too_long)?;
    let mut writer = FieldsWriter::new(&mut out);
    if let Some(headers) = get(message, intern!(py, "headers"))?
        && !headers.is_none()
    {
        each_header("http.response.start", &headers, |name, value| {
            if let Verdict::LeaveOut(notice) = judge(name, value, true) {
                notices.once(py, notice);
                return Ok(());
            }
            writer.push(name, value).map_err(too_long)
        })?;
    }
    writer.finish().map_err(too_long)?;
    if out.len() > MAX_HEAD {
        return Err(PyValueError::new_err(format!(
            "http.response.start: the headers have {} bytes, {MAX_HEAD} are the most",
            out.len()
        )));
    }
    Ok(out)
}

/// The same head with a Content-Length, if it has none.
pub(super) fn with_length(head: Vec<u8>, length: u64) -> PyResult<Vec<u8>> {
    let decoded = Head::decode(&head).map_err(crate::errors::broken)?;
    if decoded.fields.iter().any(|(name, _)| name.eq_ignore_ascii_case(b"content-length")) {
        return Ok(head);
    }
    let mut out = Vec::with_capacity(head.len() + 32);
    Head::start(&mut out, decoded.id, decoded.status, decoded.reason).map_err(too_long)?;
    let mut writer = FieldsWriter::new(&mut out);
    for (name, value) in decoded.fields.iter() {
        writer.push(name, value).map_err(too_long)?;
    }
    writer.push(b"content-length", itoa::Buffer::new().format(length).as_bytes()).map_err(too_long)?;
    writer.finish().map_err(too_long)?;
    Ok(out)
}

/// The server's own answer to an error of the application.
pub(super) fn error_page(py: Python<'_>, id: u64) -> PyResult<(Vec<u8>, Py<PyBytes>)> {
    const PAGE: &[u8] = b"Internal Server Error";
    let mut out = Vec::with_capacity(128);
    Head::start(&mut out, id, 500, b"Internal Server Error").map_err(too_long)?;
    let mut writer = FieldsWriter::new(&mut out);
    writer.push(b"content-type", b"text/plain; charset=utf-8").map_err(too_long)?;
    writer.finish().map_err(too_long)?;
    Ok((with_length(out, PAGE.len() as u64)?, PyBytes::new(py, PAGE).unbind()))
}

/// Encode fields as a `TRAILERS` (status 0) or `INTERIM` message.
pub(super) fn encode_section(id: u64, status: u16, fields: &[Field]) -> PyResult<Vec<u8>> {
    let mut out = Vec::new();
    Section::start(&mut out, id, status);
    let mut writer = FieldsWriter::new(&mut out);
    for (name, value) in fields {
        writer.push(name, value).map_err(too_long)?;
    }
    writer.finish().map_err(too_long)?;
    if out.len() > MAX_HEAD {
        return Err(PyValueError::new_err(format!("fields of {} bytes, {MAX_HEAD} are the most", out.len())));
    }
    Ok(out)
}

/// The `Link` fields of an `http.response.early_hint`.
pub(super) fn links(message: &Bound<'_, PyDict>) -> PyResult<Vec<Field>> {
    let py = message.py();
    let mut fields = Vec::new();
    if let Some(links) = get(message, intern!(py, "links"))? {
        for link in links.try_iter()? {
            let link = link?;
            let value = bytes_of("http.response.early_hint: a link", &link)?;
            let value = value.bind(py).as_bytes();
            check("http.response.early_hint", b"link", value)?;
            fields.push((b"link".to_vec(), value.to_vec()));
        }
    }
    Ok(fields)
}

/// The headers of an `http.response.trailers`.
pub(super) fn trailers(message: &Bound<'_, PyDict>) -> PyResult<Vec<Field>> {
    let mut fields = Vec::new();
    if let Some(headers) = get(message, intern!(message.py(), "headers"))?
        && !headers.is_none()
    {
        each_header("http.response.trailers", &headers, |name, value| {
            fields.push((name.to_vec(), value.to_vec()));
            Ok(())
        })?;
    }
    Ok(fields)
}

/// "headers (Iterable[[byte string, byte string]])".
fn each_header(
    event: &str,
    headers: &Bound<'_, PyAny>,
    mut found: impl FnMut(&[u8], &[u8]) -> PyResult<()>,
) -> PyResult<()> {
    for header in headers.try_iter()? {
        let header = header?;
        if let Ok(pair) = header.cast_exact::<PyTuple>()
            && pair.len() == 2
            && let (Ok(name), Ok(value)) = (pair.get_borrowed_item(0), pair.get_borrowed_item(1))
            && let (Ok(name), Ok(value)) = (name.cast::<PyBytes>(), value.cast::<PyBytes>())
        {
            let (name, value) = (name.as_bytes(), value.as_bytes().trim_ascii());
            check(event, name, value)?;
            found(name, value)?;
            continue;
        }
        let items: Option<Vec<Bound<'_, PyAny>>> =
            header.try_iter().ok().and_then(|items| items.collect::<PyResult<Vec<_>>>().ok());
        let Some([name, value]) = items.as_deref() else {
            // The value is not shown, here and below: it may be a secret, and the message ends in a log.
            return Err(PyTypeError::new_err(format!(
                "{event}: a header must be a pair of bytes, not {}",
                items.map_or_else(
                    || kind_of(&header),
                    |items| format!("{} of {}", kind_of(&header), items.len())
                )
            )));
        };
        let name = bytes_of(&format!("{event}: a header's name"), name)?;
        let py = headers.py();
        let name = name.bind(py).as_bytes();
        let shown = String::from_utf8_lossy(name);
        let value = bytes_of(&format!("{event}: the value of {shown:?}"), value)?;
        let value = value.bind(py).as_bytes().trim_ascii();
        check(event, name, value)?;
        found(name, value)?;
    }
    Ok(())
}

/// Refuse what would be another header, or another response.
fn check(event: &str, name: &[u8], value: &[u8]) -> PyResult<()> {
    if name.is_empty() || !name.iter().all(|byte| is_token(*byte)) {
        return Err(PyValueError::new_err(format!(
            "{event}: {:?} is no header name",
            String::from_utf8_lossy(name)
        )));
    }
    // The value is not shown: it may be a secret, and the message ends in a log.
    if value.iter().any(|byte| is_control(*byte)) {
        return Err(PyValueError::new_err(format!(
            "{event}: the value of {} has a control character in it",
            String::from_utf8_lossy(name)
        )));
    }
    Ok(())
}

const fn is_control(byte: u8) -> bool {
    (byte < 0x20 && byte != b'\t') || byte == 0x7f
}

/// RFC 9110, 5.6.2: the characters of a token.
const fn is_token(byte: u8) -> bool {
    matches!(byte,
        b'!' | b'#' | b'$' | b'%' | b'&' | b'\'' | b'*' | b'+' | b'-' | b'.' | b'^' | b'_' | b'`' | b'|' | b'~'
        | b'0'..=b'9' | b'A'..=b'Z' | b'a'..=b'z')
}

/// A byte string; other buffers (bytearray, memoryview) are copied.
pub(super) fn bytes_of(what: &str, object: &Bound<'_, PyAny>) -> PyResult<Py<PyBytes>> {
    if let Ok(bytes) = object.cast_exact::<PyBytes>() {
        return Ok(bytes.clone().unbind());
    }
    let wrong = || PyTypeError::new_err(format!("{what} must be bytes, not {}", kind_of(object)));
    if object.is_instance_of::<PyString>() {
        return Err(wrong());
    }
    // A buffer that is not contiguous is joined.
    let view = pyo3::types::PyMemoryView::from(object).map_err(|_| wrong())?;
    let bytes = view.call_method0(intern!(object.py(), "tobytes"))?;
    Ok(bytes.cast_into::<PyBytes>().map_err(|_| wrong())?.unbind())
}
