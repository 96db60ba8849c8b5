//! From what the client has sent to the message for a worker: the head, and a body that is awaited.

use std::borrow::Cow;
use std::time::Instant;

use channel::message::{FieldsWriter, Payload, Request, RequestLine};
use wire::{BodyReader, Framing, Version};

use super::ending::End;
use super::{BODY_ROOM, Connection};
use crate::pace::Pace;
use crate::response::Wanted;
use crate::spool::{Gathered, Spool, cannot_hold, cannot_store};
use crate::trust::{Scheme, Verdict};
use crate::worker::MAX_MESSAGE;

/// A request of at most so many bytes travels in the ring with its body; a larger body as a file.
const IN_RING: usize = 64 * 1024;

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
        let directory = options.tmp_upload_dir.as_deref();
        let mut spool = Spool::default();
        let mut bringing = Pace::begin(Instant::now(), 0);
        loop {
            while !reader.is_done() && self.at < self.input.len() {
                let unread = self.input.get(self.at..).unwrap_or_default();
                let step = reader.read(unread, &settings.limits)?;
                let data = unread.get(step.data.clone()).unwrap_or_default();
                if let Err(error) = spool.push(data, options.request_buffer, directory) {
                    let why = cannot_store(directory, &error);
                    self.router.log.error(format_args!("a request body cannot be stored in {why}"));
                    return Err(End::Refused(507, "no room to store the body"));
                }
                self.at += step.consumed;
                if options.limit_request_body > 0 && spool.len() > options.limit_request_body {
                    return Err(End::Refused(413, "body larger than limit_request_body"));
                }
            }
            if reader.is_done() {
                break;
            }
            self.client.set_deadline(bringing.due(Instant::now(), spool.len(), options.body_rate));
            if self.fill(BODY_ROOM, false).await? == 0 {
                return Err(End::Quiet);
            }
        }
        let length = spool.len();
        let mut message = self.exchange.message.borrow_mut();
        Request::set_content_length(&mut message, length);
        match spool.finish(IN_RING.saturating_sub(message.len())) {
            Ok(Gathered::Memory(bytes)) => message.extend_from_slice(&bytes),
            Ok(Gathered::File(file, length)) => {
                Request::set_payload(&mut message, &Payload::Descriptor(length));
                *self.exchange.file.borrow_mut() = Some(file);
            }
            Err(error) => {
                let why = cannot_hold(&error);
                self.router.log.error(format_args!("a request body cannot be stored in {why}"));
                return Err(End::Refused(507, "no room to store the body"));
            }
        }
        Ok(())
    }
}
