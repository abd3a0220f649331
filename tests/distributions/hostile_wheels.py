"""Wheels in sound archives that say something untrue of themselves, or something that harms."""

from collections.abc import Mapping

from entrepot.distributions import Limits
from tests.distributions.build import metadata_text, record_line, wheel_bytes, wheel_members, zip_bytes
from tests.distributions.cases import SDIST, WHEEL, Case, Outcome

_INFO = "demo-1.0.dist-info"
_MEMBERS = wheel_members()
_RECORD = _MEMBERS[f"{_INFO}/RECORD"].decode()


def _case(what: str, data: bytes, message: str, outcome: Outcome = "form", *, filename: str = WHEEL) -> Case:
    return Case(what=what, data=data, message=message, outcome=outcome, filename=filename)


def _recorded(members: Mapping[str, bytes], *, info: str = _INFO) -> bytes:
    """The members as a wheel with a true RECORD."""
    listed = "".join(record_line(path, data) for path, data in members.items() if path != f"{info}/RECORD")
    return zip_bytes({**members, f"{info}/RECORD": f"{listed}{info}/RECORD,,\n".encode()})


def _without(name: str) -> bytes:
    return _recorded({path: data for path, data in _MEMBERS.items() if path != f"{_INFO}/{name}"})


def _moved(folder: str) -> bytes:
    members = {path.replace(_INFO, folder): data for path, data in _MEMBERS.items()}
    return _recorded(members, info=folder)


def _inside(name: str, data: bytes) -> bytes:
    return _recorded({**_MEMBERS, f"{_INFO}/{name}": data})


def _record(text: str) -> bytes:
    return zip_bytes({**_MEMBERS, f"{_INFO}/RECORD": text.encode("latin-1")})


def _metadata(what: str, message: str, *, extra: str = "", name: str = "demo", version: str = "1.0") -> Case:
    return _case(what, wheel_bytes(metadata=metadata_text(name, version, requires_python="", extra=extra)), message)


def _scripts(what: str, text: str, message: str) -> Case:
    return _case(what, wheel_bytes(entry_points=text), message)


_HEAD = b"Wheel-Version: 1.0\n"

