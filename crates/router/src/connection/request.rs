//! From what the client has sent to the message for a worker: the head, and a body that is awaited.

use std::borrow::Cow;
use std::future::poll_fn;
use std::io;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use channel::message::{FieldsWriter, Payload, Request, RequestLine};
use wire::{BodyReader, Framing, Limits, Version};

use super::ending::End;
use super::{BODY_ROOM, Connection};
use crate::pace::Pace;
use crate::response::Wanted;
use crate::spool::{Gathered, Spool, cannot_hold, cannot_store};
use crate::trust::{Scheme, Verdict};
use crate::worker::MAX_MESSAGE;

/// A request of at most so many bytes travels in the ring with its body; a larger body as a file.
const IN_RING: usize = 64 * 1024;
/// How long the disk may take for one piece of a body.
const DISK: Duration = Duration::from_secs(60);

/// A head within all limits may have too many short fields, or too much to encode.
const TOO_LARGE: &str = "head larger than what can be handed to a worker, whatever limit_request_head says";

/// What the head of a request asks for.
#[derive(Debug, Clone, Copy)]
pub(super) struct Plan {
    pub framing: Framing,
    pub expects: bool,
}

impl Connection {
    /// Encode the request for a worker.
    pub(super) fn prepare(&mut self, head_len: usize) -> Result<Plan, End> {
        let buffer = self.input.get(self.at..self.at + head_len).unwrap_or_default();
        let head = self.reader.head(buffer);
        let settings = &self.settings;
        self.stays = head.keep_alive;
        self.begun = true;
        let keep_alive = head.keep_alive
            && settings.options.keepalive > 0.0
            && !self.router.is_draining()
            && !self.client.is_closing();
        self.exchange.response.borrow_mut().wanted =
            Wanted { http11: head.version == Version::Http11, head_only: head.method == b"HEAD", keep_alive };
        *self.exchange.file.borrow_mut() = None;
        if self.router.streams()
            && head.upgrade.is_some_and(|protocol| protocol.eq_ignore_ascii_case(b"websocket"))
        {
            return Err(End::Refused(501, "websockets are not implemented"));
        }
        let mut told = settings.trust.screen(self.trusted, Scheme::Http);
        for (name, value) in head.fields() {
            told.field(name, value)?;
        }
        let is_ascii = head.target.is_ascii();
        if !is_ascii && settings.options.non_ascii_target == "refuse" {
            return Err(End::Refused(400, "byte beyond ASCII in the request target (non_ascii_target)"));
        }
        let part = |part| if is_ascii { Cow::Borrowed(part) } else { wire::ascii_target(part) };
        let (target, path, query) = (part(head.target), part(head.path), part(head.query));
        let mut message = self.exchange.message.borrow_mut();
        let line = RequestLine {
            version: if head.version == Version::Http11 { 11 } else { 10 },
            https: told.scheme() == Scheme::Https,
            method: head.method,
            target: &target,
            path: &path,
            query: &query,
            script_name: told.script_name().unwrap_or_default(),
            peer: self.peer.text.as_bytes(),
            peer_port: self.peer.address.map_or(0, |address| address.port()),
            server: self.peer.server.address.as_bytes(),
            server_port: self.peer.server.port,
            content_length: match head.framing {
                Framing::Length(length) => Some(length),
                Framing::None | Framing::Chunked => None,
            },
        };
        let too_large = |_| End::Refused(431, TOO_LARGE);
        Request::start(&mut message, &line).map_err(too_large)?;
        let mut fields = FieldsWriter::new(&mut message);
        for (name, value) in head.fields() {
            if told.field(name, value)? == Verdict::Drop {
                continue;
            }
            let value = match head.authority {
                // RFC 9112 3.2.2: the authority of an absolute target replaces Host.
                Some(authority) if name.eq_ignore_ascii_case(b"host") => authority,
                _ => value,
            };
            fields.push_lowercase(name, value).map_err(too_large)?;
        }
        fields.finish().map_err(too_large)?;
        if message.len() > MAX_MESSAGE {
            return Err(End::Refused(431, TOO_LARGE));
        }
        Ok(Plan { framing: head.framing, expects: head.expect_continue })
    }

