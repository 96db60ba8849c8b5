//! The WSGI gateway: PEP 3333 from a claimed request to the frame that frees its slot.

mod environ;
mod file;
mod headers;
mod input;
mod response;

use std::sync::{Arc, Mutex};

use ::channel::message::{DONE, Payload};
use pyo3::exceptions::PyTypeError;
use pyo3::ffi;
use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict, PyList, PyString, PyTuple};

use crate::channel::Channel;
use crate::errors::{ClientGone, SendError, is_exit};
use crate::notices::Notices;
use crate::request::Request;
use crate::room::locked;
use crate::text::latin1_bytes;
use environ::Builder;
pub use file::FileWrapper;
use headers::kind_of;
pub use input::Input;
pub use response::Response;

/// How many environ builders and responses are kept for reuse.
const SPARE: usize = 8;
/// Up to this size a body of several blocks goes out in one frame, in bytes.
const JOINED: usize = 64 << 10;

/// A response and the callables that the application gets for it.
struct Kit {
    response: Py<Response>,
    start_response: Py<PyAny>,
    early_hints: Py<PyAny>,
}

impl Kit {
    fn new(py: Python<'_>, channel: &Py<Channel>, notices: &Arc<Notices>) -> PyResult<Self> {
        let response = Bound::new(py, Response::new(channel.clone_ref(py), notices.clone()))?;
        Ok(Self {
            start_response: response.getattr(intern!(py, "start_response"))?.unbind(),
            early_hints: response.getattr(intern!(py, "early_hints"))?.unbind(),
            response: response.unbind(),
        })
    }

    /// Does nobody else hold any of it, so that it can serve another request? The response is held
    /// by us and by its two bound methods.
    fn is_ours(&self) -> bool {
        // SAFETY: all three are live objects.
        unsafe {
            ffi::Py_REFCNT(self.start_response.as_ptr()) == 1
                && ffi::Py_REFCNT(self.early_hints.as_ptr()) == 1
                && ffi::Py_REFCNT(self.response.as_ptr()) == 3
        }
    }
}

/// Serves requests by calling a WSGI application.
#[pyclass(frozen, module = "remuda._native")]
pub struct Wsgi {
    application: Py<PyAny>,
    channel: Py<Channel>,
    constant: Py<PyDict>,
    root_path: Vec<u8>,
    on_error: Py<PyAny>,
    notices: Arc<Notices>,
    on_request: Option<Py<PyAny>>,
    on_response: Option<Py<PyAny>>,
    wrap_input: Option<Py<PyAny>>,
    builders: Mutex<Vec<Builder>>,
    kits: Mutex<Vec<Kit>>,
}

/// How a call of the application ended.
enum End {
    /// The frame that frees the slot was sent.
    Done,
    /// The body was sent; the slot is not free yet.
    Ended,
}

