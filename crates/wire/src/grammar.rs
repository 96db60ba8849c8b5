//! The byte classes of RFC 9110, RFC 9112 and RFC 3986, and scanners over them.
//!
//! ```text
//! tchar       = "!" / "#" / "$" / "%" / "&" / "'" / "*" / "+" / "-" / "." / "^" / "_" / "`"
//!             / "|" / "~" / DIGIT / ALPHA                                        RFC 9110 5.6.2
//! field-vchar = VCHAR / obs-text ; %x21-7E / %x80-FF                             RFC 9110 5.5
//! OWS         = *( SP / HTAB )                                                   RFC 9110 5.6.3
//! reg-name    = *( unreserved / pct-encoded / sub-delims )                       RFC 3986 3.2.2
//! ```
//!
//! A request target is read as VCHAR and bytes beyond ASCII, without `#`. RFC 3986 allows less, but
//! browsers send `|`, `^` and brackets as they are, scripts whatever their users typed, and none of
//! these can end or split a line. Nothing beyond ASCII is handed on: see [`ascii_target`]. A fragment
//! is never sent (RFC 9112 3.2), so `#` is refused.

use std::borrow::Cow;

const TCHAR: u8 = 1;
const TARGET: u8 = 2;
const VALUE: u8 = 4;
const REG_NAME: u8 = 8;

static CLASSES: [u8; 256] = classes();

// A `const fn` cannot use iterators; an index out of range would fail the build.
#[allow(clippy::indexing_slicing)]
const fn classes() -> [u8; 256] {
    let mut table = [0; 256];
    let mut byte = 0;
    while byte < 256 {
        let b = byte as u8;
        if b.is_ascii_alphanumeric() {
            table[byte] |= TCHAR | REG_NAME;
        }
        if (b.is_ascii_graphic() && b != b'#') || !b.is_ascii() {
            table[byte] |= TARGET;
        }
        if b == b'\t' || (b >= b' ' && b != 0x7F) {
            table[byte] |= VALUE;
        }
        byte += 1;
    }
    let marks = b"!#$%&'*+-.^_`|~";
    let mut i = 0;
    while i < marks.len() {
        table[marks[i] as usize] |= TCHAR;
        i += 1;
    }
    // "%" is left out: its two digits need a look of their own.
    let marks = b"-._~!$&'()*+,;=";
    let mut i = 0;
    while i < marks.len() {
        table[marks[i] as usize] |= REG_NAME;
        i += 1;
    }
    table
}

#[inline(always)]
// A table of 256 indexed by a byte is never out of range.
#[allow(clippy::indexing_slicing)]
fn is(byte: u8, class: u8) -> bool {
    CLASSES[byte as usize] & class != 0
}

#[inline(always)]
fn span(bytes: &[u8], class: u8) -> usize {
    let length = bytes.iter().position(|&b| !is(b, class)).unwrap_or(bytes.len());
    work::done(length);
    length
}

/// How many bytes at the start of `bytes` are tchar.
#[inline(always)]
pub(crate) fn token_span(bytes: &[u8]) -> usize {
    span(bytes, TCHAR)
}

/// How many bytes at the start of `bytes` may stand in a request target.
#[inline(always)]
pub(crate) fn target_span(bytes: &[u8]) -> usize {
    span(bytes, TARGET)
}

/// A request target, or a part of one, with its bytes beyond ASCII percent-encoded, as they should
/// have been sent (RFC 3986 2.1, 2.5). They mean the same so.
#[must_use]
pub fn ascii_target(target: &[u8]) -> Cow<'_, [u8]> {
    if target.is_ascii() {
        return Cow::Borrowed(target);
    }
    let digit = |value: u8| if value < 10 { b'0' + value } else { b'A' + value - 10 };
    let mut encoded = Vec::with_capacity(3 * target.len());
    for &byte in target {
        if byte.is_ascii() {
            encoded.push(byte);
        } else {
            encoded.extend_from_slice(&[b'%', digit(byte >> 4), digit(byte & 0xF)]);
        }
    }
    Cow::Owned(encoded)
}

