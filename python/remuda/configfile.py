"""Configuration files: a Python file as gunicorn's, a Python module, or TOML."""

# pathlib would cost the arbiter 0.9 MiB.
# ruff: noqa: PTH118, PTH112, PTH113, PTH119, PTH120, PTH123, PTH208

from __future__ import annotations

import os
import sys
from types import CodeType, FunctionType, ModuleType

from .absent import ABSENT
from .errors import ConfigError
from .settings import BY_NAME
from .values import did_you_mean

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import TracebackType
    from typing import Any

NAMES = ("remuda.toml", "pyproject.toml", "remuda.conf.py", "gunicorn.conf.py")

# They choose what the command does; a file, once found, cannot.
_COMMAND_LINE_ONLY = ("config", "check_config", "print_config")


class ConfigFile:
    """What one file gives. `label` is how messages call it."""

    __slots__ = ("label", "values", "warnings")

    def __init__(self, label: str) -> None:
        self.label = label
        self.values: dict[str, object] = {}
        self.warnings: list[str] = []


def find(directory: str) -> str | None:
    """The name of the file that is read when none is named."""
    for name in NAMES:
        path = os.path.join(directory, name)
        if not os.path.isfile(path):
            continue
        if name != "pyproject.toml" or _table(_read_toml(path, name, b"remuda"), name) is not None:
            return name
    return None


def read(location: str, directory: str) -> ConfigFile:
    """Read a file, or `python:MODULE`. Relative paths are relative to `directory`.

    Raises ConfigError when it is not there or cannot be read or run, or (TOML) for a key that is
    no setting. The values are not checked yet.
    """
    if location.startswith("python:"):
        file = ConfigFile(location)
        _collect_python(file, _import(location.removeprefix("python:"), location))
        return file
    location = location.removeprefix("file:")
    file = ConfigFile(location)
    path = os.path.join(directory, location)
    if not os.path.isfile(path):
        raise _missing(location, path)
    if path.endswith(".toml"):
        table = _table(_read_toml(path, location), location)
        if table is None:
            raise ConfigError(f"{location} has no table [tool.remuda]")
        _collect_toml(file, table)
    else:
        _collect_python(file, _run(path, location))
    return file


def _missing(location: str, path: str) -> ConfigError:
    if os.path.isdir(path):
        return ConfigError(f"{location} is a directory, not a configuration file")
    folder = os.path.dirname(path)
    try:
        close = did_you_mean(os.path.basename(path), os.listdir(folder))
    except OSError:
        return ConfigError(f"there is no configuration file {location}: no directory {folder}")
    hint = f"did you mean {os.path.join(os.path.dirname(location), close)}?" if close else None
    return ConfigError(f"there is no configuration file {location} (in {folder})", hint)


# Python


def _run(path: str, label: str) -> dict[str, Any]:
    try:
        with open(path, "rb") as source:
            text = source.read()
    except OSError as error:
        raise ConfigError(f"cannot read {label}: {error.strerror}") from None
    hint = None
    if not path.endswith((".py", ".conf")):
        hint = "it is read as Python; the name of a TOML file ends with .toml"
    try:
        code: CodeType = compile(text, path, "exec", dont_inherit=True)
    except SyntaxError as error:
        raise ConfigError(f"{label}:{error.lineno}: SyntaxError: {error.msg}", hint) from None
    except ValueError as error:
        raise ConfigError(f"{label}: {error}", hint) from None
    module = ModuleType("__config__")
    module.__file__ = path
    sys.modules["__config__"] = module
    try:
        exec(code, module.__dict__)
    except (Exception, SystemExit) as error:
        raise _raised(error, label, path) from error
    return vars(module)


def _import(name: str, label: str) -> dict[str, Any]:
    import importlib

    sys.modules.pop(name, None)  # so that a reload reads it again
    try:
        return vars(importlib.import_module(name))
    except ModuleNotFoundError as error:
        if error.name is None or not f"{name}.".startswith(f"{error.name}."):
            raise _raised(error, label, None) from error
        raise ConfigError(
            f"there is no module {error.name} for the configuration {label}",
            "it is looked for in the working directory and on PYTHONPATH",
        ) from None
    except (Exception, SystemExit) as error:
        raise _raised(error, label, None) from error


