"""The arbiter on real processes and signals; router and workers are stand-ins."""

from __future__ import annotations

import os
import re
import signal
import socket
import time
from pathlib import Path

import pytest

from arbiter_driver import Driver, alive, eventually


@pytest.fixture
def server(tmp_path):
    driver = Driver(tmp_path)
    yield driver
    driver.cleanup()


def threads(pid: int) -> int:
    return len(list(Path(f"/proc/{pid}/task").iterdir()))


def title(pid: int) -> str:
    return Path(f"/proc/{pid}/cmdline").read_bytes().strip(b"\0").decode()


# The start


def test_the_start_is_logged_in_gunicorn_s_words(server):
    pids = server.started(2)
    log = server.log()
    for line in (
        r"\[INFO\] Starting remuda \d+\.\d+",
        rf"\[INFO\] Listening at: http://127\.0\.0\.1:\d+ \({server.pid}\)",
        r"\[INFO\] Using worker: sync",
        *(rf"\[{pid}\] \[INFO\] Booting worker with pid: {pid}" for pid in pids),
    ):
        assert re.search(line, log), line
    server.signal(signal.SIGTERM)
    assert server.wait() == 0
    assert "[INFO] Handling signal: term" in server.log()
    assert "[INFO] Shutting down: Master" in server.log()
    assert "Traceback" not in server.log()


def test_processes_are_named(server):
    (worker,) = server.started(1)
    assert title(server.pid) == "remuda: arbiter [demo:app]"
    assert title(server.router()) == "remuda: router"
    assert title(worker) == "remuda: worker [demo:app]"


def test_proc_name_replaces_the_application_in_titles(server):
    (worker,) = server.started(1, "--name", "shop")
    assert title(server.pid) == "remuda: arbiter [shop]"
    assert title(worker) == "remuda: worker [shop]"


def test_the_arbiter_has_one_thread(server):
    server.started(2)
    server.signal(signal.SIGHUP)
    server.says("Reloaded: 2 new workers")
    assert threads(server.pid) == 1


def test_the_router_is_told_options_listeners_and_workers(server):
    server.started(2, "--max-requests", "50", "--threads", "3")
    told = [line for line in server.journal("router") if "message" in line]
    assert [line["what"] for line in told] == ["options", "listeners", "worker", "worker"]
    assert told[0]["message"]["timeout"] == 30
    assert told[1]["fds"] == 1
    assert told[1]["message"]["listeners"][0]["address"] == "127.0.0.1"
    for number, line in enumerate(told[2:], 1):
        assert line["fds"] == 5
        assert line["message"]["id"] == number
        assert line["message"]["slots"] == 3
        assert line["message"]["max_requests"] == 50
        assert (line["message"]["streams"], line["message"]["evented"]) == (False, False)


def test_max_requests_differ_by_a_jitter(server):
    server.started(8, "--max-requests", "50", "--max-requests-jitter", "1000")
    limits = [e["message"]["max_requests"] for e in server.journal("router", "worker")]
    assert all(50 <= limit <= 1050 for limit in limits)
    assert len(set(limits)) > 1


def test_a_worker_holds_no_descriptor_of_others(server):
    server.started(3)
    for born in server.journal("worker", "born"):
        # Its own link alone: no listener, no control socket, no router's end.
        assert born["sockets"] == 1
    counts = {len(born["fds"]) for born in server.journal("worker", "born")}
    assert len(counts) == 1, "later workers have more open than the first"


def test_a_worker_begins_with_the_default_signals(server):
    server.started(1)
    (born,) = server.journal("worker", "born")
    blocked = born["dispositions"].pop("blocked")
    assert blocked == ""
    assert set(born["dispositions"].values()) == {"default"}
    assert born["threads"] == 1


def test_the_router_ignores_what_is_meant_for_the_arbiter(server):
    server.started(1)
    router = server.router()
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT, signal.SIGHUP, signal.SIGUSR1):
        os.kill(router, number)
    server.signal(signal.SIGTTIN)
    server.ready(2)
    assert server.router() == router
    assert alive(router)


def test_a_port_in_use_ends_with_exit_code_1(server):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        server.start("-b", f"127.0.0.1:{port}")
        server.says(f"Connection in use: ('127.0.0.1', {port})", times=2)
        assert server.wait() == 1
    assert server.log().count("Connection in use") == 5
    assert f"Can't connect to ('127.0.0.1', {port})" in server.log()
    assert "Traceback" not in server.log()


def test_the_wait_for_a_port_can_be_ended(server):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        server.start("-b", f"127.0.0.1:{port}")
        server.says("Connection in use")
        server.signal(signal.SIGTERM)
        assert server.wait(3) == 1
    assert server.log().count("Connection in use") == 1


