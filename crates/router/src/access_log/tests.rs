use std::time::UNIX_EPOCH;

use super::*;

const DEFAULT: &str = r#"%(h)s %(l)s %(u)s %(t)s "%(r)s" %(s)s %(b)s "%(f)s" "%(a)s""#;

type Pairs<'a> = &'a [(&'a str, &'a [u8])];

fn find<'a>(fields: Pairs<'a>, name: &[u8]) -> Option<&'a [u8]> {
    fields.iter().find(|(other, _)| other.as_bytes() == name).map(|(_, value)| *value)
}

struct Sample<'a> {
    target: &'a [u8],
    request: Pairs<'a>,
    response: Pairs<'a>,
    bare: bool,
}

const PLAIN: Sample<'_> = Sample { target: b"/a?b=c", request: &[], response: &[], bare: false };

fn line(format: &str, sample: &Sample<'_>) -> String {
    let clock = Clock::new(UNIX_EPOCH + Duration::from_secs(1_795_406_055));
    let question = sample.target.iter().position(|&b| b == b'?').unwrap_or(sample.target.len());
    let entry = Entry {
        clock: &clock,
        remote: (!sample.bare).then_some("192.0.2.1"),
        method: b"GET",
        target: sample.target,
        path: &sample.target[..question],
        query: sample.target.get(question + 1..).unwrap_or_default(),
        version: b"HTTP/1.1",
        status: 200,
        sent: (!sample.bare).then_some(13),
        duration: Duration::from_micros(1_002_345),
        queued: (!sample.bare).then_some(Duration::from_micros(2_042)),
        worker: (!sample.bare).then_some(77),
        request: &|name| find(sample.request, name),
        response: &|name| find(sample.response, name),
    };
    let mut out = b"before".to_vec();
    AccessLog::compile(format).unwrap().write(&mut out, &entry);
    let text = String::from_utf8(out).unwrap();
    text.strip_prefix("before").unwrap().strip_suffix('\n').unwrap().to_owned()
}

fn stamp() -> String {
    let clock = Clock::new(UNIX_EPOCH + Duration::from_secs(1_795_406_055));
    String::from_utf8(clock.access_stamp().to_vec()).unwrap()
}

#[test]
fn the_default_format_is_the_combined_one() {
    let request: Pairs<'_> = &[
        ("referer", b"http://a/"),
        ("user-agent", b"curl/8"),
        ("authorization", b"Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ=="),
    ];
    assert_eq!(
        line(DEFAULT, &Sample { request, ..PLAIN }),
        format!("192.0.2.1 - Aladdin {} \"GET /a?b=c HTTP/1.1\" 200 13 \"http://a/\" \"curl/8\"", stamp())
    );
}

#[test]
fn every_atom_has_its_meaning() {
    assert_eq!(line("%(m)s %(U)s %(q)s %(H)s %(B)s", &PLAIN), "GET /a b=c HTTP/1.1 13");
    assert_eq!(line("%(T)s %(M)s %(D)s %(L)s", &PLAIN), "1 1002 1002345 1.002345");
    assert_eq!(line("%(Q)s %(w)s %(p)s", &PLAIN), "2.042 77 <77>");
    let sample = Sample { request: &[("x-a", b"1")], response: &[("x-a", b"2")], ..PLAIN };
    assert_eq!(line("%({X-A}i)s %({x-a}o)s %({x-a}e)s %({y}i)s", &sample), "1 2 - -");
    assert_eq!(line("100%% %(s)d", &PLAIN), "100% 200");
    assert_eq!(line("", &PLAIN), "");
}

#[test]
fn what_is_not_there_is_a_dash() {
    let bare = Sample { bare: true, ..PLAIN };
    assert_eq!(line("%(h)s %(l)s %(u)s %(b)s %(B)s %(f)s %(a)s", &bare), "- - - - - - -");
    assert_eq!(line("%(Q)s %(w)s %(p)s %({a}i)s %({a}o)s", &bare), "- - - - -");
}

#[test]
fn bytes_from_outside_cannot_leave_their_place() {
    let evil: &[u8] = b"a\"b\\c\nd\re\x1b[31m\x7f\x00\xc3\xa9\xff";
    let sample = Sample { target: b"/\"\xff", request: &[("user-agent", evil)], ..PLAIN };
    assert_eq!(
        line("\"%(a)s\" \"%(r)s\" %(U)s", &sample),
        "\"a\\\"b\\\\c\\x0ad\\x0de\\x1b[31m\\x7f\\x00\\xc3\\xa9\\xff\" \"GET /\\\"\\xff HTTP/1.1\" /\\\"\\xff"
    );
}

