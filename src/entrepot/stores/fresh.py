"""What is remembered of a store elsewhere: who asked a moment ago need not ask again, and nobody waits for long.

A stat holds for three quarters of `revalidate`; from half of it on it is asked for again in the background. The last
quarter is the caller's, who may believe an answer for that long (`believed`), so that nothing older than `revalidate`
is ever sent. What a process of this node writes changes a mark in memory that all of them share, and is seen at once.
While the store does not answer, what it said last is good for `stale_for` seconds.
"""

import asyncio
import logging
import os
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from pathlib import Path
from typing import NamedTuple

from msgspec import Struct

from entrepot.errors import EntrepotError, NotFound, Unavailable
from entrepot.index import Body, Content, Entry, Etag, Expect, Span, Staged, Store
from entrepot.stores import changes, failures, keys
from entrepot.stores.ownership import make_folder
from entrepot.threads import finished

log = logging.getLogger(__name__)

_MOST = 50_000  # keys remembered
_LONG = 1_000  # entries from which a listing is remembered
_MOST_LISTINGS = 4  # of 100,000 entries each takes some 40 MB
_WARNED_EVERY = 10.0  # seconds


class _Seen(Struct):
    """What the store said of a key, None if that nothing is there; when it was asked, and the key's mark then."""

    entry: Entry | None
    asked: float  # monotonic
    mark: int
    failing: float = 0.0  # until then nobody waits for another answer


class _Listing(NamedTuple):
    """What the store listed, when it was asked (monotonic), and how many seconds it took."""

    entries: tuple[Entry, ...]
    asked: float
    took: float


