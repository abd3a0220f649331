"""Making ready answers, and sending them from the app behind the hot path for the first time."""

import asyncio
import hashlib
import zlib
from datetime import datetime

from starlette.requests import Request
from starlette.types import Receive, Scope, Send

from entrepot.index import Mounted, OnDisk, Revision
from entrepot.model import ProjectName
from entrepot.web.cache import Ready, ReadyCache, Variant
from entrepot.web.hot import is_unchanged
from entrepot.web.site import Site

Headers = list[tuple[bytes, bytes]]

# Pages need no script, no frame and no form; a README's text must not become one (PyPI sends the same).
_CSP = b"sandbox allow-top-navigation; default-src 'none'"
_SMALLEST_WORTH_COMPRESSING = 600  # bytes; below, gzip's own header eats most of the gain
_IN_A_THREAD = 64 << 10  # bytes; compressing less takes under a millisecond


async def page(
    site: Site,
    mounted: Mounted,
    name: ProjectName | None,
    revision: Revision,
    *,
    body: bytes,
    content_type: bytes,
    coding: str,
    vary: bytes,
    valid_until: datetime | None,
) -> Ready:
    """A page in one format and one coding, with a strong ETag of its own (RFC 9110 §8.8.3)."""
    digest = hashlib.blake2b(body, digest_size=16).hexdigest()
    coding = coding if len(body) >= _SMALLEST_WORTH_COMPRESSING else ""
    if coding == "gzip":
        body = await asyncio.to_thread(_gzip, body) if len(body) > _IN_A_THREAD else _gzip(body)
    etag = f'"{digest}{"-" + coding if coding else ""}"'.encode()
    both: Headers = [(b"etag", etag), (b"vary", vary)]
    headers: Headers = [
        (b"content-type", content_type),
        (b"content-length", str(len(body)).encode()),
        (b"x-content-type-options", b"nosniff"),
        *both,
    ]
    if content_type.startswith(b"text/html") or b"+html" in content_type:
        headers.append((b"content-security-policy", _CSP))
    if coding:
        headers.append((b"content-encoding", coding.encode()))
    public, private = _freshness(site.max_age, guarded=bool(mounted.guarded))
    return _ready(
        mounted, name, revision, etag=etag, headers=headers, both=both, cache=(public, private), body=body,
        size=len(body), valid_until=valid_until,
    )  # fmt: skip


def file(
    mounted: Mounted, name: ProjectName, revision: Revision, *, headers: Headers, etag: bytes, size: int,
    kept: OnDisk | None, body: bytes = b"", valid_until: datetime | None = None,
) -> Ready:  # fmt: skip
    """A file's answer: its bytes never change, so clients may keep it for ever."""
    cache = b"max-age=365000000, immutable"
    public = b"public, " + cache if not mounted.guarded else b"private, " + cache
    both: Headers = [(b"etag", etag)] if etag else []
    return _ready(
        mounted, name, revision, etag=etag, headers=[*headers, *both], both=both,
        cache=(public, b"private, " + cache), body=body, size=size, valid_until=valid_until, kept=kept,
    )  # fmt: skip


def _ready(
    mounted: Mounted, name: ProjectName | None, revision: Revision, *, etag: bytes, headers: Headers, both: Headers,
    cache: tuple[bytes, bytes], body: bytes, size: int, valid_until: datetime | None, kept: OnDisk | None = None,
) -> Ready:  # fmt: skip
    def start(status: int, fields: Headers, control: bytes) -> dict[str, object]:
        all_fields = [*fields, (b"cache-control", control)]
        return {"type": "http.response.start", "status": status, "headers": all_fields}

    public, private = cache
    return Ready(
        index=mounted.index,
        name=name,
        revision=revision,
        valid_until=valid_until.timestamp() if valid_until is not None else None,
        guarded=mounted.guarded,
        etag=etag,
        start=start(200, headers, public),
        start_private=start(200, headers, private),
        unchanged=start(304, both, public),
        unchanged_private=start(304, both, private),
        body={"type": "http.response.body", "body": body},
        size=size,
        file=kept,
    )


def _freshness(max_age: int, *, guarded: bool) -> tuple[bytes, bytes]:
    """Cache-Control without and with credentials. "no-cache" still lets a client keep it and ask with its ETag."""
    if max_age:
        public, private = b"public, max-age=%d" % max_age, b"private, max-age=%d" % max_age
    else:
        public, private = b"no-cache", b"private, no-cache"
    return (private if guarded else public), private


def _gzip(body: bytes) -> bytes:
    # wbits 31: a gzip header without a time, so that equal pages stay equal.
    compressor = zlib.compressobj(6, zlib.DEFLATED, 31)
    return compressor.compress(body) + compressor.flush()


class Kept:
    """A ready answer as a Starlette response: put into the cache, then sent as the hot path would."""

    def __init__(self, ready: Ready, request: Request, cache: ReadyCache, variant: Variant) -> None:
        if not request.url.query:
            cache.put(request.scope["raw_path"], variant, ready)
        self._ready = ready

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG002
        ready = self._ready
        headers = dict(scope["headers"])
        private = b"authorization" in headers
        wanted = headers.get(b"if-none-match")
        if wanted is not None and is_unchanged(wanted, ready.etag):
            await send(ready.unchanged_private if private else ready.unchanged)
            await send({"type": "http.response.body", "body": b""})
            return
        await send(ready.start_private if private else ready.start)
        await send(ready.body if scope["method"] == "GET" else {"type": "http.response.body", "body": b""})
