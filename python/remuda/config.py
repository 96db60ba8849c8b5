"""The settings' values: layered, checked, frozen.

From weak to strong:

1. the defaults
2. gunicorn's variables that give defaults: WEB_CONCURRENCY, PORT, FORWARDED_ALLOW_IPS, SENDFILE
3. the configuration file
4. GUNICORN_CMD_ARGS
5. REMUDA_<SETTING>
6. REMUDA_CMD_ARGS
7. the command line

A layer replaces what a weaker one says; lists do not add up across layers.
"""

# pathlib would cost the arbiter 0.9 MiB.
# ruff: noqa: PTH112, PTH118

from __future__ import annotations

import os
import sys

from . import configfile, flags
from .errors import AppLoadError, ConfigError, RemudaError, UsageError
from .kinds import WorkerClass
from .settings import BY_NAME, SETTINGS, Settings
from .values import did_you_mean, parse_address

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from typing import Any

    from .values import Address

_COMMAND_LINE = "command line"
_DEFAULT = "default"
_APPLICATION = "the application"
_PRIMARY = "the user's primary group"


class Config(Settings):
    """The value of every setting, as an attribute of its name.

    `origins` says where each came from, `warnings` what the user should be told, `file` which
    configuration file was read.
    """

    __slots__ = ("_source", "_values", "file", "origins", "warnings")

    def __init__(
        self,
        values: dict[str, Any],
        origins: dict[str, str],
        warnings: tuple[str, ...],
        file: str | None,
        source: tuple[Sequence[str], Mapping[str, str], str],
    ) -> None:
        self._values = values
        self.origins = origins
        self.warnings = warnings
        self.file = file
        self._source = source

    def reload(self) -> Config:
        """Read everything again, from the same command line, environment and directory.

        Raises ConfigError or UsageError; this Config stays as it is.
        """
        return load(*self._source)

    def run_by(self, worker_class: str | type) -> Config:
        """The same, with the worker class that the application turned out to need."""
        values = {**self._values, "worker_class": worker_class}
        origins = {**self.origins, "worker_class": _APPLICATION}
        return Config(values, origins, self.warnings, self.file, self._source)

    @property
    def app(self) -> str:
        """The application's name. Raises UsageError when there is none."""
        if self.wsgi_app is None:
            raise UsageError("no application is named", "try: remuda MODULE:ATTRIBUTE")
        return self.wsgi_app

    @property
    def address(self) -> list[Address]:
        """What `bind` means: (host, port), an absolute path, or a descriptor's number."""
        addresses = [parse_address(text) for text in self.bind]
        return [os.path.join(self.chdir, a) if isinstance(a, str) else a for a in addresses]

    @property
    def env(self) -> dict[str, str]:
        """`raw_env` by name."""
        pairs = (text.partition("=") for text in self.raw_env)
        return {key: value for key, _, value in pairs}

    @property
    def import_paths(self) -> list[str]:
        """What belongs at the front of `sys.path`: pythonpath, then the directory."""
        given = [path.strip() for path in (self.pythonpath or "").split(",")]
        paths = [os.path.normpath(os.path.join(self.chdir, path)) for path in given if path]
        # gunicorn puts each in front of the one before.
        return [*reversed(paths), self.chdir]

    @property
    def upload_dir(self) -> str:
        """`tmp_upload_dir`, or the system's directory for temporary files."""
        return self.tmp_upload_dir or os.environ.get("TMPDIR") or "/tmp"

    @property
    def is_class_chosen(self) -> bool:
        """Whether the user, or the application once it was loaded, has chosen the worker class."""
        return self.origins["worker_class"] != _DEFAULT

    def worker_class_for(self, kind: str | None = None) -> str | type:
        """The class that runs an application of this kind: "wsgi", "asgi" or "tornado".

        None: the kind is not known yet, because the application is loaded in the worker.
        Raises AppLoadError when the class that was chosen cannot run such an application.
        """
        chosen = self.worker_class
        if not self.is_class_chosen and kind in ("asgi", "tornado"):
            return kind
        if chosen == "sync" and self.threads > 1:
            chosen = "gthread"
        runs = {"asgi": ("asgi",), "tornado": ("wsgi", "tornado")}.get(str(chosen), ("wsgi",))
        if kind is None or kind in runs or chosen not in WorkerClass.NAMES:
            return chosen
        what = {"wsgi": "a WSGI", "asgi": "an ASGI", "tornado": "a Tornado"}[kind]
        fix = {"wsgi": "-k sync, gthread or gevent", "asgi": "-k asgi", "tornado": "-k tornado"}
        raise AppLoadError(
            f"{self.wsgi_app} is {what} application, which worker class {chosen} cannot run",
            f"use {fix[kind]}",
        )

    def router_options(self) -> dict[str, Any]:
        """The settings that the router reads, by name, as JSON can say them."""
        options = {s.name: self._values[s.name] for s in SETTINGS if s.router}
        for name in ("limit_request_line", "limit_request_field_size"):
            options[name] = options[name] or self.limit_request_head
        options["tmp_upload_dir"] = self.upload_dir
        options["limit_request_fields"] = options["limit_request_fields"] or 32768
        return {k: [*v] if isinstance(v, tuple) else v for k, v in options.items()}

    def describe(self) -> str:
        """Each setting, its value, and where that came from; a line each."""
        shown = [
            (f"{s.name} = {s.kind.show(self._values[s.name])}", self.origins[s.name])
            for s in SETTINGS
        ]
        return "\n".join(f"{text:<40}  ({origin})" for text, origin in shown)


