//! `scope`: a request as the dictionary of ASGI's "HTTP Connection Scope".
//!
//! As with `environ`, most of it is the same from one request to the next: it is kept as a template
//! that is copied as a whole, with the values of the last request. A header's name and its last
//! value are kept as one tuple. All of this is bounded, and a value is only reused when its bytes
//! are equal.

use ::channel::message;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict, PyList, PyString, PyTuple};

use crate::text::{latin1, percent_decoded};

/// How many headers are remembered; a name has one place where it may be.
const NAMES: usize = 128;
/// The longest header value that is remembered, in bytes.
const LONGEST: usize = 256;

/// A header name that was seen, and its last value.
struct Known {
    name: Box<[u8]>,
    key: Py<PyBytes>,
    value: Vec<u8>,
    pair: Option<Py<PyTuple>>,
}

/// Builds scopes. One thread at a time uses it.
pub(super) struct Builder {
    template: Py<PyDict>,
    asgi: Py<PyDict>,
    /// Copied for each request, because an application may change its own.
    extensions: Py<PyDict>,
    /// Without trailers and early hints, which HTTP/1.0 does not have.
    few_extensions: Py<PyDict>,
    state: Option<Py<PyDict>>,
    /// The `root_path` setting, for where no proxy names one.
    root_path: Vec<u8>,
    known: Vec<Option<Known>>,
    /// The values that the template holds.
    method: Vec<u8>,
    version: u8,
    https: bool,
    target: Vec<u8>,
    script_name: Vec<u8>,
    peer: Vec<u8>,
    peer_port: u16,
    server: Vec<u8>,
    server_port: u16,
    fresh: bool,
}

impl Builder {
    /// `state` is what the lifespan protocol left in `scope["state"]`.
    pub(super) fn new(py: Python<'_>, root_path: &[u8], state: Option<Py<PyDict>>) -> PyResult<Self> {
        let asgi = PyDict::new(py);
        asgi.set_item("version", "3.0")?;
        // 2.3: sending to a client that has left is no error, as a rule (see `Exchange::send`), and
        // frameworks watch for http.disconnect by themselves.
        asgi.set_item("spec_version", "2.3")?;
        let few_extensions = PyDict::new(py);
        few_extensions.set_item("http.response.pathsend", PyDict::new(py))?;
        let extensions = few_extensions.copy()?;
        extensions.set_item("http.response.early_hint", PyDict::new(py))?;
        extensions.set_item("http.response.trailers", PyDict::new(py))?;
        let template = PyDict::new(py);
        template.set_item(intern!(py, "type"), intern!(py, "http"))?;
        for key in [
            intern!(py, "asgi"),
            intern!(py, "http_version"),
            intern!(py, "server"),
            intern!(py, "client"),
            intern!(py, "scheme"),
            intern!(py, "method"),
            intern!(py, "root_path"),
            intern!(py, "path"),
            intern!(py, "raw_path"),
            intern!(py, "query_string"),
            intern!(py, "headers"),
            intern!(py, "extensions"),
        ] {
            template.set_item(key, py.None())?;
        }
        template.set_item(intern!(py, "scheme"), intern!(py, "http"))?;
        if state.is_some() {
            template.set_item(intern!(py, "state"), py.None())?;
        }
        // A dictionary grows in steps and is copied with its size: with these more keys the copies
        // have room for what frameworks add ("app", "router", "path_params", "endpoint").
        for index in 0..6 {
            template.set_item(index, py.None())?;
        }
        for index in 0..6 {
            template.del_item(index)?;
        }
        Ok(Self {
            template: template.unbind(),
            asgi: asgi.unbind(),
            extensions: extensions.unbind(),
            few_extensions: few_extensions.unbind(),
            state,
            root_path: without_slash(root_path).to_vec(),
            known: std::iter::repeat_with(|| None).take(NAMES).collect(),
            method: Vec::new(),
            version: 0,
            https: false,
            target: Vec::new(),
            script_name: Vec::new(),
            peer: Vec::new(),
            peer_port: 0,
            server: Vec::new(),
            server_port: 0,
            fresh: true,
        })
    }

