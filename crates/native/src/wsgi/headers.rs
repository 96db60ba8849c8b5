//! What `start_response` is given: checked, and encoded for the router.

use ::channel::message::{FieldsWriter, Head, TooLong};
use pyo3::exceptions::{PyTypeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict, PyList, PyString, PyTuple};

use crate::notices::{Notice, Notices, Verdict, judge};
use crate::text::latin1_bytes;

pub(super) fn kind_of(object: &Bound<'_, PyAny>) -> String {
    object.get_type().name().map_or_else(|_| "an object".to_owned(), |name| name.to_string())
}

pub(super) fn too_long(error: TooLong) -> PyErr {
    PyValueError::new_err(format!("start_response: {error}"))
}

/// "A status string of the form `999 Message here`", without control characters.
pub(super) fn status_line<'a>(status: &'a Bound<'_, PyAny>) -> PyResult<(u16, &'a [u8])> {
    let text = status.cast::<PyString>().map_err(|_| {
        PyTypeError::new_err(format!("start_response: status must be a str, not {}", kind_of(status)))
    })?;
    let wrong = || {
        PyValueError::new_err(format!(
            "start_response: status must be three digits and a reason like '200 OK', not {}",
            text.repr().map_or_else(|_| "this".to_owned(), |repr| repr.to_string())
        ))
    };
    let bytes = latin1_bytes(text).ok_or_else(wrong)?;
    let (digits, reason) = bytes.split_first_chunk::<3>().ok_or_else(wrong)?;
    let code = digits
        .iter()
        .try_fold(0_u16, |code, digit| digit.is_ascii_digit().then(|| code * 10 + u16::from(*digit - b'0')));
    let code = code.ok_or_else(wrong)?;
    if code < 200 {
        return Err(PyValueError::new_err(format!(
            "start_response: {code} is an interim status, which cannot be that of the response{}",
            if code == 103 { ": early hints are sent with wsgi.early_hints" } else { "" }
        )));
    }
    let reason = match reason.split_first() {
        None => reason,
        Some((b' ', reason)) => reason,
        Some(_) => return Err(wrong()),
    };
    if reason.iter().any(|byte| is_control(*byte)) {
        return Err(wrong());
    }
    Ok((code, reason))
}

fn is_control(byte: u8) -> bool {
    (byte < 0x20 && byte != b'\t') || byte == 0x7f
}

/// RFC 9110, 5.6.2: the characters of a token.
const fn is_token(byte: u8) -> bool {
    matches!(byte,
        b'!' | b'#' | b'$' | b'%' | b'&' | b'\'' | b'*' | b'+' | b'-' | b'.' | b'^' | b'_' | b'`' | b'|' | b'~'
        | b'0'..=b'9' | b'A'..=b'Z' | b'a'..=b'z')
}

/// Check the headers and add them to a message. Returns the Content-Length, if they name one.
pub(super) fn encode_headers(
    out: &mut Vec<u8>,
    headers: &Bound<'_, PyAny>,
    notices: &Notices,
) -> PyResult<Option<u64>> {
    let mut fields = Fields { length: None, writer: FieldsWriter::new(out), notices };
    if let Ok(list) = headers.cast::<PyList>() {
        for header in list.iter() {
            fields.add(&header)?;
        }
    } else {
        // Other servers take whatever can be iterated, and applications rely on it. Not what gives
        // letters, numbers or names: that is a mistake.
        let py = headers.py();
        let is_wrong = headers.is_instance_of::<PyString>()
            || headers.is_instance_of::<PyBytes>()
            || headers.is_instance_of::<PyDict>();
        let items = if is_wrong { None } else { headers.try_iter().ok() };
        let items = items.ok_or_else(|| {
            let kind = kind_of(headers);
            PyTypeError::new_err(format!("start_response: headers must be a list of tuples, not {kind}"))
        })?;
        notices.once(py, Notice::Headers);
        for header in items {
            fields.add(&header?)?;
        }
    }
    let Fields { length, writer, .. } = fields;
    writer.finish().map_err(too_long)?;
    Ok(length)
}

