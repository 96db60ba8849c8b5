"""Whoever dies: what the clients see, what the log says, and that nobody is left behind."""

from __future__ import annotations

import os
import re
import signal
import time
from pathlib import Path

import pytest

from .conftest import Serve, WorkerClass
from .load import Load
from .processes import alive, eventually, session, state

# Applications that die in the middle of a request: the target, what the log says of the worker.
DEATHS = [
    ("/exit?7", "exited with code 7"),
    ("/exit?0", "exited with code 0"),
    ("/segfault", "was killed by SIGSEGV"),
    ("/kill?9", "was killed by SIGKILL"),
    ("/kill?6", "exited with code 1"),
]


@pytest.mark.parametrize(("target", "how"), DEATHS, ids=[target for target, _ in DEATHS])
def test_a_worker_that_dies_in_a_request_is_502_and_named_in_the_log_and_replaced(
    serve: Serve, worker_class: WorkerClass, target: str, how: str
) -> None:
    server = serve("-w", "1", worker_class=worker_class)
    (pid,) = server.workers
    with server.connect() as client:
        response = client.get(target)
        assert response.status == 502
        # The connection lives on: a new worker serves it.
        assert client.get("/pid").text != str(pid)
    server.says(f"Worker (pid:{pid}) {how} while it served GET {target.partition('?')[0]}")
    server.says(f"Worker (pid:{pid}) {how}.")
    assert "out of memory" not in server.log
    server.wait_workers(1)


@pytest.mark.parametrize("code", ["3", "enough"])
def test_sys_exit_in_an_application_is_502_and_a_new_worker_comes(
    serve: Serve, worker_class: WorkerClass, code: str
) -> None:
    server = serve("-w", "1", worker_class=worker_class)
    (pid,) = server.workers
    assert server.get(f"/sysexit?{code}").status == 502
    assert server.get("/pid").text != str(pid)
    server.says("SystemExit in GET /sysexit")
    server.says(f"Worker (pid:{pid}) exited with code {3 if code == '3' else 1}")
    # The traceback shows where.
    assert "do_sysexit" in server.log
    if code == "enough":
        assert "enough" in server.log


def test_a_segfault_leaves_the_python_stack_in_the_log(serve: Serve) -> None:
    server = serve("-w", "1")
    assert server.get("/segfault").status == 502
    server.says("Fatal Python error: Segmentation fault")
    assert "do_segfault" in server.log


def test_a_worker_that_dies_within_a_response_cuts_the_connection(serve: Serve) -> None:
    server = serve("-w", "1")
    client = server.connect()
    client.request("/stream?2,30")
    assert client.head().status == 200
    assert client.chunk() == b"piece 0\n"
    server.signal(signal.SIGKILL, server.workers[0])
    # No last chunk: the body cannot pass for complete.
    assert client.rest() == b""
    assert server.get().status == 200


def test_an_exception_is_500_and_a_traceback_with_method_and_path(
    serve: Serve, worker_class: WorkerClass
) -> None:
    server = serve("-w", "1", worker_class=worker_class)
    (pid,) = server.workers
    with server.connect() as client:
        client.request("/raise?secret", "POST", b"x")
        response = client.response()
        assert response.status == 500
        assert "on purpose" not in response.text
        assert "Traceback" not in response.text
        # The same connection and the same worker live on.
        assert client.get("/pid").text == str(pid)
    server.says("POST /raise")
    assert 'raise RuntimeError("on purpose")' in server.log
    assert f"[{pid}] [ERROR] Error handling request POST /raise" in server.log


def test_an_exception_within_a_response_cuts_it(serve: Serve, worker_class: WorkerClass) -> None:
    server = serve("-w", "1", worker_class=worker_class)
    (pid,) = server.workers
    client = server.connect()
    # `do_late` is a generator function: its first block comes before it raises.
    client.request("/late")
    assert client.head().status == 200
    assert client.chunk() == b"a piece"
    assert client.rest() == b""
    server.says("late, on purpose")
    assert server.get("/pid").text == str(pid)


