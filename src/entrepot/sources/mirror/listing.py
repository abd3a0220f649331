"""Upstream's whole list of projects: megabytes, which lie in the store and never as a whole in memory.

`<index>/list.json` says how it came; it names `<index>/list/<sha256>`, the list as upstream sent it, and
`<index>/list/<sha256>.names`, its names in order, one on a line. All three are a cache.
"""

import asyncio
import hashlib
import logging
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from entrepot.errors import EntrepotError, Invalid, NotFound, Unavailable
from entrepot.index import ANY, Names, Span, Staged, Store, Stream
from entrepot.model import ProjectName
from entrepot.sources.mirror.behind import Behind
from entrepot.sources.mirror.pages import SOON, asking, max_age
from entrepot.sources.mirror.upstream import Upstream
from entrepot.stores import StagingFile, failures, open_staging
from entrepot.stores.documents import read_bytes
from entrepot.threads import finished
from entrepot.wire import listing

if TYPE_CHECKING:
    import aiohttp

log = logging.getLogger(__name__)

_LARGEST = 512 << 20  # bytes of a list
_PIECE = 256 << 10


class Told(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """How the list came: what `pages.Kept` says of a page. `sha256` and `size` are of the list."""

    schema: int = 1
    url: str
    confirmed: datetime
    content_type: str
    sha256: str
    size: int
    names: int  # bytes of its names
    etag: str | None = None
    last_modified: str | None = None
    max_age: int | None = None


class Listing:
    """The list of one upstream. Fresh for `ttl`; then it serves while upstream is asked, or as long as that fails."""

    def __init__(
        self, index: str, store: Store, upstream: Upstream, *, ttl: timedelta, clock: Callable[[], datetime],
        behind: Behind,
    ) -> None:  # fmt: skip
        self._index = index
        self._store = store
        self._upstream = upstream
        self._ttl = ttl
        self._clock = clock
        self._behind = behind
        self._told: Told | None = None
        self._failed: datetime | None = None  # when upstream last failed to confirm it
        self._asking: asyncio.Task[Told] | None = None

    def tasks(self) -> list[asyncio.Task[Told]]:
        """What is being asked for."""
        return [self._asking] if self._asking is not None else []

    async def names(self) -> Names:
        """All names. Raises `Unavailable` if upstream cannot be asked and nothing is kept, before the first of them."""
        told = await self._current()
        try:
            body = await self._opened(told)
        except NotFound:
            # Another worker put a newer list in its place, or somebody emptied the cache.
            stored = await self._stored()
            told = stored if stored is not None and stored.sha256 != told.sha256 else await self._asked(None)
            self._told = told
            try:
                body = await self._opened(told)
            except NotFound as error:
                raise Unavailable("upstream's list was taken away while it was read", at=self._key) from error
        stale = self._failed is not None and self._failed > told.confirmed
        return Names(batches=_batches(body), stale_since=told.confirmed if stale else None)

    # Freshness, as that of pages.

    async def _current(self) -> Told:
        told = self._told
        if told is None or not self._is_fresh(told):
            stored = await self._stored()  # another worker may have asked
            if stored is not None and (told is None or stored.confirmed > told.confirmed):
                told = self._told = stored
        if told is not None:
            if self._is_fresh(told) or (self._failed is not None and self._clock() - self._failed < SOON):
                return told
            if self._failed is not None or self._clock() - told.confirmed <= self._fresh_for(told) + self._ttl:
                self._ask(told)
                return told
        return await self._asked(told)

    def _is_fresh(self, told: Told) -> bool:
        return self._clock() - told.confirmed <= self._fresh_for(told)

    def _fresh_for(self, told: Told) -> timedelta:
        return self._ttl if told.max_age is None else min(self._ttl, timedelta(seconds=told.max_age))

    async def _asked(self, known: Told | None) -> Told:
        return await asyncio.shield(self._ask(known))

    def _ask(self, known: Told | None) -> asyncio.Task[Told]:
        """One request, however many wait for it."""
        if self._asking is None or self._asking.done():
            self._asking = asyncio.create_task(self._refreshed(known))
            self._asking.add_done_callback(self._note)
        return self._asking

    def _note(self, asking: asyncio.Task[Told]) -> None:
        """Whoever waited for it may have gone away."""
        if not asking.cancelled() and (error := asking.exception()) is not None:
            log.warning("%s: upstream's list of projects could not be had: %s", self._index, error)

    async def _refreshed(self, known: Told | None) -> Told:
        """Ask upstream. If it fails, the list that is known answers on, for as long as it does."""
        try:
            told = await self._fetched(known)
        except EntrepotError as error:
            if known is None:
                raise _unavailable(error) from error
            if self._failed is None:
                log.warning("%s: upstream fails, its list is served as it was: %s", self._index, error)
            self._failed = self._clock()
            return known
        self._told, self._failed = told, None
        return told

    # Upstream.

    async def _fetched(self, known: Told | None) -> Told:
        url = self._upstream.address.url
        headers = asking(known.etag, known.last_modified) if known is not None else asking()
        async with self._upstream.get(url, headers) as response:
            if response.status == 304 and known is None:
                raise Unavailable("upstream answered 304 to an unconditional request", at=url, status=502)
            allowed = max_age(response.headers.get("Cache-Control"))
            if response.status == 304 and known is not None:
                told = replace(known, confirmed=self._clock(), max_age=allowed)
                self._behind.add(partial(self._write, told))
                return told
            told = await self._taken(response, allowed)
        await self._write(told)
        if known is not None and known.sha256 != told.sha256:
            for key in self._keys(known):  # whoever reads it holds it open
                await self._store.delete(key, expect=ANY)
        return told

    async def _taken(self, response: "aiohttp.ClientResponse", allowed: int | None) -> Told:
        """The list as it comes, into the store, with its names beside it."""
        fields, url = response.headers, str(response.url)
        kind = fields.get("Content-Type", "")
        read = _reader(kind, url)
        opened = ExitStack()  # filled in threads: a cancellation would lose what a thread returns
        try:
            raw, names = [await finished(lambda: opened.enter_context(open_staging(self._staging))) for _ in range(2)]
            listed = await _received(response, raw)
            sorted_names = await finished(_write_names, raw, names, read)
            told = Told(
                url=url,
                confirmed=self._clock(),
                content_type=kind,
                sha256=listed.sha256,
                size=listed.size,
                names=sorted_names.size,
                etag=fields.get("ETag"),
                last_modified=fields.get("Last-Modified"),
                max_age=allowed,
            )
            await self._store.write_all(dict(zip(self._keys(told), (listed, sorted_names), strict=True)))
            return told
        finally:
            await finished(opened.close)

    # The store.

    async def _opened(self, told: Told) -> AsyncIterator[bytes]:
        """The bytes of its names. A part is asked for and not the path: so they stay open when a newer list comes."""
        content = await self._store.read(self._keys(told)[1], Span(0, told.names))
        if not isinstance(content, Stream):
            raise Unavailable("the store does not send a part of an object", at=self._keys(told)[1])
        return content.body

    async def _stored(self) -> Told | None:
        try:
            return msgspec.json.decode(await read_bytes(self._store, self._key), type=Told)
        except NotFound:
            return None
        except msgspec.MsgspecError as error:
            log.warning("%s cannot be read and is fetched anew: %s", self._key, error)
            return None

    async def _write(self, told: Told) -> None:
        await self._store.write(self._key, msgspec.json.encode(told), expect=ANY)

    @property
    def _key(self) -> str:
        return f"{self._index}/list.json"

    def _keys(self, told: Told) -> tuple[str, str]:
        """Of the list and of its names."""
        return f"{self._index}/list/{told.sha256}", f"{self._index}/list/{told.sha256}.names"

    @property
    def _staging(self) -> Path:
        return self._store.traits.staging


Reader = Callable[[Iterable[bytes]], Iterator[Sequence[ProjectName]]]


def _reader(content_type: str, url: str) -> Reader:
    kind = content_type.partition(";")[0].strip().lower()
    if kind.endswith("json"):
        return listing.json_names
    if kind.endswith("html"):
        return listing.html_names
    raise Invalid(f"upstream sent {kind or 'no content type'} in place of a list", at=url)


async def _received(response: "aiohttp.ClientResponse", raw: StagingFile) -> Staged:
    digest, size = hashlib.sha256(), 0
    async for piece in response.content.iter_any():
        digest.update(piece)
        size += len(piece)
        if size > _LARGEST:
            words = f"upstream's list is larger than {_LARGEST >> 20} MiB"
            raise Unavailable(words, at=str(response.url), status=502)
        await finished(raw.write, piece)
    return Staged(path=raw.path, size=size, sha256=digest.hexdigest())


def _write_names(raw: StagingFile, names: StagingFile, read: Reader) -> Staged:
    """Blocking. Raises `Invalid` for what is no list."""
    digest, size = hashlib.sha256(), 0
    with failures.translated(failures.while_reading, raw.path.name, str(raw.path.parent)), raw.path.open("rb") as file:
        for piece in listing.ordered(read(iter(partial(file.read, _PIECE), b""))):
            names.write(piece)
            digest.update(piece)
            size += len(piece)
    return Staged(path=names.path, size=size, sha256=digest.hexdigest())


async def _batches(body: AsyncIterator[bytes]) -> AsyncIterator[Sequence[ProjectName]]:
    """The names in the bytes, cut wherever they may be."""
    rest = b""
    try:
        async for piece in body:
            whole, newline, rest = (rest + piece).rpartition(b"\n")
            if newline:
                yield listing.names_of(whole)
    finally:
        close = getattr(body, "aclose", None)
        if close is not None:
            await close()


def _unavailable(error: EntrepotError) -> Unavailable:
    if isinstance(error, Unavailable):
        return error
    if isinstance(error, NotFound):
        return Unavailable("upstream has no list of its projects", at=error.at, status=502)
    return Unavailable(f"upstream sent no list: {error.message}", at=error.at, status=502)
