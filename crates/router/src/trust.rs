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
            || self
                .networks
                .iter()
                .any(|network| network.contains(peer) || network.contains(mapped))
    }

    /// Begins to look at the fields of a request. `believed` is [`believes`](Trust::believes) of
    /// its peer, `scheme` what its connection is.
    #[must_use]
    pub fn request(&self, believed: bool, scheme: Scheme) -> Request<'_> {
        Request {
            trust: self,
            believed,
            scheme,
            told: false,
            script_name: None,
        }
    }
}

/// One request as its fields are looked at, in their order.
#[derive(Clone, Debug)]
pub struct Request<'t> {
    trust: &'t Trust,
    believed: bool,
    scheme: Scheme,
    told: bool,
    script_name: Option<&'t [u8]>,
}

impl<'t> Request<'t> {
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
        let entry = self
            .trust
            .secure
            .iter()
            .find(|(secure, _)| name.eq_ignore_ascii_case(secure));
        let Some((_, secure)) = entry else {
            return Ok(());
        };
        let scheme = if value == secure.as_slice() {
            Scheme::Https
        } else {
            Scheme::Http
        };
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
                || trust
                    .forwarder_headers
                    .iter()
                    .any(|other| name.eq_ignore_ascii_case(other)));
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
        let fault =
            || format!("{text:?} is neither an IP address, a network like 10.0.0.0/8 nor *");
        let start: IpAddr = address.parse().map_err(|_| fault())?;
        let width = if start.is_ipv4() { 32 } else { 128 };
        let bits = match bits {
            None => width,
            Some(bits) if !bits.is_empty() && bits.bytes().all(|b| b.is_ascii_digit()) => bits
                .parse()
                .ok()
                .filter(|&bits| bits <= width)
                .ok_or_else(fault)?,
            Some(_) => return Err(fault()),
        };
        let network = masked(start, bits);
        if network != start {
            return Err(format!(
                "{text:?} has host bits set; did you mean {network}/{bits}?"
            ));
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
            let mask = u32::MAX
                .checked_shl(32u32.saturating_sub(bits))
                .unwrap_or(0);
            IpAddr::V4(Ipv4Addr::from_bits(v4.to_bits() & mask))
        }
        IpAddr::V6(v6) => {
            let mask = u128::MAX
                .checked_shl(128u32.saturating_sub(bits))
                .unwrap_or(0);
            IpAddr::V6(Ipv6Addr::from_bits(v6.to_bits() & mask))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECURE: [(&str, &str); 3] = [
        ("X-FORWARDED-PROTOCOL", "ssl"),
        ("X-FORWARDED-PROTO", "https"),
        ("X-FORWARDED-SSL", "on"),
    ];

    fn trust(allow: &[&str], forwarders: &[&str], header_map: &str) -> Trust {
        Trust::from_options(allow, &SECURE, forwarders, header_map).unwrap()
    }

    fn defaults() -> Trust {
        trust(&["127.0.0.1", "::1"], &["SCRIPT_NAME", "PATH_INFO"], "drop")
    }

    fn believes(allow: &[&str], peer: &str) -> bool {
        trust(allow, &[], "drop").believes(Some(peer.parse().unwrap()))
    }

    type Pairs<'a> = &'a [(&'a str, &'a str)];
    type Looked = (Vec<String>, Scheme, Option<String>);

    /// The names that pass, the scheme, and the script name.
    fn look(trust: &Trust, believed: bool, fields: Pairs<'_>) -> Result<Looked, Refused> {
        let mut request = trust.request(believed, Scheme::Http);
        let mut passed = Vec::new();
        for (name, value) in fields {
            if request.field(name.as_bytes(), value.as_bytes())? == Verdict::Pass {
                passed.push((*name).to_owned());
            }
        }
        let script_name = request
            .script_name()
            .map(|name| String::from_utf8_lossy(name).into());
        Ok((passed, request.scheme(), script_name))
    }

    fn scheme(trust: &Trust, believed: bool, fields: Pairs<'_>) -> Result<Scheme, Refused> {
        look(trust, believed, fields).map(|(_, scheme, _)| scheme)
    }

    #[test]
    fn addresses_and_networks_are_believed() {
        assert!(believes(&["127.0.0.1"], "127.0.0.1"));
        assert!(!believes(&["127.0.0.1"], "127.0.0.2"));
        assert!(!believes(&["127.0.0.1"], "::1"));
        assert!(believes(&["10.0.0.0/8", "::1"], "10.255.0.1"));
        assert!(!believes(&["10.0.0.0/8", "::1"], "11.0.0.1"));
        assert!(believes(&["2001:db8::/32"], "2001:db8:ffff::1"));
        assert!(!believes(&["2001:db8::/32"], "2001:db9::1"));
        assert!(believes(&["0.0.0.0/0"], "8.8.8.8"));
        assert!(!believes(&["0.0.0.0/0"], "2001:db8::1"));
        assert!(believes(&["*"], "2001:db8::1"));
        assert!(!believes(&[], "127.0.0.1"));
    }

    #[test]
    fn an_ipv4_peer_on_an_ipv6_socket_is_the_same_peer() {
        assert!(believes(&["10.0.0.0/8"], "::ffff:10.1.2.3"));
        assert!(believes(&["::ffff:10.1.2.3"], "::ffff:10.1.2.3"));
        assert!(!believes(&["10.0.0.0/8"], "::ffff:11.1.2.3"));
    }

    #[test]
    fn the_peer_of_a_unix_socket_is_believed() {
        assert!(trust(&[], &[], "drop").believes(None));
    }

    #[test]
    fn a_wrong_setting_names_itself_and_the_fix() {
        let allow = |text: &str| {
            Trust::from_options(&[text], &[], &[], "drop")
                .map(|_| ())
                .unwrap_err()
        };
        assert_eq!(
            allow("192.168.1.1/24"),
            "forwarded_allow_ips: \"192.168.1.1/24\" has host bits set; did you mean 192.168.1.0/24?"
        );
        for text in [
            "",
            "localhost",
            "10.0.0.0/33",
            "10.0.0.0/",
            "10.0.0.0/+8",
            "::1/129",
            "1.2.3",
        ] {
            assert_eq!(
                allow(text),
                format!(
                    "forwarded_allow_ips: {text:?} is neither an IP address, a network like \
                     10.0.0.0/8 nor *"
                )
            );
        }
        let error = Trust::from_options(&[], &[("A B", "on")], &[], "drop").unwrap_err();
        assert_eq!(error, "secure_scheme_headers: \"A B\" is no header name");
        let error = Trust::from_options(&[], &[], &["A:"], "drop").unwrap_err();
        assert_eq!(error, "forwarder_headers: \"A:\" is no header name");
        let error = Trust::from_options::<&str>(&[], &[], &[], "keep").unwrap_err();
        assert_eq!(
            error,
            "header_map: \"keep\" is none of \"drop\", \"refuse\", \"dangerous\""
        );
    }

    #[test]
    fn a_believed_peer_tells_the_scheme() {
        let trust = defaults();
        assert_eq!(scheme(&trust, true, &[]), Ok(Scheme::Http));
        assert_eq!(
            scheme(&trust, true, &[("X-Forwarded-Proto", "https")]),
            Ok(Scheme::Https)
        );
        assert_eq!(
            scheme(&trust, true, &[("x-forwarded-ssl", "on")]),
            Ok(Scheme::Https)
        );
        assert_eq!(
            scheme(&trust, true, &[("X-Forwarded-Proto", "http")]),
            Ok(Scheme::Http)
        );
        assert_eq!(
            scheme(&trust, true, &[("X-Forwarded-Proto", "HTTPS")]),
            Ok(Scheme::Http)
        );
        assert_eq!(
            scheme(&trust, true, &[("X-Forwarded-Proto2", "https")]),
            Ok(Scheme::Http)
        );
        assert_eq!(
            scheme(&trust, false, &[("X-Forwarded-Proto", "https")]),
            Ok(Scheme::Http)
        );
    }

    #[test]
    fn a_proxy_may_say_that_a_tls_connection_carries_plain_http() {
        let trust = defaults();
        let mut request = trust.request(true, Scheme::Https);
        request.field(b"X-Forwarded-Proto", b"http").unwrap();
        assert_eq!(request.scheme(), Scheme::Http);
        assert_eq!(trust.request(true, Scheme::Https).scheme(), Scheme::Https);
    }

    #[test]
    fn scheme_fields_that_disagree_are_refused_from_a_believed_peer_only() {
        let trust = defaults();
        let fields = [("X-Forwarded-Ssl", "on"), ("X-Forwarded-Proto", "http")];
        assert_eq!(scheme(&trust, true, &fields), Err(Refused::SchemeConflict));
        assert_eq!(scheme(&trust, false, &fields), Ok(Scheme::Http));
        let fields = [
            ("X-Forwarded-Proto", "http"),
            ("X-Forwarded-Proto", "https"),
        ];
        assert_eq!(scheme(&trust, true, &fields), Err(Refused::SchemeConflict));
        let fields = [("X-Forwarded-Ssl", "on"), ("X-Forwarded-Proto", "https")];
        assert_eq!(scheme(&trust, true, &fields), Ok(Scheme::Https));
    }

    #[test]
    fn a_name_with_an_underscore_is_dropped() {
        let fields = [
            ("X-Real-IP", "1"),
            ("X_Real_IP", "2"),
            ("Proxy", "3"),
            ("_", "4"),
            ("PROXY", "5"),
        ];
        for believed in [true, false] {
            let (passed, ..) = look(&defaults(), believed, &fields).unwrap();
            assert_eq!(passed, ["X-Real-IP"]);
        }
    }

    #[test]
    fn forwarder_headers_pass_from_a_believed_peer_only() {
        let fields = [
            ("Script_Name", "/app"),
            ("PATH_INFO", "/x"),
            ("REMOTE_USER", "me"),
        ];
        let (passed, _, script_name) = look(&defaults(), true, &fields).unwrap();
        assert_eq!(passed, ["Script_Name", "PATH_INFO"]);
        assert_eq!(script_name.as_deref(), Some("/app"));
        let (passed, _, script_name) = look(&defaults(), false, &fields).unwrap();
        assert!(passed.is_empty());
        assert_eq!(script_name, None);
        let all = trust(&["*"], &["*"], "refuse");
        let (passed, ..) = look(&all, true, &fields).unwrap();
        assert_eq!(passed.len(), 3);
    }

    #[test]
    fn header_map_decides_about_other_underscores() {
        let fields = [("SCRIPT_NAME", "/evil"), ("Script-Name", "/evil")];
        let refuse = trust(&["127.0.0.1"], &[], "refuse");
        assert_eq!(look(&refuse, true, &fields), Err(Refused::Underscore));
        // It passes, but it does not override anything.
        let dangerous = trust(&["127.0.0.1"], &["SCRIPT_NAME"], "dangerous");
        let (passed, _, script_name) = look(&dangerous, false, &fields).unwrap();
        assert_eq!((passed.len(), script_name), (2, None));
    }

    #[test]
    fn an_ordinary_request_passes_whole() {
        let fields = [
            ("Host", "a"),
            ("X-Forwarded-For", "1.2.3.4"),
            ("User-Agent", "b"),
        ];
        let (passed, scheme, script_name) = look(&defaults(), true, &fields).unwrap();
        assert_eq!(passed, ["Host", "X-Forwarded-For", "User-Agent"]);
        assert_eq!((scheme, script_name), (Scheme::Http, None));
    }
}