@pytest.mark.parametrize("keep", [True, False], ids=["keep-alive", "connection-per-request"])
def test_kill_9_of_a_worker_under_load_fails_only_what_it_had_begun(
    serve: Serve, worker_class: WorkerClass, keep: bool
) -> None:
    server = serve("-w", "3", worker_class=worker_class)
    load = server.load(8, "/sleep?0.02", keep=keep)
    kills = 4
    for _ in range(kills):
        victim = server.wait_workers(3)[0]
        server.signal(signal.SIGKILL, victim)
        server.wait_gone(victim)
        load.more(30)
    outcomes = load.finish()
    assert set(outcomes) <= {"200", "502"}, load.details
    assert outcomes["502"] <= kills * worker_class.slots, load.details
    # A line a death, with how many it served.
    served = re.findall(r"while it served GET /sleep(?: \((\d+)\))?", server.log)
    assert sum(int(number or 1) for number in served) == outcomes["502"]


def test_kill_9_of_an_idle_worker_is_noticed_by_nobody(serve: Serve) -> None:
    server = serve("-w", "2")
    load = server.load(1)
    for _ in range(3):
        victim = server.wait_workers(2)[1]
        # One client keeps one worker busy: the other one is idle or unbegun at most.
        server.signal(signal.SIGKILL, victim)
        server.wait_gone(victim)
        load.more(50)
    outcomes = load.finish()
    assert set(outcomes) <= {"200", "502"}
    assert outcomes["502"] <= 3


def test_kill_9_of_the_router_under_load_is_over_within_a_second(
    serve: Serve, worker_class: WorkerClass
) -> None:
    server = serve("-w", "2", worker_class=worker_class)
    before = server.identities(server.workers)
    load = server.load(8, keep=False)
    router = server.router
    started = time.monotonic()
    server.signal(signal.SIGKILL, router)
    server.wait_gone(router)
    load.more(100)
    # A second, with some more for a machine that is busy with other tests.
    assert time.monotonic() - started < 2.5
    outcomes = load.finish()
    # What was connected at that moment is lost, one request a client; who connects meanwhile waits.
    assert set(outcomes) <= {"200", "reset", "cut"}, load.details
    assert outcomes["reset"] + outcomes["cut"] <= 8, load.details
    # The workers are the same, and know no requests of the dead router any more.
    assert server.identities(server.workers) == before
    server.says(f"Router (pid:{router}) was killed by SIGKILL")


def test_a_request_that_was_running_when_the_router_died_frees_its_worker(
    serve: Serve, worker_class: WorkerClass
) -> None:
    server = serve("-w", "1", worker_class=worker_class)
    client = server.connect()
    client.request("/begin?1")
    server.eventually("it has begun", (server.directory / "begun").exists)
    pid = server.workers
    router = server.router
    server.signal(signal.SIGKILL, router)
    server.wait_gone(router)
    assert client.is_closed()
    assert [server.get("/pid").status for _ in range(5)] == [200] * 5
    assert server.workers == pid


def test_a_router_that_is_killed_again_and_again_comes_back(serve: Serve) -> None:
    server = serve("-w", "2")
    workers = server.identities(server.workers)
    for _ in range(3):
        router = server.router
        server.signal(signal.SIGKILL, router)
        server.wait_gone(router)
        assert server.get().status == 200
    assert server.identities(server.workers) == workers


def test_signals_still_work_after_the_router_was_replaced(serve: Serve) -> None:
    server = serve("-w", "1")
    router = server.router
    server.signal(signal.SIGKILL, router)
    server.wait_gone(router)
    assert server.get().status == 200
    server.signal(signal.SIGHUP)
    server.says("Reloaded: 1 new workers are ready")
    assert server.get().status == 200
    server.stop()