def test_a_unix_socket_is_removed_at_the_end(server):
    path = server.directory / "s"
    server.started(1, "-b", f"unix:{path}")
    assert path.is_socket()
    server.signal(signal.SIGTERM)
    assert server.wait() == 0
    assert not path.exists()


def test_the_pid_file_holds_the_arbiter_s_pid_while_it_lives(server):
    path = server.directory / "pid"
    server.started(1, "--pid", str(path))
    assert path.read_text() == f"{server.pid}\n"
    server.signal(signal.SIGINT)
    assert server.wait() == 0
    assert not path.exists()


def test_a_pid_file_of_a_living_process_ends_with_exit_code_1(server):
    path = server.directory / "pid"
    path.write_text(f"{os.getpid()}\n")
    server.start("--pid", str(path))
    assert server.wait() == 1
    assert f"already runs as pid {os.getpid()}" in server.log()
    assert path.read_text() == f"{os.getpid()}\n"


@pytest.mark.parametrize("content", ["999999999\n", "", "nonsense"])
def test_a_stale_pid_file_is_replaced(server, content):
    path = server.directory / "pid"
    path.write_text(content)
    server.started(1, "--pid", str(path))
    assert path.read_text() == f"{server.pid}\n"


@pytest.mark.parametrize(
    ("word", "code", "reason"),
    [
        ("exit3", 3, "Reason: Worker failed to boot."),
        ("exit4", 4, "Reason: App failed to load."),
        ("raise", 3, "RuntimeError: boom at boot"),
        ("abort", 3, "was killed by SIGKILL."),
    ],
)
def test_a_worker_that_cannot_boot_at_the_start_ends_the_server(server, word, code, reason):
    server.workers_do(word)
    server.start("-w", "2")
    assert server.wait() == code
    assert reason in server.log()


def test_a_boot_that_takes_too_long_at_the_start_ends_the_server_with_its_stacks(server):
    server.workers_do("sleep")
    server.start("--timeout", "1")
    assert server.wait() == 3
    assert re.search(r"\[CRITICAL\] WORKER TIMEOUT \(pid:\d+\): not ready", server.log())
    assert "in work" in server.log(), "the stacks are missing"


def test_a_router_that_cannot_start_ends_the_server(server):
    (server.directory / "no_router").touch()
    server.start()
    assert server.wait() == 1
    assert "exited with code 9" in server.log()
    assert "The router could not start." in server.log()


def test_preload_loads_the_application_before_the_fork(server):
    server.started(2, "--preload")
    assert [e["preloaded"] for e in server.journal("worker", "born")] == [["demo:app"]] * 2


def test_raw_env_reaches_the_workers(server):
    server.started(1, "-e", "COLOUR=blue")
    (born,) = server.journal("worker", "born")
    assert born["environ"]["COLOUR"] == "blue"
    assert born["environ"]["SERVER_SOFTWARE"].startswith("remuda/")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become someone else")
def test_router_and_workers_give_up_root(server):
    server.directory.chmod(0o777)
    for parent in list(server.directory.parents)[:3]:
        if parent != Path("/tmp"):
            parent.chmod(0o755)
    server.started(1, "--user", "65534", "--group", "65534", "-m", "027")
    (worker,) = server.journal("worker", "born")
    assert worker["uid"] == 65534
    assert worker["groups"] == [65534]
    assert worker["umask"] == 0o027
    assert server.journal("router", "born")[0]["uid"] == 65534
    server.signal(signal.SIGTERM)
    assert server.wait() == 0


# The end


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGQUIT])
def test_each_way_to_end_it_ends_all(server, number):
    server.started(3)
    server.signal(number)
    assert server.wait() == 0
    assert "Traceback" not in server.log()


def test_term_drains_the_router_before_the_workers_go(server):
    (server.directory / "slow_stop").touch()
    pids = server.started(2)
    server.signal(signal.SIGTERM)
    (stop,) = server.noted("router", "stop")
    assert stop["message"]["grace"] == 30
    assert server.living() == pids
    server.order(stopped=True)
    assert server.wait() == 0
    kinds = [e["what"] for e in server.journal("router")]
    assert kinds.index("stop") < kinds.index("gone") < kinds.index("quit")
    assert [e["signal"] for e in server.journal("worker", "signal")] == ["SIGTERM"] * 2


