"""The thin callable in front: guards, and warm answers from memory. Everything else goes to the app behind it.

A warm answer costs one dictionary, one look-up and one `revision` of its index. Nothing here knows what an
answer means; `pages` and `files` make them.
"""

import os
import time
from collections.abc import Awaitable, Callable, MutableMapping
from functools import lru_cache
from typing import Any

from entrepot.access import ANONYMOUS, Caller
from entrepot.errors import Unavailable
from entrepot.index import OnDisk
from entrepot.web.access_log import AccessLog, Line
from entrepot.web.cache import Message, Ready, ReadyCache, Variant
from entrepot.web.guards import HostGuard, is_cross_site_write
from entrepot.web.problems import Unauthorised
from entrepot.web.site import Site
from entrepot.wire import negotiate

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
AsgiApp = Callable[[Scope, Receive, Send], Awaitable[None]]

_ALWAYS_AT_ROOT = frozenset({b"/health", b"/ready", b"/metrics"})
_EMPTY: Message = {"type": "http.response.body", "body": b""}


class Hot:
    """An ASGI app around another."""

    def __init__(self, app: AsgiApp, site: Site, cache: ReadyCache, log: AccessLog | None) -> None:
        self._app = app
        self._site = site
        self._cache = cache
        self._log = log
        self._hosts = HostGuard(site.hosts) if site.loopback else None
        self._prefix = site.path.encode()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        began = time.perf_counter()
        pairs = scope["headers"]
        headers: dict[bytes, bytes] = dict(pairs)
        method: str = scope["method"]
        refusal = self._refusal(method, headers)
        if refusal is not None:
            await _refuse(send, *refusal)
            self._note(scope, headers, refusal[0], len(refusal[1]), began, "")
            return
        if method in {"GET", "HEAD"} and not scope["query_string"] and len(headers) == len(pairs):
            ready = self._find(scope["raw_path"], headers)
            if ready is not None:
                answered = await self._answer(ready, scope, headers, send)
                if answered is not None:
                    self._note(scope, headers, answered[0], answered[1], began, answered[2])
                    return
        await self._behind(scope, headers, receive, send, began)

    def _refusal(self, method: str, headers: dict[bytes, bytes]) -> tuple[int, bytes] | None:
        if self._hosts is not None and not self._hosts.allows(headers.get(b"host", b"")):
            name = headers.get(b"host", b"").decode("latin-1")
            text = f"this server does not answer for the host {name!r}; [server] hosts can add it\n"
            return 421, text.encode()
        if is_cross_site_write(method, headers):
            return 403, b"a web page may not write here: the request has an Origin or is cross-site\n"
        return None

    def _find(self, path: bytes, headers: dict[bytes, bytes]) -> Ready | None:
        page, coding = variants(headers.get(b"accept"), headers.get(b"accept-encoding"))
        find = self._cache.get
        return find(path, page) or find(path, None) or find(path, coding)

    async def _answer(
        self, ready: Ready, scope: Scope, headers: dict[bytes, bytes], send: Send
    ) -> tuple[int, int, str] | None:
        """Send it, if it still holds for this caller: (status, bytes, token id). None: ask the app behind."""
        private = b"authorization" in headers
        caller = ANONYMOUS
        try:
            if private:
                caller = await self._site.holder(headers[b"authorization"])
            if ready.guarded and not caller.may_read(ready.guarded, ready.name):
                return None
            if ready.valid_until is not None and time.time() >= ready.valid_until:
                return None
            if await ready.index.revision(ready.name) != ready.revision:
                return None
        except (Unauthorised, Unavailable):
            return None  # the app behind says it in the client's form
        return await _send_ready(ready, scope, headers, send, private=private, caller=caller)

    async def _behind(
        self, scope: Scope, headers: dict[bytes, bytes], receive: Receive, send: Send, began: float
    ) -> None:
        path: bytes = scope["raw_path"]
        if self._prefix and path not in _ALWAYS_AT_ROOT:
            if not path.startswith(self._prefix + b"/"):
                text = f"everything lies under {self._site.path}/\n".encode()
                await _refuse(send, 404, text)
                self._note(scope, headers, 404, len(text), began, "")
                return
            scope = dict(scope, path=scope["path"][len(self._prefix) :])
        status, size = 0, 0

        async def counting(message: MutableMapping[str, Any]) -> None:
            nonlocal status, size
            if message["type"] == "http.response.start":
                status = message["status"]
            elif message["type"] == "http.response.body":
                size += len(message.get("body", b""))
            elif message["type"] == "http.response.pathsend":
                size += sent_size(message["path"])
            await send(message)

        scope["state"] = state = dict(scope.get("state", {}), token="")
        try:
            await self._app(scope, receive, counting)
        finally:
            self._note(scope, headers, status or 499, size, began, str(state.get("token", "")))

    def _note(
        self, scope: Scope, headers: dict[bytes, bytes], status: int, size: int, began: float, token: str
    ) -> None:
        if self._log is None:
            return
        peer = scope["client"]
        client = peer[0] if peer else "unix"
        if b"x-forwarded-for" in headers:
            plain = {name.decode("latin-1"): value.decode("latin-1") for name, value in headers.items()}
            client = self._site.proxies.client(client, plain)
        agent = headers.get(b"user-agent", b"").decode("latin-1")
        path = scope["raw_path"].decode("latin-1")
        took = time.perf_counter() - began
        self._log.add(Line(time.time(), client, scope["method"], path, status, size, took, token, agent))


