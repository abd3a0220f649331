"""How a ZIP archive ends: where its central directory lies, ZIP64 or not (APPNOTE.TXT 4.3.14 to 4.3.16)."""

import struct
from collections.abc import Callable
from typing import Final, NamedTuple

from entrepot.errors import Invalid

REFUSED: Final = "ZIP archive not accepted: "

_END: Final = struct.Struct("<4s4H2LH")  # 4.3.16
_END64: Final = struct.Struct("<4sQ2H2L4Q")  # 4.3.14
_LOCATOR: Final = struct.Struct("<4sLQL")  # 4.3.15
_MAX16, _MAX32 = 0xFFFF, 0xFFFFFFFF

Read = Callable[[int, int], bytes]  # offset and size to exactly so many bytes, or Invalid
Note = Callable[[str], None]


class End(NamedTuple):
    """The central directory's number of entries, size and offset; `start` is where the end records begin."""

    entries: int
    size: int
    offset: int
    start: int


def find_end(read: Read, size: int, note: Note) -> End:
    """The end of an archive of `size` bytes. `note` takes what a strict reader would refuse.

    A strict reader wants the record to be the last bytes of the file; zipfile looks for it in the last
    64 KiB, where a comment may stand. Raises `Invalid` if there is none.
    """
    tail = min(size, _END.size + _MAX16)
    data = read(size - tail, tail)
    found = data.rfind(b"PK\x05\x06")
    if found < 0 or len(data) - found < _END.size:
        raise Invalid(f"{REFUSED}there is no end of central directory record", at="content")
    start = size - tail + found
    _, disk, first_disk, here, entries, length, offset, comment = _END.unpack_from(data, found)
    if comment:
        note("it has a comment")
    if start + _END.size + comment != size:
        note("there is data behind its end")
    if disk or first_disk or here != entries:
        note("it is one part of several")
    zip64 = _find_end64(read, start, note)
    if zip64 is None:
        return End(entries, length, offset, start)
    _compare((entries, length, offset), zip64, note)
    return zip64


def _find_end64(read: Read, end: int, note: Note) -> End | None:
    """The ZIP64 end record, if its locator stands in front of the end record."""
    at = end - _LOCATOR.size
    if at < _END64.size:
        return None
    signature, disk, offset, disks = _LOCATOR.unpack(read(at, _LOCATOR.size))
    if signature != b"PK\x06\x07":
        return None
    signature, length, _, _, number, first, here, entries, size, start = _END64.unpack(read(offset, _END64.size))
    if signature != b"PK\x06\x06":
        raise Invalid(f"{REFUSED}the ZIP64 end record is not where its locator says", at="content")
    if length != _END64.size - 12 or offset + _END64.size != at:
        note("the ZIP64 end record has additional data")
    if disk or disks > 1 or number or first or here != entries:
        note("it is one part of several")
    return End(entries, size, start, offset)


def _compare(plain: tuple[int, int, int], zip64: End, note: Note) -> None:
    """The old record must hold the same numbers, or those that mean "see ZIP64" (4.4.1.4)."""
    for small, large, unknown in zip(plain, zip64[:3], (_MAX16, _MAX32, _MAX32), strict=True):
        if small not in {large, unknown}:
            note("the end record and the ZIP64 end record differ")
            return
