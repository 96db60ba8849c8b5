//! Requests with their whole bodies, for a gateway that wants them so on an event loop to which
//! bodies come in pieces.

use std::collections::HashMap;
use std::ffi::CString;
use std::fs::File;
use std::io::{self, Write};
use std::os::fd::{FromRawFd, OwnedFd};
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use ::channel::message::{self, Credit, DONE, Payload};
use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::prelude::*;

use crate::channel::Channel;
use crate::errors::{self, SendError};
use crate::inbox::{Claimed, Incoming};
use crate::outbox::{Frame, Ticket, Wake};
use crate::request::Request;
use crate::room::locked;

/// A longer body becomes a file, in bytes.
const IN_MEMORY: usize = 1 << 20;
/// How much may be taken before the router is told, in bytes.
const CREDIT: u64 = 32 << 10;

/// A request whose body is not complete.
struct Gathering {
    claimed: Claimed,
    ticket: Ticket,
    data: Vec<u8>,
    file: Option<File>,
    len: u64,
    owed: u64,
}

/// Takes requests from a channel and completes their bodies.
#[pyclass(frozen, module = "remuda._native")]
pub struct Gather {
    channel: Py<Channel>,
    directory: PathBuf,
    on_error: Py<PyAny>,
    gathering: Mutex<HashMap<u64, Gathering>>,
}

#[pymethods]
impl Gather {
    /// `directory` is where long bodies are stored; None: the system's directory for temporary
    /// files. `on_error` is called with a message and an exception for the log.
    #[new]
    fn new(channel: Py<Channel>, directory: Option<PathBuf>, on_error: Py<PyAny>) -> Self {
        let directory = directory.unwrap_or_else(std::env::temp_dir);
        Self { channel, directory, on_error, gathering: Mutex::new(HashMap::new()) }
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.channel)?;
        visit.call(&self.on_error)
    }

    /// The next request that is complete, or None when there is none now. Raises Retired when there
    /// will be no more.
    fn take(&self, py: Python<'_>) -> PyResult<Option<Request>> {
        loop {
            match self.channel.get().poll_next(py)? {
                Incoming::Request(claimed) => {
                    let request = message::Request::decode(&claimed.message).map_err(errors::broken)?;
                    if request.payload != Payload::Stream {
                        return Ok(Some(Request::new(claimed)?));
                    }
                    let ticket = Ticket::new(claimed.id, claimed.generation);
                    let gathering =
                        Gathering { claimed, ticket, data: Vec::new(), file: None, len: 0, owed: 0 };
                    locked(&self.gathering).insert(ticket.id, gathering);
                }
                Incoming::Body { id, data, last } => {
                    if let Some(request) = self.add(py, id, &data, last)? {
                        return Ok(Some(request));
                    }
                }
                Incoming::Cancel { id, .. } => {
                    let gone = locked(&self.gathering).remove(&id);
                    if let Some(gathering) = gone {
                        self.drop_request(py, &gathering.ticket)?;
                    }
                }
                Incoming::Hello(generation) => self.forget_others(py, generation)?,
                Incoming::Stop => {}
                Incoming::Nothing => return Ok(None),
            }
        }
    }
}

impl Gather {
    /// Add a piece to a body. Returns the request when that was the last one.
    fn add(&self, py: Python<'_>, id: u64, data: &[u8], last: bool) -> PyResult<Option<Request>> {
        let taken = locked(&self.gathering).remove(&id);
        let Some(mut gathering) = taken else { return Ok(None) };
        if let Err(error) = gathering.push(data, &self.directory) {
            let error = errors::os(&error);
            let place = self.directory.display();
            let message = format!("a request's body cannot be stored in {place} (--tmp-upload-dir)");
            self.on_error.bind(py).call1((message, error.clone_ref(py).into_value(py)))?;
            self.drop_request(py, &gathering.ticket)?;
            return Ok(None);
        }
        if last {
            return Ok(Some(Request::new(gathering.complete())?));
        }
        if gathering.owed >= CREDIT {
            let message = Credit { id, bytes: gathering.owed }.encode();
            gathering.owed = 0;
            self.send(py, &gathering.ticket, message::CREDIT, &message)?;
        }
        locked(&self.gathering).insert(id, gathering);
        Ok(None)
    }

    /// Free the slot of a request that will not be served.
    fn drop_request(&self, py: Python<'_>, ticket: &Ticket) -> PyResult<()> {
        let message = message::Body::prefix(ticket.id, DONE, ticket.elapsed());
        self.send(py, ticket, message::ABORT, &message)?;
        self.channel.get().finish(py, ticket)
    }

    fn send(&self, py: Python<'_>, ticket: &Ticket, kind: u16, message: &[u8]) -> PyResult<()> {
        let frame = Frame { kind, parts: &[message], obeys_flow: false, file: None, wake: Wake::Now };
        match self.channel.get().send(py, ticket, &frame) {
            Ok(()) | Err(SendError::Gone) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// The rest of these bodies was in a router that is dead.
    fn forget_others(&self, py: Python<'_>, generation: u32) -> PyResult<()> {
        let others: Vec<Ticket> = {
            let mut gathering = locked(&self.gathering);
            let stale: Vec<u64> = gathering
                .iter()
                .filter(|(_, gathering)| gathering.ticket.generation != generation)
                .map(|(id, _)| *id)
                .collect();
            stale.iter().filter_map(|id| gathering.remove(id)).map(|gone| gone.ticket).collect()
        };
        for ticket in others {
            self.channel.get().finish(py, &ticket)?;
        }
        Ok(())
    }
}

impl Gathering {
    fn push(&mut self, data: &[u8], directory: &Path) -> io::Result<()> {
        self.len += data.len() as u64;
        self.owed += data.len() as u64;
        if self.file.is_none() && self.data.len() + data.len() > IN_MEMORY {
            let mut file = temporary(directory)?;
            file.write_all(&self.data)?;
            self.data = Vec::new();
            self.file = Some(file);
        }
        match &mut self.file {
            Some(file) => file.write_all(data),
            None => {
                self.data.extend_from_slice(data);
                Ok(())
            }
        }
    }

    fn complete(mut self) -> Claimed {
        if let Some(file) = self.file {
            message::Request::set_payload(&mut self.claimed.message, &Payload::Descriptor(self.len));
            self.claimed.file = Some(OwnedFd::from(file));
        } else {
            message::Request::set_payload(&mut self.claimed.message, &Payload::Inline(&[]));
            self.claimed.message.extend_from_slice(&self.data);
        }
        self.claimed
    }
}

/// A file without a name.
fn temporary(directory: &Path) -> io::Result<File> {
    let mut template =
        CString::new(directory.join("remuda-XXXXXX").into_os_string().into_vec())?.into_bytes_with_nul();
    // SAFETY: the template is a live, writable string that ends with a zero byte; the descriptor is
    // a fresh one, checked, and ours alone; the name is that of the file just made.
    unsafe {
        let fd = libc::mkostemp(template.as_mut_ptr().cast(), libc::O_CLOEXEC);
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        libc::unlink(template.as_ptr().cast());
        Ok(File::from_raw_fd(fd))
    }
}
