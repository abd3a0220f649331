"""`type = "mirror"`: an upstream index, of which pages, metadata and files are kept as they are asked for."""

import asyncio
import fcntl
import logging
import os
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from datetime import datetime, timedelta
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any
from urllib.parse import urljoin

from msgspec import Struct
from msgspec.structs import replace

from entrepot.errors import EntrepotError, NotFound, Unavailable
from entrepot.index import Content, Names, Revision, Span, Store, Stream, absent
from entrepot.model import File, Project, ProjectName, earliest
from entrepot.sources.mirror.address import Address
from entrepot.sources.mirror.behind import Behind
from entrepot.sources.mirror.companions import Companions, NoRanges
from entrepot.sources.mirror.downloads import Downloads, Wanted
from entrepot.sources.mirror.kept import NO_METADATA, Kept, documented, documented_revision, is_bare
from entrepot.sources.mirror.listing import Listing
from entrepot.sources.mirror.pages import FlatPages, Known, Pages
from entrepot.sources.mirror.seen import Seen
from entrepot.sources.mirror.shown import More, likely, without
from entrepot.sources.mirror.upstream import Upstream, begins_at
from entrepot.threads import finished
from entrepot.wire import legacy_json
from entrepot.wire.simple_json import Page

log = logging.getLogger(__name__)

_CHORES = 60.0  # seconds between two looks at what is kept
_AGE_SHOWN = timedelta(seconds=10)  # by which the age of a stale page may be off
_AT_ONCE = 8  # requests for metadata that nobody asked for yet
_LAST = 5.0  # seconds for what is still to be written when the server stops
_WAITING = 200  # of them that may wait


class Settings(Struct, frozen=True, kw_only=True):
    """How a mirror behaves. Times in seconds, sizes in bytes. `locks`: a folder for this node's locks."""

    address: Address
    flat: bool
    ttl: float
    timeout: float
    private: bool
    offline: bool
    prefetch: int
    max_size: int | None
    via: str
    locks: Path


