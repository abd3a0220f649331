"""ZIP archives that two readers would read differently, or that harm who unpacks them."""

import struct
import tarfile
import zlib
from collections.abc import Mapping
from dataclasses import replace

from entrepot.distributions import Limits
from tests.distributions.build import record_line, wheel_members, zip_bytes
from tests.distributions.cases import Case, Outcome
from tests.distributions.rawzip import Entry, changed, entries, write

MODULE = "demo/__init__.py"
MEMBERS = wheel_members(files={MODULE: b"x = 1\n" * 50})
GOOD = zip_bytes(MEMBERS)
_RECORD = "demo-1.0.dist-info/RECORD"


def _listed(name: str, data: bytes = b"") -> dict[str, bytes]:
    """The good members, and one more of this name that RECORD lists."""
    quoted = '"' + name.replace('"', '""') + '"' if set(name) & set(',"\r\n') else name
    record = MEMBERS[_RECORD] + record_line(quoted, data).encode()
    return {**MEMBERS, name: data, _RECORD: record}


def _field(kind: int, payload: bytes) -> bytes:
    return struct.pack("<HH", kind, len(payload)) + payload


def _with(**changes: object) -> bytes:
    return write(changed(MEMBERS, MODULE, **changes))


def _tar_header() -> bytes:
    info = tarfile.TarInfo("PK\x03\x04")
    return info.tobuf(tarfile.USTAR_FORMAT)[:512]


def _tar_first() -> bytes:
    """A tar header in front, with every offset of the archive behind it right."""
    first, *rest = entries(MEMBERS)
    return write([replace(first, gap=_tar_header()), *rest])


def _overlapping() -> bytes:
    content = entries(MEMBERS)
    twin = Entry(name=b"demo/twin.py", data=content[0].data, central={"offset": 0})
    return write([*content, twin])


def _long(data: bytes) -> bytes:
    deflate = zlib.compressobj(9, zlib.DEFLATED, -15)
    return deflate.compress(data) + deflate.flush()


def _bad_name(what: str, name: str, message: str, outcome: Outcome = "safety") -> Case:
    return Case(what=what, data=write(entries(_listed(name))), message=message, outcome=outcome)


def _form(what: str, data: bytes, message: str) -> Case:
    return Case(what=what, data=data, message=message)


def _raised(what: str, data: bytes, message: str, limits: Mapping[str, int] | None = None) -> Case:
    return Case(what=what, data=data, message=message, outcome="raised", limits=Limits(**(limits or {})))


def _later(archive: bytes) -> bytes:
    needed = archive.index(b"PK\1\2") + 6
    return archive[:needed] + bytes([64]) + archive[needed + 1 :]


_CONTENT = b"x = 1\n" * 50
_LARGE = b"\0" * 100_000

