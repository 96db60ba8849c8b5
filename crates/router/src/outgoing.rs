//! What waits to be written to a client: pieces of memory and of files, in order.
//!
//! A client that reads slowly costs memory up to a bound, then disk up to a bound; beyond that the
//! worker is told to wait.

use std::collections::VecDeque;
use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::rc::Rc;

use crate::spool::{ResponseSpool, Temporary};
use crate::turn::Turn;

/// Pieces of memory are filled up to this size, in bytes, before another is begun.
const PIECE: usize = 64 * 1024;
/// A new piece of memory has room for a head and a small body, in bytes.
const FIRST: usize = 1024;
/// How much one sendfile or read-and-send moves at the most, in bytes.
const FILE_STEP: usize = 256 * 1024;
/// How many files of the application may wait. Each costs a descriptor.
const FILES: usize = 16;

#[derive(Debug)]
enum Piece {
    /// Bytes, and how many of them are written already.
    Memory(Vec<u8>, usize),
    /// So many bytes of the temporary file from an offset on.
    Spooled(Rc<Temporary>, u64, u64),
    /// So many bytes of the application's file from an offset on.
    File(File, u64, u64),
}

/// How much of a response may wait, and where.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Bounds<'a> {
    /// Bytes in memory.
    pub memory: usize,
    /// The size of the temporary file in bytes; 0 for no file.
    pub spool: u64,
    /// Where temporary files go.
    pub directory: Option<&'a str>,
}

/// What came of writing.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Written {
    /// All of it is written.
    All,
    /// The socket takes no more now.
    Blocked,
    /// The socket takes more, but it is the turn of others.
    Enough,
}

/// What waits to be written to one client.
#[derive(Debug, Default)]
pub(crate) struct Outgoing {
    pieces: VecDeque<Piece>,
    /// Bytes that wait in memory.
    in_memory: usize,
    /// Bytes that wait in the temporary file.
    spooled: u64,
    /// The application's files that wait.
    files: usize,
    /// Bytes written so far to the socket.
    written: u64,
    spool: Option<ResponseSpool>,
    /// The temporary file could not be made or written: memory and waiting must do, until all is
    /// written.
    no_spool: bool,
    /// Why, until it is told.
    trouble: Option<io::Error>,
}

impl Outgoing {
    pub fn is_empty(&self) -> bool {
        self.pieces.is_empty()
    }

    /// Bytes written to the socket so far.
    pub fn written(&self) -> u64 {
        self.written
    }

    /// Does as much wait as may, so that the worker must wait?
    pub fn is_full(&self, bounds: Bounds<'_>) -> bool {
        if self.files >= FILES {
            return true;
        }
        if self.in_memory < bounds.memory {
            return false;
        }
        // What is written with `with_tail` never goes to the file.
        self.in_memory >= 2 * bounds.memory + PIECE || !self.may_spool(bounds)
    }

    /// Is there room again? Half of what [`Outgoing::is_full`] allows, so that a worker is not
    /// woken for each piece.
    pub fn has_room(&self, bounds: Bounds<'_>) -> bool {
        self.in_memory <= bounds.memory / 2 && self.spooled <= bounds.spool / 2 && self.files <= FILES / 2
    }

    /// Why nothing is spooled any more, once.
    pub fn take_trouble(&mut self) -> Option<io::Error> {
        self.trouble.take()
    }

    /// The file is written at its end only, so what counts is its size, not what of it still waits.
    fn may_spool(&self, bounds: Bounds<'_>) -> bool {
        !self.no_spool && self.spool.as_ref().map_or(0, ResponseSpool::len) < bounds.spool
    }

    /// Write with `write` into memory, whatever waits already: heads, chunk marks, small bodies.
    pub fn with_tail<T>(&mut self, write: impl FnOnce(&mut Vec<u8>) -> T) -> T {
        if let Some(Piece::Memory(bytes, _)) = self.pieces.back_mut()
            && bytes.len() < PIECE
        {
            let before = bytes.len();
            let result = write(bytes);
            self.in_memory += bytes.len() - before;
            return result;
        }
        let mut bytes = Vec::with_capacity(FIRST);
        let result = write(&mut bytes);
        if !bytes.is_empty() {
            self.in_memory += bytes.len();
            self.pieces.push_back(Piece::Memory(bytes, 0));
        }
        result
    }

    /// Add a piece of a body, which is `parts` one after the other (its framing and its data): in
    /// memory while there is room, in the temporary file beyond. Framing goes the way of the data:
    /// a mark in memory for each small chunk in the file would cost more than the chunks.
    pub fn push(&mut self, parts: &[&[u8]], bounds: Bounds<'_>) {
        let len = parts.iter().fold(0_usize, |len, part| len.saturating_add(part.len()));
        if self.in_memory.saturating_add(len) > bounds.memory && len > 0 && self.may_spool(bounds) {
            match self.push_to_spool(parts, bounds) {
                Ok(()) => return,
                // No disk: memory takes what is under way, and `is_full` holds the worker back.
                Err(error) => {
                    self.no_spool = true;
                    self.trouble = Some(error);
                }
            }
        }
        self.with_tail(|tail| parts.iter().for_each(|part| tail.extend_from_slice(part)));
    }

