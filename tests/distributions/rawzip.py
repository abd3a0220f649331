"""Writes ZIP archives that zipfile would not: every field of every header can be given, right or wrong."""

import struct
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace


@dataclass(frozen=True, kw_only=True)
class Entry:
    """A member. `local` and `central` override fields of one header; `gap` are bytes written in front of it."""

    name: bytes
    data: bytes = b""
    method: int = 8
    flags: int = 0
    mode: int = 0o100644
    stream: bytes | None = None  # what stands for the data, instead of their right encoding
    local: Mapping[str, int | bytes] = field(default_factory=dict)
    central: Mapping[str, int | bytes] = field(default_factory=dict)
    gap: bytes = b""

    @property
    def packed(self) -> bytes:
        if self.stream is not None:
            return self.stream
        if self.method != 8:
            return self.data
        deflate = zlib.compressobj(6, zlib.DEFLATED, -15)
        return deflate.compress(self.data) + deflate.flush()

    def values(self, overrides: Mapping[str, int | bytes], offset: int) -> dict[str, int | bytes]:
        return {
            "name": self.name,
            "flags": self.flags,
            "method": self.method,
            "crc": zlib.crc32(self.data),
            "packed": len(self.packed),
            "size": len(self.data),
            "extra": b"",
            "comment": b"",
            "disk": 0,
            "offset": offset,
            **overrides,
        }


def entries(members: Mapping[str, bytes]) -> list[Entry]:
    return [Entry(name=name.encode(), data=data) for name, data in members.items()]


def changed(members: Mapping[str, bytes], name: str, **changes: object) -> list[Entry]:
    """The members as entries, one of them changed."""
    return [
        replace(entry, **changes) if entry.name == name.encode() else entry  # type: ignore[arg-type]
        for entry in entries(members)
    ]


def _b(values: Mapping[str, int | bytes], key: str) -> bytes:
    value = values[key]
    assert isinstance(value, bytes)
    return value


def write(
    content: Sequence[Entry],
    *,
    comment: bytes = b"",
    hidden: Sequence[bytes] = (),
    end: Mapping[str, int] | None = None,
    end64: Mapping[str, int] | None = None,
    end64_more: bytes = b"",
    directory_more: bytes = b"",
    before_directory: bytes = b"",
) -> bytes:
    """An archive of the entries. `hidden` names get no entry in the central directory."""
    body, directory, listed = b"", b"", 0
    for entry in content:
        body += entry.gap
        local = entry.values(entry.local, 0)
        central = entry.values(entry.central, len(body))
        if entry.name not in hidden:
            directory += _central(central, entry.mode)
            listed += 1
        body += _local(local) + entry.packed
    body += before_directory
    directory += directory_more
    numbers = {"disk": 0, "first": 0, "here": listed, "entries": listed, "size": len(directory), "offset": len(body)}
    tail = b""
    if end64 is not None:
        big = {**numbers, "length": 44 + len(end64_more), **end64}
        tail = struct.pack(
            "<4sQ2H2L4Q",
            b"PK\x06\x06",
            big["length"],
            45,
            45,
            0,
            0,
            big["here"],
            big["entries"],
            big["size"],
            big["offset"],
        )
        at = len(body) + len(directory) + big.get("moved", 0)
        tail += end64_more + struct.pack("<4sLQL", b"PK\x06\x07", 0, at, 1)
    last = {**numbers, **(end or {})}
    tail += struct.pack(
        "<4s4H2LH",
        b"PK\x05\x06",
        last["disk"],
        last["first"],
        last["here"],
        last["entries"],
        last["size"],
        last["offset"],
        last.get("comment", len(comment)),
    )
    return body + directory + tail + comment


def _local(values: Mapping[str, int | bytes]) -> bytes:
    name, extra = _b(values, "name"), _b(values, "extra")
    return (
        struct.pack(
            "<4s5H3L2H",
            b"PK\x03\x04",
            20,
            values["flags"],
            values["method"],
            0,
            0x21,
            values["crc"],
            values["packed"],
            values["size"],
            len(name),
            len(extra),
        )
        + name
        + extra
    )


def _central(values: Mapping[str, int | bytes], mode: int) -> bytes:
    name, extra, comment = (_b(values, key) for key in ("name", "extra", "comment"))
    return (
        struct.pack(
            "<4s6H3L5H2L",
            b"PK\x01\x02",
            0x031E,
            20,
            values["flags"],
            values["method"],
            0,
            0x21,
            values["crc"],
            values["packed"],
            values["size"],
            len(name),
            len(extra),
            len(comment),
            values["disk"],
            0,
            mode << 16,
            values["offset"],
        )
        + name
        + extra
        + comment
    )