def test_a_router_that_is_stopped_is_replaced_and_the_workers_stay(
    serve: Serve, worker_class: WorkerClass
) -> None:
    server = serve("-w", "2", "--router-timeout", "1", worker_class=worker_class)
    before = server.identities(server.workers)
    router = server.router
    server.signal(signal.SIGSTOP, router)
    # It waits in the backlog until there is another router.
    assert server.get().status == 200
    server.says(f"ROUTER TIMEOUT (pid:{router}): no answer for 1 s: stopped (state T")
    server.says(f"Router (pid:{router}) was killed by SIGKILL")
    assert [server.get("/pid").status for _ in range(10)] == [200] * 10
    assert server.identities(server.workers) == before


def test_a_router_timeout_of_0_leaves_a_stopped_router_alone(serve: Serve) -> None:
    server = serve("-w", "1", "--router-timeout", "0")
    router = server.router
    server.signal(signal.SIGSTOP, router)
    client = server.connect()
    client.request()
    time.sleep(1)
    server.signal(signal.SIGCONT, router)
    assert client.response().status == 200
    assert server.router == router


@pytest.mark.parametrize("first", ["router", "arbiter"])
def test_a_router_that_was_suspended_with_the_arbiter_is_not_silent(
    serve: Serve, first: str
) -> None:
    server = serve("-w", "1", "--router-timeout", "1")
    router = server.router
    for _ in range(2):
        for pid in (server.pid, router):
            server.signal(signal.SIGSTOP, pid)
            server.eventually("it is stopped", lambda pid=pid: state(pid) == "T")
        # Twice as long as would be silence.
        time.sleep(2)
        both = [server.pid, router] if first == "arbiter" else [router, server.pid]
        for pid in both:
            server.signal(signal.SIGCONT, pid)
        assert server.get().status == 200
    # And it is still watched.
    assert "ROUTER TIMEOUT" not in server.log
    server.signal(signal.SIGSTOP, router)
    server.says("ROUTER TIMEOUT")
    assert server.get().status == 200


def test_kill_9_of_the_arbiter_under_load_leaves_no_orphans(
    serve: Serve, worker_class: WorkerClass
) -> None:
    server = serve("-w", "2", worker_class=worker_class)
    load = server.load(6, "/sleep?0.02", keep=False)
    slow = server.connect()
    slow.request("/begin?1")
    server.eventually("it has begun", (server.directory / "begun").exists)
    server.signal(signal.SIGKILL)
    # What has begun is finished; nothing that was sent is lost.
    assert slow.response().text == "slept"
    outcomes = load.finish()
    assert set(outcomes) <= {"200", "refused"}, load.details
    server.process.wait(5)
    server.assert_nothing_left()
    server.says("the arbiter is gone")


def test_workers_end_when_arbiter_and_router_die_at_once(
    serve: Serve, worker_class: WorkerClass
) -> None:
    server = serve("-w", "2", worker_class=worker_class)
    # Stopped, the arbiter cannot replace the router.
    server.signal(signal.SIGSTOP)
    server.signal(signal.SIGKILL, server.router)
    server.signal(signal.SIGKILL)
    server.process.wait(5)
    server.assert_nothing_left()


def test_a_crash_loop_has_growing_pauses_while_the_rest_serve(serve: Serve) -> None:
    server = serve("-w", "2")
    server.wait_serving(2)
    # From now on, a new worker dies as soon as it has loaded the application.
    server.write_application("import os\nos._exit(9)\n")
    load = server.load(3)
    victim = server.workers[0]
    server.signal(signal.SIGKILL, victim)
    server.says("exited with code 9", times=4)
    deaths = [
        line.split("]")[0] for line in server.log.splitlines() if "exited with code 9" in line
    ]
    # At once, then after 0.5 s, 1 s, 2 s, ...: some lines, not hundreds.
    load.more(50)
    assert set(load.finish()) <= {"200", "502"}
    assert len(deaths) < 8
    # When the code is mended, the crash loop ends by itself.
    server.write_application(
        "def app(e, s):\n    s('200 OK', [('Content-Length', '6')])\n    return [b'mended']\n"
    )
    server.signal(signal.SIGHUP)
    server.says("Reloaded: 2 new workers are ready")
    assert server.get().text == "mended"