def test_a_worker_that_dies_while_the_router_drains_is_replaced(server):
    (server.directory / "slow_stop").touch()
    pids = server.started(2)
    server.signal(signal.SIGTERM)
    server.noted("router", "stop")
    server.signal(signal.SIGKILL, pids[0])
    server.ready(2, without=pids[:1])
    server.order(stopped=True)
    assert server.wait() == 0


def test_a_router_that_never_drains_is_waited_for_no_longer_than_graceful_timeout(server):
    (server.directory / "slow_stop").touch()
    server.started(2, "--graceful-timeout", "1")
    began = time.monotonic()
    server.signal(signal.SIGTERM)
    assert server.wait() == 0
    assert 1.0 <= time.monotonic() - began < 6.0
    assert "The router has not drained in time" in server.log()


def test_a_worker_that_does_not_finish_is_killed(server):
    pids = server.started(2, "--graceful-timeout", "1")
    server.signal(signal.SIGSTOP, pids[0])
    server.signal(signal.SIGTERM)
    assert server.wait() == 0
    assert f"Worker (pid:{pids[0]}) was killed by SIGKILL." in server.log()
    assert "out of memory" not in server.log()


@pytest.mark.parametrize("second", [signal.SIGTERM, signal.SIGINT, signal.SIGQUIT])
def test_a_second_signal_ends_a_graceful_stop_at_once(server, second):
    (server.directory / "slow_stop").touch()
    server.started(2)
    server.signal(signal.SIGTERM)
    server.noted("router", "stop")
    time.sleep(1.1)
    began = time.monotonic()
    server.signal(second)
    assert server.wait() == 0
    assert time.monotonic() - began < 5.0


def test_a_term_that_comes_twice_at_a_time_is_one(server):
    (server.directory / "slow_stop").touch()
    pids = server.started(2)
    server.signal(signal.SIGTERM)
    server.noted("router", "stop")
    server.signal(signal.SIGTERM)
    server.says("Handling signal: term", times=2)
    assert server.living() == pids
    server.order(stopped=True)
    assert server.wait() == 0
    assert {e["signal"] for e in server.journal("worker", "signal")} == {"SIGTERM"}


def test_int_does_not_wait_for_a_stopped_worker(server):
    pids = server.started(2)
    server.signal(signal.SIGSTOP, pids[1])
    began = time.monotonic()
    server.signal(signal.SIGINT)
    assert server.wait() == 0
    assert time.monotonic() - began < 6.0


def test_int_does_not_wait_for_a_stopped_router(server):
    server.started(1)
    server.signal(signal.SIGSTOP, server.router())
    server.signal(signal.SIGINT)
    assert server.wait() == 0


def test_term_does_not_wait_for_a_router_that_does_not_answer(server):
    pids = server.started(2)
    router = server.router()
    server.order(hang=True)
    began = time.monotonic()
    server.signal(signal.SIGTERM)
    assert server.wait() == 0
    # Some seconds, not the 30 of graceful_timeout.
    assert 3.0 <= time.monotonic() - began < 15.0
    assert f"ROUTER TIMEOUT (pid:{router}): no answer for 3" in server.log()
    # The workers went in order.
    assert {e["pid"] for e in server.noted("worker", "signal", signal="SIGTERM")} == set(pids)


def test_int_does_not_wait_for_a_router_that_does_not_answer(server):
    server.started(1)
    server.order(hang=True)
    began = time.monotonic()
    server.signal(signal.SIGINT)
    assert server.wait() == 0
    assert time.monotonic() - began < 3.0


def test_a_router_that_does_not_answer_is_replaced_and_told_everything(server):
    pids = server.started(2, "--router-timeout", "1")
    first = server.router()
    server.order(hang=True)
    eventually("another router", lambda: server.router() != first)
    server.says(f"ROUTER TIMEOUT (pid:{first}): no answer for 1 s: sleeping")
    server.noted("router", "worker", times=4)
    assert server.living() == pids


def test_term_ends_a_router_that_does_not_even_begin(server):
    (server.directory / "router_hangs").touch()
    server.start()
    server.noted("router", "born")
    began = time.monotonic()
    server.signal(signal.SIGTERM)
    assert server.wait() == 0
    assert time.monotonic() - began < 15.0


def test_time_that_a_hook_takes_is_no_silence_of_the_router(server):
    server.configure(
        "import time\n"
        "router_timeout = 1\n"
        "def nworkers_changed(server, new, old):\n"
        "    if old is not None:\n"
        "        time.sleep(3)\n"
    )
    server.started(1)
    router = server.router()
    server.signal(signal.SIGTTIN)
    server.ready(2)
    assert server.router() == router
    assert "ROUTER TIMEOUT" not in server.log()


