"""The queue: late binding, its limit, and clients that leave it."""

from __future__ import annotations

import select
import socket
import time

from .client import Client
from .conftest import Serve, WorkerClass
from .processes import PATIENCE, eventually
from .server import Server


def occupy(server: Server, worker_class: WorkerClass | None = None, seconds: float = 60) -> list:
    """Have every slot of a single worker sleep; returns the clients that do."""
    slots = worker_class.slots if worker_class else 1
    clients = [server.connect() for _ in range(slots)]
    for client in clients:
        client.request(f"/begin?{seconds}")
    begun = server.directory / "begun"
    server.eventually(
        "all have begun", lambda: begun.exists() and begun.read_text().count("x") == slots
    )
    return clients


def test_beyond_max_queue_is_503_with_retry_after(serve: Serve, worker_class: WorkerClass) -> None:
    server = serve("-w", "1", "--max-queue", "3", worker_class=worker_class)
    # A worker that has been quick would be handed some requests ahead, for a moment.
    assert server.get("/sleep?0.1").status == 200
    busy = occupy(server, worker_class, 3)
    clients = [server.connect() for _ in range(10)]
    for client in clients:
        client.request("/pid")
    refused = [client.response() for client in reading(clients, 7)]
    assert {response.status for response in refused} == {503}
    for response in refused:
        assert int(response["Retry-After"]) >= 1
        # The connection may stay: the next request may find room.
        assert response.keeps
    # Those three that found room are served in their turn.
    rest = [client.response() for client in reading(clients, 3)]
    assert {response.status for response in [*rest, *(client.response() for client in busy)]} == {
        200
    }


def reading(clients: list[Client], count: int) -> list[Client]:
    """So many of the clients that have something to read; they leave the list."""
    ready: list[Client] = []
    deadline = time.monotonic() + PATIENCE
    while len(ready) < count and time.monotonic() < deadline:
        for client in select.select(clients, [], [], 0.1)[0]:
            if len(ready) < count:
                clients.remove(client)
                ready.append(client)
    assert len(ready) == count
    return ready


def test_a_request_whose_client_has_left_is_never_run(
    serve: Serve, worker_class: WorkerClass
) -> None:
    server = serve("-w", "1", worker_class=worker_class)
    busy = occupy(server, worker_class, 2)
    leaving = [server.connect() for _ in range(5)]
    for client in leaving:
        client.request("/mark?left")
    staying = server.connect()
    staying.request("/mark?stayed")
    leaving[0].socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    for client in leaving:
        client.close()
    for client in busy:
        assert client.response().status == 200
    assert staying.response().status == 200
    assert (server.directory / "stayed").exists()
    assert not (server.directory / "left").exists()


def test_waiting_in_the_queue_is_bounded(serve: Serve) -> None:
    server = serve("-w", "1", "--queue-timeout", "1")
    occupy(server, None, 4)
    started = time.monotonic()
    response = server.get("/mark?late")
    assert response.status == 503
    assert int(response["Retry-After"]) >= 1
    assert 0.9 <= time.monotonic() - started < 3.5
    assert not (server.directory / "late").exists()


def test_a_slow_request_does_not_hold_up_others_on_their_connections(serve: Serve) -> None:
    server = serve("-w", "4")
    clients = [server.connect() for _ in range(8)]
    for client in clients:
        assert client.get().status == 200
    # Three of four workers are busy for long.
    for client in clients[:3]:
        client.request("/begin?3")
    begun = server.directory / "begun"
    eventually("they have begun", lambda: begun.exists() and begun.read_text().count("x") == 3)
    started = time.monotonic()
    worst = 0.0
    for _ in range(20):
        for client in clients[3:]:
            before = time.monotonic()
            assert client.get().status == 200
            worst = max(worst, time.monotonic() - before)
    # A connection that was bound to a busy worker would have waited for seconds.
    assert worst < 1.0
    assert time.monotonic() - started < 2.8
    for client in clients[:3]:
        assert client.response().status == 200


def test_what_was_handed_out_ahead_is_taken_back_from_a_slow_request(serve: Serve) -> None:
    server = serve("-w", "2")
    # Fast requests, so that workers may hold some ahead.
    load = server.load(8)
    load.more(2000)
    # Now one request that takes long: nobody waits behind it.
    slow = server.connect()
    slow.request("/begin?2")
    server.eventually("it has begun", (server.directory / "begun").exists)
    started = time.monotonic()
    load.more(500)
    assert time.monotonic() - started < 1.8
    assert set(load.finish()) == {"200"}
    assert slow.response().status == 200


def test_requests_are_served_in_the_order_in_which_they_came(serve: Serve) -> None:
    server = serve("-w", "1", application=(
        "import time\n"
        "def app(environ, start_response):\n"
        "    query = environ['QUERY_STRING']\n"
        "    if query == 'first':\n"
        "        open('begun', 'w').close()\n"
        "        time.sleep(1)\n"
        "    with open('order', 'a') as order:\n"
        "        order.write(query + ' ')\n"
        "    start_response('200 OK', [])\n"
        "    return []\n"
    ))  # fmt: skip
    first = server.connect()
    first.request("/?first")
    server.eventually("it has begun", (server.directory / "begun").exists)
    clients = []
    for index in range(10):
        client = server.connect()
        client.request(f"/?{index}")
        clients.append(client)
        # The next one comes later for certain.
        time.sleep(0.02)
    for client in [first, *clients]:
        assert client.response().status == 200
    order = (server.directory / "order").read_text().split()
    assert order[-11:] == ["first", *map(str, range(10))]
