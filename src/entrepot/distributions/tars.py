"""The headers of a tar archive, read once and forwards (POSIX.1-2001 pax, GNU long names).

Our own, because tarfile of supported Pythons keeps whole extended headers in memory, recurses from one to
the next and searches them in quadratic time (CVE-2024-6232, CVE-2025-8194); a server reads what strangers
send. What it cannot read as tarfile does, it refuses.
"""

import re
from collections.abc import Iterator
from typing import Final, Literal, NamedTuple

from entrepot.distributions.findings import Findings, shown
from entrepot.distributions.inflate import Gunzipped
from entrepot.errors import Invalid

REFUSED: Final = "tar archive not accepted: "
BLOCK: Final = 512
_OCTAL: Final = re.compile(rb" *([0-7]*)[ \0]*\Z")
_RECORD: Final = re.compile(rb"(\d{1,9}) ([^=\n]{1,255})=")

Kind = Literal["file", "folder", "symlink", "hardlink", "special"]
_KINDS: Final[dict[bytes, Kind]] = {
    b"0": "file",
    b"\0": "file",
    b"7": "file",
    b"1": "hardlink",
    b"2": "symlink",
    b"3": "special",
    b"4": "special",
    b"5": "folder",
    b"6": "special",
}
_LONG_NAME, _LONG_LINK, _SPARSE, _GLOBAL, _EXTENDED = b"L", b"K", b"S", b"g", (b"x", b"X")


class Member(NamedTuple):
    """One member. `size` bytes follow it if it is a file; `target` is what a link names."""

    name: str
    kind: Kind
    size: int
    target: str


