"""Bodies that name whose they are: the client and the server compute them from a seed."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator

PIECE = 64 * 1024


def pieces(seed: str, size: int) -> Iterator[bytes]:
    """A body of `size` bytes in pieces of 64 KiB. No two seeds and no two pieces are alike."""
    block = hashlib.shake_128(seed.encode()).digest(PIECE)
    for number, at in enumerate(range(0, size, PIECE)):
        turn = number * 997 % PIECE
        yield (block[turn:] + block[:turn])[: size - at]


def whole(seed: str, size: int) -> bytes:
    """The same body in one."""
    return b"".join(pieces(seed, size))
