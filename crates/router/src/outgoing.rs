//! What waits to be written to a client: pieces of memory and of files, in order.
//!
//! A client that reads slowly costs memory up to a bound, then disk up to a bound; beyond that the
//! worker is told to wait.

use std::collections::VecDeque;
use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::rc::Rc;

use crate::spool::ResponseSpool;

/// Pieces of memory are filled up to this size, in bytes, before another is begun.
const PIECE: usize = 64 * 1024;
/// A new piece of memory has room for a head and a small body, in bytes.
const FIRST: usize = 1024;
/// How much one sendfile or read-and-send moves at the most, in bytes.
const FILE_STEP: usize = 1024 * 1024;

#[derive(Debug)]
enum Piece {
    /// Bytes, and how many of them are written already.
    Memory(Vec<u8>, usize),
    /// So many bytes of a file from an offset on.
    File(Rc<File>, u64, u64),
}

/// How much of a response may wait, and where.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Bounds<'a> {
    /// Bytes in memory.
    pub memory: usize,
    /// Bytes in the temporary file; 0 for no file.
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
}

/// What waits to be written to one client.
#[derive(Debug, Default)]
pub(crate) struct Outgoing {
    pieces: VecDeque<Piece>,
    /// Bytes that wait in memory.
    in_memory: usize,
    /// Bytes that wait in files.
    in_files: u64,
    /// Bytes written so far to the socket.
    written: u64,
    spool: Option<ResponseSpool>,
    /// The temporary file could not be made or written: memory and waiting must do.
    no_spool: bool,
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
        if self.in_memory < bounds.memory {
            return false;
        }
        self.no_spool || self.in_files >= bounds.spool
    }

    /// Is there room again? Half of what [`Outgoing::is_full`] allows, so that a worker is not
    /// woken for each piece.
    pub fn has_room(&self, bounds: Bounds<'_>) -> bool {
        self.in_memory <= bounds.memory / 2 && self.in_files <= bounds.spool / 2
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

    /// Add bytes of a body: in memory while there is room, in the temporary file beyond.
    pub fn push(&mut self, data: &[u8], bounds: Bounds<'_>) {
        if self.in_memory + data.len() > bounds.memory
            && bounds.spool > 0
            && !self.no_spool
            && !data.is_empty()
        {
            match self.push_to_spool(data, bounds) {
                Ok(()) => return,
                // No disk: memory takes what is under way, and `is_full` holds the worker back.
                Err(_) => self.no_spool = true,
            }
        }
        self.with_tail(|tail| tail.extend_from_slice(data));
    }

    fn push_to_spool(&mut self, data: &[u8], bounds: Bounds<'_>) -> io::Result<()> {
        let spool = match &mut self.spool {
            Some(spool) => spool,
            empty => empty.insert(ResponseSpool::new(bounds.directory)?),
        };
        let at = spool.push(data)?;
        let len = data.len() as u64;
        let file = spool.file();
        self.in_files += len;
        match self.pieces.back_mut() {
            Some(Piece::File(last, offset, left)) if Rc::ptr_eq(last, &file) && *offset + *left == at => {
                *left += len
            }
            _ => self.pieces.push_back(Piece::File(file, at, len)),
        }
        Ok(())
    }

    /// Add a part of a file. It costs no memory and no room in the temporary file.
    pub fn push_file(&mut self, file: File, offset: u64, len: u64) {
        if len > 0 {
            self.pieces.push_back(Piece::File(Rc::new(file), offset, len));
        }
    }

    /// Write as much as the socket takes.
    ///
    /// # Errors
    /// The socket's: the client has left. `UnexpectedEof` when a file is shorter than announced.
    pub fn write_to(&mut self, socket: BorrowedFd<'_>, sendfile: bool) -> io::Result<Written> {
        while let Some(piece) = self.pieces.front_mut() {
            let sent = match piece {
                Piece::Memory(bytes, at) => {
                    let rest = bytes.get(*at..).unwrap_or_default();
                    if rest.is_empty() {
                        self.pieces.pop_front();
                        continue;
                    }
                    send(socket, rest).inspect(|sent| {
                        *at += sent;
                        self.in_memory -= sent;
                    })
                }
                Piece::File(file, offset, left) => {
                    let count = usize::try_from(*left).unwrap_or(FILE_STEP).min(FILE_STEP);
                    send_file(socket, file, *offset, count, sendfile).inspect(|sent| {
                        *offset += *sent as u64;
                        *left -= *sent as u64;
                        self.in_files = self.in_files.saturating_sub(*sent as u64);
                    })
                }
            };
            match sent {
                Ok(sent) => self.written += sent as u64,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(Written::Blocked),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(error),
            }
            let done = match self.pieces.front() {
                Some(Piece::Memory(bytes, at)) => *at >= bytes.len(),
                Some(Piece::File(_, _, left)) => *left == 0,
                None => false,
            };
            if done {
                self.finish_front();
            }
        }
        Ok(Written::All)
    }

    /// The first piece is written.
    fn finish_front(&mut self) {
        self.pieces.pop_front();
        if self.pieces.is_empty() {
            // What the temporary file holds is written: give the disk back.
            self.spool = None;
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
    count: usize,
    sendfile: bool,
) -> io::Result<usize> {
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
