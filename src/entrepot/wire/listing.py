"""Lists of projects of any length, in both directions: piece by piece, so that nobody holds one as a whole."""

import re
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from typing import Final

from entrepot.errors import Invalid
from entrepot.model import ProjectName
from entrepot.wire import simple_html, simple_json
from entrepot.wire.negotiate import Format

_MOST: Final = 4 << 20  # bytes that are not complete: no member of a list is as long, nor what stands around it
_DEEPEST: Final = 4  # levels within a member

# JSON without looking at what it means: a run of whole members is found at the speed of `re`, and then decoded.
_STRING = rb'"(?:[^"\\]++|\\.)*+"'
_PLAIN = rb'[^\[\]{}"]++'
_INSIDE = rb"(?:%b|%b)*+" % (_PLAIN, _STRING)
for _ in range(_DEEPEST):
    _INSIDE = rb"(?:%b|%b|[\[{]%b[\]}])*+" % (_PLAIN, _STRING, _INSIDE)
_MEMBER = rb"\s*+\{%b\}\s*+" % _INSIDE
_RUN = re.compile(rb"(?:%b,)++" % _MEMBER, re.DOTALL)
_LAST = re.compile(rb"(%b)?+\s*+\]" % _MEMBER, re.DOTALL)
_KEY = re.compile(rb'"projects"\s*+:\s*+\[')


def json_names(pieces: Iterable[bytes]) -> Iterator[Sequence[ProjectName]]:
    """The names in a list in JSON as they come: normal, but not each once; what is no name is left out.

    Raises `Invalid`, perhaps after some names: it is no list unless all of it is one.
    """
    stream = iter(pieces)
    head, rest = _json_head(stream)
    more = False  # whether a comma promises another member
    while (last := _LAST.match(rest)) is None:
        if run := _RUN.match(rest):
            yield simple_json.parse_list(b'{"projects":[%b]}' % run[0][:-1])
            rest, more = rest[run.end() :], True
        else:
            rest = _longer(rest, stream)
    if last[1] is None and more:
        raise Invalid("the list of projects ends with a comma")
    yield simple_json.parse_list(b'{"projects":[%b]}' % (last[1] or b""))
    tail = rest[last.end() :]
    for piece in stream:
        tail = _within(tail + piece)
    simple_json.parse_list(head + b'"projects":[]' + tail)  # for what stands around the names: the version above all


def _json_head(stream: Iterator[bytes]) -> tuple[bytes, bytes]:
    """What stands in front of the array of projects, and what came of what follows."""
    text = b""
    while True:
        for key in _KEY.finditer(text):
            head = text[: key.start()]
            if _is_top(head):
                return head, text[key.end() :]
        text = _longer(text, stream)


def _is_top(head: bytes) -> bool:
    """Whether a key that follows would be one of the document itself: one within a string or deeper would not."""
    try:
        simple_json.parse_list(head + b'"projects":[]}')
    except Invalid as error:
        if "JSON" in error.message:
            return False
        raise
    return True


def _longer(text: bytes, stream: Iterator[bytes]) -> bytes:
    piece = next(stream, None)
    if piece is None:
        raise Invalid("the list of projects is not JSON, or breaks off")
    return _within(text + piece)


def _within(text: bytes) -> bytes:
    if len(text) > _MOST:
        raise Invalid(f"the list of projects has a member of more than {_MOST >> 20} MiB")
    return text


def html_names(pieces: Iterable[bytes]) -> Iterator[Sequence[ProjectName]]:
    """The same of a list in HTML."""
    batch: list[ProjectName] = []
    for name in simple_html.listed(pieces):
        batch.append(name)
        if len(batch) >= _BATCH:
            yield batch
            batch = []
    yield batch


_BATCH: Final = 4096


class Rendering:
    """A list of projects as it is written: `head`, the batches in their order, `tail`. Equal to the other renderers."""

    def __init__(self, format_: Format) -> None:
        self._json = format_ is Format.JSON
        empty = simple_json.render_list(()) if self._json else simple_html.render_list(())
        cut = empty.rindex(b"]}" if self._json else b"</body>")
        self.head, self.tail = empty[:cut], empty[cut:]
        self._first = True

    def batch(self, names: Sequence[ProjectName]) -> bytes:
        """The next names."""
        if not self._json:
            return simple_html.list_links(names).encode()
        if not names:
            return b""
        comma, self._first = "" if self._first else ",", False
        # Nothing in the normal form of a name needs escaping.
        return (comma + ",".join([f'{{"name":"{name}"}}' for name in names])).encode()


# Order.


def ordered(batches: Iterable[Sequence[ProjectName]]) -> Iterator[bytes]:
    """All names in order, each once, one on a line: in pieces, and in little more memory than their bytes take.

    Names whose page nobody could ask for, as they are too long, are left out.
    """
    lines = bytearray()
    for batch in batches:
        if short := [name for name in batch if len(name) <= LONGEST_NAME]:
            lines += "\n".join(short).encode() + b"\n"
    pivots = _pivots(lines)
    parts = [bytearray() for _ in range(len(pivots) + 1)]
    for some in _batches(lines):
        for line in some:
            parts[bisect_right(pivots, line)] += line + b"\n"
    del lines
    for number, part in enumerate(parts):
        parts[number] = bytearray()  # so that it goes with the end of this round
        names: set[bytes] = set()
        for some in _batches(part):
            names.update(some)
        if names:
            yield b"".join([name + b"\n" for name in sorted(names)])


LONGEST_NAME: Final = 250  # characters: stores keep "NAME.json", and file systems take 255 bytes
_SORTED_AT_ONCE: Final = 256 << 10  # bytes of names that are objects for a moment, about
_SAMPLES: Final = 16  # of each part


def _pivots(lines: bytearray) -> list[bytes]:
    """Names that divide all of them into parts of about `_SORTED_AT_ONCE`."""
    count = len(lines) // _SORTED_AT_ONCE * _SAMPLES
    places = (_next_line(lines, len(lines) * number // count) for number in range(1, count))
    samples = sorted(bytes(lines[place : lines.find(b"\n", place)]) for place in places if place < len(lines))
    return samples[_SAMPLES - 1 :: _SAMPLES]


def _batches(lines: bytearray) -> Iterator[list[bytes]]:
    """The lines, not all of them at a time."""
    at = 0
    while at < len(lines):
        stop = _next_line(lines, at + (_SORTED_AT_ONCE >> 2))
        yield bytes(lines[at:stop]).split()
        at = stop


def _next_line(lines: bytearray, at: int) -> int:
    place = lines.find(b"\n", at)
    return len(lines) if place < 0 else place + 1


def names_of(lines: bytes) -> list[ProjectName]:
    """The names of such lines again."""
    return [ProjectName(name) for name in lines.decode().split()]