CASES = [
    # .dist-info and WHEEL
    _case("no .dist-info", zip_bytes({"demo/__init__.py": b""}), "there is no .dist-info folder", "raised"),
    _case("two .dist-info", _recorded({**_MEMBERS, "evil-1.0.dist-info/METADATA": b"x"}), "2 .dist-info folders"),
    _case("another project's .dist-info", _moved("evil-1.0.dist-info"), "the folder is not that of demo 1.0"),
    _case("another version's .dist-info", _moved("demo-1.1.dist-info"), "the folder is not that of demo 1.0"),
    _case("no METADATA", _without("METADATA"), "METADATA: the file is missing", "raised"),
    _case("no WHEEL", _without("WHEEL"), "WHEEL: the file is missing"),
    _case("a newer WHEEL", _inside("WHEEL", b"Wheel-Version: 2.0\nTag: py3-none-any\n"), "is not 1.x"),
    _case("no Wheel-Version", _inside("WHEEL", b"Tag: py3-none-any\n"), "is not 1.x"),
    _case("mail in WHEEL", _inside("WHEEL", b"Content-Type: multipart/mixed; boundary=a\n\n--a\n" * 999), "not 1.x"),
    _case(
        "a renamed wheel", wheel_bytes(), "the metadata's name 'demo' is not that", filename="evil-1.0-py3-none-any.whl"
    ),
    _case(
        "an upgraded wheel", wheel_bytes(), "the metadata's version '1.0' is not", filename="demo-1.1-py3-none-any.whl"
    ),
    Case(
        what="too large a METADATA",
        data=wheel_bytes(),
        message="larger than 10 bytes",
        outcome="raised",
        limits=Limits(metadata=10),
    ),
    # filenames
    _case(
        "an upper-case filename",
        wheel_bytes(),
        "should be 'demo-1.0-py3-none-any.whl'",
        filename="Demo-1.0-py3-none-any.whl",
    ),
    _case(
        "a version not in normal form", wheel_bytes(), "should be 'demo-1.0-py3", filename="demo-v1.0-py3-none-any.whl"
    ),
    _case("an egg", wheel_bytes(), "wheels (.whl) and source distributions", filename="demo-1.0-py3.11.egg"),
    _case("a wheel named as an sdist", wheel_bytes(), "is a ZIP archive, not a .tar.gz", "raised", filename=SDIST),
    # RECORD
    _case("no RECORD", zip_bytes(wheel_members(record=False)), "RECORD: the file is missing"),
    _case("a member that RECORD leaves out", zip_bytes({**_MEMBERS, "demo/evil.py": b""}), "RECORD does not list"),
    _case(
        "a member that RECORD invents", _record(_RECORD + "demo/x.py,sha256=abc,0\n"), "that the wheel does not have"
    ),
    _case("a wrong hash", _record(_RECORD.replace("sha256=47", "sha256=48")), "RECORD's sha256 is 48"),
    _case("a wrong size", _record(_RECORD.replace(",0\n", ",9\n")), "RECORD says 9 bytes, the member has 0"),
    _case("a size that is no number", _record(_RECORD.replace(",0\n", ",-0\n")), "RECORD says -0 bytes"),
    _case("an md5 hash", _record(_RECORD.replace("sha256=47", "md5=47")), "RECORD uses md5"),
    _case("an sha1 hash", _record(_RECORD.replace("sha256=47", "sha1=47")), "RECORD uses sha1"),
    _case("no hash", _record("demo/__init__.py,,\n"), "RECORD has no hash of this member"),
    _case("a hash in hexadecimal", _record("demo/__init__.py,sha256=" + "e3" * 32 + ",0\n"), "the member's is 47DEQ"),
    _case("lines of two fields", _record("demo/__init__.py,\n"), "line 1 has 2 fields instead of 3"),
    _case("a member listed twice", _record(_RECORD + _RECORD), "RECORD lists this member twice"),
    _case("quotes that do not end", _record('"demo,,\n'), "no CSV text"),
    _case("a field over two lines", _record('"a\nb",,\n'), "no CSV text"),
    _case("a very long line", _record("," * 10_000), "no CSV text"),
    _case("RECORD in Latin-1", _record("d\xe9mo,,\n"), "no CSV text"),
    _case("very many lines", _record("".join(f"{n},,\n" for n in range(99))), "more lines than the wheel has members"),
    # METADATA
    _case(
        "METADATA in Latin-1",
        _inside("METADATA", "Name: d\xe9mo".encode("latin-1")),
        "METADATA: the metadata is not UTF-8",
    ),
    _metadata("a future format", "is no known version of the format", extra="Metadata-Version: 3.0\n"),
    _metadata("an invalid name", "is no valid name", name="-demo"),
    _metadata("an invalid version", "'one' is no valid version", version="one"),
    _metadata("an invalid dependency", "is no dependency specifier", extra="Requires-Dist: a >=> 1\n"),
    _metadata("a nested marker", "is no dependency specifier", extra=f"Requires-Dist: a; {'(' * 3000}\n"),
    _metadata("a dependency on a file", "exists only on the machine", extra="Requires-Dist: a @ file:///tmp/a.whl\n"),
    _metadata(
        "a dependency in a registry", "which no installer understands", extra="Requires-Dist: a @ oci://host/a:1\n"
    ),
    _metadata("an invalid Requires-Python", "no set of version specifiers", extra="Requires-Python: 3.x\n"),
    _metadata("a script for a home page", "is no http or https address", extra="Home-page: javascript:alert(1)\n"),
    _metadata(
        "a script for a project URL", "is no http or https address", extra="Project-URL: Docs, data:text/html,x\n"
    ),
    _metadata("a second name", "given more than once", extra="Name: evil\n"),
    _metadata("a line that is no header", "is no header", extra="evil\n"),
    _metadata("a bare carriage return", "carriage return", extra="Keywords: a\rRequires-Dist: evil\n"),
    _metadata("two kinds of licence", "exclude each other", extra="License: MIT\nLicense-Expression: MIT\n"),
    _metadata(
        "a licence file that is not there",
        "licenses/LICENSE: the file is missing",
        extra="Metadata-Version: 2.4\nLicense-File: LICENSE\n",
    ),
    # entry_points.txt
    _scripts(
        "a script that is a path", "[console_scripts]\n../evil = demo:main\n", "script name '../evil' is not allowed"
    ),
    _scripts("a script named ..", "[gui_scripts]\n.. = demo:main\n", "script name '..' is not allowed"),
    _scripts("a script of code", "[console_scripts]\ndemo = demo:main;evil()\n", "is no object reference"),
    _scripts("a script without object", "[console_scripts]\ndemo = demo\n", "is no object reference"),
    _scripts("entry points that are no INI", "demo = demo:main\n", "is no valid INI text"),
    _case("entry points in Latin-1", _inside("entry_points.txt", b"[\xe9]"), "the file is not UTF-8"),
]
