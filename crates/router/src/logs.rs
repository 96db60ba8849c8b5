//! The two log files: errors in gunicorn's format, and one access record a request.

use std::cell::Cell;
use std::io::{self, Write};
use std::os::fd::OwnedFd;
use std::time::SystemTime;

use crate::clock::Clock;
use crate::sink::{Sink, Turn};

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

/// The error log.
#[derive(Debug)]
pub(crate) struct ErrorLog {
    sink: Sink,
    level: Cell<Level>,
}

impl ErrorLog {
    pub fn new(file: OwnedFd, level: &str) -> Self {
        Self { sink: Sink::new(file), level: Cell::new(Level::parse(level)) }
    }

    pub fn set_level(&self, level: &str) {
        self.level.set(Level::parse(level));
    }

    /// Go on with another file.
    pub fn replace(&self, file: OwnedFd) {
        let turn = self.sink.replace(file);
        self.tell(turn);
    }

    pub fn line(&self, level: Level, message: std::fmt::Arguments<'_>) {
        if level < self.level.get() {
            return;
        }
        self.sink.line(|line| write_record(line, level, message));
        self.flush();
    }

    /// Try again what could not be written at once.
    pub fn flush(&self) {
        let turn = self.sink.flush();
        self.tell(turn);
    }

    /// That lines are being lost could be said only here: it is said when that is over.
    fn tell(&self, turn: Option<Turn>) {
        if let Some(Turn::Recovered(lost)) = turn {
            self.warning(format_args!("{lost} lines of this log could not be written"));
        }
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

fn write_record(line: &mut Vec<u8>, level: Level, message: std::fmt::Arguments<'_>) {
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
}

/// The access log's file: lines are gathered and written together.
#[derive(Debug)]
pub(crate) struct AccessFile {
    /// What messages call it.
    name: String,
    sink: Sink,
}

/// Lines are written at the latest when this much is gathered, in bytes.
const FLUSH_AT: usize = 32 * 1024;

impl AccessFile {
    /// `path` is what the user calls it; `-` is stdout.
    pub fn new(path: &str, file: OwnedFd) -> Self {
        let path = if path == "-" { "on stdout" } else { path };
        Self { name: format!("the access log {path}"), sink: Sink::new(file) }
    }

    /// Go on with another file.
    pub fn replace(&self, file: OwnedFd, log: &ErrorLog) {
        let turn = self.sink.replace(file);
        self.tell(turn, log);
    }

    /// Add a line with `write`. Returns true when [`AccessFile::flush`] should be called soon.
    pub fn line(&self, write: impl FnOnce(&mut Vec<u8>), log: &ErrorLog) -> bool {
        let mut first = false;
        let waiting = self.sink.line(|lines| {
            first = lines.is_empty();
            write(lines);
        });
        if waiting < FLUSH_AT {
            return first;
        }
        self.flush(log);
        false
    }

    /// Write what waits; what must be said about that goes to `log`.
    pub fn flush(&self, log: &ErrorLog) {
        let turn = self.sink.flush();
        self.tell(turn, log);
    }

    fn tell(&self, turn: Option<Turn>, log: &ErrorLog) {
        let name = &self.name;
        match turn {
            None => {}
            Some(Turn::Losing(error)) if error.kind() == io::ErrorKind::WouldBlock => {
                log.error(format_args!("{name} loses lines: nobody reads it"));
            }
            Some(Turn::Losing(error)) => {
                log.error(format_args!("{name} loses lines: {error}"));
            }
            Some(Turn::Recovered(lost)) => {
                log.warning(format_args!("{name} is written again; {lost} lines were lost"));
            }
        }
    }
}
