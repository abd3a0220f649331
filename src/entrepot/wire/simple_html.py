"""The Simple API in HTML, in both directions: frozen at 1.4 (PEP 503, 592, 629, 714, 740, 792, 833).

HTML has no sizes and no upload times, so a page of unknown sizes is still one of version 1.4.
"""

import codecs
import posixpath
import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from datetime import datetime
from html import escape
from typing import Final
from urllib.parse import unquote, urljoin, urlsplit

from entrepot.errors import EntrepotError, Invalid, collected
from entrepot.model import ACTIVE, File, Project, ProjectName, Status, is_valid_name, normalise
from entrepot.wire import filenames
from entrepot.wire.filenames import Distribution
from entrepot.wire.links import Document, Link, decoded
from entrepot.wire.simple_json import Page, absolute, check_version, checked, href, shown, status_of, utc, web_url
from entrepot.wire.usual_html import UnusualError, Usual, UsualLink, attributes, plain, url_of, versions

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
    return _PAGE.format(version=API_VERSION, status="", title="Simple index", links=list_links(names)).encode()


def list_links(names: Iterable[ProjectName]) -> str:
    """The links alone."""
    return "".join([f'<a href="{_escaped(name)}/">{_escaped(name)}</a><br />\n' for name in names])


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


def parse(data: bytes | str, *, base: str, name: ProjectName) -> Page:
    """The page of project `name` in `data`, which came from the URL `base`.

    The name has to be given: in HTML it stands only in the title, in words. A link that leads to no
    distribution is left out, as pip does; of two to one filename the first counts. Raises `Invalid`.
    """
    text = data if isinstance(data, str) else decoded(data)
    usual = Usual(text)
    if (links := usual.links()) is not None:
        with suppress(UnusualError):
            return _usual_page(name, Document(usual.head), links, base)
    document = Document(text)
    found: _Found = {}
    for number, link in enumerate(document.links(), 1):
        filename, version = _distribution(link, name)
        if version is not None and filename not in found:
            found[filename] = number, version, link
    base = _base(document, base)
    return _page(name, found, base, _told_status(document))


def _usual_page(name: ProjectName, document: Document, links: list[UsualLink], base: str) -> Page:
    """The same, where there is nothing to be careful about."""
    list(document.links())  # the head has none, but its metas
    _check_version(document)
    version_of = versions(name)
    files: list[File] = []
    urls: dict[str, str] = {}
    for link, digest, requires_python, yanked, uploaded, others, filename in links:
        url = url_of(link, filename, base)
        requires = plain(requires_python) if requires_python else None
        reason = plain(yanked[14:-1]) if yanked else None  # behind ` data-yanked="`
        more = attributes(others) if others else None
        version = version_of(filename)
        if version is None or filename in urls:
            continue
        urls[filename] = url
        hashes = {"sha256": digest}
        if more is not None:
            stated = {"data-requires-python": requires, "data-yanked": reason, "data-upload-time": uploaded or None}
            more |= {name: value for name, value in stated.items() if value is not None}
            files.append(_file(more, filename, version, hashes, base))
            continue
        files.append(
            File(
                filename=filename,
                version=version,
                hashes=hashes,
                uploaded=_moment(uploaded),
                requires_python=requires,
                yanked=reason,
            )
        )
    return Page(Project(name=name, files=filenames.ordered(files), status=_told_status(document)), urls)


def _told_status(document: Document) -> Status:
    meta = document.meta
    return status_of(meta.get("pypi:project-status", "active"), meta.get("pypi:project-status-reason"))


def parse_flat(data: bytes, *, base: str) -> dict[ProjectName, Page]:
    """The pages in one page of links to files of many projects, as `--find-links` takes; by name.

    Which project a file belongs to is told by its filename alone. Raises `Invalid`.
    """
    document = Document(decoded(data))
    projects: dict[ProjectName, _Found] = {}
    for number, link in enumerate(document.links(), 1):
        if told := _told(link):
            filename, distribution = told
            found = projects.setdefault(distribution.project, {})
            found.setdefault(filename, (number, distribution.version_text, link))
    base = _base(document, base)
    return {name: _page(name, found, base) for name, found in projects.items()}


def parse_list(data: bytes) -> tuple[ProjectName, ...]:
    """The names in a list of projects: normal, each once, in the order given; what is no name is left out."""
    return tuple(dict.fromkeys(listed((data,))))


def listed(pieces: Iterable[bytes]) -> Iterator[ProjectName]:
    """The same as they come, but not each once, of a list that is cut anywhere. Raises `Invalid` at the end."""
    # Names are ASCII, so the rest of a page that is no UTF-8 may become what it will.
    document = Document(codecs.iterdecode(pieces, "utf-8-sig", "replace"))
    for link in document.links():
        name = link.text if is_valid_name(link.text) else _last_part(link.href.rstrip("/"))
        if is_valid_name(name):
            yield normalise(name)
    _check_version(document)