#[test]
fn a_user_is_read_from_basic_authentication_only() {
    let user = |value: &[u8]| line("%(u)s", &Sample { request: &[("authorization", value)], ..PLAIN });
    assert_eq!(user(b"Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ=="), "Aladdin");
    assert_eq!(user(b"basic   QWxhZGRpbjpvcGVuIHNlc2FtZQ"), "Aladdin");
    assert_eq!(user(b"Basic w6k6eA=="), "\\xc3\\xa9");
    assert_eq!(user(b"Basic Igo6eA=="), "\\\"\\x0a");
    for none in [
        &b""[..],
        b"Basic",
        b"Basic ",
        b"Basic QQ==",
        b"Basic OnB3",
        b"Basic !!!!",
        b"Basic Q",
        b"Bearer QTpi",
        b"BasicQTpi",
    ] {
        assert_eq!(user(none), "-", "{none:?}");
    }
}

#[test]
fn base64_is_decoded() {
    for (text, plain) in
        [("", ""), ("Zg==", "f"), ("Zm8=", "fo"), ("Zm9v", "foo"), ("Zm9vYg", "foob"), ("Zm9vYmE", "fooba")]
    {
        assert_eq!(base64(text.as_bytes()).unwrap(), plain.as_bytes());
    }
    assert_eq!(base64(b"+/+/").unwrap(), b"\xfb\xff\xbf");
    for bad in [&b"Z"[..], b"Zm9vY", b"Zm=v", b"====", b"Zm9 ", b"Zm9_"] {
        assert_eq!(base64(bad), None, "{bad:?}");
    }
}

#[test]
fn a_wrong_format_is_refused_with_its_fault() {
    let fault = |format: &str| AccessLog::compile(format).map(|_| ()).unwrap_err();
    let known = "there are h l u t r m U q H s B b f a T M D L p Q w, {name}i, {name}o and {name}e";
    assert_eq!(fault("%(h)s %(x)s"), format!("access_log_format: unknown atom \"x\": {known}"));
    assert_eq!(
        fault("%({a}x)s"),
        "access_log_format: unknown atom \"{a}x\": {name} is followed by i, o or e"
    );
    for format in ["%", "%h", "%(h", "100% %(h)s", "%)"] {
        assert_eq!(
            fault(format),
            "access_log_format: a % is followed neither by (atom)s nor by another %",
            "{format:?}"
        );
    }
    for format in ["%(h)", "%(h)x", "%(h) s"] {
        assert_eq!(fault(format), "access_log_format: %(h) is not followed by s", "{format:?}");
    }
    assert_eq!(fault("a\nb"), "access_log_format: a record is one line, so the format must be one");
}

#[test]
fn a_format_tells_whether_it_reads_fields_of_the_response() {
    let reads = |format| AccessLog::compile(format).unwrap().reads_response_fields();
    assert!(reads("%(u)s %(a)s %({Etag}o)s"));
    assert!(!reads("%(u)s %(a)s %({X-B}i)s"));
    assert!(!reads("json"));
}

#[test]
fn json_is_one_object_a_line() {
    let request: Pairs<'_> = &[("user-agent", b"a\"\\\n\x7f\xc2\x85\xc3\xa9"), ("referer", b"\xe9")];
    let text = line("json", &Sample { request, ..PLAIN });
    assert!(text.bytes().all(|b| b >= b' ' && b != 0x7f), "{text:?}");
    assert!(!text.contains('\u{85}'));
    let value: serde_json::Value = serde_json::from_str(&text).unwrap();
    let clock = Clock::new(UNIX_EPOCH + Duration::from_secs(1_795_406_055));
    let expected = serde_json::json!({
        "time": std::str::from_utf8(clock.rfc3339()).unwrap(),
        "remote_addr": "192.0.2.1",
        "user": null,
        "method": "GET",
        "path": "/a",
        "query": "b=c",
        "protocol": "HTTP/1.1",
        "referer": "\u{e9}",
        "user_agent": "a\"\\\n\u{7f}\u{85}\u{e9}",
        "status": 200,
        "bytes": 13,
        "worker": 77,
        "duration": 1.002_345,
        "queue": 0.002_042,
    });
    assert_eq!(value, expected);
}

#[test]
fn json_says_null_for_what_is_not_there() {
    let value: serde_json::Value =
        serde_json::from_str(&line("json", &Sample { bare: true, ..PLAIN })).unwrap();
    for name in ["remote_addr", "user", "referer", "user_agent", "bytes", "worker", "queue"] {
        assert_eq!(value[name], serde_json::Value::Null, "{name}");
    }
}

#[test]
fn the_stamp_is_the_time_of_logging() {
    assert_eq!(line("%(t)s", &PLAIN), stamp());
}