def test_when_the_arbiter_is_killed_the_others_finish(server):
    server.started(3)
    server.signal(signal.SIGKILL)
    eventually("nobody is left", lambda: not server.family())
    assert {e["by"] for e in server.journal("worker", "stopped")} == {"channel"}


# Healing


def test_a_dead_worker_is_replaced_and_the_router_is_told(server):
    pids = server.started(2)
    server.signal(signal.SIGKILL, pids[0])
    assert pids[1] in server.ready(2, without=pids[:1])
    (gone,) = server.noted("router", "gone")
    assert gone["message"] == {"type": "gone", "id": 1, "why": "was killed by SIGKILL"}
    assert f"Worker (pid:{pids[0]}) was killed by SIGKILL.\n" in server.log()
    assert "out of memory" not in server.log()


def test_a_worker_that_the_kernel_took_for_want_of_memory_is_named_as_such(server):
    count = server.directory / "oom_kills"
    count.write_text("oom_kill 7\n")
    pids = server.started(2)
    server.signal(signal.SIGKILL, pids[0])
    server.says(f"Worker (pid:{pids[0]}) was killed by SIGKILL.\n")
    count.write_text("oom_kill 8\n")
    server.signal(signal.SIGKILL, pids[1])
    server.says(f"Worker (pid:{pids[1]}) was killed by SIGKILL. Perhaps out of memory?")
    assert server.log().count("out of memory") == 1
    server.ready(2, without=pids)


def test_many_dead_workers_are_all_replaced(server):
    pids = server.started(6)
    for pid in pids:
        server.signal(signal.SIGKILL, pid)
    server.ready(6, without=pids)
    assert len(server.noted("router", "gone", times=6)) == 6


def test_a_segfault_is_called_by_its_name(server):
    (pid,) = server.started(1)
    server.signal(signal.SIGSEGV, pid)
    server.says(f"Worker (pid:{pid}) was killed by SIGSEGV.")
    server.ready(1)


def test_later_boot_failures_do_not_end_the_server(server):
    pids = server.started(2)
    server.workers_do("exit4")
    server.signal(signal.SIGKILL, pids[0])
    server.says("exited with code 4", times=3)
    assert server.living() == [pids[1]]
    server.workers_do("ready")
    assert pids[1] in server.ready(2)


def test_workers_that_are_ready_and_die_are_replaced_at_a_rate_and_told_in_a_line(server):
    pids = server.started(2)
    server.workers_do("die_after_ready")
    began = time.monotonic()
    server.signal(signal.SIGKILL, pids[0])
    server.says("Workers die again and again: ", times=2)
    # Some at once, then ten a second.
    assert len(server.workers()) <= 14 + 10 * (time.monotonic() - began)
    assert server.log().count("] [ERROR] Worker (pid:") == 5
    assert re.search(r"again: \d+ within .* s \(\d+x exited with code 7", server.log())
    assert alive(pids[1])
    server.workers_do("ready")
    assert pids[1] in server.ready(2)


def test_with_no_worker_ready_a_boot_that_fails_is_tried_again_within_half_a_second(server):
    pids = server.started(2)
    server.workers_do("exit4")
    for pid in pids:
        server.signal(signal.SIGKILL, pid)
    eventually("many attempts", lambda: len(server.workers()) >= 14)
    born = [line["pid"] for line in server.journal("worker", "born")]
    assert server.log().count("] [ERROR] Worker (pid:") == 5, born
    server.workers_do("ready")
    began = time.monotonic()
    server.ready(2)
    # Half a second, with some more for a machine that is busy with other tests.
    assert time.monotonic() - began < 3


def test_a_dead_router_is_back_within_a_second_and_knows_all(server):
    pids = server.started(3)
    first = server.router()
    began = time.monotonic()
    server.signal(signal.SIGKILL, first)
    eventually("another router", lambda: server.router() != first)
    server.noted("router", "worker", times=6)
    assert time.monotonic() - began < 1.0
    told = [e for e in server.journal("router") if e["pid"] == server.router()]
    assert [e["what"] for e in told] == ["born", "options", "listeners", *["worker"] * 3]
    assert [e["message"]["pid"] for e in told[3:]] == pids
    assert server.living() == pids
    assert f"Router (pid:{first}) was killed by SIGKILL" in server.log()


def test_connects_wait_while_the_router_is_replaced(server):
    server.started(1)
    (listeners,) = server.journal("router", "listeners")
    port = listeners["message"]["listeners"][0]["port"]
    server.signal(signal.SIGSTOP)
    server.signal(signal.SIGKILL, server.router())
    with socket.create_connection(("127.0.0.1", port), timeout=5):
        server.signal(signal.SIGCONT)
        server.noted("router", "listeners", times=2)


