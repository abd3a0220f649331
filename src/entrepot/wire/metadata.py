"""Core metadata (METADATA, PKG-INFO): read leniently, judged strictly, compared with an upload's form.

packaging knows names, versions and specifiers; the rest is ours, because an index must accept versions of
the format that are newer than its packaging, refuse what only an index need refuse, and not be kept busy.
"""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import lru_cache
from itertools import chain, islice
from typing import Final
from urllib.parse import urlsplit

from msgspec import Struct
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.version import Version

from entrepot.errors import Invalid
from entrepot.model import is_valid_name, normalise

# No real METADATA comes near; a description is text that a browser will render.
LARGEST: Final = 8 << 20
# 2.0 was withdrawn (PEP 426) but written for years; a new minor version only adds fields (PEP 345 ff.).
_KNOWN_FORMAT = re.compile(r"(1\.[0-2]|2\.\d{1,2})\Z", re.ASCII)
# A line ends in "\r\n", "\n" or "\r" for the e-mail parser that every installer uses.
_BLANK_LINE = re.compile(r"(?:\A|\r\n|\n|\r(?!\n))(?:\r\n|\n|\r)")
_LINE_END = re.compile(r"\r\n|\n|\r")
_FIELD = re.compile(r"([!-9;-~]+):[ \t]*(.*)\Z", re.DOTALL)
_NO_HEADER = re.compile(r"^(?![ \t])(?![!-9;-~]+:)[^\r\n]+", re.MULTILINE)
_NO_LINE_END = re.compile(r"\x00|\r(?!\n)")
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_MOST_FAULTS: Final = 20
_MOST_DEPENDENCIES: Final = 10_000
_VCS: Final = {"git", "hg", "svn", "bzr"}


_FIRST_STATIC = Version("2.2")


class CoreMetadata(Struct, frozen=True, kw_only=True):
    """The core metadata fields that an index shows. Absent text is "", absent lists are empty.

    `description` is the text whichever way it was written; `keywords` is one string, as in the legacy
    JSON API. `name` and `version` are as written.
    """

    metadata_version: str = ""
    name: str = ""
    version: str = ""
    summary: str = ""
    description: str = ""
    description_content_type: str = ""
    keywords: str = ""
    license: str = ""
    license_expression: str = ""
    license_files: tuple[str, ...] = ()
    classifiers: tuple[str, ...] = ()
    author: str = ""
    author_email: str = ""
    maintainer: str = ""
    maintainer_email: str = ""
    requires_python: str = ""
    requires_dist: tuple[str, ...] = ()
    provides_extra: tuple[str, ...] = ()
    dynamic: tuple[str, ...] = ()
    platforms: tuple[str, ...] = ()
    home_page: str = ""
    download_url: str = ""
    project_urls: Mapping[str, str] = {}
    import_names: tuple[str, ...] = ()
    import_namespaces: tuple[str, ...] = ()

    @property
    def format(self) -> tuple[int, ...]:
        """`metadata_version` as numbers, (2, 4); () where it is none that exists."""
        known = _KNOWN_FORMAT.match(self.metadata_version)
        return tuple(map(int, self.metadata_version.split("."))) if known else ()


def parse(data: bytes) -> CoreMetadata:
    """Read whatever can be read: unknown fields and wrong values are kept or dropped, never refused."""
    headers, body, _ = _split(data.decode("utf-8", "replace"))
    return _read(headers, body)


_BINDING = frozenset({"requires-dist", "requires-python", "provides-extra"})


def is_static(pkg_info: bytes) -> bool:
    """Whether an sdist's PKG-INFO holds for every wheel that is built from it, as far as resolvers ask (PEP 643)."""
    found = parse(pkg_info)
    version = parsed_version(found.metadata_version)
    if version is None or version < _FIRST_STATIC:
        return False
    return _BINDING.isdisjoint(field.strip().lower() for field in found.dynamic)


def check(data: bytes, *, at: str = "METADATA") -> tuple[CoreMetadata, tuple[Invalid, ...]]:
    """Read the metadata of an upload, with everything that is wrong about it. `at` names the file.

    Raises `Invalid` if it is too large or not UTF-8, when nothing further can be said.
    """
    if len(data) > LARGEST:
        raise Invalid(f"the metadata is larger than {LARGEST >> 20} MiB", at=at)
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise Invalid("the metadata is not UTF-8", at=at, hint=f"see byte {error.start}") from error
    headers, body, head = _split(text)
    metadata = _read(headers, body)
    faults = islice(chain(_faults_of_form(head, headers), _faults_of_values(metadata)), _MOST_FAULTS)
    return metadata, tuple(Invalid(what, at=f"{at}: {field}", hint=hint) for field, what, hint in faults)


# A field, what is wrong with it, and what to do.
_Fault = tuple[str, str, str]