    fn push_to_spool(&mut self, parts: &[&[u8]], bounds: Bounds<'_>) -> io::Result<()> {
        let spool = match &mut self.spool {
            Some(spool) => spool,
            empty => empty.insert(ResponseSpool::new(bounds.directory)?),
        };
        let (at, len) = match parts {
            [part] => (spool.push(part)?, part.len() as u64),
            parts => {
                let whole = parts.concat();
                (spool.push(&whole)?, whole.len() as u64)
            }
        };
        let file = spool.file();
        self.spooled += len;
        match self.pieces.back_mut() {
            Some(Piece::Spooled(last, offset, left)) if Rc::ptr_eq(last, &file) && *offset + *left == at => {
                *left += len
            }
            _ => self.pieces.push_back(Piece::Spooled(file, at, len)),
        }
        Ok(())
    }

    /// Add a part of the application's file. It costs no memory and no room in the temporary file.
    pub fn push_file(&mut self, file: File, offset: u64, len: u64) {
        if len > 0 {
            self.files += 1;
            self.pieces.push_back(Piece::File(file, offset, len));
        }
    }

    /// Write as much as the socket takes, for one turn.
    ///
    /// # Errors
    /// The socket's: the client has left. `UnexpectedEof` when a file is shorter than announced.
    pub fn write_to(&mut self, socket: BorrowedFd<'_>, sendfile: bool, turn: &Turn) -> io::Result<Written> {
        while let Some(piece) = self.pieces.front_mut() {
            let sent = match piece {
                Piece::Memory(bytes, at) => send(socket, bytes.get(*at..).unwrap_or_default()),
                Piece::Spooled(file, offset, left) => send_file(socket, file, *offset, *left, sendfile),
                Piece::File(file, offset, left) => send_file(socket, file, *offset, *left, sendfile),
            };
            match sent {
                Ok(sent) => {
                    self.written += sent as u64;
                    self.advance(sent);
                    turn.spend(sent as u64);
                    if !self.pieces.is_empty() && turn.is_over() {
                        return Ok(Written::Enough);
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(Written::Blocked),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(Written::All)
    }

    /// So many bytes of the first piece are written.
    fn advance(&mut self, sent: usize) {
        let done = match self.pieces.front_mut() {
            Some(Piece::Memory(bytes, at)) => {
                *at += sent;
                self.in_memory -= sent;
                *at >= bytes.len()
            }
            Some(Piece::Spooled(_, offset, left)) => {
                *offset += sent as u64;
                *left -= sent as u64;
                self.spooled -= sent as u64;
                *left == 0
            }
            Some(Piece::File(_, offset, left)) => {
                *offset += sent as u64;
                *left -= sent as u64;
                self.files -= usize::from(*left == 0);
                *left == 0
            }
            None => false,
        };
        if done {
            self.pieces.pop_front();
        }
        if self.spooled == 0 {
            // What the temporary file holds is written: give the disk back.
            self.spool = None;
        }
        if self.pieces.is_empty() {
            self.no_spool = false;
        }
    }
}

fn send(socket: BorrowedFd<'_>, bytes: &[u8]) -> io::Result<usize> {
    // SAFETY: sends from a live buffer on a descriptor that is open.
    let sent = unsafe { libc::send(socket.as_raw_fd(), bytes.as_ptr().cast(), bytes.len(), NO_SIGNAL) };
    if sent < 0 { Err(io::Error::last_os_error()) } else { Ok(sent as usize) }
}

#[cfg(target_os = "linux")]
const NO_SIGNAL: i32 = libc::MSG_NOSIGNAL;
#[cfg(not(target_os = "linux"))]
const NO_SIGNAL: i32 = 0;

fn send_file(
    socket: BorrowedFd<'_>,
    file: &File,
    offset: u64,
    left: u64,
    sendfile: bool,
) -> io::Result<usize> {
    let count = usize::try_from(left).unwrap_or(FILE_STEP).min(FILE_STEP);
    let sent = if sendfile { kernel_sendfile(socket, file, offset, count)? } else { None };
    let sent = match sent {
        Some(sent) => sent,
        None => copy_file(socket, file, offset, count)?,
    };
    if sent == 0 {
        // The file was cut while it was being sent: the response cannot be completed.
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    Ok(sent)
}

/// `None`: the kernel cannot do it for these two.
#[cfg(target_os = "linux")]
fn kernel_sendfile(
    socket: BorrowedFd<'_>,
    file: &File,
    offset: u64,
    count: usize,
) -> io::Result<Option<usize>> {
    let mut at = i64::try_from(offset).map_err(|_| io::ErrorKind::InvalidInput)?;
    // SAFETY: both descriptors are open; `at` is a live variable that the kernel updates.
    let sent = unsafe { libc::sendfile(socket.as_raw_fd(), file.as_raw_fd(), &raw mut at, count) };
    if sent >= 0 {
        return Ok(Some(sent as usize));
    }
    let error = io::Error::last_os_error();
    match error.raw_os_error() {
        Some(libc::EINVAL | libc::ENOSYS) => Ok(None),
        _ => Err(error),
    }
}

#[cfg(not(target_os = "linux"))]
fn kernel_sendfile(_: BorrowedFd<'_>, _: &File, _: u64, _: usize) -> io::Result<Option<usize>> {
    Ok(None)
}

fn copy_file(socket: BorrowedFd<'_>, file: &File, offset: u64, count: usize) -> io::Result<usize> {
    let mut buffer = vec![0_u8; count.min(PIECE)];
    let read = std::os::unix::fs::FileExt::read_at(file, &mut buffer, offset)?;
    match buffer.get(..read) {
        Some(bytes) if read > 0 => send(socket, bytes),
        _ => Ok(0),
    }
}

#[cfg(test)]
pub(crate) mod tests;
