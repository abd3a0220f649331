"""The `.metadata` of an upstream's wheels: taken over where upstream has it, else made from a few bytes of the wheel.

`<index>/metadata/<project>.json` keeps what was made, by filename: a cache, written when there is time.
"""

import asyncio
import hashlib
import logging
import re
from collections import OrderedDict
from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import partial
from urllib.parse import urlsplit

import msgspec
from msgspec import Struct

from entrepot.errors import EntrepotError, Invalid, NotFound, Unavailable
from entrepot.index import ANY, Store
from entrepot.model import ProjectName
from entrepot.sources.mirror.behind import Behind
from entrepot.sources.mirror.downloads import Downloads, Wanted
from entrepot.sources.mirror.kept import NO_METADATA, Kept
from entrepot.sources.mirror.upstream import Upstream, begins_at
from entrepot.sources.mirror.zips import remote_metadata
from entrepot.stores.documents import gathered, read_bytes

log = logging.getLogger(__name__)

_PROJECTS = 600  # whose metadata is remembered
SMALL = 32 << 20  # bytes of a wheel that is fetched as a whole for its metadata
_LARGEST = 8 << 20  # bytes of METADATA
_TOTAL = re.compile(r"bytes \d+-\d+/(\d+)\Z")


class Made(Struct, kw_only=True):
    """What is known of a project's wheels: METADATA by filename, as Latin-1, and why others have none."""

    schema: int = 1
    texts: dict[str, str] = {}
    unusable: dict[str, str] = {}