CASES = [
    _form("a comment", write(entries(MEMBERS), comment=b"hello"), "has a comment"),
    _form("trailing data", GOOD + b"more", "data behind its end"),
    _form("a comment of another length", write(entries(MEMBERS), end={"comment": 7}), "data behind its end"),
    _form("parts on several disks", write(entries(MEMBERS), end={"disk": 1}), "one part of several"),
    _form("other numbers of entries", write(entries(MEMBERS), end={"here": 1}), "one part of several"),
    _raised("prepended data", b"#!/bin/sh\n" + GOOD, "central directory is not where"),
    _raised("a directory of other size", write(entries(MEMBERS), end={"size": 50}), "central directory is not where"),
    _raised(
        "more entries than there are", write(entries(MEMBERS), end={"here": 9, "entries": 9}), "directory is malformed"
    ),
    _form(
        "fewer entries than there are",
        write([*entries(MEMBERS), Entry(name=b"demo/y.py")], end={"here": 4, "entries": 4}),
        "holds more than its members",
    ),
    _form("data in the directory", write(entries(MEMBERS), directory_more=b"x" * 9), "holds more than its members"),
    _form(
        "data before the directory",
        write(entries(MEMBERS), before_directory=b"x"),
        "between the members and the central",
    ),
    _form("data between members", write(changed(MEMBERS, _RECORD, gap=b"gap")), "bytes between members"),
    _form("overlapping members", _overlapping(), "members overlap"),
    _form(
        "a member only streaming readers see",
        write([*entries(MEMBERS), Entry(name=b"demo/evil.py")], hidden=[b"demo/evil.py"]),
        "between the members and the central",
    ),
    _form(
        "two members of one name",
        write([*entries(MEMBERS), Entry(name=MODULE.encode(), data=b"evil")]),
        "two members have this name",
    ),
    _form("another local name", _with(local={"name": b"demo/__evil__.py"}), "the local and the central names differ"),
    _form("other local flags", _with(local={"flags": 2}), "the local and the central flags differ"),
    _form("another local method", _with(local={"method": 0}), "compression methods differ"),
    _form("another local checksum", _with(local={"crc": 1}), "checksums differ"),
    _form("another local size", _with(local={"size": 1}), "central sizes differ"),
    _form("another local packed size", _with(local={"packed": 1}), "packed sizes differ"),
    _form("a data descriptor", _with(flags=8), "data descriptor"),
    _raised("no local header", write(changed(MEMBERS, MODULE, central={"offset": 3})), "no member begins where"),
    _raised(
        "an offset outside", write(changed(MEMBERS, MODULE, central={"offset": 1 << 30})), "cut short or its offsets"
    ),
    _raised("an encrypted member", _with(flags=1), "cannot be unpacked"),
    _form("unknown flags", _with(flags=1 << 5), "flags that installers do not know"),
    _raised("another compression", _with(method=12, stream=b"BZh"), "cannot be unpacked"),
    _form(
        "a stored member with two sizes",
        write([*entries(MEMBERS), Entry(name=b"d/", method=0, stream=b"x")]),
        "stored member has two sizes",
    ),
    _form("a later version of the format", _later(GOOD), "needs a newer reader"),
    _form("a comment on a member", _with(central={"comment": b"hi"}), "a member has a comment"),
    _form("a member on another disk", _with(central={"disk": 1}), "on another disk"),
    _form("two ZIP64 fields", _with(central={"extra": _field(1, b"") * 2}), "an extra field is given twice"),
    _form("a cut extra field", _with(local={"extra": b"\x01\0\x09\0"}), "an extra field is malformed"),
    _form("an odd extra field", _with(central={"extra": b"\x01"}), "an extra field is malformed"),
    _form(
        "other ZIP64 sizes",
        _with(local={"extra": _field(1, struct.pack("<QQ", 1, 2))}),
        "the ZIP64 sizes are malformed",
    ),
    _raised("missing ZIP64 sizes", _with(central={"size": 0xFFFFFFFF}), "unpacks to"),
    _form("a second name", _with(central={"extra": _field(0x7075, b"\1\0\0\0\0evil.py")}), "a second name"),
    _form(
        "additional data in the ZIP64 end", write(entries(MEMBERS), end64={}, end64_more=b"more"), "has additional data"
    ),
    _form("a ZIP64 end on several disks", write(entries(MEMBERS), end64={"here": 1}), "one part of several"),
    _form("a cut ZIP64 size", _with(central={"extra": _field(1, b"123")}), "the ZIP64 sizes are malformed"),
    _bad_name("no name", "", "the name is empty"),
    _raised(
        "bytes far behind the deflate stream", _with(stream=_long(_CONTENT) + bytes(3 << 20)), "too early or too late"
    ),
    _form("too many ZIP64 sizes", _with(central={"extra": _field(1, bytes(24))}), "the ZIP64 sizes are malformed"),
    _form(
        "two ends that differ",
        write(entries(MEMBERS), end64={}, end={"entries": 1, "here": 1}),
        "ZIP64 end record differ",
    ),
    _raised("a ZIP64 end that is not there", write(entries(MEMBERS), end64={"moved": 1}), "not where its locator says"),
    _form("a folder with contents", write(entries(_listed("demo/data/", b"x"))), "a folder has contents"),
    Case(
        what="a name in no known encoding",
        data=write([*entries(MEMBERS), Entry(name="é.py".encode())]),
        message="neither ASCII nor marked",
    ),
    Case(
        what="a name that is not UTF-8",
        data=write([*entries(MEMBERS), Entry(name=b"\xff.py", flags=0x800)]),
        message="a name is not UTF-8",
    ),
    _bad_name("an absolute name", "/etc/passwd", "is an absolute path"),
    _bad_name("a name that climbs", "demo/../../x.py", "leaves its folder"),
    _bad_name("a Windows path", "demo\\x.py", "separates folders on Windows"),
    _bad_name("a drive letter", "C:x.py", "is an absolute path"),
    _bad_name("a line break in a name", "demo/a\nb.py", "holds control characters"),
    _bad_name("a null byte in a name", "demo/a.py\0.txt", "holds control characters"),
    _bad_name("an empty folder name", "demo//x.py", 'is empty or "."'),
    _bad_name("a folder named .", "demo/./x.py", 'is empty or "."'),
    Case(
        what="a symbolic link",
        data=write([*entries(MEMBERS), Entry(name=b"demo/l", data=b"/etc", mode=0o120777)]),
        message="symbolic link",
        outcome="safety",
    ),
    _raised("a bomb", zip_bytes(_listed("demo/zeros", _LARGE)), "unpacks to", {"free": 1000, "ratio": 20}),
    _raised(
        "too large a total", zip_bytes(_listed("demo/zeros", _LARGE)), "the most there may be", {"unpacked": 50_000}
    ),
    _raised("too many members", GOOD, "more than 3 members", {"members": 3}),
    _raised("too long a directory", GOOD, "list of members is larger", {"directory": 60}),
    _raised("no time", GOOD, "took longer than", {"seconds": -1}),
    _raised(
        "other bytes than the checksum says",
        _with(stream=_long(_CONTENT[:-1] + b"!")),
        "not those that its headers describe",
    ),
    _raised("more bytes than its size says", _with(stream=_long(_LARGE)), "not those that its headers describe"),
    _raised("fewer bytes than its size says", _with(stream=_long(b"x")), "not those that its headers describe"),
    _raised("no deflate stream", _with(stream=b"\xff" * 30), "cannot be unpacked"),
    _raised("a cut deflate stream", _with(stream=_long(bytes(range(256)))[:-20]), "end too early or too late"),
    _raised("bytes behind the deflate stream", _with(stream=_long(_CONTENT) + b"hidden"), "end too early or too late"),
    _raised("a cut archive", GOOD[:-30], "no end of central directory"),
    _raised("no archive", b"hello", "no end of central directory"),
    _raised("nothing", b"", "no end of central directory"),
    _raised("a tar archive in front", _tar_first(), "another archive as well"),
    _raised("a gzip header in front", b"\x1f\x8b" + GOOD, "another archive as well"),
]
