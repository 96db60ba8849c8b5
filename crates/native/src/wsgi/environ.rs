//! `environ`: a request as the dictionary of PEP 3333.
//!
//! Most of it is the same from one request to the next, so it is kept as a template that is copied
//! as a whole: the constant keys, and those whose values were the same in the last request. Header
//! names and the last value of each are kept as Python strings, too. All of this is bounded, and a
//! value is only reused when its bytes are equal.

use ::channel::message::{self, Payload};
use pyo3::ffi;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyString};

use crate::text::{latin1, latin1_bytes, percent_decoded};

/// How many header names are remembered; a name has one place where it may be.
const NAMES: usize = 128;
/// The longest header value that is remembered, in bytes.
const LONGEST: usize = 256;

/// What becomes of a header field.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Plain,
    Host,
    Cookie,
    /// Not passed on.
    Dropped,
}

/// A header name that was seen, and its last value.
struct Known {
    name: Box<[u8]>,
    key: Py<PyString>,
    kind: Kind,
    value: Vec<u8>,
    text: Option<Py<PyString>>,
}

/// Builds environs. One thread at a time uses it.
pub(crate) struct Builder {
    template: Py<PyDict>,
    /// The `root_path` setting: SCRIPT_NAME where no proxy names one.
    root_path: Vec<u8>,
    known: Vec<Option<Known>>,
    /// The values that the template holds.
    method: Vec<u8>,
    version: u8,
    https: bool,
    target: Vec<u8>,
    script_name: Vec<u8>,
    peer: Vec<u8>,
    server: Vec<u8>,
    server_port: u16,
}

impl Builder {
    /// From a dictionary of the keys that never change.
    pub(crate) fn new(constant: &Bound<'_, PyDict>, root_path: &[u8]) -> PyResult<Self> {
        let py = constant.py();
        let template = constant.copy()?;
        let empty = PyString::new(py, "");
        for key in [
            intern!(py, "REQUEST_METHOD"),
            intern!(py, "SCRIPT_NAME"),
            intern!(py, "PATH_INFO"),
            intern!(py, "QUERY_STRING"),
            intern!(py, "RAW_URI"),
            intern!(py, "SERVER_PROTOCOL"),
            intern!(py, "SERVER_NAME"),
            intern!(py, "SERVER_PORT"),
            intern!(py, "REMOTE_ADDR"),
            intern!(py, "wsgi.early_hints"),
        ] {
            template.set_item(key, &empty)?;
        }
        template.set_item(intern!(py, "wsgi.url_scheme"), intern!(py, "http"))?;
        // A dictionary grows in steps, and is copied with its size: with a few more keys for a
        // moment, the copies have room for the headers. (With many more that are deleted again it
        // would be copied key by key.)
        let spare = ["HTTP_1", "HTTP_2", "HTTP_3", "HTTP_4"];
        for key in spare {
            template.set_item(key, &empty)?;
        }
        for key in spare {
            template.del_item(key)?;
        }
        Ok(Self {
            template: template.unbind(),
            root_path: without_slash(root_path).to_vec(),
            known: std::iter::repeat_with(|| None).take(NAMES).collect(),
            method: Vec::new(),
            version: 0,
            https: false,
            target: Vec::new(),
            script_name: Vec::new(),
            peer: Vec::new(),
            server: Vec::new(),
            server_port: 0,
        })
    }

