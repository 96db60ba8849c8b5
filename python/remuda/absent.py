"""The settings of gunicorn that Remuda does not have, and what to do instead.

People arrive with configuration files. A setting that is passed over in silence can cost them
their TLS, so each is refused by name, unless it is set to nothing (None, False, 0, "", []): then it
asks for nothing. Where Remuda can do without and nobody can tell, there is a warning instead.
"""

from __future__ import annotations


class Absent:
    """A setting of gunicorn's. `instead` is a sentence; `harmless` makes it a warning."""

    __slots__ = ("flags", "harmless", "instead", "name", "takes_value")

    def __init__(
        self, name: str, instead: str, *flags: str, switch: bool = False, harmless: bool = False
    ) -> None:
        self.name = name
        self.instead = instead
        self.flags = flags
        self.takes_value = not switch
        self.harmless = harmless

    def says(self, given: str) -> str:
        """The line for somebody who has set it as `given`."""
        if self.harmless:
            return f"{given} is passed over: {self.instead}"
        return f"{given} is a gunicorn setting that Remuda does not have: {self.instead}"


_TLS = "let a proxy in front, such as nginx or haproxy, end TLS"
_H2 = "Remuda serves HTTP/1.1; let a proxy in front speak HTTP/2"
_PROXY = "the PROXY protocol is not read; let the proxy send X-Forwarded-* headers"
_UWSGI = "the uwsgi protocol is not read; let the proxy speak HTTP (nginx: proxy_pass)"
_SYSLOG = "send the logs to stderr (errorlog -) and let the supervisor hand them to syslog"
_LOGGING = "the router writes the logs; see errorlog, loglevel, access_log_format"
_STATSD = "there is no StatsD client; access_log_format json has each request's numbers"
_DIRTY = "there is no second pool of workers; use a task queue"
_RELOAD = "run it under a file watcher that sends HUP"
_STRICT = "requests that RFC 9112 lets a server refuse are refused"
_PASTE = "make an application from the .ini in a module: paste.deploy.loadapp('config:...')"
_CONTROL = "there is no control socket; signals do the same"
_MOOT = "it means nothing without TLS"