def load(argv: Sequence[str], environ: Mapping[str, str], cwd: str) -> Config:
    """Read all layers. `argv` is without the program's name; `cwd` is an absolute directory.

    Python configuration files are run, with `cwd` on `sys.path`. Nothing else is touched.
    Raises UsageError, or ConfigError for a value that cannot be.
    """
    argv, environ = tuple(argv), dict(environ)
    layers = _Layers()
    line = flags.parse(argv)
    ours = _arguments(environ, "REMUDA_CMD_ARGS")
    theirs = _arguments(environ, "GUNICORN_CMD_ARGS")

    layers.put_gunicorn_defaults(environ)
    location = (
        line.values.get("config")
        or ours.values.get("config")
        or environ.get("REMUDA_CONFIG")
        or theirs.values.get("config")
        or configfile.find(cwd)
    )
    if location is not None:
        if cwd not in sys.path:
            sys.path.insert(0, cwd)
        file = configfile.read(str(location), cwd)
        layers.warnings += file.warnings
        for name, value in file.values.items():
            layers.put(name, value, file.label, f"{file.label}: {name}")
    layers.put_given(theirs, "GUNICORN_CMD_ARGS")
    layers.put_environment(environ)
    layers.put_given(ours, "REMUDA_CMD_ARGS")
    layers.put_given(line, _COMMAND_LINE)
    if line.words:
        layers.put("wsgi_app", line.words[0], _COMMAND_LINE, "the application")
    if len(line.words) > 1:
        raise UsageError(
            f"one application at a time: {line.words[0]} or {line.words[1]}?",
            "options that take a value need it right after them",
        )

    values = layers.values
    if location is not None:
        values["config"] = str(location)
    _resolve_paths(values, cwd, layers.origins["chdir"])
    _complete_group(values, layers.origins)
    if values["proc_name"] is None:
        values["proc_name"] = values["wsgi_app"] or "remuda"
    config = Config(
        values, layers.origins, (), str(location) if location else None, (argv, environ, cwd)
    )
    layers.warnings += _check_together(config)
    config.warnings = tuple(layers.warnings)
    return config


