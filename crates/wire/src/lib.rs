//! HTTP/1 bytes to events and back. No sockets, no runtime, no Python: bytes in, values out.
//!
//! A request comes in through two readers, in this order:
//!
//! 1. [`HeadReader`] reads the request line and the fields ([`head`], [`fields`], [`authority`]),
//!    and says how the body is framed ([`framing`]).
//! 2. [`BodyReader`] reads the body by that framing ([`body`]).
//!
//! A response goes out through the functions of [`response`].
//!
//! Both readers are fed as bytes come, in pieces of any size, and look at each byte once. "Need
//! more bytes" is a value, not an error. An error is a [`Reject`]: it names a status, and it is
//! final. Nothing after it on that connection can be told apart from an attack, so the caller
//! answers it and closes.
//!
//! Where RFC 9110 and RFC 9112 let a recipient choose between tolerating and refusing, these
//! readers refuse.

pub mod authority;
pub mod body;
mod control;
pub mod fields;
mod foreign;
pub mod framing;
pub mod grammar;
pub mod head;
mod limits;
mod reject;
pub mod response;

pub use body::{BodyReader, Step};
pub use fields::Fields;
pub use foreign::foreign;
pub use framing::Framing;
pub use grammar::{ascii_target, is_field_value, is_token};
pub use head::{Form, Head, HeadReader, Version};
pub use limits::Limits;
pub use reject::Reject;
pub use response::{
    BadResponse, CHUNK_END, Connection, ResponseFraming, ResponseHead, standard_reason, write_chunk,
    write_chunk_header, write_head, write_interim, write_last_chunk,
};