/// The headers that have been added.
struct Fields<'a> {
    length: Option<u64>,
    writer: FieldsWriter<'a>,
    notices: &'a Notices,
}

impl Fields<'_> {
    fn add(&mut self, header: &Bound<'_, PyAny>) -> PyResult<()> {
        if let Ok(pair) = header.cast::<PyTuple>() {
            if pair.len() == 2 {
                return self.add_pair(&*pair.get_borrowed_item(0)?, &*pair.get_borrowed_item(1)?);
            }
        } else if let Ok(pair) = header.cast::<PyList>()
            && pair.len() == 2
        {
            self.notices.once(header.py(), Notice::Pair);
            return self.add_pair(&pair.get_item(0)?, &pair.get_item(1)?);
        }
        let kind = kind_of(header);
        let what = match header.len() {
            Ok(len) if !header.is_instance_of::<PyString>() => format!("{kind} of {len}"),
            _ => kind,
        };
        Err(PyTypeError::new_err(format!("start_response: a header must be a tuple of two str, not {what}")))
    }

    fn add_pair(&mut self, name_item: &Bound<'_, PyAny>, value_item: &Bound<'_, PyAny>) -> PyResult<()> {
        let name_text = name_item.cast::<PyString>().map_err(|_| {
            PyTypeError::new_err(format!(
                "start_response: a header's name must be a str, not {}",
                kind_of(name_item)
            ))
        })?;
        let bad_name = || PyValueError::new_err(format!("start_response: {name_text:?} is no header name"));
        let name = latin1_bytes(name_text).ok_or_else(bad_name)?;
        if name.is_empty() || !name.iter().all(|byte| is_token(*byte)) {
            return Err(bad_name());
        }
        // The value is not shown: it may be a secret, and the message ends in a log.
        let value_text = value_item.cast::<PyString>().map_err(|_| {
            PyTypeError::new_err(format!(
                "start_response: the value of {name_text} must be a str, not {}",
                kind_of(value_item)
            ))
        })?;
        let value = latin1_bytes(value_text).ok_or_else(|| {
            PyValueError::new_err(format!("start_response: the value of {name_text} is not Latin-1"))
        })?;
        if value.iter().any(|byte| is_control(*byte)) {
            return Err(PyValueError::new_err(format!(
                "start_response: the value of {name_text} has a control character in it"
            )));
        }
        let value = value.trim_ascii();
        if let Verdict::LeaveOut(notice) = judge(name, value, false) {
            self.notices.once(name_item.py(), notice);
            return Ok(());
        }
        if name.eq_ignore_ascii_case(b"content-length") {
            self.length = digits(value);
        }
        self.writer.push(name, value).map_err(too_long)
    }
}

/// A number of digits only. Anything else is left to the router, which refuses it.
fn digits(text: &[u8]) -> Option<u64> {
    if text.is_empty() {
        return None;
    }
    text.iter().try_fold(0_u64, |number, digit| {
        let digit = digit.is_ascii_digit().then(|| u64::from(*digit - b'0'))?;
        number.checked_mul(10)?.checked_add(digit)
    })
}

/// The same head with a Content-Length.
pub(super) fn with_length(head: &[u8], length: u64) -> PyResult<Vec<u8>> {
    let head = Head::decode(head).map_err(crate::errors::broken)?;
    let mut out = Vec::new();
    Head::start(&mut out, head.id, head.status, head.reason).map_err(too_long)?;
    let mut writer = FieldsWriter::new(&mut out);
    for (name, value) in head.fields.iter() {
        writer.push(name, value).map_err(too_long)?;
    }
    writer.push(b"Content-Length", length.to_string().as_bytes()).map_err(too_long)?;
    writer.finish().map_err(too_long)?;
    Ok(out)
}
