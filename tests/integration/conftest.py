"""Fixtures: servers that are started for a test, or shared by a module's tests."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from .applications import WSGI
from .server import Server


class WorkerClass(NamedTuple):
    """A worker class to run tests with: how to choose it, and the application it serves."""

    arguments: tuple[str, ...]
    application: str = WSGI
    # How many requests a worker serves at a time, as far as `arguments` say.
    slots: int = 1
    # Whether one request that blocks is seen as such: where a loop serves many requests, only a
    # loop that is blocked is.
    blocks: bool = True


# A test that takes the fixture `worker_class` runs with each of these.
CLASSES = {
    "sync": WorkerClass(("-k", "sync")),
    "gthread": WorkerClass(("-k", "gthread", "--threads", "4"), slots=4),
    "gevent": WorkerClass(("-k", "gevent", "--worker-connections", "4"), slots=4, blocks=False),
    "eventlet": WorkerClass(("-k", "eventlet", "--worker-connections", "4"), slots=4, blocks=False),
}

Serve = Callable[..., Server]


@pytest.fixture(params=CLASSES.values(), ids=CLASSES.keys())
def worker_class(request: pytest.FixtureRequest) -> WorkerClass:
    """Each worker class in turn."""
    return request.param


@pytest.fixture(
    params=[one for one in CLASSES.values() if one.blocks],
    ids=[name for name, one in CLASSES.items() if one.blocks],
)
def blocking_class(request: pytest.FixtureRequest) -> WorkerClass:
    """Each worker class in turn of which one request that blocks is found out."""
    return request.param


class Servers:
    """Starts servers, and ends them."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.started: list[Server] = []

    def __call__(
        self,
        *arguments: str,
        application: str | None = WSGI,
        worker_class: WorkerClass | None = None,
        ready: bool = True,
        **options: Any,
    ) -> Server:
        """Start a server, and wait until it answers (`ready`). See `Server`."""
        if worker_class is not None:
            arguments = (*worker_class.arguments, *arguments)
            if application is WSGI:
                application = worker_class.application
        directory = self.directory
        if self.started:
            directory = self.directory / f"server-{len(self.started)}"
        server = Server(directory, application, *arguments, **options)
        self.started.append(server)
        if ready:
            server.wait_ready()
        return server

    def end(self) -> None:
        """End all of them. Raises AssertionError when one leaves something behind."""
        try:
            for server in self.started:
                server.stop()
        finally:
            self.clean_up()

    def clean_up(self) -> None:
        """End all of them, however."""
        for server in self.started:
            server.clean_up()
            # For the report of a failing test.
            print(server.describe())


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: Any) -> Any:
    """Let fixtures know whether their test has passed."""
    report = yield
    if report.when == "call":
        item.stash[_PASSED] = report.passed
    return report


_PASSED = pytest.StashKey[bool]()


@pytest.fixture
def serve(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Serve]:
    """Start a server: `serve("-w", "2")`. Ended after the test, which fails if anything is left."""
    servers = Servers(tmp_path)
    yield servers
    if request.node.stash.get(_PASSED, False):
        servers.end()
    else:
        servers.clean_up()


@pytest.fixture(scope="module")
def serve_module(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serve]:
    """As `serve`, for a server that all tests of a module share."""
    servers = Servers(tmp_path_factory.mktemp("shared"))
    yield servers
    servers.end()