/// How many bytes at the start of `bytes` may stand in a reg-name, percent signs aside.
pub(crate) fn reg_name_span(bytes: &[u8]) -> usize {
    span(bytes, REG_NAME)
}

/// How many bytes at the start of `bytes` are SP or HTAB.
#[inline(always)]
pub(crate) fn space_span(bytes: &[u8]) -> usize {
    let length = bytes.iter().position(|&b| !is_space(b)).unwrap_or(bytes.len());
    work::done(length);
    length
}

/// How many bytes at the end of `bytes` are SP or HTAB.
#[inline(always)]
pub(crate) fn trailing_space_span(bytes: &[u8]) -> usize {
    let length = bytes.iter().rev().take_while(|&&b| is_space(b)).count();
    work::done(length);
    length
}

/// How many bytes at the start of `bytes` may stand in a field value: field-vchar, SP and HTAB.
///
/// Values are most of a head, so they are read eight bytes at a time.
#[inline(always)]
pub(crate) fn value_span(bytes: &[u8]) -> usize {
    let mut at = 0;
    loop {
        let rest = bytes.get(at..).unwrap_or_default();
        let (words, tail) = rest.as_chunks::<8>();
        let mut skipped = 0;
        let mut flags = 0;
        for word in words {
            flags = controls(u64::from_le_bytes(*word));
            if flags != 0 {
                break;
            }
            skipped += 8;
        }
        if flags == 0 {
            work::done(skipped);
            return at + skipped + span(tail, VALUE);
        }
        work::done(skipped);
        at += skipped + flags.trailing_zeros() as usize / 8;
        if bytes.get(at) != Some(&b'\t') {
            return at;
        }
        at += 1;
    }
}

/// The high bit of each byte of `word` that is below 0x20 or is 0x7F; exact for the lowest such
/// byte, and never set below it (a borrow only travels upwards).
#[inline(always)]
fn controls(word: u64) -> u64 {
    const ONES: u64 = 0x0101_0101_0101_0101;
    const HIGH: u64 = 0x8080_8080_8080_8080;
    let below_space = word.wrapping_sub(ONES * 0x20) & !word;
    let del = word ^ (ONES * 0x7F);
    let is_del = del.wrapping_sub(ONES) & !del;
    (below_space | is_del) & HIGH
}

/// SP or HTAB.
#[inline(always)]
pub(crate) fn is_space(byte: u8) -> bool {
    byte == b' ' || byte == b'\t'
}

/// `bytes` without the SP and HTAB around it (RFC 9110 5.5).
#[inline]
pub(crate) fn trim(bytes: &[u8]) -> &[u8] {
    let rest = bytes.get(space_span(bytes)..).unwrap_or_default();
    rest.get(..rest.len() - trailing_space_span(rest)).unwrap_or_default()
}

/// Whether `bytes` is a token: one or more tchar (RFC 9110 5.6.2).
#[must_use]
pub fn is_token(bytes: &[u8]) -> bool {
    !bytes.is_empty() && token_span(bytes) == bytes.len()
}

/// Whether `bytes` may go out as a field value: no control characters but HTAB (RFC 9110 5.5). It
/// may be empty.
#[must_use]
pub fn is_field_value(bytes: &[u8]) -> bool {
    value_span(bytes) == bytes.len()
}

/// The elements of a comma-separated list, trimmed (RFC 9110 5.6.1). An empty element is yielded as
/// such.
pub(crate) fn list(value: &[u8]) -> impl Iterator<Item = &[u8]> {
    value.split(|&b| b == b',').map(trim)
}

