"""The pages of an upstream: asked for, kept raw in the store, revalidated, and served on while upstream is down.

`<index>/upstream/<name>.json` is a cache: overwritten freely, written after the client has its answer.
"""

import asyncio
import logging
import re
from collections import OrderedDict
from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING
from urllib.parse import urljoin

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from entrepot.errors import EntrepotError, Invalid, NotFound, Unavailable
from entrepot.index import ANY, Store
from entrepot.model import ProjectName
from entrepot.sources.mirror.behind import Behind
from entrepot.sources.mirror.shelf import Shelf
from entrepot.sources.mirror.upstream import Upstream
from entrepot.stores.documents import read_bytes
from entrepot.threads import finished
from entrepot.wire import simple_html, simple_json
from entrepot.wire.legacy_json import Told
from entrepot.wire.simple_json import Page

if TYPE_CHECKING:
    from aiohttp import StreamReader

log = logging.getLogger(__name__)

ACCEPT = "application/vnd.pypi.simple.v1+json, application/vnd.pypi.simple.v1+html;q=0.2, text/html;q=0.1"
_MAX_AGE = re.compile(r"(?:^|,)\s*max-age\s*=\s*\"?(\d+)")
_NEGATIVE = timedelta(seconds=30)  # for which a name that upstream does not know stays unknown
SOON = timedelta(seconds=5)  # after a failure upstream is not asked for the page again so early
_LARGEST = 100 << 20  # bytes of one page
_IN_A_THREAD = 256 << 10  # bytes; parsing less takes some milliseconds
_REMEMBERED = 3_000  # pages, as far as their validators go
_UNCHANGED = ""  # in place of the body of a page that is known
_ANY = ProjectName("+flat")  # no project has this name


