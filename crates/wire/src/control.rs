//! What the fields of a head say about this message and its connection: which host, how the body
//! is framed, whether the connection stays.
//!
//! ```text
//! Host              = uri-host [ ":" port ]                                      RFC 9110 7.2
//! Connection        = #connection-option                                         RFC 9110 7.6.1
//! connection-option = token
//! Expect            = #expectation                                               RFC 9110 10.1.1
//! ```

use crate::authority::is_host;
use crate::fields::FieldSpan;
use crate::framing::{self, Framing};
use crate::grammar::{is_token, list};
use crate::head::Version;
use crate::reject::Kind;

/// What the fields that concern the connection have said so far.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Control {
    pub(crate) host: Option<FieldSpan>,
    content_length: Option<u64>,
    content_type: bool,
    chunked: bool,
    pub(crate) close: bool,
    pub(crate) keep_alive: bool,
    pub(crate) expect_continue: bool,
    pub(crate) upgrade_option: bool,
    pub(crate) upgrade: Option<FieldSpan>,
}

impl Control {
    /// Takes note of a field that concerns the connection. Told apart by length first: most fields
    /// are none of these.
    #[inline]
    pub(crate) fn note(&mut self, buf: &[u8], span: FieldSpan, version: Version) -> Result<(), Kind> {
        let name = span.name(buf);
        let is = |other: &[u8]| name.eq_ignore_ascii_case(other);
        match name.len() {
            4 if is(b"host") => {
                if self.host.replace(span).is_some() {
                    return Err(Kind::HostRepeated);
                }
                if !is_host(span.value(buf)) {
                    return Err(Kind::Host);
                }
            }
            // RFC 9110 10.1.1: "A server that receives an Expect field value containing a member
            // other than 100-continue MAY respond with a 417". A repeated field is such a list too.
            6 if is(b"expect") => {
                if self.expect_continue || !span.value(buf).eq_ignore_ascii_case(b"100-continue") {
                    return Err(Kind::Expectation);
                }
                self.expect_continue = true;
            }
            7 if is(b"upgrade") => {
                self.upgrade.get_or_insert(span);
            }
            10 if is(b"connection") => self.connection_options(span.value(buf))?,
            // A singleton whose repetition is read differently here and there (RFC 9110 5.3).
            12 if is(b"content-type") => {
                if self.content_type {
                    return Err(Kind::ContentTypeRepeated);
                }
                self.content_type = true;
            }
            14 if is(b"content-length") => {
                let length = framing::content_length(span.value(buf))?;
                if self.content_length.replace(length).is_some() {
                    return Err(Kind::ContentLengthRepeated);
                }
            }
            17 if is(b"transfer-encoding") => {
                // RFC 9112 6.1: a server that receives HTTP/1.0 with Transfer-Encoding "MUST treat
                // the message as if the framing is faulty".
                if version == Version::Http10 {
                    return Err(Kind::TransferEncodingInHttp10);
                }
                if self.chunked {
                    return Err(Kind::TransferEncodingRepeated);
                }
                framing::transfer_encoding(span.value(buf))?;
                self.chunked = true;
            }
            _ => return Ok(()),
        }
        if self.chunked && self.content_length.is_some() {
            return Err(Kind::LengthAndTransferEncoding);
        }
        Ok(())
    }

    /// How the body is framed.
    pub(crate) fn framing(&self) -> Framing {
        match self.content_length {
            _ if self.chunked => Framing::Chunked,
            Some(length) => Framing::Length(length),
            None => Framing::None,
        }
    }

    /// Connection = #connection-option; an option is a token (RFC 9110 7.6.1). An empty element is
    /// ignored (5.6.1.2).
    fn connection_options(&mut self, value: &[u8]) -> Result<(), Kind> {
        for option in list(value) {
            if option.eq_ignore_ascii_case(b"keep-alive") {
                self.keep_alive = true;
            } else if option.eq_ignore_ascii_case(b"close") {
                self.close = true;
            } else if option.eq_ignore_ascii_case(b"upgrade") {
                self.upgrade_option = true;
            } else if !option.is_empty() && !is_token(option) {
                return Err(Kind::ConnectionOption);
            }
        }
        Ok(())
    }
}
