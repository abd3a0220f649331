"""HTML pages as PyPI and its mirrors write them, in a third of the time that any HTML takes.

Only where every link of the page has the one usual form, with nothing between them that could mean something else, is
the page read here: then this reads what `simple_html.parse` reads, which reads all others.
"""

import re
from collections.abc import Callable
from functools import lru_cache
from html import unescape

from entrepot.model import ProjectName
from entrepot.wire.filenames import version_of

# No entity, no query, no escape in the URL; the text is the filename again.
_LINK = re.compile(
    r'<a href="((?:https?://[^"#?%&<>\s]*/|(?:\.\./)*(?:[^"#?%&<>\s:/]+/)*))([A-Za-z0-9._+!~-]+)'
    r'#sha256=([0-9a-f]{64})"((?: [a-z-]+="[^"]*")*) ?>\2</a>(?:\s|<br ?/?>)*'
)
_plain = lru_cache(maxsize=1024)(unescape)
_LOOSE = re.compile(r"&(?!(?:#[0-9]{1,6}|#[xX][0-9a-fA-F]{1,6}|[a-zA-Z]{1,31});)")  # an entity without its end
_ATTRIBUTE = re.compile(r' ([a-z-]+)="([^"]*)"')
_END = re.compile(r"(?:</(?:body|html|div|p|main)>\s*)*\Z")
_RAW = ("script", "style", "title", "textarea", "xmp", "iframe", "noembed", "noframes", "plaintext", "template", "svg")
_LONGEST_HEAD = 10_000  # characters in front of the first link


UsualLink = tuple[str, str, str, dict[str, str]]


class Usual:
    """A page of the usual form; `head` is what stands in front of its links."""

    def __init__(self, text: str) -> None:
        start = text.find("<a href=")
        self.head = text[:start] if start >= 0 else text
        self._text = text
        self._start = start

    def links(self) -> list[UsualLink] | None:
        """(start of the URL, filename, SHA-256, attributes) of each link; None if the page is not so usual."""
        if self._start < 0 or not _is_plain(self.head.lower()):
            return None
        found: list[UsualLink] = []
        at = self._start
        match = _LINK.match
        while (link := match(self._text, at)) is not None:
            folder, filename, digest, attributes = link.groups()
            if "&" in attributes and _LOOSE.search(attributes):
                return None
            found.append((folder, filename, digest, _attributes(attributes) if attributes else {}))
            at = link.end()
        return found if _END.match(self._text, at) else None


def _is_plain(head: str) -> bool:
    """Whether what begins in the head ends there, so that the links behind it are links."""
    if len(head) > _LONGEST_HEAD or "<!--" in head or "<a" in head or "<base" in head:
        return False
    return all(head.count(f"<{name}") == head.count(f"</{name}") for name in _RAW)


def _attributes(text: str) -> dict[str, str]:
    found = dict(reversed(_ATTRIBUTE.findall(text)))  # of two the first counts
    return {name: _plain(value) if "&" in value else value for name, value in found.items()} if "&" in text else found


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
