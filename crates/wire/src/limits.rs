//! What one message may cost before its sender is refused.

/// The bounds of one request. They hold while bytes arrive: an endless line is refused as soon as
/// it is over its limit.
///
/// `usize::MAX` turns a limit off, except [`head`](Limits::head), which never exceeds `u32::MAX`.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Bytes of the request line, without its CRLF. Beyond it: 414.
    pub request_line: usize,
    /// Number of fields in the head. Beyond it: 431.
    pub fields: usize,
    /// Bytes of one field line, with its CRLF. Beyond it: 431.
    pub field_size: usize,
    /// Bytes of the whole head, with the empty line that ends it. Beyond it: 431.
    pub head: usize,
    /// Bytes of the extensions of one chunk, between the first `;` and the CRLF. Beyond it: 400.
    /// All extensions of a body together may also not outweigh its data (see
    /// [`EXTENSION_ALLOWANCE`](crate::body::EXTENSION_ALLOWANCE)).
    pub chunk_extension: usize,
    /// Bytes of the trailer section, with the empty line that ends it. Beyond it: 431.
    pub trailers: usize,
    /// Number of fields in the trailer section. Beyond it: 431.
    pub trailer_fields: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Limits {
            request_line: 4094,
            fields: 100,
            field_size: 8190,
            head: 65536,
            chunk_extension: 256,
            trailers: 8192,
            trailer_fields: 100,
        }
    }
}
