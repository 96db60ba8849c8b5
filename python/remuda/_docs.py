"""docs/settings.md from the table: `python -m remuda._docs > docs/settings.md`."""

from __future__ import annotations

from .absent import ABSENT
from .settings import SETTINGS, Setting

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_HEAD = """\
# Settings

<!-- Generated from python/remuda/settings.py by `python -m remuda._docs > docs/settings.md`. -->

Names, flags and meanings are gunicorn's, so that command lines and configuration files can move
over; where something differs, it says so and why.

## Where values come from

From weak to strong; each replaces what the ones before it say:

1. the defaults below
2. gunicorn's variables that give defaults: `WEB_CONCURRENCY`, `PORT`, `FORWARDED_ALLOW_IPS`,
   `SENDFILE`
3. the configuration file
4. `GUNICORN_CMD_ARGS`: flags, as on the command line
5. `REMUDA_<SETTING>`, for instance `REMUDA_WORKERS=4`; lists have commas between their parts, and
   an empty variable is one that is not set
6. `REMUDA_CMD_ARGS`: flags, as on the command line
7. the command line

`remuda --print-config` shows every value with its origin. `remuda --check-config demo:app` checks
them, and the application.

## Configuration files

`-c FILE` names one. Without it, the first of these in the directory where the command was started
is read: `remuda.toml`, `pyproject.toml` if it has a table `[tool.remuda]`, `remuda.conf.py`,
`gunicorn.conf.py`.

```toml
# remuda.toml
wsgi_app = "demo:app"
bind = ["0.0.0.0:8000", "unix:/run/demo.sock"]
workers = "auto"
limit_request_body = "50M"
```

```python
# gunicorn.conf.py or remuda.conf.py
bind = "0.0.0.0:8000"
workers = 4

def post_fork(server, worker):
    server.log.info("Worker spawned (pid: %s)", worker.pid)
```

A name in a TOML file that is no setting is an error. A Python file may have names of its own; one
that is nearly a setting's gets a warning.

Sizes are in bytes, and text may end with K, M or G (powers of 1024). Times are in seconds, and may
have a fraction.
"""

_ABSENT = """
## What gunicorn has and Remuda has not

Setting one of these ends the start with a line that says what to do instead, unless it is set to
nothing (`None`, `False`, `0`, `""`, `[]`). Those marked *warning* are passed over with a warning.

| setting | instead |
|---|---|
"""


def markdown() -> str:
    """The whole document."""
    parts = [_HEAD]
    section = ""
    for setting in SETTINGS:
        if setting.section != section:
            section = setting.section
            parts.append(f"\n## {section}\n")
        parts.append(_entry(setting))
    parts.append(_ABSENT)
    for absent in ABSENT.values():
        mark = "*warning*: " if absent.harmless else ""
        parts.append(f"| `{absent.name}` | {mark}{absent.instead} |\n")
    return "".join(parts)


def _entry(setting: Setting[Any]) -> str:
    flags = ", ".join(
        f"`{flag} {setting.kind.metavar}`" if setting.kind.switch is None else f"`{flag}`"
        for flag in setting.flags
    )
    default = setting.kind.show(setting.default)
    if setting.name == "chdir":
        default = "the working directory"
    lines = [
        f"\n### {setting.name}\n",
        f"- flag: {flags or 'none'}",
        f"- environment: `{setting.environment}`" if setting.environment else None,
        f"- default: `{default}`" + (f", or from `{setting.variable}`" if setting.variable else ""),
        f"- takes: {setting.kind.takes()}",
        "",
        "\n".join(line.strip() for line in setting.doc.strip().splitlines()),
    ]
    if setting.differs:
        lines += ["", f"Differs from gunicorn: {setting.differs}"]
    return "\n".join(line for line in lines if line is not None) + "\n"


if __name__ == "__main__":
    print(markdown(), end="")