    pub(crate) fn build<'py>(
        &mut self,
        py: Python<'py>,
        request: &message::Request<'_>,
        early_hints: &Bound<'py, PyAny>,
    ) -> PyResult<Bound<'py, PyDict>> {
        self.remember(py, request)?;
        let environ = self.template.bind(py).copy()?;
        environ.set_item(intern!(py, "wsgi.early_hints"), early_hints)?;
        let (host, chunked) = self.headers(py, request, &environ)?;
        let line = &request.line;
        if line.peer_port != 0 {
            let mut digits = itoa::Buffer::new();
            environ.set_item(
                intern!(py, "REMOTE_PORT"),
                latin1(py, digits.format(line.peer_port).as_bytes())?,
            )?;
        }
        if line.https {
            environ.set_item(intern!(py, "HTTPS"), intern!(py, "on"))?;
        }
        if line.server_port == 0 {
            // A unix socket has no name and no port, and both "can never be empty strings" (PEP
            // 3333, "environ Variables"): the client's idea of them is the best there is.
            let (name, port) = host.as_ref().map_or((&b""[..], &b""[..]), |host| split_host(host));
            let name = if name.is_empty() { b"localhost" } else { name };
            let port = match (port.is_empty(), line.https) {
                (false, _) => port,
                (true, true) => b"443",
                (true, false) => b"80",
            };
            environ.set_item(intern!(py, "SERVER_NAME"), latin1(py, name)?)?;
            environ.set_item(intern!(py, "SERVER_PORT"), latin1(py, port)?)?;
        }
        let held = match request.payload {
            Payload::Inline(body) => body.len() as u64,
            Payload::Descriptor(len) => len,
            Payload::Stream => 0,
        };
        // "The CONTENT_LENGTH value must reflect the length of the message-body after the server
        // has removed any transfer-codings" (RFC 3875, 4.1.2). The router has removed them, and the
        // whole body is there, so its length is known and is told: applications that know nothing
        // of wsgi.input_terminated would take a chunked body for an empty one.
        let length = line.content_length.or((chunked || held > 0).then_some(held));
        if let Some(length) = length {
            let mut digits = itoa::Buffer::new();
            environ.set_item(intern!(py, "CONTENT_LENGTH"), latin1(py, digits.format(length).as_bytes())?)?;
        }
        Ok(environ)
    }

    /// Bring the template up to this request, where it differs from the last one.
    fn remember(&mut self, py: Python<'_>, request: &message::Request<'_>) -> PyResult<()> {
        let line = &request.line;
        let template = self.template.bind(py);
        if self.method != line.method {
            template.set_item(intern!(py, "REQUEST_METHOD"), latin1(py, line.method)?)?;
            line.method.clone_into(&mut self.method);
        }
        if self.version != line.version {
            let protocol = match line.version {
                20 => "HTTP/2".to_owned(),
                version => format!("HTTP/{}.{}", version / 10, version % 10),
            };
            template.set_item(intern!(py, "SERVER_PROTOCOL"), protocol)?;
            self.version = line.version;
        }
        if self.https != line.https {
            let scheme = if line.https { intern!(py, "https") } else { intern!(py, "http") };
            template.set_item(intern!(py, "wsgi.url_scheme"), scheme)?;
            self.https = line.https;
        }
        if self.peer != line.peer {
            template.set_item(intern!(py, "REMOTE_ADDR"), latin1(py, line.peer)?)?;
            line.peer.clone_into(&mut self.peer);
        }
        if self.server_port != line.server_port || self.server != line.server {
            template.set_item(intern!(py, "SERVER_NAME"), latin1(py, line.server)?)?;
            template.set_item(intern!(py, "SERVER_PORT"), line.server_port.to_string())?;
            line.server.clone_into(&mut self.server);
            self.server_port = line.server_port;
        }
        if self.target != line.target || self.script_name != line.script_name || self.target.is_empty() {
            let script_name = match without_slash(line.script_name) {
                b"" => &self.root_path,
                script_name => script_name,
            };
            // "*" (OPTIONS) is no path.
            let path = if line.path == b"*" { b"" } else { line.path };
            let path = without_prefix(path, script_name);
            let path = match memchr::memchr(b'%', path) {
                None => latin1(py, path)?,
                Some(_) => latin1(py, &percent_decoded(path))?,
            };
            template.set_item(intern!(py, "RAW_URI"), latin1(py, line.target)?)?;
            template.set_item(intern!(py, "SCRIPT_NAME"), latin1(py, script_name)?)?;
            template.set_item(intern!(py, "PATH_INFO"), path)?;
            template.set_item(intern!(py, "QUERY_STRING"), latin1(py, line.query)?)?;
            line.target.clone_into(&mut self.target);
            line.script_name.clone_into(&mut self.script_name);
        }
        Ok(())
    }

    /// Set the header fields. Returns the value of Host, and whether the body came chunked.
    fn headers<'a>(
        &mut self,
        py: Python<'_>,
        request: &message::Request<'a>,
        environ: &Bound<'_, PyDict>,
    ) -> PyResult<(Option<&'a [u8]>, bool)> {
        let (mut host, mut chunked) = (None, false);
        let mut repeated: Vec<(Py<PyString>, Vec<u8>)> = Vec::new();
        let mut size = environ.len();
        for (name, value) in request.fields.iter() {
            let known = known(py, &mut self.known, name)?;
            match known.kind {
                Kind::Host => host = Some(value),
                Kind::Dropped => {
                    chunked |= name == b"transfer-encoding";
                    continue;
                }
                Kind::Plain | Kind::Cookie => {}
            }
            let text = known.text(py, value)?;
            let first = set_default(environ, known.key.bind(py), &text)?;
            if environ.len() != size {
                size += 1;
                continue;
            }
            // Joining them one by one would copy what is there each time.
            let separator: &[u8] = if known.kind == Kind::Cookie { b"; " } else { b"," };
            match repeated.iter_mut().find(|(key, _)| key.is(&known.key)) {
                Some((_, joined)) => {
                    joined.extend_from_slice(separator);
                    joined.extend_from_slice(value);
                }
                None => {
                    let first = latin1_bytes(&first).unwrap_or_default();
                    repeated.push((known.key.clone_ref(py), [first, separator, value].concat()));
                }
            }
        }
        for (key, joined) in repeated {
            environ.set_item(key, latin1(py, &joined)?)?;
        }
        Ok((host, chunked))
    }
}