class Mirror:
    """A source over an upstream. `running` does what is done in the background; without it, `close` at the end."""

    def __init__(self, name: str, store: Store, settings: Settings, *, clock: Callable[[], datetime]) -> None:
        self.name = name
        self._settings = settings
        self._clock = clock
        self._tasks: set[asyncio.Task[object]] = set()
        self._upstream = Upstream(
            settings.address, via=settings.via, timeout=settings.timeout, private=settings.private
        )
        self._behind = Behind()
        kind = FlatPages if settings.flat else Pages
        self._pages = kind(
            name, store, self._upstream, ttl=timedelta(seconds=settings.ttl), clock=clock, behind=self._behind
        )
        self._listing = Listing(
            name, store, self._upstream, ttl=timedelta(seconds=settings.ttl), clock=clock, behind=self._behind
        )
        self._kept = Kept(name, store, changed=self._pages.touch, refused=self._refuse)
        self._downloads = Downloads(name, self._upstream, store.traits.staging, self._kept)
        self._companions = Companions(
            name,
            store,
            self._upstream,
            self._kept,
            self._downloads,
            behind=self._behind,
            changed=self._pages.touch,
        )
        self._seen = Seen(name, store, clock)
        self._store = store
        self._prefetching = asyncio.Semaphore(_AT_ONCE)
        self._prefetched = 0

    def pulse(self) -> object:
        """Changes with every page that did."""
        return self._pages.changes

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        self._spawn(finished(import_module, "entrepot.sources.mirror.session"))
        self._spawn(self._chores())
        self._spawn(self._behind.run())
        try:
            yield
        finally:
            await self.close()

    async def close(self) -> None:
        """Ask upstream for nothing more; write what is still to be written."""
        await self._downloads.stop()
        tasks = (*self._tasks, *self._pages.tasks(), *self._listing.tasks(), *self._companions.tasks())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self._behind.finish(_LAST)
        await self._upstream.close()

    # As an index.

    async def projects(self) -> AsyncIterator[ProjectName]:
        """The names whose pages were asked for here."""
        if self._settings.offline:
            async for name in self._kept.projects():
                yield name
            return
        if isinstance(self._pages, FlatPages):
            for name in await self._pages.names():
                yield name
            return
        for name in await documented(self._store, f"{self.name}/upstream/"):
            yield name

    async def project(self, name: ProjectName) -> Project:
        if self._settings.offline:
            return await self._kept.project(name)
        self._behind.stir()
        known = await self._pages.get(name)
        page = await self._pages.page(name, known)
        if page is None:
            raise NotFound(f"no project {name} upstream")
        return await self._assembled(name, known, page)

    async def revision(self, name: ProjectName | None) -> Revision:
        if self._settings.offline:
            return await self._kept.revision(name)
        if name is None:
            if isinstance(self._pages, FlatPages):
                return Revision(f"m{self._pages.changes}")
            return await documented_revision(self._store, f"{self.name}/upstream/")
        known = self._pages.at_hand(name) or await self._pages.get(name)
        if known.absent:
            return absent(str(known.revision))
        return Revision(f"m{known.revision}")

    # As a source.

    async def open(self, project: ProjectName, file: File, span: Span | None = None) -> Content:
        kept = await self._kept.open(project, file, span)
        if kept is not None:
            return kept
        wanted = await self._wanted(project, file)
        download = self._downloads.start(wanted)
        parts = download.in_parts and self._companions.honours_ranges(wanted.url)
        if span is not None and download.readable < span.stop and parts:
            try:
                return await self._part(wanted, span)
            except NoRanges:
                download.in_parts = False  # it is waited for as a part of the whole, and so is the next one
        await download.begun()
        stream = download.stream(span)
        if stream is not None:
            return Stream(body=stream, size=download.size if span is None else span.stop - span.start)
        await download.ended()
        kept = await self._kept.open(project, file, span)
        if kept is None:
            raise Unavailable("its bytes were taken away while they came", at=file.filename)
        return kept

    async def open_metadata(self, project: ProjectName, file: File) -> Content:
        if not file.core_metadata:
            raise NotFound(f"{file.filename} has no metadata file")
        kept = await self._kept.open_metadata(project, file)
        if kept is not None:
            return kept
        data = await self._companions.at_hand(project, file.filename)
        if data is None:
            data = await self._companions.get(await self._wanted(project, file))
        return Stream(body=_once(data), size=len(data))

    async def _part(self, wanted: Wanted, span: Span) -> Content:
        """A range of a file that has not come so far, while the whole comes in behind."""
        answers = self._ranged(wanted, span)
        first = await anext(answers)  # so that a failure still is an answer of its own
        return Stream(body=_chained(first, answers), size=span.stop - span.start)

    async def _ranged(self, wanted: Wanted, span: Span) -> AsyncIterator[bytes]:
        headers = {"Range": f"bytes={span.start}-{span.stop - 1}", "Accept-Encoding": "identity"}
        async with self._upstream.get(wanted.url, headers) as response:
            if response.status != 206:
                self._companions.ignores_ranges(wanted.url)
                raise NoRanges
            if begins_at(response) != span.start:
                raise Unavailable("upstream sent another range than was asked for", at=wanted.url, status=502)
            left = span.stop - span.start
            async for piece in response.content.iter_any():
                yield piece[:left]
                left -= len(piece)
                if left <= 0:
                    return
        if left > 0:
            raise Unavailable("upstream sent less than was asked for", at=wanted.url, status=502)

    async def _wanted(self, project: ProjectName, file: File) -> Wanted:
        if self._settings.offline:
            raise Unavailable(f"{file.filename} is not kept here, and this server is offline")
        page = await self._pages.page(project, await self._pages.get(project))
        url = page.urls.get(file.filename) if page is not None else None
        if page is None or url is None:
            raise NotFound(f"upstream has no {file.filename} any more")
        given = page.project.file(file.filename)
        return Wanted(project=project, file=given, url=url)

    # For what stands in front of it.

    async def knows(self, name: ProjectName) -> bool:
        """Whether upstream has a project of this name. Raises `Unavailable` if it cannot be asked."""
        if self._settings.offline:
            raise Unavailable(f"whether {name} is known upstream cannot be asked: this server is offline")
        return not (await self._pages.get(name)).absent

    async def everything(self) -> Names:
        if self._settings.offline:
            return Names(batches=_one(()))
        if isinstance(self._pages, FlatPages):
            return Names(batches=_one(await self._pages.names()))
        return await self._listing.names()

    async def page_url(self, name: ProjectName) -> str:
        return self._pages.url(name)

    def local(self) -> Kept:
        """Only what is kept here."""
        return self._kept

    async def fetch(self, project: ProjectName, file: File) -> None:
        """Make the file be kept here."""
        if await self._kept.open(project, file) is None:
            await self._downloads.start(await self._wanted(project, file)).ended()

    async def pin(self, project: ProjectName, names: frozenset[str]) -> None:
        """These files are never taken out."""
        await self._kept.pin(project, names)

    # Pages.

    async def _assembled(self, name: ProjectName, known: Known, page: Page) -> Project:
        first, known.shown = not known.shown, True
        await self._companions.learn(page.urls)
        kept, made, unusable = (
            await self._kept.files(name), await self._companions.hashes(name), await self._companions.unusable(name),
        )  # fmt: skip
        told = await self._told(name, known, page)
        untimed = [file.filename for file in page.project.files if file.uploaded is None and file.filename not in told]
        seen = await self._seen.times(name, untimed) if untimed else {}
        bare = {filename: NO_METADATA for filename, file in kept.items() if is_bare(file)}
        more = More(self.name, kept, made, told, seen, self._companions.ranged(page.urls))
        files = tuple([more.of(file) for file in page.project.files])
        if first:
            self._prefetch(name, page, files)
        files, withheld = without(files, {**bare, **unusable}) if bare or unusable else (files, ())
        return replace(
            page.project,
            name=name,
            files=files,
            withheld=withheld,
            stale_since=known.kept.confirmed if known.stale else None,
            valid_until=earliest((page.project.valid_until, self._clock() + _AGE_SHOWN if known.stale else None)),
        )

    async def _refuse(self, name: ProjectName, filename: str, why: str) -> None:
        """A wheel that came without metadata: pip and uv could not use it, and it goes from the page."""
        await self._companions.refuse(name, filename, why)

    async def _told(self, name: ProjectName, known: Known, page: Page) -> Mapping[str, legacy_json.Told]:
        """Times and sizes from upstream's legacy JSON, where its page lacks them.

        Times are waited for, since rules may ask for them; sizes alone come a little later.
        """
        files = page.project.files
        untimed = any(file.uploaded is None for file in files)
        if not untimed and all(file.size is not None for file in files):
            return {}
        if untimed and known.told is None:
            await self._ask_legacy(name, known)
        elif known.told is None and not known.asked:
            known.asked = True
            self._behind.add(partial(self._ask_legacy, name, known))
        return known.told or {}

    async def _ask_legacy(self, name: ProjectName, known: Known) -> None:
        root = self._settings.address.url
        if not root.endswith("/simple/"):
            return
        try:
            async with self._upstream.get(urljoin(root, f"../pypi/{name}/json")) as response:
                known.told = legacy_json.told(await response.read())
        except NotFound:
            known.told = {}  # not to be asked again as long as the page is this one
        except EntrepotError as error:
            log.info("%s: no legacy JSON of %s: %s", self.name, name, error)
            return
        if known.asked:
            self._pages.touch(name)

    # Beside the requests.

    def _prefetch(self, name: ProjectName, page: Page, files: tuple[File, ...]) -> None:
        for file in likely(files, self._settings.prefetch):
            if file.core_metadata is True and self._prefetched < _WAITING:
                self._prefetched += 1
                given = page.project.file(file.filename)
                wanted = Wanted(project=name, file=given, url=page.urls[file.filename])
                self._spawn(self._prefetch_one(wanted))

    async def _prefetch_one(self, wanted: Wanted) -> None:
        try:
            async with self._prefetching:
                await self._companions.get(wanted)
        except EntrepotError as error:
            log.debug("%s: %s was not prefetched: %s", self.name, wanted.file.filename, error)
        finally:
            self._prefetched -= 1

    def _spawn(self, work: Coroutine[Any, Any, object]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _chores(self) -> None:
        """Write down what was used, and take out what is too much: that one worker of a node does."""
        self._settings.locks.mkdir(parents=True, exist_ok=True)
        lock = os.open(self._settings.locks / f"chores-{self.name}", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            looked_at = 0
            while True:
                await self._grown(looked_at)
                looked_at = self._kept.grown
                try:
                    await self._kept.note_used()
                    with suppress(BlockingIOError):
                        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                        await self._tidy()
                except EntrepotError as error:
                    log.warning("%s: what is kept could not be looked through: %s", self.name, error)
        finally:
            os.close(lock)

    async def _grown(self, before: int) -> None:
        """Wait until so much came that something may have to go, at most a minute."""
        most = self._settings.max_size
        with suppress(TimeoutError):
            async with asyncio.timeout(_CHORES):
                while most is None or self._kept.grown - before <= most // 10:
                    self._kept.growth.clear()
                    await self._kept.growth.wait()

    async def _tidy(self) -> None:
        if self._settings.max_size is None:
            return
        gone = await self._kept.evict(self._settings.max_size)
        if gone:
            log.info("%s: %d files were taken out, so that the rest stays under max-size", self.name, gone)


async def _once(data: bytes) -> AsyncIterator[bytes]:
    yield data


async def _one(names: Sequence[ProjectName]) -> AsyncIterator[Sequence[ProjectName]]:
    yield names


async def _chained(first: bytes, rest: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    try:
        yield first
        async for piece in rest:
            yield piece
    finally:
        close = getattr(rest, "aclose", None)
        if close is not None:
            await close()
