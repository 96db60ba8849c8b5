"""Many connections: idle ones are small, and running out of descriptors is survived."""

from __future__ import annotations

import resource
import select
import socket
import time
from pathlib import Path

import pytest

from .client import Client
from .conftest import Serve
from .processes import descriptors, eventually, memory
from .server import Server

IDLE = 2000


def test_idle_keep_alive_connections_stay_within_4_kib_each(serve: Serve) -> None:
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard < IDLE + 200:
        pytest.skip(f"only {hard} descriptors here")
    soft = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    try:
        # The soft limit is too low: the server raises it by itself.
        server = serve("-w", "1", prefix=["sh", "-c", 'ulimit -S -n 256; exec "$0" "$@"'])
        warm_up(server)
        before = memory(server.router)
        clients = [Client(server.address) for _ in range(IDLE)]
        for client in clients:
            assert client.get("/").status == 200
        assert len(descriptors(server.router)) > IDLE
        # Private memory of the process: what the kernel needs for a socket is not in it.
        each = (memory(server.router) - before) / IDLE
        assert each <= 4096, f"{each:.0f} bytes each"
        # And all of them still work.
        for client in clients[::50]:
            assert client.get("/").status == 200
        for client in clients:
            client.close()
        assert server.get().status == 200
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def warm_up(server: Server) -> None:
    """Have the router allocate what it needs anyway."""
    clients = [Client(server.address) for _ in range(50)]
    for client in clients:
        assert client.get("/").status == 200
    for client in clients:
        client.close()


def test_it_recovers_within_a_second_from_having_no_descriptors(serve: Serve) -> None:
    server = serve("-w", "1", prefix=["sh", "-c", 'ulimit -n 64; exec "$0" "$@"'])
    clients = [Client(server.address) for _ in range(200)]
    # Half a head each: none of them is idle, and none can be closed for another.
    for client in clients:
        client.send(b"GET / HTTP/1.1\r\n")
    server.says("cannot accept connections")
    time.sleep(2.5)  # the time in which lines could pile up
    said = server.log.count("cannot accept connections")
    assert 1 <= said <= 5, server.log
    assert cpu_seconds(server.router) < 1.5
    for client in clients:
        client.close()
    started = time.monotonic()
    assert server.get().status == 200
    assert time.monotonic() - started < 1.5
    assert "Traceback" not in server.log


def cpu_seconds(pid: int) -> float:
    """What a process has used of the processor."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / 100


def test_idle_connections_make_room_for_new_ones(serve: Serve) -> None:
    server = serve("-w", "1", prefix=["sh", "-c", 'ulimit -n 64; exec "$0" "$@"'])
    idle = []
    for _ in range(200):
        client = Client(server.address)
        assert client.get().status == 200
        idle.append(client)
    # The first ones were closed to let the later ones in.
    assert idle[0].is_closed()
    assert idle[-1].get().status == 200
    for client in idle:
        client.close()


def test_max_connections_is_kept_and_the_idlest_give_way(serve: Serve) -> None:
    server = serve("-w", "1", "--max-connections", "10")
    idle = []
    for _ in range(15):
        client = server.connect()
        assert client.get().status == 200
        idle.append(client)
    eventually("five were closed", lambda: sum(map(closed, idle)) >= 5)
    # Not all of them, and not the youngest.
    assert not any(closed(client) for client in idle[-5:])
    assert idle[-1].get().status == 200


def closed(client: Client) -> bool:
    """Whether the server has closed the connection."""
    if not select.select([client], [], [], 0)[0]:
        return False
    try:
        return client.socket.recv(1, socket.MSG_PEEK) == b""
    except OSError:
        return True


def test_clients_that_connect_and_leave_at_once_do_no_harm(serve: Serve) -> None:
    server = serve("-w", "1")
    load = server.load(2)
    for _ in range(300):
        Client(server.address).close()
    # With a reset instead of a FIN.
    for _ in range(300):
        client = Client(server.address)
        client.send(b"GET / HTTP")
        client.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        client.close()
    load.more(50)
    assert set(load.finish()) == {"200"}
    before = len(descriptors(server.router))
    assert server.get().status == 200
    eventually("none is left", lambda: len(descriptors(server.router)) <= before)


def test_half_closed_connections_get_their_answer_and_burn_no_processor(serve: Serve) -> None:
    server = serve("-w", "1")
    client = server.connect()
    client.request("/sleep?0.5")
    client.socket.shutdown(socket.SHUT_WR)
    before = cpu_seconds(server.router)
    assert client.response().text == "slept"
    assert client.is_closed()
    assert cpu_seconds(server.router) - before < 0.3