/// `1*DIGIT` as a number. No sign, no white space, no underscore. `None` if it is anything else or
/// does not fit.
#[must_use]
pub(crate) fn digits(bytes: &[u8]) -> Option<u64> {
    if bytes.is_empty() {
        return None;
    }
    bytes.iter().try_fold(0u64, |value, &b| {
        let digit = b.is_ascii_digit().then(|| u64::from(b - b'0'))?;
        value.checked_mul(10)?.checked_add(digit)
    })
}

/// Counts the bytes that the scanners look at, for the tests that show that reading is linear.
pub(crate) mod work {
    #[cfg(test)]
    thread_local! {
        static BYTES: std::cell::Cell<usize> = const { std::cell::Cell::new(0) };
    }

    /// Bytes looked at since the last call.
    #[cfg(test)]
    pub(crate) fn take() -> usize {
        BYTES.take()
    }

    #[inline(always)]
    pub(super) fn done(_length: usize) {
        #[cfg(test)]
        BYTES.set(BYTES.get() + _length + 1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn members(class: u8) -> Vec<u8> {
        (0..=255).filter(|&b| is(b, class)).collect()
    }

    #[test]
    fn the_tchars_are_those_of_the_rfc() {
        let mut expected: Vec<u8> =
            b"!#$%&'*+-.^_`|~0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ".to_vec();
        expected.sort_unstable();
        assert_eq!(members(TCHAR), expected);
    }

    #[test]
    fn a_value_is_anything_but_control_characters() {
        let expected: Vec<u8> = (0..=255).filter(|&b| b == 9 || (b >= 32 && b != 127)).collect();
        assert_eq!(members(VALUE), expected);
    }

    #[test]
    fn a_target_is_printable_without_a_fragment() {
        let expected: Vec<u8> = (0x21..=0xFF).filter(|&b| b != b'#' && b != 0x7F).collect();
        assert_eq!(members(TARGET), expected);
    }

    #[test]
    fn what_a_target_has_beyond_ascii_is_percent_encoded() {
        assert!(matches!(ascii_target(b"/a%20b?c"), Cow::Borrowed(b"/a%20b?c")));
        assert_eq!(*ascii_target("/\u{e4}%C3?\u{20ac}".as_bytes()), b"/%C3%A4%C3?%E2%82%AC"[..]);
        assert_eq!(*ascii_target(b"\x80\xff"), b"%80%FF"[..]);
    }

    #[test]
    fn words_and_bytes_agree_on_where_a_value_ends() {
        for byte in 0..=255u8 {
            for filler in [b'a', 0x80, 0xFF, 0x20, 0x21, 0x7E, b'\t'] {
                for length in 0..40 {
                    for place in 0..length {
                        let mut bytes = vec![filler; length];
                        bytes[place] = byte;
                        assert_eq!(
                            value_span(&bytes),
                            span(&bytes, VALUE),
                            "{byte} in {filler} at {place} of {length}"
                        );
                    }
                }
            }
        }
    }

    #[test]
    fn a_borrow_does_not_hide_a_second_control_character() {
        assert_eq!(value_span(b"abc\x00\x7F\x01ab"), 3);
        assert_eq!(value_span(b"a\tb\t\t\tc\rxxxxxxxxxxx"), 7);
    }

    #[test]
    fn digits_take_digits_only() {
        assert_eq!(digits(b"0"), Some(0));
        assert_eq!(digits(b"00042"), Some(42));
        assert_eq!(digits(b"18446744073709551615"), Some(u64::MAX));
        for bad in [
            &b""[..],
            b"+5",
            b"-1",
            b"1_0",
            b" 5",
            b"5 ",
            b"5,5",
            b"0x5",
            b"18446744073709551616",
            b"\xd9\xa1",
        ] {
            assert_eq!(digits(bad), None, "{bad:?}");
        }
    }

    #[test]
    fn trimming_takes_spaces_and_tabs_only() {
        assert_eq!(trim(b" \t a b\t "), b"a b");
        assert_eq!(trim(b"\x0ba"), b"\x0ba");
        assert_eq!(trim(b" \t "), b"");
        assert_eq!(trim(b""), b"");
    }
}
