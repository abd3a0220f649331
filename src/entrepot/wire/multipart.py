"""multipart/form-data (RFC 7578, RFC 2046 §5.1) as it arrives, in constant memory.

Only what divides the parts is looked for, with `bytes.find`: a file costs no more than a search through it. Strict:
a body begins with its boundary, lines end in CR LF, and headers are tokens with values.
"""

import re
from collections.abc import Callable, Iterator
from typing import Protocol

LONGEST_BOUNDARY = 256  # bytes; RFC 2046 allows 70
MOST_HEADERS = 8  # of one part
LONGEST_HEADER = 4096  # bytes of its line

_LONGEST_HEAD = MOST_HEADERS * (LONGEST_HEADER + 2)
# What may follow a boundary: the end of its line, perhaps behind spaces (RFC 2046 §5.1.1), or "--", the end of all.
_AFTER = re.compile(rb"--|[ \t]{0,256}\r\n")
# What may still become that when more arrives.
_MAYBE_AFTER = re.compile(rb"(?:-|[ \t]{0,256}\r?)\Z")
_NAME = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+\Z")
_HYPHEN = ord("-")
_NO, _WAIT = 0, -1  # in place of a position


class Malformed(Exception):
    """The bytes are no form: why."""

    def __init__(self, why: str) -> None:
        super().__init__(f"the form is malformed: {why}")


class Parts(Protocol):
    """What takes the parts of a form, one after the other."""

    def begin(self) -> None: ...
    def head(self, head: bytes) -> None: ...
    def data(self, data: bytes, start: int, stop: int) -> None: ...
    def end(self) -> None: ...


class Multipart:
    """Feed it the chunks of a body. `complete` is whether the last boundary came; what follows that is ignored."""

    def __init__(self, boundary: bytes, parts: Parts) -> None:
        self.complete = False
        self._parts = parts
        self._delimiter = b"\r\n--" + boundary
        self._rest = b""  # what cannot be told without the bytes that follow it
        self._read: Callable[[bytes, int], int] = self._read_first

    def feed(self, chunk: bytes) -> None:
        """Raises `Malformed` as soon as it is sure, but a part's headers are read together when all are there."""
        data, self._rest = self._rest + chunk if self._rest else chunk, b""
        at = 0
        while at < len(data):
            at = self._read(data, at)

    # Each reads from `at` on and returns where to go on: the end of the data if that is all for now.

    def _read_first(self, data: bytes, at: int) -> int:
        """The first boundary, which is at the beginning, perhaps behind empty lines."""
        rest = data[at:].lstrip(b"\r\n")
        at, first = len(data) - len(rest), self._delimiter[2:]
        if not rest.startswith(first):
            if not first.startswith(rest):
                raise Malformed("it does not begin with its boundary")
            return self._wait(data, at)
        after = _after(data, at + len(first))
        if after == _NO:
            raise Malformed("its first line is not its boundary")
        return self._wait(data, at) if after == _WAIT else self._begin(data, after)

    def _read_head(self, data: bytes, at: int) -> int:
        """All headers of a part. `at` is the end of the boundary's line, so that there may be none."""
        end = data.find(b"\r\n\r\n", at, at + _LONGEST_HEAD + 4)
        if end < 0:
            if len(data) - at > _LONGEST_HEAD + 3:
                raise Malformed("the headers are too long")
            return self._wait(data, at)
        self._read = self._read_data
        self._parts.head(data[at + 2 : end])
        return end + 4

    def _read_data(self, data: bytes, start: int) -> int:
        """The content, up to the next boundary."""
        delimiter = self._delimiter
        found = data.find(delimiter, start)
        while found >= 0:
            after = _after(data, found + len(delimiter))
            if after == _WAIT:
                return self._hold_back(data, start, found)
            if after != _NO:
                self._hand_on(data, start, found)
                self._parts.end()
                return self._begin(data, after)
            found = data.find(delimiter, found + 1)
        # A boundary may have begun. It has no second CR.
        begun = data.rfind(b"\r", max(start, len(data) - len(delimiter) + 1))
        if begun < 0 or not delimiter.startswith(data[begun:]):
            begun = len(data)
        return self._hold_back(data, start, begun)

    def _begin(self, data: bytes, after: int) -> int:
        if data[after - 1] == _HYPHEN:
            self.complete = True
            self._read = _ignore
            return after
        self._parts.begin()
        self._read = self._read_head
        return after - 2

    def _hold_back(self, data: bytes, start: int, begun: int) -> int:
        """Hand on the content, but not what may be a boundary."""
        self._hand_on(data, start, begun)
        return self._wait(data, begun)

    def _hand_on(self, data: bytes, start: int, stop: int) -> None:
        if stop > start:
            self._parts.data(data, start, stop)

    def _wait(self, data: bytes, at: int) -> int:
        self._rest = data[at:]
        return len(data)


def _after(data: bytes, at: int) -> int:
    """The end of what follows a boundary, or why there is none: it was content, or more must arrive."""
    match = _AFTER.match(data, at)
    if match is not None:
        return match.end()
    if _MAYBE_AFTER.match(data, at):
        return _WAIT
    if data[at] in b" \t":  # content may begin like a boundary, but not like this (RFC 2046 §5.1.1)
        raise Malformed("there is more than spaces behind a boundary")
    return _NO


def _ignore(data: bytes, at: int) -> int:  # noqa: ARG001 - as the other readers
    return len(data)


def headers(head: bytes) -> Iterator[tuple[bytes, bytes]]:
    """The headers of a part: names in lower case, values without the spaces around them. Raises `Malformed`."""
    lines = head.split(b"\r\n") if head else []
    if len(lines) > MOST_HEADERS:
        raise Malformed(f"a part has more than {MOST_HEADERS} headers")
    for line in lines:
        if len(line) > LONGEST_HEADER:
            raise Malformed(f"a header is longer than {LONGEST_HEADER} bytes")
        name, colon, value = line.partition(b":")
        if not colon or not _NAME.match(name):
            raise Malformed(f"this is no header: {line[:100]!r}")
        if b"\r" in value or b"\n" in value:
            raise Malformed("a header's line does not end in CR LF")
        yield name.lower(), value.strip(b" \t")