ABSENT: dict[str, Absent] = {
    absent.name: absent
    for absent in (
        Absent(
            "asgi_disconnect_grace_period",
            "an application is told at once that a client left",
            "--asgi-disconnect-grace-period",
            harmless=True,
        ),
        Absent(
            "websocket_max_message_size",
            "websockets are not served",
            "--websocket-max-message-size",
        ),
        Absent("http_parser", "there is one parser", "--http-parser", harmless=True),
        Absent("reload", _RELOAD, "--reload", switch=True),
        Absent("reload_engine", _RELOAD, "--reload-engine"),
        Absent("reload_extra_files", _RELOAD, "--reload-extra-file"),
        Absent("spew", "use python -X faulthandler, py-spy or a debugger", "--spew", switch=True),
        Absent(
            "daemon",
            "let systemd or another supervisor run it in the background",
            "-D",
            "--daemon",
            switch=True,
        ),
        Absent(
            "worker_tmp_dir",
            "workers report through shared memory, without a file",
            "--worker-tmp-dir",
            harmless=True,
        ),
        Absent("paste", _PASTE, "--paste", "--paster"),
        Absent("raw_paste_global_conf", _PASTE, "--paste-global"),
        Absent("proxy_protocol", _PROXY, "--proxy-protocol", switch=True),
        Absent("proxy_allow_ips", _PROXY, "--proxy-allow-from"),
        Absent("protocol", _UWSGI, "--protocol"),
        Absent("uwsgi_allow_ips", _UWSGI, "--uwsgi-allow-from"),
        Absent("permit_obsolete_folding", _STRICT, "--permit-obsolete-folding", switch=True),
        Absent("strip_header_spaces", _STRICT, "--strip-header-spaces", switch=True),
        Absent(
            "permit_unconventional_http_method",
            "any method that is a token is served",
            "--permit-unconventional-http-method",
            switch=True,
            harmless=True,
        ),
        Absent(
            "permit_unconventional_http_version",
            _STRICT,
            "--permit-unconventional-http-version",
            switch=True,
        ),
        Absent(
            "casefold_http_method",
            "methods are case-sensitive (RFC 9110 section 9.1)",
            "--casefold-http-method",
            switch=True,
        ),
        Absent(
            "disable_redirect_access_to_syslog",
            "there is no syslog client",
            "--disable-redirect-access-to-syslog",
            switch=True,
            harmless=True,
        ),
        Absent("logger_class", _LOGGING, "--logger-class"),
        Absent("logconfig", _LOGGING, "--log-config"),
        Absent("logconfig_dict", _LOGGING),
        Absent("logconfig_json", _LOGGING, "--log-config-json"),
        Absent("syslog", _SYSLOG, "--log-syslog", switch=True),
        Absent("syslog_addr", _SYSLOG, "--log-syslog-to"),
        Absent("syslog_prefix", _SYSLOG, "--log-syslog-prefix"),
        Absent("syslog_facility", _SYSLOG, "--log-syslog-facility"),
        Absent(
            "enable_stdio_inheritance",
            "stdout and stderr are always inherited",
            "-R",
            "--enable-stdio-inheritance",
            switch=True,
            harmless=True,
        ),
        Absent("statsd_host", _STATSD, "--statsd-host"),
        Absent("statsd_prefix", _STATSD, "--statsd-prefix"),
        Absent("dogstatsd_tags", _STATSD, "--dogstatsd-tags"),
        Absent("enable_backlog_metric", _STATSD, "--enable-backlog-metric", switch=True),
        Absent("default_proc_name", "use proc_name"),
        Absent("pre_exec", "there is no binary upgrade (USR2)"),
        Absent("ssl_context", _TLS),
        Absent("keyfile", _TLS, "--keyfile"),
        Absent("certfile", _TLS, "--certfile"),
        Absent("ca_certs", _TLS, "--ca-certs"),
        Absent("cert_reqs", _TLS, "--cert-reqs"),
        Absent("ciphers", _TLS, "--ciphers"),
        Absent("ssl_version", _TLS, "--ssl-version"),
        Absent("suppress_ragged_eofs", _MOOT, "--suppress-ragged-eofs", switch=True, harmless=True),
        Absent(
            "do_handshake_on_connect",
            _MOOT,
            "--do-handshake-on-connect",
            switch=True,
            harmless=True,
        ),
        Absent("http_protocols", _H2, "--http-protocols"),
        Absent("http2_cleartext", _H2, "--http2-cleartext"),
        Absent("http2_max_concurrent_streams", _H2, "--http2-max-concurrent-streams"),
        Absent("http2_initial_window_size", _H2, "--http2-initial-window-size"),
        Absent("http2_max_frame_size", _H2, "--http2-max-frame-size"),
        Absent("http2_max_header_list_size", _H2, "--http2-max-header-list-size"),
        Absent("dirty_apps", _DIRTY, "--dirty-app"),
        Absent("dirty_workers", _DIRTY, "--dirty-workers"),
        Absent("dirty_timeout", _DIRTY, "--dirty-timeout"),
        Absent("dirty_threads", _DIRTY, "--dirty-threads"),
        Absent("dirty_graceful_timeout", _DIRTY, "--dirty-graceful-timeout"),
        Absent("on_dirty_starting", _DIRTY),
        Absent("dirty_post_fork", _DIRTY),
        Absent("dirty_worker_init", _DIRTY),
        Absent("dirty_worker_exit", _DIRTY),
        Absent("control_socket", _CONTROL, "--control-socket", harmless=True),
        Absent("control_socket_mode", _CONTROL, "--control-socket-mode", harmless=True),
        Absent(
            "control_socket_disable", _CONTROL, "--no-control-socket", switch=True, harmless=True
        ),
    )
}

BY_FLAG = {flag: absent for absent in ABSENT.values() for flag in absent.flags}
