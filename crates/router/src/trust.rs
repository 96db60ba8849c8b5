//! Which fields of a request are believed, and from whom.
//!
//! A proxy in front tells by fields what it knows of the client: that it came by TLS, under which
//! prefix the application is mounted. Anyone can send such fields, so only the peers of
//! `forwarded_allow_ips` are believed. X-Forwarded-For is never believed here: it is passed on, and
//! the address of the peer stays the address of the peer.
//!
//! A second danger is the environ, where `X-Real-IP` and `X_Real_IP` become the same key: a client
//! could add the second to what the proxy said with the first. So a name with an underscore is
//! dropped, unless a believed peer may send it (`forwarder_headers`) or `header_map` says otherwise.
//! And `Proxy` would become `HTTP_PROXY`, which many HTTP clients take for their own settings
//! ("httpoxy"); it is always dropped.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// The scheme that a request came by, as far as the application is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scheme {
    /// Plain HTTP.
    Http,
    /// HTTP over TLS, here or at the proxy in front.
    Https,
}

/// What becomes of a name with an underscore that nobody was allowed to send.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum HeaderMap {
    Drop,
    Refuse,
    Dangerous,
}

/// What becomes of a field.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The application gets it.
    Pass,
    /// It is left out, as if it had never been sent.
    Drop,
}

/// A request that contradicts itself: 400.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refused {
    /// Two fields of `secure_scheme_headers` disagree.
    SchemeConflict,
    /// A field name has an underscore, and `header_map` is `refuse`.
    Underscore,
}

impl Refused {
    /// What is wrong, in a few words for the log.
    #[must_use]
    pub fn reason(self) -> &'static str {
        match self {
            Refused::SchemeConflict => "scheme headers contradict each other",
            Refused::Underscore => "underscore in a header name",
        }
    }
}

impl std::fmt::Display for Refused {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.reason())
    }
}

impl std::error::Error for Refused {}

/// The policy of the settings `forwarded_allow_ips`, `secure_scheme_headers`, `forwarder_headers`
/// and `header_map`.
#[derive(Clone, Debug)]
pub struct Trust {
    all_peers: bool,
    networks: Vec<Network>,
    /// Lower-case name and the exact value that means https.
    secure: Vec<(Vec<u8>, Vec<u8>)>,
    /// Bit n: some name of `secure` has n bytes (the last bit: 63 or more).
    secure_lengths: u64,
    all_forwarder_headers: bool,
    /// Lower-case.
    forwarder_headers: Vec<Vec<u8>>,
    header_map: HeaderMap,
}

impl Trust {
    /// Checks and compiles the settings.
    ///
    /// # Errors
    ///
    /// One line that names the setting, the fault and, where there is one, the likely fix.
    pub fn from_options<S: AsRef<str>>(
        forwarded_allow_ips: &[S],
        secure_scheme_headers: &[(S, S)],
        forwarder_headers: &[S],
        header_map: &str,
    ) -> Result<Trust, String> {
        let mut networks = Vec::new();
        let mut all_peers = false;
        for text in forwarded_allow_ips.iter().map(|text| text.as_ref().trim()) {
            if text == "*" {
                all_peers = true;
            } else {
                let network = Network::parse(text);
                networks.push(network.map_err(|fault| format!("forwarded_allow_ips: {fault}"))?);
            }
        }
        let mut secure = Vec::new();
        let mut secure_lengths = 0;
        for (name, value) in secure_scheme_headers {
            let name = lower_name("secure_scheme_headers", name.as_ref())?;
            secure_lengths |= length_bit(&name);
            secure.push((name, value.as_ref().as_bytes().to_vec()));
        }
        let mut all_forwarder_headers = false;
        let mut forwarders = Vec::new();
        for name in forwarder_headers.iter().map(|name| name.as_ref().trim()) {
            if name == "*" {
                all_forwarder_headers = true;
            } else {
                forwarders.push(lower_name("forwarder_headers", name)?);
            }
        }
        Ok(Trust {
            all_peers,
            networks,
            secure,
            secure_lengths,
            all_forwarder_headers,
            forwarder_headers: forwarders,
            header_map: match header_map {
                "drop" => HeaderMap::Drop,
                "refuse" => HeaderMap::Refuse,
                "dangerous" => HeaderMap::Dangerous,
                other => {
                    return Err(format!(
                        "header_map: {other:?} is none of \"drop\", \"refuse\", \"dangerous\""
                    ));
                }
            },
        })
    }

    /// Whether a peer is believed; `None` is the peer of a unix socket, which always is. The answer
    /// stays the same for a connection.
    #[must_use]
    pub fn believes(&self, peer: Option<IpAddr>) -> bool {
        let Some(peer) = peer else { return true };
        // A socket for both versions shows IPv4 peers as ::ffff:a.b.c.d.
        let mapped = peer.to_canonical();
        self.all_peers
            || self.networks.iter().any(|network| network.contains(peer) || network.contains(mapped))
    }

