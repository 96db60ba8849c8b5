"""THE table: every setting, declared once.

From it come the command line, the environment's names, the checks, --help and docs/settings.md. A
new setting is one entry here; if the router reads it (`router=True`), it is a field of the router's
options as well, and a test compares the two lists.

Names, flags and meanings are gunicorn's. Where a default or a meaning is another one, `differs`
says why. `absent` lists what gunicorn has and Remuda has not.
"""

from __future__ import annotations

from .kinds import (
    Bind,
    Callback,
    Choice,
    Count,
    Environment,
    Kind,
    Mask,
    Maybe,
    Networks,
    SchemeHeaders,
    Seconds,
    Size,
    Switch,
    T,
    Text,
    Tokens,
    Typed,
    User,
    WorkerClass,
    Workers,
)
from .values import GIB, KIB, MIB

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, overload


class Setting(Typed[T]):
    """One configurable thing. On `Settings` it is itself; on an instance it is its value.

    `doc` begins with one sentence, which is its line in --help. `variable` is gunicorn's variable
    that gives the default. Where there is no flag, only a configuration file can set it.
    """

    name = ""

    def __init__(
        self,
        section: str,
        kind: Kind[T],
        default: T,
        doc: str,
        *,
        flags: tuple[str, ...] | None = None,
        variable: str | None = None,
        router: bool = False,
        differs: str | None = None,
        file_only: bool = False,
    ) -> None:
        self.section = section
        self.kind = kind
        self.default = default
        self.doc = doc
        self.flags = flags if flags is not None else ()
        self._flags_from_name = flags is None and not file_only
        self.variable = variable
        self.router = router
        self.differs = differs
        self.file_only = file_only

    def __set_name__(self, owner: type, name: str) -> None:
        self.name = name
        if self._flags_from_name:
            self.flags = ("--" + name.replace("_", "-"),)

    if TYPE_CHECKING:

        @overload
        def __get__(self, settings: None, owner: type) -> Setting[T]: ...
        @overload
        def __get__(self, settings: object, owner: type) -> T: ...

    def __get__(self, settings: Any, owner: type) -> Setting[T] | T:
        return self if settings is None else settings._values[self.name]

    def __set__(self, settings: object, value: object) -> None:
        raise AttributeError(f"{self.name} cannot be changed: a Config is frozen")

    @property
    def environment(self) -> str | None:
        """The variable that sets it, over the configuration file."""
        return None if self.file_only else f"REMUDA_{self.name.upper()}"

    @property
    def summary(self) -> str:
        """The first sentence of its documentation, without the full stop."""
        first = self.doc.strip().split("\n\n", 1)[0]
        return " ".join(first.split()).removesuffix(".")


_CONFIG = "Config"
_SOCKET = "Socket"
_WORKERS = "Workers"
_LIMITS = "Limits"
_DEBUG = "Debug"
_MECHANICS = "Mechanics"
_PROXY = "Proxy"
_LOGGING = "Logging"
_NAMING = "Naming"
_HOOKS = "Server hooks"


