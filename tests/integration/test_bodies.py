"""Bodies: spooled uploads, full disks, streams, files."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import random
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from .conftest import Serve, WorkerClass
from .processes import descriptors, memory
from .server import Server

MIB = 1 << 20


@pytest.mark.parametrize("size", [0, 1, 1000, 65_536, 100_000, MIB, MIB + 1, 30 * MIB])
def test_a_body_of_any_size_arrives_whole(
    serve_module: Serve, shared: dict[str, Server], size: int
) -> None:
    server = shared.setdefault("plain", None) or serve_module("-w", "2")
    shared["plain"] = server
    body = random.Random(size).randbytes(size)
    with server.connect() as client:
        answer = client.post("/digest", body).json
        assert answer == {"length": size, "sha256": hashlib.sha256(body).hexdigest()}
        # The same in chunks of odd sizes.
        client.send(b"POST /digest HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n")
        at, step = 0, 1
        while at < size:
            piece = body[at : at + step]
            client.send(b"%x\r\n%b\r\n" % (len(piece), piece))
            at, step = at + step, min(step * 3 + 1, 300_000)
        client.send(b"0\r\nX-Trailer: not a header\r\n\r\n")
        assert client.response().json == answer


@pytest.fixture(scope="module")
def shared() -> dict[str, Server]:
    """The servers that tests of this module share."""
    return {}


def test_uploads_spool_to_a_file_without_a_name(serve: Serve, tmp_path: Path) -> None:
    spool = tmp_path / "spool"
    spool.mkdir()
    server = serve("-w", "1", "--tmp-upload-dir", str(spool))
    body = os.urandom(20 * MIB)
    client = server.connect()
    client.send(b"POST /digest HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % len(body))
    client.send(body[: 15 * MIB])

    def spooled() -> bool:
        return any(link.startswith(str(spool)) for link in descriptors(server.router))

    server.eventually("the router has a file there", spooled)
    assert list(spool.iterdir()) == []
    assert memory(server.router) < 12 * MIB
    client.send(body[15 * MIB :])
    assert client.response().json["sha256"] == hashlib.sha256(body).hexdigest()
    server.eventually("the file is gone", lambda: not spooled())


def test_an_upload_that_is_broken_off_leaves_nothing_behind(serve: Serve, tmp_path: Path) -> None:
    spool = tmp_path / "spool"
    spool.mkdir()
    server = serve("-w", "1", "--tmp-upload-dir", str(spool))
    with server.connect() as client:
        client.send(b"POST /mark?reached HTTP/1.1\r\nHost: x\r\nContent-Length: 30000000\r\n\r\n")
        client.send(bytes(5 * MIB))
    server.eventually(
        "the file is gone",
        lambda: not any(link.startswith(str(spool)) for link in descriptors(server.router)),
    )
    assert server.get().status == 200
    assert not (tmp_path / "reached").exists()


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of two megabytes."""
    if os.geteuid() != 0:
        pytest.skip("only root can mount")
    path = tmp_path / "small"
    path.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(path)], capture_output=True
    )
    if mounted.returncode != 0:
        pytest.skip(f"cannot mount: {mounted.stderr.decode()}")
    yield path
    subprocess.run(["umount", "-l", str(path)], check=True)


def free(path: Path) -> int:
    """Bytes that are free."""
    found = os.statvfs(path)
    return found.f_bavail * found.f_bsize


def test_a_full_disk_is_507_and_leaves_nothing_behind(serve: Serve, small_disk: Path) -> None:
    server = serve("-w", "1", "--tmp-upload-dir", str(small_disk))
    before = free(small_disk)
    for _ in range(3):
        with server.connect() as client:
            client.send(
                b"POST /mark?reached HTTP/1.1\r\nHost: x\r\nContent-Length: 9000000\r\n\r\n"
            )
            with contextlib.suppress(OSError):  # it has answered already
                client.send(bytes(9_000_000))
            response = client.response()
            assert response.status == 507
            assert not response.keeps
        server.eventually("the room is given back", lambda: free(small_disk) == before)
    server.says(f"cannot be stored in {small_disk} (--tmp-upload-dir): No space left on device")
    assert not (server.directory / "reached").exists()
    # What fits is served.
    assert server.connect().post("/digest", bytes(1_500_000)).json["length"] == 1_500_000