    /// Begins to look at the fields of a request. `believed` is [`believes`](Trust::believes) of
    /// its peer, `scheme` what its connection is.
    #[must_use]
    pub fn screen(&self, believed: bool, scheme: Scheme) -> Screen<'_> {
        Screen { trust: self, believed, scheme, told: false, script_name: None }
    }
}

/// Lets the fields of one request through, or not, in their order.
#[derive(Clone, Debug)]
pub struct Screen<'t> {
    trust: &'t Trust,
    believed: bool,
    scheme: Scheme,
    told: bool,
    script_name: Option<&'t [u8]>,
}

impl<'t> Screen<'t> {
    /// What becomes of this field.
    ///
    /// # Errors
    ///
    /// The request is answered with 400.
    #[inline]
    pub fn field(&mut self, name: &'t [u8], value: &'t [u8]) -> Result<Verdict, Refused> {
        if self.believed && self.trust.secure_lengths & length_bit(name) != 0 {
            self.scheme_field(name, value)?;
        }
        if name.contains(&b'_') {
            return self.underscore(name, value);
        }
        if name.len() == 5 && name.eq_ignore_ascii_case(b"proxy") {
            return Ok(Verdict::Drop);
        }
        Ok(Verdict::Pass)
    }

    /// The scheme that the application is told, once all fields have been looked at.
    #[must_use]
    pub fn scheme(&self) -> Scheme {
        self.scheme
    }

    /// The prefix that the application is mounted under, where a believed peer says so in a field
    /// of the name `SCRIPT_NAME`; the last one counts.
    #[must_use]
    pub fn script_name(&self) -> Option<&'t [u8]> {
        self.script_name
    }

    fn scheme_field(&mut self, name: &[u8], value: &[u8]) -> Result<(), Refused> {
        let entry = self.trust.secure.iter().find(|(secure, _)| name.eq_ignore_ascii_case(secure));
        let Some((_, secure)) = entry else {
            return Ok(());
        };
        let scheme = if value == secure.as_slice() { Scheme::Https } else { Scheme::Http };
        if self.told && scheme != self.scheme {
            return Err(Refused::SchemeConflict);
        }
        self.told = true;
        self.scheme = scheme;
        Ok(())
    }

    #[cold]
    fn underscore(&mut self, name: &[u8], value: &'t [u8]) -> Result<Verdict, Refused> {
        let trust = self.trust;
        let forwarded = self.believed
            && (trust.all_forwarder_headers
                || trust.forwarder_headers.iter().any(|other| name.eq_ignore_ascii_case(other)));
        if forwarded {
            if name.eq_ignore_ascii_case(b"script_name") {
                self.script_name = Some(value);
            }
            return Ok(Verdict::Pass);
        }
        match trust.header_map {
            HeaderMap::Dangerous => Ok(Verdict::Pass),
            HeaderMap::Drop => Ok(Verdict::Drop),
            HeaderMap::Refuse => Err(Refused::Underscore),
        }
    }
}

fn length_bit(name: &[u8]) -> u64 {
    1 << name.len().min(63)
}

fn lower_name(setting: &str, name: &str) -> Result<Vec<u8>, String> {
    if !wire::is_token(name.as_bytes()) {
        return Err(format!("{setting}: {name:?} is no header name"));
    }
    Ok(name.to_ascii_lowercase().into_bytes())
}

/// An address, or all addresses that begin with the same bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Network {
    start: IpAddr,
    bits: u32,
}

impl Network {
    fn parse(text: &str) -> Result<Network, String> {
        let (address, bits) = match text.split_once('/') {
            Some((address, bits)) => (address, Some(bits)),
            None => (text, None),
        };
        let fault = || format!("{text:?} is neither an IP address, a network like 10.0.0.0/8 nor *");
        let start: IpAddr = address.parse().map_err(|_| fault())?;
        let width = if start.is_ipv4() { 32 } else { 128 };
        let bits = match bits {
            None => width,
            Some(bits) if !bits.is_empty() && bits.bytes().all(|b| b.is_ascii_digit()) => {
                bits.parse().ok().filter(|&bits| bits <= width).ok_or_else(fault)?
            }
            Some(_) => return Err(fault()),
        };
        let network = masked(start, bits);
        if network != start {
            return Err(format!("{text:?} has host bits set; did you mean {network}/{bits}?"));
        }
        Ok(Network { start, bits })
    }

    fn contains(self, address: IpAddr) -> bool {
        self.start.is_ipv4() == address.is_ipv4() && masked(address, self.bits) == self.start
    }
}

/// The first `bits` bits of an address.
fn masked(address: IpAddr, bits: u32) -> IpAddr {
    match address {
        IpAddr::V4(v4) => {
            let mask = u32::MAX.checked_shl(32u32.saturating_sub(bits)).unwrap_or(0);
            IpAddr::V4(Ipv4Addr::from_bits(v4.to_bits() & mask))
        }
        IpAddr::V6(v6) => {
            let mask = u128::MAX.checked_shl(128u32.saturating_sub(bits)).unwrap_or(0);
            IpAddr::V6(Ipv6Addr::from_bits(v6.to_bits() & mask))
        }
    }
}

#[cfg(test)]
mod tests;
