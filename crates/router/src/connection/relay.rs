//! While a request is served: the response goes out, the client is watched, a body passes through.

use std::future::poll_fn;
use std::io;
use std::task::{Context, Poll, ready};
use std::time::Instant;

use wire::BodyReader;

use super::ending::{End, TOO_SLOW};
use super::{BODY_ROOM, Connection, HEAD_ROOM};
use crate::exchange::{Place, Upload};
use crate::outgoing::Written;
use crate::pace::Pace;
use crate::settings::Settings;

/// Bytes of further requests that are taken from the socket while one is served.
const PIPELINED: usize = 16 * 1024;
/// The largest part of a streamed body in one frame, in bytes.
const UPLOAD_PART: usize = 32 * 1024;

impl Connection {
    /// Write what waits for the client, until then at the latest.
    pub(super) async fn flush(&mut self, until: Option<Instant>) -> Result<(), End> {
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
        if self.client.turn.is_in_line() {
            return Poll::Pending;
        }
        let sendfile = self.settings.options.sendfile;
        match self.socket.poll_write(cx, &mut response.out, sendfile, &self.client.turn) {
            Poll::Ready(Ok(Written::Enough)) => {
                drop(response);
                self.router.resume(&self.exchange);
                self.router.line.join(&self.client)
            }
            Poll::Ready(Ok(_)) => {
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
    pub(super) fn poll_relay(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), End>> {
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
                    if self.exchange.streams.get() && !self.exchange.response.borrow().is_over() {
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
                // Still in the queue: that is not the client's fault.
                self.bringing = None;
                return self.poll_watch(cx);
            }
            self.take_part(&settings)?;
            let Some(body) = &self.body else { return Poll::Ready(Ok(())) };
            let (received, done) = (body.received(), body.is_done());
            let waits = self.exchange.upload.get().window == 0;
            if done || waits || self.part.len() >= UPLOAD_PART {
                ready!(self.poll_pass_on());
                if done {
                    self.body = None;
                    self.part = Vec::new();
                    return Poll::Ready(Ok(()));
                }
                if waits {
                    // The application takes its time: nor is that.
                    self.bringing = None;
                    return self.poll_watch(cx);
                }
            }
            if self.at < self.input.len() {
                continue;
            }
            let over = self.client.turn.is_over();
            let filled = if over { Poll::Pending } else { self.poll_fill(cx, BODY_ROOM)? };
            match filled {
                Poll::Ready(0) => return Poll::Ready(Err(End::Quiet)),
                Poll::Ready(_) => continue,
                // What has come goes on, in one piece.
                Poll::Pending if !self.part.is_empty() => ready!(self.poll_pass_on()),
                Poll::Pending => {}
            }
            if over {
                return self.router.line.join(&self.client);
            }
            let now = Instant::now();
            let bringing = self.bringing.get_or_insert_with(|| Pace::begin(now, received));
            self.bring_by = bringing.due(now, received, settings.options.body_rate);
            if self.bring_by.is_some_and(|by| by <= now) {
                return Poll::Ready(Err(TOO_SLOW));
            }
            return Poll::Pending;
        }
    }

    /// Take out what has come of a body, for one message at the most: however small its chunks are,
    /// they are one part then.
    fn take_part(&mut self, settings: &Settings) -> Result<(), End> {
        let Some(body) = &mut self.body else { return Ok(()) };
        let mut upload = self.exchange.upload.get();
        while !body.is_done()
            && upload.window > 0
            && self.part.len() < UPLOAD_PART
            && self.at < self.input.len()
        {
            let room = UPLOAD_PART - self.part.len();
            let most = usize::try_from(upload.window).unwrap_or(room).min(room);
            let unread = self.input.get(self.at..).unwrap_or_default();
            let unread = unread.get(..most).unwrap_or(unread);
            let step = body.read(unread, &settings.limits)?;
            let data = unread.get(step.data.clone()).unwrap_or_default();
            self.part.extend_from_slice(data);
            upload.window -= data.len() as u64;
            self.at += step.consumed;
        }
        self.exchange.upload.set(upload);
        let limit = settings.options.limit_request_body;
        if limit > 0 && body.received() > limit {
            return Err(End::Refused(413, "body larger than limit_request_body"));
        }
        Ok(())
    }

    /// Give the worker the part that was taken out. Pending while there is no room in the ring.
    fn poll_pass_on(&mut self) -> Poll<()> {
        let last = self.body.as_ref().is_some_and(BodyReader::is_done);
        if self.part.is_empty() && !last {
            return Poll::Ready(());
        }
        if !self.router.upload(&self.exchange, &self.part, last) {
            self.bringing = None;
            return Poll::Pending;
        }
        self.part.clear();
        let upload = self.exchange.upload.get();
        self.exchange.upload.set(Upload { active: !last, begun: true, ..upload });
        Poll::Ready(())
    }
}

fn earliest(one: Option<Instant>, other: Option<Instant>) -> Option<Instant> {
    one.into_iter().chain(other).min()
}