#[pymethods]
impl Wsgi {
    #[new]
    #[pyo3(signature = (
        application, channel, *, errors, on_error, on_notice=None, multithread=false, multiprocess=false, root_path="",
        on_request=None, on_response=None, wrap_input=None,
    ))]
    #[allow(clippy::too_many_arguments)]
    fn new(
        py: Python<'_>,
        application: Py<PyAny>,
        channel: Py<Channel>,
        errors: &Bound<'_, PyAny>,
        on_error: Py<PyAny>,
        on_notice: Option<Py<PyAny>>,
        multithread: bool,
        multiprocess: bool,
        root_path: &str,
        on_request: Option<Py<PyAny>>,
        on_response: Option<Py<PyAny>>,
        wrap_input: Option<Py<PyAny>>,
    ) -> PyResult<Self> {
        let constant = PyDict::new(py);
        constant.set_item("wsgi.version", (1, 0))?;
        constant.set_item("wsgi.input", Bound::new(py, Input::empty())?)?;
        constant.set_item("wsgi.input_terminated", true)?;
        constant.set_item("wsgi.errors", errors)?;
        constant.set_item("wsgi.multithread", multithread)?;
        constant.set_item("wsgi.multiprocess", multiprocess)?;
        constant.set_item("wsgi.run_once", false)?;
        constant.set_item("wsgi.file_wrapper", py.get_type::<FileWrapper>())?;
        constant.set_item("SERVER_SOFTWARE", concat!("remuda/", env!("CARGO_PKG_VERSION")))?;
        let root_path = PyString::new(py, root_path);
        let root_path = latin1_bytes(&root_path)
            .ok_or_else(|| pyo3::exceptions::PyValueError::new_err("root_path is not Latin-1"))?
            .to_vec();
        Ok(Self {
            application,
            channel,
            constant: constant.unbind(),
            root_path,
            on_error,
            notices: Arc::new(Notices::new(on_notice)),
            on_request,
            on_response,
            wrap_input,
            builders: Mutex::new(Vec::new()),
            kits: Mutex::new(Vec::new()),
        })
    }

    /// The application may hold what holds this gateway.
    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.application)?;
        visit.call(&self.on_error)?;
        self.notices.traverse(&visit)?;
        visit.call(&self.constant)?;
        visit.call(&self.channel)?;
        if let Ok(kits) = self.kits.try_lock() {
            for kit in &*kits {
                visit.call(&kit.response)?;
                visit.call(&kit.start_response)?;
                visit.call(&kit.early_hints)?;
            }
        }
        visit.call(&self.on_request)?;
        visit.call(&self.on_response)?;
        visit.call(&self.wrap_input)
    }

    /// Serve one request: build `environ`, call the application, send what it gives, close it.
    ///
    /// What the application raises is logged and answered. Only SystemExit and KeyboardInterrupt
    /// come out: then the request is not done, and the worker must exit.
    fn serve(&self, request: &Bound<'_, Request>) -> PyResult<()> {
        let py = request.py();
        let ticket = request.get().ticket;
        let spare = locked(&self.kits).pop();
        let kit = match spare {
            Some(kit) => kit,
            None => Kit::new(py, &self.channel, &self.notices)?,
        };
        let served = self.answer(py, request, &kit);
        kit.response.get().close();
        if served.is_ok() {
            self.channel.get().finish(py, &ticket)?;
        } else {
            // The worker exits, in its own time; what was sent must not wait for that.
            self.channel.get().deliver_wake();
        }
        if kit.is_ours() {
            let mut kits = locked(&self.kits);
            if kits.len() < SPARE {
                kits.push(kit);
            }
        }
        served
    }
}

