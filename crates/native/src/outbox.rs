//! What goes to the router.

use std::io;
use std::os::fd::BorrowedFd;
use std::sync::atomic::Ordering;
use std::time::Instant;

use ::channel::descriptors::Descriptors;
use ::channel::memory::{CANCELLED, Memory, PAUSED};
use ::channel::message::{self, Ready};
use ::channel::ring::{Producer, PushError};
use pyo3::PyErr;

use crate::errors::{self, SendError};

/// Whose a response is.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Ticket {
    pub(crate) id: u64,
    pub(crate) generation: u32,
    pub(crate) begun: Instant,
}

impl Ticket {
    /// For a request that was claimed just now.
    pub(crate) fn new(id: u64, generation: u32) -> Self {
        Self { id, generation, begun: Instant::now() }
    }

    /// Microseconds since the request was claimed.
    pub(crate) fn elapsed(&self) -> u32 {
        u32::try_from(self.begun.elapsed().as_micros()).unwrap_or(u32::MAX)
    }
}

/// One frame to send.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Frame<'a> {
    pub(crate) kind: u16,
    /// The payload, one part after the other.
    pub(crate) parts: &'a [&'a [u8]],
    /// Whether it waits while the client reads slowly, and is not sent when nobody wants it. The
    /// frame that only frees the slot goes in any case.
    pub(crate) obeys_flow: bool,
    /// A descriptor that travels beside it.
    pub(crate) file: Option<BorrowedFd<'a>>,
    pub(crate) wake: Wake,
}

/// When a sleeping router is woken for a frame: each wake-up costs it and us a change of context.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Wake {
    /// Now: the client waits for just this.
    Now,
    /// When the last request that is in our ring was taken.
    Soon,
    /// With another frame, which follows within a moment.
    Later,
}

/// What came of an attempt to send.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Attempt {
    Sent,
    /// There is no room, or the client reads slowly: wait, then try again.
    Wait,
}

/// The writing end of the responses ring.
pub(crate) struct Outbox {
    pub(crate) responses: Producer,
    /// The router that we have said READY to: nothing older may be sent after that.
    generation: u32,
    /// A READY that did not fit yet.
    ready: Option<[u8; 8]>,
}

impl Outbox {
    pub(crate) fn new(responses: Producer, memory: &Memory) -> Self {
        Self { responses, generation: memory.generation(), ready: None }
    }

    /// Say READY to this generation as soon as there is room. Nothing older is sent from now on.
    pub(crate) fn ready(&mut self, generation: u32, busy: u32) {
        self.generation = generation;
        self.ready = Some(Ready { generation, busy }.encode());
    }

    /// Push the READY that is owed, if there is one.
    pub(crate) fn push_ready(&mut self) -> Result<Attempt, PyErr> {
        let Some(ready) = self.ready else { return Ok(Attempt::Sent) };
        let pushed = self.push(message::READY, &[&ready]).map_err(PyErr::from)?;
        if pushed == Attempt::Sent {
            self.ready = None;
        }
        Ok(pushed)
    }

    /// Tell a router that a request of an earlier one is done, if it is such a request.
    pub(crate) fn push_stale_done(&mut self, ticket: &Ticket) -> Result<Option<Attempt>, PyErr> {
        if ticket.generation == self.generation {
            return Ok(None);
        }
        if self.push_ready()? == Attempt::Wait {
            return Ok(Some(Attempt::Wait));
        }
        let message = message::Body::prefix(ticket.id, message::DONE, ticket.elapsed());
        Ok(Some(self.push(message::ABORT, &[&message])?))
    }

    /// Push a frame of a response if it is wanted and there is room.
    pub(crate) fn attempt(
        &mut self,
        memory: &Memory,
        descriptors: &Descriptors,
        ticket: &Ticket,
        frame: &Frame<'_>,
    ) -> Result<Attempt, SendError> {
        if ticket.generation != self.generation || ticket.generation != memory.generation() {
            return Err(SendError::Gone);
        }
        if frame.obeys_flow {
            let slot = (ticket.id & 0xffff) as usize;
            let flow = memory.flow(slot).map_or(0, |flow| flow.load(Ordering::Acquire));
            if flow & CANCELLED != 0 {
                return Err(SendError::Gone);
            }
            if flow & PAUSED != 0 {
                return Ok(Attempt::Wait);
            }
        }
        if self.ready.is_some() && self.push_ready()? == Attempt::Wait {
            return Ok(Attempt::Wait);
        }
        if let Some(file) = frame.file {
            // The descriptor must be there before the frame that announces it, and no other's may
            // come between: so it is sent only once there is room for the frame.
            let len = frame.parts.iter().map(|part| part.len()).sum();
            if self.fits(len)? == Attempt::Wait {
                return Ok(Attempt::Wait);
            }
            let mut sent = descriptors.send(ticket.id, file);
            if sent.as_ref().is_err_and(|error| error.kind() == io::ErrorKind::WouldBlock) {
                self.responses.announce_starving();
                // The router may have received all that was there before it could see that.
                sent = descriptors.send(ticket.id, file);
            }
            match sent {
                Ok(()) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(Attempt::Wait),
                Err(error) if error.kind() == io::ErrorKind::BrokenPipe => return Err(SendError::Gone),
                Err(error) => return Err(errors::os(&error).into()),
            }
        }
        self.push(frame.kind, frame.parts)
    }

    fn push(&mut self, kind: u16, parts: &[&[u8]]) -> Result<Attempt, SendError> {
        match self.responses.push(kind, parts) {
            Ok(_) => return Ok(Attempt::Sent),
            Err(PushError::Full) => self.responses.announce_starving(),
            Err(error) => return Err(refused(error)),
        }
        match self.responses.push(kind, parts) {
            Ok(_) => Ok(Attempt::Sent),
            Err(PushError::Full) => Ok(Attempt::Wait),
            Err(error) => Err(refused(error)),
        }
    }

    fn fits(&mut self, len: usize) -> Result<Attempt, SendError> {
        if !self.responses.fits(len).map_err(refused)? {
            self.responses.announce_starving();
            if !self.responses.fits(len).map_err(refused)? {
                return Ok(Attempt::Wait);
            }
        }
        Ok(Attempt::Sent)
    }
}

fn refused(error: PushError) -> SendError {
    match error {
        PushError::Full | PushError::TooLarge => SendError::TooLarge,
        PushError::Violation(violation) => SendError::Raised(errors::broken(violation)),
    }
}
