//! Bodies that are gathered: in memory first, in an unlinked temporary file beyond a bound.

use std::fs::{File, OpenOptions};
use std::io;
use std::mem::ManuallyDrop;
use std::ops::Deref;
use std::os::fd::FromRawFd;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use crate::disk::{self, Work};

/// How much of a body is gathered for one write, in bytes.
const PIECE: usize = 256 * 1024;
/// A file that is larger, in bytes, is closed where that may take its time.
const CLOSE_HERE: u64 = 1024 * 1024;
/// How much is read of a body at a time before it is large, in bytes.
const FIRST: usize = 64 * 1024;

/// A file without a name: it goes away with its last descriptor, whoever dies.
#[derive(Debug)]
pub(crate) struct Temporary(ManuallyDrop<File>);

impl From<File> for Temporary {
    fn from(file: File) -> Self {
        Self(ManuallyDrop::new(file))
    }
}

impl Deref for Temporary {
    type Target = File;

    fn deref(&self) -> &File {
        &self.0
    }
}

impl Drop for Temporary {
    fn drop(&mut self) {
        // SAFETY: taken once, and not used after that.
        let file = unsafe { ManuallyDrop::take(&mut self.0) };
        if file.metadata().is_ok_and(|about| about.len() > CLOSE_HERE) {
            disk::discard(file);
        }
    }
}

/// Make a temporary file.
///
/// # Errors
/// The operating system's: the directory is missing or full, or there is no descriptor.
pub(crate) fn temporary_file(directory: Option<&Path>) -> io::Result<Temporary> {
    let default = std::env::temp_dir();
    let directory = directory.unwrap_or(&default);
    #[cfg(target_os = "linux")]
    {
        let opened = OpenOptions::new()
            .read(true)
            .write(true)
            .mode(0o600)
            .custom_flags(libc::O_TMPFILE | libc::O_CLOEXEC)
            .open(directory);
        match opened {
            // The file system cannot do it: take the older way below.
            Err(error) if matches!(error.raw_os_error(), Some(libc::EOPNOTSUPP | libc::EISDIR)) => {}
            other => return other.map(Temporary::from),
        }
    }
    linked_then_unlinked(directory).map(Temporary::from)
}

/// What to tell the operator when nothing can be stored: where, which setting names another place,
/// and why.
pub(crate) fn cannot_store(directory: Option<&str>, error: &io::Error) -> String {
    let place = directory.map_or_else(std::env::temp_dir, PathBuf::from);
    format!("{} (--tmp-upload-dir): {}", place.display(), why(error))
}

/// The same of a memory file.
pub(crate) fn cannot_hold(error: &io::Error) -> String {
    format!("a memory file (memfd): {}", why(error))
}

fn why(error: &io::Error) -> String {
    let limit = match error.raw_os_error() {
        Some(libc::EFBIG) => ", larger than RLIMIT_FSIZE allows (ulimit -f)",
        Some(libc::EMFILE) => ", RLIMIT_NOFILE allows no more (ulimit -n)",
        _ => "",
    };
    format!("{error}{limit}")
}

fn linked_then_unlinked(directory: &Path) -> io::Result<File> {
    let pid = std::process::id();
    for attempt in 0..100_u32 {
        let path = directory.join(format!(".remuda-{pid}-{attempt}"));
        match OpenOptions::new().read(true).write(true).create_new(true).mode(0o600).open(&path) {
            Ok(file) => {
                std::fs::remove_file(&path)?;
                return Ok(file);
            }
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(error),
        }
    }
    Err(io::ErrorKind::AlreadyExists.into())
}

/// A memory file: for what is too large for the ring and too small for the disk.
fn memory_file() -> io::Result<Temporary> {
    #[cfg(target_os = "linux")]
    {
        // SAFETY: the name is a C string; the result is checked, and is ours alone.
        unsafe {
            let fd = libc::memfd_create(c"remuda-body".as_ptr(), libc::MFD_CLOEXEC);
            if fd < 0 {
                return Err(io::Error::last_os_error());
            }
            Ok(File::from_raw_fd(fd).into())
        }
    }
    #[cfg(not(target_os = "linux"))]
    temporary_file(None)
}

/// A request body while it arrives. What is on its way to the file is one piece at a time, while the
/// next one is gathered.
#[derive(Debug)]
pub(crate) struct Spool {
    /// What no file has yet.
    memory: Vec<u8>,
    /// How much may stay there, in bytes.
    bound: usize,
    len: u64,
    /// Bytes that the file has, or that are being written.
    stored: u64,
    directory: Option<PathBuf>,
    file: Option<Temporary>,
    /// What is being written. It gives the file back, and the buffer.
    writing: Option<Work<(Temporary, Vec<u8>)>>,
    /// The buffer for the next piece.
    spare: Vec<u8>,
}

impl Spool {
    /// `bound` is how much may stay in memory; beyond it a file in `directory` is made.
    pub fn new(bound: usize, directory: Option<&str>) -> Self {
        Self {
            memory: Vec::new(),
            bound,
            len: 0,
            stored: 0,
            directory: directory.map(PathBuf::from),
            file: None,
            writing: None,
            spare: Vec::new(),
        }
    }

