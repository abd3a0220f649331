"""What Hypothesis makes pages of: everything the wire can carry, the nasty first."""

from collections.abc import Mapping
from datetime import UTC, datetime

from hypothesis import settings
from hypothesis import strategies as st
from msgspec.structs import replace

from entrepot.model import ACTIVE, File, Project, ProjectName, Status, normalise
from entrepot.wire import filenames

# Two cores are shared by everything: a slow example says nothing.
patient = settings(deadline=None)

BASE = "https://index.example/root/simple/demo/"
PREFIX = "../../files/demo/"
FILES = "https://index.example/root/files/demo/"

NASTY = (
    "false",
    "true",
    "</a><script>alert(1)</script>",
    "a > b & c < d",
    'it\'s "quoted"',
    "&amp; &#62; &gt &notit;",
    "two\nlines\r\nand\ttabs\r",
    " spaces around ",
    "{braces} %s %20",
    "ünïcödé 日本語 😀",
    "line\u2028separator \u0085 \x1c \x7f",
)

# No lone surrogates: they are no text, and UTF-8 cannot carry them.
texts = st.sampled_from(NASTY) | st.text(st.characters(exclude_categories=["Cs"]), max_size=30)
_reasons = texts | st.just("")
_some_text = texts.filter(bool)


def digests(length: int) -> st.SearchStrategy[str]:
    return st.text("0123456789abcdef", min_size=length, max_size=length)


_versions = st.sampled_from(
    ["0", "0.1.dev3", "1.0a1", "1.0rc2", "1.0", "1.0.post1", "1.0+local.7", "1!2.0", "2", "2026.11.20", "10.0"]
)
_tags = st.sampled_from(["py3-none-any", "cp311-cp311-manylinux_2_17_x86_64.manylinux2014_x86_64", "py2.py3-none-any"])
_sha256 = st.fixed_dictionaries({"sha256": digests(64)})
_other_hashes = st.fixed_dictionaries({"md5": digests(32)}, optional={"sha512": digests(128)})
_hashes: st.SearchStrategy[Mapping[str, str]] = _sha256 | _other_hashes | st.just({})
_companions: st.SearchStrategy[Mapping[str, str] | bool] = st.booleans() | _sha256
_urls = st.sampled_from(["https://index.example/p?a=1&b=%20", "https://integrity.example/é/provenance"])
_moments = st.datetimes(min_value=datetime(1990, 1, 1), max_value=datetime(2100, 1, 1), timezones=st.just(UTC))  # noqa: DTZ001
names = st.from_regex(r"[a-z0-9]{1,8}(-[a-z0-9]{1,4}){0,2}", fullmatch=True).map(ProjectName)


@st.composite
def files(draw: st.DrawFn, name: ProjectName) -> File:
    stem = f"{name.replace('-', '_')}-{draw(_versions)}"
    filename = f"{stem}-{draw(_tags)}.whl" if draw(st.booleans()) else f"{stem}.tar.gz"
    return File(
        filename=filename,
        version=filenames.parse(filename, project=name).version_text,
        size=draw(st.integers(min_value=0, max_value=2**63)),
        hashes=draw(_hashes),
        uploaded=draw(st.none() | _moments),
        requires_python=draw(st.none() | _some_text),
        yanked=draw(st.none() | _reasons),
        core_metadata=draw(_companions),
        provenance=draw(st.none() | _urls),
        gpg_sig=draw(st.none() | st.booleans()),
    )


_statuses = st.just(ACTIVE) | st.builds(
    Status,
    status=st.sampled_from(["active", "archived", "quarantined", "deprecated"]),
    reason=st.none() | _some_text,
)


@st.composite
def projects(draw: st.DrawFn) -> Project:
    """Pages of JSON 1.4: every size is known."""
    name = draw(names)
    found = draw(st.lists(files(name), max_size=6, unique_by=lambda file: file.filename))
    return Project(name=name, files=filenames.ordered(found), status=draw(_statuses))


def as_html_carries(project: Project) -> Project:
    """HTML has no sizes and no times, and room for one hash."""
    return replace(
        project,
        files=tuple(replace(file, size=None, uploaded=None, hashes=_strongest(file.hashes)) for file in project.files),
    )


def _strongest(hashes: Mapping[str, str]) -> Mapping[str, str]:
    return next(({name: hashes[name]} for name in ("sha256", "sha512", "md5") if name in hashes), {})


def demo(**changes: object) -> Project:
    """A page with one plain wheel, `changes` applied to its File."""
    file = File(
        filename="demo-1.0-py3-none-any.whl",
        version="1.0",
        size=1337,
        hashes={"sha256": "a" * 64},
        uploaded=datetime(2026, 1, 2, 3, 4, 5, 123456, tzinfo=UTC),
    )
    return Project(name=normalise("demo"), files=(replace(file, **changes),))
