//! Bodies that are gathered: in memory first, in an unlinked temporary file beyond a bound.

use std::fs::{File, OpenOptions};
use std::io::{self, Seek, Write};
use std::os::fd::{FromRawFd, OwnedFd};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::rc::Rc;

/// An unlinked temporary file: it goes away with its last descriptor, whoever dies.
///
/// # Errors
/// The operating system's: the directory is missing or full, or there is no descriptor.
pub(crate) fn temporary_file(directory: Option<&str>) -> io::Result<File> {
    let default = std::env::temp_dir();
    let directory = directory.map_or(default.as_path(), Path::new);
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
            other => return other,
        }
    }
    linked_then_unlinked(directory)
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
fn memory_file() -> io::Result<File> {
    #[cfg(target_os = "linux")]
    {
        // SAFETY: the name is a C string; the result is checked, and is ours alone.
        unsafe {
            let fd = libc::memfd_create(c"remuda-body".as_ptr(), libc::MFD_CLOEXEC);
            if fd < 0 {
                return Err(io::Error::last_os_error());
            }
            Ok(File::from(OwnedFd::from_raw_fd(fd)))
        }
    }
    #[cfg(not(target_os = "linux"))]
    temporary_file(None)
}

/// A request body while it arrives.
#[derive(Debug, Default)]
pub(crate) struct Spool {
    memory: Vec<u8>,
    file: Option<File>,
    len: u64,
}

impl Spool {
    pub fn len(&self) -> u64 {
        self.len
    }

    /// Add a piece. `bound` is how much may stay in memory.
    ///
    /// # Errors
    /// The operating system's, when the file cannot be made or written: a full disk.
    pub fn push(&mut self, data: &[u8], bound: usize, directory: Option<&str>) -> io::Result<()> {
        self.len += data.len() as u64;
        if let Some(file) = &mut self.file {
            return file.write_all(data);
        }
        if self.memory.len() + data.len() <= bound {
            self.memory.extend_from_slice(data);
            return Ok(());
        }
        let mut file = temporary_file(directory)?;
        file.write_all(&self.memory)?;
        file.write_all(data)?;
        self.memory = Vec::new();
        self.file = Some(file);
        Ok(())
    }

    /// The whole body: in memory when it is at most `inline` bytes, as a file at its beginning
    /// otherwise.
    ///
    /// # Errors
    /// The operating system's, when a memory file cannot be made.
    pub fn finish(self, inline: usize) -> io::Result<Gathered> {
        match self.file {
            Some(mut file) => {
                file.rewind()?;
                Ok(Gathered::File(file.into(), self.len))
            }
            None if self.memory.len() <= inline => Ok(Gathered::Memory(self.memory)),
            None => {
                let mut file = memory_file()?;
                file.write_all(&self.memory)?;
                file.rewind()?;
                Ok(Gathered::File(file.into(), self.len))
            }
        }
    }
}

/// A request body that is complete.
#[derive(Debug)]
pub(crate) enum Gathered {
    Memory(Vec<u8>),
    /// The file and its length.
    File(OwnedFd, u64),
}

/// Where a response waits that its client is slow to read: written at the end, sent from the front.
#[derive(Debug)]
pub(crate) struct ResponseSpool {
    file: Rc<File>,
    end: u64,
}

impl ResponseSpool {
    pub fn new(directory: Option<&str>) -> io::Result<Self> {
        Ok(Self { file: Rc::new(temporary_file(directory)?), end: 0 })
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

    pub fn file(&self) -> Rc<File> {
        self.file.clone()
    }
}

#[cfg(test)]
mod tests;
