//! One HTTP/1 connection: heads and bodies in, responses out, one request after the other.
//!
//! The rules: a request is handed on when it is whole (or, for classes that stream, when its head
//! is); whatever cannot be framed in one way is answered once and the connection closed; nothing
//! behind such a request is ever looked at. Each wait has a deadline, set with
//! [`Client::set_deadline`] and found over by the router's sweep.

use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use channel::message::{FieldsWriter, Payload, Reason, Request, RequestLine};
use wire::{BodyReader, Framing, HeadReader, Reject, Version};

use crate::client::Client;
use crate::control::Address;
use crate::core::{RETRY_AFTER, Router, Settings};
use crate::exchange::{Exchange, Place, Times, Upload};
use crate::options::seconds;
use crate::pace::Pace;
use crate::response::Wanted;
use crate::socket::Socket;
use crate::spool::{Gathered, Spool};
use crate::trust::{self, Scheme, Verdict};
use crate::worker::MAX_MESSAGE;

/// How much is read at a time while a head is awaited, in bytes.
const HEAD_ROOM: usize = 8 * 1024;
/// How much is read at a time of a body, in bytes.
const BODY_ROOM: usize = 64 * 1024;
/// Bytes of further requests that are taken from the socket while one is served.
const PIPELINED: usize = 16 * 1024;
/// A request of at most so many bytes travels in the ring with its body; a larger body as a file.
const IN_RING: usize = 64 * 1024;
/// What a worker takes of a streamed body before it gives credit, in bytes.
const UPLOAD_WINDOW: u64 = 128 * 1024;
/// The largest part of a streamed body in one frame, in bytes.
const UPLOAD_PART: usize = 32 * 1024;
/// The memory that an idle connection keeps for the next request's message, in bytes.
const KEPT: usize = 2 * 1024;
/// The status in the access log of a request whose client left before there was one.
const CLIENT_LEFT: u16 = 499;
/// After a response that ends the connection early, what the client still sends is read for so
/// long, so that a reset does not destroy the response (RFC 9112 9.6).
const LINGER: Duration = Duration::from_secs(2);
/// ... and so many bytes of it, at the most.
const LINGER_BYTES: usize = 4 * 1024 * 1024;

/// Who is at the other end, and which listener it came to.
#[derive(Debug, Clone)]
pub(crate) struct Peer {
    /// `None` on a unix socket.
    pub address: Option<SocketAddr>,
    /// The peer's address as text; empty on a unix socket.
    pub text: String,
    /// Where it connected to.
    pub server: Address,
}

/// Why a connection ends.
#[derive(Debug)]
enum End {
    /// The client has left, or has been idle for long enough, or everything is said.
    Quiet,
    /// Answered with this status, with whatever follows unread: the reason is for the log.
    Refused(u16, &'static str),
    /// The response is written, but the client may still be sending.
    Early,
}

impl From<Reject> for End {
    fn from(reject: Reject) -> Self {
        Self::Refused(reject.status(), reject.reason())
    }
}

impl From<trust::Refused> for End {
    fn from(refused: trust::Refused) -> Self {
        Self::Refused(400, refused.reason())
    }
}

/// What the head of a request asks for.
#[derive(Debug, Clone, Copy)]
struct Plan {
    framing: Framing,
    expects: bool,
}

/// One connection. Owned by its task.
#[derive(Debug)]
pub(crate) struct Connection {
    router: Rc<Router>,
    settings: Rc<Settings>,
    socket: Socket,
    key: usize,
    client: Rc<Client>,
    exchange: Rc<Exchange>,
    peer: Peer,
    trusted: bool,
    reader: HeadReader,
    input: Vec<u8>,
    /// What is before this offset of `input` is used up.
    at: usize,
    /// The client will send no more.
    ended: bool,
    /// It said so while it waited for the response to the present request.
    left: bool,
    /// How the client takes what waits for it, while something does.
    taking: Option<Pace>,
    /// When it must have taken more.
    take_by: Option<Instant>,
    /// A request has been read that the access log has not got yet.
    begun: bool,
    /// The client lets the connection stay.
    stays: bool,
    /// The body that is passed on while it arrives, and how it does.
    body: Option<BodyReader>,
    bringing: Pace,
    /// When more of it must have come.
    bring_by: Option<Instant>,
    /// A part of it that waits for room in the ring, and whether it is the last.
    part: Option<(Vec<u8>, bool)>,
}

impl Connection {
    /// # Errors
    /// The event loop's, when it cannot take the descriptor.
    pub fn new(router: Rc<Router>, fd: OwnedFd, peer: Peer) -> io::Result<Self> {
        let socket = Socket::new(fd)?;
        let (key, client) = router.clients.add();
        let settings = router.settings();
        let trusted = settings.trust.believes(peer.address.map(|address| address.ip()));
        Ok(Self {
            exchange: Exchange::new(client.clone()),
            settings,
            router,
            socket,
            key,
            client,
            peer,
            trusted,
            reader: HeadReader::new(),
            input: Vec::new(),
            at: 0,
            ended: false,
            left: false,
            taking: None,
            take_by: None,
            begun: false,
            stays: false,
            body: None,
            bringing: Pace::begin(Instant::now(), 0),
            bring_by: None,
            part: None,
        })
    }

