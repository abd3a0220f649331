"""The Simple API in HTML, in both directions: frozen at 1.4 (PEP 503, 592, 629, 714, 740, 792, 833).

HTML has no sizes and no upload times, so a page of unknown sizes is still one of version 1.4.
"""

import posixpath
import re
from collections.abc import Iterable, Mapping
from html import escape
from html.parser import HTMLParser
from typing import Final
from urllib.parse import unquote, urljoin, urlsplit

from entrepot.errors import EntrepotError, Invalid, collected
from entrepot.model import ACTIVE, File, Project, ProjectName, Status, is_valid_name, normalise
from entrepot.wire import filenames
from entrepot.wire.simple_json import (
    Page,
    absolute,
    check_version,
    checked,
    href,
    shown,
    status_of,
    version_of,
    web_url,
)

API_VERSION: Final = "1.4"  # for ever: later versions are JSON only (PEP 833)

_PAGE = """\
<!DOCTYPE html>
<html lang="en"><head>
<meta charset="utf-8">
<meta name="pypi:repository-version" content="{version}">
{status}<title>{title}</title></head><body><h1>{title}</h1>
{links}</body></html>
"""


def render(project: Project, *, prefix: str) -> bytes:
    """The project's page. The URL of a file is `prefix` and its percent-encoded filename."""
    prefix = _escaped(prefix)
    return _PAGE.format(
        version=API_VERSION,
        status=_status(project.status),
        title=f"Links for {_escaped(project.name)}",
        links="".join([_link(file, prefix) for file in project.files]),
    ).encode()


def render_list(names: Iterable[ProjectName]) -> bytes:
    """The list of projects, with links relative to it."""
    links = "".join([f'<a href="{_escaped(name)}/">{_escaped(name)}</a><br />\n' for name in names])
    return _PAGE.format(version=API_VERSION, status="", title="Simple index", links=links).encode()


def _status(status: Status) -> str:
    """Left out where it is plainly "active", which its absence means (PEP 792)."""
    if status == ACTIVE:
        return ""
    marker = f'<meta name="pypi:project-status" content="{status.status}">\n'
    if status.reason is None:
        return marker
    return f'{marker}<meta name="pypi:project-status-reason" content="{_escaped(status.reason)}">\n'


def _link(file: File, prefix: str) -> str:
    """One line: hatch and Renovate read the page with regular expressions. `prefix` is escaped already."""
    attributes = f'href="{href(prefix, file.filename)}{_fragment(file.hashes)}"'
    if file.requires_python:
        attributes += f' data-requires-python="{_escaped(file.requires_python)}"'
    if file.yanked is not None:
        attributes += f' data-yanked="{_escaped(file.yanked)}"'
    if file.core_metadata is not False:
        given = {} if file.core_metadata is True else file.core_metadata
        value = _fragment(given)[1:] or "true"
        # The old name is for pips before 23.2, with the same value (PEP 714).
        attributes += f' data-dist-info-metadata="{value}" data-core-metadata="{value}"'
    if file.provenance:
        attributes += f' data-provenance="{_escaped(file.provenance)}"'
    if file.gpg_sig is not None:
        attributes += f' data-gpg-sig="{"true" if file.gpg_sig else "false"}"'
    return f"<a {attributes}>{_escaped(file.filename)}</a><br />\n"


def _fragment(hashes: Mapping[str, str]) -> str:
    """`#name=digest` of the one hash that HTML can give; "" if there is none."""
    sha256 = hashes.get("sha256", "")
    if sha256.isalnum():  # as good as always, and nothing in it needs escaping
        return f"#sha256={sha256}"
    for name, digest in shown(hashes).items():
        return "#" + _escaped(f"{name}={digest}")
    return ""


# The five of HTML, and what would break the line.
_SPECIAL = re.compile(r"[<>&\"'\t\n\r]").search


def _escaped(text: str) -> str:
    """Most values are digests and filenames, which need nothing."""
    if _SPECIAL(text) is None:
        return text
    return escape(text).replace("\t", "&#9;").replace("\n", "&#10;").replace("\r", "&#13;")


def parse(data: bytes, *, base: str, name: ProjectName) -> Page:
    """The page of project `name` in `data`, which came from the URL `base`.

    The name has to be given: in HTML it stands only in the title, in words. A link that leads to no
    distribution is left out, as pip does; of two to one filename the first counts. Raises `Invalid`.
    """
    reader = _read(data)
    base = _base(reader, base)
    problems: list[EntrepotError] = []
    files: list[File] = []
    urls: dict[str, str] = {}
    for number, link in enumerate(reader.links, 1):
        try:
            url = absolute(base, link.href)
            filename, version = _distribution(url, link.text, name)
            if version is None or filename in urls:
                continue
            files.append(_file(link, filename, version, base))
            urls[filename] = url
        except Invalid as problem:
            problems.append(Invalid(problem.message, at=f"link {number}, {problem.at}"))
    if fault := collected(problems, "the page"):
        raise fault
    status = status_of(reader.meta.get("pypi:project-status", "active"), reader.meta.get("pypi:project-status-reason"))
    return Page(Project(name=name, files=filenames.ordered(files), status=status), urls)