@lru_cache(maxsize=512)
def variants(accept: bytes | None, accept_encoding: bytes | None) -> tuple[Variant, str]:
    """The variant of a simple page for these headers, None if it cannot be had; and the content coding alone."""
    coding = "gzip" if negotiate.accepts_gzip(accept_encoding) else ""
    chosen = negotiate.choose(accept)
    return ((chosen, coding) if chosen is not None else None), coding


async def _send_ready(
    ready: Ready, scope: Scope, headers: dict[bytes, bytes], send: Send, *, private: bool, caller: Caller
) -> tuple[int, int, str] | None:
    wanted = headers.get(b"if-none-match")
    if wanted is not None and is_unchanged(wanted, ready.etag):
        await send(ready.unchanged_private if private else ready.unchanged)
        await send(_EMPTY)
        return 304, 0, caller.id
    start = ready.start_private if private else ready.start
    if scope["method"] == "HEAD":
        await send(start)
        await send(_EMPTY)
        return 200, 0, caller.id
    if ready.file is None:
        await send(start)
        await send(ready.body)
        return 200, ready.size, caller.id
    if b"range" in headers or not _is_still(ready.file):
        return None
    await send(start)
    await send({"type": "http.response.pathsend", "path": str(ready.file.path)})
    return 200, ready.size, caller.id


def sent_size(path: str) -> int:
    """For the log only: the file was open a moment ago."""
    try:
        return os.stat(path).st_size
    except OSError:
        return 0


def _is_still(file: OnDisk) -> bool:
    """Whether the path opens and leads to the same bytes.

    Granian turns a path that it cannot open into a 404, so we look first; the app behind finds the reason.
    """
    try:
        fd = os.open(file.path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return False
    found = os.fstat(fd)
    os.close(fd)
    return found.st_mtime_ns == file.mtime_ns and found.st_size == file.size


def is_unchanged(if_none_match: bytes, etag: bytes) -> bool:
    """Weak comparison with any of the tags, or "*" (RFC 9110 §13.1.2)."""
    if if_none_match == etag:
        return True
    tags = (tag.strip().removeprefix(b"W/") for tag in if_none_match.split(b","))
    return any(tag in {etag, b"*"} for tag in tags)


async def _refuse(send: Send, status: int, text: bytes) -> None:
    headers = [
        (b"content-type", b"text/plain; charset=utf-8"),
        (b"content-length", str(len(text)).encode()),
        (b"cache-control", b"no-store"),
        (b"x-content-type-options", b"nosniff"),
    ]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": text})
