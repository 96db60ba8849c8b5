//! How a connection ends.

use std::time::{Duration, Instant};

use channel::message::Reason;
use wire::Reject;

use super::{BODY_ROOM, Connection};
use crate::exchange::Place;
use crate::response::Wanted;
use crate::trust;

/// The status in the access log of a request whose client left before there was one.
const CLIENT_LEFT: u16 = 499;
/// After a response that ends the connection early, what the client still sends is read for so
/// long, so that a reset does not destroy the response (RFC 9112 9.6).
const LINGER: Duration = Duration::from_secs(2);
/// ... and so many bytes of it, at the most.
const LINGER_BYTES: usize = 4 * 1024 * 1024;

/// Why a connection ends.
#[derive(Debug)]
pub(super) enum End {
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

impl From<(u16, &'static str)> for End {
    fn from((status, reason): (u16, &'static str)) -> Self {
        Self::Refused(status, reason)
    }
}

impl From<trust::Refused> for End {
    fn from(refused: trust::Refused) -> Self {
        Self::Refused(400, refused.reason())
    }
}

pub(super) const TOO_SLOW: End = End::Refused(408, "the client is too slow");

impl Connection {
    /// A request that ends without all of its response has a record, too.
    pub(super) fn log_unanswered(&mut self) {
        if self.begun {
            let mut response = self.exchange.response.borrow_mut();
            if response.status == 0 {
                response.status = CLIENT_LEFT;
            }
            drop(response);
            self.log();
        }
    }

    /// Answer a request that is not served, and close.
    pub(super) async fn refuse(&mut self, status: u16, reason: &'static str) {
        if self.exchange.response.borrow().has_begun() && self.exchange.place.get() != Place::Home {
            // It has an answer already, in part: nothing can be said any more.
            self.log_unanswered();
            return;
        }
        // An answer to HEAD has no body, whatever it says (RFC 9110 9.3.2).
        let head_only = self.exchange.response.borrow().wanted.head_only;
        self.drop_exchange(Reason::ClientLeft);
        // That the disk is full is no fault of the request, and in the log already.
        if status != 507 {
            self.router.log.warning(format_args!("Invalid request from ip={}: {reason}", self.peer.text));
        }
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
    pub(super) async fn linger(&mut self) {
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