class Settings:
    """The settings, in the order of the documentation. Config is this with values."""

    __slots__ = ()

    # Config

    config = Setting(
        _CONFIG,
        Maybe(Text("FILE")),
        None,
        flags=("-c", "--config"),
        doc="""Read this configuration file.

        A path (`file:PATH` is the same) or `python:MODULE`. A file whose name ends with `.toml`
        is TOML, any other is a Python file as gunicorn's. In a `pyproject.toml` the table
        `[tool.remuda]` counts; in any other TOML file the table `[remuda]` or, without one, the
        top level.

        Without it, the first of these in the working directory is read: `remuda.toml`,
        `pyproject.toml` if it has a `[tool.remuda]`, `remuda.conf.py`, `gunicorn.conf.py`.""",
    )
    wsgi_app = Setting(
        _CONFIG,
        Maybe(Text("APP")),
        None,
        flags=(),
        doc="""The application, for when the command line names none.

        `package.module:attribute`, `package.module` (its `application` or `app`), or a call with
        literal arguments: `package.module:create_app("production")`. WSGI, ASGI and
        `tornado.web.Application` are told apart by themselves.""",
    )

    # Socket

    bind = Setting(
        _SOCKET,
        Bind(),
        ("127.0.0.1:8000",),
        flags=("-b", "--bind"),
        variable="PORT",
        doc="""Listen on this address; can be given several times.

        `HOST`, `HOST:PORT`, `[::1]:PORT`, `unix:PATH` or `fd://N`; the port is 8000 where none is
        given, and an empty host means all of IPv4. Where the variable `PORT` is set, the default is
        `0.0.0.0:$PORT`. The mode of a unix socket follows from `umask`. `[::]` is all of IPv6 and,
        where the system is set so, of IPv4; beside an IPv4 address of the same port it is IPv6
        alone.""",
    )
    backlog = Setting(
        _SOCKET,
        Count(1, 65535),
        2048,
        doc="""How many connections may wait to be accepted.

        The kernel may lower it (Linux: `net.core.somaxconn`). The router accepts at once, so that
        it fills only while the router is being replaced, or out of descriptors.""",
    )

    # Workers

    workers = Setting(
        _WORKERS,
        Workers(1, 4096),
        1,
        flags=("-w", "--workers"),
        variable="WEB_CONCURRENCY",
        doc="""How many worker processes to run.

        `auto` means 2 x processors + 1, where the processors are those that this process may use: a
        container's share counts. The variable `WEB_CONCURRENCY` gives the default.""",
        differs="`auto`; and there is always at least one worker, where gunicorn takes 0.",
    )
    worker_class = Setting(
        _WORKERS,
        WorkerClass(),
        "sync",
        flags=("-k", "--worker-class"),
        doc="""How a worker schedules calls: sync, gthread, gevent, eventlet, tornado, asgi.

        Or a class of one's own as `package.module.Class`. `sync` with `threads` above 1 is
        `gthread`. When it is not set at all, an ASGI application gets `asgi` and a Tornado one
        `tornado` by themselves. One that does not show what it is, because it can be called with
        anything, is taken for WSGI then, with a warning; a class that is set is believed.""",
        differs="eventlet is still there, and an application that needs another class than sync "
        "gets it where none is chosen.",
    )
    threads = Setting(
        _WORKERS,
        Count(1, 4096),
        1,
        doc="""How many threads of a gthread worker call the application.""",
    )
    worker_connections = Setting(
        _WORKERS,
        Count(1, 65536),
        1000,
        doc="""How many requests a gevent, eventlet, tornado or asgi worker holds at once.""",
        differs="it counts requests, not connections, because the router holds the connections; "
        "and it counts in tornado and asgi as well.",
    )
    max_requests = Setting(
        _WORKERS,
        Count(),
        0,
        doc="""Replace a worker after so many requests; 0 means never.

        Its successor is ready before it goes.""",
    )
    max_requests_jitter = Setting(
        _WORKERS,
        Count(),
        0,
        doc="""Add up to so many requests to max_requests, at random for each worker.

        So that they are not all replaced at the same time.""",
    )
    timeout = Setting(
        _WORKERS,
        Seconds(),
        30,
        flags=("-t", "--timeout"),
        router=True,
        doc="""Replace a worker that has been silent for so long; 0 means never.

        In sync and gthread workers a request that gives no byte of response for so long is
        answered 504, and every Python stack of its worker goes to the error log. In event loops it
        is the loop that must not be blocked. Starting a worker has the same limit.""",
        differs="it bounds each request of gthread, too, and the start of a worker.",
    )
    router_timeout = Setting(
        _WORKERS,
        Seconds(),
        10,
        doc="""Replace a router that has not answered the arbiter for so long; 0 means never.

        Its connections are lost, the workers stay. The log says what it did instead of answering.
        Time in which the machine, or the arbiter with it, was suspended does not count. Set it to 0
        to look at a router with a debugger.""",
    )
    graceful_timeout = Setting(
        _WORKERS,
        Seconds(),
        30,
        doc="""How long requests may go on after TERM or a reload before they are cut.""",
    )
    request_timeout = Setting(
        _WORKERS,
        Seconds(),
        0,
        router=True,
        doc="""Answer 504 to a request that is not done after so long; 0 means never.

        For every worker class. The worker lives on.""",
    )
    keepalive = Setting(
        _WORKERS,
        Seconds(),
        75,
        flags=("--keep-alive",),
        router=True,
        doc="""How long an idle connection stays open for the next request; 0 closes it at once.""",
        differs="75 where gunicorn has 2: an idle connection costs the router some KiB here, not "
        "a worker or a thread, and must outlive the idle time of a load balancer in front "
        "(usually 60 s).",
    )
    asgi_loop = Setting(
        _WORKERS,
        Choice("auto", "asyncio", "uvloop"),
        "auto",
        doc="""The event loop of the asgi class: auto, asyncio or uvloop.

        `auto` is uvloop where that is installed.""",
    )
    asgi_lifespan = Setting(
        _WORKERS,
        Choice("auto", "on", "off"),
        "auto",
        doc="""Whether ASGI applications are told of start and end: auto, on or off.

        `on` refuses an application that does not know the lifespan protocol.""",
    )

    # Limits

    limit_request_line = Setting(
        _LIMITS,
        Size(0, 96 * KIB),
        4094,
        router=True,
        doc="""The longest request line in bytes; 414 beyond it.

        0 means whatever `limit_request_head` leaves.""",
        differs="0 is not without limit, because no buffer is; and it may go beyond 8190.",
    )
    limit_request_fields = Setting(
        _LIMITS,
        Count(0, 32768),
        100,
        router=True,
        doc="""The most header fields of a request; 431 beyond it. 0 means 32768.""",
    )
    limit_request_field_size = Setting(
        _LIMITS,
        Size(0, 96 * KIB),
        8190,
        router=True,
        flags=("--limit-request-field_size", "--limit-request-field-size"),
        doc="""The longest header field in bytes, name and value; 431 beyond it.

        0 means whatever `limit_request_head` leaves.""",
        differs="0 is not without limit, because no buffer is.",
    )
    limit_request_head = Setting(
        _LIMITS,
        Size(KIB, 96 * KIB),
        64 * KIB,
        router=True,
        doc="""The longest head of a request in bytes, all of it; 431 beyond it.""",
    )
    non_ascii_target = Setting(
        _LIMITS,
        Choice("encode", "refuse"),
        "encode",
        router=True,
        doc="""What to do with bytes beyond ASCII in a request's target: encode or refuse.

        No client should send them, but some send what their users typed. `encode` serves the
        request as if they had been percent-encoded; `refuse` answers 400.""",
    )
    limit_request_body = Setting(
        _LIMITS,
        Size(),
        GIB,
        router=True,
        doc="""The largest body of a request in bytes; 413 beyond it. 0 means no limit.

        A body is complete before a worker sees it, and beyond `request_buffer` it waits on
        disk: this is how much disk one client can take.""",
        differs="gunicorn has no limit. nginx's 1 MiB would break uploads that work under "
        "gunicorn; 1 GiB does not, and still keeps one request from filling a disk.",
    )
    max_queue = Setting(
        _LIMITS,
        Count(0, 1_000_000),
        2048,
        router=True,
        doc="""How many requests may wait for a worker; 503 with Retry-After beyond it.

        As many as gunicorn's default backlog lets wait.""",
    )
    queue_timeout = Setting(
        _LIMITS,
        Seconds(),
        60,
        router=True,
        doc="""How long a request may wait for a worker before 503; 0 means for ever.

        60 s is when most proxies give up. This wait has a bound of its own: it counts neither for
        `timeout` and `request_timeout` nor against `body_rate`.""",
    )
    header_timeout = Setting(
        _LIMITS,
        Seconds(0.001),
        10,
        router=True,
        doc="""How long a request's head may take from its first byte to its last; 408 after it.

        It does not begin again with each byte.""",
    )
    body_rate = Setting(
        _LIMITS,
        Size(per=" per second"),
        240,
        router=True,
        doc="""The fewest bytes per second a body must arrive with; 408 below it. 0 means any.

        An average, with ten seconds of grace at the start; and at most 60 s without movement,
        however fast it was before. It counts while the client is waited for: the wait for a worker
        is `queue_timeout`'s.""",
    )
    send_rate = Setting(
        _LIMITS,
        Size(per=" per second"),
        240,
        router=True,
        doc="""The fewest bytes per second a client must read; cut off below it. 0 means any.

        An average, with ten seconds of grace, and at most 60 s without movement, over the time in
        which bytes wait for the client: a stream with nothing to send is never cut off.""",
    )
    request_buffer = Setting(
        _LIMITS,
        Size(0, GIB),
        MIB,
        router=True,
        doc="""How many bytes of a request's body stay in memory; beyond it goes to a file.

        The file is in `tmp_upload_dir`, and has no name.""",
    )
    response_buffer = Setting(
        _LIMITS,
        Size(KIB, GIB),
        MIB,
        router=True,
        doc="""How many bytes of a response wait in memory for a slow client, then in a file.

        So that a slow reader never holds a worker.""",
    )
    response_spool_limit = Setting(
        _LIMITS,
        Size(),
        GIB,
        router=True,
        doc="""How many bytes of a response wait in a file before its worker must wait, too.

        0 keeps no file. Under asgi and tornado it is the application that waits, after
        `response_buffer`.""",
    )
    max_connections = Setting(
        _LIMITS,
        Count(0, 10_000_000),
        0,
        router=True,
        doc="""How many connections to hold; 0 means as many as there are descriptors for.

        Beyond it idle connections are closed first, then accepting pauses.""",
    )

    # Debug

    check_config = Setting(
        _DEBUG,
        Switch(),
        False,
        doc="""Check the configuration, load the application, and exit: 0 if all is well.""",
    )
    print_config = Setting(
        _DEBUG,
        Switch(),
        False,
        doc="""Print each setting with where its value came from, and exit.""",
        differs="the application is not loaded; --check-config does that.",
    )

    # Mechanics

    preload_app = Setting(
        _MECHANICS,
        Switch(),
        False,
        flags=("--preload",),
        doc="""Load the application before the workers are forked.

        They share its memory then, and start at once; HUP does not reload its code.""",
    )
    sendfile = Setting(
        _MECHANICS,
        Switch(False),
        True,
        flags=("--no-sendfile",),
        variable="SENDFILE",
        router=True,
        doc="""Send files with sendfile(2); the flag turns it off.

        The variable `SENDFILE` (yes or no) gives the default.""",
        differs="`sendfile = True` in a file means true; in gunicorn any value there means false.",
    )
    reuse_port = Setting(
        _MECHANICS,
        Switch(),
        False,
        doc="""Set SO_REUSEPORT on the listening sockets.""",
    )
    chdir = Setting(
        _MECHANICS,
        Text("DIR", empty=False),
        "",
        doc="""Go to this directory before the application is loaded.

        The configuration file is looked for where the command was started. The directory is put on
        `sys.path`.""",
    )
    raw_env = Setting(
        _MECHANICS,
        Environment(),
        (),
        flags=("-e", "--env"),
        doc="""Set an environment variable for the application; can be given several times.""",
    )
    pidfile = Setting(
        _MECHANICS,
        Maybe(Text("FILE")),
        None,
        flags=("-p", "--pid"),
        doc="""Write the arbiter's process id to this file.""",
    )
    user = Setting(
        _MECHANICS,
        User("user"),
        None,
        flags=("-u", "--user"),
        doc="""Run the router and the workers as this user; only root can.

        And as its primary group, unless `group` names one; `initgroups` adds its others.""",
        differs="not set, it is None, where gunicorn's is the effective user's id.",
    )
    group = Setting(
        _MECHANICS,
        User("group"),
        None,
        flags=("-g", "--group"),
        doc="""Run the router and the workers as this group; only root can.

        The primary group of `user` by default. A number that is no user of this machine has none:
        then it must be named.""",
        differs="not set, it is the primary group of `user`, where gunicorn stays in root's.",
    )
    umask = Setting(
        _MECHANICS,
        Maybe(Mask()),
        None,
        flags=("-m", "--umask"),
        doc="""The mode mask for unix sockets, log files and the files that the application makes.

        Text that begins with 0 is octal: `022`. Where it is not set, files get the mask that
        Remuda was started with, and unix sockets have mode 0777, as gunicorn's.""",
        differs="gunicorn's is for unix sockets alone; here a mask that is set, even 0, is the "
        "application's as well.",
    )
    initgroups = Setting(
        _MECHANICS,
        Switch(),
        False,
        doc="""With `user`, take on the other groups of that user, too.""",
    )
    no_new_privs = Setting(
        _MECHANICS,
        Switch(),
        False,
        doc="""Let no program that a worker starts gain privileges: set-uid bits have no effect.

        Off, because sudo, ping and the mail program of the system need them. The router starts no
        programs, and never gains any. Linux only.""",
    )
    tmp_upload_dir = Setting(
        _MECHANICS,
        Maybe(Text("DIR")),
        None,
        router=True,
        doc="""Where bodies that are too large for memory wait; the system's directory by default.

        The files have no name and are gone with their request. With a full disk the answer is
        507. Whether files can be made there is found out at the start.""",
        differs="there is a flag, and Remuda itself puts bodies there.",
    )
    pythonpath = Setting(
        _MECHANICS,
        Maybe(Text("DIRS")),
        None,
        doc="""Directories with commas between them to put on `sys.path`.""",
    )
    root_path = Setting(
        _MECHANICS,
        Text("PATH"),
        "",
        doc="""The path under which a proxy has mounted the application.

        WSGI's `SCRIPT_NAME` and ASGI's `root_path`.""",
    )

    # Proxy

    forwarded_allow_ips = Setting(
        _PROXY,
        Networks(),
        ("127.0.0.1", "::1"),
        variable="FORWARDED_ALLOW_IPS",
        router=True,
        doc="""Which proxies may set the scheme and the forwarder headers.

        Addresses and networks with commas between them; `*` is everybody, and a unix socket's peer
        is always trusted. The variable `FORWARDED_ALLOW_IPS` gives the default.""",
    )
    secure_scheme_headers = Setting(
        _PROXY,
        SchemeHeaders(),
        {
            "X-FORWARDED-PROTOCOL": "ssl",
            "X-FORWARDED-PROTO": "https",
            "X-FORWARDED-SSL": "on",
        },
        file_only=True,
        router=True,
        doc="""The headers with which a trusted proxy says that a client came over TLS.

        Each with the value that says so. Requests in which they contradict each other are
        refused.""",
    )
    forwarder_headers = Setting(
        _PROXY,
        Tokens(),
        ("SCRIPT_NAME", "PATH_INFO"),
        router=True,
        doc="""The headers with which a trusted proxy may set variables of the WSGI environment.""",
    )
    header_map = Setting(
        _PROXY,
        Choice("drop", "refuse", "dangerous"),
        "drop",
        router=True,
        doc="""What to do with underscores in header names: drop, refuse or dangerous.

        `X_Real_IP` and `X-Real-IP` are the same variable in WSGI, so that one could pass for the
        other. `drop` leaves such a header out, `refuse` answers 400, `dangerous` lets it
        through.""",
    )

    # Logging

    accesslog = Setting(
        _LOGGING,
        Maybe(Text("FILE")),
        None,
        flags=("--access-logfile",),
        router=True,
        doc="""The file for the access log; `-` is stdout.""",
    )
    access_log_format = Setting(
        _LOGGING,
        Text(empty=False),
        '%(h)s %(l)s %(u)s %(t)s "%(r)s" %(s)s %(b)s "%(f)s" "%(a)s"',
        flags=("--access-logformat",),
        router=True,
        doc="""What a line of the access log has; `json` is one JSON object a line.

        gunicorn's atoms: `h` peer address, `l` -, `u` user, `t` time, `r` request line, `m`
        method, `U` path, `q` query, `H` protocol, `s` status, `B` and `b` bytes of the body, `f`
        referrer, `a` user agent, `T`, `M`, `D`, `L` time taken in seconds, milliseconds,
        microseconds and decimal seconds, `p` process id of the worker in angle brackets, `{name}i`
        and `{name}o` a request's and a response's header; `{name}e` is always -. And Remuda's own:
        `Q` time in the queue in milliseconds, `w` process id of the worker.""",
        differs="variables of the environment, `{name}e`, are not known to the router, which "
        "writes the log.",
    )
    errorlog = Setting(
        _LOGGING,
        Text("FILE", empty=False),
        "-",
        flags=("--error-logfile", "--log-file"),
        doc="""The file for the error log; `-` is stderr.

        What an application gives to the loggers `gunicorn.error`, `gunicorn.access` and
        `remuda.error` of the standard library's logging goes there, too. Their level is
        `loglevel`.""",
    )
    loglevel = Setting(
        _LOGGING,
        Choice("debug", "info", "warning", "error", "critical", metavar="LEVEL"),
        "info",
        flags=("--log-level",),
        router=True,
        doc="""What the error log has: debug, info, warning, error or critical.""",
    )
    capture_output = Setting(
        _LOGGING,
        Switch(),
        False,
        doc="""Send stdout and stderr of the application to the error log's file.""",
    )

    # Naming

    proc_name = Setting(
        _NAMING,
        Maybe(Text()),
        None,
        flags=("-n", "--name"),
        doc="""The name in the processes' titles; the application by default.""",
    )

    # Server hooks, in the order of their calls

    nworkers_changed = Setting(
        _HOOKS,
        Callback("server", "new_value", "old_value"),
        None,
        file_only=True,
        doc="""Called after the number of workers was changed; the old one is None at first.""",
    )
    on_starting = Setting(
        _HOOKS,
        Callback("server"),
        None,
        file_only=True,
        doc="""Called before the sockets are made.""",
    )
    when_ready = Setting(
        _HOOKS,
        Callback("server"),
        None,
        file_only=True,
        doc="""Called when the server listens, before the first worker is forked.""",
    )
    pre_fork = Setting(
        _HOOKS,
        Callback("server", "worker"),
        None,
        file_only=True,
        doc="""Called in the arbiter before a worker is forked.""",
    )
    post_fork = Setting(
        _HOOKS,
        Callback("server", "worker"),
        None,
        file_only=True,
        doc="""Called in the worker after the fork, before the application is loaded.""",
    )
    post_worker_init = Setting(
        _HOOKS,
        Callback("worker"),
        None,
        file_only=True,
        doc="""Called in the worker when the application is loaded.""",
    )
    pre_request = Setting(
        _HOOKS,
        Callback("worker", "req"),
        None,
        file_only=True,
        doc="""Called in the worker before a request.""",
    )
    post_request = Setting(
        _HOOKS,
        Callback("worker", "req", "environ", "resp", fewer=2),
        None,
        file_only=True,
        doc="""Called in the worker after a request; may take only the first two or three.""",
    )
    worker_int = Setting(
        _HOOKS,
        Callback("worker"),
        None,
        file_only=True,
        doc="""Called in the worker on INT or QUIT.""",
    )
    worker_abort = Setting(
        _HOOKS,
        Callback("worker"),
        None,
        file_only=True,
        doc="""Called in the worker on ABRT.""",
    )
    worker_exit = Setting(
        _HOOKS,
        Callback("server", "worker"),
        None,
        file_only=True,
        doc="""Called in the worker when it ends.""",
    )
    child_exit = Setting(
        _HOOKS,
        Callback("server", "worker"),
        None,
        file_only=True,
        doc="""Called in the arbiter after a worker has ended.""",
    )
    on_reload = Setting(
        _HOOKS,
        Callback("server"),
        None,
        file_only=True,
        doc="""Called on HUP, before the new workers are forked.""",
    )
    on_exit = Setting(
        _HOOKS,
        Callback("server"),
        None,
        file_only=True,
        doc="""Called before the arbiter ends.""",
    )


SETTINGS: tuple[Setting[Any], ...] = tuple(
    setting for setting in vars(Settings).values() if isinstance(setting, Setting)
)
BY_NAME: dict[str, Setting[Any]] = {setting.name: setting for setting in SETTINGS}
BY_FLAG: dict[str, Setting[Any]] = {flag: s for s in SETTINGS for flag in s.flags}
