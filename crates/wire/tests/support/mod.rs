//! Readers fed in every way.
#![allow(dead_code, clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use wire::{BodyReader, Form, Framing, Head, HeadReader, Limits, Reject, Version};

/// A head that owns its parts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seen {
    pub end: usize,
    pub method: String,
    pub target: String,
    pub form: Form,
    pub path: String,
    pub query: String,
    pub authority: Option<String>,
    pub host: Option<String>,
    pub version: Version,
    pub framing: Framing,
    pub keep_alive: bool,
    pub expect_continue: bool,
    pub upgrade: Option<String>,
    pub fields: Vec<(String, String)>,
}

fn latin1(bytes: &[u8]) -> String {
    bytes.iter().copied().map(char::from).collect()
}

impl Seen {
    pub fn of(head: &Head<'_>, end: usize) -> Seen {
        Seen {
            end,
            method: latin1(head.method),
            target: latin1(head.target),
            form: head.form,
            path: latin1(head.path),
            query: latin1(head.query),
            authority: head.authority.map(latin1),
            host: head.host.map(latin1),
            version: head.version,
            framing: head.framing,
            keep_alive: head.keep_alive,
            expect_continue: head.expect_continue,
            upgrade: head.upgrade.map(latin1),
            fields: head.fields().map(|(name, value)| (latin1(name), latin1(value))).collect(),
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    Complete(Box<Seen>),
    Incomplete,
    Refused(Reject),
}

/// Reads a head that comes in pieces, which end at these offsets and at the end of `bytes`.
pub fn read_in_pieces(bytes: &[u8], ends: impl IntoIterator<Item = usize>, limits: &Limits) -> Outcome {
    let mut reader = HeadReader::new();
    for end in ends.into_iter().chain([bytes.len()]) {
        // A copy of its own, so that a byte beyond the piece cannot be looked at unnoticed.
        let piece = bytes[..end].to_vec();
        match reader.read(&piece, limits) {
            Ok(None) => {}
            Ok(Some(end)) => {
                return Outcome::Complete(Box::new(Seen::of(&reader.head(&piece), end)));
            }
            Err(reject) => return Outcome::Refused(reject),
        }
    }
    Outcome::Incomplete
}

/// Reads a head whole, byte by byte and with bytes behind it; the three agree.
#[track_caller]
pub fn verdict_with(bytes: &[u8], limits: &Limits) -> Outcome {
    let whole = read_in_pieces(bytes, [], limits);
    assert_eq!(read_in_pieces(bytes, 0..bytes.len(), limits), whole, "byte by byte");
    if whole != Outcome::Incomplete {
        for trailing in [&b"GET /next HTTP/1.1\r\n\r\n"[..], b"\r\n", b"\0\xff", b" "] {
            let more = [bytes, trailing].concat();
            assert_eq!(read_in_pieces(&more, [], limits), whole, "with {trailing:?} behind it");
        }
    }
    whole
}

#[track_caller]
pub fn verdict(bytes: &[u8]) -> Outcome {
    verdict_with(bytes, &Limits::default())
}

#[track_caller]
pub fn head(bytes: &[u8]) -> Seen {
    match verdict(bytes) {
        Outcome::Complete(seen) => *seen,
        other => panic!("{other:?}"),
    }
}

#[track_caller]
pub fn refused(outcome: Outcome) -> Reject {
    match outcome {
        Outcome::Refused(reject) => reject,
        other => panic!("{other:?}"),
    }
}

#[track_caller]
pub fn status(bytes: &[u8]) -> u16 {
    refused(verdict(bytes)).status()
}

/// What came of reading a body.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Body {
    Complete { data: Vec<u8>, trailers: Vec<(String, String)>, end: usize },
    Incomplete { data: Vec<u8> },
    Refused { data: Vec<u8>, reject: Reject },
}

/// Reads a body that comes in pieces, which end at these offsets and at the end of `bytes`.
pub fn read_body(
    framing: Framing,
    bytes: &[u8],
    ends: impl IntoIterator<Item = usize>,
    limits: &Limits,
) -> Body {
    let mut reader = BodyReader::new(framing);
    let mut data = Vec::new();
    let mut at = 0;
    for end in ends.into_iter().chain([bytes.len()]) {
        let piece = bytes[..end].to_vec();
        loop {
            let rest = &piece[at..];
            match reader.read(rest, limits) {
                Ok(step) => {
                    assert!(step.data.end <= step.consumed && step.consumed <= rest.len());
                    assert!(step.consumed > 0 || step.done || rest.is_empty());
                    data.extend_from_slice(&rest[step.data.clone()]);
                    at += step.consumed;
                    assert_eq!(reader.received(), data.len() as u64);
                    if step.done {
                        let trailers = reader
                            .trailers()
                            .into_iter()
                            .flatten()
                            .map(|(n, v)| (latin1(n), latin1(v)))
                            .collect();
                        return Body::Complete { data, trailers, end: at };
                    }
                    if at == piece.len() {
                        break;
                    }
                }
                Err(reject) => {
                    assert_eq!(reader.read(rest, limits), Err(reject));
                    return Body::Refused { data, reject };
                }
            }
        }
    }
    Body::Incomplete { data }
}

/// Reads a body whole, byte by byte and with bytes behind it; the three agree.
#[track_caller]
pub fn body_with(framing: Framing, bytes: &[u8], limits: &Limits) -> Body {
    let whole = read_body(framing, bytes, [], limits);
    assert_eq!(read_body(framing, bytes, 0..bytes.len(), limits), whole, "byte by byte");
    if !matches!(whole, Body::Incomplete { .. }) {
        for trailing in [&b"GET /next HTTP/1.1\r\n\r\n"[..], b"\r\n", b"\0\xff"] {
            let more = [bytes, trailing].concat();
            assert_eq!(read_body(framing, &more, [], limits), whole, "with {trailing:?} behind it");
        }
    }
    whole
}
