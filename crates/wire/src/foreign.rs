//! What other protocols begin with, when they are spoken to a port of plain HTTP/1 by mistake.

/// A connection that began with another protocol: the status to answer with, and what to tell the
/// operator. To be asked about bytes that were refused as the first of their connection.
#[must_use]
pub fn foreign(bytes: &[u8]) -> Option<(u16, &'static str)> {
    match bytes {
        // A record of a handshake, of any version (RFC 8446 5.1).
        [0x16] | [0x16, 0x03, ..] => {
            Some((400, "a TLS handshake on a plain HTTP port (https:// where http:// is served)"))
        }
        // https://www.haproxy.org/download/3.0/doc/proxy-protocol.txt, 2.1 and 2.2
        [b'P', b'R', b'O', b'X', b'Y', b' ', ..] if is_proxy_v1(bytes) => {
            Some((400, "a PROXY protocol header, version 1, which is not understood on this port"))
        }
        [b'\r', b'\n', b'\r', b'\n', 0, b'\r', b'\n', b'Q', b'U', b'I', b'T', b'\n', ..] => {
            Some((400, "a PROXY protocol header, version 2, which is not understood on this port"))
        }
        // RFC 9113 3.4
        _ if bytes.starts_with(b"PRI * HTTP/2.0") => {
            Some((505, "HTTP/2 without TLS, which is not spoken on this port"))
        }
        _ => None,
    }
}

fn is_proxy_v1(bytes: &[u8]) -> bool {
    [&b"PROXY TCP4 "[..], b"PROXY TCP6 ", b"PROXY UNKNOWN"].iter().any(|start| bytes.starts_with(start))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{HeadReader, Limits};

    /// What `bytes`, coming one by one, are called when they are refused.
    fn called(bytes: &[u8]) -> Option<&'static str> {
        let mut reader = HeadReader::new();
        let refused = (1..=bytes.len()).find(|&end| reader.read(&bytes[..end], &Limits::default()).is_err());
        assert!(refused.is_some(), "{bytes:?} are not refused");
        // The first piece of another protocol is there as a whole, as a rule.
        foreign(bytes).map(|(_, name)| name)
    }

    #[test]
    fn other_protocols_are_refused_and_named() {
        for (bytes, name) in [
            (&b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"[..], "TLS"),
            (b"\x16", "TLS"),
            (b"PROXY TCP4 192.0.2.1 192.0.2.2 1 2\r\nGET / HTTP/1.1\r\n", "PROXY protocol header, version 1"),
            (b"PROXY TCP6 ::1 ::1 1 2\r\n", "version 1"),
            (b"PROXY UNKNOWN\r\n", "version 1"),
            (b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c", "version 2"),
            (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "HTTP/2"),
        ] {
            assert!(called(bytes).is_some_and(|called| called.contains(name)), "{bytes:?}");
        }
    }

    #[test]
    fn what_is_only_wrong_is_not_named() {
        for bytes in [
            &b"\x16\x02"[..],
            b"\x17\x03\x03\0",
            b"PROXY /tcp4 HTTP/3.0\r\n",
            b"PROXYTCP4 /",
            b"PRI * HTTP/1.1\r\n",
            b"\r\n\r\n\r\n",
            b"\0",
            b"",
        ] {
            assert_eq!(foreign(bytes), None, "{bytes:?}");
        }
    }
}
