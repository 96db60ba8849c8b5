//! What an exchange has to send, in order: an event loop never waits for room, so what finds none
//! stays here until `room_fileno` says that there may be some.

use std::collections::VecDeque;
use std::fs::File;
use std::os::fd::AsFd;

use ::channel::message::{self, DONE, FileBody, Head, STREAM};
use pyo3::prelude::*;
use pyo3::types::PyBytes;

use crate::channel::Channel;
use crate::errors::SendError;
use crate::outbox::{Attempt, Frame, Ticket, Wake};

/// The most of a body that goes into one frame, in bytes.
const PIECE: usize = 64 << 10;
/// The same for the frame that has the head in it.
const FIRST_PIECE: usize = 32 << 10;
/// The largest head, in bytes: with its piece of the body it fits into every ring.
pub(super) const MAX_HEAD: usize = 64 << 10;

/// One thing to send. It takes one frame, or several when it has much data.
pub(super) enum Part {
    /// An encoded `HEAD` message; data follows it.
    Head(Vec<u8>),
    /// Data only.
    Body,
    /// A part of a file.
    File { file: File, offset: u64, len: u64 },
    /// An encoded `INTERIM` or `TRAILERS` message.
    Section { kind: u16, message: Vec<u8> },
    /// Cut the response.
    Abort,
}

pub(super) struct Item {
    pub(super) part: Part,
    pub(super) data: Option<Py<PyBytes>>,
    /// `END`, `DONE`: of the last frame. `STREAM`: of the first.
    pub(super) flags: u16,
    /// Whether it waits for a client that reads slowly, and is dropped when nobody wants it.
    pub(super) obeys_flow: bool,
    /// The message of the application that is wholly sent with this, or 0.
    pub(super) message: u64,
}

/// What sending came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Pumped {
    /// All was sent.
    Empty,
    /// The rest waits for room.
    Stuck,
    /// The frame with `DONE` was sent, or its router is dead: nothing more will be.
    Done,
}

#[derive(Default)]
pub(super) struct Outgoing {
    items: VecDeque<Item>,
    /// How much of the first item's data was sent, in bytes.
    sent: usize,
    /// Its head was sent.
    begun: bool,
    /// The last message of the application that was wholly sent.
    flushed: u64,
    /// Nobody wants the response any more.
    pub(super) gone: bool,
}

impl Outgoing {
    pub(super) fn push(&mut self, item: Item) {
        self.items.push_back(item);
    }

    /// Was this message of the application sent, or is it of no use any more?
    pub(super) fn is_flushed(&self, message: u64) -> bool {
        self.gone || self.flushed >= message
    }

    /// Forget what was not sent.
    pub(super) fn clear(&mut self) {
        self.items.clear();
        self.rewind();
    }

    fn rewind(&mut self) {
        self.sent = 0;
        self.begun = false;
    }

    /// Send what finds room.
    pub(super) fn pump(&mut self, py: Python<'_>, channel: &Channel, ticket: &Ticket) -> PyResult<Pumped> {
        while let Some(item) = self.items.front_mut() {
            match send(py, channel, ticket, item, &mut self.sent, &mut self.begun) {
                Ok(Attempt::Sent) => {
                    let done = item.flags & DONE != 0;
                    self.flushed = self.flushed.max(item.message);
                    self.items.pop_front();
                    self.rewind();
                    if done {
                        return Ok(Pumped::Done);
                    }
                }
                Ok(Attempt::Wait) => return Ok(Pumped::Stuck),
                Err(SendError::Gone) => {
                    let (obeys_flow, done) = (item.obeys_flow, item.flags & DONE != 0);
                    self.gone = true;
                    self.rewind();
                    if !obeys_flow {
                        // Only the end of its router makes such a frame unwanted.
                        self.items.clear();
                        return Ok(if done { Pumped::Done } else { Pumped::Empty });
                    }
                    self.items.retain(|item| !item.obeys_flow);
                }
                Err(error) => return Err(error.into()),
            }
        }
        Ok(Pumped::Empty)
    }
}

/// Send one item from where it stands.
fn send(
    py: Python<'_>,
    channel: &Channel,
    ticket: &Ticket,
    item: &mut Item,
    sent: &mut usize,
    begun: &mut bool,
) -> Result<Attempt, SendError> {
    let data = item.data.as_ref().map_or(&[][..], |data| data.bind(py).as_bytes());
    let elapsed = |flags: u16| if flags & DONE == 0 { 0 } else { ticket.elapsed() };
    let attempt = |kind: u16, parts: &[&[u8]]| {
        channel.try_send(
            ticket,
            &Frame { kind, parts, obeys_flow: item.obeys_flow, file: None, wake: Wake::Soon },
        )
    };
    match &mut item.part {
        Part::Section { kind, message } => return attempt(*kind, &[message]),
        Part::Abort => {
            let prefix = message::Body::prefix(ticket.id, item.flags, elapsed(item.flags));
            return attempt(message::ABORT, &[&prefix]);
        }
        Part::File { file, offset, len } => {
            let (flags, elapsed) = (item.flags, elapsed(item.flags));
            let message = FileBody { id: ticket.id, flags, elapsed, offset: *offset, len: *len }.encode();
            let frame = Frame {
                kind: message::FILE,
                parts: &[&message],
                obeys_flow: item.obeys_flow,
                file: Some(file.as_fd()),
                wake: Wake::Soon,
            };
            return channel.try_send(ticket, &frame);
        }
        Part::Head(head) if !*begun => {
            let piece = data.get(..data.len().min(FIRST_PIECE)).unwrap_or_default();
            let rest = data.len() > piece.len();
            let flags = if rest { item.flags & STREAM } else { item.flags };
            Head::set_flags(head, flags, elapsed(flags));
            if attempt(message::HEAD, &[head, piece])? == Attempt::Wait {
                return Ok(Attempt::Wait);
            }
            *begun = true;
            *sent = piece.len();
            if !rest {
                return Ok(Attempt::Sent);
            }
        }
        Part::Head(_) | Part::Body => {}
    }
    loop {
        let left = data.get(*sent..).unwrap_or_default();
        let piece = left.get(..left.len().min(PIECE)).unwrap_or_default();
        let rest = left.len() > piece.len();
        let flags = if rest { 0 } else { item.flags & !STREAM };
        let prefix = message::Body::prefix(ticket.id, flags, elapsed(flags));
        if attempt(message::BODY, &[&prefix, piece])? == Attempt::Wait {
            return Ok(Attempt::Wait);
        }
        *sent += piece.len();
        if !rest {
            return Ok(Attempt::Sent);
        }
    }
}