    /// Read a whole body, into the message or into a file.
    pub(super) async fn gather(&mut self, reader: &mut BodyReader) -> Result<(), End> {
        let settings = self.settings.clone();
        let options = &settings.options;
        let mut spool = Spool::new(options.request_buffer, options.tmp_upload_dir.as_deref());
        let mut bringing = Pace::begin(Instant::now(), 0);
        loop {
            self.decode(reader, &mut spool, &settings.limits)?;
            if options.limit_request_body > 0 && spool.len() > options.limit_request_body {
                return Err(End::Refused(413, "body larger than limit_request_body"));
            }
            if reader.is_done() {
                break;
            }
            if spool.is_full() {
                let begun = Instant::now();
                self.store(false, |cx| spool.poll_store(cx)).await?;
                bringing.excuse(begun.elapsed());
            }
            self.take_turns().await;
            self.client.set_deadline(bringing.due(Instant::now(), spool.len(), options.body_rate));
            let left = reader.plain_left().map(|left| usize::try_from(left).unwrap_or(usize::MAX));
            let got = self.wait(false, |connection, cx| {
                // A full disk is news whether more comes or not.
                if let Poll::Ready(Err(error)) = spool.poll_written(cx) {
                    return Poll::Ready(Err(connection.not_stored(false, &error)));
                }
                match left {
                    // Each byte of it is data: it need not go through the buffer for what is parsed.
                    Some(left) => {
                        spool.read_with(|memory, room| connection.poll_read(cx, memory, room, room.min(left)))
                    }
                    None => connection.poll_fill(cx, BODY_ROOM),
                }
            });
            let got = got.await?;
            if got == 0 {
                return Err(End::Quiet);
            }
            if left.is_some() {
                reader.read(spool.tail(got), &settings.limits)?;
            }
        }
        let inline = IN_RING.saturating_sub(self.exchange.message.borrow().len());
        let gathered = self.store(!spool.has_file(), |cx| spool.poll_finish(cx, inline)).await?;
        let mut message = self.exchange.message.borrow_mut();
        Request::set_content_length(&mut message, spool.len());
        match gathered {
            Gathered::Memory(bytes) => message.extend_from_slice(&bytes),
            Gathered::File(file, length) => {
                Request::set_payload(&mut message, &Payload::Descriptor(length));
                *self.exchange.file.borrow_mut() = Some(file);
            }
        }
        Ok(())
    }

    /// Take out what has come of a body: however small its chunks are, they are one piece then.
    fn decode(&mut self, reader: &mut BodyReader, spool: &mut Spool, limits: &Limits) -> Result<(), End> {
        while !reader.is_done() && self.at < self.input.len() {
            let unread = self.input.get(self.at..).unwrap_or_default();
            let step = reader.read(unread, limits)?;
            spool.push(unread.get(step.data.clone()).unwrap_or_default());
            self.at += step.consumed;
        }
        Ok(())
    }

    /// Wait for the disk (or a file in memory). That is not the client's fault, but it has an end.
    async fn store<T>(
        &mut self,
        in_memory: bool,
        mut poll: impl FnMut(&mut Context<'_>) -> Poll<io::Result<T>>,
    ) -> Result<T, End> {
        self.client.set_deadline(Some(Instant::now() + DISK));
        let stored = poll_fn(|cx| {
            self.client.remember(cx.waker());
            if self.client.is_killed() {
                return Poll::Ready(None);
            }
            match poll(cx) {
                Poll::Pending if self.client.is_expired() => {
                    Poll::Ready(Some(Err(io::ErrorKind::TimedOut.into())))
                }
                polled => polled.map(Some),
            }
        });
        stored.await.ok_or(End::Quiet)?.map_err(|error| self.not_stored(in_memory, &error))
    }

    fn not_stored(&self, in_memory: bool, error: &io::Error) -> End {
        let why = match in_memory {
            true => cannot_hold(error),
            false => cannot_store(self.settings.options.tmp_upload_dir.as_deref(), error),
        };
        self.router.log.error(format_args!("a request body cannot be stored in {why}"));
        End::Refused(507, "no room to store the body")
    }
}
