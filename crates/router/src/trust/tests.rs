use super::*;

const SECURE: [(&str, &str); 3] =
    [("X-FORWARDED-PROTOCOL", "ssl"), ("X-FORWARDED-PROTO", "https"), ("X-FORWARDED-SSL", "on")];

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
    let mut screen = trust.screen(believed, Scheme::Http);
    let mut passed = Vec::new();
    for (name, value) in fields {
        if screen.field(name.as_bytes(), value.as_bytes())? == Verdict::Pass {
            passed.push((*name).to_owned());
        }
    }
    let script_name = screen.script_name().map(|name| String::from_utf8_lossy(name).into());
    Ok((passed, screen.scheme(), script_name))
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
    let allow = |text: &str| Trust::from_options(&[text], &[], &[], "drop").map(|_| ()).unwrap_err();
    assert_eq!(
        allow("192.168.1.1/24"),
        "forwarded_allow_ips: \"192.168.1.1/24\" has host bits set; did you mean 192.168.1.0/24?"
    );
    for text in ["", "localhost", "10.0.0.0/33", "10.0.0.0/", "10.0.0.0/+8", "::1/129", "1.2.3"] {
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
    assert_eq!(error, "header_map: \"keep\" is none of \"drop\", \"refuse\", \"dangerous\"");
}

#[test]
fn a_believed_peer_tells_the_scheme() {
    let trust = defaults();
    assert_eq!(scheme(&trust, true, &[]), Ok(Scheme::Http));
    assert_eq!(scheme(&trust, true, &[("X-Forwarded-Proto", "https")]), Ok(Scheme::Https));
    assert_eq!(scheme(&trust, true, &[("x-forwarded-ssl", "on")]), Ok(Scheme::Https));
    assert_eq!(scheme(&trust, true, &[("X-Forwarded-Proto", "http")]), Ok(Scheme::Http));
    assert_eq!(scheme(&trust, true, &[("X-Forwarded-Proto", "HTTPS")]), Ok(Scheme::Http));
    assert_eq!(scheme(&trust, true, &[("X-Forwarded-Proto2", "https")]), Ok(Scheme::Http));
    assert_eq!(scheme(&trust, false, &[("X-Forwarded-Proto", "https")]), Ok(Scheme::Http));
}

#[test]
fn a_proxy_may_say_that_a_tls_connection_carries_plain_http() {
    let trust = defaults();
    let mut screen = trust.screen(true, Scheme::Https);
    screen.field(b"X-Forwarded-Proto", b"http").unwrap();
    assert_eq!(screen.scheme(), Scheme::Http);
    assert_eq!(trust.screen(true, Scheme::Https).scheme(), Scheme::Https);
}

#[test]
fn scheme_fields_that_disagree_are_refused_from_a_believed_peer_only() {
    let trust = defaults();
    let fields = [("X-Forwarded-Ssl", "on"), ("X-Forwarded-Proto", "http")];
    assert_eq!(scheme(&trust, true, &fields), Err(Refused::SchemeConflict));
    assert_eq!(scheme(&trust, false, &fields), Ok(Scheme::Http));
    let fields = [("X-Forwarded-Proto", "http"), ("X-Forwarded-Proto", "https")];
    assert_eq!(scheme(&trust, true, &fields), Err(Refused::SchemeConflict));
    let fields = [("X-Forwarded-Ssl", "on"), ("X-Forwarded-Proto", "https")];
    assert_eq!(scheme(&trust, true, &fields), Ok(Scheme::Https));
}

#[test]
fn a_name_with_an_underscore_is_dropped() {
    let fields = [("X-Real-IP", "1"), ("X_Real_IP", "2"), ("Proxy", "3"), ("_", "4"), ("PROXY", "5")];
    for believed in [true, false] {
        let (passed, ..) = look(&defaults(), believed, &fields).unwrap();
        assert_eq!(passed, ["X-Real-IP"]);
    }
}

#[test]
fn forwarder_headers_pass_from_a_believed_peer_only() {
    let fields = [("Script_Name", "/app"), ("PATH_INFO", "/x"), ("REMOTE_USER", "me")];
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
    let fields = [("Host", "a"), ("X-Forwarded-For", "1.2.3.4"), ("User-Agent", "b")];
    let (passed, scheme, script_name) = look(&defaults(), true, &fields).unwrap();
    assert_eq!(passed, ["Host", "X-Forwarded-For", "User-Agent"]);
    assert_eq!((scheme, script_name), (Scheme::Http, None));
}
