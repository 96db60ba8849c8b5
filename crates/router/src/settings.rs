//! What follows from the options and is made once for them.

use std::os::fd::OwnedFd;

use crate::access_log::AccessLog;
use crate::logs::AccessFile;
use crate::options::Options;
use crate::outgoing::Bounds;
use crate::trust::Trust;

/// What follows from the options and is made once for them.
#[derive(Debug)]
pub(crate) struct Settings {
    pub options: Options,
    pub limits: wire::Limits,
    pub trust: Trust,
    pub access: Option<(AccessLog, AccessFile)>,
}

impl Settings {
    /// `access` is the access log's file, where there is one.
    ///
    /// # Errors
    /// One line for the operator: a format that is none, an address that is none.
    pub fn new(options: Options, access: Option<OwnedFd>) -> Result<Self, String> {
        let access = match access {
            None => None,
            Some(file) => {
                let format = AccessLog::compile(&options.access_log_format)?;
                Some((format, AccessFile::new(options.accesslog.as_deref().unwrap_or_default(), file)))
            }
        };
        Ok(Self { limits: options.limits(), trust: trust(&options)?, access, options })
    }

    /// How much of a response may wait for its client; `streams`: its worker waits for the client
    /// instead of having it kept in a file.
    pub fn bounds(&self, streams: bool) -> Bounds<'_> {
        Bounds {
            memory: self.options.response_buffer,
            spool: if streams { 0 } else { self.options.response_spool_limit },
            directory: self.options.tmp_upload_dir.as_deref(),
        }
    }
}

fn trust(options: &Options) -> Result<Trust, String> {
    let secure: Vec<_> = options.secure_scheme_headers.clone().into_iter().collect();
    let (allowed, headers) = (&options.forwarded_allow_ips, &options.forwarder_headers);
    Trust::from_options(allowed, &secure, headers, &options.header_map)
}
