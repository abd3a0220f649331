"""Reading what a place gives: piece by piece, with bounded memory."""

from collections.abc import AsyncIterator
from pathlib import Path

from entrepot.errors import NotFound, Unavailable
from entrepot.index import Content, Elsewhere, OnDisk, Stream
from entrepot.threads import finished

PIECE = 1 << 20  # bytes


async def pieces(content: Content, start: int = 0) -> AsyncIterator[bytes]:
    """The bytes as they come; of a file on the disk those from `start` on. Raises `NotFound`, `Unavailable`."""
    match content:
        case OnDisk(path=path):
            async for piece in of_file(path, start):
                yield piece
        case Stream(body=body):
            async for piece in body:
                yield piece
        case Elsewhere():
            raise Unavailable("the store answers with a redirect", hint="leave `deliver` out of its configuration")


async def of_file(path: Path, start: int = 0) -> AsyncIterator[bytes]:
    """The bytes of a local file from `start` on. Raises `NotFound`, `Unavailable`."""
    try:
        file = await finished(open, path, "rb")
        try:
            await finished(file.seek, start)
            while piece := await finished(file.read, PIECE):
                yield piece
        finally:
            file.close()
    except FileNotFoundError as error:
        raise NotFound("there is no such file", at=str(path)) from error
    except OSError as error:
        raise Unavailable(error.strerror or repr(error), at=str(path)) from error
