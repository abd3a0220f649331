"""Bytes on their way from one store to another, hashed in the same pass."""

import hashlib
import os
from collections.abc import AsyncGenerator
from pathlib import Path

from entrepot.errors import Invalid, Unavailable
from entrepot.index import Content, Elsewhere, OnDisk, Span, Stream
from entrepot.moving.ledger import Progress
from entrepot.stores import failures
from entrepot.stores.pieces import Pieces
from entrepot.threads import finished

_WORTH_A_THREAD = 64 << 10  # bytes; to hash fewer takes less than to go there and back


async def pieces(content: Content, key: str) -> AsyncGenerator[bytes, None]:
    """The bytes of a content, some hundred kilobytes at a time."""
    match content:
        case OnDisk(path=path, size=size):
            body = Pieces(await finished(_opened, path, key), Span(0, size), key=key, root=str(path.parent))
            async for piece in body:
                yield piece
        case Stream(body=stream):
            async for piece in stream:
                yield bytes(piece)
        case Elsewhere():
            raise Unavailable("the store answers with a redirect", at=key)


async def hashed(content: Content, key: str, sha256: str | None, progress: Progress) -> AsyncGenerator[bytes, None]:
    """The same bytes. Raises `Invalid` behind the last if they are not those of `sha256`: whoever writes drops them."""
    running = hashlib.sha256()
    async for piece in pieces(content, key):
        if len(piece) < _WORTH_A_THREAD:
            running.update(piece)
        else:
            await finished(running.update, piece)
        progress(len(piece))
        yield piece
    if sha256 is not None and running.hexdigest() != sha256:
        raise Invalid(f"its bytes have the sha256 {running.hexdigest()}, not {sha256}", at=key)


async def digest(content: Content, key: str) -> str:
    """The SHA-256 of the content."""
    running = hashlib.sha256()
    async for piece in pieces(content, key):
        await finished(running.update, piece)
    return running.hexdigest()


def _opened(path: Path, key: str) -> int:
    with failures.translated(failures.while_reading, key, str(path.parent)):
        return os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