impl Wsgi {
    fn environ<'py>(
        &self,
        py: Python<'py>,
        request: &Bound<'py, Request>,
        kit: &Kit,
    ) -> PyResult<Bound<'py, PyDict>> {
        let message = request.get().decode()?;
        kit.response.get().begin(request.get().ticket, message.line.version);
        let spare = locked(&self.builders).pop();
        let mut builder = match spare {
            Some(builder) => builder,
            None => Builder::new(self.constant.bind(py), &self.root_path)?,
        };
        let environ = builder.build(py, &message, kit.early_hints.bind(py))?;
        {
            let mut builders = locked(&self.builders);
            if builders.len() < SPARE {
                builders.push(builder);
            }
        }
        if !matches!(message.payload, Payload::Inline(b"")) {
            let input = Bound::new(py, Input::new(request, &message.payload)?)?.into_any();
            let input = match (&self.wrap_input, &message.payload) {
                (Some(wrap), Payload::Descriptor(_)) => wrap.bind(py).call1((input,))?,
                _ => input,
            };
            environ.set_item(intern!(py, "wsgi.input"), input)?;
        }
        Ok(environ)
    }

    fn answer(&self, py: Python<'_>, request: &Bound<'_, Request>, kit: &Kit) -> PyResult<()> {
        let environ = self.environ(py, request, kit)?;
        if let Some(hook) = &self.on_request
            && let Err(error) = self.channel.get().came_back(py, hook.bind(py).call1((request,)))
        {
            return self.failed(py, request, kit, error);
        }
        let called = self.call(py, request, &environ, kit);
        let answered = match called {
            Ok(End::Done) => Ok(()),
            Ok(End::Ended) => match kit.response.get().done(py) {
                Ok(()) | Err(SendError::Gone) => Ok(()),
                Err(error) => Err(PyErr::from(error)),
            },
            Err(error) => self.failed(py, request, kit, error),
        };
        if kit.response.get().excess() {
            let name = request.get().name();
            self.log(py, &format!("{name}: the application gave more than its Content-Length"), None);
        }
        if let Some(hook) = &self.on_response
            && answered.is_ok()
            && let Err(error) =
                self.channel.get().came_back(py, hook.bind(py).call1((request, &environ, &kit.response)))
        {
            self.log(py, &format!("post_request failed on {}", request.get().name()), Some(&error));
        }
        answered
    }

    /// Call the application, send its body, close it.
    fn call(
        &self,
        py: Python<'_>,
        request: &Bound<'_, Request>,
        environ: &Bound<'_, PyDict>,
        kit: &Kit,
    ) -> PyResult<End> {
        let response = kit.response.get();
        let channel = self.channel.get();
        let result = self.application.bind(py).call1((environ, kit.start_response.bind(py)));
        let result = channel.came_back(py, result)?;
        // A list or a tuple is all there, and has nothing to close.
        if result.is_exact_instance_of::<PyList>() || result.is_exact_instance_of::<PyTuple>() {
            send_blocks(py, response, &result)?;
            return Ok(End::Done);
        }
        let sent = send_iterable(py, channel, response, &result);
        // "If the iterable returned by the application has a close() method, the server or gateway
        // must call that method upon completion of the current request, whether the request was
        // completed normally, or terminated early due to an application error during iteration or
        // an early disconnect" (PEP 3333, "Specification Details").
        if !(matches!(sent, Ok(End::Done))) {
            let closed = match result.getattr_opt(intern!(py, "close")) {
                Ok(Some(close)) => channel.came_back(py, close.call0()).map(drop),
                Ok(None) => Ok(()),
                Err(error) => Err(error),
            };
            if let Err(error) = closed {
                if sent.is_ok() && is_exit(py, &error) {
                    return Err(error);
                }
                self.log(py, &format!("close() failed after {}", request.get().name()), Some(&error));
            }
        }
        sent
    }

    /// The application raised, or its response could not be sent.
    fn failed(&self, py: Python<'_>, request: &Bound<'_, Request>, kit: &Kit, error: PyErr) -> PyResult<()> {
        let response = kit.response.get();
        let name = request.get().name();
        if is_exit(py, &error) {
            let what = kind_of(error.value(py));
            self.log(py, &format!("{what} in {name}: the worker exits"), Some(&error));
            return Err(error);
        }
        let gone = error.is_instance_of::<ClientGone>(py);
        if !gone {
            self.log(py, &format!("Error handling request {name}"), Some(&error));
        }
        let sent = if gone || response.ended() || response.head_sent() {
            if response.ended() && !gone { response.done(py) } else { response.abort(py) }
        } else {
            response.fail(py)
        };
        match sent {
            Ok(()) => Ok(()),
            Err(SendError::Raised(error)) if is_exit(py, &error) => Err(error),
            // Nobody wants the page either, or sending it was interrupted, too: the slot must be
            // free all the same.
            Err(_) => match response.abort(py) {
                Ok(()) | Err(SendError::Gone) => Ok(()),
                Err(error) => Err(error.into()),
            },
        }
    }

    fn log(&self, py: Python<'_>, message: &str, error: Option<&PyErr>) {
        // Before Python 3.12 the traceback is kept beside the exception, and only this joins them.
        let value = error.map(|error| error.clone_ref(py).into_value(py));
        if let Err(failure) = self.on_error.bind(py).call1((message, value)) {
            failure.write_unraisable(py, None);
        }
    }
}

