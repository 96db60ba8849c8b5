"""No worker class was chosen: the application decides, loaded once in each worker."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import pytest

from .conftest import Serve
from .server import Server

# Each import leaves a line in the file `imports`.
NOTE = """
import os
fd = os.open(os.path.join({directory!r}, "imports"), os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o666)
os.write(fd, b"%d\\n" % os.getpid())
os.close(fd)
"""

WSGI = """
def app(environ, start_response):
    body = b"wsgi " + environ["wsgi.input"].read()
    start_response("200 OK", [("Content-Length", str(len(body)))])
    return [body]
"""

ASGI = """
async def app(scope, receive, send):
    if scope["type"] != "http":
        raise RuntimeError("no")
    body, more = b"asgi ", True
    while more:
        message = await receive()
        body, more = body + message.get("body", b""), message.get("more_body", False)
    fields = [(b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": 200, "headers": fields})
    await send({"type": "http.response.body", "body": body})
"""

TORNADO = """
import tornado.web
class Main(tornado.web.RequestHandler):
    def post(self):
        self.write(b"tornado " + self.request.body)
    get = post
app = tornado.web.Application([("/.*", Main)])
"""

KINDS = {
    "sync": ((), WSGI, "wsgi"),
    "gthread": (("--threads", "2"), WSGI, "wsgi"),
    "asgi": ((), ASGI, "asgi"),
    "tornado": ((), TORNADO, "tornado"),
}


def imports(server: Server) -> list[str]:
    """The processes that have imported the application, one for each time."""
    return (server.directory / "imports").read_text().split()


def post(server: Server, size: int = 100_000) -> str:
    """The first word of the answer to a body that must come back whole."""
    with server.connect() as client:
        word, _, body = client.post("/", b"x" * size).body.partition(b" ")
    assert body == b"x" * size
    return word.decode()


@pytest.mark.parametrize("name", KINDS)
def test_the_application_is_loaded_once_in_each_worker_and_nobody_is_killed(
    serve: Serve, tmp_path: Path, name: str
) -> None:
    arguments, text, word = KINDS[name]
    note = NOTE.format(directory=str(tmp_path))
    server = serve("-w", "3", *arguments, application=note + text)
    assert post(server) == word
    server.eventually("three imports", lambda: len(imports(server)) >= 3)
    server.says("Booting worker", times=3)
    workers = server.wait_workers(3)
    assert sorted(imports(server)) == sorted(str(pid) for pid in workers)
    assert server.log.count("Using worker: ") == 1
    assert f"Using worker: {name}" in server.log
    for text in ("SIGKILL", "exited", "exiting", "ERROR", "WARNING"):
        assert text not in server.log
    # One that comes later knows.
    server.signal(signal.SIGKILL, workers[0])
    server.eventually("a fourth", lambda: len(imports(server)) == 4)
    server.wait_workers(3)
    assert post(server) == word
    assert server.log.count("Using worker: ") == 1


def test_a_preloaded_application_decides_before_anything_is_forked(
    serve: Serve, tmp_path: Path
) -> None:
    note = NOTE.format(directory=str(tmp_path))
    server = serve("-w", "2", "--preload", application=note + ASGI)
    assert post(server) == "asgi"
    assert imports(server) == [str(server.pid)]
    assert server.log.index("Using worker: asgi") < server.log.index("Booting worker")
    # The code stays, and so does the class.
    server.signal(signal.SIGHUP)
    server.says("Reloaded: 2 new workers are ready")
    assert post(server) == "asgi"
    assert server.log.count("Using worker: ") == 1


def test_hup_onto_an_application_of_another_kind_changes_the_class(serve: Serve) -> None:
    server = serve("-w", "2", application=WSGI)
    load = server.load(3, keep=False)
    for number, (_, text, word) in enumerate(
        [KINDS["asgi"], KINDS["tornado"], KINDS["sync"], KINDS["asgi"]], 1
    ):
        server.write_application(text)
        server.signal(signal.SIGHUP)
        server.says("Reloaded: 2 new workers are ready", times=number)
        assert post(server) == word
        assert post(server, 3) == word
    assert set(load.finish()) == {"200"}, load.details
    assert "Reload failed" not in server.log


def test_hup_onto_an_application_of_another_kind_is_refused_where_a_class_was_chosen(
    serve: Serve,
) -> None:
    server = serve("-w", "1", "-k", "sync", application=WSGI)
    server.write_application(ASGI)
    server.signal(signal.SIGHUP)
    server.says("which worker class sync cannot run: use -k asgi")
    server.says("Reload failed: a new worker")
    assert post(server) == "wsgi"


def test_workers_that_do_not_agree_on_the_kind_are_a_boot_failure_and_no_loop(
    serve: Serve, tmp_path: Path
) -> None:
    first = f"""
import os
try:
    os.close(os.open({str(tmp_path / "first")!r}, os.O_CREAT | os.O_EXCL))
    first = True
except FileExistsError:
    first = False
"""
    branch = "\n".join("    " + line for line in WSGI.splitlines())
    other = "\n".join("    " + line for line in ASGI.splitlines())
    server = serve(
        "-w", "2", ready=False, application=f"{first}\nif first:\n{branch}\nelse:\n{other}\n"
    )
    # Either nobody serves yet, and that is the end; or the other one is tried again.
    said = "application, which worker class"
    server.eventually(
        "it ends or goes on", lambda: server.process.poll() == 3 or server.log.count(said) >= 3
    )
    assert server.log.count("Using worker: ") == 1
    assert server.log.count(said) < 20
    server.clean_up()


@pytest.mark.parametrize(
    ("text", "code"),
    [("import nowhere\n", 4), ("app = 5\n", 4), ("import os\nos._exit(5)\n", 3), ("1 / 0\n", 4)],
)
def test_an_application_that_does_not_load_ends_the_server(
    serve: Serve, text: str, code: int
) -> None:
    server = serve("-w", "2", application=text, ready=False)
    assert server.wait_exit() == code, server.log
    assert "python/remuda/" not in server.log
    server.assert_nothing_left()


def test_term_does_not_wait_for_an_import(serve: Serve) -> None:
    server = serve("-w", "2", application="import time\ntime.sleep(60)\n", ready=False)
    server.says("Booting worker", times=2)
    began = time.monotonic()
    server.signal(signal.SIGTERM)
    assert server.wait_exit() == 0
    assert time.monotonic() - began < 10
    server.assert_nothing_left()


def test_an_import_that_takes_too_long_shows_where(serve: Serve) -> None:
    server = serve(
        "-w", "1", "-t", "1", ready=False,
        application="import time\ndef slow():\n    time.sleep(60)\nslow()\n",
    )  # fmt: skip
    assert server.wait_exit() == 3
    assert "WORKER TIMEOUT" in server.log
    assert "in slow" in server.log


def test_the_stacks_of_a_worker_that_found_its_class_can_be_seen(serve: Serve) -> None:
    server = serve("-w", "1", application=ASGI)
    os.kill(server.workers[0], signal.SIGUSR2)
    server.says("Stacks of the tasks")
    server.says("most recent call first")


def test_what_an_application_binds_to_the_event_loop_at_its_import_runs(serve: Serve) -> None:
    text = """
import asyncio, warnings
warnings.simplefilter("ignore")
try:
    loop = asyncio.get_event_loop()
except RuntimeError:
    loop = asyncio.new_event_loop()
    asyncio.set_event_loop(loop)
ticks = []
async def tick():
    while True:
        ticks.append(1)
        await asyncio.sleep(0.01)
task = loop.create_task(tick())
async def app(scope, receive, send):
    if scope["type"] != "http":
        raise RuntimeError("no")
    while len(ticks) < 3:
        await asyncio.sleep(0.01)
    body = b"same" if loop is asyncio.get_running_loop() else b"other"
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": body})
"""
    server = serve("-w", "1", application=text)
    assert server.get().text == "same"


def test_a_signal_handler_of_the_application_stays(serve: Serve) -> None:
    text = """
import os, signal
def note(number, frame):
    os.write(2, b"handled by the application\\n")
signal.signal(signal.SIGHUP, note)
"""
    for arguments in ((), ("-k", "sync")):
        server = serve("-w", "1", *arguments, application=text + WSGI)
        os.kill(server.workers[0], signal.SIGHUP)
        server.says("handled by the application")
