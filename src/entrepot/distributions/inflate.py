"""Unpacking in bounded pieces: what comes out of a few bytes never has to fit into memory."""

import zlib
from collections.abc import Iterator
from typing import Final, Protocol

from entrepot.distributions.contents import Contents
from entrepot.distributions.limits import Budget, Limits
from entrepot.errors import Invalid

PIECE: Final = 1 << 20
# Small, because the rest of it is copied for every gzip member that ends in it.
_READ: Final = 1 << 16
_GZIP: Final = b"\x1f\x8b"
_WITH_HEADER: Final = zlib.MAX_WBITS | 16


class Inflater(Protocol):
    """What `zlib.decompressobj` returns."""

    @property
    def eof(self) -> bool: ...
    @property
    def unconsumed_tail(self) -> bytes: ...
    @property
    def unused_data(self) -> bytes: ...
    def decompress(self, data: bytes, max_length: int = ..., /) -> bytes: ...


def drain(inflater: Inflater, packed: bytes) -> Iterator[bytes]:
    """What comes out for `packed`, at most 1 MiB at a time. With b"": what zlib still holds back."""
    while not inflater.eof:
        piece = inflater.decompress(packed, PIECE)
        packed = inflater.unconsumed_tail
        if piece:
            yield piece
        elif not packed:
            return


class Gunzipped:
    """A gzip file read once, forwards: its members one after the other, as every reader joins them.

    Raises `Invalid` where the stream is cut or broken (zlib compares length and CRC), or the budget spent.
    """

    def __init__(self, contents: Contents, limits: Limits) -> None:
        self._contents = contents
        self.budget = Budget(limits, contents.size)
        self.has_trailing_data = False
        self._pieces = self._unpack()
        self._piece = b""
        self._at = 0

    def read(self, size: int) -> bytes:
        """The next `size` bytes; fewer only at the end. `size` must be one that fits into memory."""
        whole = self._piece[self._at : self._at + size]
        self._at += len(whole)
        if len(whole) == size:
            return whole
        parts = [whole]
        missing = size - len(whole)
        while missing and self._next():
            parts.append(self._piece[:missing])
            self._at = len(parts[-1])
            missing -= self._at
        return b"".join(parts)

    def skip(self, size: int) -> int:
        """Leave out `size` bytes; returns how many there were."""
        skipped = min(size, len(self._piece) - self._at)
        self._at += skipped
        while skipped < size and self._next():
            self._at = min(size - skipped, len(self._piece))
            skipped += self._at
        return skipped

    def rest_is_zero(self) -> bool:
        """Read to the end; whether nothing but zeros came."""
        zeros = self._piece.count(0, self._at) == len(self._piece) - self._at
        while self._next():
            zeros = zeros and self._piece.count(0) == len(self._piece)
        self._at = len(self._piece)
        return zeros

    def _next(self) -> bool:
        self._piece, self._at = next(self._pieces, b""), 0
        return bool(self._piece)

    def _unpack(self) -> Iterator[bytes]:
        inflater, begun, finished = zlib.decompressobj(_WITH_HEADER), False, 0
        for packed in self._packed():
            waiting = packed
            while waiting:
                if finished and not begun and not waiting.startswith(_GZIP[: len(waiting)]):
                    self.has_trailing_data = True
                    return
                begun = True
                yield from self._counted(drain(inflater, waiting))
                if not inflater.eof:
                    break
                waiting, inflater, begun, finished = (
                    inflater.unused_data,
                    zlib.decompressobj(_WITH_HEADER),
                    False,
                    finished + 1,
                )
        if begun or not finished:
            raise Invalid("the file is cut short", at="content", hint="send it again")

    def _packed(self) -> Iterator[bytes]:
        at = 0
        while piece := self._contents.read(at, _READ):
            yield piece
            at += len(piece)

    def _counted(self, pieces: Iterator[bytes]) -> Iterator[bytes]:
        self.budget.tick()
        try:
            for piece in pieces:
                self.budget.spend(len(piece))
                yield piece
        except zlib.error as error:
            raise Invalid("the gzip stream is broken", at="content") from error
