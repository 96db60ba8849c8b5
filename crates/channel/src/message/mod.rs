//! What a frame says.
//!
//! To the worker: [`Request`] (`REQUEST`), [`Body`] (`BODY`), `CANCEL`, `HELLO`, `PING`, `STOP`.
//! To the router: [`Ready`] (`READY`), [`Head`] (`HEAD`), [`Body`] (`BODY`), [`FileBody`] (`FILE`),
//! [`Fields`] as trailers or as a 1xx (`TRAILERS`, `INTERIM`), `CREDIT`, [`Body`] without data for
//! the end of a request (`DONE`), `ABORT`.
//!
//! Integers are little-endian. A message is encoded into a buffer and pushed as one frame; it is
//! decoded from a private copy of the frame, and every length in it is checked.

mod coding;
mod fields;
mod notice;
mod request;
mod response;

pub use coding::TooLong;
pub use fields::{Fields, FieldsWriter};
pub use notice::{Cancel, Credit, Ready, Reason};
pub use request::{Payload, Request, RequestLine};
pub use response::{Body, FileBody, Head, Section};

/// Router to worker: a [`Request`].
pub const REQUEST: u16 = 1;
/// Either way: a piece of a body, [`Body`].
pub const BODY: u16 = 2;
/// Router to worker: nobody waits for this request any more; payload [`Cancel`].
pub const CANCEL: u16 = 3;
/// Router to worker: a router has attached; the worker answers `READY`. No payload.
pub const HELLO: u16 = 4;
/// Router to worker: read this, to show that you can. No payload.
pub const PING: u16 = 5;
/// Router to worker: there will be no more requests; exit. No payload.
pub const STOP: u16 = 6;
/// Worker to router: [`Ready`].
pub const READY: u16 = 16;
/// Worker to router: a response's [`Head`], with its body or the beginning of it.
pub const HEAD: u16 = 17;
/// Worker to router: a file's contents are the next part of the body, [`FileBody`].
pub const FILE: u16 = 18;
/// Worker to router: trailer fields, [`Section`]; they come before the frame that ends the body.
pub const TRAILERS: u16 = 19;
/// Worker to router: an interim (1xx) response, [`Section`].
pub const INTERIM: u16 = 20;
/// Worker to router: the application has taken so many bytes of the request body, [`Credit`].
pub const CREDIT: u16 = 21;
/// Worker to router: the response ends here, unfinished: cut the connection (or 500 when no head
/// was sent). A [`Body`] whose data is ignored.
pub const ABORT: u16 = 22;

/// Flag of `HEAD`, `BODY`, `FILE`: the response's body is complete.
pub const END: u16 = 1;
/// Flag of `HEAD`, `BODY`, `FILE`, `ABORT`: the worker's slot is free. On the last frame of a request.
pub const DONE: u16 = 2;
/// Flag of `HEAD`: the response must not be kept back for more: it streams.
pub const STREAM: u16 = 4;
