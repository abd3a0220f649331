"""Source distributions that harm who unpacks them, or that are none."""

import gzip
import tarfile
from collections.abc import Mapping

from entrepot.distributions import Limits
from tests.distributions.build import sdist_bytes, sdist_members, tar_gz, wheel_bytes
from tests.distributions.cases import SDIST, Case, Outcome

_MEMBERS = sdist_members()
GOOD = sdist_bytes()
_TAR = gzip.decompress(GOOD)


def _case(what: str, data: bytes, message: str, outcome: Outcome = "form") -> Case:
    return Case(what=what, data=data, message=message, outcome=outcome, filename=SDIST)


def _limited(what: str, message: str, data: bytes = GOOD, **limits: int) -> Case:
    return Case(what=what, data=data, message=message, outcome="raised", filename=SDIST, limits=Limits(**limits))


def _zipped(tar: bytes) -> bytes:
    return gzip.compress(tar, mtime=0)


def _and(members: Mapping[str, bytes]) -> bytes:
    return tar_gz({**members, **_MEMBERS})


def _without(name: str) -> bytes:
    return tar_gz({path: data for path, data in _MEMBERS.items() if path != f"demo-1.0/{name}"})


def _headers(*infos: tarfile.TarInfo) -> bytes:
    """A valid sdist that begins with these members, which have no contents."""
    front = b"".join(info.tobuf(tarfile.USTAR_FORMAT) for info in infos)
    return _zipped(front + _TAR)


def _info(name: str, kind: bytes = tarfile.REGTYPE, target: str = "", size: int = 0) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname, info.size = kind, target, size
    return info


def _extension(payload: bytes, kind: bytes = tarfile.XHDTYPE) -> bytes:
    header = _info("././@PaxHeader", kind, size=len(payload)).tobuf(tarfile.USTAR_FORMAT)
    return header + payload + b"\0" * (-len(payload) % 512)


def _pax(key: str, value: str) -> bytes:
    body = f" {key}={value}\n".encode()
    size = len(body) + 1
    size = len(body) + len(str(size + len(str(size)) - 1))
    return str(size).encode() + body


def _extended(*fields: bytes, kind: bytes = tarfile.XHDTYPE) -> bytes:
    return _zipped(_extension(b"".join(fields), kind) + _TAR)


def _patched(at: int, value: bytes) -> bytes:
    """The first header with other bytes, and the checksum of what it says then."""
    block = bytearray(_TAR[:512])
    block[at : at + len(value)] = value
    block[148:156] = b" " * 8
    block[148:155] = b"%06o\0" % sum(block)
    return _zipped(bytes(block) + _TAR[512:])


def _link(
    what: str, name: str, target: str, message: str = "leaves the archive's folder", kind: bytes = tarfile.SYMTYPE
) -> Case:
    return _case(what, _headers(_info(name, kind, target)), message, "safety")


def _polyglot() -> bytes:
    """A gzip file with a ZIP archive in its extra field's place: in a stored block at the end."""
    return GOOD + wheel_bytes()


_CUT = "cut short"

