"""The kinds of request that the soak sends, and how each answer is verified."""

from __future__ import annotations

import hashlib
import random
import time
from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from typing import NamedTuple

from integration.client import Client, Lost, Response

from .bodies import PIECE, pieces, whole

KIB, MIB = 1024, 1024 * 1024
UPLOADS = (KIB, 60 * KIB, 100 * KIB, 700 * KIB, 3 * MIB, 20 * MIB)
UPLOAD_WEIGHTS = (30, 20, 20, 15, 10, 5)
DOWNLOADS = (100 * KIB, 500 * KIB, 2 * MIB, 8 * MIB)
DOWNLOAD_WEIGHTS = (50, 30, 15, 5)
# Of each size a file with this name, which is its body's seed as well.
FILES = {f"file-{size}": size for size in DOWNLOADS}
# Small, so that a slow reader fills it, and the server notices.
SLOW_BUFFER = 32 * KIB


class Refused(Exception):
    """An answer with another status than 200."""

    def __init__(self, response: Response) -> None:
        super().__init__(repr(response))
        self.status = response.status


class Crossed(Exception):
    """An answer to another's request, or a request that arrived with another's parts."""


class Wrong(Exception):
    """An answer to this request that is not what the application makes."""


class Call:
    """One request, or one pipelined row of them, on a connection."""

    def __init__(self, link: Client, name: str, draws: random.Random) -> None:
        self.use(link)
        self.name = name
        self.draws = draws
        # False once the connection is of no more use.
        self.keeps = True

    def use(self, link: Client) -> None:
        """Go on over this connection."""
        self.link = link
        self._received = link.received

    @property
    def is_answered(self) -> bool:
        """Whether any byte has come."""
        return self.link.received > self._received

    def send(self, path: str, method: str = "GET", query: str = "", **fields: str) -> None:
        """Send a head. `path` is the handler's."""
        target = f"/{path}/{self.name}{query}"
        self.link.request(target, method, X_Id=self.name, **fields)

    def verified(self, response: Response) -> Response:
        """The response, if it is a 200 to this request."""
        self.keeps = self.keeps and response.keeps
        if response.status == 409:
            raise Crossed(response.text)
        if response.status != 200:
            raise Refused(response)
        if response.all("X-Id") != [self.name]:
            raise Crossed(f"{self.name} got the answer to {response.all('X-Id')}")
        return response

    def expect(self, body: bytes, response: Response) -> None:
        """The response's body is this."""
        if response.body != body:
            text = f"{len(response.body)} bytes, not the {len(body)} wanted: {response!r}"
            raise Wrong(f"{self.name}: {text}")

    def upload(self, body: Iterable[bytes]) -> Response:
        """Send a body piece by piece; read the answer, also where it comes before the end."""
        try:
            for piece in body:
                self.link.send(piece)
        except ConnectionError as error:
            # The server may have answered before it closed (RFC 9112, section 9.5).
            self.keeps = False
            try:
                return self.link.response()
            except Lost as lost:
                raise Lost(f"{error!r}, then {lost.why}", lost.got) from None
        return self.link.response()

    def size(self) -> int:
        """Of a download."""
        return self.draws.choices(DOWNLOADS, DOWNLOAD_WEIGHTS)[0]


def hello(call: Call) -> None:
    call.send("hello")
    call.expect(f"hello {call.name}".encode(), call.verified(call.link.response()))


def close(call: Call) -> None:
    call.send("hello", Connection="close")
    response = call.verified(call.link.response())
    call.expect(f"hello {call.name}".encode(), response)
    if response.keeps or not call.link.is_closed():
        raise Wrong(f"{call.name}: the connection is still open after {response!r}")
    call.keeps = False


def wait(call: Call) -> None:
    call.send("wait", query=f"?seconds={call.draws.uniform(0.001, 0.1):.3f}")
    call.expect(f"waited {call.name}".encode(), call.verified(call.link.response()))


def pipelined(call: Call) -> None:
    """Several requests in one write; the answers come in their order (RFC 9112, section 9.3.2)."""
    names = [f"{call.name}.{number}" for number in range(call.draws.randint(2, 8))]
    heads = [
        f"GET /hello/{name} HTTP/1.1\r\nHost: test.example\r\nX-Id: {name}\r\n\r\n"
        for name in names
    ]
    call.link.send("".join(heads).encode())
    for call.name in names:
        call.expect(f"hello {call.name}".encode(), call.verified(call.link.response()))


