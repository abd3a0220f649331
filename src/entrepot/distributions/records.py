"""RECORD: the list of a wheel's members with their hashes, complete and true.

PyPI only compares the names; here the hashes and sizes are verified too, so that what installers check
after unpacking is known to hold for every file that is offered.
"""

import base64
import csv
import hashlib
import io
from collections.abc import Iterator
from typing import Final, NamedTuple

from entrepot.distributions.findings import Findings, shown
from entrepot.distributions.zip_records import Member
from entrepot.distributions.zips import Zip

# "sha256 or better; md5, sha1 and sha224 are not permitted" (binary distribution format).
_ALGORITHMS: Final = ("sha256", "sha384", "sha512")
# They cannot hold a hash of what holds their own (PEP 427; deprecated by PEP 815).
_EXEMPT: Final = ("RECORD", "RECORD.jws", "RECORD.p7s")
_LONGEST_LINE: Final = 8192


class _Line(NamedTuple):
    path: str
    digest: str
    size: str


def check(archive: Zip, folder: str, findings: Findings, *, thorough: bool) -> None:
    """Notes what RECORD omits, invents or misstates. `thorough`: unpack each member to verify its hash."""
    at = f"{folder}/RECORD"
    if at not in archive.by_name:
        findings.malformed("the file is missing", at=at, hint="build the wheel with a current build backend")
        return
    lines = _read(archive.unpack(at, archive.limits.record), findings, at, most=2 * len(archive.members) + len(_EXEMPT))
    if lines is None:
        return
    exempt = {f"{folder}/{name}" for name in _EXEMPT}
    listed = {line.path for line in lines}
    for member in archive.members:
        if not member.is_folder and member.name not in listed and member.name not in exempt:
            findings.malformed("RECORD does not list this member", at=shown(member.name))
    for line in lines:
        if line.path in exempt:
            continue
        if line.path not in archive.by_name:
            findings.malformed("RECORD lists a member that the wheel does not have", at=shown(line.path))
        else:
            _check_line(archive, archive.by_name[line.path], line, findings, thorough=thorough)


def _read(data: bytes, findings: Findings, at: str, *, most: int) -> list[_Line] | None:
    """The lines, each path once; None if it cannot be read as a list."""
    lines: dict[str, _Line] = {}
    try:
        for number, row in enumerate(csv.reader(_physical_lines(data.decode("utf-8")), strict=True), 1):
            if number > most:
                findings.malformed("RECORD has more lines than the wheel has members", at=at)
                return None
            if len(row) != 3:
                findings.malformed(f"line {number} has {len(row)} fields instead of 3", at=at)
            elif row[0] in lines:
                findings.malformed("RECORD lists this member twice", at=shown(row[0]))
            else:
                lines[row[0]] = _Line(*row)
    except (UnicodeDecodeError, csv.Error):
        findings.malformed("the file is no CSV text in UTF-8", at=at)
        return None
    return list(lines.values())


def _physical_lines(text: str) -> Iterator[str]:
    """The lines as they stand. A field over several lines is refused: a row of them could fill the memory."""
    for line in io.StringIO(text, newline=""):
        if len(line) > _LONGEST_LINE or line.count('"') % 2:
            raise csv.Error("a line is too long or ends inside quotes")
        yield line


def _check_line(archive: Zip, member: Member, line: _Line, findings: Findings, *, thorough: bool) -> None:
    at = shown(member.name)
    # The size may be left out, the hash may not (recording installed projects, "The RECORD file").
    if line.size and line.size != str(member.size):
        findings.malformed(f"RECORD says {shown(line.size)} bytes, the member has {member.size}", at=at)
    algorithm, separator, expected = line.digest.partition("=")
    if not separator:
        findings.malformed("RECORD has no hash of this member", at=at)
    elif algorithm not in _ALGORITHMS:
        findings.malformed(f"RECORD uses {shown(algorithm)}", at=at, hint="sha256, sha384 and sha512 are accepted")
    elif thorough and (found := _digest(archive, member, algorithm)) != expected:
        findings.malformed(f"RECORD's {algorithm} is {shown(expected)}, the member's is {found}", at=at)


def _digest(archive: Zip, member: Member, algorithm: str) -> str:
    digest = hashlib.new(algorithm)
    for piece in archive.pieces(member):
        digest.update(piece)
    return base64.urlsafe_b64encode(digest.digest()).rstrip(b"=").decode()
