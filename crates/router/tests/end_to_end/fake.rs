//! A worker without Python: the test says what it does.

use std::fs::File;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::FileExt;
use std::sync::atomic::Ordering;
use std::time::Instant;

use channel::link::WorkerEnd;
use channel::message::{self, Body, Credit, FieldsWriter, FileBody, Head, Payload, Ready, Request, Section};
use channel::ring::PushError;

use crate::house::{PATIENCE, eventually};

/// What the router said.
#[derive(Debug)]
pub enum Event {
    Hello,
    Request(Asked),
    Body { id: u64, end: bool, data: Vec<u8> },
    Cancel(u64),
    Stop,
}

/// How the body came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Came {
    Inline,
    File,
    Stream,
}

/// A request, claimed.
#[derive(Debug)]
pub struct Asked {
    pub id: u64,
    pub method: String,
    pub path: String,
    pub query: String,
    pub fields: Vec<(String, String)>,
    pub body: Vec<u8>,
    pub came: Came,
    pub content_length: Option<u64>,
}

/// The worker's end of a channel.
pub struct Fake {
    pub id: u32,
    pub end: WorkerEnd,
    /// The memory that it shares with the router, to write into what it must not.
    pub memory: File,
}

pub const END: u16 = message::END;
pub const DONE: u16 = message::DONE;
pub const ALL: u16 = message::END | message::DONE;

impl Fake {
    pub fn open(id: u32, fds: [OwnedFd; 5]) -> Self {
        let memory = fds[0].try_clone().unwrap().into();
        Self { id, end: WorkerEnd::open(fds).unwrap(), memory }
    }

    /// Write zeros over all that both sides share, but for the sizes.
    pub fn wipe(&self) {
        let size = self.memory.metadata().unwrap().len() as usize;
        self.memory.write_all_at(&vec![0; size - 64], 64).unwrap();
    }

    /// Wait for the router's greeting and answer it.
    pub fn greet(&mut self, busy: u32) {
        let event = self.event();
        assert!(matches!(event, Event::Hello), "{event:?}");
        self.ready(busy);
    }

    pub fn ready(&mut self, busy: u32) {
        let generation = self.end.memory.generation();
        self.push(message::READY, &[&Ready { generation, busy }.encode()]);
    }

    /// What the router says next, if it says something by then.
    pub fn poll(&mut self, until: Instant) -> Option<Event> {
        loop {
            if let Some(frame) = self.end.requests.peek().unwrap() {
                let claimed = self.end.requests.claim(&frame);
                let mut payload = Vec::new();
                self.end.requests.read(&frame, &mut payload);
                self.end.requests.release(&frame);
                if self.end.requests.must_wake() {
                    self.end.wake_router.signal();
                }
                if let Some(event) = self.decode(frame.kind, &payload, claimed) {
                    return Some(event);
                }
                continue;
            }
            if !self.end.requests.may_sleep() {
                continue;
            }
            let left = until.saturating_duration_since(Instant::now());
            self.end.wait.wait(self.end.descriptors.as_fd(), Some(left)).unwrap();
            self.end.wait.clear();
            self.end.requests.awake();
            if self.end.requests.is_empty() && Instant::now() >= until {
                return None;
            }
        }
    }

    /// What the router says next.
    pub fn event(&mut self) -> Event {
        self.poll(Instant::now() + PATIENCE).expect("the router says nothing")
    }

    /// The next request.
    pub fn request(&mut self) -> Asked {
        match self.event() {
            Event::Request(asked) => asked,
            other => panic!("not a request: {other:?}"),
        }
    }

    /// The next request must be for this path.
    pub fn expect(&mut self, path: &str) -> Asked {
        let asked = self.request();
        assert_eq!(asked.path, path);
        asked
    }

    /// Is there nothing that the router wants of us?
    pub fn has_nothing(&mut self) -> bool {
        self.end.requests.is_empty()
    }

    /// Is the next frame a request that nobody has begun nor taken back?
    pub fn has_pending(&mut self) -> bool {
        let next = self.end.requests.peek().unwrap();
        next.is_some_and(|frame| frame.kind == message::REQUEST && self.end.requests.is_pending(&frame))
    }

