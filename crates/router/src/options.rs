//! What the router is told about how to work: the settings that it reads, by their names.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::Deserialize;

/// The names of the settings that the router reads. The settings table says the same; a test compares.
pub const OPTION_NAMES: &[&str] = &[
    "access_log_format",
    "accesslog",
    "body_rate",
    "forwarded_allow_ips",
    "forwarder_headers",
    "header_map",
    "header_timeout",
    "keepalive",
    "limit_request_body",
    "limit_request_field_size",
    "limit_request_fields",
    "limit_request_head",
    "limit_request_line",
    "loglevel",
    "max_connections",
    "max_queue",
    "non_ascii_target",
    "queue_timeout",
    "request_buffer",
    "request_timeout",
    "response_buffer",
    "response_spool_limit",
    "secure_scheme_headers",
    "send_rate",
    "sendfile",
    "timeout",
    "tmp_upload_dir",
];

/// The settings that the router reads; `docs/settings.md` says what each means. Sizes are bytes,
/// rates bytes a second, times seconds; 0 turns a limit or a timeout off.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Options {
    pub access_log_format: String,
    pub accesslog: Option<String>,
    pub body_rate: u64,
    pub forwarded_allow_ips: Vec<String>,
    pub forwarder_headers: Vec<String>,
    pub header_map: String,
    pub header_timeout: f64,
    pub keepalive: f64,
    pub limit_request_body: u64,
    pub limit_request_field_size: usize,
    pub limit_request_fields: usize,
    pub limit_request_head: usize,
    pub limit_request_line: usize,
    pub loglevel: String,
    pub max_connections: usize,
    pub max_queue: usize,
    pub non_ascii_target: String,
    pub queue_timeout: f64,
    pub request_buffer: usize,
    pub request_timeout: f64,
    pub response_buffer: usize,
    pub response_spool_limit: u64,
    pub secure_scheme_headers: BTreeMap<String, String>,
    pub send_rate: u64,
    pub sendfile: bool,
    pub timeout: f64,
    pub tmp_upload_dir: Option<String>,
}

impl Options {
    /// What one request may cost its parser.
    pub fn limits(&self) -> wire::Limits {
        let off = |limit: usize| if limit == 0 { usize::MAX } else { limit };
        wire::Limits {
            request_line: off(self.limit_request_line),
            fields: off(self.limit_request_fields),
            field_size: off(self.limit_request_field_size),
            head: if self.limit_request_head == 0 { MAX_HEAD } else { self.limit_request_head.min(MAX_HEAD) },
            ..wire::Limits::default()
        }
    }
}

/// The largest head that fits into a channel's message.
const MAX_HEAD: usize = 96 * 1024;

/// A setting in seconds, or `None` when it is off.
pub(crate) fn seconds(value: f64) -> Option<Duration> {
    if value > 0.0 { Duration::try_from_secs_f64(value).ok() } else { None }
}