def test_a_router_that_hangs_up_is_replaced(server):
    server.started(1)
    first = server.router()
    server.order(hang_up=True)
    eventually("another router", lambda: server.router() != first)
    assert not alive(first)
    server.signal(signal.SIGTERM)
    assert server.wait() == 0


def test_a_router_that_talks_nonsense_is_replaced(server):
    server.started(1)
    first = server.router()
    server.order(raw="{]")
    eventually("another router", lambda: server.router() != first)
    assert "says what is no message" in server.log()


def test_messages_that_nobody_understands_or_about_the_dead_do_no_harm(server):
    server.started(1)
    server.say(type="surprise")
    server.says("says what nobody understands")
    for kind in ("ready", "spent", "retired", "hung", "broken"):
        server.say(type=kind, id=4711)
        server.say(type=kind)
        server.say(type=kind, id="x")
    server.signal(signal.SIGTTIN)
    server.ready(2)
    assert "Traceback" not in server.log()


# Timeouts


@pytest.mark.parametrize("stopped", [False, True])
def test_a_hung_worker_shows_its_stacks_and_is_replaced(server, stopped):
    (pid,) = server.started(1)
    if stopped:
        server.signal(signal.SIGSTOP, pid)
    server.say(type="hung", id=1, what="GET /slow", seconds=30.0)
    server.says(f"[CRITICAL] WORKER TIMEOUT (pid:{pid}): GET /slow: no response for 30.0 s")
    server.says("in work")
    server.says(f"Worker (pid:{pid}) was killed by SIGKILL.")
    server.ready(1, without=[pid])
    assert "out of memory" not in server.log()


def test_the_successor_of_a_hung_worker_does_not_wait_for_its_death(server):
    (pid,) = server.started(1)
    server.say(type="hung", id=1, what="GET /", seconds=1.0)
    eventually("two workers", lambda: len(server.workers()) == 2)
    assert alive(pid)
    eventually("the old one is dead", lambda: not alive(pid))


def test_a_worker_that_broke_its_channel_is_killed_at_once(server):
    (pid,) = server.started(1)
    server.say(type="broken", id=1, why="a frame of 9 GB")
    server.says(f"Worker (pid:{pid}) broke its channel, and is killed: a frame of 9 GB")
    server.ready(1, without=[pid])


def test_a_later_boot_that_takes_too_long_is_ended_and_tried_again(server):
    pids = server.started(2, "--timeout", "1")
    server.workers_do("sleep")
    server.signal(signal.SIGKILL, pids[0])
    server.says("not ready 1 s after its fork")
    server.workers_do("ready")
    assert pids[1] in server.ready(2)


# One more, one less, and others


def test_ttin_and_ttou_change_the_number_of_workers(server):
    first = server.started(1)
    server.signal(signal.SIGTTIN)
    two = server.ready(2)
    server.signal(signal.SIGTTIN)
    three = server.ready(3)
    assert three[:2] == two
    server.signal(signal.SIGTTOU)
    assert server.ready(2) == three[1:]
    assert first[0] not in server.living()
    assert [e["message"]["id"] for e in server.journal("router", "retire")] == [1]


def test_ttou_leaves_the_last_worker(server):
    pids = server.started(1)
    server.signal(signal.SIGTTOU)
    server.says("Handling signal: ttou")
    server.signal(signal.SIGTTIN)
    assert server.ready(2)[0] == pids[0]


def test_a_spent_worker_is_retired_after_its_successor_is_ready(server):
    (pid,) = server.started(1)
    server.say(type="spent", id=1)
    server.ready(1, without=[pid])
    server.says("Autorestarting worker after current request.")
    server.noted("router", "gone")
    kinds = [
        (e["what"], e["message"]["id"])
        for e in server.journal("router")
        if "message" in e and "id" in e["message"]
    ]
    assert kinds.index(("worker", 2)) < kinds.index(("retire", 1)) < kinds.index(("gone", 1))


def test_usr1_reopens_the_logs_everywhere(server):
    path = server.directory / "error.log"
    server.started(2, "--error-logfile", str(path))
    path.rename(server.directory / "error.log.1")
    server.signal(signal.SIGUSR1)
    server.noted("router", "reopen")
    server.noted("worker", "signal", times=2, signal="SIGUSR1")
    eventually("a new file", path.exists)
    server.signal(signal.SIGTERM)
    assert server.wait() == 0
    assert "Shutting down: Master" in path.read_text()


