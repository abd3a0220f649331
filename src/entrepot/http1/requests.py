"""Requests, as llhttp reads them (RFC 9112). What it leaves open is decided here, always for the strict side."""

import re
from collections.abc import Callable
from functools import lru_cache
from urllib.parse import unquote

import httptools

from entrepot.http1.bodies import NOTHING, Body

_HEAD = 64 << 10  # bytes of a target and its headers together; nginx takes 32 KiB
_UNTOLD = 1 << 20  # bytes in which llhttp finds nothing to tell of: a header without an end, in a trailer too
_LINES = 128  # headers; pip and uv send some ten
_ABSOLUTE = (b"http://", b"https://")
# A name, an IPv4 address or a bracketed one, and a port (RFC 3986 §3.2); empty where the target has none.
_HOST = re.compile(rb"(?:[A-Za-z0-9._~!$&'()*+,;=%-]{0,255}|\[[0-9A-Za-z:._~-]{1,255}\])(?::[0-9]{0,5})?\Z")


class Refused(Exception):
    """What came is no request that we take: its status, and why. The connection ends with it."""

    def __init__(self, status: int, reason: str) -> None:
        super().__init__(reason)
        self.status = status
        self.reason = reason


class Request:
    """One request. `path` is decoded, `raw_path` is not; `fields` has each header's first value, in Latin-1."""

    __slots__ = (
        "body", "brings_body", "fields", "keep_alive", "lines", "method", "path", "query", "raw_path", "version",
        "waits",
    )  # fmt: skip

    def __init__(
        self, method: str, target: bytes, lines: list[tuple[bytes, bytes]], version: str, *, keep_alive: bool
    ) -> None:
        self.method = method
        self.raw_path, _, self.query = _origin(target).partition(b"?")
        self.path = unquote(self.raw_path.decode("utf-8", "replace"))
        self.lines = lines
        self.fields = {name.decode("latin-1"): value.decode("latin-1") for name, value in reversed(lines)}
        self.version = version
        self.keep_alive = keep_alive
        self.body = NOTHING
        self.brings_body = "transfer-encoding" in self.fields or self.fields.get("content-length", "0") != "0"
        # It sends its body when it is told to, or after a while (RFC 9110 §10.1.1).
        self.waits = version == "1.1" and "100-continue" in self.fields.get("expect", "").lower()

    def header(self, name: str) -> str | None:
        """The first of a header, by its lower-case name."""
        return self.fields.get(name)

    def joined(self, name: bytes) -> str:
        """All lines of a header as one: proxies may append a line of their own."""
        return ", ".join(value.decode("latin-1") for known, value in self.lines if known == name)


def _origin(target: bytes) -> bytes:
    """The path and query of a target in origin form, absolute form (RFC 9112 §3.2.2) or "*"."""
    if target.startswith(b"/") or target == b"*":
        return target
    if not target.lower().startswith(_ABSOLUTE):
        raise Refused(400, "the request's target is neither a path nor a URL")
    authority, slash, rest = target.partition(b"//")[2].partition(b"/")
    if not authority or b"?" in authority:
        raise Refused(400, "the request's target is a URL without a host or a path")
    return slash + rest or b"/"