def _digest(call: Call, size: int, body: Iterable[bytes], **framing: str) -> None:
    call.send("digest", "POST", **framing)
    response = call.verified(call.upload(body))
    sha256 = hashlib.sha256()
    for piece in pieces(call.name, size):
        sha256.update(piece)
    wanted = {"name": call.name, "length": size, "sha256": sha256.hexdigest()}
    try:
        said = response.json
    except ValueError:
        raise Wrong(f"{call.name}: this is no JSON: {response!r}") from None
    if said != wanted:
        raise Wrong(f"{call.name}: the server read {said}, {wanted} was sent")


def upload(call: Call) -> None:
    size = call.draws.choices(UPLOADS, UPLOAD_WEIGHTS)[0]
    _digest(call, size, pieces(call.name, size), Content_Length=str(size))


def chunked(call: Call) -> None:
    size = call.draws.choices(UPLOADS, UPLOAD_WEIGHTS)[0]
    _digest(call, size, chunks(call, size), Transfer_Encoding="chunked")


def chunks(call: Call, size: int) -> Iterator[bytes]:
    """The body in chunks: of any size, but few of a large body."""
    most = max(1, size // 50) if size > MIB else size
    for piece in pieces(call.name, size):
        at = 0
        while at < len(piece):
            step = call.draws.randint(min(most, 256), most)
            data = piece[at : at + step]
            yield b"%x\r\n%b\r\n" % (len(data), data)
            at += step
    yield b"0\r\n\r\n"


def slow_sender(call: Call) -> None:
    size = 100 * KIB

    def body() -> Iterator[bytes]:
        for piece in pieces(call.name, size):
            for at in range(0, len(piece), 8 * KIB):
                yield piece[at : at + 8 * KIB]
                time.sleep(0.1)

    _digest(call, size, body(), Content_Length=str(size))


def echo(call: Call) -> None:
    body = whole(call.name, call.draws.choices(UPLOADS[:4], UPLOAD_WEIGHTS[:4])[0])
    call.send("echo", "POST", Content_Length=str(len(body)))
    call.expect(body, call.verified(call.upload([body])))


def block(call: Call) -> None:
    size = call.size()
    call.send("block", query=f"?size={size}")
    call.expect(whole(call.name, size), call.verified(call.link.response()))


def stream(call: Call) -> None:
    size = call.size()
    call.send("stream", query=f"?size={size}")
    call.expect(whole(call.name, size), call.verified(call.link.response()))


def file(call: Call) -> None:
    name = call.draws.choices(list(FILES), DOWNLOAD_WEIGHTS)[0]
    call.send("file", query=f"?file={name}")
    call.expect(whole(name, FILES[name]), call.verified(call.link.response()))


def slow_reader(call: Call) -> None:
    """Takes 2 MiB over more than a second, on a connection of its own."""
    size = 2 * MIB
    call.keeps = False
    with Client(call.link.address, buffer=SLOW_BUFFER) as link:
        call.use(link)
        call.send("block", query=f"?size={size}")
        response = call.verified(link.head())
        if int(response["Content-Length"]) != size:
            raise Wrong(f"{call.name}: {response!r} is not {size} bytes long")
        for piece in pieces(call.name, size):
            if link.exactly(len(piece)) != piece:
                raise Wrong(f"{call.name}: a piece of the body is another's")
            time.sleep(0.05)


def events(call: Call) -> None:
    count = call.draws.randint(5, 30)
    call.send("events", query=f"?count={count}")
    body = "".join(f"data: {call.name} {number}\n\n" for number in range(count))
    call.expect(body.encode(), call.verified(call.link.response()))


def leave(call: Call) -> None:
    """Ends in the middle of something: with a reset where bytes are left unread."""
    call.keeps = False
    match call.draws.randrange(4):
        case 0:  # while the application works
            call.send("wait", query="?seconds=0.1")
        case 1:  # in the middle of an upload
            call.send("digest", "POST", Content_Length=str(MIB))
            for piece in islice(pieces(call.name, MIB), call.draws.randrange(MIB // PIECE)):
                call.link.send(piece)
        case 2:  # in the middle of a download
            call.send("stream", query=f"?size={8 * MIB}")
            call.verified(call.link.head())
        case 3:  # in the middle of events
            call.send("events", query="?count=30")
            call.verified(call.link.head())
            call.link.chunk()


class Kind(NamedTuple):
    """How often a request of a kind is sent, in proportion to the others'."""

    weight: int
    send: Callable[[Call], None]


KINDS = {
    kind.send.__name__: kind
    for kind in (
        Kind(40, hello),
        Kind(10, close),
        Kind(10, wait),
        Kind(10, pipelined),
        Kind(6, upload),
        Kind(6, chunked),
        Kind(6, echo),
        Kind(4, block),
        Kind(4, stream),
        Kind(4, file),
        Kind(1, slow_reader),
        Kind(1, slow_sender),
        Kind(2, events),
        Kind(4, leave),
    )
}
