//! Where a log goes: a file, or a pipe, terminal or socket that others write to as well.
//!
//! The router's one thread must not wait for whoever reads a log. O_NONBLOCK is no way out: it belongs
//! to the open file description, which is shared with the arbiter, the workers, and perhaps with the
//! shell that started us. A socket can be told for a single write (MSG_DONTWAIT); whatever else is no
//! regular file is asked first, by poll(2), and is then given no more than PIPE_BUF bytes, which a pipe
//! that is writable takes whole (pipe(7)).

use std::cell::{Cell, RefCell};
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};

/// How many bytes wait for a reader that is slow. Beyond it lines are lost.
const ROOM: usize = 256 * 1024;

/// What a flush has found out.
#[derive(Debug)]
pub(crate) enum Turn {
    /// From now on lines are lost.
    Losing(io::Error),
    /// All is well again; so many lines were lost.
    Recovered(u64),
}

/// How it is written to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// A regular file takes everything at once.
    Regular,
    Socket,
    /// A pipe, a terminal, a device.
    Other,
}

/// Takes lines, and loses whole ones rather than wait.
#[derive(Debug)]
pub(crate) struct Sink {
    file: RefCell<OwnedFd>,
    kind: Cell<Kind>,
    /// Lines that wait to be written; if `torn`, the rest of one is at the front.
    waiting: RefCell<Vec<u8>>,
    torn: Cell<bool>,
    lost: Cell<u64>,
    /// Whether [`Turn::Losing`] was said.
    is_losing: Cell<bool>,
}

impl Sink {
    pub fn new(file: OwnedFd) -> Self {
        Self {
            kind: Cell::new(kind(&file)),
            file: RefCell::new(file),
            waiting: RefCell::default(),
            torn: Cell::new(false),
            lost: Cell::new(0),
            is_losing: Cell::new(false),
        }
    }

    /// Go on with another file. What waits goes there, except the rest of a line that the file before
    /// has the beginning of.
    pub fn replace(&self, file: OwnedFd) -> Option<Turn> {
        let turn = self.flush();
        if self.torn.get() && identity(&file) != identity(&self.file.borrow()) {
            let mut waiting = self.waiting.borrow_mut();
            let rest = rest_of_line(&waiting);
            waiting.drain(..rest);
            self.torn.set(false);
            self.lost.set(self.lost.get() + 1);
        }
        self.kind.set(kind(&file));
        *self.file.borrow_mut() = file;
        turn
    }

    /// Add a line, which `write` ends with a line feed. Returns how many bytes wait for
    /// [`Sink::flush`].
    pub fn line(&self, write: impl FnOnce(&mut Vec<u8>)) -> usize {
        let mut waiting = self.waiting.borrow_mut();
        let before = waiting.len();
        write(&mut waiting);
        if waiting.len() > ROOM && before > 0 {
            waiting.truncate(before);
            self.lost.set(self.lost.get() + 1);
        }
        waiting.len()
    }

    /// Write what waits, as much as is taken at once.
    pub fn flush(&self) -> Option<Turn> {
        let mut waiting = self.waiting.borrow_mut();
        let mut written = 0;
        let mut failed = None;
        while let Some(piece) = waiting.get(written..).filter(|rest| !rest.is_empty()) {
            let piece = if self.kind.get() == Kind::Regular { piece } else { small_piece(piece) };
            match self.write(piece) {
                Ok(count) => {
                    self.torn.set(piece.get(..count).is_some_and(|taken| !taken.ends_with(b"\n")));
                    written += count;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => {
                    failed = Some(error);
                    break;
                }
            }
        }
        waiting.drain(..written);
        match failed {
            // Nothing is known of a file that was given nothing.
            None if written == 0 => None,
            None => self.recovered(),
            // A reader that is slow finds it later.
            Some(error) if error.kind() == io::ErrorKind::WouldBlock => {
                if self.lost.get() > 0 {
                    self.losing(error)
                } else {
                    None
                }
            }
            // A disk that is full stays so for a while: what is fresh then is worth more.
            Some(error) => {
                let keep = if self.torn.get() { rest_of_line(&waiting) } else { 0 };
                let lines = waiting.iter().skip(keep).filter(|&&byte| byte == b'\n').count();
                waiting.truncate(keep);
                self.lost.set(self.lost.get() + lines as u64);
                self.losing(error)
            }
        }
    }

    fn recovered(&self) -> Option<Turn> {
        let lost = self.lost.take();
        self.is_losing.set(false);
        (lost > 0).then_some(Turn::Recovered(lost))
    }

    fn losing(&self, why: io::Error) -> Option<Turn> {
        (!self.is_losing.replace(true)).then_some(Turn::Losing(why))
    }

    fn write(&self, bytes: &[u8]) -> io::Result<usize> {
        let file = self.file.borrow();
        let fd = file.as_raw_fd();
        let bytes_at = bytes.as_ptr().cast();
        if self.kind.get() == Kind::Other {
            let mut poll = libc::pollfd { fd, events: libc::POLLOUT, revents: 0 };
            // SAFETY: polls one live structure, without waiting.
            let ready = unsafe { libc::poll(&raw mut poll, 1, 0) };
            if ready < 0 {
                return Err(io::Error::last_os_error());
            }
            if ready == 0 {
                return Err(io::ErrorKind::WouldBlock.into());
            }
        }
        // SAFETY: both write from a live buffer to a descriptor that we own.
        let count = unsafe {
            match self.kind.get() {
                Kind::Socket => {
                    libc::send(fd, bytes_at, bytes.len(), libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL)
                }
                Kind::Regular | Kind::Other => libc::write(fd, bytes_at, bytes.len()),
            }
        };
        match usize::try_from(count) {
            Ok(0) => Err(io::ErrorKind::WriteZero.into()),
            Ok(count) => Ok(count),
            Err(_) => Err(io::Error::last_os_error()),
        }
    }
}

impl Drop for Sink {
    /// What is still not taken is lost.
    fn drop(&mut self) {
        self.flush();
    }
}

/// As many whole lines as a pipe takes at once; the beginning of one that is longer.
fn small_piece(lines: &[u8]) -> &[u8] {
    let most = lines.get(..libc::PIPE_BUF).unwrap_or(lines);
    let end = memchr::memrchr(b'\n', most).map_or(most.len(), |index| index + 1);
    most.get(..end).unwrap_or(most)
}

/// How many bytes the line at the front still has, its end included.
fn rest_of_line(lines: &[u8]) -> usize {
    memchr::memchr(b'\n', lines).map_or(lines.len(), |index| index + 1)
}

/// Which file it is: device and inode, or nothing when it does not say.
fn identity(file: &OwnedFd) -> Option<(libc::dev_t, libc::ino_t)> {
    status(file).map(|status| (status.st_dev, status.st_ino))
}

fn kind(file: &OwnedFd) -> Kind {
    match status(file).map_or(0, |status| status.st_mode & libc::S_IFMT) {
        libc::S_IFREG => Kind::Regular,
        libc::S_IFSOCK => Kind::Socket,
        _ => Kind::Other,
    }
}

fn status(file: &OwnedFd) -> Option<libc::stat> {
    // SAFETY: a structure of numbers, for which zeroes are values.
    let mut status: libc::stat = unsafe { std::mem::zeroed() };
    // SAFETY: a plain call with a live structure on a descriptor that we own.
    (unsafe { libc::fstat(file.as_raw_fd(), &raw mut status) } == 0).then_some(status)
}

#[cfg(test)]
mod tests;
