"""The records of a ZIP archive, from bytes to values. Section numbers are those of PKWARE's APPNOTE.TXT."""

import struct
from typing import Final, NamedTuple

STORED, DEFLATED = 0, 8
ENCRYPTED, DESCRIPTOR, UTF8 = 1 << 0, 1 << 3, 1 << 11
# The compression level, and how names are written: every other flag changes how the bytes are read.
HARMLESS_FLAGS: Final = 0b110 | UTF8

LOCAL: Final = struct.Struct("<4s5H3L2H")  # 4.3.7
CENTRAL: Final = struct.Struct("<4s6H3L5H2L")  # 4.3.12

# The latest version of the format is 6.3 (4.4.3.2); zipfile refuses archives that name a later one.
_NEWEST: Final = 63
_ZIP64, _UNICODE_PATH = 0x0001, 0x7075
_UNKNOWN: Final = 0xFFFFFFFF


class Member(NamedTuple):
    """One entry of the central directory. `offset` is that of its local header."""

    name: str
    raw: bytes
    flags: int
    method: int
    crc: int
    packed: int
    size: int
    offset: int
    mode: int  # the Unix mode, 0 where the archive has none

    @property
    def is_folder(self) -> bool:
        return self.name.endswith("/")


class Entry(NamedTuple):
    """A member, the length of its record, and what is wrong with the record."""

    member: Member
    length: int
    faults: list[str]


class LocalHeader(NamedTuple):
    """What stands in front of a member's bytes, which begin `length` bytes after it."""

    raw: bytes
    flags: int
    method: int
    crc: int
    packed: int
    size: int
    length: int
    faults: list[str]


def read_entry(data: bytes, at: int) -> Entry | None:
    """The central directory's record at `at` (4.3.12); None if there is none."""
    if len(data) - at < CENTRAL.size or data[at : at + 4] != b"PK\x01\x02":
        return None
    fields = CENTRAL.unpack_from(data, at)
    needed, flags, method = fields[2:5]
    crc, packed, size, name_size, extra_size, comment_size, disk = fields[7:14]
    attributes, offset = fields[15:17]
    names = at + CENTRAL.size
    length = CENTRAL.size + name_size + extra_size + comment_size
    if len(data) - at < length:
        return None
    raw = data[names : names + name_size]
    faults: list[str] = []
    if needed & 0xFF > _NEWEST:
        faults.append("a member needs a newer reader than there is")
    size, packed, offset = _extended(
        data[names + name_size : names + name_size + extra_size], (size, packed, offset), raw, faults
    )
    if comment_size:
        faults.append("a member has a comment")
    if disk:
        faults.append("a member lies on another disk")
    name = _decode(raw, flags, faults)
    member = Member(name, raw, flags, method, crc, packed, size, offset, attributes >> 16)
    return Entry(member, length, faults)


def read_local(fixed: bytes, variable: bytes) -> LocalHeader:
    """The header in front of a member (4.3.7): its 30 bytes, and the name and extra fields behind them."""
    _, _, flags, method, _, _, crc, packed, size, name_size, extra_size = LOCAL.unpack(fixed)
    raw, extra = variable[:name_size], variable[name_size:]
    faults: list[str] = []
    size, packed = _extended(extra, (size, packed), raw, faults)
    return LocalHeader(raw, flags, method, crc, packed, size, LOCAL.size + name_size + extra_size, faults)


def _decode(raw: bytes, flags: int, faults: list[str]) -> str:
    """Names are UTF-8 and say so, or ASCII; zipfile reads others as code page 437 (appendix D)."""
    if raw.isascii():
        return raw.decode("ascii")
    if not flags & UTF8:
        faults.append("a name is neither ASCII nor marked as UTF-8")
        return raw.decode("cp437")
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError:
        faults.append("a name is not UTF-8")
        return raw.decode("utf-8", "replace")


def _extended(extra: bytes, values: tuple[int, ...], raw: bytes, faults: list[str]) -> tuple[int, ...]:
    """`values` with those that did not fit 32 bits taken from the ZIP64 extra field (4.5.3)."""
    zip64: bytes | None = None
    seen: set[int] = set()
    while extra:
        kind, size = struct.unpack_from("<HH", extra) if len(extra) >= 4 else (0, len(extra))
        payload, extra = extra[4 : 4 + size], extra[4 + size :]
        if len(payload) != size:
            faults.append("an extra field is malformed")
            break
        if kind in seen and kind in {_ZIP64, _UNICODE_PATH}:
            faults.append("an extra field is given twice")
        seen.add(kind)
        if kind == _ZIP64:
            zip64 = payload
        elif kind == _UNICODE_PATH and payload[5:] != raw:
            faults.append("an extra field gives a member a second name")
    widened = _widened(values, zip64)
    if widened is None:
        faults.append("the ZIP64 sizes are malformed")
    return widened or values


def _widened(values: tuple[int, ...], payload: bytes | None) -> tuple[int, ...] | None:
    """The payload holds the unknown values in order; or both sizes, then agreeing with those known."""
    unknown = values.count(_UNKNOWN)
    if payload is None:
        return None if unknown else values
    # Four bytes more may name a disk.
    if len(payload) % 8 not in {0, 4}:
        return None
    found = [number for (number,) in struct.iter_unpack("<Q", payload[: len(payload) // 8 * 8])]
    if len(found) == unknown:
        rest = iter(found)
        return tuple(next(rest) if value == _UNKNOWN else value for value in values)
    # CPython before 3.11.4 wrote both sizes into local headers that needed neither; of a central record
    # that needs some, zipfile would take the first number for the first that it misses.
    if len(found) != 2 or (unknown and len(values) > 2):
        return None
    if any(value not in {number, _UNKNOWN} for value, number in zip(values, found, strict=False)):
        return None
    return (*found, *values[2:])
