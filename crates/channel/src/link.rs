//! The two ends of a channel.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;

use crate::descriptors::{self, Descriptors};
use crate::memory::{Layout, Memory};
use crate::ring::{Consumer, Producer, Which};
use crate::wake::{self, Signal, Wait};
use crate::{NotMade, Violation};

/// How many descriptors an end is made of.
pub const END_FDS: usize = 5;

/// The descriptors of both ends of a new channel, as the arbiter makes them and hands them out.
#[derive(Debug)]
pub struct Files {
    /// The router's end, in the order of [`RouterEnd::open`].
    pub router: [OwnedFd; END_FDS],
    /// The worker's end, in the order of [`WorkerEnd::open`].
    pub worker: [OwnedFd; END_FDS],
}

impl Files {
    /// Make a channel.
    ///
    /// # Errors
    /// The operating system's, when there is no memory or no descriptor.
    pub fn create(layout: Layout) -> Result<Self, NotMade> {
        let memory = Memory::create(layout)?;
        let (wake_worker, worker_waits) = wake::pair()?;
        let (signal_room, room_waits) = wake::pair()?;
        let (wake_router, router_waits) = wake::pair()?;
        let (router_descriptors, worker_descriptors) = descriptors::pair()?;
        Ok(Self {
            router: [
                memory.try_clone()?,
                wake_worker.into(),
                signal_room.into(),
                router_waits.into(),
                router_descriptors.into(),
            ],
            worker: [
                memory,
                worker_waits.into(),
                room_waits.into(),
                wake_router.into(),
                worker_descriptors.into(),
            ],
        })
    }
}

/// The router's end.
#[derive(Debug)]
pub struct RouterEnd {
    /// The shared memory: generation and flow words.
    pub memory: Arc<Memory>,
    /// Frames to the worker.
    pub requests: Producer,
    /// Frames from the worker.
    pub responses: Consumer,
    /// Wakes the worker: there are frames.
    pub wake_worker: Signal,
    /// Wakes the worker: there is room in its ring again, or a flow word has changed.
    pub signal_room: Signal,
    /// Woken by the worker.
    pub wait: Wait,
    /// Descriptors both ways.
    pub descriptors: Descriptors,
}

impl RouterEnd {
    /// Attach, from the descriptors that the arbiter handed over.
    ///
    /// # Errors
    /// `InvalidData` when they are not a channel's; the operating system's otherwise.
    pub fn open(fds: [OwnedFd; END_FDS]) -> io::Result<Self> {
        let [memory, wake_worker, signal_room, wait, descriptors] = fds;
        let memory = Arc::new(Memory::open(memory.as_fd())?);
        Ok(Self {
            requests: Producer::attach(memory.clone(), Which::Requests).map_err(invalid)?,
            responses: Consumer::attach(memory.clone(), Which::Responses).map_err(invalid)?,
            memory,
            wake_worker: wake_worker.into(),
            signal_room: signal_room.into(),
            wait: wait.into(),
            descriptors: descriptors.into(),
        })
    }
}

/// The worker's end.
#[derive(Debug)]
pub struct WorkerEnd {
    /// The shared memory: generation and flow words.
    pub memory: Arc<Memory>,
    /// Frames from the router.
    pub requests: Consumer,
    /// Frames to the router.
    pub responses: Producer,
    /// Woken by the router: there are frames.
    pub wait: Wait,
    /// Woken by the router: there is room again, or a flow word has changed.
    pub room: Wait,
    /// Wakes the router.
    pub wake_router: Signal,
    /// Descriptors both ways; closed when both the router and the arbiter are gone.
    pub descriptors: Descriptors,
}

impl WorkerEnd {
    /// Attach, from the descriptors that were inherited from the arbiter.
    ///
    /// # Errors
    /// `InvalidData` when they are not a channel's; the operating system's otherwise.
    pub fn open(fds: [OwnedFd; END_FDS]) -> io::Result<Self> {
        let [memory, wait, room, wake_router, descriptors] = fds;
        let memory = Arc::new(Memory::open(memory.as_fd())?);
        Ok(Self {
            requests: Consumer::attach(memory.clone(), Which::Requests).map_err(invalid)?,
            responses: Producer::attach(memory.clone(), Which::Responses).map_err(invalid)?,
            memory,
            wait: wait.into(),
            room: room.into(),
            wake_router: wake_router.into(),
            descriptors: descriptors.into(),
        })
    }
}

fn invalid(violation: Violation) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, violation)
}