def _base(document: Document, base: str) -> str:
    """The URL to which the links are relative. Raises `Invalid` for a page that cannot be read."""
    _check_version(document)
    if document.base is None:
        return base
    try:
        return urljoin(base, document.base.strip())
    except ValueError as error:
        raise Invalid(f"{document.base!r} is no URL: {error}", at="<base href>") from error


def _check_version(document: Document) -> None:
    """Raises `Invalid` for another major version (PEP 629; a page that names none is of version 1.0)."""
    check_version(document.meta.get("pypi:repository-version", "1.0"), at="pypi:repository-version")


# By filename: the number of the link, the version, and the link.
_Found = dict[str, tuple[int, str, Link]]


def _page(name: ProjectName, found: _Found, base: str, status: Status = ACTIVE) -> Page:
    problems: list[EntrepotError] = []
    files: list[File] = []
    urls: dict[str, str] = {}
    for filename, (number, version, link) in found.items():
        url, _, fragment = link.href.partition("#")
        try:
            urls[filename] = absolute(base, url)
            files.append(_file(link.attributes, filename, version, _hashes(fragment), base))
        except Invalid as problem:
            problems.append(Invalid(problem.message, at=f"link {number}, {problem.at}"))
    if fault := collected(problems, "the page"):
        raise fault
    return Page(Project(name=name, files=filenames.ordered(files), status=status), urls)


def _distribution(link: Link, project: ProjectName) -> tuple[str, str | None]:
    """The (filename, version) that a link leads to; the version is None if to no distribution.

    The text MUST be the last part of the URL (PEP 503); pip goes by the URL, and so do we unless only the
    text is a filename (download services with opaque URLs).
    """
    filename = _last_part(link.href)
    version = filenames.version_of(filename, project)
    return (filename, version) if version is not None else (link.text, filenames.version_of(link.text, project))


def _told(link: Link) -> tuple[str, Distribution] | None:
    """The same where the project is not known: (filename, what it tells)."""
    for filename in (_last_part(link.href), link.text):
        try:
            return filename, filenames.parse(filename)
        except Invalid:
            continue
    return None


def _last_part(url: str) -> str:
    """The last part of a URL's path, decoded."""
    head, _, name = url.partition("#")[0].rpartition("/")
    if "?" not in url and "%" not in name and not head.endswith("/"):  # nearly all of them, and urlsplit is slow
        return name
    try:
        return unquote(posixpath.basename(urlsplit(url).path))
    except ValueError:  # no URL, which is said where it is resolved
        return name


# The fragment may also hold "egg=…" and "subdirectory=…"; only names of hash functions are hashes.
_HASHES = re.compile(r"(?:\A|&)(sha512|sha384|sha256|sha224|sha1|md5|sha3_\d+|blake2[bs](?:_\d+)?)=([^&]*)")
_USUAL = re.compile(r"sha256=([0-9a-f]+)\Z").match
_METADATA_HASH = re.compile(r"(\w+)=([0-9A-Fa-f]+)\Z", re.ASCII)
_SIGNED = {"true": True, "false": False}


def _file(given: Mapping[str, str | None], filename: str, version: str, hashes: Mapping[str, str], base: str) -> File:
    if not given:
        return File(filename=filename, version=version, hashes=hashes)
    return File(
        filename=filename,
        version=version,
        hashes=hashes,
        # Not of the standard, but some mirrors add it, and nothing else in HTML tells it.
        uploaded=_moment(given.get("data-upload-time")),
        requires_python=given.get("data-requires-python") or None,
        # Presence decides; "false" is a reason (PEP 592).
        yanked=(given["data-yanked"] or "") if "data-yanked" in given else None,
        core_metadata=_core_metadata(given.get("data-core-metadata", given.get("data-dist-info-metadata"))),
        provenance=web_url(base, given.get("data-provenance")),
        gpg_sig=_SIGNED.get((given["data-gpg-sig"] or "").lower()) if "data-gpg-sig" in given else None,
    )


_NOT: Final = "\0"  # no attribute has it


def _hashes(fragment: str) -> Mapping[str, str]:
    if match := _USUAL(fragment):
        return {"sha256": match[1]}
    return checked(dict(_HASHES.findall(fragment)), at="href") if fragment else {}


def _moment(value: str | None) -> datetime | None:
    """An ISO 8601 time; None for what is none, since an unknown time is the safer answer."""
    if not value:
        return None
    try:
        return utc(datetime.fromisoformat(value.strip()))
    except (ValueError, OverflowError):
        return None


def _core_metadata(value: str | None) -> Mapping[str, str] | bool:
    """PEP 714: "true" or `name=digest`. Anything else promises nothing, and nothing is asked for."""
    if not value:
        return False
    if match := _USUAL(value):
        return {"sha256": match[1]}
    if match := _METADATA_HASH.match(value):
        return {match[1].lower(): match[2].lower()}
    return value.lower() == "true"