# Lower-case field name to its values, in the order of the text.
_Headers = Mapping[str, list[str]]


def _split(text: str) -> tuple[_Headers, str, str]:
    """The fields, the body, and the text before the body as it stands.

    Ours, because packaging.metadata.parse_email takes time that grows with the square of the number of
    fields (70 kB of them: 4 s), and because mail within mail may nest without end.
    """
    blank = _BLANK_LINE.search(text)
    head, body = (text, "") if blank is None else (text[: blank.start()], text[blank.end() :])
    lines: dict[str, list[list[str]]] = {}
    current: list[str] = []
    for line in _LINE_END.split(head):
        if line.startswith((" ", "\t")):
            current.append(line)
        elif found := _FIELD.match(line):
            current = [found[2]]
            lines.setdefault(found[1].lower(), []).append(current)
        elif line:
            break  # as the e-mail parser does: the rest is body, to which `check` objects
    return {name: ["\n".join(parts) for parts in values] for name, values in lines.items()}, body, head


def _read(headers: _Headers, body: str) -> CoreMetadata:
    def text(field: str) -> str:
        return _present(headers[field][0]) if field in headers else ""

    def texts(field: str) -> tuple[str, ...]:
        return tuple(value for value in map(_present, headers.get(field, ())) if value)

    return CoreMetadata(
        metadata_version=text("metadata-version"),
        name=text("name"),
        version=text("version"),
        summary=text("summary"),
        description=body if body.strip() else _unfold(text("description")),
        description_content_type=text("description-content-type"),
        keywords=text("keywords"),
        license=text("license"),
        license_expression=text("license-expression"),
        license_files=texts("license-file"),
        classifiers=texts("classifier"),
        author=text("author"),
        author_email=text("author-email"),
        maintainer=text("maintainer"),
        maintainer_email=text("maintainer-email"),
        requires_python=text("requires-python"),
        requires_dist=texts("requires-dist"),
        provides_extra=texts("provides-extra"),
        dynamic=texts("dynamic"),
        platforms=texts("platform"),
        home_page=text("home-page"),
        download_url=text("download-url"),
        project_urls=_project_urls(texts("project-url")),
        import_names=texts("import-name"),
        import_namespaces=texts("import-namespace"),
    )


def _present(text: str) -> str:
    """Old builders wrote UNKNOWN for what they did not know."""
    text = text.strip()
    return "" if text == "UNKNOWN" else text


def _unfold(description: str) -> str:
    """The text of a Description header: further lines begin with eight spaces, or seven and "|" (PEP 345)."""
    first, *more = description.splitlines() or [""]
    return "\n".join([first, *(re.sub(r"\A(?: {7}[|]| {8})", "", line) for line in more)])


def _project_urls(lines: Iterable[str]) -> dict[str, str]:
    """`label, URL` lines by label; where labels repeat, the first wins."""
    urls: dict[str, str] = {}
    for label, _, url in (line.partition(",") for line in lines):
        if _present(url):
            urls.setdefault(label.strip(), _present(url))
    return urls


# Fields that occur once; given twice, each reader would take another one.
_SINGLE: Final = frozenset(
    """metadata-version name version summary description description-content-type keywords home-page
    download-url author author-email maintainer maintainer-email license license-expression
    requires-python""".split()  # noqa: SIM905
)


def _faults_of_form(head: str, headers: _Headers) -> Iterator[_Fault]:
    if _NO_LINE_END.search(head):
        yield "headers", "a bare carriage return or a null byte", "installers read such lines differently"
    stray = _NO_HEADER.search(head)
    if stray:
        yield "headers", f"{stray[0][:60]!a} is no header", "continue a long value with leading spaces"
    for field in sorted(_SINGLE & headers.keys()):
        if len(headers[field]) > 1:
            yield field.title(), "the field is given more than once", ""


def _faults_of_values(metadata: CoreMetadata) -> Iterator[_Fault]:
    yield from _faults_of_identity(metadata)
    yield from _faults_of_dependencies(metadata)
    for field, url in (("Home-page", metadata.home_page), ("Download-URL", metadata.download_url)):
        if url and (fault := _url_fault(url)):
            yield field, *fault
    for label, url in metadata.project_urls.items():
        if fault := _url_fault(url):
            yield f"Project-URL {label[:40]!a}", *fault
    if metadata.license and metadata.license_expression:
        yield (
            "License",
            "License and License-Expression exclude each other (PEP 639)",
            "keep License-Expression",
        )
    for field in metadata.dynamic:
        if field.lower() in {"name", "version", "metadata-version"}:
            yield "Dynamic", f"{field} cannot be dynamic (PEP 643)", ""


