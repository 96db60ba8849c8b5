//! Any bytes, in any pieces: no panic, the same verdict as for the whole, and a complete head is
//! what it says it is. The first byte of the input says how the rest is cut.
#![no_main]

use libfuzzer_sys::fuzz_target;
use wire::{Framing, HeadReader, Limits, ascii_target, is_field_value, is_token};

/// Small enough to be reached.
fn limits() -> Limits {
    Limits { request_line: 100, fields: 8, field_size: 100, head: 400, ..Limits::default() }
}

fuzz_target!(|input: &[u8]| {
    let Some((&stride, bytes)) = input.split_first() else {
        return;
    };
    let limits = limits();
    let mut whole = HeadReader::new();
    let verdict = whole.read(bytes, &limits);

    let mut pieces = HeadReader::new();
    let stride = usize::from(stride % 16) + 1;
    let mut end = 0;
    let cut = loop {
        end = (end + stride).min(bytes.len());
        match pieces.read(&bytes[..end], &limits) {
            Ok(None) if end < bytes.len() => {}
            verdict => break verdict,
        }
    };
    assert_eq!(cut, verdict);

    let Ok(Some(length)) = verdict else { return };
    assert!(length <= limits.head && length <= bytes.len());
    let head = whole.head(&bytes[..length]);
    assert!(head.fields().eq(pieces.head(bytes).fields()));
    assert!(head.fields().len() <= limits.fields);
    assert!(is_token(head.method));
    assert!(!head.path.is_empty());
    for part in [head.target, head.path, head.query] {
        let ascii = ascii_target(part);
        assert!(ascii.iter().all(|byte| byte.is_ascii_graphic() && *byte != b'#'));
        assert_eq!(part.is_ascii(), *ascii == *part);
    }
    let mut lengths = 0;
    let mut codings = 0;
    for (name, value) in head.fields() {
        assert!(is_token(name) && is_field_value(value));
        lengths += usize::from(name.eq_ignore_ascii_case(b"content-length"));
        codings += usize::from(name.eq_ignore_ascii_case(b"transfer-encoding"));
    }
    let expected = match head.framing {
        Framing::None => (0, 0),
        Framing::Length(_) => (1, 0),
        Framing::Chunked => (0, 1),
    };
    assert_eq!((lengths, codings), expected);
});