    /// Serve the connection to its end.
    pub async fn serve(mut self) {
        let mut first = true;
        loop {
            let end = match self.request(first).await {
                Ok(()) => {
                    first = false;
                    continue;
                }
                Err(end) => end,
            };
            match end {
                End::Quiet => self.log_unanswered(),
                End::Refused(status, reason) => self.refuse(status, reason).await,
                End::Early => self.linger().await,
            }
            return;
        }
    }

    /// Read a request and answer it. `Ok`: the connection may bring another.
    async fn request(&mut self, first: bool) -> Result<(), End> {
        let head_len = self.head(first).await?;
        self.settings = self.router.settings();
        let plan = self.prepare(head_len)?;
        self.at += head_len;
        self.reader.reset();
        let settings = self.settings.clone();
        let limit = settings.options.limit_request_body;
        if limit > 0 && matches!(plan.framing, Framing::Length(length) if length > limit) {
            return Err(End::Refused(413, "body larger than limit_request_body"));
        }
        let mut reader = BodyReader::new(plan.framing);
        if plan.expects && self.unread().is_empty() {
            self.exchange
                .response
                .borrow_mut()
                .out
                .with_tail(|out| out.extend_from_slice(b"HTTP/1.1 100 Continue\r\n\r\n"));
            self.flush(None).await?;
        }
        self.body = None;
        self.part = None;
        self.bring_by = None;
        self.exchange.upload.set(Upload::default());
        if !reader.is_done() {
            if settings.options.streams {
                let mut message = self.exchange.message.borrow_mut();
                Request::set_payload(&mut message, &Payload::Stream);
                self.exchange.upload.set(Upload { active: true, window: UPLOAD_WINDOW, begun: false });
                self.bringing = Pace::begin(Instant::now(), 0);
                self.body = Some(reader);
            } else {
                self.gather(&mut reader).await?;
            }
        }
        self.client.set_deadline(None);
        self.left = false;
        if !self.router.submit(&self.exchange) {
            self.router.with_server(|server| {
                self.exchange.response.borrow_mut().fail(503, server, Some(RETRY_AFTER));
            });
        }
        poll_fn(|cx| self.poll_relay(cx)).await?;
        self.finish_request()
    }

    /// What has been read and not used.
    fn unread(&self) -> &[u8] {
        self.input.get(self.at..).unwrap_or_default()
    }

    /// Read until a head is complete. Returns its length.
    async fn head(&mut self, first: bool) -> Result<usize, End> {
        let settings = self.router.settings();
        let mut since = None;
        if self.unread().is_empty() {
            self.release();
            self.exchange.message.borrow_mut().clear();
            self.exchange.message.borrow_mut().shrink_to(KEPT);
            if self.ended || (self.client.is_closing() && !first) {
                return Err(End::Quiet);
            }
            let now = Instant::now();
            let options = &settings.options;
            let wait = if first { options.header_timeout } else { options.keepalive };
            if !first && options.keepalive <= 0.0 {
                return Err(End::Quiet);
            }
            self.client.set_idle(Some(now));
            self.client.set_deadline(seconds(wait).map(|wait| now + wait));
        }
        loop {
            let unread = self.input.get(self.at..).unwrap_or_default();
            if !unread.is_empty() {
                if since.is_none() {
                    let now = Instant::now();
                    since = Some(now);
                    self.exchange.times.set(Times {
                        received: now,
                        queued: now,
                        handed: now,
                        last_byte: now,
                    });
                    // Nothing of an earlier request shows in what is said of this one.
                    self.exchange.message.borrow_mut().clear();
                    self.exchange.worker_pid.set(0);
                    self.exchange.response.borrow_mut().reset(Wanted::default());
                    self.client.set_idle(None);
                }
                match self.reader.read(unread, &settings.limits) {
                    Ok(Some(len)) => return Ok(len),
                    Ok(None) => {}
                    Err(reject) => return Err(reject.into()),
                }
                let begun = since.unwrap_or_else(Instant::now);
                self.client.set_deadline(seconds(settings.options.header_timeout).map(|wait| begun + wait));
            }
            match self.fill(HEAD_ROOM, since.is_none()).await {
                Ok(0) | Err(End::Quiet) => return Err(End::Quiet),
                Ok(_) => {}
                // Nothing was asked yet: there is nothing to answer.
                Err(_) if since.is_none() => return Err(End::Quiet),
                Err(end) => return Err(end),
            }
        }
    }