def test_winch_and_usr2_change_nothing(server):
    pids = server.started(1)
    server.signal(signal.SIGWINCH)
    server.signal(signal.SIGUSR2)
    server.says("USR2 signal ignored")
    server.signal(signal.SIGTTIN)
    assert server.ready(2)[0] == pids[0]


# Reload


def test_hup_replaces_all_workers_once_the_new_ones_are_ready(server):
    old = server.started(2)
    server.signal(signal.SIGHUP)
    server.says("Reloaded: 2 new workers are ready")
    server.ready(2, without=old)
    kinds = [e["what"] for e in server.journal("router") if "message" in e or e["what"] == "ready"]
    # The old ones retire only after both new ones were made known.
    assert kinds.index("retire") > max(i for i, kind in enumerate(kinds) if kind == "ready")
    assert kinds.count("ready") == 4
    assert [e["by"] for e in server.journal("worker", "stopped")] == ["channel"] * 2


def test_hup_resets_the_number_of_workers(server):
    server.started(1)
    server.signal(signal.SIGTTIN)
    server.ready(2)
    server.signal(signal.SIGHUP)
    server.says("Reloaded: 1 new workers")
    server.ready(1)


def test_hup_takes_over_the_new_configuration(server):
    server.configure("workers = 1\ntimeout = 30\n")
    server.start()
    server.ready(1)
    server.configure("workers = 3\ntimeout = 20\nproc_name = 'new'\n")
    server.signal(signal.SIGHUP)
    server.says("Reloaded: 3 new workers")
    server.ready(3)
    options = server.noted("router", "options", times=2)
    assert [e["message"]["timeout"] for e in options] == [30, 20]
    eventually("a new title", lambda: title(server.pid) == "remuda: arbiter [new]")


@pytest.mark.parametrize("word", ["exit3", "exit4", "raise", "abort"])
def test_hup_onto_broken_code_keeps_the_old_workers(server, word):
    old = server.started(2)
    server.workers_do(word)
    server.signal(signal.SIGHUP)
    server.says("Reload failed: a new worker")
    assert server.ready(2) == old
    server.workers_do("ready")
    server.signal(signal.SIGHUP)
    server.says("Reloaded: 2 new workers")
    assert not set(server.ready(2)) & set(old)


def test_hup_onto_code_that_never_boots_keeps_the_old_workers(server):
    old = server.started(2, "--timeout", "1")
    server.workers_do("sleep")
    server.signal(signal.SIGHUP)
    server.says("Reload failed: a new worker")
    server.says("in work")
    eventually("only the old", lambda: server.living() == old)


def test_hup_onto_a_broken_configuration_keeps_the_old_one(server):
    server.configure("workers = 2\n")
    server.start()
    old = server.ready(2)
    server.configure("workers = 'many'\n")
    server.signal(signal.SIGHUP)
    server.says("Reload failed: ")
    server.says("workers")
    assert server.living() == old
    assert len(server.workers()) == 2
    assert "Traceback" not in server.log()


def test_hup_binds_new_addresses_first_and_gives_up_old_ones(server):
    one, two, three = (server.directory / name for name in ("one", "two", "three"))
    server.configure(f"bind = ['unix:{one}', 'unix:{two}']\n")
    server.start(bind=False)
    server.ready(1)
    inode = two.stat().st_ino
    server.configure(f"bind = ['unix:{two}', 'unix:{three}']\n")
    server.signal(signal.SIGHUP)
    server.says("Reloaded: 1 new workers")
    told = server.noted("router", "listeners", times=2)[-1]
    addresses = [e["address"] for e in told["message"]["listeners"]]
    assert addresses == [str(two), str(three)]
    assert two.stat().st_ino == inode
    assert three.is_socket()
    eventually("the old file is gone", lambda: not one.exists())
    server.signal(signal.SIGTERM)
    assert server.wait() == 0
    assert not two.exists()
    assert not three.exists()


def test_hup_onto_an_address_in_use_keeps_the_old_one(server):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        server.configure("bind = '127.0.0.1:0'\n")
        server.start(bind=False)
        old = server.ready(1)
        server.configure(f"bind = ['127.0.0.1:0', '127.0.0.1:{port}']\n")
        server.signal(signal.SIGHUP)
        server.says(f"Reload failed: Can't connect to ('127.0.0.1', {port})")
        assert server.living() == old
        assert len(server.noted("router", "listeners")) == 1


