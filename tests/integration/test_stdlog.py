"""Applications that log to gunicorn's loggers, in every class."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from .conftest import Serve

# Flask's usual recipe, before and in requests.
RECIPE = """
import logging, os, sys

logger = logging.getLogger("app")
gunicorn = logging.getLogger("gunicorn.error")
logger.handlers = gunicorn.handlers
logger.setLevel(gunicorn.level)
logger.info("imported by %d", os.getpid())

def note(path):
    logger.info("asked for %s", path)
    logging.getLogger("gunicorn.error").warning("error: %s", path)
    logging.getLogger("gunicorn.access").info("access: %s", path)
"""

WSGI = (
    RECIPE
    + """
def app(environ, start_response):
    note(environ["PATH_INFO"])
    start_response("200 OK", [])
    return [b"hello"]
"""
)

ASGI = (
    RECIPE
    + """
async def app(scope, receive, send):
    if scope["type"] == "http":
        note(scope["path"])
        await send({"type": "http.response.start", "status": 200})
        await send({"type": "http.response.body", "body": b"hello"})
"""
)

TORNADO = (
    RECIPE
    + """
import tornado.web

class Handler(tornado.web.RequestHandler):
    def get(self):
        note(self.request.path)

app = tornado.web.Application([("/.*", Handler)])
"""
)

CLASSES = {
    "sync": (WSGI, "-k", "sync"),
    "sync, preloaded": (WSGI, "-k", "sync", "--preload"),
    "gthread": (WSGI, "-k", "gthread", "--threads", "4"),
    "gevent": (WSGI, "-k", "gevent"),
    "eventlet": (WSGI, "-k", "eventlet"),
    "tornado": (TORNADO, "-k", "tornado"),
    "asgi": (ASGI, "-k", "asgi"),
    "asgi by itself": (ASGI,),
}


@pytest.mark.parametrize("case", CLASSES)
def test_no_record_is_lost_or_written_twice(serve: Serve, case: str) -> None:
    application, *arguments = CLASSES[case]
    server = serve("-w", "1", *arguments, application=application)
    (worker,) = server.workers
    importer = server.pid if "--preload" in arguments else worker
    server.get("/a")
    for pid, text in [
        (importer, f"[INFO] imported by {importer}"),
        (worker, "[INFO] asked for /a"),
        (worker, "[WARNING] error: /a"),
        (worker, "[INFO] access: /a"),
    ]:
        lines = [line for line in server.log.splitlines() if line.endswith(f"[{pid}] {text}")]
        assert len(lines) == 1, server.log


def test_records_of_hooks_are_written_too(serve: Serve, tmp_path: Path) -> None:
    hook: Callable[[str], str] = lambda name: (  # noqa: E731
        f"def {name}(*_):\n"
        f"    import logging; logging.getLogger('gunicorn.error').info('hook %s', '{name}')\n"
    )
    names = ("on_starting", "when_ready", "post_fork", "post_worker_init")
    (tmp_path / "gunicorn.conf.py").write_text("".join(map(hook, names)))
    server = serve("-w", "1")
    for name in names:
        assert server.log.count(f"[INFO] hook {name}\n") == 1, server.log
