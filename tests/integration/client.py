"""An HTTP/1 client that trusts nobody: raw sockets, and a reader that fails on anything odd.

It distinguishes what `http.client` does not: no byte of an answer, an answer cut short, bytes after
an answer.
"""

from __future__ import annotations

import json
import re
import socket
from typing import Any, TypeAlias

Address: TypeAlias = "tuple[str, int] | str"

# Seconds that the server may be silent. Only a failing test ever waits so long.
SILENCE = 30.0

STATUS_LINE = re.compile(rb"HTTP/1\.1 ([1-5][0-9][0-9]) ([\t\x20-\x7e\x80-\xff]*)\r\n")
FIELD = re.compile(
    rb"([!#$%&'*+\-.^_`|~0-9A-Za-z]+):[ \t]*((?:[\x21-\x7e\x80-\xff][\t\x20-\x7e\x80-\xff]*)?)\r\n"
)
CHUNK = re.compile(rb"([0-9a-fA-F]{1,16})\r\n")


class Lost(Exception):
    """The connection ended before the answer was complete. `got` is what came of it.

    `why` is the error, "the end", or "nothing" where the server was silent for too long.
    """

    def __init__(self, why: str, got: bytes) -> None:
        super().__init__(f"{why} after {got[:200]!r}")
        self.why = why
        self.got = got


class Malformed(Exception):
    """The server sent something that HTTP does not allow."""


class Response:
    """One response, complete."""

    def __init__(self, status: int, reason: str, fields: list[tuple[str, str]]) -> None:
        self.status = status
        self.reason = reason
        self.fields = fields
        self.body = b""
        self.chunks: list[bytes] = []
        self.trailers: list[tuple[str, str]] = []
        self.interim: list[Response] = []

    def __getitem__(self, name: str) -> str:
        """The value of a field that is there exactly once."""
        values = self.all(name)
        if len(values) != 1:
            raise KeyError(f"{name} is there {len(values)} times: {self.fields}")
        return values[0]

    def __contains__(self, name: str) -> bool:
        return bool(self.all(name))

    def all(self, name: str) -> list[str]:
        """The values of all fields of a name."""
        return [value for key, value in self.fields if key.lower() == name.lower()]

    @property
    def text(self) -> str:
        """The body as text."""
        return self.body.decode()

    @property
    def json(self) -> Any:
        """What the body says as JSON."""
        return json.loads(self.body)

    @property
    def keeps(self) -> bool:
        """Whether the connection stays open after it (RFC 9112 9.3)."""
        return not any("close" in value.lower() for value in self.all("Connection"))

    def __repr__(self) -> str:
        return f"<Response {self.status} {self.reason} {self.fields} {self.body[:80]!r}>"


