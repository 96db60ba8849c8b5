"""The command `remuda`: argv -> Config -> Arbiter, and what is printed when that fails."""

# pathlib would cost the arbiter 0.9 MiB.
# ruff: noqa: PTH109, PTH117, PTH121

from __future__ import annotations

import os
import sys

from . import config as configuration
from . import flags
from .errors import AppLoadError, RemudaError, UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from .config import Config

_USAGE = "remuda [OPTIONS] APP"


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code.

    0 for a good end, 1 for a fault, 2 for wrong usage, 3 for a worker that cannot start, 4 for an
    application that cannot be loaded, 130 for an interrupt before the arbiter runs.
    """
    argv = sys.argv[1:] if argv is None else argv
    try:
        return _run(argv)
    except RemudaError as error:
        print_error(error)
        return error.exit_code
    except KeyboardInterrupt:  # in a configuration file or an application that is slow to load
        return 130


def _run(argv: Sequence[str]) -> int:
    given = flags.parse(argv)
    if given.help:
        return _print(help_text())
    if given.version:
        from . import __version__

        return _print(f"remuda {__version__}")
    config = configuration.load(argv, os.environ, _directory(os.environ))
    for warning in config.warnings:
        print(f"remuda: warning: {warning}", file=sys.stderr)
    if config.print_config:
        _print(config.describe())
    if config.check_config:
        return _check(config)
    if config.print_config:
        return 0
    config.app  # noqa: B018 (raises when there is none)
    from .arbiter import Arbiter

    return Arbiter(config).run()


def _directory(environ: Mapping[str, str]) -> str:
    """The working directory, by the name that the shell has for it.

    A deployment may be a symbolic link to the newest release: HUP must follow it there.
    """
    here = os.getcwd()
    named = environ.get("PWD", "")
    try:
        return named if os.path.isabs(named) and os.path.samefile(named, here) else here
    except OSError:
        return here


def _check(config: Config) -> int:
    from . import app, logfile, pidfile, process, workers

    logfile.check("errorlog", config.errorlog, config)
    logfile.check("accesslog", config.accesslog, config)
    pidfile.check(config.pidfile)
    try:
        app.prepare(config)
        if warning := process.check_upload_dir(config):
            print(f"remuda: warning: {warning}", file=sys.stderr)
        application = app.load(config.app)
        workers.describe(config, application.kind)
        if (doubt := app.doubt(application, config)) is not None:
            print(f"remuda: warning: {doubt}", file=sys.stderr)
    except AppLoadError as error:
        print_error(error)
        return 1
    return 0


def print_error(error: RemudaError) -> None:
    """The user's own traceback, if that is the fault; then one line, and one with the fix."""
    if error.detail:
        print(error.detail.rstrip("\n"), file=sys.stderr)
    print(f"remuda: error: {error.message}", file=sys.stderr)
    if error.hint:
        print(f"remuda: {error.hint}", file=sys.stderr)
    elif isinstance(error, UsageError) and error.exit_code == 2:
        print(f"usage: {_USAGE}", file=sys.stderr)


def _print(text: str) -> int:
    try:
        print(text, flush=True)
    except BrokenPipeError:
        # `remuda --help | head`: nobody reads on. stdout must not be flushed again at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    return 0


def help_text(width: int = 80) -> str:
    """What --help prints: the flags by section, in lines of at most `width`."""
    import textwrap

    from .settings import SETTINGS

    lines = [
        f"usage: {_USAGE}",
        "",
        "Serve a Python web application: WSGI, ASGI or Tornado.",
        "",
        "  APP  module:attribute, module (its application or app), or a factory's call:",
        "       demo:app, demo, 'demo:create_app(\"production\")'",
        "",
        "A value in [brackets] is the default. docs/settings.md has all the rest.",
    ]

    def entry(names: Sequence[str], metavar: str, text: str) -> None:
        left = ", ".join(names) + (f" {metavar}" if metavar else "")
        left = f"  {left}" if not names[0].startswith("--") else f"      {left}"
        column = 30
        wrapped = textwrap.wrap(text, width - column, break_on_hyphens=False)
        if len(left) <= column - 2:
            lines.append(left.ljust(column) + wrapped.pop(0))
        else:
            lines.append(left)
        lines.extend(" " * column + line for line in wrapped)

    section = ""
    for setting in SETTINGS:
        if not setting.flags:
            continue
        if setting.section != section:
            section = setting.section
            lines += ["", f"{section}:"]
        # Of two spellings of a long flag the first is enough.
        short = [flag for flag in setting.flags if not flag.startswith("--")]
        long = [flag for flag in setting.flags if flag.startswith("--")]
        text = setting.summary
        if setting.kind.switch is None and setting.default not in (None, "", ()):
            text += f" [{setting.kind.show(setting.default)}]"
        entry([*short, long[0]], setting.kind.metavar, text)
    lines += ["", "Other:"]
    entry(flags.HELP, "", "Show this help and exit")
    entry(flags.VERSION, "", "Show the version and exit")
    return "\n".join(lines)