# linux/fs.h: stop a file system, so that whoever writes to it waits; and let it go on.
FIFREEZE, FITHAW = 0xC0045877, 0xC0045878


@pytest.fixture
def stalled_disk(
    tmp_path: Path,
) -> Iterator[tuple[Path, Callable[[], None], Callable[[], None]]]:
    """A file system, and functions that have it take nothing, and mend it."""
    if os.geteuid() != 0:
        pytest.skip("only root can mount")
    image, path = tmp_path / "image", tmp_path / "stalled"
    path.mkdir()
    with image.open("wb") as file:
        file.truncate(64 * MIB)
    mount = ["mount", "-o", "loop", str(image), str(path)]
    for command in (["mkfs.ext4", "-q", str(image)], mount):
        made = subprocess.run(command, capture_output=True)
        if made.returncode != 0:
            pytest.skip(f"cannot mount: {made.stderr.decode()}")
    directory = os.open(path, os.O_RDONLY)

    def stall() -> None:
        fcntl.ioctl(directory, FIFREEZE, 0)

    def mend() -> None:
        with contextlib.suppress(OSError):  # mended already
            fcntl.ioctl(directory, FITHAW, 0)

    try:
        yield path, stall, mend
    finally:
        mend()
        os.close(directory)
        subprocess.run(["umount", "-l", str(path)], check=True)


def waits_for_disk(pid: int) -> bool:
    """Whether a thread of a process cannot be interrupted (proc_pid_stat(5))."""
    stats = [path.read_text() for path in Path(f"/proc/{pid}/task").glob("*/stat")]
    return any(stat.rpartition(")")[2].split()[0] == "D" for stat in stats)


def test_a_disk_that_stalls_holds_up_its_uploads_and_nobody_else(
    serve: Serve, stalled_disk: tuple[Path, Callable[[], None], Callable[[], None]]
) -> None:
    path, stall, mend = stalled_disk
    server = serve("-w", "1", "--tmp-upload-dir", str(path))
    stall()
    body = os.urandom(5 * MIB)
    with server.connect() as client:
        sending = threading.Thread(target=client.request, args=("/digest", "POST", body))
        sending.start()
        server.eventually("it is written", lambda: waits_for_disk(server.router))
        for _ in range(10):
            assert server.get().text == "hello"
        mend()
        sending.join()
        assert client.response().json["sha256"] == hashlib.sha256(body).hexdigest()


def test_a_limit_on_file_sizes_is_507_too(serve: Serve) -> None:
    # RLIMIT_FSIZE, in blocks of 512 bytes: 2 MiB. SIGXFSZ must not kill the router.
    server = serve("-w", "1", prefix=["sh", "-c", 'ulimit -f 4096; exec "$0" "$@"'])
    router = server.router
    with server.connect() as client:
        client.send(b"POST /digest HTTP/1.1\r\nHost: x\r\nContent-Length: 9000000\r\n\r\n")
        with contextlib.suppress(OSError):
            client.send(bytes(9_000_000))
        assert client.response().status == 507
    server.says("(--tmp-upload-dir): File too large")
    server.says("RLIMIT_FSIZE")
    assert server.get().status == 200
    assert server.router == router


def test_a_body_beyond_the_limit_is_413(serve: Serve) -> None:
    server = serve("-w", "1", "--limit-request-body", "1M")
    with server.connect() as client:
        # Refused by its head already.
        client.send(b"POST /mark?reached HTTP/1.1\r\nHost: x\r\nContent-Length: 1048577\r\n\r\n")
        response = client.response()
        assert (response.status, response.keeps) == (413, False)
    with server.connect() as client:
        client.send(
            b"POST /mark?reached HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
            b"200000\r\n" + bytes(0x200000)
        )
        assert client.response().status == 413
    assert server.connect().post("/digest", bytes(MIB)).json["length"] == MIB
    assert not (server.directory / "reached").exists()