class _Layers:
    """The values so far; each layer is put over the weaker ones."""

    def __init__(self) -> None:
        self.values: dict[str, Any] = {s.name: s.default for s in SETTINGS}
        self.origins: dict[str, str] = {s.name: _DEFAULT for s in SETTINGS}
        self.warnings: list[str] = []

    def put(self, name: str, value: object, origin: str, label: str) -> None:
        """Take a value. `label` is what a message calls it by."""
        try:
            self.values[name] = BY_NAME[name].kind.convert(value)
        except ValueError as error:
            raise ConfigError(f"{label} {error}") from None
        self.origins[name] = origin

    def put_gunicorn_defaults(self, environ: Mapping[str, str]) -> None:
        for setting in SETTINGS:
            text = environ.get(setting.variable or "")
            if text:
                if setting.variable == "PORT":
                    text = f"0.0.0.0:{text}"
                assert setting.variable is not None
                self.put(setting.name, text, setting.variable, setting.variable)

    def put_environment(self, environ: Mapping[str, str]) -> None:
        known = {f"REMUDA_{s.name.upper()}": s for s in SETTINGS if not s.file_only}
        for variable, text in environ.items():
            if not variable.startswith("REMUDA_"):
                continue
            setting = known.get(variable)
            if setting is None:
                self._hint_at(variable, known)
            elif text:  # an empty variable is one that is not set
                self.put(setting.name, setting.kind.split(text), variable, variable)

    def _hint_at(self, variable: str, known: Iterable[str]) -> None:
        # Kubernetes makes REMUDA_SERVICE_HOST and such for a service of that name: no error.
        if variable == "REMUDA_CMD_ARGS":
            return
        close = did_you_mean(variable, known, 0.9)
        if close:
            self.warnings.append(f"{variable} sets nothing; did you mean {close}?")

    def put_given(self, given: flags.Given, origin: str) -> None:
        prefix = "" if origin == _COMMAND_LINE else f"{origin}: "
        for absent, flag, text in given.absent:
            said = absent.says(f"{prefix}{flag}")
            if not absent.harmless and (text or not absent.takes_value):
                raise ConfigError(said)
            self.warnings.append(said)
        for name, value in given.values.items():
            self.put(name, value, origin, f"{prefix}{_long_flag(name)}")


def _long_flag(name: str) -> str:
    return next(flag for flag in BY_NAME[name].flags if flag.startswith("--"))


def _arguments(environ: Mapping[str, str], variable: str) -> flags.Given:
    text = environ.get(variable, "")
    if not text:
        return flags.Given()
    import shlex

    try:
        given = flags.parse(shlex.split(text))
    except ValueError as error:
        raise UsageError(f"{variable}: {error} in {text!r}") from None
    except RemudaError as error:
        raise UsageError(f"{variable}: {error.message}", error.hint, error.exit_code) from None
    if given.words or given.help or given.version:
        word = given.words[0] if given.words else "--help or --version"
        raise UsageError(f"{variable}: {word} does not belong there: it has options for settings")
    return given


def _resolve_paths(values: dict[str, Any], cwd: str, origin: str) -> None:
    values["chdir"] = os.path.normpath(os.path.join(cwd, values["chdir"]))
    if not os.path.isdir(values["chdir"]):
        raise ConfigError(f"chdir: there is no directory {values['chdir']} ({origin})")
    for name in ("accesslog", "errorlog", "pidfile", "tmp_upload_dir"):
        if values[name] not in (None, "-"):
            values[name] = os.path.join(values["chdir"], values[name])
    if values["tmp_upload_dir"] is not None and not os.path.isdir(values["tmp_upload_dir"]):
        raise ConfigError(f"tmp_upload_dir: there is no directory {values['tmp_upload_dir']}")


def _complete_group(values: dict[str, Any], origins: dict[str, str]) -> None:
    """Whoever becomes another user becomes a member of its group, too: root's would stay."""
    user = values["user"]
    if user in (None, 0) or values["group"] is not None or os.geteuid() != 0:
        return
    import pwd

    try:
        values["group"] = pwd.getpwuid(user).pw_gid
    except KeyError:
        raise ConfigError(
            f"user: {user} is no user of this machine, so that its group is not known",
            "name the group, too (--group)",
        ) from None
    origins["group"] = _PRIMARY


def _check_together(config: Config) -> list[str]:
    """What no setting shows alone. Raises ConfigError; returns warnings."""
    for name in ("limit_request_line", "limit_request_field_size"):
        value = getattr(config, name)
        if value > config.limit_request_head:
            raise ConfigError(
                f"{name} is {value}, but a whole head may only have {config.limit_request_head}",
                f"raise limit_request_head ({config.origins['limit_request_head']}), too",
            )
    for name, wanted, own in (
        ("user", config.user, os.geteuid()),
        ("group", config.group, os.getegid()),
    ):
        if wanted not in (None, own) and os.geteuid() != 0:
            raise ConfigError(f"{name}: only root can change it", "start as root, or leave it out")
    warnings = []
    if config.threads > 1 and config.worker_class in ("gevent", "eventlet", "tornado", "asgi"):
        warnings.append(f"threads has no effect on worker class {config.worker_class}")
    if config.initgroups and config.user is None:
        warnings.append("initgroups has no effect without user")
    if config.capture_output and config.errorlog == "-":
        warnings.append("capture_output has no effect without a file for errorlog")
    if config.max_requests_jitter and not config.max_requests:
        warnings.append("max_requests_jitter has no effect without max_requests")
    return warnings