def test_workers_that_die_in_requests_again_and_again_do_not_end_the_server(serve: Serve) -> None:
    server = serve("-w", "2")
    for _ in range(6):
        assert server.get("/exit?1").status in (502, 200)
    assert server.get("/").status == 200


def test_a_child_of_the_application_does_not_keep_the_channel_open(
    serve: Serve, tmp_path: Path
) -> None:
    # A program that a worker starts inherits no descriptor of ours: it would hide a death.
    server = serve(
        "-w",
        "1",
        application=(
            "import os, subprocess\n"
            "def app(environ, start_response):\n"
            "    child = subprocess.Popen(['sleep', '60'], close_fds=False)\n"
            "    start_response('200 OK', [])\n"
            "    return [str(child.pid).encode()]\n"
        ),
        ready=False,
    )
    child = int(server.get().text)
    try:
        links = [link.readlink() for link in Path(f"/proc/{child}/fd").iterdir()]
        left = [
            str(link) for link in links if not str(link).startswith((str(tmp_path), "/dev/null"))
        ]
        assert not left
    finally:
        assert child in session(server.pid)
        os.kill(child, signal.SIGKILL)
        eventually("it is dead", lambda: not alive(child))


def test_a_url_that_kills_its_worker_leaves_the_others_to_those_who_ask_for_something_else(
    serve: Serve, worker_class: WorkerClass
) -> None:
    server = serve("-w", "3", worker_class=worker_class)
    server.wait_serving(3)
    good = server.load(2)
    bad = [Load(server.address, 1, target) for target in ("/exit?7", "/segfault")]
    server.says("GET /exit: 3 workers died of it within 10 s")
    server.says("GET /segfault: 3 workers died of it within 10 s")
    server.says("Workers die again and again: ", times=2)
    good.more(100)
    for load in bad:
        # Each was tried, or told to come again.
        assert set(load.finish()) <= {"502", "503"}, load.details
    # Nobody waits for those that died: all is well at once.
    good.more(100)
    outcomes = good.finish()
    # What others asked for was lost where it was served by the same process, and not often.
    assert set(outcomes) <= {"200", "502"}, good.details
    assert outcomes["502"] <= 0.05 * outcomes.total(), outcomes
    # A few deaths are told; of the rest there are lines every few seconds.
    assert server.log.count("] [ERROR] Worker (pid:") <= 2 * 5
    assert "GET /exit" in server.log.partition("again and again")[2]


@pytest.mark.parametrize("name", ["sync", "asgi"])
def test_a_request_that_wipes_its_channel_kills_two_workers_and_no_third(
    serve: Serve, name: str
) -> None:
    wipe = """
import mmap, os
def wipe():
    for name in os.listdir("/proc/self/fd"):
        try:
            found = os.readlink("/proc/self/fd/" + name)
        except OSError:
            continue
        if "remuda-channel" in found:
            size = os.fstat(int(name)).st_size
            os.pwrite(int(name), bytes(size - 64), 64)
    with open("deaths", "a") as file:
        file.write("x")
    os._exit(9)
"""
    wsgi = """
def app(environ, start_response):
    if environ["PATH_INFO"] == "/wipe":
        wipe()
    start_response("200 OK", [("Content-Length", "2")])
    return [b"ok"]
"""
    asgi = """
async def app(scope, receive, send):
    if scope["type"] != "http":
        raise RuntimeError("no")
    if scope["path"] == "/wipe":
        wipe()
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"ok"})
"""
    text = {"sync": wsgi, "asgi": asgi}[name]
    server = serve("-w", "1", "-k", name, application=wipe + text)
    assert server.get("/wipe").status == 502
    assert 1 <= len((server.directory / "deaths").read_text()) <= 2
    assert server.get().text == "ok"