def test_expect_100_continue_is_answered_before_the_body_is_read(serve: Serve) -> None:
    server = serve("-w", "1", "--limit-request-body", "1M")
    with server.connect() as client:
        head = (
            b"POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\n"
        )
        client.send(head)
        assert client.head().status == 100
        client.send(b"hello")
        assert client.response().text == "hello"
        # Who does not wait needs no 100.
        client.send(head + b"again")
        response = client.response()
        assert (response.text, [interim.status for interim in response.interim]) == ("again", [])
    for expect, length, status in [("100-continue", 9_999_999, 413), ("200-ok", 5, 417)]:
        with server.connect() as client:
            client.request("/echo", "POST", Expect=expect, Content_Length=str(length))
            response = client.response()
            assert (response.status, response.interim, response.keeps) == (status, [], False)


def test_a_streamed_response_leaves_chunk_by_chunk(serve: Serve, worker_class: WorkerClass) -> None:
    # Each piece waits until the test has seen the one before.
    server = serve("-w", "1", worker_class=worker_class, application=(
        "import os, time\n"
        "def app(environ, start_response):\n"
        "    start_response('200 OK', [('Content-Type', 'text/plain')])\n"
        "    def pieces():\n"
        "        for index in range(5):\n"
        "            while index and not os.path.exists(f'seen-{index - 1}'):\n"
        "                time.sleep(0.005)\n"
        "            yield b'piece %d' % index\n"
        "    return pieces() if environ['PATH_INFO'] == '/stream' else [b'hello']\n"
    ))  # fmt: skip
    client = server.connect()
    client.request("/stream")
    head = client.head()
    assert head["Transfer-Encoding"] == "chunked"
    for index in range(5):
        assert client.chunk() == b"piece %d" % index
        (server.directory / f"seen-{index}").touch()
    assert client.chunk() == b""


def test_a_stream_to_an_http_1_0_client_ends_with_the_connection(serve: Serve) -> None:
    server = serve("-w", "1")
    answer = server.exchange(b"GET /stream?3,0 HTTP/1.0\r\n\r\n")
    head, _, body = answer.partition(b"\r\n\r\n")
    assert b"ransfer-" not in head
    assert body == b"piece 0\npiece 1\npiece 2\n"


def test_a_file_goes_out_by_sendfile(serve: Serve, worker_class: WorkerClass) -> None:
    server = serve("-w", "1", worker_class=worker_class)
    data = random.Random(1).randbytes(8 * MIB)
    (server.directory / "data").write_bytes(data)
    assert server.get("/file?data").body == data
    # A client that reads slowly: the router holds the file itself, not a copy, and the worker is
    # free.
    client = server.connect(buffer=4096)
    client.request("/file?data")
    assert client.head().status == 200
    path = str(server.directory / "data")
    server.eventually("the router has the file", lambda: path in descriptors(server.router))
    assert server.get().status == 200
    assert memory(server.router) < 10 * MIB
    assert client.exactly(len(data)) == data
    server.eventually("it is closed again", lambda: path not in descriptors(server.router))


def test_a_file_goes_out_without_sendfile_too(serve: Serve) -> None:
    server = serve("-w", "1", "--no-sendfile")
    data = random.Random(2).randbytes(3 * MIB)
    (server.directory / "data").write_bytes(data)
    assert server.get("/file?data").body == data


def test_a_client_that_leaves_stops_the_stream(serve: Serve) -> None:
    server = serve("-w", "1", application=(
        "import os, time\n"
        "class Pieces:\n"
        "    def __iter__(self):\n"
        "        while True:\n"
        "            time.sleep(0.01)\n"
        "            yield b'x' * 1000\n"
        "    def close(self):\n"
        "        open('closed', 'w').close()\n"
        "def app(environ, start_response):\n"
        "    start_response('200 OK', [])\n"
        "    return Pieces() if environ['PATH_INFO'] == '/stream' else [b'hello']\n"
    ))  # fmt: skip
    client = server.connect()
    client.request("/stream")
    assert client.head().status == 200
    assert client.chunk() == b"x" * 1000
    client.close()
    server.eventually("the iterable is closed", (server.directory / "closed").exists)
    started = time.monotonic()
    assert server.get().status == 200
    assert time.monotonic() - started < 2
