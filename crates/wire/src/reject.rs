//! Why a message was refused, and with which status.

use std::fmt;

/// A message that is not served. The caller answers with [`status`](Reject::status) and closes the
/// connection: there is no way to find the start of the next message after this one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reject(Kind);

impl Reject {
    /// The status code of the answer: 400, 413, 414, 417, 431, 501 or 505.
    #[must_use]
    pub fn status(self) -> u16 {
        self.0.describe().0
    }

    /// What is wrong, in a few words for the log; a limit is called as the setting is. Holds no byte
    /// of the client's.
    #[must_use]
    pub fn reason(self) -> &'static str {
        self.0.describe().1
    }
}

impl fmt::Display for Reject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.reason())
    }
}

impl std::error::Error for Reject {}

impl From<Kind> for Reject {
    fn from(kind: Kind) -> Self {
        Reject(kind)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    BareCr,
    BareLf,
    EmptyLines,
    Method,
    MethodTooLong,
    Connect,
    Target,
    TargetForm,
    TargetAuthority,
    Version,
    VersionMissing,
    VersionUnsupported,
    RequestLineTooLong,
    RequestLineBeyondHead,
    FieldName,
    SpaceBeforeColon,
    Folded,
    FieldValue,
    TooManyFields,
    FieldTooLarge,
    HeadTooLarge,
    HostMissing,
    HostRepeated,
    Host,
    ContentTypeRepeated,
    ContentLength,
    ContentLengthRepeated,
    ContentLengthTooLarge,
    TransferEncoding,
    TransferEncodingRepeated,
    TransferEncodingUnknown,
    TransferEncodingInHttp10,
    LengthAndTransferEncoding,
    ConnectionOption,
    Expectation,
    ChunkSize,
    ChunkExtension,
    ChunkExtensionTooLarge,
    ChunkEnd,
    TrailerName,
    TooManyTrailers,
    TrailersTooLarge,
}

impl Kind {
    fn describe(self) -> (u16, &'static str) {
        match self {
            Kind::BareCr => (400, "CR without LF"),
            Kind::BareLf => (400, "LF without CR"),
            Kind::EmptyLines => (400, "empty lines before the request line"),
            Kind::Method => (400, "method is not a token"),
            Kind::MethodTooLong => (501, "method longer than any that exists"),
            Kind::Connect => (501, "CONNECT is not implemented"),
            Kind::Target => (400, "byte not allowed in a request target"),
            Kind::TargetForm => (400, "request target of the wrong form"),
            Kind::TargetAuthority => (400, "invalid authority in the request target"),
            Kind::Version => (400, "malformed HTTP version"),
            Kind::VersionMissing => (505, "request line without an HTTP version"),
            Kind::VersionUnsupported => (505, "unsupported HTTP version"),
            Kind::RequestLineTooLong => (414, "request line longer than limit_request_line"),
            Kind::RequestLineBeyondHead => (414, "request line longer than limit_request_head"),
            Kind::FieldName => (400, "field name is not a token followed by a colon"),
            Kind::SpaceBeforeColon => (400, "white space between field name and colon"),
            Kind::Folded => (400, "field line begins with white space"),
            Kind::FieldValue => (400, "control character in a field value"),
            Kind::TooManyFields => (431, "more fields than limit_request_fields"),
            Kind::FieldTooLarge => (431, "field larger than limit_request_field_size"),
            Kind::HeadTooLarge => (431, "head larger than limit_request_head"),
            Kind::HostMissing => (400, "no Host field"),
            Kind::HostRepeated => (400, "more than one Host field"),
            Kind::Host => (400, "invalid Host field"),
            Kind::ContentTypeRepeated => (400, "more than one Content-Type field"),
            Kind::ContentLength => (400, "Content-Length is not a number"),
            Kind::ContentLengthRepeated => (400, "more than one Content-Length field"),
            Kind::ContentLengthTooLarge => (413, "Content-Length beyond what a file can hold"),
            Kind::TransferEncoding => (400, "Transfer-Encoding is not one final chunked"),
            Kind::TransferEncodingRepeated => (400, "more than one Transfer-Encoding field"),
            Kind::TransferEncodingUnknown => (501, "unknown transfer coding"),
            Kind::TransferEncodingInHttp10 => (400, "Transfer-Encoding in HTTP/1.0"),
            Kind::LengthAndTransferEncoding => (400, "Content-Length together with Transfer-Encoding"),
            Kind::ConnectionOption => (400, "malformed Connection field"),
            Kind::Expectation => (417, "unknown expectation"),
            Kind::ChunkSize => (400, "malformed chunk size"),
            Kind::ChunkExtension => (400, "control character in a chunk extension"),
            Kind::ChunkExtensionTooLarge => (400, "chunk extensions too large"),
            Kind::ChunkEnd => (400, "chunk data not followed by CRLF"),
            Kind::TrailerName => (400, "field not allowed in a trailer section"),
            Kind::TooManyTrailers => (431, "too many trailer fields"),
            Kind::TrailersTooLarge => (431, "trailer section too large"),
        }
    }
}