    pub(super) fn build<'py>(
        &mut self,
        py: Python<'py>,
        request: &message::Request<'_>,
    ) -> PyResult<Bound<'py, PyDict>> {
        self.remember(py, request)?;
        let scope = self.template.bind(py).copy()?;
        scope.set_item(intern!(py, "asgi"), self.asgi.bind(py).copy()?)?;
        let extensions = if self.version >= 11 { &self.extensions } else { &self.few_extensions };
        scope.set_item(intern!(py, "extensions"), extensions.bind(py).copy()?)?;
        if let Some(state) = &self.state {
            scope.set_item(intern!(py, "state"), state.bind(py).copy()?)?;
        }
        scope.set_item(intern!(py, "headers"), self.headers(py, request)?)?;
        Ok(scope)
    }

    /// Bring the template up to this request, where it differs from the last one.
    fn remember(&mut self, py: Python<'_>, request: &message::Request<'_>) -> PyResult<()> {
        let line = &request.line;
        let template = self.template.bind(py);
        let fresh = std::mem::replace(&mut self.fresh, false);
        if fresh || self.method != line.method {
            template.set_item(intern!(py, "method"), latin1(py, line.method)?)?;
            line.method.clone_into(&mut self.method);
        }
        if fresh || self.version != line.version {
            let version = match line.version {
                20 => "2".to_owned(),
                version => format!("{}.{}", version / 10, version % 10),
            };
            template.set_item(intern!(py, "http_version"), version)?;
            self.version = line.version;
        }
        if fresh || self.https != line.https {
            let scheme = if line.https { intern!(py, "https") } else { intern!(py, "http") };
            template.set_item(intern!(py, "scheme"), scheme)?;
            self.https = line.https;
        }
        if fresh || self.peer_port != line.peer_port || self.peer != line.peer {
            // "A two-item iterable of [host, port] ... Optional; if missing defaults to None." A
            // client on a unix socket has no address.
            if line.peer.is_empty() {
                template.set_item(intern!(py, "client"), py.None())?;
            } else {
                template.set_item(intern!(py, "client"), (latin1(py, line.peer)?, line.peer_port))?;
            }
            line.peer.clone_into(&mut self.peer);
            self.peer_port = line.peer_port;
        }
        if fresh || self.server_port != line.server_port || self.server != line.server {
            // "Either a two-item iterable of [host, port] ... or [path, None]" for a unix socket.
            let server = latin1(py, line.server)?;
            if line.server_port == 0 {
                template.set_item(intern!(py, "server"), (server, py.None()))?;
            } else {
                template.set_item(intern!(py, "server"), (server, line.server_port))?;
            }
            line.server.clone_into(&mut self.server);
            self.server_port = line.server_port;
        }
        if fresh || self.target != line.target || self.script_name != line.script_name {
            let root_path = match without_slash(line.script_name) {
                b"" => &self.root_path,
                script_name => script_name,
            };
            // "path" and "raw_path" have the root path in them, whether or not a proxy has taken it
            // off the target.
            let raw_path = if is_below(line.path, root_path) {
                line.path.to_vec()
            } else {
                [root_path, line.path].concat()
            };
            let path = match memchr::memchr(b'%', &raw_path) {
                None => utf8(py, &raw_path)?,
                Some(_) => utf8(py, &percent_decoded(&raw_path))?,
            };
            template.set_item(intern!(py, "root_path"), utf8(py, root_path)?)?;
            template.set_item(intern!(py, "path"), path)?;
            template.set_item(intern!(py, "raw_path"), PyBytes::new(py, &raw_path))?;
            template.set_item(intern!(py, "query_string"), PyBytes::new(py, line.query))?;
            line.target.clone_into(&mut self.target);
            line.script_name.clone_into(&mut self.script_name);
        }
        Ok(())
    }

    /// The header fields in order, names in lower case as they came from the router.
    fn headers<'py>(
        &mut self,
        py: Python<'py>,
        request: &message::Request<'_>,
    ) -> PyResult<Bound<'py, PyList>> {
        let mut pairs: Vec<Bound<'py, PyTuple>> = Vec::with_capacity(request.fields.len());
        for (name, value) in request.fields.iter() {
            pairs.push(known(py, &mut self.known, name)?.pair(py, value)?);
        }
        PyList::new(py, pairs)
    }
}

impl Known {
    fn new(py: Python<'_>, name: &[u8]) -> Self {
        Self { name: name.into(), key: PyBytes::new(py, name).unbind(), value: Vec::new(), pair: None }
    }

    fn pair<'py>(&mut self, py: Python<'py>, value: &[u8]) -> PyResult<Bound<'py, PyTuple>> {
        if let Some(pair) = &self.pair
            && self.value == value
        {
            return Ok(pair.bind(py).clone());
        }
        let pair = PyTuple::new(py, [self.key.bind(py).clone(), PyBytes::new(py, value)])?;
        if value.len() <= LONGEST {
            value.clone_into(&mut self.value);
            self.pair = Some(pair.clone().unbind());
        }
        Ok(pair)
    }
}

/// The place of a name among those that are remembered. Another name that was there goes.
fn known<'a>(py: Python<'_>, places: &'a mut [Option<Known>], name: &[u8]) -> PyResult<&'a mut Known> {
    let hash = name.iter().fold(name.len() as u64, |hash, byte| {
        (hash.rotate_left(5) ^ u64::from(*byte)).wrapping_mul(0x9e37_79b9_7f4a_7c15)
    });
    let no_place = || crate::errors::ChannelError::new_err("no place");
    let place = places.get_mut((hash >> 57) as usize).ok_or_else(no_place)?;
    match place {
        Some(known) if *known.name == *name => {}
        _ => *place = Some(Known::new(py, name)),
    }
    place.as_mut().ok_or_else(no_place)
}

/// "The path portion of the HTTP request target ... decoded from UTF-8". What is not UTF-8 becomes
/// replacement characters; `raw_path` has the bytes.
fn utf8<'py>(py: Python<'py>, bytes: &[u8]) -> PyResult<Bound<'py, PyString>> {
    if bytes.is_ascii() {
        return latin1(py, bytes);
    }
    Ok(PyString::new(py, &String::from_utf8_lossy(bytes)))
}

fn without_slash(path: &[u8]) -> &[u8] {
    path.strip_suffix(b"/").unwrap_or(path)
}

/// Is the path the root path or below it? `*` (OPTIONS) is no path.
fn is_below(path: &[u8], root_path: &[u8]) -> bool {
    path == b"*" || path.strip_prefix(root_path).is_some_and(|rest| rest.is_empty() || rest.starts_with(b"/"))
}