class Kept(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A page as upstream sent it, and when that was so. `body` None: upstream did not know the name."""

    schema: int = 1
    url: str
    confirmed: datetime
    content_type: str = ""
    etag: str | None = None
    last_modified: str | None = None
    max_age: int | None = None
    body: str | None = None


class Known(Struct, kw_only=True):
    """What a worker knows of a project's page. `kept` without the body, of which `seal` is a hash; None: no page."""

    kept: Kept
    seal: int | None
    revision: int
    told: Mapping[str, Told] | None = None  # what its legacy JSON adds
    asked: bool = False  # for that, behind
    shown: bool = False  # it was asked for before
    failed: datetime | None = None  # when upstream last failed to confirm it
    refreshing: "asyncio.Task[None] | None" = None

    @property
    def absent(self) -> bool:
        """Upstream does not know the name."""
        return self.seal is None

    def is_same(self, kept: Kept) -> bool:
        """Whether upstream's answer is the page that is known."""
        if kept.body is None or self.seal is None:
            return kept.body is None and self.seal is None
        return kept.body == _UNCHANGED or _seal(kept.body) == self.seal

    @property
    def stale(self) -> bool:
        """Upstream has failed since it last confirmed the page."""
        return self.failed is not None


class Pages:
    """Pages by name. `ttl` bounds how long one is taken for fresh; upstream may say less."""

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
        self._known: OrderedDict[ProjectName, Known] = OrderedDict()
        self._asking: dict[ProjectName, asyncio.Task[Known]] = {}
        self._shelf = Shelf()
        # Python's code runs in one thread at a time: two that parse would only keep the event loop waiting.
        self._parsing = asyncio.Semaphore(1)
        self.changes = 0  # of any page: the pulse

    def url(self, name: ProjectName) -> str:
        return urljoin(self._upstream.address.url, f"{name}/")

    def at_hand(self, name: ProjectName) -> Known | None:
        """What is known of the page if it may be answered without waiting; asks upstream in the background if old."""
        known = self._known.get(name)
        if known is None:
            return None
        age, fresh = self._clock() - known.kept.confirmed, self._fresh_for(known.kept)
        if age <= fresh:
            return known
        if known.failed is not None and self._clock() - known.failed < SOON:
            return known
        if not known.absent and (age <= fresh + self._ttl or known.stale):
            self._refresh_behind(name, known)
            return known
        return None

    def tasks(self) -> list[asyncio.Task[Known] | asyncio.Task[None]]:
        """What is being asked for."""
        refreshing = [known.refreshing for known in self._known.values() if known.refreshing is not None]
        return [*self._asking.values(), *refreshing]

    async def get(self, name: ProjectName) -> Known:
        """What is known of the page, from memory, store or upstream. Raises `Unavailable` if that is nothing."""
        known = self.at_hand(name)
        if known is not None:
            return known
        asking = self._asking.get(name)
        if asking is None:
            asking = self._asking[name] = asyncio.create_task(self._found(name))
            asking.add_done_callback(lambda _: self._asking.pop(name, None))
        return await asyncio.shield(asking)

    async def _found(self, name: ProjectName) -> Known:
        known = self._known.get(name)
        if known is None and (stored := await self._stored(name)) is not None:
            known = self._remember(name, stored, await self._parsed(name, stored))
            if (usable := self.at_hand(name)) is not None:
                return usable
        return await self._refreshed(name, known)

    def _refresh_behind(self, name: ProjectName, known: Known) -> None:
        if known.refreshing is None or known.refreshing.done():
            known.refreshing = asyncio.create_task(self._refresh_quietly(name, known))

    async def _refresh_quietly(self, name: ProjectName, known: Known) -> None:
        try:
            await self._refreshed(name, known)
        except EntrepotError as error:
            log.warning("%s: the page of %s could not be refreshed: %s", self._index, name, error)

    async def _refreshed(self, name: ProjectName, known: Known | None) -> Known:
        """Ask upstream. If it fails, the page that is known answers on, for as long as it does."""
        try:
            kept = await self._fetched(name, known.kept if known is not None else None)
            page = None if known is not None and known.is_same(kept) else await self._parsed(name, kept)
        except (Unavailable, Invalid) as error:
            if known is None or known.absent:
                raise _unavailable(error) from error
            if not known.stale:
                log.warning("%s: upstream fails, the page of %s is served as it was: %s", self._index, name, error)
                self._changed(known)
            known.failed = self._clock()
            return known
        if known is not None and known.is_same(kept):
            if known.stale:
                self._changed(known)
            known.kept, known.failed = _slim(kept), None
            return known
        if kept.body is not None:
            self._behind.add(partial(self._write, name, kept), weight=len(kept.body))
        return self._remember(name, kept, page)

    async def _fetched(self, name: ProjectName, before: Kept | None) -> Kept:
        url = self.url(name)
        known = before if before is not None and before.body is not None else None
        headers = asking(known.etag, known.last_modified) if known is not None else asking()
        try:
            async with self._upstream.get(url, headers) as response:
                fields = response.headers
                if response.status == 304:
                    if before is None:
                        raise Unavailable("upstream answered 304 to an unconditional request", at=url, status=502)
                    return replace(before, confirmed=self._clock(), max_age=max_age(fields.get("Cache-Control")))
                body = await text(response.content, url)
                return Kept(
                    url=str(response.url),
                    confirmed=self._clock(),
                    content_type=fields.get("Content-Type", ""),
                    etag=fields.get("ETag"),
                    last_modified=fields.get("Last-Modified"),
                    max_age=max_age(fields.get("Cache-Control")),
                    body=body,
                )
        except NotFound:
            return Kept(url=url, confirmed=self._clock())

    async def _parsed(self, name: ProjectName, kept: Kept) -> Page | None:
        if kept.body is None:
            return None
        if len(kept.body) > _IN_A_THREAD:
            async with self._parsing:
                return await finished(parse, kept, name)
        return parse(kept, name)

    async def _stored(self, name: ProjectName) -> Kept | None:
        try:
            return decode(await read_bytes(self._store, self._key(name)))
        except NotFound:
            return None
        except msgspec.MsgspecError as error:
            log.warning("%s: what was kept of %s cannot be read and is fetched anew: %s", self._index, name, error)
            return None

    async def _write(self, name: ProjectName, kept: Kept) -> None:
        await self._store.write(self._key(name), msgspec.json.encode(kept), expect=ANY)

    def _key(self, name: ProjectName) -> str:
        return f"{self._index}/upstream/{name}.json"

    def _remember(self, name: ProjectName, kept: Kept, page: Page | None) -> Known:
        self.changes += 1
        # A flat page that is there may still have nothing of this name.
        seal = _seal(kept.body) if kept.body is not None and page is not None else None
        known = self._known[name] = Known(kept=_slim(kept), seal=seal, revision=self.changes)
        self._known.move_to_end(name)
        if page is not None:
            self._shelf.put(name, page)
        else:
            self._shelf.drop(name)
        while len(self._known) > _REMEMBERED:
            oldest, _ = self._known.popitem(last=False)
            self._shelf.drop(oldest)
        return known

    async def page(self, name: ProjectName, known: Known) -> Page | None:
        """The page itself, read again from the store or upstream if it was let go of. None: upstream has none."""
        if known.absent:
            return None
        page = self._shelf.get(name)
        if page is not None:
            return page
        stored = await self._stored(name)
        if stored is None or stored.body is None or _seal(stored.body) != known.seal:
            await self._refreshed(name, None)
            return self._shelf.get(name)
        page = await self._parsed(name, stored)
        if page is not None:
            self._shelf.put(name, page)
        return page

    def _changed(self, known: Known) -> None:
        self.changes += 1
        known.revision = self.changes

    def touch(self, name: ProjectName) -> None:
        """What is said of the project's files changed: its page is made anew."""
        if (known := self._known.get(name)) is not None:
            self._changed(known)

    def _fresh_for(self, kept: Kept) -> timedelta:
        if kept.body is None:
            return min(_NEGATIVE, self._ttl)
        return self._ttl if kept.max_age is None else min(self._ttl, timedelta(seconds=kept.max_age))


class FlatPages(Pages):
    """The same for an upstream that is one page of links to files of many projects, as `--find-links` takes."""

    _whole: tuple[Kept, Mapping[ProjectName, Page]] | None = None
    _asked: asyncio.Lock | None = None

    def url(self, name: ProjectName) -> str:  # noqa: ARG002 - it is one for all
        return self._upstream.address.url

    async def names(self) -> tuple[ProjectName, ...]:
        """The projects of which it has files, in order."""
        await self.get(_ANY)
        return tuple(sorted(self._whole[1])) if self._whole is not None else ()

    async def _fetched(self, name: ProjectName, before: Kept | None) -> Kept:
        self._asked = self._asked or asyncio.Lock()
        async with self._asked:
            whole = self._whole[0] if self._whole is not None else before
            if whole is not None and self._clock() - whole.confirmed <= self._fresh_for(whole):
                return whole  # another project's request has just asked for it
            kept = await super()._fetched(name, whole)
            await self._split(kept)
            return kept

    async def _parsed(self, name: ProjectName, kept: Kept) -> Page | None:
        return (await self._split(kept)).get(name)

    async def _split(self, kept: Kept) -> Mapping[ProjectName, Page]:
        if self._whole is None or self._whole[0].body != kept.body:
            pages = await finished(simple_html.parse_flat, (kept.body or "").encode(), base=kept.url)
            self._whole = kept, pages
        else:
            self._whole = kept, self._whole[1]
        return self._whole[1]

    def _key(self, name: ProjectName) -> str:  # noqa: ARG002
        return f"{self._index}/upstream/{_ANY}.json"


def parse(kept: Kept, name: ProjectName) -> Page:
    """Raises `Invalid` for what is no page of the Simple API."""
    assert kept.body is not None
    kind = kept.content_type.partition(";")[0].strip().lower()
    if kind.endswith("json"):
        return simple_json.parse(kept.body.encode(), base=kept.url)
    if kind.endswith("html"):
        return simple_html.parse(kept.body, base=kept.url, name=name)
    raise Invalid(f"upstream sent {kind or 'no content type'} in place of a page", at=kept.url)


def _slim(kept: Kept) -> Kept:
    return replace(kept, body=_UNCHANGED) if kept.body is not None else kept


def _seal(body: str) -> int:
    return hash(body)  # it never leaves the process, and a collision would show a page as it was before


def decode(data: bytes) -> Kept:
    return msgspec.json.decode(data, type=Kept)


async def text(content: "StreamReader", url: str) -> str:
    data = bytearray()
    async for piece in content.iter_any():
        data += piece
        if len(data) > _LARGEST:
            raise Unavailable(f"upstream's page is larger than {_LARGEST >> 20} MiB", at=url, status=502)
    return data.decode("utf-8", "replace")


def asking(etag: str | None = None, last_modified: str | None = None) -> dict[str, str]:
    """The headers of a request for a page or list, on condition that it changed where one is known."""
    given = {"Accept": ACCEPT, "If-None-Match": etag, "If-Modified-Since": last_modified}
    return {name: value for name, value in given.items() if value}


def max_age(cache_control: str | None) -> int | None:
    if cache_control is None:
        return None
    if "no-cache" in cache_control or "no-store" in cache_control:
        return 0
    found = _MAX_AGE.search(cache_control)
    return min(int(found[1]), 86_400 * 365) if found else None


def _unavailable(error: EntrepotError) -> Unavailable:
    if isinstance(error, Unavailable):
        return error
    return Unavailable(f"upstream sent no page: {error.message}", at=error.at, status=502)