CASES = [
    _case("an sdist that is a ZIP archive", wheel_bytes(), "is a ZIP archive, not a .tar.gz", "raised"),
    _case("an sdist that is a plain tar", _TAR, "is no gzip file", "raised"),
    _case("an empty sdist", b"", "is no gzip file", "raised"),
    _case("an sdist with a ZIP archive behind it", _polyglot(), "a ZIP archive as well", "raised"),
    _case("an sdist cut in its stream", GOOD[:-20], _CUT, "raised"),
    _case("an sdist cut in its tar", _zipped(_TAR[:700]), _CUT, "raised"),
    _case("an sdist without its end", _zipped(_TAR.rstrip(b"\0")), _CUT, "raised"),
    _case("a broken gzip stream", GOOD[:40] + b"\xff" * 9 + GOOD[49:], "gzip stream is broken", "raised"),
    _case("a wrong gzip checksum", GOOD[:-8] + b"\1\2\3\4" + GOOD[-4:], "gzip stream is broken", "raised"),
    _case("bytes behind the gzip stream", GOOD + b"hidden", "data behind the gzip stream"),
    _case("zeros behind the gzip stream", GOOD + b"\0" * 512, "data behind the gzip stream"),
    _case("a second archive in a second gzip member", GOOD + GOOD, "data behind its end"),
    _case("bytes behind the tar archive", _zipped(_TAR + b"hidden"), "data behind its end"),
    _case("no tar archive", _zipped(b"hello" * 200), "malformed number", "raised"),
    _case("a wrong tar checksum", _zipped(b"x" + _TAR[1:]), "checksum is wrong", "raised"),
    _case("a negative size", _patched(124, b"\xff" * 12), "malformed number", "raised"),
    _case("a size that is no number", _patched(124, b"1_0\0"), "malformed number", "raised"),
    _case("an immense size", _patched(124, b"\x80" + b"\x7f" * 11), _CUT, "raised"),
    _case("a sparse member", _patched(156, b"S"), "sparse or of an unknown type", "raised"),
    _case("a pax sparse member", _extended(_pax("GNU.sparse.major", "1")), "a member is sparse", "raised"),
    _case("an unknown type of member", _patched(156, b"D"), "of an unknown type", "raised"),
    _case("a folder with a size", _patched(156, b"5"), "that is no file has contents", "raised"),
    _case("a prefix that GNU tar ignores", _patched(257, b"ustar  \0" + b"\0" * 80 + b"evil"), "some readers ignore"),
    _case("a malformed pax header", _extended(b"8 path=x\n"), "extended header is malformed", "raised"),
    _case("a pax header of digits", _extended(b"1" * 60_000), "extended header is malformed", "raised"),
    _case("a pax record of length 0", _extended(b"0 a=b\n"), "extended header is malformed", "raised"),
    _case("a pax header with two names", _extended(_pax("path", "a") * 2), "says one thing twice", "raised"),
    _case("a pax size that is no number", _extended(_pax("size", "-9")), "malformed number", "raised"),
    _case("two pax headers", _zipped(_extension(_pax("path", "a")) * 2 + _TAR), "two extended headers", "raised"),
    _case("a pax header at the end", _zipped(_extension(_pax("path", "a")) + bytes(1024)), _CUT, "raised"),
    _case(
        "a name for all members", _extended(_pax("path", "a"), kind=tarfile.XGLTYPE), "global header names", "raised"
    ),
    _case("names in another encoding", _extended(_pax("hdrcharset", "BINARY")), "a name is not in UTF-8"),
    _case("a name in Latin-1", _patched(0, b"demo-1.0/\xe9\0"), "a name is not in UTF-8"),
    _case("a pax path that climbs", _extended(_pax("path", "demo-1.0/../../x")), "leaves its folder", "safety"),
    _limited(
        "an immense pax header", "extended header is larger than", _extended(_pax("comment", "x" * 3000)), small=1000
    ),
    _case("an absolute name in a tar", _and({"/etc/passwd": b""}), "is an absolute path", "safety"),
    _case("a tar name that climbs", _and({"demo-1.0/../../x": b""}), "leaves its folder", "safety"),
    _case("a Windows path in a tar", _and({"demo-1.0\\x": b""}), "separates folders on Windows", "safety"),
    _case("a line break in a tar name", _and({"demo-1.0/a\nb": b""}), "holds control characters", "safety"),
    _case("an empty folder name in a tar", _and({"demo-1.0//x": b""}), 'is empty or "."'),
    _link("a link out of the archive", "demo-1.0/l", "../../etc/passwd"),
    _link("a link to the folder above", "demo-1.0/l", ".."),
    _link("an absolute link", "demo-1.0/l", "/etc/passwd"),
    _link("a link through another", "demo-1.0/l", "here/.."),
    _link("a link at the top", "l", "demo-1.0"),
    _link("a hard link out of the archive", "demo-1.0/l", "../x", kind=tarfile.LNKTYPE),
    _link("an absolute hard link", "demo-1.0/l", "/etc/passwd", kind=tarfile.LNKTYPE),
    _link("a member below a link", "demo-1.0/demo", ".", "lies below a symbolic link"),
    _case("a very deep name", _and({"demo-1.0/" + "a/" * 400: b""}), "more than 200 folders", "safety"),
    _case("a very long name", _and({"demo-1.0/" + "a" * 2000: b""}), "longer than 1024", "safety"),
    _link("a link that counts empty folders", "demo-1.0/.//./l", "../../x"),
    _link("a link from a folder above the top", "./l", "../x"),
    _case(
        "a member below a link in other letters",
        _headers(_info("demo-1.0/Data", tarfile.SYMTYPE, "."), _info("demo-1.0/./dATA/x")),
        "lies below a symbolic link",
        "safety",
    ),
    _case("a device", _headers(_info("demo-1.0/d", tarfile.CHRTYPE)), "a device or a pipe", "safety"),
    _case("a pipe", _headers(_info("demo-1.0/p", tarfile.FIFOTYPE)), "a device or a pipe", "safety"),
    _case("two folders at the top", _and({"evil/x": b""}), "not just demo-1.0/"),
    _case(
        "another folder at the top",
        tar_gz({p.replace("demo-1.0", "demo"): d for p, d in _MEMBERS.items()}),
        "not just demo-1.0/",
    ),
    _case("names that begin with ./", tar_gz({f"./{p}": d for p, d in _MEMBERS.items()}), 'is empty or "."'),
    _case("no PKG-INFO", _without("PKG-INFO"), "demo-1.0/PKG-INFO: the file is missing"),
    _case(
        "PKG-INFO twice",
        _zipped(_TAR.rstrip(b"\0").ljust(-(-len(_TAR.rstrip(b"\0")) // 512) * 512, b"\0") + _TAR),
        "two members have this name",
    ),
    _limited("too large a PKG-INFO", "larger than 10 bytes", metadata=10),
    _case("nothing to build from", _without("pyproject.toml"), "neither pyproject.toml nor setup.py"),
    _case(
        "an sdist of another name",
        sdist_bytes(metadata="Metadata-Version: 2.1\nName: evil\nVersion: 1.0\n\n"),
        "name 'evil' is not that",
    ),
    _case(
        "an sdist of another version",
        sdist_bytes(metadata="Metadata-Version: 2.1\nName: demo\nVersion: 2\n\n"),
        "version '2' is not that",
    ),
    _case(
        "an sdist without its licence",
        sdist_bytes(metadata_extra="Metadata-Version: 2.4\nLicense-File: LICENSE\n"),
        "demo-1.0/LICENSE: the file is missing",
    ),
    _limited(
        "a tar bomb", "unpacks to", tar_gz({"demo-1.0/zeros": b"\0" * 3_000_000, **_MEMBERS}), free=1000, ratio=20
    ),
    _limited("too many members in a tar", "more than 2 members", members=2),
    _limited("no time for a tar", "took longer than", seconds=-1),
    Case(what="a .zip sdist", data=wheel_bytes(), message="is not accepted", filename="demo-1.0.zip"),
    Case(what="a tar.gz named as a wheel", data=GOOD, message="another archive", outcome="raised"),
    Case(
        what="an sdist's name in old spelling",
        data=GOOD,
        message="should be 'demo_x-1.0.tar.gz'",
        filename="demo-x-1.0.tar.gz",
    ),
]
