//! `host[:port]`, as it stands in a Host field and in an absolute request target.
//!
//! ```text
//! Host      = uri-host [ ":" port ]                                              RFC 9110 7.2
//! uri-host  = IP-literal / IPv4address / reg-name                                RFC 3986 3.2.2
//! port      = *DIGIT                                                             RFC 3986 3.2.3
//! ```
//!
//! Refused although the grammar has it: an empty host ("MUST reject it as invalid", RFC 9110
//! 4.2.1), userinfo (RFC 9110 4.2.4), an IPvFuture literal, which nobody can reach, and a port
//! beyond 65535.

use std::net::Ipv6Addr;
use std::str::FromStr;

use crate::grammar::{digits, reg_name_span};

/// Whether `bytes` is a host, with or without a port.
#[must_use]
pub fn is_host(bytes: &[u8]) -> bool {
    let rest = match bytes.strip_prefix(b"[") {
        Some(literal) => after_ipv6(literal),
        None => after_reg_name(bytes),
    };
    match rest {
        Some([]) => true,
        Some([b':', port @ ..]) => is_port(port),
        _ => false,
    }
}

fn is_port(port: &[u8]) -> bool {
    port.is_empty() || digits(port).is_some_and(|port| port <= 65535)
}

fn after_ipv6(literal: &[u8]) -> Option<&[u8]> {
    let end = literal.iter().position(|&b| b == b']')?;
    let (address, rest) = (literal.get(..end)?, literal.get(end + 1..)?);
    let address = std::str::from_utf8(address).ok()?;
    Ipv6Addr::from_str(address).ok()?;
    Some(rest)
}

/// What follows a reg-name, or `None` if there is none. An IPv4address is a reg-name to the
/// grammar.
fn after_reg_name(bytes: &[u8]) -> Option<&[u8]> {
    let mut rest = bytes;
    loop {
        rest = rest.get(reg_name_span(rest)..)?;
        match rest {
            [b'%', a, b, after @ ..] if a.is_ascii_hexdigit() && b.is_ascii_hexdigit() => rest = after,
            _ => break,
        }
    }
    (rest.len() < bytes.len()).then_some(rest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_addresses_and_literals_are_hosts() {
        for good in [
            "localhost",
            "example.com",
            "example.com:80",
            "example.com:",
            "example.com:65535",
            "127.0.0.1:8000",
            "[::1]",
            "[::1]:8000",
            "[2001:db8::ffff:192.0.2.1]:443",
            "a_b-c.d~e",
            "xn--nxasmq6b",
            "caf%C3%A9",
            "a!$&'()*+,;=b",
        ] {
            assert!(is_host(good.as_bytes()), "{good}");
        }
    }

    #[test]
    fn whatever_is_no_host_is_refused() {
        for bad in [
            "",
            ":80",
            "[]",
            "[::1",
            "::1",
            "[::1]x",
            "[::1]80",
            "[::g]",
            "[v1.a]",
            "[fe80::1%eth0]",
            "[127.0.0.1]",
            "user@host",
            "user:pw@host",
            "host:port",
            "host:80:80",
            "host:65536",
            "host:-1",
            "host:+1",
            "host: 80",
            "a b",
            "a\tb",
            "a/b",
            "a?b",
            "a#b",
            "a\\b",
            "a\"b",
            "<a>",
            "a%",
            "a%4",
            "a%zz",
            "a|b",
            "a^b",
            "{a}",
            "caf\u{e9}",
            "a\0",
            "a,b c",
        ] {
            assert!(!is_host(bad.as_bytes()), "{bad}");
        }
    }
}
