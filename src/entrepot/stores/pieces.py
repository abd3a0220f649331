"""A part of a file, read in threads."""

import os
import weakref
from typing import Self

from entrepot.errors import Unavailable
from entrepot.index import Span
from entrepot.stores import failures
from entrepot.threads import finished

_PIECE = 256 * 1024


class Pieces:
    """The bytes of `span` of the open file, in pieces.

    Takes over `fd` and closes it, at the latest when nobody holds this any more: a response that never
    starts must not keep a file open.
    """

    def __init__(self, fd: int, span: Span, *, key: str, root: str) -> None:
        self._fd = fd
        self._close = weakref.finalize(self, os.close, fd)
        self._at = span.start
        self._stop = span.stop
        self._key = key
        self._root = root

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> bytes:
        piece = await finished(self._read) if self._close.alive else b""
        if not piece:
            self._close()
            raise StopAsyncIteration
        self._at += len(piece)
        return piece

    async def aclose(self) -> None:
        self._close()

    def _read(self) -> bytes:
        with failures.translated(failures.while_reading, self._key, self._root):
            piece = os.pread(self._fd, min(_PIECE, self._stop - self._at), self._at)
        if not piece and self._at < self._stop:
            raise Unavailable("it became shorter while it was read", at=self._key)
        return piece