class Companions:
    """Metadata by project and filename. `changed(project)` is told when a page has more to say."""

    def __init__(
        self, index: str, store: Store, upstream: Upstream, kept: Kept, downloads: Downloads, *,
        behind: Behind, changed: Callable[[ProjectName], None],
    ) -> None:  # fmt: skip
        self._index = index
        self._store = store
        self._upstream = upstream
        self._kept = kept
        self._downloads = downloads
        self._behind = behind
        self._changed = changed
        self._known: OrderedDict[ProjectName, tuple[Made, dict[str, str]]] = OrderedDict()
        self._making: dict[tuple[str, str], asyncio.Task[bytes]] = {}
        self._new: set[ProjectName] = set()
        self._ranges: dict[str, bool] = {}  # whether a host honours them

    def tasks(self) -> list[asyncio.Task[bytes]]:
        """What is being made."""
        return list(self._making.values())

    async def hashes(self, name: ProjectName) -> Mapping[str, str]:
        """The SHA-256 of the metadata that is there already, by filename."""
        return (await self._of(name))[1]

    async def unusable(self, name: ProjectName) -> Mapping[str, str]:
        """Why a wheel has no metadata, by filename."""
        return (await self._of(name))[0].unusable

    async def refuse(self, project: ProjectName, filename: str, why: str) -> None:
        """A wheel turned out to have no metadata that can be used."""
        made, _ = await self._of(project)
        if made.unusable.get(filename) != why:
            made.unusable[filename] = why
            self._later(project)
            self._changed(project)  # at once: nobody else should begin with it

    def honours_ranges(self, url: str) -> bool:
        """Whether parts may be had of what lies on that host, as far as it is known."""
        return self._ranges.get(urlsplit(url).netloc, True)

    def ignores_ranges(self, url: str) -> None:
        """Its host was asked for a part, and sent the whole: one file counts for all only if nothing else is known."""
        self._ranges.setdefault(urlsplit(url).netloc, False)

    def ranged(self, urls: Mapping[str, str]) -> bool:
        """Whether parts can be had of the files, so that metadata can be made while a client waits."""
        newest = _newest_wheel(urls)
        return newest is not None and self._ranges.get(urlsplit(newest).netloc, False)

    async def learn(self, urls: Mapping[str, str]) -> None:
        """Find out once for each host whether it honours ranges."""
        newest = _newest_wheel(urls)
        example = {urlsplit(newest).netloc: newest} if newest is not None else {}
        for host, url in example.items():
            if host not in self._ranges:
                try:
                    async with self._upstream.get(url, _range("bytes=0-0")) as response:
                        self._ranges[host] = response.status == 206
                except EntrepotError as error:
                    log.info("%s: whether %s honours ranges is not known yet: %s", self._index, host, error)

    async def at_hand(self, name: ProjectName, filename: str) -> bytes | None:
        """The exact bytes of METADATA, if they are here."""
        text = (await self._of(name))[0].texts.get(filename)
        return text.encode("latin-1") if text is not None else None

    async def get(self, wanted: Wanted) -> bytes:
        """The same, made if need be. Raises `Unavailable`, also for a wheel that turns out to have none."""
        data = await self.at_hand(wanted.project, wanted.file.filename)
        if data is not None:
            return data
        key = (wanted.project, wanted.file.filename)
        making = self._making.get(key)
        if making is None:
            making = self._making[key] = asyncio.create_task(self._made(wanted))
            making.add_done_callback(lambda _: self._making.pop(key, None))
        return await asyncio.shield(making)

    async def _made(self, wanted: Wanted) -> bytes:
        filename = wanted.file.filename
        try:
            data = await self._found(wanted)
        except Invalid as error:
            await self.refuse(wanted.project, filename, error.message)
            raise Unavailable(f"the wheel has no metadata that can be used: {error.message}", at=filename) from error
        made, hashes = await self._of(wanted.project)  # only now: meanwhile it may have been let go of
        made.texts[filename] = data.decode("latin-1")
        hashes[filename] = hashlib.sha256(data).hexdigest()
        self._later(wanted.project)
        return data

    async def _found(self, wanted: Wanted) -> bytes:
        """From what is kept here, from upstream's own, from the wheel's end, from the whole wheel: what comes first."""
        kept = await self._kept.open_metadata(wanted.project, wanted.file)
        if kept is not None:
            return await gathered(kept)
        if wanted.file.core_metadata and (advertised := await self._advertised(wanted)) is not None:
            return advertised
        if self.honours_ranges(wanted.url):
            # What looks broken may be upstream's idea of ranges: a wheel is judged by all of its bytes.
            with suppress(NoRanges, Invalid):
                return await remote_metadata(Remote(self._upstream, wanted, self._ranges), wanted.file.filename)
        if await self._kept.size(wanted) is None:
            await self._downloads.start(wanted).ended()
        kept = await self._kept.open_metadata(wanted.project, wanted.file)
        if kept is None:
            made, _ = await self._of(wanted.project)
            raise Invalid(made.unusable.get(wanted.file.filename, NO_METADATA), at=wanted.file.filename)
        return await gathered(kept)

    async def _advertised(self, wanted: Wanted) -> bytes | None:
        """Upstream's own; None if it is not there, or is not what its page says."""
        try:
            async with self._upstream.get(f"{wanted.url}.metadata") as response:
                data = await response.content.read(_LARGEST + 1)
                while more := await response.content.read(_LARGEST + 1 - len(data)):
                    data += more
        except (NotFound, Unavailable) as error:
            log.warning("%s: the metadata that upstream advertises cannot be had: %s", self._index, error)
            return None
        expected = wanted.file.core_metadata
        digest = expected.get("sha256") if isinstance(expected, Mapping) else None
        if digest is not None and hashlib.sha256(data).hexdigest() != digest:
            log.warning("%s: upstream's metadata of %s has another hash", self._index, wanted.file.filename)
            return None
        return data

    # Remembering.

    async def _of(self, name: ProjectName) -> tuple[Made, dict[str, str]]:
        known = self._known.get(name)
        if known is None:
            made = await self._stored(name)
            hashes = {key: hashlib.sha256(text.encode("latin-1")).hexdigest() for key, text in made.texts.items()}
            known = self._known.setdefault(name, (made, hashes))
            while len(self._known) > _PROJECTS and (oldest := next(iter(self._known))) not in self._new:
                del self._known[oldest]
        self._known.move_to_end(name)
        return known

    async def _stored(self, name: ProjectName) -> Made:
        try:
            return msgspec.json.decode(await read_bytes(self._store, self._key(name)), type=Made)
        except NotFound:
            return Made(texts={}, unusable={})
        except msgspec.MsgspecError as error:
            log.warning("%s: the metadata of %s cannot be read and is made anew: %s", self._index, name, error)
            return Made(texts={}, unusable={})

    def _later(self, name: ProjectName) -> None:
        if name not in self._new:
            self._new.add(name)
            self._behind.add(partial(self._write, name))

    async def _write(self, name: ProjectName) -> None:
        """One write, and one new page, for all that came in the meantime."""
        self._new.discard(name)
        self._changed(name)
        await self._store.write(self._key(name), msgspec.json.encode(self._known[name][0]), expect=ANY)

    def _key(self, name: ProjectName) -> str:
        return f"{self._index}/metadata/{name}.json"


def _newest_wheel(urls: Mapping[str, str]) -> str | None:
    """One that stands for all of a page: files of one project lie on one host."""
    return next((urls[filename] for filename in reversed(list(urls)) if filename.endswith(".whl")), None)


class NoRanges(Exception):
    """The host sends whole files only."""


class Remote:
    """Parts of a file that upstream has."""

    def __init__(self, upstream: Upstream, wanted: Wanted, ranges: dict[str, bool]) -> None:
        self._upstream = upstream
        self._url = wanted.url
        self._ranges = ranges

    async def tail(self, size: int) -> tuple[bytes, int]:
        async with self._upstream.get(self._url, _range(f"bytes=-{size}")) as response:
            self._ranges[urlsplit(self._url).netloc] = response.status == 206
            found = _TOTAL.match(response.headers.get("Content-Range", ""))
            if response.status != 206 or found is None:
                raise NoRanges
            data, size = await response.read(), int(found[1])
            if begins_at(response) != size - len(data):
                raise NoRanges
            return data, size

    async def part(self, start: int, stop: int) -> bytes:
        async with self._upstream.get(self._url, _range(f"bytes={start}-{stop - 1}")) as response:
            data = await response.read()
        if response.status != 206 or begins_at(response) != start or len(data) != stop - start:
            raise NoRanges
        return data


def _range(value: str) -> dict[str, str]:
    return {"Range": value, "Accept-Encoding": "identity"}