    /// Give the buffer back while there is nothing to keep in it.
    fn release(&mut self) {
        self.at = 0;
        if self.input.capacity() > 0 {
            let mut buffer = std::mem::take(&mut self.input);
            buffer.clear();
            self.router.buffers.put(buffer);
        }
    }

    /// Read more. The number of bytes is 0 when the client has ended. `idle`: nothing of a request
    /// has come yet.
    async fn fill(&mut self, room: usize, idle: bool) -> Result<usize, End> {
        poll_fn(|cx| {
            self.client.remember(cx.waker());
            if self.client.is_killed() {
                return Poll::Ready(Err(End::Quiet));
            }
            if self.client.is_expired() {
                return Poll::Ready(Err(TOO_SLOW));
            }
            let filled = self.poll_fill(cx, room);
            // Told to close while idle; what the client has sent already is served first.
            if filled.is_pending() && idle && self.client.is_closing() {
                return Poll::Ready(Err(End::Quiet));
            }
            filled
        })
        .await
    }

    fn poll_fill(&mut self, cx: &mut Context<'_>, room: usize) -> Poll<Result<usize, End>> {
        if self.ended {
            return Poll::Ready(Ok(0));
        }
        self.compact();
        if self.input.capacity() == 0 {
            self.input = self.router.buffers.take();
        }
        match self.socket.poll_read(cx, &mut self.input, room) {
            Poll::Ready(Ok(0)) => {
                self.ended = true;
                Poll::Ready(Ok(0))
            }
            Poll::Ready(Ok(got)) => Poll::Ready(Ok(got)),
            // The client has left.
            Poll::Ready(Err(_)) => Poll::Ready(Err(End::Quiet)),
            Poll::Pending => {
                if self.input.is_empty() {
                    self.release();
                }
                Poll::Pending
            }
        }
    }

    fn compact(&mut self) {
        if self.at > 0 {
            self.input.drain(..self.at);
            self.at = 0;
        }
    }

    /// Encode the request for a worker.
    fn prepare(&mut self, head_len: usize) -> Result<Plan, End> {
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
        if settings.options.streams
            && head.upgrade.is_some_and(|protocol| protocol.eq_ignore_ascii_case(b"websocket"))
        {
            return Err(End::Refused(501, "websockets are not implemented"));
        }
        let mut told = settings.trust.screen(self.trusted, Scheme::Http);
        for (name, value) in head.fields() {
            told.field(name, value)?;
        }
        let mut message = self.exchange.message.borrow_mut();
        let line = RequestLine {
            version: if head.version == Version::Http11 { 11 } else { 10 },
            https: told.scheme() == Scheme::Https,
            method: head.method,
            target: head.target,
            path: head.path,
            query: head.query,
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
        let too_large = |_| End::Refused(431, "the head is too large");
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
            return Err(End::Refused(431, "the head is too large"));
        }
        Ok(Plan { framing: head.framing, expects: head.expect_continue })
    }