    pub fn len(&self) -> u64 {
        self.len
    }

    /// Is it a file, at least in part?
    pub fn has_file(&self) -> bool {
        self.file.is_some() || self.writing.is_some()
    }

    /// Add a piece.
    pub fn push(&mut self, data: &[u8]) {
        self.memory.extend_from_slice(data);
        self.len += data.len() as u64;
    }

    /// Have `read` add to what is there: `read` gets the buffer and how much fits well.
    pub fn read_with<T>(&mut self, read: impl FnOnce(&mut Vec<u8>, usize) -> T) -> T {
        let before = self.memory.len();
        let room = if self.stored > 0 { PIECE.saturating_sub(before).max(FIRST) } else { FIRST };
        let result = read(&mut self.memory, room);
        self.len += self.memory.len().saturating_sub(before) as u64;
        result
    }

    /// What came last: `count` bytes.
    pub fn tail(&self, count: usize) -> &[u8] {
        self.memory.get(self.memory.len().saturating_sub(count)..).unwrap_or_default()
    }

    /// Is there more than may stay in memory, so that [`Spool::poll_store`] is due?
    pub fn is_full(&self) -> bool {
        if self.stored == 0 { self.memory.len() > self.bound } else { self.memory.len() >= PIECE }
    }

    /// Have what is in memory written. Ready as soon as that has begun.
    ///
    /// # Errors
    /// The operating system's, when the file cannot be made or written: a full disk. Of a write that
    /// has begun it comes with the next call.
    pub fn poll_store(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_written(cx))?;
        let directory = self.directory.clone();
        self.write(move || temporary_file(directory.as_deref()));
        Poll::Ready(Ok(()))
    }

    fn write(&mut self, make: impl FnOnce() -> io::Result<Temporary> + Send + 'static) {
        let mut bytes = std::mem::replace(&mut self.memory, std::mem::take(&mut self.spare));
        let (file, at) = (self.file.take(), self.stored);
        self.stored += bytes.len() as u64;
        self.writing = Some(disk::run(move || {
            let file = file.map_or_else(make, Ok)?;
            file.write_all_at(&bytes, at)?;
            bytes.clear();
            Ok((file, bytes))
        }));
    }

    /// Wait for what is being written.
    ///
    /// # Errors
    /// As of [`Spool::poll_store`].
    pub fn poll_written(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if let Some(writing) = &mut self.writing {
            let written = ready!(writing.poll(cx));
            self.writing = None;
            let (file, buffer) = written?;
            self.file = Some(file);
            if buffer.capacity() <= 2 * PIECE {
                self.spare = buffer;
            }
        }
        Poll::Ready(Ok(()))
    }

    /// The whole body: in memory when it is at most `inline` bytes, as a file at its beginning
    /// otherwise. Not to be called again once it is ready.
    ///
    /// # Errors
    /// The operating system's, when a file cannot be made or written.
    pub fn poll_finish(&mut self, cx: &mut Context<'_>, inline: usize) -> Poll<io::Result<Gathered>> {
        if self.stored == 0 && self.memory.len() <= inline {
            return Poll::Ready(Ok(Gathered::Memory(std::mem::take(&mut self.memory))));
        }
        loop {
            ready!(self.poll_written(cx))?;
            if self.memory.is_empty() {
                let file = self.file.take().ok_or_else(|| io::Error::other("there is no body"))?;
                return Poll::Ready(Ok(Gathered::File(file, self.len)));
            }
            if self.stored > 0 || self.is_full() {
                ready!(self.poll_store(cx))?;
            } else if self.memory.len() > PIECE {
                self.write(memory_file);
            } else {
                let file = memory_file()?;
                file.write_all_at(&self.memory, 0)?;
                return Poll::Ready(Ok(Gathered::File(file, self.len)));
            }
        }
    }
}

/// A request body that is complete.
#[derive(Debug)]
pub(crate) enum Gathered {
    Memory(Vec<u8>),
    /// The file and its length.
    File(Temporary, u64),
}

/// Where a response waits that its client is slow to read: written at the end, sent from the front.
#[derive(Debug)]
pub(crate) struct ResponseSpool {
    file: Rc<Temporary>,
    end: u64,
}

impl ResponseSpool {
    pub fn new(directory: Option<&str>) -> io::Result<Self> {
        Ok(Self { file: Rc::new(temporary_file(directory.map(Path::new))?), end: 0 })
    }

    /// Write a piece. Returns where in the file it begins.
    pub fn push(&mut self, data: &[u8]) -> io::Result<u64> {
        let at = self.end;
        self.file.write_all_at(data, at)?;
        self.end += data.len() as u64;
        Ok(at)
    }

    /// The size of the file, in bytes.
    pub fn len(&self) -> u64 {
        self.end
    }

    pub fn file(&self) -> Rc<Temporary> {
        self.file.clone()
    }
}

#[cfg(test)]
mod tests;