class Tar:
    """The members of an unpacked stream, one after the other.

    Raises `Invalid` at what cannot be read; notes form problems.
    """

    def __init__(self, stream: Gunzipped, findings: Findings) -> None:
        self._stream = stream
        self._findings = findings
        self._limits = stream.budget.limits
        self._left = 0  # bytes of the current member, with padding, that were not read yet

    def members(self) -> Iterator[Member]:
        """Each member once; its contents must be read before the next one is asked for."""
        for _ in range(self._limits.members):
            self._skip()
            member = self._header()
            if member is None:
                return
            yield member
        raise Invalid(f"{REFUSED}it has more than {self._limits.members} members", at="content")

    def contents(self, member: Member, limit: int) -> bytes:
        """The bytes of the current member. Raises `Invalid` if they are more than `limit`."""
        if member.size > limit:
            raise Invalid(f"the member is larger than {limit} bytes", at=shown(member.name))
        self._left -= member.size
        return self._exactly(member.size)

    def _skip(self) -> None:
        if self._stream.skip(self._left) != self._left:
            raise Invalid(f"{REFUSED}it is cut short", at="content", hint="build it again")
        self._left = 0

    def _exactly(self, size: int) -> bytes:
        data = self._stream.read(size)
        if len(data) != size:
            raise Invalid(f"{REFUSED}it is cut short", at="content", hint="build it again")
        return data

    def _header(self) -> Member | None:
        """The next member with the extended headers in front of it applied; None at the end."""
        extended: dict[str, bytes] = {}
        while True:
            block = self._stream.read(BLOCK)
            if not block.strip(b"\0"):
                self._check_end(block, pending=bool(extended))
                return None
            _check_sum(block)
            kind, size = block[156:157], _number(block[124:136])
            if kind not in {_LONG_NAME, _LONG_LINK, _GLOBAL, *_EXTENDED}:
                return self._member(block, kind, size, extended)
            found = self._extension(kind, size)
            if extended.keys() & found.keys():
                raise Invalid(f"{REFUSED}two extended headers for one member", at="content")
            extended |= found

    def _check_end(self, block: bytes, *, pending: bool) -> None:
        """Two blocks of zeros end the archive; whatever stands behind them only some readers see."""
        if len(block) < BLOCK or pending:
            raise Invalid(f"{REFUSED}it is cut short", at="content", hint="build it again")
        if not self._stream.rest_is_zero():
            self._findings.malformed(f"{REFUSED}there is data behind its end")

    def _extension(self, kind: bytes, size: int) -> dict[str, bytes]:
        """What an extended header says of the next member: "path", "linkpath", "size"."""
        if size > self._limits.small:
            raise Invalid(f"{REFUSED}an extended header is larger than {self._limits.small} bytes", at="content")
        data = self._exactly(-(-size // BLOCK) * BLOCK)[:size]
        if kind in {_LONG_NAME, _LONG_LINK}:
            return {"path" if kind == _LONG_NAME else "linkpath": data.partition(b"\0")[0]}
        fields = _pax_fields(data)
        if any(key.startswith("GNU.sparse.") for key in fields):
            raise Invalid(f"{REFUSED}a member is sparse", at="content")
        if "hdrcharset" in fields:
            self._findings.malformed(f"{REFUSED}a name is not in UTF-8")
        wanted: dict[str, bytes] = {key: fields[key] for key in ("path", "linkpath", "size") if key in fields}
        if kind == _GLOBAL:
            # git archive writes its commit into one; names for all members only confuse.
            if wanted:
                raise Invalid(f"{REFUSED}a global header names members", at="content")
            return {}
        return wanted

    def _member(self, block: bytes, kind: bytes, size: int, extended: dict[str, bytes]) -> Member:
        raw = _until_null(block[:100])
        prefix = _until_null(block[345:500])
        if prefix:
            if block[257:263] != b"ustar\0":
                self._findings.malformed(f"{REFUSED}a name has a prefix that some readers ignore", at=_text(raw))
            raw = prefix + b"/" + raw
        name = self._decoded(extended.get("path", raw))
        target = self._decoded(extended.get("linkpath", _until_null(block[157:257])))
        if "size" in extended:
            size = _decimal(extended["size"])
        if kind == _SPARSE or kind not in _KINDS:
            raise Invalid(f"{REFUSED}a member is sparse or of an unknown type", at=shown(name))
        meaning = _KINDS[kind]
        if kind == b"\0" and name.endswith("/"):
            meaning = "folder"  # before POSIX, folders had no type of their own
        if meaning != "file" and size:
            self._findings.malformed(f"{REFUSED}a member that is no file has contents", at=shown(name))
            size = 0
        self._left = -(-size // BLOCK) * BLOCK
        return Member(name, meaning, size, target)

    def _decoded(self, raw: bytes) -> str:
        try:
            return raw.decode("utf-8")
        except UnicodeDecodeError:
            self._findings.malformed(f"{REFUSED}a name is not in UTF-8", at=_text(raw))
            return _text(raw)


def _text(raw: bytes) -> str:
    return shown(raw.decode("utf-8", "replace"))


def _until_null(field: bytes) -> bytes:
    return field.partition(b"\0")[0]


def is_header(block: bytes) -> bool:
    """Whether a file that begins with this block is a tar archive."""
    try:
        _check_sum(block)
    except Invalid:
        return False
    return True


def _check_sum(block: bytes) -> None:
    """The sum of the header's bytes with the sum itself as spaces; old tars added signed bytes."""
    if len(block) < BLOCK:
        raise Invalid(f"{REFUSED}it is cut short", at="content", hint="build it again")
    given, rest = _number(block[148:156]), block[:148] + b" " * 8 + block[156:]
    if given != sum(rest) and given != sum(rest) - 256 * sum(byte > 127 for byte in rest):
        raise Invalid(f"{REFUSED}a header's checksum is wrong", at="content", hint="is it a .tar.gz file?")


def _number(field: bytes) -> int:
    """Octal digits; or, for large files, GNU's binary form after a first byte of 0x80."""
    octal = _OCTAL.match(field)
    if octal:
        return int(octal[1] or b"0", 8)
    if field[0] == 0x80:
        return int.from_bytes(field[1:], "big")
    raise Invalid(f"{REFUSED}a header holds a malformed number", at="content")


def _decimal(text: bytes) -> int:
    if not text.isdigit() or len(text) > 18:
        raise Invalid(f"{REFUSED}a header holds a malformed number", at="content")
    return int(text)


def _pax_fields(data: bytes) -> dict[str, bytes]:
    """The records of a pax header, each a length, a key and a value; each key once, nothing between."""
    fields: dict[str, bytes] = {}
    at = 0
    while at < len(data):
        record = _RECORD.match(data, at)
        end = at + int(record[1]) if record else 0
        if record is None or not record.end() < end <= len(data) or data[end - 1 : end] != b"\n":
            raise Invalid(f"{REFUSED}an extended header is malformed", at="content")
        key = record[2].decode("utf-8", "replace")
        if key in fields and not key.startswith("GNU.sparse."):
            raise Invalid(f"{REFUSED}an extended header says one thing twice", at="content")
        fields[key] = data[record.end() : end - 1]
        at = end
    return fields
