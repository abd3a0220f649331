"""The hot path: warm answers from memory, and what every request passes before anything else.

A warm answer costs two look-ups and one `revision` of its index. Nothing here knows what an answer means, nor
which server carries it: `front` (our own) and `asgi` (any other) put it on the wire, and hand everything that is not
warm to the app behind.
"""

import os
import time
from collections.abc import Callable
from functools import lru_cache

from entrepot.errors import Unavailable
from entrepot.http1 import Answer, plain
from entrepot.index import OnDisk
from entrepot.web.access_log import AccessLog
from entrepot.web.cache import Ready, ReadyCache, Variant, variant
from entrepot.web.guards import HostGuard, is_cross_site_write
from entrepot.web.problems import Unauthorised
from entrepot.web.site import Site
from entrepot.wire import negotiate

# A request header by its lower-case name; of repeated ones the first. Header bytes are Latin-1.
Header = Callable[[str], str | None]

READS = frozenset({"GET", "HEAD"})
_LONGEST_READ = negotiate.LONGEST_REMEMBERED
_ALWAYS_AT_ROOT = frozenset({"/health", "/ready", "/metrics"})


class Warm:
    """What both fronts share. One for each worker."""

    def __init__(self, site: Site, cache: ReadyCache, log: AccessLog | None) -> None:
        self._site = site
        self._find = cache.get
        self._log = log
        self._hosts = HostGuard(site.hosts) if site.loopback else None

    def refusal(self, method: str, host: str, header: Header) -> Answer | None:
        """Why the request goes no further: a rebound Host name, or a write from a web page."""
        if self._hosts is not None and not self._hosts.allows(host):
            return plain(421, f"this server does not answer for the host {host!r}; [server] hosts can add it")
        via = header("via")
        if via is not None and self._site.instance and self._site.instance in via:
            return plain(508, "this request came from this very server: a mirror of it must follow another index")
        if method not in READS and is_cross_site_write(method, header):
            return plain(403, "a web page may not write here: the request has an Origin or is cross-site")
        return None

    def path_behind(self, path: str) -> str | None:
        """The path without the deployment's sub-path; None if it lies outside."""
        prefix = self._site.path
        if not prefix or path in _ALWAYS_AT_ROOT:
            return path
        return path[len(prefix) :] if path.startswith(f"{prefix}/") else None

    def outside(self) -> Answer:
        return plain(404, f"everything lies under {self._site.path}/")

    def at_once(self, method: str, path: str, header: Header) -> Answer | None:
        """As `look`, as far as it asks nobody: for a page that all may read, while the pulse of its stores is the same.

        Where the answer is a file, whether it is still the same one is left to whoever opens it.
        """
        ready = self._ready(path, header)
        if ready is None or ready.guarded or header("authorization") is not None or not _is_believed(ready):
            return None
        return _answered(ready, method, header, private=False, token="")

    async def look(self, method: str, path: str, header: Header) -> Answer | None:
        """The answer to a read without a query, if a ready one holds for this caller. None: ask the app behind.

        Where it is a file, whether it is still the same one is left to whoever opens it.
        """
        ready = self._ready(path, header)
        if ready is None:
            return None
        authorization = header("authorization")
        token = ""
        try:
            if authorization is not None or ready.guarded:
                caller = await self._site.holder(authorization)
                if not caller.may_read(ready.guarded, ready.name):
                    return None
                token = caller.id
            if not await _holds(ready):
                return None
        except (Unauthorised, Unavailable):
            return None  # the app behind says it in the client's form
        return _answered(ready, method, header, private=authorization is not None, token=token)

    def _ready(self, path: str, header: Header) -> Ready | None:
        page, other = variants(header("accept"), header("accept-encoding"))
        ready = self._find((path, page)) or self._find((path, None)) or self._find((path, other))
        if ready is not None and ready.valid_until is not None and time.time() >= ready.valid_until:
            return None
        return ready

    def note(
        self, answer: Answer, method: str, path: str, peer: str, forwarded: str | None, agent: str | None, began: float
    ) -> None:
        """One line for the access log. `forwarded` is X-Forwarded-For, all lines of it; `began` by `perf_counter`."""
        if self._log is None:
            return
        client = self._site.proxies.client(peer, forwarded) if forwarded is not None else peer
        size = answer.size if method != "HEAD" else 0  # what is announced to HEAD is not sent
        took = time.perf_counter() - began
        self._log.add((time.time(), client, method, path, answer.status, size, took, answer.token, agent))


