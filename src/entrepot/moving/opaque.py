"""Whatever lies in a store without being a package: archives, and what a later version put there.

JSON documents may name other objects: they are read before these are copied, and written after them.
"""

import asyncio
import tempfile
from collections.abc import AsyncIterator, Callable
from contextlib import closing
from functools import partial

from entrepot.errors import Conflict, EntrepotError
from entrepot.index import Entry
from entrepot.moving import merging
from entrepot.moving.objects import Carrier, Merge
from entrepot.moving.parallel import each
from entrepot.stores.documents import read_bytes

_ATTEMPTS = 3  # where another copy comes first
_DOCUMENT = 16 << 20  # bytes; larger ones are copied as bytes

Listing = Callable[[], AsyncIterator[Entry]]


async def bring(carrier: Carrier, listing: Listing, places: asyncio.Semaphore) -> None:
    """Copy what is listed. Costs two listings; memory does not grow with the documents, which wait on the disk."""
    for attempt in range(_ATTEMPTS):
        overtaken = _Overtaken(last=attempt == _ATTEMPTS - 1)
        before = len(carrier.tally.troubles)
        with closing(_Spool()) as spool:
            await each(_only(listing(), documents=True), partial(_read, carrier, spool), places)
            await each(_only(listing(), documents=False), carrier.alone, places)
            missing = [trouble.at for trouble in carrier.tally.troubles[before:]]
            await each(spool.documents(), partial(_swap, carrier, overtaken, missing), places)
        if not overtaken.happened:
            return


class _Overtaken:
    """Whether another copy of later documents came first, so that what they name is to be looked at again."""

    def __init__(self, *, last: bool) -> None:
        self.last = last
        self.happened = False


class _Spool:
    """Documents in the order in which they were put, on the disk of this machine."""

    def __init__(self) -> None:
        self._file = tempfile.TemporaryFile(prefix="entrepot-")  # noqa: SIM115 - closed by `close`
        self._places: list[tuple[str, int, int]] = []

    def put(self, key: str, data: bytes) -> None:
        self._places.append((key, self._file.seek(0, 2), len(data)))
        self._file.write(data)

    async def documents(self) -> AsyncIterator[tuple[str, bytes]]:
        for key, start, size in self._places:
            self._file.seek(start)
            yield key, self._file.read(size)

    def close(self) -> None:
        self._file.close()


async def _only(entries: AsyncIterator[Entry], *, documents: bool) -> AsyncIterator[Entry]:
    async for entry in entries:
        if (entry.key.endswith(".json") and entry.size <= _DOCUMENT) is documents:
            yield entry


async def _read(carrier: Carrier, spool: _Spool, entry: Entry) -> None:
    try:
        spool.put(entry.key, await read_bytes(carrier.source, entry.key))
    except EntrepotError as error:
        carrier.note(error, entry.key)


async def _swap(carrier: Carrier, overtaken: _Overtaken, missing: list[str], document: tuple[str, bytes]) -> None:
    key, ours = document
    merge = _merge(key)
    folder = key[: key.rfind("/") + 1]
    lacking = next((at for at in missing if folder and at.startswith(folder)), None)
    if lacking is not None:
        carrier.note(Conflict(f"not written, since {lacking} could not be copied, which it may name"), key)
        return
    try:
        await carrier.swap(key, lambda there: merge(there, ours, key=key))
    except Conflict as error:
        if overtaken.last or await read_bytes(carrier.source, key) == ours:
            carrier.note(error, key)
        else:
            overtaken.happened = True
    except EntrepotError as error:
        carrier.note(error, key)


def _merge(key: str) -> Merge:
    """By the name of the document."""
    parts = key.split("/")
    if len(parts) == 4 and (parts[1], parts[3]) == ("archives", "archive.json"):
        return merging.archive
    if len(parts) == 2 and parts[1] == "tycho.json":
        return merging.tycho
    return merging.grown