def _raised(error: BaseException, label: str, path: str | None) -> ConfigError:
    # The user's mistake in one line: where their file stood, and what went wrong.
    if isinstance(error, SyntaxError) and error.filename:
        return ConfigError(f"{label}: {error.filename}:{error.lineno}: SyntaxError: {error.msg}")
    line, deepest = None, ""
    frame: TracebackType | None = error.__traceback__
    while frame is not None:
        name = frame.tb_frame.f_code.co_filename
        if name == path:
            line = frame.tb_lineno
            deepest = ""
        elif name != __file__ and not name.startswith("<frozen"):
            deepest = f" ({name}:{frame.tb_lineno})"
        frame = frame.tb_next
    where = label if line is None else f"{label}:{line}"
    text = " ".join(str(error).split())
    return ConfigError(f"{where}: {type(error).__name__}{': ' if text else ''}{text}{deepest}")


def _collect_python(file: ConfigFile, names: dict[str, Any]) -> None:
    for name, value in names.items():
        if name.startswith("_") or isinstance(value, ModuleType):
            continue
        if name in BY_NAME:
            _take(file, name, value)
        elif name in ABSENT:
            # `from importlib import reload` is no setting; `def pre_exec(server)` is one.
            if not (isinstance(value, FunctionType) and ABSENT[name].flags):
                _refuse_absent(file, name, value)
        elif not name.isupper():
            # As in gunicorn, a configuration file may have names of its own.
            wants = callable(value)
            alike = [n for n, s in BY_NAME.items() if (s.section == "Server hooks") == wants]
            close = did_you_mean(name, alike, 0.85)
            if close:
                file.warnings.append(f"{file.label}: {name} is no setting; did you mean {close}?")


# TOML


def _read_toml(path: str, label: str, must_have: bytes = b"") -> dict[str, Any]:
    try:
        with open(path, "rb") as source:
            text = source.read()
    except OSError as error:
        raise ConfigError(f"cannot read {label}: {error.strerror}") from None
    if must_have not in text:
        return {}  # tomllib is 1.4 MiB of modules, which a foreign pyproject.toml does not cost
    if sys.version_info >= (3, 11):
        import tomllib
    else:
        import tomli as tomllib  # type: ignore[import-not-found,unused-ignore]
    try:
        document: dict[str, Any] = tomllib.loads(text.decode("utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{label} is not good TOML: {error}") from None
    return document


def _table(document: dict[str, Any], label: str) -> dict[str, Any] | None:
    """The settings of a document. None: a pyproject.toml without [tool.remuda]."""
    if os.path.basename(label) == "pyproject.toml":
        tools = document.get("tool", {})
        table = tools.get("remuda") if isinstance(tools, dict) else None
        where = "tool.remuda"
    else:
        table = document.get("remuda", document)
        where = "remuda"
        others = [key for key in document if key != "remuda"]
        if table is not document and others:
            raise ConfigError(f"{label}: {others[0]} is outside the table [remuda]")
    if table is None or isinstance(table, dict):
        return table
    raise ConfigError(f"{label}: {where} must be a table: [{where}]")


def _collect_toml(file: ConfigFile, table: dict[str, Any]) -> None:
    for name, value in table.items():
        if name in BY_NAME:
            _take(file, name, value)
        elif name in ABSENT:
            _refuse_absent(file, name, value)
        else:
            close = did_you_mean(name.replace("-", "_"), BY_NAME)
            hint = f"did you mean {close}?" if close else "docs/settings.md lists them"
            raise ConfigError(f"{file.label}: there is no setting {name}", hint)


# Both


def _take(file: ConfigFile, name: str, value: object) -> None:
    if name in _COMMAND_LINE_ONLY:
        file.warnings.append(f"{file.label}: {name} has no effect in a configuration file")
    else:
        file.values[name] = value


def _refuse_absent(file: ConfigFile, name: str, value: object) -> None:
    absent = ABSENT[name]
    if absent.harmless:
        if value:
            file.warnings.append(absent.says(f"{file.label}: {name}"))
    elif value:
        raise ConfigError(absent.says(f"{file.label}: {name}"))