class Fresh:
    """A `Store` over one elsewhere, for a server. `folder` is this node's: its processes share the marks in it."""

    def __init__(self, store: Store, folder: Path, *, revalidate: float = 1.0, stale_for: float = 60.0) -> None:
        self.inner = store
        self.traits = store.traits
        self.believed = revalidate / 4
        self._revalidate = revalidate
        self._stale_for = stale_for
        self._root = str(folder)
        with failures.translated(failures.while_writing, "", self._root):
            folder.mkdir(parents=True, exist_ok=True)
            make_folder(f"{self._root}/locks", self._root)
            self._holder = os.stat(folder)
            self._marks = changes.Changes(self._root)
        self.pulse: Callable[[], object] = self._marks.pulse
        self._seen: dict[str, _Seen] = {}
        self._asking: dict[str, tuple[asyncio.Task[None], float]] = {}
        self._listings: dict[str, _Listing] = {}
        self._warned = float("-inf")

    async def prepare(self) -> None:
        """What the store must know before it is used."""
        prepare = getattr(self.inner, "prepare", None)
        if prepare is not None:
            await prepare()
            self.traits = self.inner.traits

    async def close(self) -> None:
        """Give up what is being asked for."""
        tasks = [task for task, _ in self._asking.values()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def stat(self, key: str) -> Entry:
        seen = self._seen.get(key)
        if seen is not None and seen.mark == self._marks.watch(key)[1]:
            age = time.monotonic() - seen.asked
            if age < self._revalidate * 0.75:
                if age >= self._revalidate * 0.5:
                    self._ask(key)
                return _told(seen, key)
        return _told(await self._asked(key), key)

    def recheck(self, key: str) -> None:
        """The next stat asks the store: for what a change depends on. Answers on their way do not count either."""
        self._seen.pop(key, None)
        self._asking.pop(key, None)

    async def read(self, key: str, span: Span | None = None) -> Content:
        return await self.inner.read(key, span)

    async def write(self, key: str, body: Body, *, expect: Expect) -> Etag:
        keys.check(key)
        try:
            return await self.inner.write(key, body, expect=expect)
        finally:
            await self._tell(key)  # also of what failed: it may have taken effect

    async def write_all(self, bodies: Mapping[str, bytes | Staged]) -> None:
        for key in bodies:
            keys.check(key)
        try:
            await self.inner.write_all(bodies)
        finally:
            await self._tell(*bodies)

    async def delete(self, key: str, *, expect: Expect) -> None:
        keys.check(key)
        try:
            await self.inner.delete(key, expect=expect)
        finally:
            await self._tell(key)

    async def list(self, prefix: str, *, after: str = "") -> AsyncIterator[Entry]:
        """A long listing is remembered, and read again behind those who ask for it: only the first one waits.

        One that nobody asked for within `stale_for` is waited for again.
        """
        known = self._listings.get(prefix) if not after else None
        if known is not None and time.monotonic() - known.asked < max(self._stale_for, 20 * known.took):
            self._relist(prefix, known)
            for entry in known.entries:
                yield entry
            return
        began = time.monotonic()
        found: list[Entry] = []
        async for entry in self.inner.list(prefix, after=after):
            found.append(entry)
            yield entry
        if not after and len(found) >= _LONG:
            self._remember_listing(prefix, _Listing(tuple(found), began, time.monotonic() - began))

    def _relist(self, prefix: str, known: "_Listing") -> None:
        """No oftener than it takes a tenth of the time."""
        age = time.monotonic() - known.asked
        if prefix not in self._asking and age >= max(self._revalidate, 10 * known.took):
            task = asyncio.create_task(self._listed(prefix))
            task.add_done_callback(_retrieved)
            self._asking[prefix] = task, time.monotonic()

    async def _listed(self, prefix: str) -> None:
        began = time.monotonic()
        try:
            found = tuple([entry async for entry in self.inner.list(prefix)])
            self._remember_listing(prefix, _Listing(found, began, time.monotonic() - began))
        finally:
            self._asking.pop(prefix, None)

    def _remember_listing(self, prefix: str, listing: "_Listing") -> None:
        if len(self._listings) >= _MOST_LISTINGS:
            self._listings.pop(next(iter(self._listings)))
        self._listings[prefix] = listing

    async def bring_back(self, key: str) -> bool:
        keys.check(key)
        undo: Callable[[str], Awaitable[bool]] | None = getattr(self.inner, "bring_back", None)
        try:
            return await undo(key) if undo is not None else False
        finally:
            await self._tell(key)

    async def sign(self, key: str, *, seconds: float) -> str:
        sign: Callable[..., Awaitable[str]] = self.inner.sign  # type: ignore[attr-defined]  # a bucket's
        return await sign(key, seconds=seconds)

    async def sweep(self, now: float) -> None:
        sweep = getattr(self.inner, "sweep", None)
        if sweep is not None:
            await sweep(now)

    async def _tell(self, *written: str) -> None:
        def tell() -> None:
            with failures.translated(failures.while_writing, "", self._root):
                for key in written:
                    changes.tell(self._root, key, self._holder)

        for key in written:
            self.recheck(key)
        await finished(tell)

    def _ask(self, key: str) -> tuple["asyncio.Task[None]", float]:
        """The one question about the key that is on its way, and when it was asked."""
        asking = self._asking.get(key)
        if asking is None:
            asking = asyncio.create_task(self._answer(key)), time.monotonic()
            asking[0].add_done_callback(_retrieved)
            self._asking[key] = asking
        return asking

    async def _answer(self, key: str) -> None:
        """Ask the store and remember what it says, unless that is outdated by then."""
        mark, asked = self._marks.watch(key)[1], time.monotonic()
        entry: Entry | None = None
        try:
            entry = await self.inner.stat(key)
        except NotFound:
            pass
        except Unavailable:
            if (seen := self._seen.get(key)) is not None:
                seen.failing = time.monotonic() + self._revalidate
            raise
        finally:
            current = self._asking.get(key)
            ours = current is not None and current[0] is asyncio.current_task()
            if ours:
                del self._asking[key]
        if ours:
            if len(self._seen) >= _MOST:
                self._seen.clear()
            self._seen[key] = _Seen(entry, asked, mark)

    async def _asked(self, key: str) -> _Seen:
        """What the store says now; what it said last if it does not answer within `revalidate`."""
        keys.check(key)
        while True:
            mark = self._marks.watch(key)[1]
            last = self._seen.get(key)
            if last is not None and (last.mark != mark or time.monotonic() - last.asked >= self._stale_for):
                last = None
            if last is not None and time.monotonic() < last.failing:
                return last
            task, since = self._ask(key)
            patience = max(0.0, since + self._revalidate - time.monotonic()) if last is not None else None
            await asyncio.wait({task}, timeout=patience)
            if not task.done() or (last is not None and _is_unavailable(task)):
                assert last is not None
                self._warn(key, last)
                return last
            if task.cancelled():
                raise Unavailable("the server is stopping", at=key)
            task.result()
            seen = self._seen.get(key)
            # Somebody may have written meanwhile, which the answer need not know of.
            if seen is not None and seen.mark == mark and seen is not last:
                return seen

    def _warn(self, key: str, last: _Seen) -> None:
        now = time.monotonic()
        if now - self._warned >= _WARNED_EVERY:
            self._warned = now
            log.warning("the store does not answer; what it said %.0f s ago stands, of %s", now - last.asked, key)


def _is_unavailable(task: "asyncio.Task[None]") -> bool:
    return not task.cancelled() and isinstance(task.exception(), Unavailable)


def _retrieved(task: "asyncio.Task[None]") -> None:
    """Background questions have nobody to tell of their failure; those who wait look for themselves."""
    if not task.cancelled() and (error := task.exception()) is not None and not isinstance(error, EntrepotError):
        log.error("asking a store failed", exc_info=error)


def _told(seen: _Seen, key: str) -> Entry:
    if seen.entry is None:
        raise NotFound("no such object", at=key)
    return seen.entry