/// Send the body that a list or a tuple holds, and free the slot.
fn send_blocks(py: Python<'_>, response: &Response, blocks: &Bound<'_, PyAny>) -> Result<(), SendError> {
    let blocks: Vec<Bound<'_, PyAny>> = match blocks.cast::<PyList>() {
        Ok(list) if list.len() == 1 => {
            let block = list.get_item(0)?;
            return send_whole(py, response, file::bytes_of(&block)?.as_bytes());
        }
        Ok(list) => list.iter().collect(),
        Err(_) => blocks.cast::<PyTuple>().map_err(PyErr::from)?.iter().collect(),
    };
    let mut size = 0_usize;
    for block in &blocks {
        size = size.saturating_add(file::bytes_of(block)?.as_bytes().len());
    }
    if size <= JOINED {
        let mut joined = Vec::with_capacity(size);
        for block in &blocks {
            joined.extend_from_slice(file::bytes_of(block)?.as_bytes());
        }
        return send_whole(py, response, &joined);
    }
    for block in &blocks {
        let block = file::bytes_of(block)?.as_bytes();
        if !block.is_empty() {
            response.chunk(py, block, false)?;
        }
    }
    if response.ended() { response.done(py) } else { response.end(py, DONE) }
}

fn send_whole(py: Python<'_>, response: &Response, data: &[u8]) -> Result<(), SendError> {
    if response.ended() {
        response.chunk(py, data, true)?;
        return response.done(py);
    }
    response.whole(py, data)
}

/// Send the body that an iterable gives, block by block as they come.
fn send_iterable(
    py: Python<'_>,
    channel: &Channel,
    response: &Response,
    result: &Bound<'_, PyAny>,
) -> PyResult<End> {
    if let Ok(wrapper) = result.cast_exact::<FileWrapper>()
        && let Some(file) = wrapper.get().sendable(py)?
        && !response.ended()
    {
        response.file(py, file.fd(), file.offset, file.rest)?;
        return Ok(End::Ended);
    }
    if result.is_instance_of::<PyBytes>() || result.is_instance_of::<PyString>() {
        let kind = kind_of(result);
        return Err(PyTypeError::new_err(format!(
            "the application returned {kind}: put it into a list, as in [b\"...\"]"
        )));
    }
    let only = len(result) == Some(1);
    let mut blocks = result.try_iter().map_err(|error| not_iterable(py, result, error))?;
    while let Some(block) = channel.came_back(py, blocks.next().transpose())? {
        let block = file::bytes_of(&block)?.as_bytes();
        // "applications ... can yield empty bytestrings": the headers wait for one that is not.
        if !block.is_empty() {
            response.chunk(py, block, only)?;
        }
    }
    drop(blocks);
    if response.ended() {
        return Ok(End::Ended);
    }
    // A generator that has come to its end has nothing left to close.
    // SAFETY: `result` is a live object.
    if unsafe { ffi::PyGen_CheckExact(result.as_ptr()) } != 0 {
        response.end(py, DONE)?;
        return Ok(End::Done);
    }
    response.end(py, 0)?;
    Ok(End::Ended)
}

fn not_iterable(py: Python<'_>, result: &Bound<'_, PyAny>, error: PyErr) -> PyErr {
    if !error.is_instance_of::<PyTypeError>(py) {
        return error;
    }
    let kind = kind_of(result);
    // What is called as WSGI and is ASGI.
    let hint =
        if kind == "coroutine" { ": an async application needs worker class asgi (-k asgi)" } else { "" };
    let clear =
        PyTypeError::new_err(format!("the application returned {kind}, not an iterable of bytes{hint}"));
    clear.set_cause(py, Some(error));
    clear
}

/// `len()` of what has one. Asking the others would cost an exception each.
fn len(object: &Bound<'_, PyAny>) -> Option<usize> {
    // SAFETY: a live object has a type, whose slots may be null or have null members; both are checked.
    let has_len = unsafe {
        let kind = ffi::Py_TYPE(object.as_ptr());
        let sequence = (*kind).tp_as_sequence;
        let mapping = (*kind).tp_as_mapping;
        (!sequence.is_null() && (*sequence).sq_length.is_some())
            || (!mapping.is_null() && (*mapping).mp_length.is_some())
    };
    if has_len { object.len().ok() } else { None }
}