    fn decode(&mut self, kind: u16, payload: &[u8], claimed: bool) -> Option<Event> {
        match kind {
            message::HELLO => Some(Event::Hello),
            message::PING => None,
            message::STOP => Some(Event::Stop),
            message::CANCEL => Some(Event::Cancel(message::Cancel::decode(payload).unwrap().id)),
            message::BODY => {
                let body = Body::decode(payload).unwrap();
                Some(Event::Body { id: body.id, end: body.flags & END != 0, data: body.data.to_vec() })
            }
            message::REQUEST => {
                let request = Request::decode(payload).unwrap();
                let (came, body) = match request.payload {
                    Payload::Inline(bytes) => (Came::Inline, bytes.to_vec()),
                    Payload::Stream => (Came::Stream, Vec::new()),
                    Payload::Descriptor(len) => {
                        let file = File::from(self.end.descriptors.receive_for(request.id).unwrap());
                        let mut body = vec![0; len as usize];
                        file.read_exact_at(&mut body, 0).unwrap();
                        assert_eq!(file.metadata().unwrap().len(), len);
                        (Came::File, body)
                    }
                };
                let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
                claimed.then(|| {
                    Event::Request(Asked {
                        id: request.id,
                        method: text(request.line.method),
                        path: text(request.line.path),
                        query: text(request.line.query),
                        fields: request.fields.iter().map(|(n, v)| (text(n), text(v))).collect(),
                        body,
                        came,
                        content_length: request.line.content_length,
                    })
                })
            }
            other => panic!("the router said {other}"),
        }
    }

    /// Push a frame, waiting for room.
    pub fn push(&mut self, kind: u16, parts: &[&[u8]]) {
        eventually("room in the ring", || match self.end.responses.push(kind, parts) {
            Ok(_) => true,
            Err(PushError::Full) => false,
            Err(other) => panic!("{other:?}"),
        });
        if self.end.responses.must_wake() {
            self.end.wake_router.signal();
        }
    }

    pub fn head(&mut self, id: u64, status: u16, fields: &[(&str, &str)], data: &[u8], flags: u16) {
        let mut message = Vec::new();
        Head::start(&mut message, id, status, b"").unwrap();
        let mut writer = FieldsWriter::new(&mut message);
        for (name, value) in fields {
            writer.push(name.as_bytes(), value.as_bytes()).unwrap();
        }
        writer.finish().unwrap();
        Head::set_flags(&mut message, flags, 100);
        self.push(message::HEAD, &[&message, data]);
    }

    /// A whole response.
    pub fn answer(&mut self, asked: &Asked, body: &[u8]) {
        self.head(asked.id, 200, &[("Content-Type", "text/plain")], body, ALL);
    }

    pub fn body(&mut self, id: u64, data: &[u8], flags: u16) {
        self.push(message::BODY, &[&Body::prefix(id, flags, 100), data]);
    }

    pub fn abort(&mut self, id: u64) {
        self.push(message::ABORT, &[&Body::prefix(id, DONE, 100)]);
    }

    pub fn file(&mut self, id: u64, file: &File, offset: u64, len: u64, flags: u16) {
        self.end.descriptors.send(id, file.as_fd()).unwrap();
        self.push(message::FILE, &[&FileBody { id, flags, elapsed: 100, offset, len }.encode()]);
    }

    pub fn section(&mut self, kind: u16, id: u64, status: u16, fields: &[(&str, &str)]) {
        let mut message = Vec::new();
        Section::start(&mut message, id, status);
        let mut writer = FieldsWriter::new(&mut message);
        for (name, value) in fields {
            writer.push(name.as_bytes(), value.as_bytes()).unwrap();
        }
        writer.finish().unwrap();
        self.push(kind, &[&message]);
    }

    pub fn credit(&mut self, id: u64, bytes: u64) {
        self.push(message::CREDIT, &[&Credit { id, bytes }.encode()]);
    }

    /// The flow word of a request's slot.
    pub fn flow(&self, id: u64) -> u32 {
        self.end.memory.flow((id & 0xffff) as usize).unwrap().load(Ordering::Acquire)
    }
}
