//! What applications give that a server may not send as it is: mended, and said once a worker.

use std::sync::atomic::{AtomicU32, Ordering};

use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::prelude::*;

/// The fields of a response that are the server's to set: those that speak of one connection
/// (RFC 9110 7.6.1, and RFC 2616 13.5.1 as PEP 3333 forbids them), and one that belongs to requests.
/// Proxy-Authenticate is in the old list, but an application may be a proxy (RFC 9110 11.7.1).
const OWN: [&str; 9] = [
    "TE",
    "Trailer",
    "Upgrade",
    "Trailers",
    "Connection",
    "Keep-Alive",
    "Proxy-Connection",
    "Transfer-Encoding",
    "Proxy-Authorization",
];

/// What there is to say once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Notice {
    /// A field of [`OWN`] is left out.
    Field(usize),
    /// The headers are no list.
    Headers,
    /// A header is no tuple.
    Pair,
}

/// Whether a field is the application's to send.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    Send,
    /// The router reads it, and sends its own.
    Obey,
    LeaveOut(Notice),
}

/// Judge a field of a response. `trailers`: the gateway can send some, so that Trailer is true.
pub(crate) fn judge(name: &[u8], value: &[u8], trailers: bool) -> Verdict {
    // Told apart by length first: most fields are none of these.
    let (first, last) = match name.len() {
        2 => (0, 0),
        7 => (1, 2),
        8 => (3, 3),
        10 => (4, 5),
        16 => (6, 6),
        17 => (7, 7),
        19 => (8, 8),
        _ => return Verdict::Send,
    };
    let found = (first..=last)
        .find(|index| OWN.get(*index).is_some_and(|own| own.as_bytes().eq_ignore_ascii_case(name)));
    match found {
        None => Verdict::Send,
        Some(1) if trailers => Verdict::Send,
        // `close`, or names of fields that concern this connection only.
        Some(4) if !says_only(value, b"keep-alive") => Verdict::Obey,
        Some(index) => Verdict::LeaveOut(Notice::Field(index)),
    }
}

/// Does a list have no other option than this?
fn says_only(list: &[u8], option: &[u8]) -> bool {
    list.split(|byte| *byte == b',')
        .map(<[u8]>::trim_ascii)
        .all(|given| given.is_empty() || given.eq_ignore_ascii_case(option))
}

/// Says each notice once.
pub(crate) struct Notices {
    said: AtomicU32,
    say: Option<Py<PyAny>>,
}

impl Notices {
    /// `say` is called with the text of a notice.
    pub(crate) fn new(say: Option<Py<PyAny>>) -> Self {
        Self { said: AtomicU32::new(0), say }
    }

    pub(crate) fn traverse(&self, visit: &PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.say)
    }

    /// Say it, unless it was said before.
    pub(crate) fn once(&self, py: Python<'_>, notice: Notice) {
        let (index, text) = match notice {
            Notice::Field(index) => (
                index,
                format!(
                    "the application sets {}, which is the server's to set: it is left out",
                    OWN.get(index).copied().unwrap_or_default()
                ),
            ),
            Notice::Headers => {
                (OWN.len(), "the application's headers are no list, which PEP 3333 asks for".to_owned())
            }
            Notice::Pair => {
                (OWN.len() + 1, "an application's header is no tuple, which PEP 3333 asks for".to_owned())
            }
        };
        let bit = 1 << index;
        if self.said.fetch_or(bit, Ordering::Relaxed) & bit != 0 {
            return;
        }
        if let Some(say) = &self.say
            && let Err(failure) = say.bind(py).call1((format!("{text} (said once)"),))
        {
            failure.write_unraisable(py, None);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_field_of_the_list_is_found_by_its_length() {
        for (index, name) in OWN.iter().enumerate() {
            let lower = name.to_ascii_lowercase();
            assert_eq!(
                judge(lower.as_bytes(), b"keep-alive", false),
                Verdict::LeaveOut(Notice::Field(index))
            );
        }
        for name in
            ["Server", "Proxy-Authenticate", "Proxy-Authentication-Info", "Connections", "Location", "X"]
        {
            assert_eq!(judge(name.as_bytes(), b"x", false), Verdict::Send);
        }
        assert_eq!(judge(b"Trailer", b"x", true), Verdict::Send);
    }

    #[test]
    fn what_connection_says_beyond_keep_alive_is_for_the_router() {
        for value in [&b"close"[..], b"keep-alive, close", b"X-Foo", b"Upgrade", b" , CLOSE"] {
            assert_eq!(judge(b"Connection", value, false), Verdict::Obey);
        }
        for value in [&b"keep-alive"[..], b"Keep-Alive , keep-alive", b"", b","] {
            assert!(matches!(judge(b"Connection", value, false), Verdict::LeaveOut(_)));
        }
    }
}
