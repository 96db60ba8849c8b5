//! What comes from the router.

use std::io;
use std::os::fd::OwnedFd;

use ::channel::descriptors::Descriptors;
use ::channel::memory::Memory;
use ::channel::message::{self, Payload};
use ::channel::ring::Consumer;
use pyo3::prelude::*;

use crate::errors::{self, ChannelError};

/// The reading end of the requests ring.
pub(crate) struct Inbox {
    pub(crate) requests: Consumer,
    /// Whose frames are read: the router that wrote the last `HELLO` that was read.
    generation: u32,
}

/// A request that is ours: its message, whose it is, and its body's file.
pub(crate) struct Claimed {
    pub(crate) id: u64,
    pub(crate) generation: u32,
    pub(crate) message: Vec<u8>,
    pub(crate) file: Option<OwnedFd>,
}

/// What the next frame says.
pub(crate) enum Incoming {
    Nothing,
    Request(Claimed),
    Body { id: u64, data: Vec<u8>, last: bool },
    Cancel { id: u64, timeout: bool },
    Hello(u32),
    Stop,
}

impl Inbox {
    pub(crate) fn new(requests: Consumer, memory: &Memory) -> Self {
        Self { requests, generation: memory.generation() }
    }

    /// Is the next frame a request that nobody has taken back?
    pub(crate) fn has_request(&mut self) -> bool {
        // What is broken is told to who reads it.
        let Ok(Some(frame)) = self.requests.peek() else { return false };
        frame.kind == message::REQUEST && self.requests.is_pending(&frame)
    }

    /// Take the next frame that is meant for us. Claims a request: the router can no longer give
    /// it to another worker.
    pub(crate) fn next(&mut self, memory: &Memory, descriptors: &Descriptors) -> PyResult<Incoming> {
        self.read(memory, descriptors, false)
    }

    /// The same without requests: one that was not taken back yet stays where it is, and what is
    /// behind it, too, until the router takes it back.
    pub(crate) fn next_of_begun(&mut self, memory: &Memory, descriptors: &Descriptors) -> PyResult<Incoming> {
        self.read(memory, descriptors, true)
    }

    fn read(&mut self, memory: &Memory, descriptors: &Descriptors, only_begun: bool) -> PyResult<Incoming> {
        while let Some(frame) = self.requests.peek().map_err(errors::broken)? {
            if only_begun && frame.kind == message::REQUEST && self.requests.is_pending(&frame) {
                return Ok(Incoming::Nothing);
            }
            let ours = frame.kind != message::REQUEST
                || (self.generation == memory.generation() && self.requests.claim(&frame));
            let mut message = Vec::new();
            self.requests.read(&frame, &mut message);
            self.requests.release(&frame);
            match frame.kind {
                message::REQUEST => {
                    let request = message::Request::decode(&message).map_err(errors::broken)?;
                    let id = request.id;
                    // Descriptors come in the order of the frames that announce them: the one of a
                    // request that was taken back is received here, too, and closed.
                    let file = match request.payload {
                        Payload::Descriptor(_) => Some(receive(descriptors, id, ours)?),
                        _ => None,
                    };
                    if ours {
                        let file = file.flatten();
                        return Ok(Incoming::Request(Claimed {
                            id,
                            generation: self.generation,
                            message,
                            file,
                        }));
                    }
                }
                message::BODY => {
                    let body = message::Body::decode(&message).map_err(errors::broken)?;
                    let (id, last, data) = (body.id, body.flags & message::END != 0, body.data.to_vec());
                    return Ok(Incoming::Body { id, data, last });
                }
                message::CANCEL => {
                    let cancel = message::Cancel::decode(&message).map_err(errors::broken)?;
                    let timeout = cancel.reason == message::Reason::Timeout;
                    return Ok(Incoming::Cancel { id: cancel.id, timeout });
                }
                message::HELLO => {
                    // The generation stands in the frame, so that two routers in a row are told
                    // apart; one that does not say it is the present one.
                    self.generation = match message.first_chunk::<4>() {
                        Some(bytes) => u32::from_le_bytes(*bytes),
                        None => memory.generation(),
                    };
                    return Ok(Incoming::Hello(self.generation));
                }
                message::PING => {}
                message::STOP => return Ok(Incoming::Stop),
                kind => return Err(ChannelError::new_err(format!("an unknown kind of frame: {kind}"))),
            }
        }
        Ok(Incoming::Nothing)
    }
}

/// Receive the descriptor of a request; one of a request that is not ours may be missing.
fn receive(descriptors: &Descriptors, id: u64, ours: bool) -> PyResult<Option<OwnedFd>> {
    match descriptors.receive_for(id) {
        Ok(file) => Ok(Some(file)),
        Err(error) if !ours && error.kind() == io::ErrorKind::WouldBlock => Ok(None),
        Err(error) => Err(ChannelError::new_err(format!("the body of request {id} did not come: {error}"))),
    }
}