def test_hup_follows_a_new_pid_file(server):
    one, two = server.directory / "one", server.directory / "two"
    server.configure(f"pidfile = '{one}'")
    server.started(1)
    server.configure(f"pidfile = '{two}'")
    server.signal(signal.SIGHUP)
    eventually("the old file is gone", lambda: not one.exists())
    assert two.read_text() == f"{server.pid}\n"
    server.configure(f"pidfile = '{server.directory}/no/such/file'")
    server.signal(signal.SIGHUP)
    server.says("Reload failed: pidfile: cannot write")
    assert two.exists()
    server.signal(signal.SIGTERM)
    assert server.wait() == 0
    assert not two.exists()


def test_hup_takes_over_the_new_error_log(server):
    one, two = server.directory / "one", server.directory / "two"
    server.configure(f"errorlog = '{one}'")
    server.started(1)
    server.configure(f"errorlog = '{two}'")
    server.signal(signal.SIGHUP)
    eventually("the reload", lambda: two.exists() and "Reloaded: 1 new" in two.read_text())
    assert "Booting worker" in two.read_text()
    server.signal(signal.SIGTERM)
    assert server.wait() == 0
    assert "Shutting down: Master" in two.read_text()


def test_when_no_worker_can_be_forked_it_is_tried_again_after_pauses(server):
    pids = server.started(4)
    (server.directory / "no_descriptors").touch()
    for pid in pids[:3]:
        server.signal(signal.SIGKILL, pid)
    server.says("Cannot fork a worker: Too many open files; RLIMIT_NOFILE is")
    time.sleep(2)
    (server.directory / "no_descriptors").unlink()
    assert pids[3] in server.ready(4)
    assert server.log().count("Too many open files") == 1
    server.says("Forking works again, after ")


def test_when_the_machine_has_no_process_router_and_worker_are_tried_again(server):
    pids = server.started(2)
    (server.directory / "no_processes").touch()
    router = server.router()
    server.signal(signal.SIGKILL, pids[0])
    server.signal(signal.SIGKILL, router)
    server.says("Resource temporarily unavailable")
    time.sleep(1.5)
    (server.directory / "no_processes").unlink()
    assert pids[1] in server.ready(2)
    assert server.router() != router
    # A line for each of the two at the most, however often it was tried.
    assert server.log().count("Resource temporarily unavailable") <= 2


def test_a_machine_without_a_process_at_the_start_is_waited_for(server):
    (server.directory / "no_processes").touch()
    server.start("-w", "2")
    server.says("Cannot fork a router: Resource temporarily unavailable. Tried again every 0.5 s")
    time.sleep(1.2)
    # It waits, and does not try without end.
    ticks = Path(f"/proc/{server.pid}/stat").read_text().rpartition(")")[2].split()[11:13]
    assert sum(map(int, ticks)) < 100
    (server.directory / "no_processes").unlink()
    server.ready(2)
    assert server.log().count("Cannot fork") == 1


def test_a_machine_without_a_process_is_not_waited_for_when_the_user_gives_up(server):
    (server.directory / "no_processes").touch()
    server.start("-w", "2")
    server.says("Cannot fork a router")
    server.signal(signal.SIGTERM)
    assert server.wait() == 0


def test_hup_when_no_worker_can_be_forked_keeps_the_old_workers(server):
    old = server.started(2)
    (server.directory / "no_descriptors").touch()
    server.signal(signal.SIGHUP)
    server.says("Reload failed: a new worker cannot be forked (Too many open files")
    (server.directory / "no_descriptors").unlink()
    server.signal(signal.SIGTTIN)
    assert server.ready(3)[:2] == old
    server.signal(signal.SIGHUP)
    server.says("Reloaded: 2 new workers")


def test_a_second_hup_overtakes_the_first(server):
    old = server.started(1)
    server.workers_do("sleep")
    server.signal(signal.SIGHUP)
    eventually("a new worker", lambda: len(server.workers()) == 2)
    server.workers_do("ready")
    server.signal(signal.SIGHUP)
    server.says("Reloaded: 1 new workers")
    assert server.ready(1) != old
    assert "Reload failed" not in server.log()


def test_term_during_a_reload_ends_everyone(server):
    server.started(2)
    server.workers_do("sleep")
    server.signal(signal.SIGHUP)
    eventually("new workers", lambda: len(server.workers()) == 4)
    server.signal(signal.SIGTERM)
    assert server.wait() == 0


def test_workers_are_healed_during_a_reload(server):
    old = server.started(2)
    server.workers_do("sleep")
    server.signal(signal.SIGHUP)
    eventually("new workers", lambda: len(server.workers()) == 4)
    server.workers_do("ready")
    server.signal(signal.SIGKILL, old[0])
    eventually("a third of the old kind", lambda: len(server.workers()) == 5)
    assert "Reload failed" not in server.log()


