"""Range and If-Range of a download (RFC 9110 §13.1.5, §14).

One range of bytes is honoured. Everything else (several ranges, other units, faults) is ignored, as the RFC
allows, and the client gets the whole file.
"""

import re
from datetime import UTC, datetime
from email.utils import format_datetime

from msgspec import Struct

# 19 digits hold every size there is, and keep int() linear.
_ONE_RANGE = re.compile(r"bytes=[ \t]*([0-9]{0,19})-([0-9]{0,19})[ \t]*\Z", re.IGNORECASE)
_STRONG_ETAG = re.compile(r'"[\x21\x23-\x7e\x80-\xff]*"\Z')


class Unsatisfiable(Struct, frozen=True):
    """The range lies beyond the end of a file of `size` bytes (416)."""

    size: int

    @property
    def content_range(self) -> str:
        """The Content-Range header of the 416, from which a client learns the size."""
        return f"bytes */{self.size}"


def parse(header: str | None, size: int) -> range | Unsatisfiable | None:
    """The bytes asked for, cut to `size`; None if the header is to be ignored."""
    match = _ONE_RANGE.match(header) if header else None
    if match is None or match.group(1) == match.group(2) == "":
        return None
    first, last = match.groups()
    if not first:
        return _suffix(int(last), size)
    start = int(first)
    if last and int(last) < start:
        return None
    if start >= size:
        return Unsatisfiable(size)
    return range(start, min(int(last) + 1, size) if last else size)


def _suffix(length: int, size: int) -> range | Unsatisfiable | None:
    """The last `length` bytes. "-0" asks for nothing; of an empty file a 206 could name no byte."""
    if length == 0:
        return Unsatisfiable(size)
    return range(max(0, size - length), size) if size else None


def content_range(part: range, size: int) -> str:
    """The Content-Range header of a 206."""
    return f"bytes {part.start}-{part.stop - 1}/{size}"


def if_range_allows(header: str | None, *, etag: str | None, last_modified: datetime | None) -> bool:
    """Whether the Range header may be honoured: the client's part is of these very bytes.

    `etag` is quoted, as it is sent. Only strong comparison counts (RFC 9110 §13.1.5): a weak tag on either
    side never matches. `last_modified` must be equal to the second; pass None unless it is a strong
    validator, that is unless the bytes cannot have changed twice within it.
    """
    if header is None:
        return True
    header = header.strip(" \t")
    if header.startswith(('"', "W/")):
        return header == etag and _STRONG_ETAG.match(header) is not None
    # "An exact match", says the RFC: clients send back the date they were given.
    return last_modified is not None and header == format_datetime(last_modified.astimezone(UTC), usegmt=True)
