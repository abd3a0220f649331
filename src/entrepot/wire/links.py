"""What an index reads in an HTML page: its links, `<base>` and `<meta name=…>`, as a browser would.

lexbor knows what attributes and entities mean. But it builds a tree, in time that grows with the square of its
depth and of the attributes of one tag (1 MiB of "<div>": 137 s). So it is given nothing but links, bases and
metas, some hundred kB at a time: then 10 MB of anything take a second or two, in constant memory.
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Final

from msgspec import Struct
from selectolax.lexbor import LexborHTMLParser

from entrepot.errors import Invalid

_PIECE: Final = 256 << 10  # characters that lexbor gets at once, about
_MOST: Final = 4 << 20  # characters of one tag or comment of a page that comes in parts

# Attributes as HTML's tokeniser takes them, the usual form first. A quote that is never closed reaches to the end.
_SPACE = r"[ \t\n\f\r]"
_VALUE = r"""(?:"[^"]*+(?:"|\Z)|'[^']*+(?:'|\Z)|[^ \t\n\f\r"'>][^ \t\n\f\r>]*+)"""
_NAME = r"(?:=[^ \t\n\f\r/>=]*+|[^ \t\n\f\r/>=]++)"
_ATTRIBUTE = rf"""(?:{_SPACE}++[a-z-]++="[^"]*+"|[ \t\n\f\r/]++|{_NAME}(?:{_SPACE}*+={_SPACE}*+{_VALUE}?+)?+)"""
_END = r"(?=[ \t\n\f\r/>])"
_RAW = "script|style|title|textarea|xmp|iframe|noembed|noframes"
_TAGS = re.compile(
    # What stays, with the text behind it. No link needs a hundred attributes.
    rf"(<(?:[aA]|[bB][aA][sS][eE]|[mM][eE][tT][aA]){_END}{_ATTRIBUTE}{{0,100}}+>[^<]*+(?:</a>)?+)"
    # What goes, of which the text behind it stays; a tag without an end takes all that follows with it.
    r"|(?:<!--(?:-?>|.*?(?:--!?>|\Z))"
    rf"|<(?P<raw>(?i:{_RAW})){_END}.*?(?:</(?i:(?P=raw)){_END}|\Z)"
    rf"|</?[a-zA-Z]{_ATTRIBUTE}*+>"
    r"|<[!?/][^>]*+(?:>|\Z)"
    r"|<[a-zA-Z].*)([^<]*+)",
    re.DOTALL,
)


class Link(Struct, frozen=True, gc=False):
    """An `<a href>`: its URL as written, the attributes by lower-case name, and its text."""

    href: str
    attributes: Mapping[str, str | None]  # None: present without a value
    text: str


class Document:
    """A page of HTML, whole or in parts. `base` and `meta` are complete when the links have been gone through."""

    def __init__(self, text: str | Iterable[str]) -> None:
        self.base: str | None = None  # of the first <base href>, the only one that counts
        self.meta: dict[str, str] = {}  # content by lower-case name
        self._parts = (text,) if isinstance(text, str) else text

    def links(self) -> Iterator[Link]:
        """Every `<a href>`, in order. Raises `Invalid` for a tag of megabytes in a page that comes in parts."""
        for piece in _pieces(self._parts):
            tree = LexborHTMLParser(piece)
            for node in tree.css("base[href], meta[name]"):
                self._note(node.tag, node.attributes)
            for node in tree.css("a[href]"):
                attributes = node.attributes
                yield Link((attributes["href"] or "").strip(), attributes, node.text().strip())

    def _note(self, tag: str | None, attributes: Mapping[str, str | None]) -> None:
        if tag == "meta":
            self.meta.setdefault((attributes["name"] or "").lower(), attributes.get("content") or "")
        elif self.base is None:
            self.base = attributes["href"] or ""


def decoded(data: bytes) -> str:
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError:
        return data.decode("latin-1")  # pages from before PEP 503; what matters in them is ASCII


def _pieces(parts: Iterable[str]) -> Iterator[str]:
    """The links, bases and metas of the page, cut between two of them."""
    kept: list[str] = []
    size = 0
    for match in _tags(parts):
        tag = match[1]
        if tag is not None and size > _PIECE:
            yield "".join(kept)
            kept, size = [], 0
        if part := tag or match[3]:
            kept.append(part)
            size += len(part)
    yield "".join(kept)


def _tags(parts: Iterable[str]) -> Iterator[re.Match[str]]:
    """Every tag with the text behind it. What reaches to the end of a part may go on in the next one."""
    stream = iter(parts)
    text, coming = "", next(stream, None)
    while coming is not None:
        text += coming
        coming = next(stream, None)
        at = 0
        for match in _TAGS.finditer(text):
            if coming is not None and match.end() == len(text):
                break
            at = match.end()
            yield match
        text = text[at:]
        if coming is not None and len(text) > _MOST:
            raise Invalid(f"the page has a tag of more than {_MOST >> 20} MiB")
