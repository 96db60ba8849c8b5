"""Binding, on real sockets."""

from __future__ import annotations

import errno
import os
import socket
import stat
import threading
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from remuda import listeners
from remuda.errors import BindError
from remuda.listeners import Listeners, listen


class Lines:
    """A log that keeps what it is told."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def error(self, message: str, *args: object) -> None:
        self.lines.append(message % args)

    warning = error


class Case:
    """Settings, a log, and a pause that counts."""

    def __init__(self, *bind: str, chdir: Path | str = "/", **settings: Any) -> None:
        self.config: Any = SimpleNamespace(
            bind=bind,
            backlog=16,
            reuse_port=False,
            umask=0,
            user=None,
            group=None,
            chdir=str(chdir),
        )
        self.config.__dict__.update(settings)
        self.log = Lines()
        self.pauses: list[float] = []

    def listen(self, **more: Any) -> Listeners:
        more.setdefault("pause", self.pauses.append)
        return listen(self.config, self.log, **more)


def connect(listener: listeners.Listener) -> None:
    family = listener.socket.family
    with socket.socket(family, socket.SOCK_STREAM) as client:
        client.settimeout(5)
        client.connect(listener.socket.getsockname())
        listener.socket.accept()[0].close()


def test_an_ipv4_address_is_bound_and_named():
    (listener,) = found = Case("127.0.0.1:0").listen()
    connect(listener)
    assert str(found) == f"http://127.0.0.1:{listener.port}"
    assert listener.describe() == {"address": "127.0.0.1", "port": listener.port}
    assert found.filenos() == [listener.fileno()]
    assert not os.get_inheritable(listener.fileno())
    assert not os.get_blocking(listener.fileno())
    found.close()


def test_an_ipv6_address_is_bound_and_named():
    (listener,) = found = Case("[::1]:0").listen()
    connect(listener)
    assert str(found) == f"http://[::1]:{listener.port}"
    found.close()


def test_a_host_name_is_looked_up():
    (listener,) = found = Case("localhost:0").listen()
    assert listener.address == "127.0.0.1"
    found.close()


def test_a_host_that_nobody_knows_is_an_error():
    with pytest.raises(BindError, match="the host is not known"):
        Case("no.such.host.invalid:0").listen()


def test_several_addresses_are_bound_in_order(tmp_path):
    test = Case("127.0.0.1:0", f"unix:{tmp_path}/s", "[::1]:0")
    found = test.listen()
    assert [listener.bind for listener in found] == list(test.config.bind)
    assert len(found) == 3
    assert str(found).split(",")[1] == f"unix:{tmp_path}/s"
    found.close()
    found.unlink()


def test_a_port_in_use_is_tried_five_times_a_second_apart():
    taken = Case("127.0.0.1:0").listen()
    (listener,) = taken
    test = Case(f"127.0.0.1:{listener.port}")
    with pytest.raises(BindError) as caught:
        test.listen()
    assert test.pauses == [1.0] * 4
    assert test.log.lines == [f"Connection in use: ('127.0.0.1', {listener.port})"] * 5
    assert caught.value.message.startswith(f"Can't connect to ('127.0.0.1', {listener.port})")
    assert caught.value.hint is not None
    assert caught.value.exit_code == 1
    taken.close()


def test_a_port_that_becomes_free_meanwhile_is_bound():
    taken = Case("127.0.0.1:0").listen()
    (first,) = taken
    test = Case(f"127.0.0.1:{first.port}")
    found = test.listen(pause=lambda _: taken.close())
    assert len(test.log.lines) == 1
    found.close()


def test_when_one_address_fails_the_others_are_given_back(tmp_path):
    taken = Case("127.0.0.1:0").listen()
    (listener,) = taken
    path = tmp_path / "s"
    with pytest.raises(BindError):
        Case(f"unix:{path}", f"127.0.0.1:{listener.port}").listen(tries=1)
    assert not path.exists()
    taken.close()


def test_an_address_that_this_machine_has_not_is_an_error():
    test = Case("192.0.2.1:0")
    with pytest.raises(BindError, match="Can't connect to"):
        test.listen(tries=2)
    assert test.log.lines == ["Invalid address: ('192.0.2.1', 0)"] * 2


def test_two_sockets_share_a_port_when_both_ask_for_it():
    one = Case("127.0.0.1:0", reuse_port=True).listen()
    (first,) = one
    two = Case(f"127.0.0.1:{first.port}", reuse_port=True).listen()
    one.close()
    two.close()


@pytest.mark.parametrize(("umask", "mode"), [(0, 0o777), (0o077, 0o700), (0o007, 0o770)])
def test_the_mode_of_a_unix_socket_follows_from_umask(tmp_path, umask, mode):
    before = os.umask(0o022)
    try:
        found = Case(f"unix:{tmp_path}/s", umask=umask).listen()
        assert stat.S_IMODE((tmp_path / "s").stat().st_mode) == mode
        assert os.umask(0o022) == 0o022
    finally:
        os.umask(before)
    found.close()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file away")
def test_a_unix_socket_is_given_to_the_user_of_the_workers(tmp_path):
    found = Case(f"unix:{tmp_path}/s", user=65534, group=65533).listen()
    owner = (tmp_path / "s").stat()
    assert (owner.st_uid, owner.st_gid) == (65534, 65533)
    found.close()


def test_a_relative_path_is_relative_to_chdir(tmp_path):
    (listener,) = Case("unix:s", chdir=tmp_path).listen()
    assert listener.path == str(tmp_path / "s")
    connect(listener)
    listener.close()


def test_a_stale_socket_file_is_replaced(tmp_path):
    path = tmp_path / "s"
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(path))
    assert path.exists()
    (listener,) = Case(f"unix:{path}").listen()
    connect(listener)
    listener.close()


@pytest.mark.parametrize("clients", [0, 3])
def test_a_living_socket_is_refused(tmp_path, clients):
    path = tmp_path / "s"
    with socket.socket(socket.AF_UNIX) as alive:
        alive.bind(str(path))
        alive.listen(1)
        waiting = [socket.socket(socket.AF_UNIX) for _ in range(clients)]
        for client in waiting:
            client.setblocking(False)
            client.connect_ex(str(path))
        test = Case(f"unix:{path}")
        with pytest.raises(BindError, match="a living server listens there"):
            test.listen()
        assert test.log.lines == [f"Connection in use: {path}"] * 5
        assert path.exists()
        for client in waiting:
            client.close()


def test_a_file_that_is_no_socket_is_never_removed(tmp_path):
    path = tmp_path / "precious"
    path.write_text("data")
    with pytest.raises(BindError, match="exists and is not a socket"):
        Case(f"unix:{path}").listen()
    assert path.read_text() == "data"


def test_a_directory_that_is_missing_is_named_at_once(tmp_path):
    test = Case(f"unix:{tmp_path}/no/such/s")
    with pytest.raises(BindError, match="create its directory first"):
        test.listen()
    assert test.pauses == []


def test_an_abstract_socket_has_no_file(tmp_path):
    name = f"remuda-test-{os.getpid()}-{threading.get_native_id()}"
    (listener,) = Case(f"unix:@{name}", chdir=tmp_path).listen()
    connect(listener)
    assert str(listener) == f"unix:@{name}"
    assert listener.describe() == {"address": f"@{name}", "port": 0}
    listener.unlink()
    assert list(tmp_path.iterdir()) == []
    listener.close()


def test_the_file_of_a_unix_socket_is_removed_at_the_end(tmp_path):
    found = Case(f"unix:{tmp_path}/s").listen()
    found.close()
    found.unlink()
    assert not (tmp_path / "s").exists()
    found.unlink()


def test_the_file_of_someone_else_is_not_removed(tmp_path):
    path = tmp_path / "s"
    found = Case(f"unix:{path}").listen()
    # Kept, so that the new file cannot get the number of the old one.
    path.rename(tmp_path / "old")
    with socket.socket(socket.AF_UNIX) as other:
        other.bind(str(path))
        found.close()
        found.unlink()
        assert path.exists()


def test_a_descriptor_is_inherited_with_whatever_it_is(tmp_path):
    with socket.socket(socket.AF_UNIX) as outside:
        outside.bind(str(tmp_path / "s"))
        fd = os.dup(outside.fileno())
        (listener,) = found = Case(f"fd://{fd}").listen()
        connect(listener)
        assert str(found) == f"unix:{tmp_path}/s"
        found.close()
        found.unlink()
        assert (tmp_path / "s").exists()


def test_a_descriptor_that_is_no_socket_is_refused(tmp_path):
    with (tmp_path / "file").open("w") as file, pytest.raises(BindError, match="is no socket"):
        Case(f"fd://{file.fileno()}").listen()


def test_a_descriptor_that_is_closed_is_refused():
    with pytest.raises(BindError, match="is no socket"):
        Case("fd://1000000").listen()


def test_a_datagram_socket_is_refused():
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as udp:
        with pytest.raises(BindError, match="no TCP or unix stream socket"):
            Case(f"fd://{udp.fileno()}").listen()
        udp.getsockname()


def test_systemd_s_sockets_are_used_instead_of_bind(monkeypatch):
    passed = [socket.socket() for _ in range(2)]
    for one in passed:
        one.bind(("127.0.0.1", 0))
    first = os.dup(passed[0].fileno())
    # The second right behind the first, wherever that is free in this process.
    base = first + 500
    for number, one in enumerate(passed):
        os.dup2(one.fileno(), base + number)
    os.close(first)
    monkeypatch.setattr(listeners, "SD_LISTEN_FDS_START", base)
    environ = {"LISTEN_FDS": "2", "LISTEN_PID": str(os.getpid()), "LISTEN_FDNAMES": "a:b"}
    found = Case("127.0.0.1:1").listen(environ=environ)
    assert [one.port for one in found] == [one.getsockname()[1] for one in passed]
    assert environ == {}
    found.close()
    for one in passed:
        one.close()


@pytest.mark.parametrize(
    "environ",
    [
        {},
        {"LISTEN_FDS": "1", "LISTEN_PID": "1"},
        {"LISTEN_FDS": "x", "LISTEN_PID": str(os.getpid())},
        {"LISTEN_FDS": "1"},
    ],
)
def test_sockets_that_systemd_passed_to_someone_else_are_left_alone(environ):
    before = dict(environ)
    (listener,) = Case("127.0.0.1:0").listen(environ=environ)
    assert not listener.inherited
    assert environ == before
    listener.close()


def test_addresses_that_stay_keep_their_socket():
    one = Case("127.0.0.1:0").listen()
    (kept,) = one
    two = Case("127.0.0.1:0", "[::1]:0").listen(keep=one)
    assert next(iter(two)) is kept
    two.close(but=one)
    assert kept.fileno() >= 0
    one.close()
    assert kept.fileno() == -1


needs_ipv6 = pytest.mark.skipif(not socket.has_dualstack_ipv6(), reason="no IPv6 here")


def free_port() -> int:
    """A port that is free in both families."""
    with socket.create_server(("::", 0), family=socket.AF_INET6, dualstack_ipv6=True) as probe:
        return probe.getsockname()[1]


def reaches(host: str, port: int) -> bool:
    try:
        socket.create_connection((host, port), timeout=5).close()
    except ConnectionRefusedError:
        return False
    return True


@needs_ipv6
@pytest.mark.parametrize("order", [1, -1])
@pytest.mark.parametrize("ipv4", ["0.0.0.0", "127.0.0.1", ""])
def test_all_of_ipv6_leaves_ipv4_to_an_address_that_is_named_beside_it(order, ipv4):
    port = free_port()
    case = Case(*[f"[::]:{port}", f"{ipv4}:{port}"][::order])
    found = case.listen()
    families = [one.socket.family for one in found]
    assert families == [socket.AF_INET6, socket.AF_INET][::order]
    for one in found:
        connect(one)
    found.close()
    assert case.log.lines == []


@needs_ipv6
def test_all_of_ipv6_alone_is_what_the_system_makes_of_it():
    found = Case("[::]:0").listen()
    (listener,) = found
    with socket.socket(socket.AF_INET6) as fresh:
        default = fresh.getsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY)
    assert listener.socket.getsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY) == default
    found.close()


@needs_ipv6
def test_ipv6_is_added_to_ipv4_and_taken_away():
    port = free_port()
    first = Case(f"0.0.0.0:{port}").listen()
    both = Case(f"0.0.0.0:{port}", f"[::]:{port}").listen(keep=first)
    assert {*first} < {*both}
    for one in both:
        connect(one)
    case = Case(f"[::]:{port}")
    alone = case.listen(keep=both)
    assert [*alone] == [[*both][1]]
    assert case.log.lines == [f"[::]:{port} serves IPv6 alone, as before, until a restart"]
    both.close()


@needs_ipv6
@pytest.mark.skipif(
    Path("/proc/sys/net/ipv6/bindv6only").read_text().strip() != "0"
    if Path("/proc/sys/net/ipv6/bindv6only").exists()
    else True,
    reason="sockets of IPv6 take IPv6 alone here",
)
@pytest.mark.parametrize("order", [1, -1])
def test_ipv4_that_is_added_to_a_socket_of_both_is_served_by_that(order):
    port = free_port()
    first = Case(f"[::]:{port}").listen()
    case = Case(*[f"[::]:{port}", f"0.0.0.0:{port}"][::order])
    both = case.listen(keep=first, tries=1)
    assert [*both] == [*first]
    assert case.log.lines == [
        f"0.0.0.0:{port} is served by [::]:{port} already, which takes IPv4 too"
    ]
    assert reaches("127.0.0.1", port)
    assert reaches("::1", port)
    # An address that goes does not count: its successor cannot be bound beside it.
    with pytest.raises(BindError):
        Case(f"0.0.0.0:{port}").listen(keep=first, tries=1)
    first.close()


def test_when_a_new_address_fails_those_that_were_kept_stay_open(tmp_path):
    taken = Case("127.0.0.1:0").listen()
    port = next(iter(taken)).port
    one = Case("[::1]:0").listen()
    with pytest.raises(BindError):
        Case("[::1]:0", f"127.0.0.1:{port}").listen(keep=one, tries=1)
    assert next(iter(one)).fileno() >= 0
    one.close()
    taken.close()


def test_a_fault_in_the_pause_ends_the_trying():
    taken = Case("127.0.0.1:0").listen()

    def give_up(_seconds: float) -> None:
        raise BindError("stopped")

    with pytest.raises(BindError, match="stopped"):
        Case(f"127.0.0.1:{next(iter(taken)).port}").listen(pause=give_up)
    taken.close()


@pytest.mark.parametrize(
    ("number", "address", "word"),
    [
        (errno.EACCES, ("0.0.0.0", 80), "ports below 1024"),
        (errno.EACCES, "/root/s", "writable"),
        (errno.EADDRINUSE, "/run/s", "another path"),
        (errno.EADDRINUSE, ("0.0.0.0", 80), "another port"),
        (errno.EADDRNOTAVAIL, ("1.2.3.4", 80), "no such address"),
    ],
)
def test_each_fault_names_its_likely_fix(number, address, word):
    assert word in (listeners._hint(OSError(number, ""), address) or "")
