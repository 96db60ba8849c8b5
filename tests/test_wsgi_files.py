"""wsgi.file_wrapper."""

from __future__ import annotations

import gzip
import io
import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from channels import Link, body, is_complete
from remuda import _native

Environ = dict[str, Any]
Start = Callable[..., Callable[[bytes], None]]
PLAIN = [("Content-Type", "text/plain")]


def serve_file(make: Callable[[Any], Any], headers: list[tuple[str, str]] | None = None) -> Any:
    def application(environ: Environ, start_response: Start) -> Any:
        start_response("200 OK", PLAIN if headers is None else headers)
        return make(environ["wsgi.file_wrapper"])

    link = Link(application)
    frames = link.serve()
    assert not link.logged, link.logged
    assert is_complete(frames)
    return frames


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "file"
    path.write_bytes(b"0123456789" * 1000)
    return path


@pytest.mark.parametrize("buffering", [0, -1])
def test_a_regular_file_goes_out_by_its_descriptor(path: Path, buffering: int) -> None:
    file = path.open("rb", buffering=buffering)
    head, part, done = serve_file(lambda wrapper: wrapper(file))
    assert (b"Content-Length", b"10000") in head["fields"]
    assert head["data"] == b""
    assert (part["kind"], part["offset"], part["length"]) == ("file", 0, 10000)
    assert part["data"] == path.read_bytes()
    assert (part["end"], done["done"]) == (True, True)
    assert file.closed


def test_a_file_goes_out_from_where_it_stands(path: Path) -> None:
    file = path.open("rb")
    file.read(7)
    _, part, _ = serve_file(lambda wrapper: wrapper(file))
    assert (part["offset"], part["length"]) == (7, 9993)


@pytest.mark.parametrize(("length", "sent"), [("100", 100), ("20000", 10000)])
def test_a_content_length_limits_the_file(path: Path, length: str, sent: int) -> None:
    head, part, _ = serve_file(
        lambda wrapper: wrapper(path.open("rb")), [("Content-Length", length)]
    )
    assert head["fields"] == [(b"Content-Length", length.encode())]
    assert part["length"] == sent


def test_a_file_at_its_end_is_an_empty_body(path: Path) -> None:
    file = path.open("rb")
    file.seek(0, os.SEEK_END)
    frames = serve_file(lambda wrapper: wrapper(file))
    assert [frame["kind"] for frame in frames] == ["head", "body"]
    assert (b"Content-Length", b"0") in frames[0]["fields"]


def test_a_named_temporary_file_goes_out_with_what_was_just_written() -> None:
    file = tempfile.NamedTemporaryFile()  # noqa: SIM115  (the gateway closes it)
    file.write(b"fresh")
    file.seek(0)
    _, part, _ = serve_file(lambda wrapper: wrapper(file))
    assert part["data"] == b"fresh"


def test_what_is_no_plain_file_is_read_block_by_block(path: Path, tmp_path: Path) -> None:
    packed = tmp_path / "packed"
    packed.write_bytes(gzip.compress(b"unpacked"))
    replaced = path.open("rb")
    answers = [b"mine", b""]
    replaced.read = lambda size=-1: answers.pop(0)  # type: ignore[method-assign]

    class Own(io.FileIO):
        def read(self, size: int | None = -1) -> bytes:
            return super().read(1)

    read_end, write_end = os.pipe()
    os.write(write_end, b"piped")
    os.close(write_end)
    own = tmp_path / "own"
    own.write_bytes(b"own")
    for file, expected in [
        (gzip.open(packed), b"unpacked"),  # noqa: SIM115
        (io.BytesIO(b"memory"), b"memory"),
        (replaced, b"mine"),
        (Own(str(own)), b"own"),
        (open(read_end, "rb"), b"piped"),  # noqa: PTH123, SIM115
    ]:
        frames = serve_file(lambda wrapper, file=file: wrapper(file, 100))
        assert "file" not in [frame["kind"] for frame in frames]
        assert body(frames) == expected
        assert file.closed


def test_a_wrapper_that_was_changed_by_middleware_is_iterated(path: Path) -> None:
    frames = serve_file(lambda wrapper: (block.lower() for block in wrapper(path.open("rb"))))
    assert "file" not in [frame["kind"] for frame in frames]
    assert body(frames) == path.read_bytes()


def test_the_wrapper_is_an_iterable_of_blocks_that_closes_its_file(path: Path) -> None:
    file = path.open("rb")
    wrapper = _native.FileWrapper(file, 4096)
    assert [len(block) for block in wrapper] == [4096, 4096, 1808]
    wrapper.close()
    assert file.closed
    with pytest.raises(TypeError, match="wants a file"):
        _native.FileWrapper(7)


def test_a_text_file_is_a_type_error_and_is_closed(path: Path) -> None:
    file = path.open("r")

    def application(environ: Environ, start_response: Start) -> Any:
        start_response("200 OK", PLAIN)
        return environ["wsgi.file_wrapper"](file)

    link = Link(application)
    assert link.serve()[0]["status"] == 500
    assert isinstance(link.logged[0][1], TypeError)
    assert file.closed
