"""METADATA of a wheel that lies elsewhere, from a few ranges of it: the directory at its end, and the member.

Of the archive only what leads to that one member is looked at; the file is judged when it is kept or published.
"""

import re
import struct
import zlib
from typing import Protocol

from entrepot.errors import Invalid
from entrepot.model import normalise
from entrepot.wire import filenames

_TAIL = 32 << 10  # bytes: the directory of nearly every wheel, and METADATA with it
_LARGEST_DIRECTORY = 16 << 20
_LARGEST_METADATA = 8 << 20  # as for uploads
_EXTRA = 512  # bytes of extra fields in a local header, more than any wheel has
_MEMBER = re.compile(rb"([^/]+)\.dist-info/METADATA\Z")

# APPNOTE.TXT 4.3: end of the central directory, its ZIP64 forms, a directory entry, a local header.
_END = struct.Struct("<4s4H2LH")
_LOCATOR = struct.Struct("<4sLQL")
_END64 = struct.Struct("<4sQ2H2L4Q")
_ENTRY = struct.Struct("<4s6H3L5H2L")
_LOCAL = struct.Struct("<4s5H3L2H")
_FULL = 0xFFFFFFFF


class Ranges(Protocol):
    """A file of which parts can be had."""

    async def tail(self, size: int) -> tuple[bytes, int]:
        """Its last bytes, and how many it has altogether."""

    async def part(self, start: int, stop: int) -> bytes: ...


async def remote_metadata(wheel: Ranges, filename: str) -> bytes:
    """The exact bytes of the wheel's METADATA. Raises `Invalid` if it has none that can be used, `Unavailable`."""
    tail, size = await wheel.tail(_TAIL)
    known = _Part(wheel, size - len(tail), tail, size)
    try:
        start, length = await _directory(known)
        place, packed, unpacked, method = _member(await known.bytes(start, start + length), filename)
        head = _LOCAL.size + len(filename) + _EXTRA
        data = await known.bytes(place, min(size, place + head + packed))
        signature, *_, name, extra = _LOCAL.unpack_from(data)
        if signature != b"PK\3\4":
            raise Invalid("its directory leads to no member", at=filename)
        begin = _LOCAL.size + name + extra
        if len(data) < begin + packed:
            data = await known.bytes(place, place + begin + packed)
        return _unpacked(data[begin : begin + packed], unpacked, method, filename)
    except (struct.error, zlib.error, ValueError) as error:
        raise Invalid(f"is no archive that can be read: {error}", at=filename) from error


class _Part:
    """The last bytes that were fetched, and others when they are wanted."""

    def __init__(self, wheel: Ranges, start: int, data: bytes, size: int) -> None:
        self._wheel = wheel
        self._start = start
        self.data = data
        self.size = size

    async def bytes(self, start: int, stop: int) -> bytes:
        if not 0 <= start <= stop <= self.size:
            raise ValueError("an offset leads out of the file")
        if start >= self._start and stop <= self._start + len(self.data):
            return self.data[start - self._start : stop - self._start]
        return await self._wheel.part(start, stop)


async def _directory(known: _Part) -> tuple[int, int]:
    """Where the central directory is and how long."""
    place = known.data.rfind(b"PK\5\6")
    if place < 0:
        raise ValueError("it has no end of a directory")
    _, _, _, _, _, length, start, _ = _END.unpack_from(known.data, place)
    if _FULL in {start, length}:
        signature, _, end64, _ = _LOCATOR.unpack_from(known.data, place - _LOCATOR.size)
        if signature != b"PK\6\7":
            raise ValueError("it has no ZIP64 locator")
        *_, length, start = _END64.unpack(await known.bytes(end64, end64 + _END64.size))
    if length > _LARGEST_DIRECTORY:
        raise ValueError("its directory is too large")
    return start, length


def _member(directory: bytes, filename: str) -> tuple[int, int, int, int]:
    """Offset, packed and unpacked size, and method of the one METADATA of the wheel's own name."""
    project = filenames.parse(filename).project
    found = []
    at = 0
    while at < len(directory):
        entry = _ENTRY.unpack_from(directory, at)
        if entry[0] != b"PK\1\2":
            raise ValueError("its directory is broken")
        name, extra, comment = entry[10], entry[11], entry[12]
        begin = at + _ENTRY.size
        at = begin + name + extra + comment
        if not directory.startswith(b"METADATA", begin + name - 8):
            continue
        match = _MEMBER.match(directory[begin : begin + name])
        if match and normalise(match[1].decode("utf-8", "replace").rpartition("-")[0]) == project:
            found.append((entry[16], entry[8], entry[9], entry[4]))
    if len(found) != 1:
        raise Invalid(f"it has {len(found) or 'no'} METADATA of its name", at=filename)
    if _FULL in found[0] or found[0][2] > _LARGEST_METADATA:
        raise Invalid("its METADATA is too large", at=filename)
    return found[0]


def _unpacked(packed: bytes, size: int, method: int, filename: str) -> bytes:
    if method == 0:
        data = packed
    elif method == zlib.DEFLATED:
        data = zlib.decompressobj(-15).decompress(packed, size + 1)
    else:
        raise Invalid(f"its METADATA is compressed by method {method}", at=filename)
    if len(data) != size:
        raise Invalid("its METADATA is cut short", at=filename)
    return data
