"""Making ready answers, and sending them from the app behind the hot path for the first time."""

import hashlib
import zlib
from datetime import datetime
from typing import Protocol

from starlette.datastructures import Headers as HttpHeaders
from starlette.requests import Request
from starlette.types import Receive, Scope, Send

from entrepot import zstandard
from entrepot.http1 import Answer, Head, Headers, head
from entrepot.index import Mounted, OnDisk, Revision
from entrepot.model import ProjectName
from entrepot.threads import finished
from entrepot.web.asgi import send_answer
from entrepot.web.cache import Ready, ReadyCache, Variant
from entrepot.web.site import Site
from entrepot.web.warm import is_unchanged

# Pages need no script, no frame and no form; a README's text must not become one (PyPI sends the same).
_CSP = "sandbox allow-top-navigation; default-src 'none'"
_SMALLEST_WORTH_COMPRESSING = 600  # bytes; below, gzip's own header eats most of the gain
_IN_A_THREAD = 64 << 10  # bytes; compressing less takes under a millisecond


async def page(
    site: Site,
    mounted: Mounted,
    name: ProjectName | None,
    revision: Revision,
    *,
    body: bytes,
    content_type: str,
    coding: str,
    vary: str,
    valid_until: datetime | None,
    stale_since: datetime | None = None,
) -> Ready:
    """A page in one format and one coding, with a strong ETag of its own (RFC 9110 §8.8.3).

    One that upstream cannot confirm tells since how many seconds: `X-Entrepot-Stale`.
    """
    # Of the type as well: text/html and its v1 have the same bytes, but are not the same (RFC 9110 §8.8.1).
    hashed = hashlib.blake2b(body, digest_size=16)
    hashed.update(content_type.encode())
    digest = hashed.hexdigest()
    coding = coding if len(body) >= _SMALLEST_WORTH_COMPRESSING else ""
    if coding:
        compress = CODINGS[coding]
        body = await finished(compress, body) if len(body) > _IN_A_THREAD else compress(body)
    etag = f'"{digest}{"-" + coding if coding else ""}"'
    both: Headers = [("etag", etag), ("vary", vary), *_stale(site, stale_since)]
    headers: Headers = [*_kind(content_type, coding), ("content-length", str(len(body))), *both]
    public, private = _freshness(site.max_age, guarded=bool(mounted.guarded))
    return _ready(
        mounted, name, revision, etag=etag, headers=headers, both=both, cache=(public, private), body=body,
        size=len(body), valid_until=valid_until,
    )  # fmt: skip


def stream_headers(
    site: Site, mounted: Mounted, *, content_type: str, coding: str, vary: str, stale_since: datetime | None,
    private: bool,
) -> Headers:  # fmt: skip
    """Those of a page that is written while it is read: without length and ETag. `private`: credentials were sent."""
    cache = _freshness(site.max_age, guarded=bool(mounted.guarded))[private]
    return [*_kind(content_type, coding), ("vary", vary), ("cache-control", cache), *_stale(site, stale_since)]


def _kind(content_type: str, coding: str) -> Headers:
    headers: Headers = [("content-type", content_type), ("x-content-type-options", "nosniff")]
    if content_type.startswith("text/html") or "+html" in content_type:
        headers.append(("content-security-policy", _CSP))
    if coding:
        headers.append(("content-encoding", coding))
    return headers


def _stale(site: Site, since: datetime | None) -> Headers:
    if since is None:
        return []
    return [("x-entrepot-stale", str(max(0, round((site.clock() - since).total_seconds()))))]


def file(
    mounted: Mounted, name: ProjectName, revision: Revision, *, headers: Headers, etag: str, size: int,
    kept: OnDisk | None, body: bytes = b"", valid_until: datetime | None = None,
) -> Ready:  # fmt: skip
    """A file's answer: its bytes never change, so clients may keep it for ever."""
    cache = "max-age=365000000, immutable"
    public = "public, " + cache if not mounted.guarded else "private, " + cache
    both: Headers = [("etag", etag)] if etag else []
    return _ready(
        mounted, name, revision, etag=etag, headers=[*headers, *both], both=both,
        cache=(public, "private, " + cache), body=body, size=size, valid_until=valid_until, kept=kept,
    )  # fmt: skip


def _ready(
    mounted: Mounted, name: ProjectName | None, revision: Revision, *, etag: str, headers: Headers, both: Headers,
    cache: tuple[str, str], body: bytes, size: int, valid_until: datetime | None, kept: OnDisk | None = None,
) -> Ready:  # fmt: skip
    public, private = cache
    return Ready(
        index=mounted.index,
        name=name,
        revision=revision,
        valid_until=valid_until.timestamp() if valid_until is not None else None,
        guarded=mounted.guarded,
        etag=etag,
        public=head(200, [*headers, ("cache-control", public)]),
        private=head(200, [*headers, ("cache-control", private)]),
        unchanged=head(304, [*both, ("cache-control", public)]),
        unchanged_private=head(304, [*both, ("cache-control", private)]),
        body=body,
        size=size,
        file=kept,
        pulse=mounted.pulse,
    )


def _freshness(max_age: int, *, guarded: bool) -> tuple[str, str]:
    """Cache-Control without and with credentials. "no-cache" still lets a client keep it and ask with its ETag."""
    if max_age:
        public, private = f"public, max-age={max_age}", f"private, max-age={max_age}"
    else:
        public, private = "no-cache", "private, no-cache"
    return (private if guarded else public), private


def _gzip(body: bytes) -> bytes:
    # wbits 31: a gzip header without a time, so that equal pages stay equal.
    # Level 3: a tenth larger than by level 6, in less than half the time.
    compressor = zlib.compressobj(3, zlib.DEFLATED, 31)
    return compressor.compress(body) + compressor.flush()


# A page of 1,000 files by zstd: a quarter smaller than by gzip, and in a seventh of the time.
CODINGS = {"zstd": zstandard.compressed, "gzip": _gzip}


class Compressor(Protocol):
    """What both codings have in common where the body comes in pieces."""

    def compress(self, data: bytes, /) -> bytes: ...
    def flush(self) -> bytes: ...


def compressor(coding: str) -> Compressor | None:
    """Of a body that comes in pieces; None for no coding. Quick rather than small: nobody keeps the result."""
    if coding == "zstd":
        return zstandard.ZstdCompressor(level=1)
    return zlib.compressobj(1, zlib.DEFLATED, 31) if coding == "gzip" else None


class Kept:
    """A ready answer as a Starlette response: put into the cache, then sent as the hot path would."""

    def __init__(self, ready: Ready, request: Request, cache: ReadyCache, variant: Variant) -> None:
        if not request.url.query:
            cache.put(cache_path(request), variant, ready)
        self._ready = ready

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG002
        ready = self._ready
        body = ready.body if scope["method"] == "GET" else b""
        await send_answer(send, unchanged(ready, scope) or Answer(fields(ready, scope), body))


def unchanged(ready: Ready, scope: Scope) -> Answer | None:
    """A 304 if that is what the client has."""
    headers = HttpHeaders(scope=scope)
    wanted = headers.get("if-none-match")
    if wanted is None or not is_unchanged(wanted, ready.etag):
        return None
    return Answer(ready.unchanged_private if "authorization" in headers else ready.unchanged)


def fields(ready: Ready, scope: Scope) -> Head:
    """The head of a 200."""
    return ready.private if "authorization" in HttpHeaders(scope=scope) else ready.public


def cache_path(request: Request) -> str:
    """The path that the client asked for, with the deployment's sub-path: what the hot path looks up."""
    path: str = request.scope["client_path"]
    return path