def test_hup_with_preload_warns_that_the_code_stays(server):
    server.started(1, "--preload")
    server.signal(signal.SIGHUP)
    server.says("preload_app: the code stays as it was loaded")
    server.says("Reloaded: 1 new workers")


# Hooks

HOOKS = """
import os
def note(*words):
    with open({path!r}, "a") as file:
        print(*words, file=file)
def nworkers_changed(server, new, old): note("nworkers_changed", new, old)
def on_starting(server): note("on_starting", server.pid == os.getpid(), len(server.LISTENERS))
def when_ready(server): note("when_ready", len(server.LISTENERS), len(server.WORKERS))
def pre_fork(server, worker): note("pre_fork", worker.age, server.pid == os.getpid())
def post_fork(server, worker):
    note("post_fork", worker.pid == os.getpid(), server.pid != os.getpid())
def child_exit(server, worker): note("child_exit", worker.age, server.pid == os.getpid())
def on_reload(server): note("on_reload", server.num_workers)
def on_exit(server): note("on_exit", server.cfg.workers, len(server.WORKERS))
"""


def test_hooks_are_called_in_gunicorn_s_order(server):
    path = server.directory / "hooks"
    server.configure(HOOKS.format(path=str(path)))
    server.started(1)
    server.signal(signal.SIGTTIN)
    server.ready(2)
    server.signal(signal.SIGHUP)
    server.says("Reloaded: 1 new workers")
    server.ready(1)
    server.signal(signal.SIGTERM)
    assert server.wait() == 0
    lines = path.read_text().splitlines()
    # The two old workers exit in any order.
    assert sorted(lines[12:14]) == ["child_exit 1 True", "child_exit 2 True"]
    assert lines[:12] + lines[14:] == [
        "nworkers_changed 1 None",
        "on_starting True 0",
        "when_ready 1 0",
        "pre_fork 1 True",
        "post_fork True True",
        "nworkers_changed 2 1",
        "pre_fork 2 True",
        "post_fork True True",
        "on_reload 2",
        "pre_fork 3 True",
        "post_fork True True",
        "nworkers_changed 1 2",
        "child_exit 3 True",
        "on_exit 1 0",
    ]


def test_a_hook_that_raises_is_logged_and_does_not_end_the_arbiter(server):
    server.configure("def pre_fork(server, worker): 1 / 0\ndef child_exit(s, w): {}['x']\n")
    (pid,) = server.started(1)
    server.signal(signal.SIGKILL, pid)
    server.ready(1, without=[pid])
    assert server.log().count("The hook pre_fork failed") == 2
    server.says("The hook child_exit failed")
    assert "ZeroDivisionError" in server.log()


@pytest.mark.parametrize("name", ["on_starting", "when_ready"])
def test_a_hook_that_raises_at_the_start_ends_with_exit_code_1(server, name):
    server.configure(f"def {name}(server): raise OSError('no licence')\n")
    server.start()
    assert server.wait() == 1
    assert f"the hook {name} failed: OSError: no licence" in server.log()


def test_a_post_fork_that_raises_at_the_start_is_a_boot_failure(server):
    server.configure("def post_fork(server, worker): 1 / 0\n")
    server.start()
    assert server.wait() == 3
    assert "the hook post_fork failed: ZeroDivisionError" in server.log()


def test_more_workers_than_the_soft_limit_of_descriptors_allows(server):
    import resource

    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (64, before[1]))
    try:
        server.start("-w", "16")
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)
    server.ready(16)
    assert "Cannot fork" not in server.log()


def test_an_idle_arbiter_sleeps(server):
    server.started(2)

    def switches() -> str:
        text = Path(f"/proc/{server.pid}/status").read_text()
        return next(line for line in text.splitlines() if line.startswith("voluntary_ctxt"))

    eventually("it sleeps", lambda: (switches(), time.sleep(0.3))[0] == switches())
    before = switches()
    time.sleep(1.5)
    assert switches() == before


def test_healing_and_reloading_leak_no_descriptor(server):
    server.started(2)

    def count() -> int:
        return len(list(Path(f"/proc/{server.pid}/fd").iterdir()))

    before = count()
    for number in range(1, 4):
        pids = server.living()
        server.signal(signal.SIGKILL, pids[0])
        server.ready(2, without=pids[:1])
        router = server.router()
        server.signal(signal.SIGKILL, router)
        eventually("another router", lambda router=router: server.router() != router)
        server.noted("router", "listeners", times=number + 1)
        server.signal(signal.SIGHUP)
        server.says("Reloaded: 2 new workers", times=number)
        server.ready(2)
    eventually("as many as before", lambda: count() == before)