class Reader:
    """Feeds llhttp, and hands each request over when its head is complete: `begun(request)`.

    Its body comes into `request.body` afterwards.
    """

    def __init__(self, begun: Callable[[Request], None], new_body: Callable[[], Body]) -> None:
        self._begun = begun
        self._new_body = new_body
        self._parser = httptools.HttpRequestParser(self)
        self._target = b""
        self._lines: list[tuple[bytes, bytes]] = []
        self._size = 0
        self._untold = 0
        self._request: Request | None = None
        self._refused: Refused | None = None
        self.in_head = False

    @property
    def at_rest(self) -> bool:
        """Between two requests."""
        return self._request is None and not self.in_head

    def feed(self, data: bytes) -> None:
        """Raises `Refused` for what is no request. Those before it were handed over."""
        try:
            self._parse(data)
        except httptools.HttpParserInvalidMethodError:
            raise Refused(501, "nobody here knows this method") from None
        except httptools.HttpParserCallbackError:
            if self._refused is None:
                raise  # a fault of ours
            raise self._refused from None
        except httptools.HttpParserError as error:
            raise Refused(400, f"this is no HTTP/1.1: {error}") from None
        # llhttp tells of a header when it has all of it, and would take one without an end.
        self._untold += len(data)
        if self._untold > _UNTOLD:
            raise _too_large()

    def _parse(self, data: bytes) -> None:
        rest = memoryview(data)
        while rest:
            try:
                self._parser.feed_data(rest)
            except httptools.HttpParserUpgrade as upgrade:
                # A request that offers another protocol. We stay with this one (RFC 9110 §7.8), and so does llhttp.
                rest = rest[upgrade.args[0] :]
            else:
                return

    def cut(self) -> None:
        """The connection is lost."""
        if self._request is not None:
            self._request.body.break_off()

    # What llhttp calls.

    def on_message_begin(self) -> None:
        self.in_head = True
        self._target, self._lines, self._size, self._untold = b"", [], 0, 0

    def on_url(self, url: bytes) -> None:
        self._target += url
        self._limit(len(url))

    def on_header(self, name: bytes, value: bytes) -> None:
        if self.in_head:  # and not a trailer, which nobody here reads
            self._lines.append((name.lower(), value))
        self._limit(len(name) + len(value))

    def on_headers_complete(self) -> None:
        try:
            self._complete()
        except Refused as refused:
            self._refused = refused
            raise

    def on_body(self, piece: bytes) -> None:
        assert self._request is not None
        self._untold = 0
        self._request.body.add(piece)

    def on_message_complete(self) -> None:
        assert self._request is not None
        request, self._request, self._untold = self._request, None, 0
        request.body.end()

    def _complete(self) -> None:
        version = self._parser.get_http_version()
        if version not in {"1.0", "1.1"}:
            raise Refused(505, "this server speaks HTTP/1.1")
        _check_host(self._lines, version)
        _check_coding(self._lines, version)
        request = Request(
            self._parser.get_method().decode(), self._target, self._lines, version,
            keep_alive=self._parser.should_keep_alive(),
        )  # fmt: skip
        if request.brings_body:
            if self._parser.should_upgrade():  # llhttp takes what follows for the other protocol
                raise Refused(501, "nobody here speaks another protocol, and a body with that offer is not read")
            request.body = self._new_body()
        self._request = request
        self.in_head = False
        self._begun(request)

    def _limit(self, size: int) -> None:
        self._size += size
        self._untold = 0
        if self._size > _HEAD or len(self._lines) > _LINES:
            self._refused = _too_large()
            raise self._refused


def _check_host(lines: list[tuple[bytes, bytes]], version: str) -> None:
    """RFC 9112 §3.2."""
    hosts = [value for name, value in lines if name == b"host"]
    if len(hosts) > 1 or (not hosts and version == "1.1"):
        raise Refused(400, "a request has one Host header")
    if hosts and not _is_host(hosts[0]):
        raise Refused(400, "the Host header holds no host")


@lru_cache(maxsize=64)
def _is_host(value: bytes) -> bool:
    return _HOST.match(value) is not None


def _check_coding(lines: list[tuple[bytes, bytes]], version: str) -> None:
    """Chunks are all that we know, and what does not end with them has no end (RFC 9112 §6.1)."""
    codings = b",".join(value for name, value in lines if name == b"transfer-encoding").strip().lower()
    if codings and version == "1.0":
        raise Refused(400, "HTTP/1.0 has no chunks: somebody on the way may count the body otherwise")
    if codings not in {b"", b"chunked"}:
        raise Refused(501 if codings.endswith(b"chunked") else 400, "a body comes as it is or in chunks")


def _too_large() -> Refused:
    return Refused(431, f"a request's head has at most {_HEAD >> 10} KiB and {_LINES} headers")