impl Known {
    fn new(py: Python<'_>, name: &[u8]) -> PyResult<Self> {
        let kind = match name {
            b"host" => Kind::Host,
            b"cookie" => Kind::Cookie,
            // HTTP_PROXY would be taken for the proxy to use ("httpoxy"). The framing of the body
            // is gone with the transfer coding; its length is told by CONTENT_LENGTH (see `build`).
            b"proxy" | b"transfer-encoding" | b"content-length" => Kind::Dropped,
            _ => Kind::Plain,
        };
        let upper = |byte: &u8| if *byte == b'-' { b'_' } else { byte.to_ascii_uppercase() };
        let mut key: Vec<u8> = if name == b"content-type" { Vec::new() } else { b"HTTP_".to_vec() };
        key.extend(name.iter().map(upper));
        let mut text = latin1(py, &key)?.into_ptr();
        // SAFETY: `text` is a new reference to a `str`, which interning replaces by another one
        // that is as new; it stays a `str` that we own.
        let key = unsafe {
            ffi::PyUnicode_InternInPlace(&raw mut text);
            Bound::from_owned_ptr(py, text).cast_into_unchecked::<PyString>()
        };
        Ok(Self { name: name.into(), key: key.unbind(), kind, value: Vec::new(), text: None })
    }

    fn text<'py>(&mut self, py: Python<'py>, value: &[u8]) -> PyResult<Bound<'py, PyString>> {
        if let Some(text) = &self.text
            && self.value == value
        {
            return Ok(text.bind(py).clone());
        }
        let text = latin1(py, value)?;
        if value.len() <= LONGEST {
            value.clone_into(&mut self.value);
            self.text = Some(text.clone().unbind());
        }
        Ok(text)
    }
}

/// The place of a name among those that are remembered. Another name that was there goes.
fn known<'a>(py: Python<'_>, places: &'a mut [Option<Known>], name: &[u8]) -> PyResult<&'a mut Known> {
    let mut hash = name.len() as u64;
    for chunk in name.chunks(8) {
        let mut word = [0; 8];
        for (to, from) in word.iter_mut().zip(chunk) {
            *to = *from;
        }
        hash = (hash.rotate_left(5) ^ u64::from_le_bytes(word)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    }
    let index = (hash >> 57) as usize;
    let place = places.get_mut(index).ok_or_else(|| crate::errors::ChannelError::new_err("no place"))?;
    match place {
        Some(known) if *known.name == *name => {}
        _ => *place = Some(Known::new(py, name)?),
    }
    place.as_mut().ok_or_else(|| crate::errors::ChannelError::new_err("no place"))
}

/// `dict.setdefault`: what is under the key now.
fn set_default<'py>(
    dict: &Bound<'py, PyDict>,
    key: &Bound<'py, PyString>,
    value: &Bound<'py, PyString>,
) -> PyResult<Bound<'py, PyString>> {
    // SAFETY: all three are live objects of the right types; the result is a borrowed reference
    // that the dictionary keeps alive until a new one is made from it, or null with an exception
    // set. The values under HTTP_ keys of a dictionary that we have just built are strings.
    unsafe {
        let found = ffi::PyDict_SetDefault(dict.as_ptr(), key.as_ptr(), value.as_ptr());
        Ok(Bound::from_borrowed_ptr_or_err(dict.py(), found)?.cast_into_unchecked())
    }
}

fn without_slash(path: &[u8]) -> &[u8] {
    path.strip_suffix(b"/").unwrap_or(path)
}

/// The path behind SCRIPT_NAME; a path that does not begin with it (a proxy has taken it off
/// already) is left as it is.
fn without_prefix<'a>(path: &'a [u8], script_name: &[u8]) -> &'a [u8] {
    match path.strip_prefix(script_name) {
        Some(rest) if rest.is_empty() || rest.starts_with(b"/") => rest,
        _ => path,
    }
}

/// The name and the port in a Host field.
fn split_host(host: &[u8]) -> (&[u8], &[u8]) {
    let after_brackets = memchr::memchr(b']', host).unwrap_or(0);
    match memchr::memrchr(b':', host) {
        Some(colon) if colon >= after_brackets => {
            let (name, port) = host.split_at(colon);
            (name, port.get(1..).unwrap_or_default())
        }
        _ => (host, b""),
    }
}
