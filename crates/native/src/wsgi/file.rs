//! `wsgi.file_wrapper`: PEP 3333, "Optional Platform-Specific File Handling".

use std::fs::File;
use std::os::fd::{BorrowedFd, RawFd};

use pyo3::exceptions::PyTypeError;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict};

use super::headers::kind_of;

/// A file-like object as an iterable of blocks. Returned to the gateway as it is, a real file goes
/// to the client without passing through Python.
#[pyclass(frozen, module = "remuda._native")]
pub struct FileWrapper {
    #[pyo3(get)]
    filelike: Py<PyAny>,
    #[pyo3(get)]
    blksize: usize,
}

#[pymethods]
impl FileWrapper {
    #[new]
    #[pyo3(signature = (filelike, blksize=8192))]
    fn new(filelike: Bound<'_, PyAny>, blksize: usize) -> PyResult<Self> {
        if !filelike.hasattr(intern!(filelike.py(), "read"))? {
            let kind = kind_of(&filelike);
            return Err(PyTypeError::new_err(format!("wsgi.file_wrapper wants a file, not {kind}")));
        }
        Ok(Self { filelike: filelike.unbind(), blksize })
    }

    fn __iter__(slf: Bound<'_, Self>) -> Bound<'_, Self> {
        slf
    }

    fn __next__<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyAny>>> {
        let block = self.filelike.bind(py).call_method1(intern!(py, "read"), (self.blksize,))?;
        Ok(block.is_truthy()?.then_some(block))
    }

    /// Close the file, if it can be closed.
    fn close(&self, py: Python<'_>) -> PyResult<()> {
        match self.filelike.bind(py).getattr_opt(intern!(py, "close"))? {
            Some(close) => close.call0().map(drop),
            None => Ok(()),
        }
    }
}

/// A file that can go out by its descriptor: what is left of it from where it stands.
pub(super) struct Sendable<'py> {
    fd: RawFd,
    /// Keeps the descriptor open.
    _file: Bound<'py, PyAny>,
    pub(super) offset: u64,
    pub(super) rest: u64,
}

impl Sendable<'_> {
    pub(super) fn fd(&self) -> BorrowedFd<'_> {
        // SAFETY: the file that owns the descriptor is held, and was open a moment ago; when some
        // other thread closes it meanwhile, sending it fails with EBADF.
        unsafe { BorrowedFd::borrow_raw(self.fd) }
    }
}

impl FileWrapper {
    /// The file, when its bytes are those of a regular file: an `open(..., "rb")` without tricks. A
    /// `fileno` alone proves nothing: that of a GzipFile gives the compressed bytes.
    pub(super) fn sendable<'py>(&self, py: Python<'py>) -> PyResult<Option<Sendable<'py>>> {
        let Some(file) = real_file(self.filelike.bind(py))? else { return Ok(None) };
        if !file.call_method0(intern!(py, "readable"))?.is_truthy()? {
            return Ok(None);
        }
        if file.call_method0(intern!(py, "writable"))?.is_truthy()? {
            file.call_method0(intern!(py, "flush"))?;
        }
        let fd: RawFd = file.call_method0(intern!(py, "fileno"))?.extract()?;
        // SAFETY: as in `Sendable::fd`.
        let borrowed = unsafe { BorrowedFd::borrow_raw(fd) };
        let Ok(metadata) = borrowed.try_clone_to_owned().map(File::from).and_then(|file| file.metadata())
        else {
            return Ok(None);
        };
        if !metadata.is_file() {
            return Ok(None);
        }
        let offset: u64 = file.call_method0(intern!(py, "tell"))?.extract()?;
        let rest = metadata.len().saturating_sub(offset);
        Ok(Some(Sendable { fd, _file: file, offset, rest }))
    }
}

/// The io object of a plain binary file, if this is one.
fn real_file<'py>(file: &Bound<'py, PyAny>) -> PyResult<Option<Bound<'py, PyAny>>> {
    let py = file.py();
    let io = py.import(intern!(py, "io"))?;
    let is = |object: &Bound<'py, PyAny>, name: &str| -> PyResult<bool> {
        Ok(object.get_type().is(&io.getattr(name)?))
    };
    let kind = file.get_type();
    // What tempfile.NamedTemporaryFile returns holds the file that it stands for.
    let file = if kind.name()? == "_TemporaryFileWrapper" && kind.module()? == "tempfile" {
        file.getattr(intern!(py, "file"))?
    } else {
        file.clone()
    };
    let plain = is(&file, "FileIO")?
        || ((is(&file, "BufferedReader")? || is(&file, "BufferedRandom")?)
            && is(&file.getattr(intern!(py, "raw"))?, "FileIO")?);
    if !plain {
        return Ok(None);
    }
    // One whose reading was replaced on the object itself is not plain either.
    let own = file.getattr_opt(intern!(py, "__dict__"))?;
    let replaced = match own.as_ref().and_then(|own| own.cast::<PyDict>().ok()) {
        Some(own) => own.contains(intern!(py, "read"))? || own.contains(intern!(py, "tell"))?,
        None => false,
    };
    Ok((!replaced).then_some(file))
}

/// A block of a body must be bytes.
pub(super) fn bytes_of<'a, 'py>(block: &'a Bound<'py, PyAny>) -> PyResult<&'a Bound<'py, PyBytes>> {
    block
        .cast::<PyBytes>()
        .map_err(|_| super::response::not_bytes("the application's iterable must give", block))
}