class Client:
    """One connection."""

    def __init__(
        self, address: Address, timeout: float = SILENCE, buffer: int | None = None
    ) -> None:
        """Connect. `buffer` is the size of the receive buffer, for those who read slowly.

        Raises OSError.
        """
        self.address = address
        if isinstance(address, str):
            self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        else:
            family = socket.AF_INET6 if ":" in address[0] else socket.AF_INET
            self.socket = socket.socket(family, socket.SOCK_STREAM)
        try:
            if buffer is not None:
                self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer)
            self.socket.settimeout(timeout)
            self.socket.connect(address)
            if not isinstance(address, str):
                self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        except BaseException:
            self.socket.close()
            raise
        self.unread = b""
        # How many bytes have come so far.
        self.received = 0

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def fileno(self) -> int:
        """For select."""
        return self.socket.fileno()

    def close(self) -> None:
        """Close the connection."""
        self.socket.close()

    # Sending

    def send(self, data: bytes) -> None:
        """Send bytes as they are."""
        self.socket.sendall(data)

    def request(
        self, target: str = "/", method: str = "GET", body: bytes | None = None, **more: str
    ) -> None:
        """Send a request. Of more fields the name's underscores are hyphens."""
        lines = [f"{method} {target} HTTP/1.1"]
        fields = {name.replace("_", "-"): value for name, value in more.items()}
        if "host" not in (name.lower() for name in fields):
            lines.append("Host: test.example")
        if body is not None:
            lines.append(f"Content-Length: {len(body)}")
        lines += [f"{name}: {value}" for name, value in fields.items()]
        head = "".join(f"{line}\r\n" for line in [*lines, ""]).encode("latin-1")
        self.send(head + (body or b""))

    def get(self, target: str = "/", **more: str) -> Response:
        """GET, and its response."""
        self.request(target, **more)
        return self.response()

    def post(self, target: str, body: bytes, **more: str) -> Response:
        """POST, and its response."""
        self.request(target, "POST", body, **more)
        return self.response()

    # Receiving

    def response(self, method: str = "GET") -> Response:
        """Read one response to its end.

        Raises Lost when the connection ends before it, Malformed when it is no HTTP.
        """
        interim = []
        while True:
            response = self.head()
            if response.status >= 200:
                break
            interim.append(response)
        response.interim = interim
        self._body(response, method)
        return response

    def head(self) -> Response:
        """Read the head of a response."""
        line = self._line()
        matched = STATUS_LINE.fullmatch(line)
        if matched is None:
            raise Malformed(f"status line {line!r}")
        fields = self._fields()
        return Response(int(matched[1]), matched[2].decode("latin-1"), fields)

    def _body(self, response: Response, method: str) -> None:
        lengths = response.all("Content-Length")
        codings = response.all("Transfer-Encoding")
        if len(lengths) > 1 or len(codings) > 1 or (lengths and codings):
            raise Malformed(f"framed twice: {response.fields}")
        if method == "HEAD" or response.status in (204, 304):
            if response.status == 204 and (lengths or codings):
                raise Malformed(f"a 204 with framing: {response.fields}")
        elif codings:
            if codings != ["chunked"]:
                raise Malformed(f"Transfer-Encoding {codings}")
            while chunk := self.chunk():
                response.chunks.append(chunk)
            response.body = b"".join(response.chunks)
            response.trailers = self._fields()
        elif lengths:
            if not re.fullmatch("[0-9]+", lengths[0]):
                raise Malformed(f"Content-Length {lengths[0]!r}")
            response.body = self.exactly(int(lengths[0]))
        else:
            if response.keeps:
                raise Malformed(f"a body without end: {response.fields}")
            response.body = self.rest()

    def chunk(self) -> bytes:
        """Read one chunk; the last one is empty, and its trailers are still to be read."""
        line = self._line()
        matched = CHUNK.fullmatch(line)
        if matched is None:
            raise Malformed(f"chunk {line!r}")
        size = int(matched[1], 16)
        data = self.exactly(size)
        if size and self.exactly(2) != b"\r\n":
            raise Malformed("a chunk is longer than its size")
        return data

    def exactly(self, size: int) -> bytes:
        """Read so many bytes."""
        pieces = [self.unread]
        missing = size - len(self.unread)
        self.unread = b""
        while missing > 0:
            piece = self._receive(b"".join(pieces[:1]))
            pieces.append(piece)
            missing -= len(piece)
        data = b"".join(pieces)
        self.unread = data[size:]
        return data[:size]

    def rest(self) -> bytes:
        """Read to the end of the connection; a reset raises Lost."""
        pieces = [self.unread]
        self.unread = b""
        while True:
            try:
                piece = self.socket.recv(1 << 18)
            except ConnectionError as error:
                raise Lost(type(error).__name__, b"".join(pieces)) from None
            if not piece:
                return b"".join(pieces)
            pieces.append(piece)

    def is_closed(self) -> bool:
        """Wait for the server to close, without another byte. A reset counts, too."""
        try:
            return self.rest() == b""
        except Lost as lost:
            return lost.got == b""

    def _fields(self) -> list[tuple[str, str]]:
        fields = []
        while (line := self._line()) != b"\r\n":
            matched = FIELD.fullmatch(line)
            if matched is None:
                raise Malformed(f"field {line!r}")
            fields.append((matched[1].decode(), matched[2].decode("latin-1").rstrip("\t ")))
        return fields

    def _line(self) -> bytes:
        while (end := self.unread.find(b"\r\n")) < 0:
            if len(self.unread) > 1 << 17:
                raise Malformed("an endless line")
            self.unread += self._receive(self.unread)
        line, self.unread = self.unread[: end + 2], self.unread[end + 2 :]
        return line

    def _receive(self, before: bytes) -> bytes:
        try:
            data = self.socket.recv(1 << 18)
        except ConnectionError as error:
            raise Lost(type(error).__name__, before) from None
        except TimeoutError:
            raise Lost("nothing", before) from None
        if not data:
            raise Lost("the end", before)
        self.received += len(data)
        return data
