//! How the body of a request is framed.
//!
//! RFC 9112 6.3 gives a server a ladder of rules to fall down when a message is framed in two ways.
//! Each rung has been a request-smuggling hole in some server, because the hop in front stood on
//! another one. Here there is no ladder: a request is framed in one way, or it is refused.
//!
//! ```text
//! Content-Length    = 1*DIGIT                                                    RFC 9110 8.6
//! Transfer-Encoding = #transfer-coding                                           RFC 9112 6.1
//! ```

use crate::grammar::{digits, is_token, list};
use crate::reject::Kind;

/// How the body of a request is framed (RFC 9112 6.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Framing {
    /// Neither Content-Length nor Transfer-Encoding: no body.
    None,
    /// `Content-Length: n`. At most `i64::MAX`, the largest offset into a file.
    Length(u64),
    /// `Transfer-Encoding: chunked`.
    Chunked,
}

/// The value of a Content-Length field.
pub(crate) fn content_length(value: &[u8]) -> Result<u64, Kind> {
    match digits(value) {
        Some(length) if length <= i64::MAX as u64 => Ok(length),
        // RFC 9110 8.6: "a recipient MUST anticipate potentially large decimal numerals and prevent
        // parsing errors due to integer conversion overflows".
        Some(_) => Err(Kind::ContentLengthTooLarge),
        None if !value.is_empty() && value.iter().all(u8::is_ascii_digit) => Err(Kind::ContentLengthTooLarge),
        None => Err(Kind::ContentLength),
    }
}

/// Checks the value of a Transfer-Encoding field: anything but one `chunked` is an error.
pub(crate) fn transfer_encoding(value: &[u8]) -> Result<(), Kind> {
    if value.eq_ignore_ascii_case(b"chunked") {
        return Ok(());
    }
    let mut unknown = false;
    for coding in list(value) {
        // transfer-coding = token *( OWS ";" OWS transfer-parameter )              RFC 9110 10.1.4
        let name = coding.split(|&b| b == b';').next().unwrap_or_default();
        let name = crate::grammar::trim(name);
        if !is_token(name) {
            return Err(Kind::TransferEncoding);
        }
        unknown |= !name.eq_ignore_ascii_case(b"chunked");
    }
    // RFC 9112 6.1: "A server that receives a request message with a transfer coding it does not
    // understand SHOULD respond with 501 (Not Implemented)." None but chunked is understood, and
    // `chunked` twice or with parameters is malformed.
    Err(if unknown { Kind::TransferEncodingUnknown } else { Kind::TransferEncoding })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_length_is_digits_that_fit_a_file_offset() {
        assert_eq!(content_length(b"0"), Ok(0));
        assert_eq!(content_length(b"007"), Ok(7));
        assert_eq!(content_length(b"9223372036854775807"), Ok(i64::MAX as u64));
        for large in [&b"9223372036854775808"[..], b"18446744073709551616", &[b'9'; 400]] {
            assert_eq!(content_length(large), Err(Kind::ContentLengthTooLarge));
        }
        for bad in [
            &b""[..],
            b"+5",
            b"-5",
            b"1_0",
            b"5, 5",
            b"5,5",
            b"5 5",
            b"0x10",
            b"5;q=1",
            b"1e3",
            b"\xb2",
            b"5\0",
        ] {
            assert_eq!(content_length(bad), Err(Kind::ContentLength), "{bad:?}");
        }
    }

    #[test]
    fn only_one_chunked_is_a_transfer_encoding() {
        assert_eq!(transfer_encoding(b"chunked"), Ok(()));
        assert_eq!(transfer_encoding(b"ChUnKeD"), Ok(()));
        for bad in [
            &b""[..],
            b"chunked, chunked",
            b"chunked,",
            b", chunked",
            b"chunked;q=1",
            b"chunked chunked",
            b"\"chunked\"",
        ] {
            assert_eq!(transfer_encoding(bad), Err(Kind::TransferEncoding), "{bad:?}");
        }
        for unknown in [
            &b"gzip"[..],
            b"gzip, chunked",
            b"chunked, gzip",
            b"identity",
            b"identity, chunked",
            b"xchunked",
            b"gzip;q=1",
        ] {
            assert_eq!(transfer_encoding(unknown), Err(Kind::TransferEncodingUnknown), "{unknown:?}");
        }
    }
}