    /// Read a whole body, into the message or into a file.
    async fn gather(&mut self, reader: &mut BodyReader) -> Result<(), End> {
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
                    self.router.log.error(format_args!("a request body cannot be stored: {error}"));
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
                self.router.log.error(format_args!("a request body cannot be stored: {error}"));
                return Err(End::Refused(507, "no room to store the body"));
            }
        }
        Ok(())
    }

    /// Write what waits for the client, until then at the latest.
    async fn flush(&mut self, until: Option<Instant>) -> Result<(), End> {
        poll_fn(|cx| {
            self.client.remember(cx.waker());
            let flushed = self.poll_flush(cx)?;
            if flushed.is_pending() && until.is_some_and(|until| until <= Instant::now()) {
                return Poll::Ready(Err(End::Quiet));
            }
            self.client.set_deadline(earliest(self.take_by, until));
            flushed.map(Ok)
        })
        .await
    }

    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), End>> {
        if self.client.is_killed() {
            return Poll::Ready(Err(End::Quiet));
        }
        let mut response = self.exchange.response.borrow_mut();
        if response.out.is_empty() {
            return Poll::Ready(Ok(()));
        }
        let sendfile = self.settings.options.sendfile;
        match self.socket.poll_write(cx, &mut response.out, sendfile) {
            Poll::Ready(Ok(())) => {
                drop(response);
                self.taking = None;
                self.take_by = None;
                self.router.resume(&self.exchange);
                Poll::Ready(Ok(()))
            }
            Poll::Ready(Err(error)) => {
                if error.kind() == io::ErrorKind::UnexpectedEof {
                    self.router.log.error(format_args!(
                        "{}: a file became shorter while it was sent",
                        self.exchange.what()
                    ));
                }
                Poll::Ready(Err(End::Quiet))
            }
            Poll::Pending => {
                let taken = response.out.written().saturating_sub(self.socket.untaken());
                drop(response);
                let now = Instant::now();
                let taking = self.taking.get_or_insert_with(|| Pace::begin(now, taken));
                self.take_by = taking.due(now, taken, self.settings.options.send_rate);
                if self.take_by.is_some_and(|by| by <= now) {
                    return Poll::Ready(Err(End::Quiet));
                }
                self.router.resume(&self.exchange);
                Poll::Pending
            }
        }
    }

    /// Wait for the response and write it, watching the client meanwhile.
    fn poll_relay(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), End>> {
        self.client.remember(cx.waker());
        let flushed = self.poll_flush(cx)?;
        if flushed.is_ready() && self.exchange.response.borrow().is_over() {
            return Poll::Ready(Ok(()));
        }
        let uploaded = if self.body.is_some() { self.poll_upload(cx)? } else { Poll::Ready(()) };
        self.client.set_deadline(earliest(self.take_by, self.bring_by));
        ready!(uploaded);
        self.poll_watch(cx)
    }

    /// Take what the client sends while it waits for its response: the end, or further requests, of
    /// which only so many are taken.
    fn poll_watch(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), End>> {
        while !self.ended && self.unread().len() < PIPELINED {
            match self.poll_fill(cx, HEAD_ROOM)? {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(got) if got > 0 => {}
                Poll::Ready(_) => {
                    // The end of what the client sends does not tell whether it still listens. It is
                    // taken for gone where nothing is lost by it: before a worker has begun, and for
                    // classes whose applications are told.
                    self.left = true;
                    if self.settings.options.streams && !self.exchange.response.borrow().is_over() {
                        return Poll::Ready(Err(End::Quiet));
                    }
                }
            }
        }
        // It may be back in the queue long after the client has ended.
        if self.left && matches!(self.exchange.place.get(), Place::Queued(_)) {
            return Poll::Ready(Err(End::Quiet));
        }
        Poll::Pending
    }

    /// Pass on a body while it arrives. Ready when all of it is passed on.
    fn poll_upload(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), End>> {
        let settings = self.settings.clone();
        self.bring_by = None;
        loop {
            if !matches!(self.exchange.place.get(), Place::Held(..)) {
                // Still in the queue.
                return self.poll_watch(cx);
            }
            if let Some((part, last)) = self.part.take() {
                if !self.router.upload(&self.exchange, &part, last) {
                    self.part = Some((part, last));
                    self.bringing = Pace::begin(Instant::now(), self.bringing.moved());
                    return Poll::Pending;
                }
                if last {
                    self.body = None;
                }
            }
            let Some(body) = &mut self.body else { return Poll::Ready(Ok(())) };
            let mut upload = self.exchange.upload.get();
            if upload.window == 0 {
                // The application takes its time: that is not the client's fault.
                self.bringing = Pace::begin(Instant::now(), body.received());
                return self.poll_watch(cx);
            }
            let unread = self.input.get(self.at..).unwrap_or_default();
            if unread.is_empty() {
                let now = Instant::now();
                self.bring_by = self.bringing.due(now, body.received(), settings.options.body_rate);
                match self.poll_fill(cx, BODY_ROOM)? {
                    Poll::Ready(0) => return Poll::Ready(Err(End::Quiet)),
                    Poll::Ready(_) => self.bring_by = None,
                    Poll::Pending if self.bring_by.is_some_and(|by| by <= now) => {
                        return Poll::Ready(Err(TOO_SLOW));
                    }
                    Poll::Pending => return Poll::Pending,
                }
                continue;
            }
            let most =
                usize::try_from(upload.window).unwrap_or(UPLOAD_PART).min(UPLOAD_PART).min(unread.len());
            let unread = unread.get(..most).unwrap_or_default();
            let step = body.read(unread, &settings.limits)?;
            let data = unread.get(step.data.clone()).unwrap_or_default();
            let limit = settings.options.limit_request_body;
            if limit > 0 && body.received() > limit {
                return Poll::Ready(Err(End::Refused(413, "body larger than limit_request_body")));
            }
            if !data.is_empty() || step.done {
                self.part = Some((data.to_vec(), step.done));
            }
            upload.window = upload.window.saturating_sub(data.len() as u64);
            upload.begun = true;
            self.exchange.upload.set(upload);
            self.at += step.consumed;
        }
    }

    /// The response is written: log it, and say whether the connection goes on.
    fn finish_request(&mut self) -> Result<(), End> {
        self.log();
        let response = self.exchange.response.borrow();
        let keeps = response.keeps_alive();
        let cut = response.is_cut();
        drop(response);
        let unfinished = self.body.take().is_some();
        if cut {
            return Err(End::Quiet);
        }
        self.drop_exchange(Reason::ClientLeft);
        // An idle connection holds no disk.
        *self.exchange.file.borrow_mut() = None;
        // A client may say that it has no more requests than these (RFC 9112 9.6), and still wants
        // to have them answered.
        if keeps && !unfinished && (!self.ended || !self.unread().is_empty()) {
            return Ok(());
        }
        // One that thinks that the connection stays may be sending its next request now.
        if unfinished || (!self.ended && (self.stays || !self.unread().is_empty())) {
            return Err(End::Early);
        }
        Err(End::Quiet)
    }

    fn log(&mut self) {
        self.begun = false;
        self.router.log_access(&self.exchange, &self.peer);
    }

    /// A request that ends without all of its response has a record, too.
    fn log_unanswered(&mut self) {
        if self.begun {
            let mut response = self.exchange.response.borrow_mut();
            if response.status == 0 {
                response.status = CLIENT_LEFT;
            }
            drop(response);
            self.log();
        }
    }

    /// Nobody waits for this response any more: have a fresh exchange if the old one is still known
    /// elsewhere.
    fn drop_exchange(&mut self, reason: Reason) {
        self.router.abandon(&self.exchange, reason);
        self.taking = None;
        self.take_by = None;
        if Rc::strong_count(&self.exchange) > 1 {
            let times = self.exchange.times.get();
            self.exchange = Exchange::new(self.client.clone());
            self.exchange.times.set(times);
        }
    }

    /// Answer a request that is not served, and close.
    async fn refuse(&mut self, status: u16, reason: &'static str) {
        if self.exchange.response.borrow().has_begun() && self.exchange.place.get() != Place::Home {
            // It has an answer already, in part: nothing can be said any more.
            self.log_unanswered();
            return;
        }
        // An answer to HEAD has no body, whatever it says (RFC 9110 9.3.2).
        let head_only = self.exchange.response.borrow().wanted.head_only;
        self.drop_exchange(Reason::ClientLeft);
        self.router.log.debug(format_args!("Invalid request from ip={}: {reason}", self.peer.text));
        self.router.with_server(|server| {
            let mut response = self.exchange.response.borrow_mut();
            response.reset(Wanted { keep_alive: false, head_only, ..Wanted::default() });
            response.fail(status, server, None);
        });
        let flushed = self.flush(Some(Instant::now() + LINGER)).await;
        self.log();
        if flushed.is_ok() {
            self.linger().await;
        }
    }

    /// Read on for a while, so that the client can read the response before a reset.
    async fn linger(&mut self) {
        self.socket.shut_down();
        self.client.set_deadline(Some(Instant::now() + LINGER));
        let mut left = LINGER_BYTES;
        while !self.ended && left > 0 {
            self.at = self.input.len();
            match self.fill(BODY_ROOM, false).await {
                Ok(got) => left = left.saturating_sub(got),
                Err(_) => return,
            }
        }
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        if self.exchange.response.borrow().must_reset() {
            self.socket.reset_on_close();
        }
        // However it ended: nobody waits for a response any more.
        self.router.abandon(&self.exchange, Reason::ClientLeft);
        self.router.clients.remove(self.key);
        if self.router.is_draining() {
            self.router.left.notify_one();
        }
    }
}

const TOO_SLOW: End = End::Refused(408, "the client is too slow");

fn earliest(one: Option<Instant>, other: Option<Instant>) -> Option<Instant> {
    one.into_iter().chain(other).min()
}
