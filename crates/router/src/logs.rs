//! The two log files: errors in gunicorn's format, and one access record a request.

use std::cell::{Cell, RefCell};
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::fd::FromRawFd;
use std::time::SystemTime;

use crate::clock::Clock;

/// How grave a line of the error log is, gravest last.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Level {
    Debug,
    Info,
    Warning,
    Error,
    Critical,
}

impl Level {
    fn parse(name: &str) -> Self {
        match name.to_ascii_lowercase().as_str() {
            "debug" => Self::Debug,
            "warning" => Self::Warning,
            "error" => Self::Error,
            "critical" => Self::Critical,
            _ => Self::Info,
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Debug => "DEBUG",
            Self::Info => "INFO",
            Self::Warning => "WARNING",
            Self::Error => "ERROR",
            Self::Critical => "CRITICAL",
        }
    }
}

/// A log file that can be reopened. Writing to it never fails the caller: a log that cannot be
/// written has nowhere to complain.
#[derive(Debug)]
struct Target {
    path: String,
    file: RefCell<Option<File>>,
}

impl Target {
    /// `-` is the standard stream `fd`; anything else is the path of a file.
    fn open(path: &str, fd: i32) -> io::Result<Self> {
        let target = Self { path: path.to_owned(), file: RefCell::default() };
        target.reopen(fd)?;
        Ok(target)
    }

    fn reopen(&self, fd: i32) -> io::Result<()> {
        let file = if self.path == "-" {
            // SAFETY: a fresh copy of a standard stream, checked, and ours alone.
            unsafe {
                let copy = libc::fcntl(fd, libc::F_DUPFD_CLOEXEC, 3);
                if copy < 0 {
                    return Err(io::Error::last_os_error());
                }
                File::from_raw_fd(copy)
            }
        } else {
            OpenOptions::new().append(true).create(true).open(&self.path)?
        };
        *self.file.borrow_mut() = Some(file);
        Ok(())
    }

    fn write(&self, bytes: &[u8]) {
        if let Some(file) = self.file.borrow_mut().as_mut() {
            // See above: there is nowhere to say that the log is not writable.
            let _ = file.write_all(bytes);
        }
    }
}

/// The error log.
#[derive(Debug)]
pub(crate) struct ErrorLog {
    target: RefCell<Target>,
    level: Cell<Level>,
}

impl ErrorLog {
    pub fn open(path: &str, level: &str) -> io::Result<Self> {
        Ok(Self { target: RefCell::new(Target::open(path, 2)?), level: Cell::new(Level::parse(level)) })
    }

    /// Go on with these settings.
    ///
    /// # Errors
    /// The operating system's, when the file cannot be opened: nothing changes then.
    pub fn configure(&self, path: &str, level: &str) -> io::Result<()> {
        if self.target.borrow().path != path {
            *self.target.borrow_mut() = Target::open(path, 2)?;
        }
        self.level.set(Level::parse(level));
        Ok(())
    }

    pub fn reopen(&self) {
        let target = self.target.borrow();
        if let Err(error) = target.reopen(2) {
            self.error(format_args!("the error log {} cannot be reopened: {error}", target.path));
        }
    }

    pub fn line(&self, level: Level, message: std::fmt::Arguments<'_>) {
        if level < self.level.get() {
            return;
        }
        let mut line = Vec::with_capacity(160);
        line.extend_from_slice(Clock::new(SystemTime::now()).error_stamp());
        let _ = write!(line, " [{}] [{}] ", std::process::id(), level.name());
        let start = line.len();
        let _ = write!(line, "{message}");
        // What came from a client must not forge lines.
        for byte in line.iter_mut().skip(start) {
            if byte.is_ascii_control() {
                *byte = b'?';
            }
        }
        line.push(b'\n');
        self.target.borrow().write(&line);
    }

    pub fn debug(&self, message: std::fmt::Arguments<'_>) {
        self.line(Level::Debug, message);
    }

    pub fn warning(&self, message: std::fmt::Arguments<'_>) {
        self.line(Level::Warning, message);
    }

    pub fn error(&self, message: std::fmt::Arguments<'_>) {
        self.line(Level::Error, message);
    }
}

/// The access log's file: lines are gathered and written together.
#[derive(Debug)]
pub(crate) struct AccessFile {
    target: Target,
    buffer: RefCell<Vec<u8>>,
}

/// Lines are written at the latest when this much is gathered, in bytes.
const FLUSH_AT: usize = 32 * 1024;

impl AccessFile {
    pub fn open(path: &str) -> io::Result<Self> {
        Ok(Self { target: Target::open(path, 1)?, buffer: RefCell::default() })
    }

    pub fn reopen(&self) -> io::Result<()> {
        self.flush();
        self.target.reopen(1)
    }

    /// Add a line with `write`. Returns true when it is the first one that waits for
    /// [`AccessFile::flush`].
    pub fn line(&self, write: impl FnOnce(&mut Vec<u8>)) -> bool {
        let mut buffer = self.buffer.borrow_mut();
        let first = buffer.is_empty();
        write(&mut buffer);
        if buffer.len() >= FLUSH_AT {
            self.target.write(&buffer);
            buffer.clear();
            return false;
        }
        first
    }

    pub fn flush(&self) {
        let mut buffer = self.buffer.borrow_mut();
        if !buffer.is_empty() {
            self.target.write(&buffer);
            buffer.clear();
        }
    }
}

impl Drop for AccessFile {
    fn drop(&mut self) {
        self.flush();
    }
}
