"""HTML pages as PyPI and its mirrors write them, in a quarter of the time that any HTML takes.

Only where every link of the page has the one usual form, with no tag between them that could mean something else, is
the page read here: then this reads what `simple_html.parse` reads, which reads all others.
"""

import re
from collections.abc import Callable
from functools import lru_cache
from html import unescape

from entrepot.model import ProjectName
from entrepot.wire.filenames import version_of
from entrepot.wire.simple_json import absolute

# No entity and no query in the URL, and of escapes only that of "+". What most links have stands by itself, which
# costs a third of taking any attribute apart; a name that a group includes tells an empty value from none.
_LINKS = re.compile(
    r'<a href="([^"#?&<>\s]+)#sha256=([0-9a-f]{64})"'
    r'(?: data-requires-python="([^"<]+)")?( data-yanked="[^"<]*")?(?: data-upload-time="([^"&<]+)")?'
    r'((?: [a-z-]+="[^"<]*")*) ?>([^<]*)</a>'
)
_LOOSE = re.compile(r"&(?!(?:#[0-9]{1,6}|#[xX][0-9a-fA-F]{1,6}|[a-zA-Z]{1,31});)")  # an entity without its end
_ATTRIBUTE = re.compile(r' ([a-z-]+)="([^"]*)"')
_END = re.compile(r"(?:\s|<br ?/?>)*(?:</(?:body|html|div|p|main)>\s*)*\Z")
_FILENAME = re.compile(r"[A-Za-z0-9._+!~-]+\Z")
_RAW = ("script", "style", "title", "textarea", "xmp", "iframe", "noembed", "noframes", "plaintext", "template", "svg")
_LONGEST_HEAD = 10_000  # characters in front of the first link


# URL, SHA-256, requires-python, yanked (with the name), time, other attributes, text.
UsualLink = tuple[str, str, str, str, str, str, str]


class UnusualError(Exception):
    """Something that only the careful reader should judge."""


class Usual:
    """A page of the usual form; `head` is what stands in front of its links.

    What is in the links has still to pass `url_of`, `plain` and `attributes`, which raise `UnusualError`.
    """

    def __init__(self, text: str) -> None:
        start = text.find("<a href=")
        self.head = text[:start] if start >= 0 else text
        self._text = text
        self._start = start

    def links(self) -> list[UsualLink] | None:
        """Its links in their order; None if the page is not so usual."""
        end = self._text.rfind("</a>") + 4
        if self._start < 0 or not _is_plain(self.head.lower()) or not _END.match(self._text, end):
            return None
        found = _LINKS.findall(self._text, self._start, end)
        # Every tag is one of theirs, or a line's end: no comment, no script, no link of another form.
        tags = self._text.count("<", self._start, end)
        if tags != 2 * len(found) + self._text.count("<br", self._start, end):
            return None
        return found


def url_of(url: str, text: str, base: str) -> str:
    """The absolute URL of a link, of which the last part has to be its text, the filename."""
    start, _, last = url.rpartition("/")
    if (last != text and last.replace("%2B", "+") != text) or "%" in start or "[" in url or not _FILENAME.match(text):
        raise UnusualError
    return absolute(base, url)


@lru_cache(maxsize=4096)
def plain(value: str) -> str:
    """An attribute's value without entities: a project's files share a few."""
    if "&" not in value:
        return value
    if _LOOSE.search(value):
        raise UnusualError
    return unescape(value)


def _is_plain(head: str) -> bool:
    """Whether what begins in the head ends there, so that the links behind it are links."""
    if len(head) > _LONGEST_HEAD or "<!--" in head or "<a" in head or "<base" in head:
        return False
    return all(head.count(f"<{name}") == head.count(f"</{name}") for name in _RAW)


def attributes(text: str) -> dict[str, str]:
    """The attributes of a link by name."""
    found = dict(reversed(_ATTRIBUTE.findall(text)))  # of two the first counts
    return {name: plain(value) if "&" in value else value for name, value in found.items()}


def versions(project: ProjectName) -> Callable[[str], str | None]:
    """`version_of` for many files of a project, in which those of a version have one answer."""
    known: dict[str, str | None] = {}

    def version(filename: str) -> str | None:
        if filename.endswith(".whl"):
            stem = filename.rsplit("-", 3)[0]
        elif filename.endswith(".tar.gz") and filename.count("-") == 1:
            stem = filename[:-7]  # as that of the wheels of its version, and with one dash it can mean nothing else
        else:
            return version_of(filename, project)
        try:
            return known[stem]
        except KeyError:
            found = known[stem] = version_of(filename, project)
            return found

    return version
