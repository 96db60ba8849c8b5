//! Field lines: the part that a head and a trailer section share.
//!
//! ```text
//! field-line  = field-name ":" OWS field-value OWS CRLF                          RFC 9112 5
//! field-name  = token                                                            RFC 9110 5.1
//! field-value = *( field-vchar / SP / HTAB )                                     RFC 9110 5.5
//! ```
//!
//! Refused: a bare CR or LF (RFC 9112 2.2), white space before the colon (5.1: "MUST reject"),
//! obs-fold (5.2), control characters (RFC 9110 5.5).

use std::slice;

use crate::grammar::{is_space, space_span, token_span, trailing_space_span, value_span};
use crate::reject::Kind;

/// A field, as offsets into the buffer that was read. A head is shorter than `u32::MAX`, see
/// [`Limits::head`](crate::Limits::head).
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct FieldSpan {
    name: u32,
    colon: u32,
    value: u32,
    end: u32,
}

impl FieldSpan {
    #[inline]
    pub(crate) fn name(self, buf: &[u8]) -> &[u8] {
        slice_of(buf, self.name, self.colon)
    }

    #[inline]
    pub(crate) fn value(self, buf: &[u8]) -> &[u8] {
        slice_of(buf, self.value, self.end)
    }
}

#[inline(always)]
fn slice_of(buf: &[u8], start: u32, end: u32) -> &[u8] {
    buf.get(start as usize..end as usize).unwrap_or_default()
}

/// The fields of a head or of a trailer section in their order: name as sent, value without the
/// white space around it.
#[derive(Clone, Debug)]
pub struct Fields<'a> {
    buf: &'a [u8],
    spans: slice::Iter<'a, FieldSpan>,
}

impl<'a> Iterator for Fields<'a> {
    type Item = (&'a [u8], &'a [u8]);

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        self.spans.next().map(|span| (span.name(self.buf), span.value(self.buf)))
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        self.spans.size_hint()
    }
}

impl ExactSizeIterator for Fields<'_> {}

/// What a section may cost.
#[derive(Clone, Copy)]
pub(crate) struct SectionLimits {
    pub(crate) count: usize,
    pub(crate) too_many: Kind,
    /// Bytes of a line with its CRLF.
    pub(crate) line: usize,
    /// Offset that the section must not go beyond.
    pub(crate) end: usize,
    pub(crate) too_large: Kind,
}

pub(crate) enum Event {
    /// One more field is complete.
    Field(FieldSpan),
    /// The section and its empty line are complete; what follows is at this offset.
    End(usize),
    /// Everything is read and the section is not complete.
    More,
}

#[derive(Clone, Copy, Debug, Default)]
enum State {
    #[default]
    LineStart,
    Name,
    Space,
    Value,
    LineEnd,
    SectionEnd,
}

/// Reads field lines up to the empty line that ends them. It keeps its place between calls, so that
/// each byte is looked at once (the white space behind a value twice) however small the pieces.
#[derive(Debug, Default)]
pub(crate) struct FieldReader {
    state: State,
    /// What is before this offset has been read.
    at: usize,
    /// Where the current line starts.
    line: usize,
    colon: usize,
    value: usize,
    end: usize,
    spans: Vec<FieldSpan>,
}

impl FieldReader {
    /// Begins a section at an offset of the buffer.
    pub(crate) fn begin(&mut self, at: usize) {
        self.state = State::LineStart;
        self.at = at;
        self.spans.clear();
    }

    pub(crate) fn fields<'a>(&'a self, buf: &'a [u8]) -> Fields<'a> {
        Fields { buf, spans: self.spans.iter() }
    }

    /// Reads on to the next event.
    #[inline]
    pub(crate) fn next(&mut self, buf: &[u8], limits: &SectionLimits) -> Result<Event, Kind> {
        if matches!(self.state, State::LineStart) {
            self.line = self.at;
        }
        let line_end = self.line.saturating_add(limits.line);
        // Bytes beyond a limit are never looked at: so what is found does not depend on how the
        // bytes came.
        let stop = line_end.min(limits.end);
        let area = buf.get(..stop).unwrap_or(buf);
        let mut at = self.at;
        let event = loop {
            let rest = area.get(at..).unwrap_or_default();
            let Some(&first) = rest.first() else {
                if area.len() == stop {
                    return Err(if line_end < limits.end { Kind::FieldTooLarge } else { limits.too_large });
                }
                break Event::More;
            };
            match self.state {
                State::LineStart => match first {
                    b'\r' => {
                        at += 1;
                        self.state = State::SectionEnd;
                    }
                    _ if self.spans.len() >= limits.count => return Err(limits.too_many),
                    b' ' | b'\t' => return Err(Kind::Folded),
                    _ => self.state = State::Name,
                },
                State::Name => {
                    at += token_span(rest);
                    match area.get(at) {
                        None => {}
                        Some(b':') if at > self.line => {
                            self.colon = at;
                            at += 1;
                            self.state = State::Space;
                        }
                        Some(&b) if is_space(b) => return Err(Kind::SpaceBeforeColon),
                        Some(b'\n') => return Err(Kind::BareLf),
                        Some(_) => return Err(Kind::FieldName),
                    }
                }
                State::Space => {
                    at += space_span(rest);
                    self.value = at;
                    if at < area.len() {
                        self.state = State::Value;
                    }
                }
                State::Value => {
                    at += value_span(rest);
                    match area.get(at) {
                        None => {}
                        Some(b'\r') => {
                            self.end = at;
                            at += 1;
                            self.state = State::LineEnd;
                        }
                        Some(b'\n') => return Err(Kind::BareLf),
                        Some(_) => return Err(Kind::FieldValue),
                    }
                }
                State::LineEnd => {
                    if first != b'\n' {
                        return Err(Kind::BareCr);
                    }
                    at += 1;
                    self.state = State::LineStart;
                    let value = buf.get(self.value..self.end).unwrap_or_default();
                    let trailing = trailing_space_span(value);
                    // Lossless: `at` is at most `limits.end`, which fits.
                    let span = FieldSpan {
                        name: self.line as u32,
                        colon: self.colon as u32,
                        value: self.value as u32,
                        end: (self.end - trailing) as u32,
                    };
                    self.spans.push(span);
                    break Event::Field(span);
                }
                State::SectionEnd => {
                    if first != b'\n' {
                        return Err(Kind::BareCr);
                    }
                    at += 1;
                    break Event::End(at);
                }
            }
        };
        self.at = at;
        Ok(event)
    }
}
