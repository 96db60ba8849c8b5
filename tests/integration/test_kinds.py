"""Applications that do not show whether they are WSGI or ASGI, on the real server."""

from __future__ import annotations

from pathlib import Path

import pytest

from .conftest import Serve
from .server import run

WSGI = """
def inner(environ, start_response):
    start_response("200 OK", [])
    return [b"hello"]

class Wrapper:
    def __call__(self, *args, **kwargs):
        return inner(*args, **kwargs)

app = Wrapper()
"""

ASGI = """
async def inner(scope, receive, send):
    if scope["type"] == "http":
        await send({"type": "http.response.start", "status": 200})
        await send({"type": "http.response.body", "body": b"hello"})

class Wrapper:
    def __call__(self, *args, **kwargs):
        return inner(*args, **kwargs)

app = Wrapper()
"""

# As an error reporter's middleware: each instance has its own `__call__`.
SLOT = """
class Wrapper:
    __slots__ = ("__call__", "app")

    def __init__(self, app):
        self.app = app
        self.__call__ = self.run

    async def run(self, scope, receive, send):
        await self.app(scope, receive, send)

async def inner(scope, receive, send):
    if scope["type"] == "http":
        await send({"type": "http.response.start", "status": 200})
        await send({"type": "http.response.body", "body": b"hello"})

app = Wrapper(inner)
"""

SAYS = "app:app does not show whether it is WSGI or ASGI"


def test_without_a_class_it_is_wsgi_with_a_warning(serve: Serve) -> None:
    server = serve("-w", "1", application=WSGI)
    assert server.get("/").text == "hello"
    (line,) = (line for line in server.log.splitlines() if SAYS in line)
    assert "[WARNING]" in line
    assert "-k asgi" in line


@pytest.mark.parametrize("preload", [[], ["--preload"]])
@pytest.mark.parametrize(
    ("application", "worker_class"),
    [(WSGI, "sync"), (WSGI, "gevent"), (WSGI, "tornado"), (ASGI, "asgi")],
)
def test_a_class_that_is_chosen_is_believed(
    serve: Serve, application: str, worker_class: str, preload: list[str]
) -> None:
    server = serve("-w", "1", "-k", worker_class, *preload, application=application)
    assert server.get("/").text == "hello"
    assert SAYS not in server.log


@pytest.mark.parametrize("arguments", [[], ["-k", "asgi"]])
def test_an_instance_with_its_own_call_is_looked_at(serve: Serve, arguments: list[str]) -> None:
    server = serve("-w", "1", *arguments, application=SLOT)
    assert server.get("/").text == "hello"
    assert SAYS not in server.log


@pytest.mark.parametrize("arguments", [[], ["-k", "asgi"]])
def test_check_config_says_it_too(tmp_path: Path, arguments: list[str]) -> None:
    (tmp_path / "app.py").write_text(WSGI)
    code, _, stderr = run(tmp_path, "--check-config", *arguments, "app:app")
    assert code == 0
    assert (SAYS in stderr) == (not arguments)
