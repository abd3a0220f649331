"""What `os.stat` tells of an object, and whether it is what a writer expects."""

import os
from stat import S_ISREG

from entrepot.errors import Conflict
from entrepot.index import ABSENT, ANY, Entry, Etag, Expect, Span


def etag_of(found: os.stat_result) -> Etag:
    return Etag(f"{found.st_mtime_ns:x}-{found.st_size:x}-{found.st_ino:x}")


def entry_of(key: str, found: os.stat_result) -> Entry:
    return Entry(key=key, size=found.st_size, etag=etag_of(found), modified=found.st_mtime)


def is_object(found: os.stat_result) -> bool:
    return S_ISREG(found.st_mode)


def require_expected(key: str, expect: Expect, present: Etag | None) -> None:
    """Raises `Conflict` if what is there, None if nothing is, is not as expected."""
    if expect is ANY or expect == present:
        return
    if expect is ABSENT:
        if present is not None:
            raise Conflict("it exists already", at=key)
    else:
        raise Conflict("it was changed since it was read" if present else "it was deleted", at=key)


def cut(span: Span, size: int) -> Span:
    """The part of the span that an object of `size` bytes has."""
    start = min(max(span.start, 0), size)
    return Span(start, min(max(span.stop, start), size))