def _faults_of_identity(metadata: CoreMetadata) -> Iterator[_Fault]:
    if not metadata.format:
        hint = "1.0 to 1.2 and 2.0 onwards exist"
        yield (
            "Metadata-Version",
            f"{metadata.metadata_version[:40]!a} is no known version of the format",
            hint,
        )
    if not is_valid_name(metadata.name):
        yield (
            "Name",
            f"{metadata.name[:80]!a} is no valid name",
            "ASCII letters and digits, with - _ . inside",
        )
    if parsed_version(metadata.version) is None:
        yield "Version", f"{metadata.version[:80]!a} is no valid version", "versions follow PEP 440"


def _faults_of_dependencies(metadata: CoreMetadata) -> Iterator[_Fault]:
    if metadata.requires_python and _specifiers(metadata.requires_python) is None:
        what = f"{metadata.requires_python[:80]!a} is no set of version specifiers"
        yield "Requires-Python", what, "for example >=3.9"
    if len(metadata.requires_dist) > _MOST_DEPENDENCIES:
        yield "Requires-Dist", f"more than {_MOST_DEPENDENCIES} dependencies", ""
        return
    for dependency in metadata.requires_dist:
        if fault := _dependency_fault(dependency):
            yield "Requires-Dist", *fault


def parsed_version(text: str) -> Version | None:
    """The PEP 440 version, or None if it is none."""
    try:
        # A number of thousands of digits is a ValueError that is no InvalidVersion.
        return Version(text) if len(text) < 256 else None
    except ValueError:
        return None


@lru_cache(maxsize=1 << 10)
def _specifiers(text: str) -> SpecifierSet | None:
    try:
        return SpecifierSet(text) if len(text) < 1024 else None
    except ValueError:
        return None


@lru_cache(maxsize=1 << 12)
def _dependency_fault(text: str) -> tuple[str, str] | None:
    """What is wrong with one Requires-Dist. The same lines come again with every file of a project."""
    shown = f"{text[:120]!a}"
    if len(text) > 4096:
        return f"{shown}… is longer than 4096 characters", ""
    try:
        requirement = Requirement(text)
    except (ValueError, RecursionError):  # nested brackets in markers recurse in packaging
        return f"{shown} is no dependency specifier", "see PEP 508: name [extras] specifiers ; marker"
    return _direct_url_fault(shown, requirement.url) if requirement.url is not None else None


def _direct_url_fault(shown: str, url: str) -> tuple[str, str] | None:
    """A direct reference must work on every machine that installs the file (PEP 508, PEP 440)."""
    try:
        scheme = urlsplit(url).scheme.lower()
    except ValueError:
        return f"{shown} holds no valid URL", ""
    vcs, plus, transport = scheme.partition("+")
    if scheme in {"", "file"} or transport == "file":
        return (
            f"{shown} points at a file that exists only on the machine that built this",
            "depend on a version and publish that package here too",
        )
    if scheme == "oci":
        return (
            f"{shown} is an oci: reference, which no installer understands",
            "depend on a plain name and version; keep the address in [tool.entrepot.sources]",
        )
    if scheme in {"http", "https"} or (plus and vcs in _VCS):
        return None
    return f"{shown}: no installer understands {scheme[:20]}:", "use https: or git+https:, or a plain version"


def _url_fault(url: str) -> tuple[str, str] | None:
    """Pages for people link to these: `javascript:` and the like must not get there."""
    try:
        parts = urlsplit(url)
    except ValueError:
        return f"{url[:80]!a} is no valid URL", ""
    if parts.scheme.lower() not in {"http", "https"} or not parts.netloc or _CONTROL.search(url):
        return f"{url[:80]!a} is no http or https address", "give a full address: https://…"
    return None


def disagreements(metadata: CoreMetadata, form: Mapping[str, Sequence[str]]) -> list[Invalid]:
    """Where an upload's form contradicts the file's own metadata in what identifies it.

    The file is right; other form fields are hints and are not looked at (PEP 694 drops them).
    """
    pairs = (
        ("name", metadata.name, normalise),
        ("version", metadata.version, _comparable_version),
        ("requires_python", metadata.requires_python, _comparable_specifiers),
    )
    return [
        Invalid(
            f"the form says {given[:80]!a}, the file's metadata {ours[:80]!a}",
            at=field,
            hint="the file is right: publish it with a client that reads it",
        )
        for field, ours, comparable in pairs
        for given in _given(form.get(field, ()))
        if comparable(given) != comparable(ours)
    ]


def _given(values: Iterable[str]) -> Iterator[str]:
    """Uv always sends requires_python, perhaps empty; others send UNKNOWN."""
    return (value for value in map(_present, values) if value)


def _comparable_version(text: str) -> Version | str:
    return parsed_version(text) or text


def _comparable_specifiers(text: str) -> tuple[SpecifierSet | None, str]:
    # Never a set beside a string: the set would parse the string to compare, and raise.
    found = _specifiers(text)
    return found, "" if found is not None else text
