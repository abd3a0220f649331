"""ZIP archives, read so that every reader of the same bytes must see the same members.

Installers read the central directory at the end (pip) or the local headers in front of each member (uv,
while downloading). What the two could disagree about is a *form* problem; what harms is a *safety* problem.
Only headers are held in memory, never members.
"""

import stat
import zlib
from collections.abc import Iterator
from typing import Final

from entrepot.distributions.contents import Contents
from entrepot.distributions.findings import Findings, is_plain, path_fault, shown
from entrepot.distributions.inflate import PIECE, drain
from entrepot.distributions.limits import Budget, Limits, bomb
from entrepot.distributions.zip_ends import REFUSED, End, find_end
from entrepot.distributions.zip_records import (
    DEFLATED,
    DESCRIPTOR,
    ENCRYPTED,
    HARMLESS_FLAGS,
    LOCAL,
    STORED,
    LocalHeader,
    Member,
    read_entry,
    read_local,
)
from entrepot.errors import Invalid

_CUT: Final = f"{REFUSED}it is cut short or its offsets are wrong"
_TOO_LONG: Final = f"{REFUSED}the member's data end too early or too late"


class Zip:
    """An archive: its members, in the order of the central directory, and what is wrong with it.

    Raises `Invalid` if it cannot be read at all; everything else is noted in `findings`.
    """

    def __init__(self, contents: Contents, limits: Limits, findings: Findings) -> None:
        self.limits = limits
        self.findings = findings
        self._contents = contents
        self.budget = Budget(limits, contents.size)
        self.end = find_end(self.read, contents.size, self.malformed)
        self.members = list(self._read_directory(self.end))
        self._check_members()
        # As in zipfile, the last of two members of one name is the one that is read.
        self.by_name = {member.name: member for member in self.members}

    def read(self, offset: int, size: int) -> bytes:
        """Exactly `size` bytes of the file. Raises `Invalid` where it has fewer."""
        return _read(self._contents, offset, size)

    def malformed(self, message: str, name: str = "") -> None:
        self.findings.malformed(REFUSED + message, at=shown(name) or "content")

    def _unsafe(self, message: str, name: str = "") -> None:
        self.findings.unsafe(REFUSED + message, at=shown(name) or "content")

    def _read_directory(self, end: End) -> Iterator[Member]:
        if end.entries > self.limits.members:
            raise Invalid(f"{REFUSED}it has more than {self.limits.members} members", at="content")
        if end.size > self.limits.directory:
            raise Invalid(f"{REFUSED}its list of members is larger than {self.limits.directory} bytes", at="content")
        if end.offset + end.size != end.start:
            # Data in front or between: zipfile forgives it by shifting every offset, others do not.
            raise Invalid(f"{REFUSED}the central directory is not where the end record says", at="content")
        data, at = self.read(end.offset, end.size), 0
        for _ in range(end.entries):
            entry = read_entry(data, at)
            if entry is None:
                raise Invalid(f"{REFUSED}the central directory is malformed", at="content")
            for fault in entry.faults:
                self.malformed(fault, entry.member.name)
            at += entry.length
            yield entry.member
        if at != len(data):
            self.malformed("the central directory holds more than its members")

    def _check_members(self) -> None:
        names: set[str] = set()
        for member in self.members:
            self._check_name(member)
            self._check_method(member)
            if member.name in names:
                self.malformed("two members have this name", member.name)
            names.add(member.name)
        unpacked = sum(member.size for member in self.members)
        if unpacked > self.budget.allowed:
            raise Invalid(REFUSED + bomb(self.limits, unpacked, self.budget.allowed), at="content")

    def _check_name(self, member: Member) -> None:
        if fault := path_fault(member.name):
            self._unsafe(f"the name {fault}", member.name)
        elif not is_plain(member.name):
            self._unsafe('a folder in the name is empty or "."', member.name)
        if stat.S_IFMT(member.mode) not in {0, stat.S_IFREG, stat.S_IFDIR}:
            # Installers either follow it or write its target as text (PEP 778 is deferred).
            self._unsafe("a member is a symbolic link or a device", member.name)
        if member.is_folder and member.size:
            self.malformed("a folder has contents", member.name)

    def _check_method(self, member: Member) -> None:
        if member.flags & ENCRYPTED:
            self.malformed("a member is encrypted", member.name)
        elif member.flags & ~(HARMLESS_FLAGS | DESCRIPTOR):
            self.malformed("a member has flags that installers do not know", member.name)
        if member.method not in {STORED, DEFLATED}:
            self.malformed("a member is neither stored nor deflated", member.name)
        if member.method == STORED and member.size != member.packed:
            self.malformed("a stored member has two sizes", member.name)

    def local(self, member: Member) -> LocalHeader:
        """The local header of a member. Raises `Invalid` if there is none at its offset."""
        fixed = self.read(member.offset, LOCAL.size)
        if fixed[:4] != b"PK\x03\x04":
            raise Invalid(f"{REFUSED}no member begins where the central directory says", at=shown(member.name))
        variable = int.from_bytes(fixed[26:28], "little") + int.from_bytes(fixed[28:30], "little")
        return read_local(fixed, self.read(member.offset + LOCAL.size, variable))

    def unpack(self, name: str, limit: int) -> bytes:
        """A member of at most `limit` bytes, whole. Raises `Invalid`."""
        member = self.by_name[name]
        if member.size > limit:
            raise Invalid(f"the member is larger than {limit} bytes", at=shown(name))
        return b"".join(self.pieces(member))

    def pieces(self, member: Member) -> Iterator[bytes]:
        """The unpacked bytes of a member, at most 1 MiB at a time.

        Raises `Invalid` if they are not of the size or the CRC that the central directory says.
        """
        crc, size = 0, 0
        for piece in self._inflate(member):
            self.budget.tick()
            crc = zlib.crc32(piece, crc)
            size += len(piece)
            if size > member.size:
                break
            yield piece
        if size != member.size or crc != member.crc:
            raise Invalid(f"{REFUSED}the bytes are not those that its headers describe", at=shown(member.name))

    def _inflate(self, member: Member) -> Iterator[bytes]:
        if member.method == STORED and not member.flags & ENCRYPTED:
            yield from self._packed(member)
            return
        if member.method != DEFLATED or member.flags & ENCRYPTED:
            raise Invalid(f"{REFUSED}the member cannot be unpacked", at=shown(member.name))
        inflater = zlib.decompressobj(-zlib.MAX_WBITS)
        try:
            for packed in self._packed(member):
                if inflater.eof:
                    raise Invalid(_TOO_LONG, at=shown(member.name))
                yield from drain(inflater, packed)
        except zlib.error as error:
            raise Invalid(f"{REFUSED}the member cannot be unpacked", at=shown(member.name)) from error
        if not inflater.eof or inflater.unused_data:
            raise Invalid(_TOO_LONG, at=shown(member.name))

    def _packed(self, member: Member) -> Iterator[bytes]:
        at = member.offset + self.local(member).length
        stop = at + member.packed
        while at < stop:
            piece = self.read(at, min(PIECE, stop - at))
            at += len(piece)
            yield piece


def _read(contents: Contents, offset: int, size: int) -> bytes:
    data = contents.read(offset, size)
    if len(data) != size:
        raise Invalid(_CUT, at="content")
    return data


def is_zip(contents: Contents) -> bool:
    """Whether any reader might take the file for a ZIP archive, also one with data in front of it."""

    def read(offset: int, size: int) -> bytes:
        return _read(contents, offset, size)

    try:
        end = find_end(read, contents.size, lambda _: None)
        return end.size > 0 and read(end.start - end.size, 4) == b"PK\x01\x02"
    except Invalid:
        return False