def _is_believed(ready: Ready) -> bool:
    """Whether its revision was asked for a moment ago, and the index's pulse is the same since."""
    return ready.pulse is not None and ready.pulse() == ready.beat and time.monotonic() < ready.believed


async def _holds(ready: Ready) -> bool:
    """Whether the index still says the same revision."""
    if _is_believed(ready):
        return True
    moment, beat = time.monotonic(), ready.pulse() if ready.pulse is not None else None
    # The pulse was read before: a change in between makes the next request ask again.
    if await ready.index.revision(ready.name) != ready.revision:
        return False
    ready.beat, ready.believed = beat, moment + ready.believed_for
    return True


def _answered(ready: Ready, method: str, header: Header, *, private: bool, token: str) -> Answer | None:
    wanted = header("if-none-match")
    if ready.file is not None and (method == "HEAD" or wanted is not None) and not is_still(ready.file):
        return None  # nobody will open it
    if wanted is not None and is_unchanged(wanted, ready.etag):
        return Answer(ready.unchanged_private if private else ready.unchanged, token=token)
    head = ready.private if private else ready.public
    if method == "HEAD":
        return Answer(head, token=token)
    if ready.file is not None and header("range") is not None:
        return None
    return Answer(head, ready.body, ready.file, ready.size, token)


def variants(accept: str | None, accept_encoding: str | None) -> tuple[Variant, Variant]:
    """The variants of a simple page, None if it cannot be had, and of any other page, for these headers."""
    return _variants(_readable(accept), _readable(accept_encoding))


@lru_cache(maxsize=512)
def _variants(accept: str | None, accept_encoding: str | None) -> tuple[Variant, Variant]:
    coding = coding_for(accept_encoding)
    chosen = format_for(accept)
    return (variant(chosen, coding) if chosen is not None else None), variant(None, coding)


def format_for(accept: str | None, parameter: str | None = None) -> negotiate.Format | None:
    """The format of a simple page for an Accept header and `?format=`; None if the client takes none of ours."""
    return negotiate.choose(_encoded(accept), parameter)


def coding_for(accept_encoding: str | None) -> str:
    """The content coding that the client likes best, "" for none: zstd for uv, gzip for pip."""
    return next(iter(negotiate.encodings(_encoded(accept_encoding))), "")


def _encoded(value: str | None) -> bytes | None:
    read = _readable(value)
    return read.encode("latin-1", "replace") if read is not None else None


def _readable(value: str | None) -> str | None:
    """As much of a header as is looked at: other servers let 400 kB through, which would take a fifth of a second."""
    return value[:_LONGEST_READ] if value is not None else None


def is_still(file: OnDisk) -> bool:
    """Whether the path, which was opened once, still leads to the same bytes.

    A server that is told to send a path which it cannot open answers as it likes; the app behind finds the reason.
    """
    try:
        found = os.stat(file.path)
    except OSError:
        return False
    return found.st_mtime_ns == file.mtime_ns and found.st_size == file.size


def is_unchanged(if_none_match: str, etag: str) -> bool:
    """Weak comparison with any of the tags, or "*" (RFC 9110 §13.1.2)."""
    if if_none_match == etag != "":
        return True
    tags = (tag.strip().removeprefix("W/") for tag in if_none_match.split(","))
    return any(tag == "*" or tag == etag != "" for tag in tags)
