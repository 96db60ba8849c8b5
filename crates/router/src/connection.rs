//! One HTTP/1 connection: heads and bodies in, responses out, one request after the other.
//!
//! The rules: a request is handed on when it is whole (or, for classes that stream, when its head
//! is); whatever cannot be framed in one way is answered once and the connection closed; nothing
//! behind such a request is ever looked at. Each wait has a deadline, set with
//! [`Client::set_deadline`] and found over by the router's sweep.
//!
//! Here is the connection's life; [`request`] makes messages of what has come, [`relay`] moves bytes
//! while a request is served, [`ending`] closes.

mod ending;
mod relay;
mod request;

use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::pin::pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::Instant;

use channel::message::{Payload, Reason, Request};
use wire::{BodyReader, Framing, HeadReader};

use crate::client::Client;
use crate::control::Address;
use crate::core::Router;
use crate::exchange::{Exchange, Times, Upload};
use crate::options::seconds;
use crate::pace::Pace;
use crate::response::Wanted;
use crate::settings::Settings;
use crate::socket::Socket;
use ending::{End, TOO_SLOW};

/// How much is read at a time while a head is awaited, in bytes.
const HEAD_ROOM: usize = 8 * 1024;
/// How much is read at a time of a body, in bytes.
const BODY_ROOM: usize = 64 * 1024;
/// What a worker takes of a streamed body before it gives credit, in bytes.
const UPLOAD_WINDOW: u64 = 128 * 1024;
/// The memory that an idle connection keeps for the next request's message, in bytes.
const KEPT: usize = 2 * 1024;

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
    /// The body that is passed on while it arrives.
    body: Option<BodyReader>,
    /// How it arrives, while it is the client that is waited for.
    bringing: Option<Pace>,
    /// When more of it must have come.
    bring_by: Option<Instant>,
    /// A part of it that has been taken out and not been passed on.
    part: Vec<u8>,
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
            bringing: None,
            bring_by: None,
            part: Vec::new(),
        })
    }

    /// Serve the connection to its end.
    pub async fn serve(mut self) {
        let client = self.client.clone();
        let mut life = pin!(self.live());
        poll_fn(|cx| {
            client.turn.begin();
            life.as_mut().poll(cx)
        })
        .await;
    }

    // By reference: a future has room for each argument, and one for where it moves it.
    async fn live(&mut self) {
        let mut first = true;
        loop {
            let end = match self.request(first).await {
                Ok(()) => {
                    first = false;
                    // Requests that came in a row and are answered at once.
                    self.take_turns().await;
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
        self.part = Vec::new();
        self.bring_by = None;
        self.exchange.upload.set(Upload::default());
        if !reader.is_done() {
            if self.router.streams() {
                let mut message = self.exchange.message.borrow_mut();
                Request::set_payload(&mut message, &Payload::Stream);
                self.exchange.upload.set(Upload { active: true, window: UPLOAD_WINDOW, begun: false });
                self.bringing = None;
                self.body = Some(reader);
            } else {
                // Not a part of each connection's memory.
                Box::pin(self.gather(&mut reader)).await?;
            }
        }
        self.client.set_deadline(None);
        self.left = false;
        self.router.submit(&self.exchange);
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
                    Err(reject) => {
                        let foreign = if first { wire::foreign(unread) } else { None };
                        return Err(foreign.map_or_else(|| reject.into(), End::from));
                    }
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
        self.wait(idle, |connection, cx| connection.poll_fill(cx, room)).await
    }

    /// Wait for something, until the deadline. `idle`: nothing of a request has come yet.
    async fn wait<T>(
        &mut self,
        idle: bool,
        mut poll: impl FnMut(&mut Self, &mut Context<'_>) -> Poll<Result<T, End>>,
    ) -> Result<T, End> {
        poll_fn(|cx| {
            self.client.remember(cx.waker());
            if self.client.is_killed() {
                return Poll::Ready(Err(End::Quiet));
            }
            if self.client.is_expired() {
                return Poll::Ready(Err(TOO_SLOW));
            }
            let polled = poll(self, cx);
            // Told to close while idle; what the client has sent already is served first.
            if polled.is_pending() && idle && self.client.is_closing() {
                return Poll::Ready(Err(End::Quiet));
            }
            polled
        })
        .await
    }

    /// Let the others go first when the turn is over.
    async fn take_turns(&self) {
        if self.client.turn.is_over() {
            let mut joined = false;
            poll_fn(|cx| {
                if std::mem::replace(&mut joined, true) && !self.client.turn.is_in_line() {
                    return Poll::Ready(());
                }
                self.client.remember(cx.waker());
                self.router.line.join(&self.client)
            })
            .await;
        }
    }

    fn poll_fill(&mut self, cx: &mut Context<'_>, room: usize) -> Poll<Result<usize, End>> {
        self.compact();
        if self.input.capacity() == 0 && !self.ended {
            self.input = self.router.buffers.take();
        }
        let mut input = std::mem::take(&mut self.input);
        let filled = self.poll_read(cx, &mut input, room, usize::MAX);
        self.input = input;
        if filled.is_pending() && self.input.is_empty() {
            self.release();
        }
        filled
    }

    /// Read more, into a buffer: at most `most` bytes.
    fn poll_read(
        &mut self,
        cx: &mut Context<'_>,
        buffer: &mut Vec<u8>,
        room: usize,
        most: usize,
    ) -> Poll<Result<usize, End>> {
        if self.ended {
            return Poll::Ready(Ok(0));
        }
        match ready!(self.socket.poll_read(cx, buffer, room, most)) {
            Ok(got) => {
                self.ended = got == 0;
                self.client.turn.spend(got as u64);
                Poll::Ready(Ok(got))
            }
            // The client has left.
            Err(_) => Poll::Ready(Err(End::Quiet)),
        }
    }

    fn compact(&mut self) {
        if self.at > 0 {
            self.input.drain(..self.at);
            self.at = 0;
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
