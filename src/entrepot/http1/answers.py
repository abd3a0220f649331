"""Answers, and their heads as HTTP/1.1 has them on the wire (RFC 9112 §4)."""

import time
from collections.abc import Iterable
from email.utils import formatdate
from functools import lru_cache
from http import HTTPStatus

from msgspec import Struct

from entrepot.index import OnDisk

# Names in lower case.
Headers = list[tuple[str, str]]

_BODILESS = frozenset({204, 304})


class Head(Struct, frozen=True):
    """Status and headers: as pairs, and as bytes of HTTP/1.1 up to where `Date` and the empty line follow."""

    status: int
    headers: Headers
    wire: bytes


class Answer(Struct, frozen=True):
    """What to send: `file` by path if it is set, else `body`. `size` in bytes; `token` is the caller's, for the log."""

    head: Head
    body: bytes = b""
    file: OnDisk | None = None
    size: int = 0
    token: str = ""

    @property
    def status(self) -> int:
        return self.head.status

    @property
    def headers(self) -> Headers:
        return self.head.headers


def head(status: int, headers: Headers) -> Head:
    """Raises `ValueError` for a header that would end its line."""
    return Head(status, headers, rendered(status, headers))


def rendered(status: int, headers: Iterable[tuple[str, str]]) -> bytes:
    lines = [_status_line(status), *(f"{name}: {value}" for name, value in headers)]
    text = "\r\n".join(lines)
    if text.count("\n") != len(lines) - 1 or text.count("\r") != len(lines) - 1 or "\0" in text:
        raise ValueError(f"a header of this {status} answer has a line break or a NUL in it")
    return f"{text}\r\n".encode("latin-1")


def ending(connection: str = "") -> bytes:
    """What every head ends with: who answers, when, and what becomes of the connection ("close", "keep-alive")."""
    return _ending(int(time.time()), connection)


@lru_cache(maxsize=8)
def _ending(moment: int, connection: str) -> bytes:
    more = f"connection: {connection}\r\n" if connection else ""
    return f"server: entrepot\r\ndate: {formatdate(moment, usegmt=True)}\r\n{more}\r\n".encode()


def has_body(method: str, status: int) -> bool:
    """Whether bytes may follow the head (RFC 9110 §6.4.1)."""
    return method != "HEAD" and status not in _BODILESS


@lru_cache(maxsize=64)
def _status_line(status: int) -> str:
    return f"HTTP/1.1 {status} {HTTPStatus(status).phrase if status in _KNOWN else ''}"


_KNOWN = frozenset(int(status) for status in HTTPStatus)


def plain(status: int, text: str) -> Answer:
    """A message for a person."""
    body = f"{text}\n".encode()
    headers = [
        ("content-type", "text/plain; charset=utf-8"),
        ("content-length", str(len(body))),
        ("cache-control", "no-store"),
        ("x-content-type-options", "nosniff"),
    ]
    return Answer(head(status, headers), body, None, len(body))