def parse_list(data: bytes) -> tuple[ProjectName, ...]:
    """The names in a list of projects: normal, each once, in the order given; what is no name is left out."""
    found = (link.text if is_valid_name(link.text) else _last_part(link.href.rstrip("/")) for link in _read(data).links)
    return tuple(dict.fromkeys(normalise(name) for name in found if is_valid_name(name)))


class _Link:
    """An `<a href>`: its attributes, and its text as far as it was read."""

    __slots__ = ("attributes", "href", "text")

    def __init__(self, href: str, attributes: Mapping[str, str]) -> None:
        self.href = href
        self.attributes = attributes
        self.text = ""


class _Reader(HTMLParser):
    """Collects links, `<meta name=…>`, and the first `<base>`, the only one that counts, as in browsers."""

    def __init__(self) -> None:
        super().__init__()
        self.links: list[_Link] = []
        self.meta: dict[str, str] = {}
        self.base: str | None = None
        self._open: _Link | None = None

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        # Of a repeated attribute the first counts; one without a value is present and empty.
        attributes = {key: value or "" for key, value in reversed(attrs)}
        if tag == "a":
            self._open = None
            if "href" in attributes:
                self._open = _Link(attributes["href"].strip(), attributes)
                self.links.append(self._open)
        elif tag == "base" and self.base is None:
            self.base = attributes.get("href")
        elif tag == "meta" and "name" in attributes:
            self.meta.setdefault(attributes["name"].lower(), attributes.get("content", ""))

    def handle_endtag(self, tag: str) -> None:
        if tag == "a" and self._open is not None:
            self._open.text = self._open.text.strip()
            self._open = None

    def handle_data(self, data: str) -> None:
        if self._open is not None:
            self._open.text += data


def _read(data: bytes) -> _Reader:
    """Raises `Invalid` for another major version (PEP 629; a page that names none is of version 1.0)."""
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError:
        text = data.decode("latin-1")  # pages from before PEP 503; what matters in them is ASCII
    reader = _Reader()
    try:
        reader.feed(text)
        reader.close()
    except AssertionError as error:  # html.parser's only way to complain, of "<![" and some text
        raise Invalid(f"the page is not HTML: {error}") from error
    check_version(reader.meta.get("pypi:repository-version", "1.0"), at="pypi:repository-version")
    return reader


def _base(reader: _Reader, base: str) -> str:
    if reader.base is None:
        return base
    try:
        return urljoin(base, reader.base)
    except ValueError as error:
        raise Invalid(f"{reader.base!r} is no URL: {error}", at="<base href>") from error


def _distribution(url: str, text: str, project: ProjectName) -> tuple[str, str | None]:
    """The (filename, version) that a link leads to; the version is None if to no distribution.

    The text MUST be the last part of the URL (PEP 503); pip goes by the URL, and so do we unless only the
    text is a filename (download services with opaque URLs).
    """
    filename = _last_part(url)
    version = version_of(filename, project)
    return (filename, version) if version is not None else (text, version_of(text, project))


def _last_part(url: str) -> str:
    try:
        return unquote(posixpath.basename(urlsplit(url).path))
    except ValueError:
        return ""


# The fragment may also hold "egg=…" and "subdirectory=…"; only names of hash functions are hashes.
_HASHES = re.compile(r"(?:\A|&)(sha512|sha384|sha256|sha224|sha1|md5|sha3_\d+|blake2[bs](?:_\d+)?)=([^&]*)")
_METADATA_HASH = re.compile(r"(\w+)=([0-9A-Fa-f]+)\Z", re.ASCII)
_SIGNED = {"true": True, "false": False}


def _file(link: _Link, filename: str, version: str, base: str) -> File:
    given = link.attributes
    fragment = link.href.partition("#")[2]
    return File(
        filename=filename,
        version=version,
        hashes=checked(dict(_HASHES.findall(fragment)), at="href"),
        requires_python=given.get("data-requires-python") or None,
        yanked=given.get("data-yanked"),  # presence decides; "false" is a reason (PEP 592)
        core_metadata=_core_metadata(given.get("data-core-metadata", given.get("data-dist-info-metadata", ""))),
        provenance=web_url(base, given.get("data-provenance")),
        gpg_sig=_SIGNED.get(given.get("data-gpg-sig", "").lower()),
    )


def _core_metadata(value: str) -> Mapping[str, str] | bool:
    """PEP 714: "true" or `name=digest`. Anything else promises nothing, and nothing is asked for."""
    if match := _METADATA_HASH.match(value):
        return {match[1].lower(): match[2].lower()}
    return value.lower() == "true"
